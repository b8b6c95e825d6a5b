"""Real studies in which things go wrong: a loss that is no number, an exception in a worker, a full disk."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from study.record.ledger import Ledger
from tests import disk, studies
from tests.kills import Study
from trainable.cli import UsageError

SETTINGS = [
    "--data",
    "digits",
    "--image-size",
    "16",
    "--epochs",
    "1",
    "--seed",
    "3",
    "--algorithm",
    "random",
    "--precision",
    "float32",
]


def search(results, *more):
    command = [sys.executable, "-m", "study.search", *SETTINGS, "--results", str(results), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def outcomes(folder):
    ledger = Ledger(folder)
    ledger.close()
    return {number: (trial.status, trial.reason) for number, trial in ledger.trials.items()}


def test_a_loss_that_is_no_number_and_an_exception_fail_their_trials_and_the_study_goes_on(tmp_path):
    # one learning rate of two ends in NaN; and trial 3 is made to begin with weights that are gone
    (tmp_path / "space.toml").write_text("[learning_rate]\nchoices = [1e-3, 1e30]\n")
    asked = ["--space", str(tmp_path / "space.toml"), "--trials", "7"]
    plan = studies.begin(*SETTINGS, "--results", tmp_path, *asked)
    left_behind = plan.folder / "trials/3/config.json"
    left_behind.parent.mkdir(parents=True)
    left_behind.write_text(json.dumps(plan.base.to_dict() | {"weights": str(tmp_path / "gone.pt")}))
    done = search(tmp_path, *asked)
    assert done.returncode == 0, done.stderr
    found = outcomes(tmp_path / "digits")
    assert len(found) == 7
    for number, (status, reason) in found.items():
        config = json.loads((tmp_path / f"digits/trials/{number}/config.json").read_text())
        if number == 3:
            assert status == "failed"
            assert "gone.pt" in reason
        elif config["learning_rate"] == 1e30:
            assert status == "failed"
            assert "_loss is" in reason
        else:
            assert (status, reason) == ("complete", "epochs")
    assert [status for status, _ in found.values()].count("failed") >= 2
    view = Study(tmp_path, 7, one_slot=False).optuna_view()
    names = {"failed": "FAIL", "complete": "COMPLETE"}
    assert [state for state, *_ in view] == [names[status] for status, _ in found.values()]


@pytest.mark.slow
def test_ten_failures_in_a_row_stop_the_study_with_the_first_cause(tmp_path):
    (tmp_path / "space.toml").write_text("[learning_rate]\nchoices = [1e30]\n")
    done = search(tmp_path, "--space", str(tmp_path / "space.toml"), "--trials", "30")
    assert done.returncode == 1
    # two run at a time, and either may be the first to fail
    assert re.search(r"10 trials in a row have failed, the first was trial [23]: \w+_loss is", done.stderr)
    assert "Traceback" not in done.stderr
    assert 12 <= len(outcomes(tmp_path / "digits")) <= 14


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 30 MiB of its own: room for one trial's files, not for two's."""
    with disk.small_disk(tmp_path / "small", "30m") as folder:
        yield folder


def test_a_full_disk_pauses_the_study_and_loses_nothing(tmp_path, small_disk):
    one_slot = ["--trials", "6", "--cpus-per-trial", str(len(os.sched_getaffinity(0)))]
    done = search(small_disk, *one_slot)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
    before = outcomes(small_disk / "digits")
    assert all(status in ("complete", "running") for status, _ in before.values())
    subprocess.run(["mount", "-o", "remount,size=500m", small_disk], check=True)
    studies.finish(studies.begin(*SETTINGS, *one_slot, "--results", small_disk))
    after = outcomes(small_disk / "digits")
    assert len(after) == 6
    assert {status for status, _ in after.values()} <= {"complete", "stopped"}, after
    assert all(after[number] == outcome for number, outcome in before.items() if outcome[0] == "complete")


TRAIN = ["--epochs", "1", "--image-size", "32", "--minority", "fox", "--val-fraction", "0.5"]


@pytest.mark.parametrize(("size", "place", "left"), [("100k", ".", []), ("16k", "new/cache", ["new"])])
def test_a_cache_folder_on_a_full_disk_is_told_in_a_sentence(image_folder, tmp_path, size, place, left):
    for index in range(8, 20):
        shutil.copy(image_folder / "train/fox/00.png", image_folder / f"train/fox/{index:02d}.png")
    with disk.small_disk(tmp_path / "small", size) as small:
        cache = small / place
        command = [sys.executable, "-m", "trainable", "--data", str(image_folder), "--cache-dir", str(cache), *TRAIN]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stderr == f"trainable: --cache-dir {cache}: cannot be written (No space left on device)\n"
        assert done.returncode == 2
        assert [path.name for path in small.iterdir()] == left


def test_one_driver_at_a_time_and_the_kernel_frees_the_lock(tmp_path):
    folder = studies.write(tmp_path / "study", num_trials=4)
    code = "import sys, time; from pathlib import Path; from study.record.ledger import Ledger; " \
           "ledger = Ledger(Path(sys.argv[1])); print('open', flush=True); time.sleep(60)"  # fmt: skip
    other = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "open\n"
    with pytest.raises(UsageError, match="another process is running this study"):
        Ledger(folder)
    other.kill()
    other.wait()
    assert len(Ledger(folder).trials) == 4
