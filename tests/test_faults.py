"""Real studies in which things go wrong: a loss that is no number, an exception in a worker, a full disk."""

import json
import os
import re
import subprocess
import sys

import pytest

from study.execution import tune
from study.execution.runner import Pause, Runner, TooManyFailuresError
from study.record.ledger import Ledger
from study.space import parameters
from study.strategy.scheduler import Never
from study.strategy.searcher import Searcher
from tests import studies
from tests.kills import Study
from trainable.config import TrialConfig
from trainable.report import Report

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
    # one learning rate of two ends in NaN; and trial 3 is made to ask for more threads than torch can count
    (tmp_path / "space.toml").write_text("[learning_rate]\nchoices = [1e-3, 1e30]\n")
    asked = ["--space", str(tmp_path / "space.toml"), "--trials", "7"]
    plan = studies.begin(*SETTINGS, "--results", tmp_path, *asked)
    left_behind = plan.folder / "trials/3/config.json"
    left_behind.parent.mkdir(parents=True)
    left_behind.write_text(json.dumps(plan.base.to_dict() | {"num_threads": 10**12}))
    done = search(tmp_path, *asked)
    assert done.returncode == 0, done.stderr
    found = outcomes(tmp_path / "digits")
    assert len(found) == 7
    for number, (status, reason) in found.items():
        config = json.loads((tmp_path / f"digits/trials/{number}/config.json").read_text())
        if number == 3:
            assert status == "failed"
            assert reason.startswith("ValueError: Overflow")
        elif config["learning_rate"] == 1e30:
            assert status == "failed"
            assert "_loss is" in reason
        else:
            assert (status, reason) == ("complete", "epochs")
    assert [status for status, _ in found.values()].count("failed") >= 2
    view = Study(tmp_path, 7, one_slot=False).optuna_view()
    names = {"failed": "FAIL", "complete": "COMPLETE"}
    assert [state for state, *_ in view] == [names[status] for status, _ in found.values()]


def test_ten_failures_in_a_row_let_no_trial_start_any_more_and_one_success_among_them_does(tmp_path):
    ledger = Ledger(tmp_path)
    source = Searcher(ledger, parameters.load(parameters.DEFAULT_SPACE), TrialConfig(epochs=3), "random", 100)
    runner = Runner(ledger, source, Never(), Pause(None))
    row = {"epoch": 1, "best_minority_f1": 0.5}
    for number in range(9 + 1 + 10):
        assert runner.next().number == number
        if number == 9:
            assert runner.report(number, Report(1, row, "epochs"))
        else:
            runner.fail(number, "ValueError: no")
    assert runner.next() is None
    with pytest.raises(TooManyFailuresError, match="trial 10: ValueError: no"):
        runner.raise_what_broke_it()
    assert [trial.status for trial in ledger.trials.values()] == ["failed"] * 9 + ["complete"] + ["failed"] * 10


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('ray::ResourceTrainable.train() (pid=7)\n  File "x.py", line 3, in run\nValueError: no\n', "ValueError: no"),
        ("The actor died unexpectedly before finishing this task.\n\tclass_name: X\n\tpid: 7\n",
         "The actor died unexpectedly before finishing this task."),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_the_reason_of_a_failure_is_its_last_line_or_what_ray_says_of_the_worker(text, reason):
    earlier = "Failure # 1 (occurred at noon)\n  File \"x.py\"\nKeyError: 'old'\n"
    assert tune._last_failure(f"{earlier}Failure # 2 (occurred at night)\n{text}") == reason


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
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", folder]).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_pauses_the_study_and_loses_nothing(tmp_path, small_disk):
    done = search(small_disk, "--trials", "6")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
    before = outcomes(small_disk / "digits")
    assert all(status in ("complete", "running") for status, _ in before.values())
    subprocess.run(["mount", "-o", "remount,size=500m", small_disk], check=True)
    done = search(small_disk, "--trials", "6")
    assert done.returncode == 0, done.stderr
    after = outcomes(small_disk / "digits")
    assert len(after) == 6
    assert {status for status, _ in after.values()} <= {"complete", "stopped"}
    assert all(after[number] == outcome for number, outcome in before.items() if outcome[0] == "complete")
