"""A set whose only signal is which thing a photograph shows: what a random split makes of it, and one by groups."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from study.record import validation
from trainable import checkpoint, loop
from trainable.config import TrialConfig
from trainable.images import loading
from trainable.images.pool import DataSpec
from trainable.images.splits import split
from trainable.images.trial import trial_images

GROUP = r"thing\d+"
CONFIG = TrialConfig(
    epochs=15, batch_size=32, accumulation_steps=1, dropout=0.0, flip=False, rotation_degrees=0.0, sampler="weighted"
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """90 things, a third of them of the rare class whatever they look like, each photographed six times."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(90):
        part = folder / "train" / ("rare" if number % 3 == 0 else "usual")
        part.mkdir(parents=True, exist_ok=True)
        thing = np.kron(rng.integers(40, 216, (8, 8, 3)), np.ones((2, 2, 1)))
        for view in range(6):
            pixels = thing + rng.normal(0, 4, thing.shape)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(part / f"thing{number:03d}_{view}.png")
    return folder


def load(folder, group):
    said = []
    spec = DataSpec(str(folder), "", str(folder.parent / "cache"), image_size=16, minority=("rare",), group=group)
    return loading.load(spec, said.append), said


def trained(pool, path):
    """The rows of a trial, whose files are left at ``path``."""
    images = trial_images(pool, 0, 0, torch.device("cpu"))
    state = loop.new_state(CONFIG, images)
    rows = list(loop.run(state, images))
    path.mkdir()
    checkpoint.save(state, images, path / "last.pt")
    checkpoint.finish(path)
    return rows


def test_it_scores_near_one_with_a_warning_and_by_chance_with_groups(photographs, tmp_path):
    pool, said = load(photographs, None)
    (warning,) = [line for line in said if "--group" in line]
    assert "540 of 540 images have a near copy (train/rare/thing000_" in warning
    assert "90 file-name stems come 6 times (train/rare/thing000_0.png, " in warning
    assert re.search(r": if these show the same thing, use --group '[^']+'$", warning)
    assert pool.leaks == warning
    assert trained(pool, tmp_path / "random")[-1]["best_minority_f1"] > 0.95
    names = validation.read(tmp_path / "random/validation.npz", [validation.LABELS, validation.GROUPS], 2, 540)
    assert len(set(names[1].tolist())) == len(names[0])

    pool, said = load(photographs, GROUP)
    assert said == [r"--group thing\d+: 540 images are of 90 groups of 6 images"]
    assert pool.leaks == ""
    last = trained(pool, tmp_path / "grouped")[-1]
    # a third is rare: whoever guesses has an F1 of 0.3 to 0.5, by how often
    assert last["minority_f1"] < 0.6
    labels, groups = validation.read(
        tmp_path / "grouped/validation.npz", [validation.LABELS, validation.GROUPS], 2, 540
    )
    val = split(pool, 0, 0).val
    assert np.array_equal(labels, pool.labels[val])
    pairs = set(zip(groups.tolist(), pool.groups[val].tolist(), strict=True))
    assert len(pairs) == len(set(groups.tolist())) == len(val) // 6
