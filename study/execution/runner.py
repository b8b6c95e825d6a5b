"""A trial's way from a proposal to its end, whoever runs it: record its row, then complete it, cut it, or let it go on.

Knows no executor: Ray Tune (tune.py), one trial after the other in this process (inline.py) and a simulation
(simulated.py) hand out what ``next`` gives and bring back what the trials report.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Protocol

from study.record.ledger import Ledger
from study.record.trial import Trial
from study.strategy.scheduler import Scheduler, why_stopped
from trainable import command
from trainable.cli import UsageError, unwritable
from trainable.report import Report

MAX_FAILURES_IN_A_ROW = 10


class TrialSource(Protocol):
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
    def is_out_of_time(self) -> bool:
        """Whether the time budget is spent: then the epochs that are running are not waited for."""
        return self._deadline is not None and time.monotonic() > self._deadline

    @property
    def requested(self) -> bool:
        return self.interrupted or self.is_out_of_time

    @contextmanager
    def on_signals(self, say: Callable[[str], None]) -> Iterator[None]:
        """The first SIGINT, SIGTERM or SIGHUP asks for a pause; the second ends the process at once."""
        told: SimpleQueue[str] = SimpleQueue()

        def handle() -> None:
            if self.interrupted:
                command.end_at_once()
            self.interrupted = True
            # not from here: the main thread may be in the midst of printing
            told.put("interrupted: finishing the running epochs, which are kept; Ctrl-C again ends now")

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


class Runner:
    """The trials of a study that are under way, for one executor."""

    def __init__(
        self,
        ledger: Ledger,
        source: TrialSource,
        scheduler: Scheduler,
        pause: Pause,
        on_change: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        """``on_change`` is told of a trial after each entry, and so are all ``listeners``."""
        self.ledger, self.source, self.scheduler, self.pause = ledger, source, scheduler, pause
        self.listeners = [on_change]
        self.active: set[int] = set()  # numbers of the trials that have been handed out and go on
        self._failures_in_a_row: list[str] = []
        self._broken: str | None = None  # why nothing more may be written

    @property
    def stops(self) -> bool:
        """Whether no further epoch is to be begun."""
        hopeless = len(self._failures_in_a_row) >= MAX_FAILURES_IN_A_ROW
        return self.pause.requested or hopeless or self._broken is not None

    def next(self) -> Trial | None:
        """The next trial to run; None when there is none, or the study is to stop."""
        trial = None
        if not self.stops:
            with self._writing():
                trial = self.source.next()
        if trial is not None:
            self._tell(trial)
            self.active.add(trial.number)
        return trial

    def report(self, number: int, report: Report) -> bool:
        """Enters what a trial reports; True if it goes no further: it is over, or the study is to stop."""
        self._broken = self._broken or report.unwritable or None
        if report.failure:
            self.fail(number, report.failure)
        elif self._broken is None:
            with self._writing():
                self._enter(number, report)
            self._tell(self.ledger.trials[number])
        return number not in self.active or self.stops

    def fail(self, number: int, reason: str) -> None:
        """The trial has come to nothing, or whatever ran it."""
        self.active.discard(number)
        if self._broken is None:
            with self._writing():
                self.ledger.fail(number, reason)
            self._failures_in_a_row.append(f"trial {number}: {reason}")
            self._tell(self.ledger.trials[number])

    def leave(self, number: int) -> None:
        """The trial is run no further for now; in the ledger it stays as it is, and whoever resumes takes it up."""
        self.active.discard(number)

    def raise_what_broke_it(self) -> None:
        """To be called when no trial is under way any more.

        Raises:
            FolderError: the folder cannot be written to, or is gone; says what is kept, and how to go on.
            TooManyFailuresError: ten trials in a row have failed.
        """
        if self._broken is not None:
            if gone := self.ledger.gone():
                back = "once it is back in its place, the same command goes on"
                raise FolderError(f"{gone}: was deleted or moved while the study ran; {back}")
            kept = "nothing is lost, the same command goes on once this is put right"
            raise FolderError(f"{self._broken}; {kept}")
        if len(self._failures_in_a_row) >= MAX_FAILURES_IN_A_ROW:
            raise TooManyFailuresError(self._failures_in_a_row[0])

    def _enter(self, number: int, report: Report) -> None:
        trial = self.ledger.trials[number]
        trial.gpu_bytes = report.gpu_bytes
        if report.row is not None:
            self.ledger.record(number, report.row)
        if report.reason:
            self.ledger.complete(number, report.reason)
        elif why := why_stopped(self.scheduler, trial, self.ledger):
            self._tell(trial)  # of its row, before its end
            self.ledger.stop(number, why)
        else:
            return
        self.active.discard(number)
        self._failures_in_a_row.clear()

    def _tell(self, trial: Trial) -> None:
        for listener in self.listeners:
            listener(trial)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Writing to the ledger; after a failure what is half written must be repaired before anything is added."""
        try:
            yield
        except OSError as error:
            self._broken = unwritable(error)
        except UsageError as error:
            self._broken = "; ".join(error.problems)
