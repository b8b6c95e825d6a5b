"""Which trials are stopped early: decisions as pure functions of the learning curves in the ledger.

Nothing is remembered between decisions, so nothing can be lost: a resumed study, a simulation and a run in another
order of arrival decide alike on the same curves.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from study.record.recipes import COURSE
from study.strategy import design

if TYPE_CHECKING:
    from study.record.ledger import Ledger
    from study.record.trial import Trial


FLOOR = 0.1  # of a curve's best: below it nothing is known of the recipe yet


class Scheduler(Protocol):
    """Decides whether a running trial goes on."""

    def stops(self, epoch: int, best: float, rung: Sequence[float], risen: int = 1) -> bool:
        """Whether a trial with the running best ``best`` after ``epoch`` is to be stopped.

        ``rung`` is what the standings have at this epoch, the trial's own entry among them. No trial is stopped before
        the epoch ``risen``.
        """
        ...


@dataclass(frozen=True)
class Never:
    """Every trial runs to its own end."""

    def stops(self, epoch: int, best: float, rung: Sequence[float], risen: int = 1) -> bool:
        return False


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    At the milestones ``grace * reduction_factor ** k``, or from ``risen`` on where that is later, a trial goes on if it
    is among the best ``1 / reduction_factor`` (rounded up) of all that got there. No decision is made before that many
    trials as ``reduction_factor`` are there.
    """

    grace: int  # epochs
    reduction_factor: int = 3

    def stops(self, epoch: int, best: float, rung: Sequence[float], risen: int = 1) -> bool:
        if not self._is_milestone(epoch, max(self.grace, risen)) or len(rung) < self.reduction_factor:
            return False
        return _num_better(best, rung) >= math.ceil(len(rung) / self.reduction_factor)

    def _is_milestone(self, epoch: int, milestone: int) -> bool:
        while milestone < epoch:
            milestone *= self.reduction_factor
        return milestone == epoch


@dataclass(frozen=True)
class Median:
    """The median stopping rule (Golovin et al. 2017, "Google Vizier", section 3.2.2), on running bests.

    From ``grace`` on, at every epoch, a trial is stopped if more than half of the trials that got there are better.
    No decision is made before ``min_trials`` are there.
    """

    grace: int  # epochs
    min_trials: int = 5

    def stops(self, epoch: int, best: float, rung: Sequence[float], risen: int = 1) -> bool:
        if epoch < max(self.grace, risen) or len(rung) < self.min_trials:
            return False
        return _num_better(best, rung) > len(rung) / 2


def is_protected(number: int) -> bool:
    """Whether no scheduler stops the trial: the course's recipes, which others are held to, and points of the design.

    What is left of the others has been chosen by score; the design is a part of the space that has not.
    """
    return number < len(COURSE) or design.place(number - len(COURSE)) is not None


def why_stopped(scheduler: Scheduler, trial: "Trial", ledger: "Ledger") -> str:
    """Why ``trial`` is to be stopped where it stands, as it is recorded: "stopped at 4: 7 of 21 were better".

    Empty where it goes on.
    """
    epoch, risen = len(trial.best), _risen(ledger.trials)
    if not epoch or risen is None or is_protected(trial.number):
        return ""
    best, rung = trial.best[-1], ledger.standings.at(epoch)
    if not scheduler.stops(epoch, best, rung, risen):
        return ""
    return f"stopped at {epoch}: {_num_better(best, rung)} of {len(rung)} were better"


def _risen(trials: Mapping[int, "Trial"]) -> int | None:
    """The epoch by which both of the course's recipes had more than FLOOR of the best that they have had so far.

    None where one has nothing yet and may still rise. One that came to nothing in all its epochs says nothing.
    """
    latest = 1
    for number in range(len(COURSE)):
        trial = trials.get(number)
        if trial is None or not trial.best or trial.best[-1] <= 0:
            if trial is None or trial.status == "running":
                return None
            continue
        latest = max(latest, 1 + bisect_right(trial.best, FLOOR * trial.best[-1]))
    return latest


def _num_better(best: float, rung: Sequence[float]) -> int:
    return len(rung) - bisect_right(rung, best)


SCHEDULERS = ("asha", "median", "none")


def make(name: str, epochs: int) -> Scheduler:
    """The scheduler called ``name`` for trials of at most ``epochs``; grace is a fifth of them."""
    grace = math.ceil(epochs / 5)
    schedulers: dict[str, Scheduler] = {"asha": Asha(grace), "median": Median(grace), "none": Never()}
    return schedulers[name]
