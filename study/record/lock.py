"""Who may change a study: one process at a time."""

from pathlib import Path

from filelock import FileLock, Timeout

from trainable.cli import UsageError
from trainable.files import remove_partials

LOCK = ".lock"


def check_unlocked(folder: Path) -> None:
    """Refuses a study that another process is at, where only that is asked; the next moment it may be otherwise.

    Raises:
        UsageError: another process holds its lock.
        OSError: the lock cannot be tried.
    """
    if (folder / LOCK).exists():
        _acquired(folder).release()


def locked(folder: Path) -> FileLock:
    """The lock of the study in ``folder``, held until it is released or the process ends.

    What others have left half written there is removed.

    Raises:
        OSError: the folder cannot be written to.
        UsageError: another process holds it.
    """
    lock = _acquired(folder)
    remove_partials(folder)
    return lock


def _acquired(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UsageError([f"{folder}: another process is running this study"]) from None
    return lock
