"""Ray's own processes: what they need of this machine, how they are started, and that their end is noticed."""

import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainable import command
from trainable.cli import EXIT_FAILED, FailedError

MIN_OPEN_FILES = 256  # 64 are too few for one trial, 128 enough for two
# of the path of a socket: "/ray/session_2026-11-26_07-00-00_123456_1234567/sockets/plasma_store" comes after the folder
MAX_FOLDER_BYTES = (103 if sys.platform == "darwin" else 107) - 68
USUAL_FOLDERS = ("/tmp", "/var/tmp")
SECONDS_BETWEEN_KNOCKS = 1.0
MAX_KNOCKS_IN_VAIN = 3


def problems() -> list[str]:
    """What this machine lacks for them, a sentence each."""
    found = []
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # Ray raises its own limit as far as that
        if hard != resource.RLIM_INFINITY and hard < MIN_OPEN_FILES:
            found.append(f"only {hard} files may be open at once, and Ray needs {MIN_OPEN_FILES} (ulimit -n)")
    if temporary_folder() is None:
        asked = [os.environ["RAY_TMPDIR"]] if "RAY_TMPDIR" in os.environ else [*_asked_folders(), *USUAL_FOLDERS]
        found.append(
            f"{' and '.join(asked)}: Ray needs a temporary folder that can be written to and whose path has at most "
            f"{MAX_FOLDER_BYTES} bytes; RAY_TMPDIR names one"
        )
    return found


def temporary_folder() -> str | None:
    """Where Ray may put its sockets and logs: the first folder that can be written to and has a path short enough.

    RAY_TMPDIR is a wish for this folder and no other; TMPDIR is not always made for sockets.
    """
    named = os.environ.get("RAY_TMPDIR")
    candidates = [named] if named is not None else [*_asked_folders(), *USUAL_FOLDERS]
    return next((folder for folder in candidates if _is_usable(folder)), None)


def _asked_folders() -> list[str]:
    return [os.environ["TMPDIR"]] if os.environ.get("TMPDIR") else []


def _is_usable(folder: str) -> bool:
    try:
        if not os.path.isabs(folder) or len(os.fsencode(folder.rstrip("/"))) > MAX_FOLDER_BYTES:
            return False
        place = os.path.join(folder, "ray")
        with tempfile.TemporaryFile(dir=place if os.path.exists(place) else folder) as file:
            file.write(b"x")
            file.flush()
        return True
    except (OSError, ValueError):  # a path that no file can have
        return False


def start(**options: Any) -> Any:
    """``ray.init``, which would leave its own handlers in the place of ours.

    What it starts never sees a SIGTERM or SIGHUP that is meant for this process, also where a closed terminal,
    ``timeout`` or a cluster's scheduler sends one to all: blocked signals are inherited. (SIGINT Ray blocks itself.)

    Raises:
        FailedError: it cannot be started, or joined; nothing of it runs any more.
    """
    import ray

    _provide_home()
    if options["address"] == "local":
        options["_temp_dir"] = os.path.join(temporary_folder() or USUAL_FOLDERS[0], "ray")
        _provide_token()
    handlers = {number: signal.getsignal(number) for number in command.SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        try:
            return ray.init(**options, logging_level=logging.CRITICAL, log_to_driver=False)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    except BaseException as error:
        ray.shutdown()  # what has been started of it
        if isinstance(error, SystemExit):  # of Ray's handler, while it was there
            raise KeyboardInterrupt from None
        if not isinstance(error, Exception):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__  # Ray raises many kinds
        raise FailedError(f"Ray cannot be started ({reason[:300]}); nothing has been changed") from error


def _provide_home() -> None:
    """Ray asks for a home when more of it is imported; into this one nothing can be put."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.devnull


def _provide_token() -> None:
    """Makes the token that Ray's servers ask for where there is none: Ray's own would be readable by everybody.

    Where it cannot be kept, for want of a home, there is one for this run.
    """
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    token = secrets.token_hex(32)
    try:
        path = Path.home() / ".ray" / "auth_token"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(token)
        path.read_bytes()
    except OSError:
        os.environ["RAY_AUTH_TOKEN"] = token


def token() -> str | None:
    """The token that Ray sends to a cluster, by Ray's own order of places; None where there is none to read."""
    if "RAY_AUTH_TOKEN" in os.environ:
        return os.environ["RAY_AUTH_TOKEN"].strip()
    try:
        path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
        return Path(path).read_text().strip()
    except (OSError, RuntimeError, ValueError):  # no such file, no home, no text
        return None


@contextmanager
def watched(addresses: Sequence[str], program: str) -> Iterator[None]:
    """While this is open, the process ends with 1 and a sentence soon after one of Ray's servers there has ended.

    Ray itself would wait for a minute in silence, and then end the process from within. Everything on disk is whole at
    any moment.
    """
    is_over = threading.Event()

    def watch() -> None:
        num_in_vain = 0
        while not is_over.wait(SECONDS_BETWEEN_KNOCKS):
            silent = [address for address in addresses if not _answers(address)]
            num_in_vain = num_in_vain + 1 if silent else 0
            if num_in_vain == MAX_KNOCKS_IN_VAIN and not is_over.is_set():
                what = f"Ray has ended: its server at {silent[0]} no longer answers"
                kept = "all epochs that were finished are kept, and the same command goes on"
                command.end_at_once(EXIT_FAILED, f"{program}: {what}; {kept}\n")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        return True
    except OSError:
        return False
