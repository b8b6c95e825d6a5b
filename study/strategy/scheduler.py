"""Which trials are stopped early: decisions as pure functions of the learning curves in the ledger.

Nothing is remembered between decisions, so nothing can be lost: a resumed study, a simulation and a run in another
order of arrival decide alike on the same curves.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from study.record.design import is_protected

if TYPE_CHECKING:
    from study.record.ledger import Ledger
    from study.record.trial import Trial


class Scheduler(Protocol):
    """Decides whether a running trial goes on."""

    def stops(self, number: int, epoch: int, best: float, rung: Sequence[float]) -> bool:
        """Whether the trial ``number`` with the running best ``best`` after ``epoch`` is to be stopped.

        ``rung`` is what the standings have at this epoch, the trial's own entry among them.
        """
        ...


@dataclass(frozen=True)
class Never:
    """Every trial runs to its own end."""

    def stops(self, number: int, epoch: int, best: float, rung: Sequence[float]) -> bool:
        return False


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    At the milestones ``grace * reduction_factor ** k`` a trial goes on if it is among the best ``1 / reduction_factor``
    (rounded up) of all that got there. No decision is made before that many trials as ``reduction_factor`` are there.
    Every second trial is judged from the second milestone on: one of Hyperband's later brackets (Li et al. 2018,
    "Hyperband", section 3), for recipes that start slowly.
    """

    grace: int  # epochs
    reduction_factor: int = 3

    def stops(self, number: int, epoch: int, best: float, rung: Sequence[float]) -> bool:
        first = self.grace if number % 2 else self.grace * self.reduction_factor
        if not self._is_milestone(epoch, first) or len(rung) < self.reduction_factor:
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

    def stops(self, number: int, epoch: int, best: float, rung: Sequence[float]) -> bool:
        if epoch < self.grace or len(rung) < self.min_trials:
            return False
        return _num_better(best, rung) > len(rung) / 2


def why_stopped(scheduler: Scheduler, trial: "Trial", ledger: "Ledger") -> str:
    """Why ``trial`` is to be stopped where it stands, as it is recorded: "stopped at 4: 7 of 21 were better".

    Empty where it goes on.
    """
    epoch = len(trial.best)
    if not epoch or is_protected(trial.number):
        return ""
    best, rung = trial.best[-1], ledger.standings.at(epoch)
    if not scheduler.stops(trial.number, epoch, best, rung):
        return ""
    return f"stopped at {epoch}: {_num_better(best, rung)} of {len(rung)} were better"


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
