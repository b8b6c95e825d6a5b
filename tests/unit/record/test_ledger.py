import json
import os
import shutil
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study.record import files
from study.record.ledger import Ledger
from study.space import parameters
from study.strategy.scheduler import Asha, why_stopped
from study.strategy.searcher import Searcher
from tests.studies import row
from trainable import records
from trainable.cli import UsageError
from trainable.config import TrialConfig


@pytest.fixture
def folder(tmp_path):
    """A study's folder with a complete, a stopped, a failed and a running trial."""
    path = tmp_path / "study"
    path.mkdir()
    ledger = Ledger(path)
    for _ in range(4):
        ledger.add(TrialConfig(epochs=3), "searched", {}, {})
    for number, bests in enumerate([(0.2, 0.5, 0.5), (0.1,), (0.1,), (0.3, 0.4)]):
        for epoch, best in enumerate(bests, 1):
            ledger.record(number, row(epoch, best))
    ledger.complete(0, "epochs")
    ledger.stop(1, "stopped at 1: 2 of 3 were better")
    ledger.fail(2, "train_loss is nan in epoch 2")
    ledger.close()
    return path


def test_optunas_own_view_is_right(folder):
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    study = optuna.load_study(study_name="study", storage=storage)
    trials = study.trials
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [len(t.intermediate_values) for t in trials] == [3, 1, 1, 2]
    assert trials[0].value == 0.5
    assert trials[2].user_attrs["reason"] == "train_loss is nan in epoch 2"


def test_a_ledger_opened_again_knows_everything(folder):
    ledger = Ledger(folder)
    assert [t.status for t in ledger.trials.values()] == ["complete", "stopped", "failed", "running"]
    assert [t.best for t in ledger.trials.values()] == [[0.2, 0.5, 0.5], [0.1], [0.1], [0.3, 0.4]]
    assert [t.number for t in ledger.running()] == [3]


@pytest.mark.parametrize(
    ("kept_for", "left"),
    [((), {2}), (("epochs",), {0, 2}), (("epochs", "stopped at 1: 2 of 3 were better"), {0, 1, 2})],
)
def test_of_trials_that_have_ended_last_pt_is_kept_where_it_may_be_wanted(folder, kept_for, left):
    """Opening the ledger does what a driver that was killed as a trial ended has left to do."""
    paths = [folder / f"trials/{number}/last.pt" for number in range(3)]  # and trial 3 goes on
    for path in paths:
        path.write_bytes(b"")
    trials = Ledger(folder, keeps_last=lambda reason: reason in kept_for).trials
    assert {number for number, path in enumerate(paths) if path.exists()} == left
    assert [trial.best for trial in trials.values()] == [[0.2, 0.5, 0.5], [0.1], [0.1], [0.3, 0.4]]


def test_a_row_announced_again_changes_nothing_and_a_gap_is_an_error(folder):
    ledger = Ledger(folder)
    before = (folder / "trials/3/epochs.jsonl").read_bytes()
    ledger.record(3, row(2, 0.9))
    assert (folder / "trials/3/epochs.jsonl").read_bytes() == before
    with pytest.raises(RuntimeError, match="epoch 4 came after epoch 2"):
        ledger.record(3, row(4, 0.9))


def test_a_row_that_reached_epochs_jsonl_but_not_the_journal_is_brought_there(folder):
    with (folder / "trials/3/epochs.jsonl").open("a") as file:
        file.write(json.dumps(row(3, 0.6)) + "\n")
    ledger = Ledger(folder)
    assert ledger.trials[3].best == [0.3, 0.4, 0.6]
    assert ledger.study.trials[3].intermediate_values == {1: 0.3, 2: 0.4, 3: 0.6}


def test_when_the_power_fails_nothing_is_lost_that_was_entered_and_few_entries_wait_for_the_disk(tmp_path, monkeypatch):
    """Each file is cut to what had been waited for, after each entry."""
    folder, synced, real = tmp_path / "study", {}, os.fsync
    waits = 0

    def fsync(descriptor):
        nonlocal waits
        real(descriptor)
        waits += 1
        synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fsync", fsync)
    ledger = Ledger(folder)
    entries = [
        (3, lambda: ledger.add(TrialConfig(epochs=3), "searched", {}, {})),
        (1, lambda: ledger.record(0, row(1, 0.5))),
        (1, lambda: ledger.record(0, row(2, 0.7))),
        (3, lambda: ledger.add(TrialConfig(epochs=3), "searched", {}, {})),
        (1, lambda: ledger.complete(0, "patience")),
        (1, lambda: ledger.record(1, row(1, 0.1))),
        (1, lambda: ledger.stop(1, "stopped at 1: 2 of 3 were better")),
        (3, lambda: ledger.add(TrialConfig(epochs=3), "searched", {}, {})),
        (1, lambda: ledger.fail(2, "train_loss is nan in epoch 1")),
    ]
    for number, (most_waits, enter) in enumerate(entries):
        before = waits
        enter()
        assert waits - before == most_waits
        left = tmp_path / f"after {number}"
        shutil.copytree(folder, left)
        for path in folder.rglob("*"):
            if path.is_file():
                os.truncate(left / path.relative_to(folder), synced.get(path.stat().st_ino, 0))
        again = Ledger(left)
        assert again.trials == ledger.trials
        again.close()


@pytest.mark.parametrize("name", ["study.journal", "trials/3/epochs.jsonl"])
def test_a_half_written_last_line_is_dropped(folder, name):
    with (folder / name).open("a") as file:
        file.write('{"epoch": 3, "best_min')
    ledger = Ledger(folder)
    assert ledger.trials[3].best == [0.3, 0.4]
    ledger.record(3, row(3, 0.6))
    ledger.close()
    assert Ledger(folder).trials[3].best == [0.3, 0.4, 0.6]


def test_unknown_format_damaged_and_missing_study_are_told_apart(tmp_path):
    with pytest.raises(UsageError, match="holds no study"):
        files.read_study(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        files.read_study(tmp_path)
    (tmp_path / "study.json").write_text('{"format": 99}')
    with pytest.raises(UsageError, match="has format 99, and this version reads 1"):
        files.read_study(tmp_path)


def fake_trainer(ledger, num_trials, stop_after=None):
    """Runs a study to its end, or until so many epochs are done, with scores that follow from config and epoch."""
    searcher = Searcher(
        ledger, parameters.load(parameters.COURSE_SPACE), TrialConfig(epochs=3, seed=7), "tpe", num_trials
    )
    asha = Asha(grace=1)
    num_epochs = 0
    while (trial := searcher.next()) is not None:
        while True:
            # as a worker does: the last row is announced again first, and decided on
            if why := why_stopped(asha, trial, ledger):
                ledger.stop(trial.number, why)
                break
            if len(trial.best) == 3:
                ledger.complete(trial.number, "epochs")
                break
            if num_epochs == stop_after:
                return
            epoch = len(trial.best) + 1
            ledger.record(trial.number, row(epoch, 1 - abs(trial.config.dropout - 0.4) - 1 / epoch / 10))
            num_epochs += 1


def optunas_view(folder):
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    trials = optuna.load_study(study_name="study", storage=storage).trials
    return [(t.state, t.value, t.params, t.intermediate_values, t.user_attrs) for t in trials]


def rows_on_disk(folder):
    return {path.parent.name: path.read_text() for path in folder.glob("trials/*/epochs.jsonl")}


@pytest.mark.parametrize("stop_after", [0, 4, 9, None])
def test_a_journal_cut_at_any_byte_of_its_last_lines_is_repaired_and_the_study_ends_as_if_nothing_had_been(
    tmp_path, stop_after
):
    plain = tmp_path / "plain"
    plain.mkdir()
    fake_trainer(Ledger(plain), 7)
    expected = optunas_view(plain)

    cut = tmp_path / "cut"
    cut.mkdir()
    ledger = Ledger(cut)
    fake_trainer(ledger, 7, stop_after)
    ledger.close()
    whole = (cut / "study.journal").read_bytes()
    lines = whole.splitlines(keepends=True)
    ends = [len(b"".join(lines[:count])) for count in range(len(lines) - 3, len(lines))]
    # around the lines' ends each byte, within them every third
    sizes = [
        n for n in range(ends[0], len(whole)) if n % 3 == 0 or min(abs(n - end) for end in [*ends, len(whole)]) < 4
    ]
    shutil.copytree(cut, tmp_path / "before")
    for size in sizes:
        (cut / "study.journal").write_bytes(whole[:size])
        said = []
        Ledger(cut, say=said.append).close()
        torn = size > 0 and not whole[:size].endswith(b"\n")
        assert len(said) == torn
        assert all("study.journal: a half-written last line was dropped" in text for text in said)
        if not torn:
            # wherever in a line it was cut, this is what is left of it
            ledger = Ledger(cut)
            fake_trainer(ledger, 7)
            ledger.close()
            assert optunas_view(cut) == expected
            assert rows_on_disk(cut) == rows_on_disk(plain)
            shutil.rmtree(cut)
            shutil.copytree(tmp_path / "before", cut)


def test_a_journal_that_is_gone_is_built_anew_from_the_trials(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "lost").mkdir()
    fake_trainer(Ledger(tmp_path / "plain"), 5)
    ledger = Ledger(tmp_path / "lost")
    fake_trainer(ledger, 5)
    ledger.close()
    (tmp_path / "lost/study.journal").unlink()
    fake_trainer(Ledger(tmp_path / "lost"), 5)
    lost, plain = optunas_view(tmp_path / "lost"), optunas_view(tmp_path / "plain")
    for trial in (*lost, *plain):  # a trial that is judged again stands beside those that came after it, too
        trial[-1]["reason"] = trial[-1]["reason"].partition(":")[0]
    assert lost == plain
    assert rows_on_disk(tmp_path / "lost") == rows_on_disk(tmp_path / "plain")


def test_damage_that_cannot_be_repaired_is_told_all_at_once_and_nothing_is_written(folder):
    (folder / "trials/0/config.json").write_text('{"dropout": 7}')
    (folder / "trials/1/epochs.jsonl").write_text("no row\n")
    (folder / "trials/3/last.pt").write_bytes(b"PK\x03\x04 and no more")
    journal = (folder / "study.journal").read_bytes()
    with pytest.raises(UsageError) as caught:
        Ledger(folder, asked={"name": "x"})
    assert len(caught.value.problems) == 3
    for name, problem in zip(["0/config.json", "1/epochs.jsonl", "3/last.pt"], caught.value.problems, strict=True):
        assert f"trials/{name}: damaged, cannot be " in problem
        assert "\n" not in problem
    assert (folder / "study.journal").read_bytes() == journal
    assert not (folder / "study.json").exists()
    (folder / "trials/0/config.json").unlink()
    with pytest.raises(UsageError, match=r"0/config\.json: cannot be read"):
        Ledger(folder)  # which also shows that the lock was given back


def test_a_journal_damaged_in_its_middle_is_refused_in_a_sentence(folder):
    path = folder / "study.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"}{\n", *lines[1:]]))
    for read in (Ledger, files.read_trials):
        with pytest.raises(UsageError, match=r"study\.journal: damaged, cannot be read"):
            read(folder)


def test_fewer_rows_than_the_journal_knows_of_are_refused(folder):
    (folder / "trials/0/epochs.jsonl").write_text(json.dumps(row(1, 0.2)) + "\n")
    for read in (Ledger, files.read_trials):
        with pytest.raises(UsageError, match=r"has 1 rows where the journal knows of 3 epochs"):
            read(folder)


def test_smaller_batches_after_an_out_of_memory_reach_the_trials_config(folder):
    ledger = Ledger(folder)
    ledger.record(3, {**row(3, 0.6), "num_micro_batches": 4})
    ledger.close()
    assert records.read_config(folder / "trials/3").num_micro_batches == 4
    assert Ledger(folder).trials[3].config.num_micro_batches == 4


class Killed(BaseException):
    """The process ends here."""


def lengthened(folder, steps=99):
    """The ledger after all trials were given 6 epochs, or were about to be, when the process ended after ``steps``."""
    ledger = Ledger(folder)
    left = iter(range(steps))

    def counted(function):
        def step(*arguments, **options):
            if next(left, None) is None:
                raise Killed
            return function(*arguments, **options)

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", counted(Path.unlink))
        patch.setattr(ledger._journal, "take_up", counted(ledger._journal.take_up))
        patch.setattr(ledger, "_write_config", counted(ledger._write_config))
        try:
            for number in ledger.trials:
                ledger.lengthen(number, 6)
        except Killed:
            ledger.close()
            return None
    return ledger


def test_a_trial_that_had_reached_its_limit_goes_on_and_others_stay_as_they_are_whenever_the_process_is_killed(folder):
    ledger = Ledger(folder)
    ledger.record(3, row(3, 0.4))
    ledger.complete(3, "patience")
    ledger.close()
    for name in ("best.pt", "validation.npz"):
        (folder / "trials/0" / name).write_bytes(b"")
    for steps in range(8):
        place = shutil.copytree(folder, folder.with_name(f"killed-{steps}"))
        ledger = lengthened(place, steps) or lengthened(place)
        assert [trial.status for trial in ledger.trials.values()] == ["running", "stopped", "failed", "complete"]
        assert [trial.best for trial in ledger.trials.values()] == [[0.2, 0.5, 0.5], [0.1], [0.1], [0.3, 0.4, 0.4]]
        assert ledger.ranked == [(0.1, 1), (0.1, 2), (0.4, 3)]
        assert (list(ledger.standings.at(3)), list(ledger.standings.at(6))) == ([0.4, 0.5], [0.4])
        ledger.record(0, row(4, 0.7))
        ledger.record(0, row(5, 0.7))
        ledger.record(0, row(6, 0.7))
        ledger.complete(0, "epochs")
        ledger.close()
        again = Ledger(place)
        assert [trial.config.epochs for trial in again.trials.values()] == [6] * 4
        assert [trial.status for trial in again.trials.values()] == ["complete", "stopped", "failed", "complete"]
        assert len(again.trials[0].best) == 6
        again.close()
        assert {path.name for path in (place / "trials/0").iterdir()} == {"config.json", "epochs.jsonl"}
        states = [state for state, *_ in optunas_view(place)]
        assert states.count(TrialState.COMPLETE) == 3  # that of three epochs is left as it was
        assert states.count(TrialState.RUNNING) == 0
    assert {path.name for path in (folder / "trials/0").iterdir()} > {"best.pt", "validation.npz"}


@pytest.mark.parametrize("number", [-1, 4, "0", 1.5])
def test_an_entry_that_goes_on_from_no_trial_is_refused(folder, number):
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    study = optuna.load_study(study_name="study", storage=storage)
    study.add_trial(optuna.create_trial(state=TrialState.FAIL, user_attrs={"recipe": "searched", "continues": number}))
    with pytest.raises(UsageError, match="continues must be the number of a trial before it"):
        Ledger(folder)
