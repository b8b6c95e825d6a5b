"""What happened, on disk: the one source of truth about a study.

study.journal (Optuna's) holds the trials and their states, trials/N/ each trial's config and rows. After a crash
rows flow one way: last.pt, then epochs.jsonl, then the journal.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study.scheduler import Curve
from trainable.config import TrialConfig, UsageError

FORMAT = 1
STATUS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed",
          TrialState.RUNNING: "running"}  # fmt: skip

Row = dict[str, Any]


@dataclass
class Trial:
    """A trial as the driver knows it."""

    number: int
    config: TrialConfig
    recipe: str  # "course, shuffled", "course, weighted" or "searched"
    status: str = "running"  # or "complete", "stopped" (by the scheduler), "failed"
    reason: str = ""  # why it ended
    best: list[float] = field(default_factory=list)  # running best minority F1 after each epoch
    row: Row | None = None  # the last

    @property
    def curve(self) -> Curve:
        return Curve(self.best, ended=self.status == "complete")


class _NoSketches:
    """TPE notes each proposal on its trial before the trial is entered; here a trial is entered whole, later."""

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Nothing."""


class _Memory(_NoSketches, InMemoryStorage):
    pass


class _Journal(_NoSketches, JournalStorage):
    pass


class LockedError(Exception):
    """Another process is running this study."""


class Ledger:
    """A study's record, for the one process that drives it.

    ``folder`` None keeps everything in memory. ``asked`` becomes its study.json, once the study is ours to drive.
    """

    def __init__(self, folder: Path | None, asked: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.trials: dict[int, Trial] = {}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._storage: BaseStorage
        if folder is None:
            self._storage = _Memory()
        else:
            self._lock = _locked(folder / ".lock")
            if asked is not None:
                write_study(folder, asked)
            self._storage = _journal(folder)
        self.study = optuna.create_study(
            storage=self._storage, study_name="study", direction="maximize", load_if_exists=True
        )
        if folder is not None:
            for frozen in self.study.get_trials(deepcopy=False):
                self._load(frozen)

    def close(self) -> None:
        """Lets another process drive the study."""
        if self.folder is not None:
            self._lock.release()

    def trial_folder(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / "trials" / str(number)

    def add(
        self, config: TrialConfig, recipe: str, params: dict[str, Any], distributions: dict[str, BaseDistribution]
    ) -> Trial:
        """Enters a new trial; in the journal it is one line, so it is there whole or not at all."""
        number = len(self.trials)
        if self.folder is not None:
            folder = self.trial_folder(number)
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / "config.json", json.dumps(config.to_dict(), indent=1))
        attributes = {"recipe": recipe}
        self.study.add_trial(
            optuna.create_trial(
                state=TrialState.RUNNING, params=params, distributions=distributions, user_attrs=attributes
            )
        )
        trial = Trial(number, config, recipe)
        self.trials[number] = trial
        return trial

    def record(self, number: int, row: Row) -> None:
        """Enters an epoch's row; one that is there already, announced again, changes nothing."""
        trial = self.trials[number]
        if row["epoch"] <= len(trial.best):
            return
        if row["epoch"] != len(trial.best) + 1:
            raise RuntimeError(f"trial {number}: epoch {row['epoch']} came after epoch {len(trial.best)}")
        if self.folder is not None:
            with (self.trial_folder(number) / "epochs.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
        self._enter(trial, row)
        self._report(number, row)

    def complete(self, number: int, reason: str) -> None:
        """The trial ended by itself."""
        self._end(number, TrialState.COMPLETE, reason)

    def stop(self, number: int, reason: str) -> None:
        """A scheduler stopped the trial."""
        self._end(number, TrialState.PRUNED, reason)

    def fail(self, number: int, reason: str) -> None:
        """The trial came to nothing."""
        self._end(number, TrialState.FAIL, reason)

    def running(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.status == "running"]

    def others(self, number: int) -> Iterator[Curve]:
        """The curves of all trials but one."""
        return (trial.curve for trial in self.trials.values() if trial.number != number)

    def _end(self, number: int, state: TrialState, reason: str) -> None:
        trial = self.trials[number]
        if self.folder is not None and state != TrialState.FAIL:
            from trainable import checkpoint

            checkpoint.finish(self.trial_folder(number))
        trial_id = self._trial_id(number)
        self._storage.set_trial_user_attr(trial_id, "reason", reason)
        # the best epoch counts, whichever was the last
        values = trial.best[-1:] if state == TrialState.COMPLETE else None
        self.study.tell(number, values, state)
        trial.status, trial.reason = STATUS[state], reason

    def _enter(self, trial: Trial, row: Row) -> None:
        trial.best.append(row["best_minority_f1"])
        trial.row = row

    def _report(self, number: int, row: Row) -> None:
        self._storage.set_trial_intermediate_value(self._trial_id(number), row["epoch"], row["best_minority_f1"])

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)

    def _load(self, frozen: optuna.trial.FrozenTrial) -> None:
        """Takes up a trial that the journal knows, and brings what came after its last entry there."""
        number = frozen.number
        folder = self.trial_folder(number)
        config = TrialConfig.from_dict(json.loads((folder / "config.json").read_text()))
        trial = Trial(number, config, frozen.user_attrs["recipe"], reason=frozen.user_attrs.get("reason", ""))
        self.trials[number] = trial
        if frozen.state == TrialState.RUNNING:
            recover_rows(folder)
        for row in read_rows(folder):
            self._enter(trial, row)
            if row["epoch"] not in frozen.intermediate_values and frozen.state == TrialState.RUNNING:
                self._report(number, row)
        trial.status = STATUS[frozen.state]


def recover_rows(folder: Path) -> None:
    """Brings epochs.jsonl up to last.pt, which is written first; a half-written last line goes."""
    path = folder / "epochs.jsonl"
    if path.exists():
        drop_torn_line(path)
    if not (folder / "last.pt").exists():
        return
    from trainable import checkpoint

    num_known = len(read_rows(folder))
    missing = checkpoint.read(folder / "last.pt")["rows"][num_known:]
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in missing)


def drop_torn_line(path: Path) -> bool:
    """Cuts the file after its last newline; True if something was cut."""
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        file.truncate(whole)
        return whole < len(content)


def read_rows(folder: Path) -> list[Row]:
    """The rows in a trial's epochs.jsonl, in the order of the epochs."""
    path = folder / "epochs.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_study(folder: Path) -> dict[str, Any]:
    """What was asked: the content of study.json.

    Raises:
        UsageError: there is none, it cannot be read, or its format is unknown.
    """
    try:
        content: dict[str, Any] = json.loads((folder / "study.json").read_text())
    except OSError as error:
        raise UsageError([f"{folder}: holds no study (study.json: {error.strerror})"]) from error
    except ValueError as error:
        raise UsageError([f"{folder / 'study.json'}: damaged, cannot be read ({error})"]) from error
    if content.get("format") != FORMAT:
        raise UsageError([f"{folder}: has format {content.get('format')!r}, and this version reads {FORMAT}"])
    return content


def write_study(folder: Path, content: dict[str, Any]) -> None:
    write_atomically(folder / "study.json", json.dumps({"format": FORMAT, **content}, indent=1))


def write_atomically(path: Path, text: str) -> None:
    """The file holds the old text or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def read_statuses(folder: Path) -> dict[int, tuple[str, str, str]]:
    """(status, reason, recipe) of each trial, from the journal; takes no lock and changes nothing."""
    if not (folder / "study.journal").exists():
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    study = optuna.load_study(study_name="study", storage=storage)
    return {
        frozen.number: (
            STATUS[frozen.state], frozen.user_attrs.get("reason", ""), frozen.user_attrs.get("recipe", "searched")
        )
        for frozen in study.get_trials(deepcopy=False)
    }  # fmt: skip


def _journal(folder: Path) -> _Journal:
    path = folder / "study.journal"
    if path.exists() and drop_torn_line(path):
        logging.getLogger(__name__).warning("%s: a half-written last line was dropped", path)
    # Optuna's own lock files outlive a killed process; this lock goes with it
    lock = FileLock(f"{path}.lock")
    return _Journal(JournalFileBackend(str(path), lock_obj=lock))  # type: ignore[arg-type]


def _locked(path: Path) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise LockedError(f"{path.parent}: another process is running this study") from None
    return lock
