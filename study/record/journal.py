"""Optuna's journal as a study keeps it: trials entered whole, half-written lines dropped, no link followed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.record.files import check_last_line, damaged_journal
from trainable.cli import UsageError
from trainable.files import append


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
        """As Optuna's own, which would follow a link."""
        with self._lock:  # type: ignore[attr-defined]
            lines = [json.dumps(log, separators=(",", ":")) for log in logs]
            append(Path(self._file_path), "".join(f"{line}\n" for line in lines))


def drop_torn_line(path: Path) -> bool:
    """Cuts the file after its last newline; True if something was cut."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        file.truncate(whole)
        return whole < len(content)


def open_file(path: Path, say: Callable[[str], None]) -> Journal:
    """The journal at ``path``, for the one process that drives the study; ``say`` is told of what is repaired.

    Raises:
        UsageError: it is damaged.
        OSError: it cannot be written to, or is a link.
    """
    if path.exists() and drop_torn_line(path):
        say(f"{path}: a half-written last line was dropped")
    # Optuna's own lock files outlive a killed process; this lock goes with it
    lock = FileLock(f"{path}.lock")
    append(path, "")
    try:
        check_last_line(path)
        return Journal(_JournalFile(str(path), lock_obj=lock))  # type: ignore[arg-type]
    except Exception as error:  # Optuna's journal raises what its parser raises
        raise UsageError([damaged_journal(path, error)]) from error
