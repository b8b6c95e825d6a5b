"""Every file that holds tensors or arrays, damaged in every way: a sentence, or the same bits as before."""

import io
import json
import shutil
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from study.confirmation import winner
from tests import studies
from tests.disk import damages
from trainable import checkpoint, loop, sealed
from trainable.arguments import default_config
from trainable.checkpoint import CheckpointError
from trainable.cli import UsageError
from trainable.images.trial import trial_images

CONFIG = default_config("digits", 3, epochs=1, num_threads=1)


def read_weights(path):
    content = studies.model(CONFIG, [str(digit) for digit in range(10)], 16)
    path.with_name("model.json").write_text(json.dumps(content))
    return winner.read(path.parent.parent).classifier.state_dict()


def read_arrays(path):
    with np.load(io.BytesIO(sealed.read(path))) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored}


READ = {
    "last.pt": checkpoint.read,
    "best.pt": lambda path: checkpoint.best_model(path, CONFIG, 10, 16, torch.device("cpu")).state_dict(),
    "winner/weights.pt": read_weights,
    "validation.npz": read_arrays,
}


@pytest.fixture(scope="module")
def images(digits_pool):
    return trial_images(digits_pool, 3, 3, torch.device("cpu"))


@pytest.fixture(scope="module")
def trial(images, tmp_path_factory):
    """The folder of a trial of one epoch, with a winner in it."""
    folder = tmp_path_factory.mktemp("trial")
    state = loop.new_state(CONFIG, images)
    list(loop.run(state, images))
    checkpoint.save(state, images, folder / "last.pt")
    checkpoint.finish(folder)
    (folder / "winner").mkdir()
    shutil.copy(folder / "best.pt", folder / "winner" / "weights.pt")
    return folder


def without_checksum(content):
    """A file as the version before wrote it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert len(archive.comment) > 8
        return content[: -len(archive.comment) - 2] + b"\0\0"


def everything_in(content):
    """What was read as bytes, to be compared."""
    if isinstance(content, dict):
        return {name: everything_in(value) for name, value in content.items()}
    if isinstance(content, list):
        return [everything_in(value) for value in content]
    return content.numpy().tobytes() if isinstance(content, torch.Tensor) else content


@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_of_tensors_is_refused_or_gives_the_same_bits(trial, name):
    path = trial / name
    content, expected = path.read_bytes(), everything_in(READ[name](path))
    refused = 0

    @settings(max_examples=200)
    @given(damages(len(content)))
    def check(damage):
        nonlocal refused
        path.write_bytes(damage(content))
        try:
            found = READ[name](path)
        except (CheckpointError, UsageError, ValueError):
            refused += 1
        else:
            assert everything_in(found) == expected

    try:
        check()
        assert refused > 100
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", READ)
def test_a_file_without_a_checksum_is_read_as_before_but_not_one_that_has_lost_a_part_of_it(trial, tmp_path, name):
    shutil.copytree(trial, tmp_path / "copy")
    path = tmp_path / "copy" / name
    content, expected = path.read_bytes(), everything_in(READ[name](path))
    path.write_bytes(without_checksum(content))
    assert everything_in(READ[name](path)) == expected
    length = len(content) - len(without_checksum(content))
    for damaged in (
        content[:-length],  # the comment is gone
        content[:-1],
        content[: -length - 2] + b"\0\0" + content[-length:],  # said to be none
        content[:-8] + b"0" * 8,
    ):
        path.write_bytes(damaged)
        with pytest.raises((CheckpointError, UsageError, ValueError), match=r"does not end as|checksum is wrong"):
            READ[name](path)


@pytest.mark.parametrize("name", READ)
def test_others_open_the_file_as_it_is(trial, name):
    with zipfile.ZipFile(trial / name) as archive:
        assert archive.comment.startswith(b"crc32")
    if name.endswith(".pt"):
        assert torch.load(trial / name, weights_only=True)["format"] in (1, 2)
    else:
        with np.load(trial / name) as stored:
            assert set(stored) == {"labels", "logits", "predictions", "predictions_adjusted"}


@pytest.mark.parametrize(("num_images", "num_said"), [(5000, 1000), (9000, 8000), (12345, 12344), (9999, 9998)])
def test_an_old_archives_own_checksums_are_looked_at_whatever_its_header_says(tmp_path, num_images, num_said):
    path = tmp_path / "validation.npz"
    np.savez(path, labels=np.arange(num_images))
    assert read_arrays(path)["labels"].tolist() == list(range(num_images))
    content, shape = path.read_bytes(), b"(%d,)" % num_images
    assert content.count(shape) == 1
    path.write_bytes(content.replace(shape, b"(%d,)" % num_said))
    if num_images - num_said > 500:  # numpy reads what the header says, and comes to the checksum only at the end
        assert len(np.load(path)["labels"]) == num_said
    with pytest.raises(ValueError, match="CRC"):
        sealed.read(path)


def compressed(path):
    np.savez_compressed(path, labels=np.zeros(10**7))


def compressed_checkpoint(path):
    torch.serialization.set_crc32_options(True)  # zipfile looks at them
    torch.save({"format": 1, "model": torch.zeros(10**6)}, path)
    with zipfile.ZipFile(path) as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in members.items():
            archive.writestr(name, part)
    assert path.stat().st_size < 10**5
    assert len(torch.load(path, weights_only=True)["model"]) == 10**6  # torch unpacks it


def overlapping(path):
    """Members that share their bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", bytes(10**5))
        archive.filelist += [archive.filelist[0]] * 100
        archive._didModify = True


@pytest.mark.parametrize(
    ("bomb", "said"),
    [(compressed, "compressed"), (compressed_checkpoint, "compressed"), (overlapping, "more than its own size")],
)
@pytest.mark.parametrize("with_checksum", [False, True])
def test_what_unpacks_to_more_than_its_size_is_refused_before_it_is_unpacked(tmp_path, bomb, said, with_checksum):
    path = tmp_path / "bomb.npz"
    bomb(path)
    if with_checksum:
        sealed.write(path, io.BytesIO(path.read_bytes()))
    with pytest.raises(ValueError, match=said):
        sealed.read(path)
    path.rename(tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=f"best.pt: damaged, cannot be read .*{said}"):
        READ["best.pt"](tmp_path / "best.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["features.0.weight", "features.1.running_var", "classifier.9.bias"])
def test_weights_that_are_no_finite_numbers_are_refused(trial, images, tmp_path, name, value):
    shutil.copytree(trial, tmp_path / "copy")
    for file in ("best.pt", "winner/weights.pt", "last.pt"):
        path, use = tmp_path / "copy" / file, READ[file]
        if file == "last.pt":
            use = lambda path: checkpoint.restore(checkpoint.read(path), CONFIG, images, path)  # noqa: E731
        content = torch.load(path, weights_only=True)
        content["model"][name].fill_(value)
        torch.save(content, path)
        with pytest.raises((CheckpointError, UsageError), match=rf"{file}: damaged, the network's {name} holds"):
            use(path)


def test_an_archive_with_a_comment_of_somebody_elses_is_neither_an_old_file_nor_a_new_one(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, labels=np.arange(3))
    content = path.read_bytes()
    path.write_bytes(content[:-2] + struct.pack("<H", 5) + b"hello")
    with pytest.raises(ValueError, match="does not end as such a file does"):
        sealed.read(path)
