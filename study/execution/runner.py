"""One trial's way from a proposal to its end, whoever runs it: record, then complete, cut or stop. Knows no Ray."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Protocol

from study.record.ledger import Trial
from trainable import command


class Source(Protocol):
    """Hands out the trials of a ledger."""

    def next(self) -> Trial | None:
        """The next trial to run, one that was interrupted or a new one; None when there are no more."""
        ...


class Pause:
    """Whether the study is to stop after the epochs that are running; set by a signal or when time is up."""

    def __init__(self, time_budget_seconds: float | None) -> None:
        self._deadline = time.monotonic() + time_budget_seconds if time_budget_seconds else None
        self.interrupted = False

    @property
    def requested(self) -> bool:
        return self.interrupted or (self._deadline is not None and time.monotonic() > self._deadline)

    @contextmanager
    def on_signals(self, say: Callable[[str], None]) -> Iterator[None]:
        """The first SIGINT, SIGTERM or SIGHUP asks for a pause; the second ends the process at once."""
        told: SimpleQueue[str] = SimpleQueue()

        def handle() -> None:
            if self.interrupted:
                command.end_at_once()
            self.interrupted = True
            # not from here: the main thread may be in the midst of printing
            told.put("interrupted: the running epochs are finished and kept; once more to end at once")

        def tell() -> None:
            if text := told.get():
                say(text)

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        with command.on_signals(handle):
            try:
                yield
            finally:
                told.put("")
                teller.join()


class TooManyFailuresError(Exception):
    """Trial after trial has failed; the message is the first one's reason."""


class FolderError(Exception):
    """The study's folder cannot be written to, because the disk is full or so, or has files that cannot be read."""
