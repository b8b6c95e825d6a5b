"""Which models to average, and what that gains on images that did not choose them.

Caruana et al. 2004, "Ensemble selection from libraries of models": greedy, with replacement, on held-out images.
"""

from collections.abc import Callable

import numpy as np

ROUNDS = 10  # models in an ensemble at most, those counted twice that were chosen twice

Score = Callable[[np.ndarray, np.ndarray], float]  # of labels (n,) and logits (n, num_classes)


def select(logits: np.ndarray, labels: np.ndarray, score: Score, rounds: int = ROUNDS) -> np.ndarray:
    """How often each of the M models is in the ensemble, int64 (M,), from their logits, float (M, n, num_classes).

    The best model first; then, round by round, the one that raises the score of the mean logits most, chosen before or
    not (sections 2.1 and 2.2). The rounds up to the highest score count. Equal scores go to the fewer rounds, and in a
    round to the earlier model.
    """
    chosen: list[int] = []
    reached: list[float] = []
    total = np.zeros(logits.shape[1:])
    for _ in range(rounds):
        scores = [score(labels, (total + added) / (1 + len(chosen))) for added in logits]
        best = int(np.argmax(scores))
        chosen.append(best)
        reached.append(scores[best])
        total += logits[best]
    return np.bincount(chosen[: 1 + int(np.argmax(reached))], minlength=len(logits))


def cross_fitted_gain(logits: np.ndarray, labels: np.ndarray, second: np.ndarray, first: int, score: Score) -> float:
    """The ensemble's score less that of the model ``first``, on one half of the images after choosing on the other,
    both ways, averaged. ``second``, bool (n,), says which images are of the second half."""
    gains = []
    for choose, judge in ((~second, second), (second, ~second)):
        times = select(logits[:, choose], labels[choose], score)
        together = np.tensordot(times / times.sum(), logits[:, judge], 1)
        ensemble, alone = (score(labels[judge], values) for values in (together, logits[first, judge]))
        gains.append(ensemble - alone)
    return float(np.mean(gains))
