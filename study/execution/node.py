"""What a node of a cluster tells of itself. Sent there whole, it needs Python alone: nothing else may be there."""

from typing import Any


def describe(token: str) -> dict[str, Any]:
    """This machine's view: ``token`` is the path of a file that the driver has written where the study goes.

    "token": what stands in it, "unseen" or "unwritable": why it cannot be read, or nothing be written beside it;
    "torch": its version; "code": a digest of each file of what trials run; "free_bytes": of memory. What is not
    there is None, "" or empty.
    """
    import hashlib
    import importlib.util
    import os
    from contextlib import suppress
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path

    told: dict[str, Any] = {"token": "", "unseen": "", "unwritable": "", "torch": None, "code": {}, "free_bytes": None}
    try:
        told["token"] = Path(token).read_text()
    except OSError as error:
        told["unseen"] = error.strerror or str(error)
    else:
        own = Path(f"{token}.{os.getpid()}")
        try:
            own.touch()
            own.unlink()
        except OSError as error:
            told["unwritable"] = error.strerror or str(error)
    with suppress(PackageNotFoundError):
        told["torch"] = version("torch")
    found = importlib.util.find_spec("trainable")
    if found is not None and found.origin is not None:
        top = Path(found.origin).parent
        told["code"] = {
            str(path.relative_to(top.parent)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in top.rglob("*.py")
        }
    with suppress(OSError, KeyError, ValueError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        told["free_bytes"] = int(lines["MemAvailable"].split()[0]) * 1024
    return told
