"""Which trials are stopped early: decisions as pure functions of the learning curves in the ledger.

Nothing is remembered between decisions, so nothing can be lost: a resumed study, a simulation and a run in another
order of arrival decide alike on the same curves.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Curve:
    """What a trial has achieved: its running best minority F1 after each epoch, and whether it ended by itself."""

    best: Sequence[float]
    ended: bool = False  # by patience or at the last epoch, not stopped by a scheduler

    def at(self, epoch: int) -> float | None:
        """The running best after ``epoch``; a trial that ended by itself stands with its last; None: not there."""
        if len(self.best) >= epoch:
            return self.best[epoch - 1]
        return self.best[-1] if self.ended and self.best else None


class Scheduler(Protocol):
    """Decides whether a running trial goes on."""

    def stops(self, own: Curve, others: Iterable[Curve]) -> bool:
        """Whether the trial with the curve ``own`` is to be stopped now, given all the others."""
        ...


@dataclass(frozen=True)
class Never:
    """Every trial runs to its own end."""

    def stops(self, own: Curve, others: Iterable[Curve]) -> bool:
        return False


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    At the milestones ``grace * reduction_factor ** k`` a trial goes on if it is among the best
    ``1 / reduction_factor`` (rounded up) of all that got there. No decision is made before that many trials as
    ``reduction_factor`` are there.
    """

    grace: int  # epochs
    reduction_factor: int = 3

    def stops(self, own: Curve, others: Iterable[Curve]) -> bool:
        epoch = len(own.best)
        if not self._is_milestone(epoch):
            return False
        rung = [value for curve in others if (value := curve.at(epoch)) is not None]
        num_records = len(rung) + 1
        if num_records < self.reduction_factor:
            return False
        num_better = sum(value > own.best[-1] for value in rung)
        return num_better >= math.ceil(num_records / self.reduction_factor)

    def _is_milestone(self, epoch: int) -> bool:
        milestone = self.grace
        while milestone < epoch:
            milestone *= self.reduction_factor
        return milestone == epoch


SCHEDULERS = ("asha", "none")


def make(name: str, epochs: int) -> Scheduler:
    """The scheduler called ``name`` for trials of at most ``epochs``; grace is a fifth of them."""
    return Asha(grace=math.ceil(epochs / 5)) if name == "asha" else Never()
