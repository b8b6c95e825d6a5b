"""More epochs for a study that has ended, in this process: its trials are those of a study begun with as many."""

import json

import numpy as np

from study.record import files
from tests import studies
from tests.conftest import DIGITS_STUDY
from trainable.__main__ import main as trainable


def study(results, *more):
    plan = studies.begin(*DIGITS_STUDY, "--results", results, "--trials", "3", "--algorithm", "random",
                         "--scheduler", "none", "--set", "average_decay=0.9", *more)  # fmt: skip
    studies.finish(plan)
    return plan.folder


def told(folder):
    """What the study says, but for the time that it took."""
    for trial in files.read_trials(folder, files.read_study(folder)):
        rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in trial.rows]
        yield trial.number, trial.status, trial.reason, trial.config, rows


def test_trials_that_had_reached_the_limit_go_on_and_are_those_of_a_study_begun_with_as_many_epochs(tmp_path):
    folder = study(tmp_path / "raised")
    before = {path: path.read_text() for path in folder.glob("trials/*/epochs.jsonl")}
    assert study(tmp_path / "raised", "--epochs", "3") == folder
    begun = study(tmp_path / "begun", "--epochs", "3")
    assert list(told(folder)) == list(told(begun))
    assert [len(rows) for *_, rows in told(folder)] == [3, 3, 3]
    assert all(path.read_text().startswith(text) for path, text in before.items())
    for number in range(3):
        ours, theirs = (np.load(place / f"trials/{number}/validation.npz") for place in (folder, begun))
        assert all(np.array_equal(ours[name], theirs[name]) for name in (*ours, *theirs))
        assert (folder / f"trials/{number}/last.pt").exists()  # and may get still more
    asked = json.loads((folder / "study.json").read_text())
    assert (asked["epochs"], asked["first_epochs"]) == (3, 2)
    assert trainable(["--replay", str(folder / "trials/2")]) == 0
