"""Which trials are stopped early: decisions as pure functions of the learning curves in the ledger.

Nothing is remembered between decisions, so nothing can be lost: a resumed study, a simulation and a run in another
order of arrival decide alike on the same curves.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from study.record.design import is_protected
from study.record.recipes import COURSE

if TYPE_CHECKING:
    from study.record.ledger import Ledger
    from study.record.trial import Trial


FLOOR = 0.1  # of a curve's best: below it a recipe has not begun to learn the rare classes


class Scheduler(Protocol):
    """Decides whether a running trial goes on."""

    def stops(self, epoch: int, best: float, rung: Sequence[float]) -> bool:
        """Whether a trial with the running best ``best`` after ``epoch`` is to be stopped.

        ``rung`` is what the standings have at this epoch, the trial's own entry among them.
        """
        ...


@dataclass(frozen=True)
class Never:
    """Every trial runs to its own end."""

    def stops(self, epoch: int, best: float, rung: Sequence[float]) -> bool:
        return False


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    At the milestones ``grace * reduction_factor ** k`` a trial goes on if it is among the best ``1 / reduction_factor``
    (rounded up) of all that got there. No decision is made before that many trials as ``reduction_factor`` are there.
    """

    grace: int  # epochs
    reduction_factor: int = 3

    def stops(self, epoch: int, best: float, rung: Sequence[float]) -> bool:
        if not self._is_milestone(epoch) or len(rung) < self.reduction_factor:
            return False
        return _num_better(best, rung) >= math.ceil(len(rung) / self.reduction_factor)

    def _is_milestone(self, epoch: int) -> bool:
        milestone = self.grace
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

    def stops(self, epoch: int, best: float, rung: Sequence[float]) -> bool:
        if epoch < self.grace or len(rung) < self.min_trials:
            return False
        return _num_better(best, rung) > len(rung) / 2


def why_stopped(scheduler: Scheduler, trial: "Trial", ledger: "Ledger") -> str:
    """Why ``trial`` is to be stopped where it stands, as it is recorded: "stopped at 4: 7 of 21 were better".

    Empty where it goes on.
    """
    epoch = len(trial.best)
    if not epoch or is_protected(trial.number) or _may_yet_rise(trial, ledger.trials):
        return ""
    best, rung = trial.best[-1], ledger.standings.at(epoch)
    if not scheduler.stops(epoch, best, rung):
        return ""
    return f"stopped at {epoch}: {_num_better(best, rung)} of {len(rung)} were better"


def _may_yet_rise(trial: "Trial", trials: Mapping[int, "Trial"]) -> bool:
    """Whether a trial stands on the floor at an age at which one of the course's recipes did, too, or may have.

    The floor is FLOOR of the best that those have had so far; a recipe of theirs that is over and never left it says
    nothing. This holds for every second trial only: a floor that lasts for long would let none be stopped.
    """
    if trial.number % 2:
        return False
    of_course = [trials[number] for number in range(len(COURSE)) if number in trials]
    floor = FLOOR * max((found.best[-1] for found in of_course if found.best), default=0.0)
    if trial.best[-1] > floor:
        return False
    telling = [found for found in of_course if found.status == "running" or found.best[-1:] > [floor]]
    stood = any(found.best[: len(trial.best)][-1:] <= [floor] for found in telling)
    return stood or len(of_course) < len(COURSE)


def _num_better(best: float, rung: Sequence[float]) -> int:
    return len(rung) - bisect_right(rung, best)


SCHEDULERS = ("asha", "median", "none")


def make(name: str, epochs: int) -> Scheduler:
    """The scheduler called ``name`` for trials of at most ``epochs``."""
    schedulers: dict[str, Scheduler] = {
        "asha": Asha(math.ceil(epochs / 20)),
        "median": Median(math.ceil(epochs / 5)),
        "none": Never(),
    }
    return schedulers[name]
