import json
import subprocess
import sys

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study import ledger as ledgers
from study.ledger import Ledger, LockedError
from trainable.config import TrialConfig, UsageError


def row(epoch, best):
    return {"epoch": epoch, "best_minority_f1": best, "train_seconds": 0.1 * epoch}


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
    ledger.stop(1, "scheduler, epoch 1")
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


@pytest.mark.parametrize("name", ["study.journal", "trials/3/epochs.jsonl"])
def test_a_half_written_last_line_is_dropped(folder, name):
    with (folder / name).open("a") as file:
        file.write('{"epoch": 3, "best_min')
    ledger = Ledger(folder)
    assert ledger.trials[3].best == [0.3, 0.4]
    ledger.record(3, row(3, 0.6))
    ledger.close()
    assert Ledger(folder).trials[3].best == [0.3, 0.4, 0.6]


def test_one_driver_at_a_time_and_the_kernel_frees_the_lock(folder):
    code = "import sys, time; from pathlib import Path; from study.ledger import Ledger; " \
           "ledger = Ledger(Path(sys.argv[1])); print('open', flush=True); time.sleep(60)"  # fmt: skip
    other = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "open\n"
    with pytest.raises(LockedError, match="another process is running this study"):
        Ledger(folder)
    other.kill()
    other.wait()
    assert len(Ledger(folder).trials) == 4


def test_unknown_format_damaged_and_missing_study_are_told_apart(tmp_path):
    with pytest.raises(UsageError, match="holds no study"):
        ledgers.read_study(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        ledgers.read_study(tmp_path)
    (tmp_path / "study.json").write_text('{"format": 99}')
    with pytest.raises(UsageError, match="has format 99, and this version reads 1"):
        ledgers.read_study(tmp_path)
