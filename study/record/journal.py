"""Optuna's journal as a study keeps it: trials entered whole, half-written lines dropped, no link followed.

Other programs may write to it meanwhile, by Optuna's own rules: optuna-dashboard its notes, somebody's script a trial.
"""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, TrialState

from study.record.entries import CONTINUES, JOURNAL, STUDY_NAME
from study.record.files import check_last_line, damaged_journal
from trainable.cli import UsageError
from trainable.files import OPTUNA_LOCK, append, naming

PATIENCE_SECONDS = 0.5  # Optuna's lock is held while a few lines are written
# Lines that may be lost when the power fails: a trial's scores are those of its rows, which are on disk before them,
# and why it ended is followed by that it ended, in a line that is waited for.
NOT_WAITED_FOR = {JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE, JournalOperation.SET_TRIAL_USER_ATTR}


class _NoSketches:
    """TPE notes each proposal on its trial before the trial is entered; here a trial is entered whole, later."""

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Nothing."""


class _Memory(_NoSketches, InMemoryStorage):
    pass


class _Storage(_NoSketches, JournalStorage):
    pass


class _JournalFile(JournalFileBackend):
    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """As Optuna's own, which would follow a link, make a file that is gone anew, and leave half a line behind."""
        path = Path(self._file_path)
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with naming(path), _opened(path) as descriptor:
            with others_excluded(path):
                size = _cut_torn_line(descriptor)
                try:
                    _write(descriptor, lines.encode())
                except OSError:
                    os.ftruncate(descriptor, size)
                    raise
            if not NOT_WAITED_FOR.issuperset(log["op_code"] for log in logs):
                os.fsync(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _cut_torn_line(descriptor: int) -> int:
    """Cuts the file after its last newline; its new length in bytes."""
    end = size = os.fstat(descriptor).st_size
    while end and os.pread(descriptor, 1, end - 1) != b"\n":
        end -= 1
    if end < size:
        os.ftruncate(descriptor, end)
    return end


def drop_torn_line(path: Path) -> bool:
    """Cuts the file after its last newline; True if something was cut."""
    with _opened(path) as descriptor:
        return os.fstat(descriptor).st_size > _cut_torn_line(descriptor)


@contextmanager
def others_excluded(path: Path) -> Iterator[None]:
    """While this is open, no other program that keeps to Optuna's rules writes to the journal at ``path``.

    The lock file is Optuna's. A process that is killed in such a moment leaves it behind, and Optuna then waits for
    half a minute. Here it is taken over sooner, which is safe, as lines are added to the file in one step.

    Raises:
        OSError: the lock file cannot be made.
    """
    lock = path.with_name(OPTUNA_LOCK)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            break
        except FileExistsError:
            if time.monotonic() < deadline:
                time.sleep(0.005)
                continue
            deadline += PATIENCE_SECONDS
            # as Optuna does it: of two who do this at once, none removes the other's new lock
            aside = lock.with_name(f"{lock.name}{secrets.token_hex(8)}.rename")
            with suppress(FileNotFoundError):
                lock.rename(aside)
                aside.unlink()
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


@contextmanager
def _unchanged_by_others(path: Path) -> Iterator[None]:
    """Says of what Optuna raises here that another program has changed the journal: in itself it is consistent.

    Raises:
        UsageError: it has, and what was to be entered cannot be.
    """
    try:
        yield
    except (OptunaError, KeyError, ValueError) as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise UsageError(
            [f"{path}: another program has changed it, so that nothing can be entered ({reason})"]
        ) from error


class Journal:
    """The journal of a study, for the one process that drives it: an entry for each trial, by the study's numbers.

    ``path`` None keeps everything in memory. ``say`` is told of what is repaired.

    Raises:
        UsageError: it is damaged.
        OSError: it cannot be written to, or is a link.
    """

    def __init__(self, path: Path | None, say: Callable[[str], None]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._path = path or Path(JOURNAL)
        self._storage: BaseStorage = _open_file(path, say) if path else _Memory()
        self._ids: dict[int, int] = {}  # number -> id in the journal, where other programs' trials count, too
        try:
            self.study = optuna.load_study(study_name=STUDY_NAME, storage=self._storage)
        except KeyError:  # it is new; asking to create it anyway would add a line each time
            if path and path.stat().st_size:
                raise UsageError([damaged_journal(path, ValueError("it is not the journal of this study"))]) from None
            self.study = optuna.create_study(storage=self._storage, study_name=STUDY_NAME, direction="maximize")

    def know(self, number: int, entry: FrozenTrial) -> None:
        """``entry``, found in the journal, is that of the study's trial ``number``."""
        self._ids[number] = entry._trial_id

    def add(
        self,
        number: int,
        params: dict[str, Any],
        distributions: dict[str, BaseDistribution],
        attributes: dict[str, Any],
        reported: dict[int, float] | None = None,
    ) -> None:
        """Enters a running trial; it is one line, so it is there whole or not at all."""
        entry = optuna.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs=attributes,
            intermediate_values=reported,
        )
        with _unchanged_by_others(self._path):
            self._ids[number] = self._storage.create_new_trial(self.study._study_id, entry)

    def take_up(self, number: int, folder: str) -> None:
        """Enters a trial that has ended, in the study's ``folder``, once more as running, with all that it has come to.

        One line, as above.
        """
        before = self._storage.get_trial(self._ids[number])
        attributes = {"recipe": before.user_attrs["recipe"], "folder": folder, CONTINUES: number}
        self.add(number, before.params, before.distributions, attributes, before.intermediate_values)

    def report(self, number: int, epoch: int, best: float) -> None:
        """Enters the best score so far."""
        with _unchanged_by_others(self._path):
            self._storage.set_trial_intermediate_value(self._ids[number], epoch, best)

    def end(self, number: int, state: TrialState, values: list[float] | None, reason: str) -> None:
        """Enters how a trial has ended, and why."""
        with _unchanged_by_others(self._path):
            self._storage.set_trial_user_attr(self._ids[number], "reason", reason)
            self.study.tell(self._storage.get_trial(self._ids[number]).number, values, state)


def _open_file(path: Path, say: Callable[[str], None]) -> _Storage:
    """The journal at ``path``, for the one process that drives the study; ``say`` is told of what is repaired.

    Raises:
        UsageError: it is damaged.
        OSError: it cannot be written to, or is a link.
    """
    with others_excluded(path):
        if path.exists() and drop_torn_line(path):
            say(f"{path}: a half-written last line was dropped")
    append(path, "")
    try:
        check_last_line(path)
        return _Storage(_JournalFile(str(path)))
    except Exception as error:  # Optuna's journal raises what its parser raises
        raise UsageError([damaged_journal(path, error)]) from error
