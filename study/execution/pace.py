"""How long a study still takes, in epochs, from how long its trials have been so far."""

import heapq
from collections.abc import Callable, Collection

import numpy as np

from study.record.trial import Trial


def epochs_left(
    trials: Collection[Trial], num_trials: int, most: int, num_slots: int, runs_in_full: Callable[[int], bool]
) -> float:
    """How many epochs, one after the other, lie before the end of the slot that will end last.

    Of ``num_trials`` in all, of at most ``most`` epochs, those not in ``trials`` yet are taken to be as long as those
    that are: separately for those whose numbers no scheduler stops (``runs_in_full``) and the others. A trial
    that runs says only that it is longer (the product-limit estimate, Kaplan and Meier 1958). The next free slot takes
    the next trial.
    """
    known = {trial.number: trial for trial in trials}
    reach = {kind: _reach([t for t in trials if runs_in_full(t.number) == kind], most) for kind in (False, True)}
    slots = [0.0] * num_slots
    # those that run have their slots already
    for number in sorted(range(num_trials), key=lambda number: number not in known):
        trial = known.get(number)
        if trial is None or trial.status == "running":
            done = min(len(trial.best), most) if trial else 0
            beyond = reach[runs_in_full(number)][done:most]
            if len(beyond):
                heapq.heapreplace(slots, slots[0] + (beyond.sum() / beyond[0] if beyond[0] else 1.0))
    return max(slots)


def _reach(trials: Collection[Trial], most: int) -> np.ndarray:
    """The share of trials that go beyond 0, 1, … epochs, float64 (most,)."""
    lengths = np.array([len(trial.best) for trial in trials], int)
    ended = np.array([trial.status != "running" for trial in trials], bool)
    goes_on = np.ones(most)
    for epochs in range(1, most):
        there = (lengths >= epochs).sum()
        if there:
            goes_on[epochs] = 1 - (ended & (lengths == epochs)).sum() / there
    return goes_on.cumprod()
