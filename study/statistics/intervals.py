"""How sure a score is, given the trained model: intervals, paired differences, the trials tied with the first.

What is random here is the validation images, see ``resamples``; the model and its epoch are fixed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from study.statistics.resamples import Scores
from study.words import signed

PSEUDO_COUNT = 0.5  # of a class: errors, and halves of true positives, that were not seen and could have been


@dataclass(frozen=True)
class Intervals:
    """Estimates with the ends of their intervals: float64, all of one shape."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def intervals(scores: Scores, confidence: float = 0.95) -> Intervals:
    """Each model's score over all images like these, shape (T,)."""
    f1, added = smoothed(scores)
    variance = scores.resampled.var(axis=1, dtype=np.float64) + added
    return wilson(scores.score, f1, variance, t_quantile(scores.degrees_of_freedom, confidence))


def wilson(estimate: np.ndarray, f1: np.ndarray, variance: np.ndarray, t: float | np.ndarray) -> Intervals:
    """Intervals of scores in [0, 1] from their variances at the smoothed scores ``f1``, all of one shape.

    Wilson's score interval at the effective sample size F (1 - F) / variance, as for proportions from complex surveys
    (Dean & Pagano 2015), with Student's t. On the logit scale it is symmetric around the estimate, reaching
    2 asinh(t × standard error / 2) to each side (Newcombe 2001): so it stays inside [0, 1] and holds near 1, where
    errors are few and the plain bootstrap sees too little variance.
    """
    size = f1 * (1 - f1) / variance
    shrink = 1 / (1 + t**2 / size)
    centre = shrink * (estimate + t**2 / (2 * size))
    half = shrink * t * np.sqrt(estimate * (1 - estimate) / size + (t / (2 * size)) ** 2)
    # at 0 and 1 the ends meet the estimate but for rounding
    return Intervals(estimate, np.clip(centre - half, 0, estimate), np.clip(centre + half, estimate, 1))


def smoothed(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Scores with pseudo-counts added to each of their classes, and the variance that these bring, float64 (T,) each.

    c errors, and as many true positives as count like them, each a Poisson count: so a class without a single error
    counts as one that could have had some, with the variance that a small number of errors has.
    """
    c, weights = PSEUDO_COUNT, scores.class_weights
    sizes = scores.class_sizes + 2 * c
    values = (scores.class_scores * scores.class_sizes + c) / sizes
    # of F1: dF1 = (2 (1 - F1) dTP - F1 d(FP + FN)) / size, with c / 2 true positives; of a share, with c of them:
    # d = ((1 - share) dTP - share dFN) / size
    times = 2 if scores.objective.measure == "f1" else 1
    added = c * (times * (1 - values) ** 2 + values**2) / sizes**2
    return (values * weights).sum(axis=1), (added * weights**2).sum(axis=1)


def difference(
    scores: Scores, first: int | np.ndarray, second: int | np.ndarray, confidence: float = 0.95
) -> Intervals:
    """The score of the trials ``first`` less that of the trials ``second`` (indices), on the same images.

    Student's t around the difference, with the paired standard error of the resamples. As for matched proportions
    (Agresti & Min 2005) one image is added on which only one of the two errs.
    """
    estimate = scores.score[first] - scores.score[second]
    deviation = scores.resampled[first] - scores.resampled[second]
    added = discordance(scores)
    variance = deviation.var(axis=-1, dtype=np.float64) + added[first] + added[second]
    half = t_quantile(scores.degrees_of_freedom, confidence) * np.sqrt(variance)
    return Intervals(estimate, estimate - half, estimate + half)


def discordance(scores: Scores) -> np.ndarray:
    """A trial's half of the variance that one error more, in any of the classes, brings a difference, float64 (T,)."""
    return 0.5 * (scores.class_weights * (scores.class_weights / scores.class_sizes) ** 2).sum(axis=1)


def behind(scores: Scores, first: int, confidence: float = 0.95) -> Intervals:
    """The score of the trial ``first``, the best, less that of each trial, shape (T,); of itself 0.

    The one decision on who is tied: a trial is, if its interval is not above 0. The truly best is then among them with
    ``confidence``. Multiple comparisons with the best (Hsu 1984): an interval reaches as far below its estimate, in
    paired standard errors, as the ``confidence`` quantile of the largest deficit to any trial that resampling alone
    gives the trial (and at least as far as Student's t, as for ``difference``). The truly best has no true deficit to
    any, so that it is left out with at most 1 - ``confidence``, however many trials there are and whichever is first.
    """
    deviations = scores.resampled - scores.resampled.mean(axis=1, keepdims=True)  # (T, R)
    covariance = (deviations @ deviations.T).astype(np.float64) / deviations.shape[1]
    # an image added for either of the two to err on alone
    variances = np.diagonal(covariance) + 2 * discordance(scores)
    largest, error = np.empty(len(deviations)), np.empty(len(deviations))
    buffer = np.empty_like(deviations)
    for trial, own in enumerate(deviations):
        errors = np.sqrt(variances + variances[trial] - 2 * covariance[trial])  # (T,)
        np.subtract(deviations, own, out=buffer)
        np.divide(buffer, errors[:, None].astype(np.float32), out=buffer)
        largest[trial], error[trial] = np.quantile(buffer.max(axis=0), confidence), errors[first]
    # the standard errors are estimates, and the largest of many deficits is often one whose error came out small: a
    # point of the normal distribution becomes that of Student's t on the images of the smallest class alone
    critical = stats.t.ppf(stats.norm.cdf(largest), max(scores.class_counts.min() - 1, 1))
    reach = np.maximum(critical, t_quantile(scores.degrees_of_freedom, confidence)) * error
    reach[first] = 0
    estimate = scores.score[first] - scores.score
    return Intervals(estimate, estimate - reach, estimate + reach)


def tied_with_best(scores: Scores, confidence: float = 0.95) -> np.ndarray:
    """Which trials the images cannot tell from the one with the highest score, see ``behind``: bool (T,)."""
    return behind(scores, int(scores.score.argmax()), confidence).low <= 0


def t_quantile(degrees_of_freedom: float | np.ndarray, confidence: float) -> Any:
    """Where Student's t interval of ``confidence`` ends, in standard errors."""
    return stats.t.ppf((1 + confidence) / 2, degrees_of_freedom)


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval, in units of F1."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return signed(self, 3)
