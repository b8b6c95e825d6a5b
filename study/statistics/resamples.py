"""Models' scores on the validation images and on resamples of them.

The images are drawn anew within each class. Images of a group (photographs of one thing) are drawn together, as they
were: six of them say little more than one. All trials are scored on the same resamples, so that what two of them have
in common cancels in their difference.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainable.images.drawing import are_alone
from trainable.objectives import MINORITY_F1, Objective
from trainable.streams import derive

BLOCK_SIZE = 64  # trials whose predictions are float32 at a time


@dataclass(frozen=True)
class Scores:
    """What the objective gives T trials on the validation images and on R resamples of them; it is about K classes."""

    score: np.ndarray  # float64 (T,), in [0, 1]
    resampled: np.ndarray  # float32 (T, R)
    class_scores: np.ndarray  # float64 (T, K), in [0, 1]
    # What follows counts independent images: those of a class, or as many as its groups are worth, see ``_worth``.
    class_sizes: np.ndarray  # float64 (T, K): what a class's score is a share of; of F1, 2 TP + FP + FN
    class_counts: np.ndarray  # (K,): images of each class
    class_weights: np.ndarray  # float64 (T, K): how much of the score is the class's; each row sums to 1
    objective: Objective = MINORITY_F1

    @property
    def degrees_of_freedom(self) -> int:
        """Of a variance over the images; of one class's alone where the worst decides, whichever it is."""
        counts = self.class_counts
        return int(max(counts.min() - 1 if self.objective.worst else counts.sum() - len(counts), 1))


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
        objective: Objective = MINORITY_F1,
    ) -> None:
        """``labels``: whole numbers in [0, num_classes), shape (n,); ``groups``: equal for images of one group, (n,).

        Raises:
            ValueError: a class that the objective is about has no image, of which nothing can be said.
        """
        self.objective, self._num_classes, self._seed = objective, num_classes, seed
        self.classes = objective.classes(num_classes, minority)
        counts = np.bincount(labels, minlength=num_classes)
        if not counts[self.classes].all():
            found = counts[self.classes].tolist()
            raise ValueError(f"{objective.words}: every class of it needs an image, but they have {found}")
        ends = np.cumsum(counts)
        # sorted by class, so that a class is a slice
        self._order = np.argsort(labels, kind="stable")
        self._slices = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        rng = np.random.default_rng(derive("resampling", seed))
        # row 0 is the images as they are: float32 (1 + num_resamples, n), 20 MB for 1,000 × 5,000
        self._weights = np.ones((1 + num_resamples, len(labels)), np.float32)
        # of each of the classes: its images in each resample, and its independent ones
        self._totals: list[Any] = list(counts[self.classes])
        self.counts = counts[self.classes]
        self._groups = None if groups is None or are_alone(groups) else groups[self._order]
        # what is drawn together: of each image which one it belongs to, of each of these the class
        self._clusters, self._classes = np.arange(len(labels)), labels[self._order]
        if self._groups is None:
            for images in self._slices:
                self._weights[1:, images] = _class_weights(images.stop - images.start, num_resamples, rng)
        else:
            self._clusters = np.unique(self._groups, return_inverse=True)[1]
            self._classes = _classes_of(self._clusters, self._classes, num_classes)
            drawn = np.empty((num_resamples, len(self._classes)), np.float32)
            for label in np.unique(self._classes):
                members = np.flatnonzero(self._classes == label)
                drawn[:, members] = _class_weights(len(members), num_resamples, rng)
            self._weights[1:] = drawn[:, self._clusters]
            self._totals = self._sizes()
            self.counts = np.array([_worth(self._clusters[self._slices[name]]) for name in self.classes])
        self._num_images = counts[self.classes]
        self._worths = self.counts / self._num_images  # of an image of each class; 1 without groups

    def _sizes(self) -> list[np.ndarray]:
        """Of each of the classes how many images it has in each resample, float64 (1 + R,)."""
        return [self._weights[:, self._slices[name]].sum(axis=1, dtype=np.float64) for name in self.classes]

    def parts(self, num_parts: int, num_repeats: int) -> np.ndarray:
        """The images dealt out: in which of ``num_parts`` parts each is, int64 (num_repeats, n).

        At random each time; each class evenly, groups whole, in the class that they have most of.
        """
        rng = np.random.default_rng(derive("choice", self._seed))
        dealt = np.empty((num_repeats, len(self._classes)), np.int64)
        for label in np.unique(self._classes):
            members = np.flatnonzero(self._classes == label)
            places = rng.permuted(np.tile(np.arange(len(members)), (num_repeats, 1)), axis=1)
            dealt[:, members] = (places + rng.integers(num_parts, size=(num_repeats, 1))) % num_parts
        found = np.empty((num_repeats, len(self._order)), np.int64)
        found[:, self._order] = dealt[:, self._clusters]
        return found

    def counting(self, times: np.ndarray) -> "Resamples":
        """Others of the same images, each of which says how often an image comes: ``times``, (R, n)."""
        other = copy(self)
        other._weights = np.ones((1 + len(times), len(self._order)), np.float32)
        other._weights[1:] = times[:, self._order]
        other._totals = other._sizes()
        return other

    def score(self, judged: np.ndarray) -> Scores:
        """The scores of trials of which the objective looks at ``judged``, (T, n) or (T, n, classes); see there."""
        num_trials, num_images = judged.shape[:2]
        if num_images != len(self._order):
            raise ValueError(f"predictions of {num_images} images, but there are {len(self._order)}")
        class_scores = np.empty((num_trials, len(self.classes)))
        class_sizes = np.empty_like(class_scores)
        resampled = np.empty((num_trials, len(self._weights) - 1), np.float32)
        weights = self.objective.weights(self._num_images)
        for start in range(0, num_trials, BLOCK_SIZE):
            trials = slice(start, start + BLOCK_SIZE)
            block = judged[trials][:, self._order]
            shares = self._ranked(block) if self.objective.of_scores else self._shares(block)
            total = np.full((len(block), len(self._weights)), float(self.objective.worst), np.float32)
            for index, (values, sizes) in enumerate(shares):
                class_scores[trials, index] = values[:, 0].astype(np.float64) / sizes[:, 0]
                class_sizes[trials, index] = sizes[:, 0] * self._worths[index]
                # groups of several classes may leave a resample without one of them
                share = values / np.maximum(sizes, np.float32(1e-6))
                if self.objective.worst:
                    np.minimum(total, np.where(sizes > 0, share, 1), out=total)
                else:
                    total += share * np.float32(weights[index])
            resampled[trials] = total[:, 1:]
        if self.objective.worst:
            lowest = class_scores.argmin(axis=1)[:, None]
            of_trials = (np.arange(len(self.classes)) == lowest).astype(np.float64)
        else:
            of_trials = np.broadcast_to(weights, class_scores.shape)
        score = (class_scores * of_trials).sum(axis=1)
        return Scores(score, resampled, class_scores, class_sizes, self.counts, of_trials, self.objective)

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
        return Scores(of_class[:, 0], found[:, 1:], of_class, sizes, np.array([worth]), np.ones_like(sizes))

    def _shares(self, block: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each class's score as a share of a size, float32 (block, 1 + R) both, from predicted classes (block, n)."""
        for index, name in enumerate(self.classes):
            images, weights = self._slices[name], self._weights[:, self._slices[name]]
            if self.objective.measure == "f1":
                called = (block == name).astype(np.float32)
                # 2 TP + FP + FN = all that are of the class + all that were called it
                yield 2 * (called[:, images] @ weights.T), self._totals[index] + called @ self._weights.T
            else:
                credit = self.objective.credit(self._num_classes)[name].astype(np.float32)
                values = credit[block[:, images]] @ weights.T
                yield values, np.broadcast_to(np.float32(self._totals[index]), values.shape)

    def _ranked(self, block: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As ``_shares``, of average precision, from the classes' scores (block, n, classes).

        On the resamples it is linear in how often each image comes (the infinitesimal jackknife: Efron 1982, "The
        jackknife, the bootstrap and other resampling plans", chapter 6), for sorting 1,000 times would take minutes.
        """
        for index, name in enumerate(self.classes):
            images = self._slices[name]
            found = [average_precision(scores[:, index], images) for scores in block]
            precision = np.array([value for value, _ in found])[:, None]
            influence = np.array([slope for _, slope in found], np.float32)
            values = precision + influence @ (self._weights - 1).T
            size = np.float32(images.stop - images.start)
            yield np.clip(values, 0, 1) * size, np.full_like(values, size)


def average_precision(scores: np.ndarray, own: slice) -> tuple[float, np.ndarray]:
    """Of the images ``own`` against all others, and how it changes with the number of each image, float64 (n,).

    As scikit-learn's: the mean over the class's images of the precision down to the image's score, ties included.
    """
    order = np.argsort(-scores, kind="stable")
    is_own = np.zeros(len(scores), bool)
    is_own[own] = True
    falls = np.flatnonzero(np.diff(scores[order]))  # the last image of each score but the lowest
    ends = np.append(falls, len(scores) - 1)
    found, seen = np.cumsum(is_own[order])[ends], ends + 1.0
    gained = np.diff(found, prepend=0)
    number = found[-1]
    precision = found / seen
    value = float(gained @ precision / number)
    # one image more at a score: of the class, it is itself found at that precision, and found at all scores below;
    # of any class, it is seen at all of these
    later_found = np.cumsum((gained / seen)[::-1])[::-1]
    later_seen = np.cumsum((gained * found / seen**2)[::-1])[::-1]
    place = np.empty(len(scores), np.int64)
    place[order] = np.searchsorted(ends, np.arange(len(scores)))
    slope = -later_seen[place] + is_own * (precision[place] + later_found[place] - value)
    return value, slope / number


def _worth(groups: np.ndarray) -> float:
    """As how many independent images those of groups of unlike sizes count: Kish's effective number of groups."""
    sizes = np.unique(groups, return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _classes_of(groups: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The class that each of the groups has most of, int64; ``groups`` are numbers from 0, none left out.

    What one group alone would say of a class's variance is nothing: such groups make a class of their own together.
    """
    counts = np.zeros((groups.max() + 1, num_classes), np.int64)
    np.add.at(counts, (groups, labels), 1)
    classes = counts.argmax(axis=1)
    alone = np.flatnonzero(np.bincount(classes, minlength=num_classes) == 1)
    classes[np.isin(classes, alone)] = num_classes
    return classes


def _class_weights(num_images: int, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """float64 (num_resamples, num_images); each row sums to num_images."""
    if num_images < 2:  # nothing to learn a variance from
        return np.ones((num_resamples, num_images))
    drawn = rng.integers(num_images, size=(num_resamples, num_images - 1), dtype=np.int32).astype(np.int64)
    drawn += num_images * np.arange(num_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_images)
    return counts.reshape(num_resamples, num_images) * (num_images / (num_images - 1))
