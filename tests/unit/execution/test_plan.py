"""What is checked before a study's lock is held, and again under it."""

import dataclasses
import json
from contextlib import nullcontext

import pytest

from study import search
from study.execution import machine, plan
from study.record import files
from study.record.ledger import Ledger
from tests import studies
from tests.conftest import DIGITS_STUDY
from tests.tampered import RESOURCES
from trainable.cli import UsageError
from trainable.images import loading


@pytest.fixture
def checked(tmp_path, digits_pool, monkeypatch):
    """A function that checks a study's command as its start would, and writes nothing."""
    pool = dataclasses.replace(digits_pool, spec=dataclasses.replace(digits_pool.spec, seed=3))
    monkeypatch.setattr(loading, "load", lambda spec, say, look: look(pool) or pool)
    monkeypatch.setattr(plan, "machine_resources", lambda *given: RESOURCES)

    def check(*more):
        parser = search._parser()
        given = [*DIGITS_STUDY, "--results", str(tmp_path), *more]
        return plan.preflight(parser.parse(given), parser.problems, "python -m study.search " + " ".join(more))

    return check


def begin(asked):
    """What the other command does, as soon as it has the lock."""
    asked.folder.mkdir(exist_ok=True)
    Ledger(asked.folder, asked.record(), check=asked.check_again).close()
    return (asked.folder / "study.json").read_bytes()


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("began", [False, True])
def test_a_study_that_another_command_begins_or_changes_after_the_check_keeps_its_study_json(
    tmp_path, checked, began, monkeypatch, capsys
):
    if began:
        begin(checked("--trials", "3"))
    ours, theirs = checked("--trials", "5"), checked("--trials", "4", "--algorithm", "tpe")
    content = begin(theirs)
    before = everything(ours.folder)
    with pytest.raises(UsageError, match="meanwhile; the same command checks it anew"):
        Ledger(ours.folder, ours.record(), check=ours.check_again)
    monkeypatch.setattr(machine, "ray_running", lambda resources, program, study: nullcontext())
    with pytest.raises(SystemExit) as stop:
        search.run(ours)
    assert stop.value.code == 2
    done = "was at this study" if began else "has begun this study"
    assert capsys.readouterr().err == (
        f"study.search: {ours.folder}: another command {done} meanwhile; the same command checks it anew\n"
    )
    assert everything(ours.folder) == before
    assert (ours.folder / "study.json").read_bytes() == content


def test_a_check_that_still_holds_lets_the_study_begin_and_go_on(checked):
    begin(checked("--trials", "3"))
    begin(checked("--trials", "5"))
    assert files.read_study(checked("--trials", "6").folder).trials == 5


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


CHANGES = {
    "study.json": lambda folder: change_json(folder / "study.json", trials=99),
    "confirm.json": lambda folder: studies.confirm(folder, low=0.06),
    "no confirm.json": lambda folder: (folder / "confirm.json").unlink(),
    "another ranking": lambda folder: change_json(folder / "trials/2/config.json", dropout=0.123),
    "another trial ended": lambda folder: end(folder, 11),
}


def end(folder, number):
    ledger = Ledger(folder)
    ledger.fail(number, "ValueError: no")
    ledger.close()


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_confirmation_has_checked_is_checked_again_under_the_lock(tmp_path, change):
    from study.confirmation.plan import ConfirmationPlan
    from study.confirmation.runs import choose

    folder = studies.write(tmp_path / "study")
    studies.confirm(folder)
    study = files.read_study(folder)
    trials = files.read_trials(folder, study)
    values = dict.fromkeys(field.name for field in dataclasses.fields(ConfirmationPlan))
    values |= {
        "folder": folder, "study": study, "recipes": choose(trials, 3), "top": 3,
        "num_trials": files.num_ended(trials), "before": files.read_confirmation(folder),
    }  # fmt: skip
    asked = ConfirmationPlan(**values)
    asked.check_again()
    CHANGES[change](folder)
    with pytest.raises(UsageError, match="another command was at this study meanwhile"):
        asked.check_again()


def train(asked, *schedules):
    """Two trials that had come to the limit of two epochs, and one that was stopped after its first."""
    ledger = Ledger(asked.folder)
    for number in range(3):
        values = {"schedule": schedules[number]} if schedules else {}
        ledger.add(dataclasses.replace(asked.base, **values), "searched", {}, {})
        for epoch in (1, 2) if number < 2 else (1,):
            ledger.record(number, studies.row(epoch, 0.5, f1=[0.5] * 10))
        if number < 2:
            ledger.complete(number, "epochs")
            (asked.folder / f"trials/{number}/last.pt").write_bytes(b"")
        else:
            ledger.stop(number, "stopped at 1: 2 of 3 were better")
    ledger.close()


def test_more_epochs_are_told_with_what_comes_of_them_and_the_scheduler_keeps_to_those_it_began_with(checked):
    first = checked("--trials", "3")
    begin(first)
    train(first)
    longer = checked("--trials", "3", "--epochs", "5")
    assert [note for note in longer.warnings if "--epochs" in note] == [
        "--epochs 5 instead of 2: trials 0, 1 had reached 2 and will go on; asha judges at the ages of a study of 2 "
        "epochs, as it began, and what it has stopped stays so"
    ]
    assert (longer.base.epochs, longer.epochs_of_scheduler) == (5, 2)
    begin(longer)
    assert [trial.status for trial in files.read_trials(first.folder, files.read_study(first.folder))] == [
        "running", "running", "stopped",
    ]  # fmt: skip
    again = checked("--trials", "3", "--epochs", "5")
    assert (again.epochs_of_scheduler, [note for note in again.warnings if "--epochs" in note]) == (2, [])
    assert checked("--epochs", "8").epochs_of_scheduler == 2
    with pytest.raises(UsageError, match="was started with --epochs 5, now 4"):
        checked("--epochs", "4")


def test_more_epochs_are_refused_where_trials_would_have_been_others_or_cannot_go_on(checked):
    asked = checked("--trials", "3")
    begin(asked)
    train(asked, "constant", "cosine", "cosine")
    (asked.folder / "trials/0/last.pt").unlink()
    with pytest.raises(UsageError) as refusal:
        checked("--epochs", "5")
    assert refusal.value.problems == [
        "--epochs 5 instead of 2: schedule=cosine goes by the number of epochs, so trials 1, 2 would have had other "
        "epochs from the beginning; use another --name for a new study",
        "--epochs 5 instead of 2: trial 0 cannot go on, as last.pt is gone; use another --name for a new study",
    ]


def test_what_is_known_from_an_earlier_study_is_kept_when_that_is_gone_and_is_no_other_ones(tmp_path, checked):
    other = studies.write(tmp_path / "other")
    first = checked("--trials", "6", "--after", str(other))
    assert len(first.known.recipes) == 5
    assert [note for note in first.warnings if "--after" in note] == [first.known.words]
    begin(first)
    other.rename(tmp_path / "elsewhere")
    for given in ([], ["--after", str(other)]):
        again = checked("--trials", "6", *given)
        assert again.known.recipes == first.known.recipes
    with pytest.raises(UsageError, match=r"with --after .*, now another"):
        checked("--trials", "6", "--after", str(tmp_path / "another"))
