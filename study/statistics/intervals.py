"""How sure a minority F1 is, given the trained model: intervals, paired differences, the trials tied with the first.

What is random here is the validation images, drawn anew within each class; the model and its epoch are fixed. Images of
a group (photographs of one thing) are drawn together, as they were: six of them say little more than one. All trials
are scored on the same resamples, so that what two of them have in common cancels in their difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from study.words import signed
from trainable.images.drawing import are_alone
from trainable.streams import derive

BLOCK_SIZE = 64  # trials whose predictions are float32 at a time
PSEUDO_COUNT = 0.5  # of a class: errors, and halves of true positives, that were not seen and could have been


@dataclass(frozen=True)
class Intervals:
    """Estimates with the ends of their intervals: float64, all of one shape."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Scores:
    """Minority F1 of T trials on the validation images and on R resamples of them; K minority classes."""

    score: np.ndarray  # float64 (T,), in [0, 1]
    resampled: np.ndarray  # float32 (T, R), in [0, 1]
    class_f1: np.ndarray  # float64 (T, K)
    # What follows counts independent images: those of a class, or as many as its groups are worth, see ``_worth``.
    class_sizes: np.ndarray  # float64 (T, K): 2 TP + FP + FN, the denominator of F1
    class_counts: np.ndarray  # (K,): images of each minority class

    @property
    def degrees_of_freedom(self) -> int:
        """Of a variance over the images."""
        return int(max(self.class_counts.sum() - len(self.class_counts), 1))


class Resamples:
    """The validation images and how often each comes in each resample: the same for all trials of a study.

    Each class of n images is resampled on its own, n - 1 images with replacement, each counted n / (n - 1) times:
    so the variance over resamples is unbiased for a mean, where n images would give (n - 1) / n of it
    (Rao & Wu 1988, Resampling inference with complex survey data, section 2). Where images come in groups, groups take
    the place of images, each in the class that it has most of; a class then has more images in one resample than in
    another.
    """

    def __init__(
        self,
        labels: np.ndarray,
        num_classes: int,
        minority: Sequence[int],
        num_resamples: int = 1000,
        seed: int = 0,
        groups: np.ndarray | None = None,
    ) -> None:
        """``labels``: whole numbers in [0, num_classes), shape (n,); ``groups``: equal for images of one group, (n,).

        Raises:
            ValueError: a minority class has no image, of which nothing can be said.
        """
        self.minority = list(minority)
        counts = np.bincount(labels, minlength=num_classes)
        if not counts[self.minority].all():
            raise ValueError(f"every minority class needs an image, but they have {counts[self.minority].tolist()}")
        ends = np.cumsum(counts)
        # sorted by class, so that a class is a slice
        self._order = np.argsort(labels, kind="stable")
        self._slices = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        rng = np.random.default_rng(derive("resampling", seed))
        # row 0 is the images as they are: float32 (1 + num_resamples, n), 20 MB for 1,000 × 5,000
        self._weights = np.ones((1 + num_resamples, len(labels)), np.float32)
        # of each minority class: its images in each resample, and its independent ones
        self._totals: list[Any] = list(counts[self.minority])
        self.counts = counts[self.minority]
        if groups is None or are_alone(groups):
            for images in self._slices:
                self._weights[1:, images] = _class_weights(images.stop - images.start, num_resamples, rng)
        else:
            numbers = np.unique(groups[self._order], return_inverse=True)[1]
            self._weights[1:] = _group_weights(labels[self._order], numbers, num_classes, num_resamples, rng)
            self._totals = [
                self._weights[:, self._slices[name]].sum(axis=1, dtype=np.float64) for name in self.minority
            ]
            self.counts = np.array([_worth(numbers[self._slices[name]]) for name in self.minority])
        self._worths = self.counts / counts[self.minority]  # of an image of each minority class; 1 without groups
        self._groups = None if groups is None or are_alone(groups) else groups[self._order]

    def score(self, predictions: np.ndarray) -> Scores:
        """The scores of trials that predict ``predictions``: whole numbers in [0, num_classes), (T, n)."""
        num_trials, num_images = predictions.shape
        if num_images != len(self._order):
            raise ValueError(f"predictions of {num_images} images, but there are {len(self._order)}")
        class_f1 = np.empty((num_trials, len(self.minority)))
        class_sizes = np.empty_like(class_f1)
        resampled = np.empty((num_trials, len(self._weights) - 1), np.float32)
        for start in range(0, num_trials, BLOCK_SIZE):
            trials = slice(start, start + BLOCK_SIZE)
            block = predictions[trials][:, self._order]
            total = np.zeros((len(block), len(self._weights)), np.float32)
            for index, name in enumerate(self.minority):
                images = self._slices[name]
                called = (block == name).astype(np.float32)
                true_positives = called[:, images] @ self._weights[:, images].T  # (block, 1 + R)
                # 2 TP + FP + FN = all that are of the class + all that were called it
                sizes = self._totals[index] + called @ self._weights.T
                class_f1[trials, index] = 2 * true_positives[:, 0].astype(np.float64) / sizes[:, 0]
                class_sizes[trials, index] = sizes[:, 0] * self._worths[index]
                # groups of several classes may leave a resample without one of them
                total += 2 * true_positives / np.maximum(sizes, np.float32(1e-6))
            resampled[trials] = total[:, 1:] / len(self.minority)
        return Scores(class_f1.mean(axis=1), resampled, class_f1, class_sizes, self.counts)

    def shares(self, part: np.ndarray, whole: np.ndarray) -> Scores:
        """What share of the images ``whole`` are of its ``part``: for T trials, as if each was a score of one class.

        Both say how often an image counts, (T, n) or, where it is the same for all trials, (1, n). Recall is the share
        of a class's images that are found, F1 that of twice the hits among the class and all that were called it.
        """
        sums = [counted[:, self._order].astype(np.float32) @ self._weights.T for counted in (part, whole)]
        parts, wholes = np.broadcast_arrays(*sums)  # (T, 1 + R)
        found = parts / np.maximum(wholes, np.float32(1e-6))
        counted = whole[:, self._order].any(axis=0)
        num_images = max(int(counted.sum()), 1)
        worth = num_images if self._groups is None else _worth(self._groups[counted]) if counted.any() else 0.0
        sizes = wholes[:, :1].astype(np.float64) * worth / num_images
        of_class = found[:, :1].astype(np.float64)
        return Scores(of_class[:, 0], found[:, 1:], of_class, sizes, np.array([worth]))


def _worth(groups: np.ndarray) -> float:
    """As how many independent images those of groups of unlike sizes count: Kish's effective number of groups."""
    sizes = np.unique(groups, return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _group_weights(
    labels: np.ndarray, groups: np.ndarray, num_classes: int, num_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """float32 (num_resamples, n): each group's images weigh alike; groups are numbers from 0, none left out."""
    counts = np.zeros((groups.max() + 1, num_classes), np.int64)
    np.add.at(counts, (groups, labels), 1)
    classes = counts.argmax(axis=1)
    # what one group alone would say of a class's variance is nothing: such groups are drawn with each other's
    alone = np.flatnonzero(np.bincount(classes, minlength=num_classes) == 1)
    classes[np.isin(classes, alone)] = num_classes
    weights = np.empty((num_resamples, len(counts)), np.float32)
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        weights[:, members] = _class_weights(len(members), num_resamples, rng)
    return weights[:, groups]


def _class_weights(num_images: int, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """float64 (num_resamples, num_images); each row sums to num_images."""
    if num_images < 2:  # nothing to learn a variance from
        return np.ones((num_resamples, num_images))
    drawn = rng.integers(num_images, size=(num_resamples, num_images - 1), dtype=np.int32).astype(np.int64)
    drawn += num_images * np.arange(num_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_images)
    return counts.reshape(num_resamples, num_images) * (num_images / (num_images - 1))


def intervals(scores: Scores, confidence: float = 0.95) -> Intervals:
    """Each model's minority F1 over all images like these, shape (T,)."""
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
    """Minority F1 with pseudo-counts added to each minority class, and the variance they bring, float64 (T,) each.

    c errors and c / 2 true positives more, each a Poisson count: so a class without a single error counts as one
    that could have had some, with the variance that a small number of errors has.
    """
    c = PSEUDO_COUNT
    sizes = scores.class_sizes + 2 * c
    f1 = (scores.class_f1 * scores.class_sizes + c) / sizes
    # dF1 = (2 (1 - F1) dTP - F1 d(FP + FN)) / size
    added = (c / 2 * (2 * (1 - f1)) ** 2 + c * f1**2) / sizes**2
    return f1.mean(axis=1), added.sum(axis=1) / f1.shape[1] ** 2


def difference(
    scores: Scores, first: int | np.ndarray, second: int | np.ndarray, confidence: float = 0.95
) -> Intervals:
    """Minority F1 of the trials ``first`` less that of the trials ``second`` (indices), on the same images.

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
    """A trial's half of the variance that one error more, in any minority class, brings a difference, float64 (T,)."""
    return 0.5 * (scores.class_sizes**-2.0).mean(axis=1) / scores.class_sizes.shape[1] ** 2


def behind(scores: Scores, first: int, confidence: float = 0.95) -> Intervals:
    """Minority F1 of the trial ``first``, the best, less that of each trial, shape (T,); of itself 0.

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
