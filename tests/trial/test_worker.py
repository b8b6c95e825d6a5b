"""A worker without any tuner: what it does where memory or the disk does not suffice, and how Tune sees it."""

import dataclasses
import gc
import json
import weakref

import pytest
import torch
from ray.tune.utils import flatten_dict

from tests.disk import files_of_at_most
from trainable import checkpoint, loop, step
from trainable.arguments import default_config
from trainable.images.trial import trial_images
from trainable.tune import RayTrial
from trainable.worker import TRACE, Worker

CONFIG = default_config("digits", 3, epochs=3, num_threads=1)


def trial_in(folder, pool, config=CONFIG):
    folder.mkdir(exist_ok=True)
    worker = Worker(pool)
    worker.begin(7, folder, config)
    return worker


def short_of_memory(monkeypatch, most_images):
    """As on a GPU on which only so many images at a time can be trained on."""
    train_on = step.Step._train_on

    def limited(self, positions, rows, labels, weight):
        if len(positions) > most_images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        train_on(self, positions, rows, labels, weight)

    monkeypatch.setattr(step.Step, "_train_on", limited)


def without_seconds(row):
    return {name: value for name, value in row.items() if not name.endswith("_seconds")}


@pytest.mark.parametrize(("most_images", "num_parts"), [(128, 1), (64, 2), (20, 8)])
def test_out_of_memory_the_batch_is_halved_until_it_fits_and_the_row_says_so(
    digits_pool, tmp_path, monkeypatch, most_images, num_parts
):
    short_of_memory(monkeypatch, most_images)
    row = trial_in(tmp_path, digits_pool).step().row
    assert row["num_micro_batches"] == num_parts
    # as a trial that was told so from the start
    config = dataclasses.replace(CONFIG, num_micro_batches=num_parts)
    images = trial_images(digits_pool, 3, 3, torch.device("cpu"))
    assert without_seconds(row) == without_seconds(next(loop.run(loop.new_state(config, images), images)))


def test_what_a_trial_held_is_free_when_the_next_one_begins(digits_pool, tmp_path):
    """At once: what Python's collector would find some time later is a GPU's memory, and the next trial needs it."""
    config = dataclasses.replace(CONFIG, average_decay=0.9, mixing="mixup", schedule="cosine", resample_from=0.5)
    worker = trial_in(tmp_path / "first", digits_pool, config)
    gc.collect()
    gc.disable()
    try:
        worker.step()
        state = worker._state
        held = [weakref.ref(each) for learner in state.learners
                for each in (learner, learner.model, learner.step, learner.optimizer, learner.average)]  # fmt: skip
        del state
        worker.begin(8, tmp_path / "second", config)
        assert [each() for each in held] == [None] * 5
    finally:
        gc.enable()


def test_out_of_memory_in_a_later_epoch_goes_on_from_the_checkpoint(digits_pool, tmp_path, monkeypatch):
    first = trial_in(tmp_path, digits_pool).step().row
    short_of_memory(monkeypatch, 64)
    trial = trial_in(tmp_path, digits_pool)
    assert trial.step().row == first
    second = trial.step().row
    assert (first["num_micro_batches"], second["num_micro_batches"], second["epoch"]) == (1, 2, 2)
    assert checkpoint.read(tmp_path / "last.pt")["rows"] == [first, second]
    # a worker that comes after this one is told by the checkpoint, whatever the driver knows and memory there is
    monkeypatch.undo()
    after = trial_in(tmp_path, digits_pool)
    assert after.step().row == second
    assert after.step().row["num_micro_batches"] == 2


def test_where_two_images_are_too_many_the_trial_fails_with_the_reason(digits_pool, tmp_path, monkeypatch):
    short_of_memory(monkeypatch, 1)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        trial_in(tmp_path, digits_pool).step()
    assert not (tmp_path / "last.pt").exists()


def test_a_checkpoint_that_cannot_be_written_is_told_and_the_old_one_stays(digits_pool, tmp_path):
    trial = trial_in(tmp_path, digits_pool)
    trial.step()
    before = (tmp_path / "last.pt").read_bytes()
    with files_of_at_most(5000):
        result = trial.step()
    assert result.unwritable == f"{tmp_path / 'last.pt'}: cannot be written (File too large)"
    assert result.is_last
    assert result.row is None
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_last_pt_that_is_older_than_the_machine_field_is_gone_on_with(digits_pool, tmp_path):
    trial = trial_in(tmp_path, digits_pool)
    first = trial.step().row
    content = checkpoint.read(tmp_path / "last.pt")
    del content["config"]["num_micro_batches"]
    torch.save(content, tmp_path / "last.pt")
    again = trial_in(tmp_path, digits_pool)
    assert again.step().row == first
    assert without_seconds(again.step().row) == without_seconds(trial.step().row)


def test_the_trace_has_a_line_as_each_epoch_starts_and_none_for_what_is_announced_again(
    digits_pool, tmp_path, monkeypatch
):
    monkeypatch.setenv(TRACE, str(tmp_path / "trace"))
    trial = trial_in(tmp_path, digits_pool)
    trial.step()
    trial.step()
    again = trial_in(tmp_path, digits_pool)
    assert json.dumps(again.step().row) == json.dumps(trial._state.rows[-1])
    again.step()
    assert (tmp_path / "trace").read_text() == "7 1\n7 2\n7 3\n"


def test_a_report_is_the_same_after_its_way_through_tune(digits_pool, tmp_path):
    tuned = RayTrial.__new__(RayTrial)
    tuned.setup({"number": 7, "folder": str(tmp_path), "trial": CONFIG}, digits_pool)
    result = tuned.step()
    assert (result["training_iteration"], result["done"]) == (1, False)
    report = flatten_dict(result)["report"]
    assert (report.num_epochs, report.row, report.is_last) == (1, tuned._worker._state.rows[0], False)
