import copy
import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.disk import files_of_at_most
from trainable import checkpoint, loop
from trainable.arguments import default_config
from trainable.checkpoint import CheckpointError
from trainable.config import PRECISIONS, TrialConfig
from trainable.evaluation import evaluate
from trainable.images.trial import trial_images
from trainable.metrics import confusion_matrix, f1_per_class, minority_f1

CONFIG = dataclasses.replace(
    default_config("digits", 3, epochs=4, num_threads=1), sampler="weighted", sampler_power=0.9
)


@pytest.fixture(scope="module")
def images(digits_pool):
    return trial_images(digits_pool, 3, 3, torch.device("cpu"))


@pytest.fixture(scope="module")
def trial(images):
    """A trial of four epochs, uninterrupted."""
    state = loop.new_state(CONFIG, images)
    list(loop.run(state, images))
    return state


@pytest.fixture
def last(trial, images, tmp_path):
    """Its last.pt."""
    checkpoint.save(trial, images, tmp_path / "last.pt")
    return tmp_path / "last.pt"


@pytest.fixture(scope="module")
def spoiled(images):
    """A trial whose last epoch is a bad one."""
    state = loop.new_state(CONFIG, images)
    for row in loop.run(state, images):
        if row["epoch"] == 3:
            state.learner.optimizer.param_groups[0]["lr"] = 10.0
    assert row["best_epoch"] < 4
    return state


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


GO_ON = """
import sys, torch
from pathlib import Path
from trainable import checkpoint, loop
from trainable.images import loading
from trainable.images.pool import DataSpec
from trainable.images.trial import trial_images
from trainable.config import TrialConfig
pool = loading.load(DataSpec("digits", "", "", image_size=16))
images = trial_images(pool, 3, 3, torch.device("cpu"))
for path in map(Path, sys.argv[1:]):
    content = checkpoint.read(path)
    state = checkpoint.restore(content, TrialConfig.from_dict(content["config"]), images, path)
    list(loop.run(state, images))
    checkpoint.save(state, images, path)
"""


def test_in_either_precision_four_epochs_equal_two_a_fresh_process_and_two_more(images, tmp_path):
    halves, wholes = ({p: tmp_path / f"{name}-{p}.pt" for p in PRECISIONS} for name in ("half", "whole"))
    for precision in PRECISIONS:
        state = loop.new_state(dataclasses.replace(CONFIG, precision=precision), images)
        epochs = loop.run(state, images)
        next(epochs), next(epochs)
        checkpoint.save(state, images, halves[precision])
        list(epochs)
        checkpoint.save(state, images, wholes[precision])
        assert len(checkpoint.read(halves[precision])["rows"]) == 2
    subprocess.run([sys.executable, "-c", GO_ON, *map(str, halves.values())], check=True)
    for precision in PRECISIONS:
        expected = checkpoint.read(wholes[precision])
        assert len(expected["rows"]) == 4
        assert expected["optimizer"]["state"]
        assert_same(expected, checkpoint.read(halves[precision]), precision)


def test_what_is_restored_is_what_was_saved(trial, last, images):
    restored = checkpoint.restore(checkpoint.read(last), CONFIG, images, last)
    assert restored.rows == trial.rows
    assert_same(trial.learner.model.state_dict(), restored.learner.model.state_dict(), "model")
    assert_same(trial.learner.optimizer.state_dict(), restored.learner.optimizer.state_dict(), "optimizer")
    assert_same(trial.best, restored.best, "best")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:1000],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: b"this is text\n",
    ],
)
def test_a_damaged_checkpoint_is_named(last, damage):
    last.write_bytes(damage(last.read_bytes()))
    with pytest.raises(CheckpointError) as refusal:
        checkpoint.read(last)
    assert str(refusal.value).startswith(f"{last}: damaged, cannot be read (")
    assert "\n" not in str(refusal.value)


def test_another_format_is_refused(last):
    for content in ({**checkpoint.read(last), "format": 1}, {"model": {}}, [1, 2, 3]):
        torch.save(content, last)
        with pytest.raises(CheckpointError, match=r"last\.pt: not a checkpoint of format 2"):
            checkpoint.read(last)


class Intruder:
    """Pickled, it makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_no_code_in_a_checkpoint_is_run(last, tmp_path):
    torch.save({"format": 2, "model": Intruder(tmp_path / "was-here")}, last)
    with pytest.raises(CheckpointError, match=r"last\.pt: damaged"):
        checkpoint.read(last)
    assert not (tmp_path / "was-here").exists()
    torch.load(last, weights_only=False)  # the intruder is real
    assert (tmp_path / "was-here").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("dropout", 0.5), ("sampler", "shuffle"), ("seed", 4), ("num_threads", 2), ("epochs", 3)]
)
def test_a_checkpoint_of_another_config_is_refused_naming_the_field(last, images, name, value):
    other = dataclasses.replace(CONFIG, **{name: value})
    with pytest.raises(CheckpointError) as refusal:
        checkpoint.restore(checkpoint.read(last), other, images, last)
    assert str(refusal.value) == f"{last}: made with {name}={getattr(CONFIG, name)!r}, not {value!r}"


def test_a_checkpoint_of_another_network_is_refused_naming_the_tensor_and_both_shapes(last, images):
    content = checkpoint.read(last)
    eleven = dataclasses.replace(images, num_classes=11)
    with pytest.raises(CheckpointError, match=r"last\.pt: .*classifier\.9\.weight is \(11, 256\).*\(10, 256\)"):
        checkpoint.restore(content, CONFIG, eleven, last)
    without = copy.deepcopy(content)
    del without["model"]["features.1.running_var"]
    with pytest.raises(CheckpointError, match=r"features\.1\.running_var is \(32,\), but the file has nothing"):
        checkpoint.restore(without, CONFIG, images, last)


def test_a_save_that_fails_midway_leaves_the_checkpoint_before(last, images, trial):
    before = last.read_bytes()
    with files_of_at_most(5000), pytest.raises(OSError, match="File too large"):
        checkpoint.save(trial, images, last)
    assert last.read_bytes() == before
    assert [path.name for path in last.parent.iterdir()] == ["last.pt"]
    checkpoint.save(trial, images, last)
    assert checkpoint.read(last)["rows"] == trial.rows


@pytest.mark.parametrize("links", [["last.pt"], ["best.pt", "validation.npz"]])
def test_a_link_at_the_place_of_a_file_is_replaced_and_leads_nowhere(last, trial, images, tmp_path, links):
    checkpoint.finish(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    for name in links:
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(elsewhere)
    checkpoint.save(trial, images, last)
    checkpoint.finish(tmp_path)
    assert not elsewhere.exists()
    assert all((tmp_path / name).is_file() and not (tmp_path / name).is_symlink() for name in links)


@pytest.mark.parametrize(
    "younger", [["min_delta"], ["flip", "batch_size", "sampler_power"], ["num_micro_batches"], ["precision"]]
)
def test_a_checkpoint_that_is_older_than_a_field_goes_on_to_the_same_bits(last, images, tmp_path, younger):
    """Its recipe has the fields' defaults, since there was no other when it was written."""
    config = dataclasses.replace(CONFIG, **{name: getattr(TrialConfig(), name) for name in younger})
    state = loop.new_state(config, images)
    epochs = loop.run(state, images)
    next(epochs), next(epochs)
    half, last = tmp_path / "half.pt", tmp_path / "last.pt"
    checkpoint.save(state, images, half)
    list(epochs)
    checkpoint.save(state, images, last)
    content = checkpoint.read(half)
    for name in younger:
        del content["config"][name]
    torch.save(content, half)  # as the version before wrote it
    again = checkpoint.restore(checkpoint.read(half), config, images, half)
    assert len(again.rows) == 2
    list(loop.run(again, images))
    checkpoint.save(again, images, half)
    assert_same(checkpoint.read(last), checkpoint.read(half), "checkpoint")
    # and where the trial has another value than the default, that is no longer its recipe
    name = younger[0]
    other = dataclasses.replace(
        config, **{name: {"flip": False, "min_delta": 0.5, "num_micro_batches": 2, "precision": "bfloat16"}[name]}
    )
    if name == "num_micro_batches":  # the machine's business
        checkpoint.restore(content, other, images, half)
    else:
        with pytest.raises(CheckpointError, match=f"made with {name}={getattr(config, name)!r}, not "):
            checkpoint.restore(content, other, images, half)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda config: {**config, "momentum": 0.9}, r"config cannot be used \(momentum: no such field"),
        (lambda config: {**config, "dropout": 7}, r"config cannot be used \(dropout must be in \[0, 1\), not 7"),
        (lambda config: {**config, "epochs": "four"}, r"config cannot be used \(epochs must be a whole number"),
        (lambda config: None, "config cannot be used .a trial's config must be a table of fields, not None"),
        (lambda config: ["dropout"], "config cannot be used .a trial's config must be a table of fields"),
        (lambda config: {}, "made with "),
    ],
)
def test_a_checkpoint_whose_config_is_none_is_refused_in_a_sentence(last, images, damage, said):
    content = checkpoint.read(last)
    content["config"] = damage(content["config"])
    with pytest.raises(CheckpointError, match=rf"last\.pt: (its )?{said}"):
        checkpoint.restore(content, CONFIG, images, last)


def test_finish_cuts_the_best_epoch_out(spoiled, images, tmp_path):
    last = tmp_path / "last.pt"
    checkpoint.save(spoiled, images, last)
    checkpoint.finish(tmp_path)
    best_epoch = spoiled.rows[-1]["best_epoch"]
    best = torch.load(last.with_name("best.pt"), weights_only=True)
    assert best["format"] == 1
    assert best["config"] == CONFIG.to_dict()
    assert best["row"] == spoiled.rows[best_epoch - 1]
    model = loop.new_state(CONFIG, images).learner.model
    model.load_state_dict(best["model"])
    logits = evaluate(model, images, images.val).numpy()
    with np.load(last.with_name("validation.npz")) as stored:
        labels, stored_logits = stored["labels"], stored["logits"]
        predictions, adjusted = stored["predictions"], stored["predictions_adjusted"]
    assert stored_logits.dtype == np.float16
    assert np.array_equal(stored_logits, logits.astype(np.float16))
    assert np.array_equal(labels, images.labels[images.val].numpy())
    confusion = confusion_matrix(labels, stored_logits.argmax(1), 10)
    assert f1_per_class(confusion).tolist() == best["row"]["f1"]
    # and every epoch's predictions, as its row scored them
    assert predictions.dtype == adjusted.dtype == np.uint8
    for row, raw, after in zip(spoiled.rows, predictions, adjusted, strict=True):
        assert minority_f1(confusion_matrix(labels, raw, 10), images.minority) == row["minority_f1"]
        assert minority_f1(confusion_matrix(labels, after, 10), images.minority) == row["minority_f1_adjusted"]
    assert minority_f1(confusion, images.minority) == spoiled.rows[-1]["best_minority_f1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt", "validation.npz"]


def test_finish_happens_once_and_needs_a_checkpoint(last, tmp_path):
    checkpoint.finish(last.parent)
    cut = {name: last.with_name(name).read_bytes() for name in ("best.pt", "validation.npz")}
    last.write_text("from here on nobody reads this")
    checkpoint.finish(last.parent)
    assert cut == {name: last.with_name(name).read_bytes() for name in cut}
    # a crash between the two files: they are made again
    last.with_name("best.pt").unlink()
    with pytest.raises(CheckpointError):
        checkpoint.finish(last.parent)
    (tmp_path / "empty").mkdir()
    checkpoint.finish(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []
