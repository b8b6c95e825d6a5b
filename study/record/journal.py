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

from optuna.exceptions import OptunaError
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.record.files import check_last_line, damaged_journal
from trainable.cli import UsageError
from trainable.files import OPTUNA_LOCK, append, naming

PATIENCE_SECONDS = 0.5  # Optuna's lock is held while a few lines are written


class _NoSketches:
    """TPE notes each proposal on its trial before the trial is entered; here a trial is entered whole, later."""

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Nothing."""


class Memory(_NoSketches, InMemoryStorage):
    pass


class Journal(_NoSketches, JournalStorage):
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
def unchanged_by_others(path: Path) -> Iterator[None]:
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


def open_file(path: Path, say: Callable[[str], None]) -> Journal:
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
        return Journal(_JournalFile(str(path)))
    except Exception as error:  # Optuna's journal raises what its parser raises
        raise UsageError([damaged_journal(path, error)]) from error
