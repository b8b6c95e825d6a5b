"""Who may change a study: one process at a time."""

from pathlib import Path

from filelock import FileLock, Timeout

from trainable.cli import UsageError
from trainable.files import remove_partials


def locked(folder: Path) -> FileLock:
    """The lock of the study in ``folder``, held until it is released or the process ends.

    What others have left half written there is removed.

    Raises:
        OSError: the folder cannot be written to.
        UsageError: another process holds it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UsageError([f"{folder}: another process is running this study"]) from None
    remove_partials(folder)
    return lock
