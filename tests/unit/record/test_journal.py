"""Other programs on a study's journal, by Optuna's own rules."""

import json
import threading
import time

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock
from optuna.trial import TrialState

from study.findings import ranking
from study.record import files
from study.record.ledger import Ledger
from study.space import parameters
from study.strategy.searcher import Searcher
from tests import disk, studies
from tests.studies import row
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.files import check_folder

LOCKS = [JournalFileSymlinkLock, JournalFileOpenLock]


def theirs(folder, lock=JournalFileSymlinkLock):
    """The study as another program opens it."""
    path = str(folder / "study.journal")
    storage = JournalStorage(JournalFileBackend(path, lock_obj=lock(path)))
    return optuna.load_study(study_name="study", storage=storage)


@pytest.fixture
def ledger(tmp_path):
    """A ledger with a running trial."""
    ledger = Ledger(tmp_path)
    ledger.add(TrialConfig(epochs=9), "searched", {}, {})
    yield ledger
    ledger.close()


def in_turn(ledger, write):
    """Both write many lines at the same time: a thread of theirs, and this one; their longest wait in seconds."""
    waits = []

    def others():
        for number in range(40):
            start = time.monotonic()
            write(number)
            waits.append(time.monotonic() - start)

    thread = threading.Thread(target=others)
    thread.start()
    for _ in range(40):
        number = len(ledger.trials)
        ledger.add(TrialConfig(epochs=9), "searched", {}, {})
        ledger.record(number, row(1, 0.5))
    thread.join()
    return max(waits)


@pytest.mark.parametrize("lock", LOCKS)
def test_another_program_writes_notes_at_the_same_time_without_waiting_and_nobody_loses_a_line(tmp_path, ledger, lock):
    study = theirs(tmp_path, lock)
    assert in_turn(ledger, lambda number: study.set_user_attr(f"note {number}", "a" * 1000)) < 2
    seen = theirs(tmp_path)
    assert len(seen.user_attrs) == 40
    assert [trial.intermediate_values for trial in seen.trials] == [{}] + 40 * [{1: 0.5}]
    assert all(json.loads(line) for line in (tmp_path / "study.journal").read_text().splitlines())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "study.journal", "trials"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_that_another_program_keeps_delays_by_less_than_a_second_and_once(tmp_path, ledger, lock):
    lock(str(tmp_path / "study.journal")).acquire()
    check_folder(tmp_path)  # a link, but nobody follows it
    start = time.monotonic()
    ledger.record(0, row(1, 0.5))
    ledger.record(0, row(2, 0.5))
    assert 0.4 < time.monotonic() - start < 1
    assert not list(tmp_path.glob("study.journal.lock*"))


def test_what_an_earlier_version_or_a_killed_process_left_behind_blocks_nobody(tmp_path):
    studies.write(tmp_path / "study", num_trials=4)
    (tmp_path / "study/study.journal.lock").touch()
    Ledger(tmp_path / "study").close()
    start = time.monotonic()
    theirs(tmp_path / "study").set_user_attr("dashboard:note", "mine")
    assert time.monotonic() - start < 1


def test_half_a_line_of_a_program_that_was_killed_is_dropped_before_anything_is_added(tmp_path, ledger):
    with (tmp_path / "study.journal").open("a") as file:
        file.write('{"op_code": 2, "stu')
    ledger.record(0, row(1, 0.5))
    assert theirs(tmp_path).trials[0].intermediate_values == {1: 0.5}


def test_half_a_line_that_a_full_disk_leaves_is_taken_back_so_that_others_can_go_on(tmp_path, ledger):
    path = tmp_path / "study.journal"
    before = path.read_bytes()
    with disk.files_of_at_most(len(before) + 20), pytest.raises(OSError, match="too large") as caught:
        ledger.study.set_user_attr("note", "a" * 100)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before


def enqueue(study):
    study.enqueue_trial({"dropout": 0.5})


def ask(study):
    study.ask()


def add(study):
    study.add_trial(optuna.create_trial(state=TrialState.COMPLETE, value=0.99))


def ask_and_tell(study):
    trial = study.ask()
    trial.report(0.9, 1)
    study.tell(trial, 0.99)


FOREIGN = [enqueue, ask, add, ask_and_tell]


@pytest.mark.parametrize("enter", FOREIGN)
@pytest.mark.parametrize("after", [0, 1, 3, 8])
def test_trials_that_another_program_adds_are_left_alone_and_said_wherever_they_come(tmp_path, enter, after):
    """Two studies with and without: the same trials, in the same folders, with the same ends."""

    def run(folder, meddle):
        folder.mkdir()
        said = []
        for stop in (4, 9):  # in two sittings
            ledger = Ledger(folder, say=said.append)
            space = parameters.load(parameters.COURSE_SPACE)
            source = Searcher(ledger, space, TrialConfig(epochs=2, seed=7), "random", stop)
            if after == 0 and meddle and stop == 4:
                enter(theirs(folder))
            while (trial := source.next()) is not None:
                ledger.record(trial.number, row(1, 0.1 + trial.number / 20))
                if meddle and trial.number == after - 1:
                    enter(theirs(folder))
                if trial.number % 3 == 2:
                    ledger.stop(trial.number, "stopped at 1: 2 of 3 were better")
                elif trial.number % 3:
                    ledger.record(trial.number, row(2, 0.2 + trial.number / 20))
                    ledger.complete(trial.number, "epochs")
                else:
                    ledger.fail(trial.number, "ValueError: no")
            ledger.close()
        return files.read_trials(folder, say=said.append), said

    plain, nothing = run(tmp_path / "plain", meddle=False)
    trials, said = run(tmp_path / "study", meddle=True)
    assert nothing == []
    assert len(plain) == 9
    assert trials == plain
    assert f"study.journal: another program has added a trial ({after} in Optuna's count); left alone" in said[-1]


@pytest.mark.parametrize("enter", FOREIGN)
def test_a_ranking_says_that_another_programs_trials_are_not_in_it(tmp_path, enter):
    studies.write(tmp_path / "study", num_trials=6)
    before = ranking.rank(tmp_path / "study")
    enter(theirs(tmp_path / "study"))
    enter(theirs(tmp_path / "study"))
    after = ranking.rank(tmp_path / "study")
    assert after.table.equals(before.table)
    known = before.lines()
    (said,) = [line for line in after.lines() if line not in known]
    assert said.endswith("has added 2 trials (6, 7 in Optuna's count); left alone, neither run nor ranked")


def test_a_trial_that_another_program_ends_is_told_in_a_sentence(tmp_path, ledger):
    theirs(tmp_path).tell(0, 0.7)
    for enter in (lambda: ledger.record(0, row(1, 0.5)), lambda: ledger.complete(0, "epochs")):
        with pytest.raises(UsageError, match=r"study\.journal: another program has changed it, .*already finished"):
            enter()


def test_a_study_that_another_program_deletes_is_told_in_a_sentence(tmp_path, ledger):
    optuna.delete_study(study_name="study", storage=theirs(tmp_path)._storage)
    with pytest.raises(UsageError, match=r"study\.journal: another program has changed it"):
        ledger.add(TrialConfig(epochs=9), "searched", {}, {})
