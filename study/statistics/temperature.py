"""Temperature scaling: by what logits are divided, so that probabilities can be taken at their word."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from study.statistics.seeds import second_half
from trainable.metrics import calibration_error, softmax

LOG_RANGE = 3.0  # temperatures from 1/20 to 20


@dataclass(frozen=True)
class Temperature:
    """``value`` divides the logits; 1 where that did not help.

    The calibration errors are of images that did not choose it: each half with the temperature of the other, averaged.
    """

    value: float
    error_before: float | None = None  # without it; None: no image was left to judge it
    error_after: float | None = None


UNSCALED = Temperature(1.0)


def fit(logits: np.ndarray, labels: np.ndarray, seed: int, groups: np.ndarray | None = None) -> Temperature:
    """The temperature by which the labels are likeliest, if that of either half of the images also helps the other.

    Guo et al. 2017, "On calibration of modern neural networks", section 4.2. No decision changes by it but those by
    costs. ``logits`` (n, num_classes), ``labels`` whole numbers (n,), of images that the model was not trained on;
    ``seed`` draws the halves, stratified by class, ``groups`` (n,) whole.
    """
    second = second_half(labels, logits.shape[1], seed, groups)
    if second.all() or not second.any():  # one group, and nothing to judge a temperature by
        error = calibration_error(labels, softmax(logits))
        return Temperature(1.0, error, error)
    halves = [(logits[half], labels[half]) for half in (~second, second)]
    found = [_best(*half) for half in halves]
    crossed = list(zip(found[::-1], halves, strict=True))  # each half with what the other chose
    before = float(np.mean([calibration_error(truth, softmax(own)) for own, truth in halves]))
    after = float(np.mean([calibration_error(truth, softmax(own / value)) for value, (own, truth) in crossed]))
    if any(_loss(own / value, truth) >= _loss(own, truth) for value, (own, truth) in crossed):
        return Temperature(1.0, before, before)
    return Temperature(_best(logits, labels), before, after)


def _best(logits: np.ndarray, labels: np.ndarray) -> float:
    def loss(log_value: float) -> float:
        return _loss(logits / np.exp(log_value), labels)

    return float(np.exp(minimize_scalar(loss, bounds=(-LOG_RANGE, LOG_RANGE), method="bounded").x))


def _loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy."""
    highest = logits.max(axis=1)
    own = logits[np.arange(len(labels)), labels]
    return float((highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)) - own).mean())
