"""Files that are written whole: a crash leaves the old one or the new one, and a planted link leads nowhere."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"  # how the names of files end that are not whole yet; a killed process may leave one behind


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` once the block has ended well; until then the old one stays.

    It is written beside ``path`` under a name that nobody can foresee, and is never an existing file or a link. A link
    at ``path`` is replaced, not followed.

    Raises:
        OSError: it cannot be written, for instance because the disk is full.
    """
    partial = path.with_name(f".{secrets.token_hex(8)}{PARTIAL}")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def append(path: Path, text: str) -> None:
    """Adds ``text`` (UTF-8) to the end of the file, which is made where there is none; a link is not followed.

    Raises:
        OSError: it cannot be written, or is a link.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
