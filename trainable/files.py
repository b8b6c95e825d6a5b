"""Files of results: written whole, so that a crash leaves the old one or the new one; and no link is ever followed."""

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trainable.cli import UsageError

PARTIAL = ".partial"  # how the names of files end that are not whole yet; a killed process may leave one behind
EARLIER_PARTIAL = "validation.partial.npz"  # the one such name of earlier versions that ends otherwise
OPTUNA_LOCK = "study.journal.lock"  # other programs write to the journal by it, and make it as a link
SCRATCH = ".tune"  # Ray Tune's own folder, removed at the start of a search: nothing in it is ever read
MAX_TOLD = 5
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` once the block has ended well; until then the old one stays.

    It is written beside ``path`` under a name that nobody can foresee, and is never an existing file or a link. A link
    at ``path`` is replaced, not followed. When the block has ended the file is on disk, and so is its name.

    Raises:
        OSError: it cannot be written, for instance because the disk is full.
    """
    partial = path.with_name(f".{secrets.token_hex(8)}{PARTIAL}")
    with naming(path):
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            _sync(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError in here names ``path``: that of a write names no file, and one of a file beside it says little."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append(path: Path, text: str) -> None:
    """Adds ``text`` (UTF-8) to the end of the file, which is made where there is none; on disk when this returns.

    Raises:
        OSError: it cannot be written, or is a link.
    """
    with naming(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def check_plain(path: Path) -> None:
    """Refuses what is no plain file: a named pipe or a device would let its reader wait, or read, for ever.

    Raises:
        OSError: it is something else, or not there.
    """
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"it is {KINDS.get(kind, 'a device')} and no plain file", str(path))


def check_writable(folder: Path, flag: str) -> None:
    """Refuses a folder in which no file can be made; where there is none yet, the one that will hold it counts.

    It is tried, with a file without a name: permissions alone know nothing of a disk that can only be read.

    Raises:
        UsageError: it cannot be written to; names the ``flag`` that says where it is.
    """
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UsageError([f"{flag} {folder}: cannot be written ({error.strerror or error})"]) from error


def check_folder(folder: Path) -> None:
    """Looks through a results folder, which may be somebody else's, before anything in it is read or written.

    A link could lead a command to files elsewhere, and a named pipe could let it wait for ever. The folder itself may
    be a link, or lie behind one. Where there is none, nothing is wrong.

    Raises:
        UsageError: something in it is neither a plain file nor a plain folder, or a folder cannot be read.
    """
    problems: list[str] = []
    waiting = [str(folder)]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting += [entry.path] if entry.name != SCRATCH else []
                    # a lock is only ever made and removed: a link of this name leads nobody anywhere
                    elif not (entry.is_file(follow_symlinks=False) or entry.name.startswith(OPTUNA_LOCK)):
                        problems += _odd(entry.path)
        except (FileNotFoundError, NotADirectoryError):  # a study that runs removes what it had half written
            continue
        except OSError as error:
            problems.append(f"{place}: cannot be read ({error.strerror})")
    if problems:
        more = [f"{folder}: holds {len(problems) - MAX_TOLD} more like these"] if len(problems) > MAX_TOLD else []
        raise UsageError([*sorted(problems)[:MAX_TOLD], *more])


def _odd(path: str) -> list[str]:
    try:
        kind = KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "a device")
    except FileNotFoundError:
        return []
    return [f"{path}: is {kind}; a results folder may hold plain files and folders only"]


def inside(folder: Path, name: object) -> Path:
    """The path ``name``, which was read from a file, in ``folder``.

    Raises:
        UsageError: it is no name, or leads out of the folder.
    """
    if isinstance(name, str) and "\0" not in name:
        path = folder / name
        root = Path(os.path.realpath(folder))
        if root in Path(os.path.realpath(path)).parents:
            return path
    raise UsageError([f"{folder}: a file in it says that a trial lies in {name!r}, which does not lie in that folder"])


def remove_partials(folder: Path) -> None:
    """Removes what killed processes have left half written in a results folder; for whoever holds the study's lock.

    Raises:
        OSError: it cannot be removed.
    """
    for place, folders, files in os.walk(folder):
        for name in files:
            if name.endswith(PARTIAL) or name == EARLIER_PARTIAL:
                Path(place, name).unlink(missing_ok=True)
        for name in folders:
            if name.endswith(PARTIAL):
                shutil.rmtree(Path(place, name))
        folders[:] = [name for name in folders if name != SCRATCH and not name.endswith(PARTIAL)]
