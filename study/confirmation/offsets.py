"""Decision offsets: what is added to a trained model's logits so that rare classes are named more, or less, often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.statistics.seeds import second_half
from trainable.objectives import MINORITY_F1, Objective

TAUS = np.arange(-20, 41) / 20


@dataclass(frozen=True)
class Offsets:
    """``values`` are added to the logits, float64 (num_classes,); all 0 where that did not help."""

    values: np.ndarray
    tau: float
    gain: float  # in the objective, on the half of the images that did not choose tau, both ways, averaged


def fit(
    logits: np.ndarray,
    labels: np.ndarray,
    train_counts: Sequence[int],
    minority: Sequence[int],
    seed: int,
    groups: np.ndarray | None = None,
    objective: Objective = MINORITY_F1,
) -> Offsets:
    """Offsets of -tau × log(share of the training images), tau in [-1, 2], the one with the highest score.

    The family is post-hoc logit adjustment with its temperature tuned on held-out images (Menon et al. 2021, "Long-tail
    learning via logit adjustment", section 4.1); a class more would fit noise where it has few images. They count as a
    help only if the tau chosen on either half of the images also raises the score on the other half; ``seed`` draws the
    halves. Equal scores go to the smaller offset.

    ``logits`` is float (n, num_classes), ``labels`` whole numbers (n,), of images that the model was not trained on.
    ``groups`` (n,) are equal for images of one group, which are all in one half.
    """
    shares = np.asarray(train_counts, float) / sum(train_counts)
    num_classes = len(shares)
    candidates = sorted(TAUS, key=lambda tau: (abs(tau), tau))
    predictions = [(logits - tau * np.log(shares)).argmax(axis=1) for tau in candidates]

    def scores(images: np.ndarray) -> np.ndarray:
        judged = [predicted[images] for predicted in predictions]
        return np.array([objective.score(labels[images], found, num_classes, minority) for found in judged])

    second = second_half(labels, num_classes, seed, groups)
    halves = scores(~second), scores(second)
    gains = [other[own.argmax()] - other[0] for own, other in (halves, halves[::-1])]
    gain = float(np.mean(gains))
    if min(gains) <= 0:
        return Offsets(np.zeros(num_classes), 0.0, gain)
    tau = float(candidates[int(scores(np.ones(len(labels), bool)).argmax())])
    return Offsets(-tau * np.log(shares) + 0.0, tau, gain)
