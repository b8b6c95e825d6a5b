import copy
import dataclasses
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainable import checkpoint, loop
from trainable.arguments import default_config
from trainable.augment import normalise
from trainable.imbalance import epoch_order
from trainable.streams import derive

CPU = torch.device("cpu")


def config(**fields):
    return dataclasses.replace(default_config("digits", 3, epochs=4, num_threads=1), **fields)


@pytest.fixture(scope="module")
def images(digits_pool):
    return loop.trial_images(digits_pool, 3, 3, CPU)


class Linear64(torch.nn.Module):
    """Float64, no batch norm, no dropout."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3 * 16 * 16, 10, dtype=torch.float64)

    def forward(self, batch):
        return self.linear(batch.double().flatten(1))


def trained_once(images, batch_size, accumulation_steps):
    """Weights after an epoch of plain gradient descent, unclipped."""
    torch.manual_seed(0)
    model = Linear64()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    asked = config(batch_size=batch_size, accumulation_steps=accumulation_steps, clip_norm=1e9, rotation_degrees=0)
    loop.train_epoch(loop.TrialState(asked, model, optimizer, [], {}), images, 1)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained_by_hand(images, union_size):
    """The same epoch, written out: a step on the mean loss of each union of batches."""
    torch.manual_seed(0)
    model = Linear64()
    asked = config(rotation_degrees=0)
    generator = torch.Generator().manual_seed(derive("order", asked.seed, 1))
    order = images.train[epoch_order(images.labels[images.train], asked, generator)]
    for union in order.split(union_size):
        batch = normalise(images.pixels[union, :-1], 16, images.mean, images.std)
        loss = torch.nn.functional.cross_entropy(model(batch), images.labels[union])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(("batch_size", "steps"), [(100, 3), (50, 4), (64, 8)])
def test_accumulated_batches_give_the_step_of_their_union_last_partial_group_included(images, batch_size, steps):
    # 816 images: the last group is smaller, and so is its last batch
    union, accumulated = trained_by_hand(images, batch_size * steps), trained_once(images, batch_size, steps)
    assert torch.allclose(union, accumulated, rtol=0, atol=1e-6)
    assert not torch.allclose(union, trained_once(images, batch_size, 1), rtol=0, atol=1e-4)


@given(st.integers(1, 500), st.integers(2, 64))
def test_batches_cover_all_in_order_and_none_is_a_single_image(num_images, batch_size):
    slices = loop.batch_slices(num_images, batch_size)
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(num_images))
    sizes = [s.stop - s.start for s in slices]
    assert num_images == 1 or min(sizes) > 1
    assert max(sizes) <= batch_size + 1


def rows(losses, scores):
    history = []
    for epoch, loss in enumerate(losses, 1):
        best = max(scores[:epoch])
        history.append({"epoch": epoch, "val_loss": loss, "best_epoch": scores.index(best) + 1})
    return history


@pytest.mark.parametrize(
    ("losses", "scores", "reason"),
    [
        ([1.0, 1.0, 1.0], [0.5, 0.5, 0.5], "patience"),
        ([1.0, 0.9, 0.8], [0.5, 0.5, 0.5], None),  # loss falls
        ([1.0, 1.1, 1.2], [0.5, 0.6, 0.7], None),  # F1 rises
        ([1.0, 0.9995, 0.999], [0.5, 0.5, 0.5], "patience"),  # falls by less than min_delta
        ([1.0, 0.9, 0.8, 0.7], [0.5] * 4, "epochs"),
    ],
)
def test_stops_when_neither_loss_nor_f1_improves(losses, scores, reason):
    assert loop.stop_reason(config(patience=2), rows(losses, scores)) == reason


def test_four_epochs_equal_two_a_fresh_process_and_two_more(images, digits_pool, tmp_path):
    whole = loop.new_state(config(), images)
    list(loop.run(whole, images))
    half = loop.new_state(config(), images)
    epochs = loop.run(half, images)
    next(epochs), next(epochs)
    checkpoint.save(half, images, tmp_path / "last.pt")
    code = """
import sys, torch
from pathlib import Path
from trainable import checkpoint, data, loop
from trainable.config import TrialConfig
from trainable.data import DataSpec
path = Path(sys.argv[1])
pool = data.load(DataSpec("digits", "", "", image_size=16))
images = loop.trial_images(pool, 3, 3, torch.device("cpu"))
content = checkpoint.read(path)
state = checkpoint.restore(content, TrialConfig.from_dict(content["config"]), images, path)
list(loop.run(state, images))
checkpoint.save(state, images, path)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "last.pt")], check=True)
    resumed = checkpoint.read(tmp_path / "last.pt")
    checkpoint.save(whole, images, tmp_path / "whole.pt")
    expected = checkpoint.read(tmp_path / "whole.pt")
    assert_same(expected, resumed, "checkpoint")


def assert_same(expected, found, where):
    if isinstance(expected, torch.Tensor):
        assert torch.equal(expected, found), where
    elif isinstance(expected, dict):
        assert expected.keys() == found.keys(), where
        for key in expected:
            if not str(key).endswith("_seconds"):
                assert_same(expected[key], found[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(expected) == len(found), where
        for index, pair in enumerate(zip(expected, found, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert expected == found, where


def test_another_seed_trains_otherwise(images):
    losses = set()
    for seed in (1, 2):
        state = loop.new_state(config(seed=seed, epochs=1), images)
        losses.add(next(loop.run(state, images))["train_loss"])
    assert len(losses) == 2


def test_a_loss_that_is_no_number_ends_the_trial(images):
    state = loop.new_state(config(), images)
    with torch.no_grad():
        state.model.classifier[-1].bias[0] = float("nan")
    with pytest.raises(loop.DivergedError, match="train_loss is nan in epoch 1"):
        next(loop.run(state, images))


def test_damaged_and_foreign_checkpoints_are_refused_by_name(images, tmp_path):
    state = loop.new_state(config(epochs=1), images)
    list(loop.run(state, images))
    path = tmp_path / "last.pt"
    checkpoint.save(state, images, path)
    content = checkpoint.read(path)
    with pytest.raises(checkpoint.CheckpointError, match=r"made with dropout=0\.3, not 0\.5"):
        checkpoint.restore(content, dataclasses.replace(state.config, dropout=0.5), images, path)
    foreign = copy.deepcopy(content)
    foreign["model"]["classifier.9.weight"] = torch.zeros(11, 256)
    with pytest.raises(checkpoint.CheckpointError, match=r"classifier\.9\.weight is \(10, 256\).*\(11, 256\)"):
        checkpoint.restore(foreign, state.config, images, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(checkpoint.CheckpointError, match=r"last\.pt: damaged"):
        checkpoint.read(path)


def test_finish_cuts_the_best_epoch_out(images, tmp_path):
    import numpy as np

    from trainable.metrics import confusion_matrix, minority_f1

    state = loop.new_state(config(epochs=3, sampler="weighted"), images)
    list(loop.run(state, images))
    checkpoint.save(state, images, tmp_path / "last.pt")
    checkpoint.finish(tmp_path)
    saved = np.load(tmp_path / "validation.npz")
    confusion = confusion_matrix(saved["labels"], saved["logits"].argmax(1), 10)
    assert minority_f1(confusion, (0, 1, 2)) == pytest.approx(state.rows[-1]["best_minority_f1"], abs=0.02)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["row"]["minority_f1"] == state.rows[-1]["best_minority_f1"]
