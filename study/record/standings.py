"""All learning curves of a study seen across: what the trials had at each epoch."""

from bisect import insort
from collections import defaultdict
from collections.abc import Sequence


class Standings:
    """All curves seen across: for each epoch what the trials that got there had, sorted.

    Built from nothing but the curves, in whatever order they come.
    """

    def __init__(self) -> None:
        self._values: dict[int, list[float]] = defaultdict(list)

    def at(self, epoch: int) -> Sequence[float]:
        """The running best score of each trial after ``epoch``, ascending."""
        return self._values[epoch]

    def enter(self, epoch: int, best: float) -> None:
        """A trial got to ``epoch`` with the running best ``best``."""
        insort(self._values[epoch], best)

    def end(self, num_epochs: int, best: float, max_epochs: int) -> None:
        """A trial has ended by itself after ``num_epochs``, and stands in all later epochs with its best."""
        for epoch in range(num_epochs + 1, max_epochs + 1):
            self.enter(epoch, best)
