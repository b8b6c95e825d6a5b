"""Decision offsets: what is added to a trained model's logits so that rare classes are named more, or less, often."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from study.statistics.seeds import second_half
from trainable.images.drawing import are_alone
from trainable.objectives import MINORITY_F1, Objective
from trainable.streams import derive

TAUS = np.arange(-20, 41) / 20
SHIFTS = np.arange(-8, 9) / 4  # of one class's offset
MAX_CLASSES = 20  # that have an offset of their own, the rarest first
NUM_RESAMPLES = 30  # of the images, to see how much offsets vary

NONE, ONE_TAU, PER_CLASS = "none", "tau", "per class"


@dataclass(frozen=True)
class Offsets:
    """``values`` are added to the logits, float64 (num_classes,); all 0 where that did not help."""

    values: np.ndarray
    tau: float
    gain: float  # in the objective, on the half of the images that did not choose the offsets, both ways, averaged
    rule: str = NONE


@dataclass(frozen=True)
class Decided:
    """A model's logits of n images that it was not trained on, and what decisions are judged by."""

    logits: np.ndarray  # float (n, num_classes)
    labels: np.ndarray  # whole numbers (n,)
    train_counts: Sequence[int]  # of each class, in training
    minority: Sequence[int]
    groups: np.ndarray | None = None  # (n,), equal for images of one group
    objective: Objective = MINORITY_F1

    @property
    def log_shares(self) -> np.ndarray:
        return np.log(np.asarray(self.train_counts, float) / sum(self.train_counts))

    def of(self, images: np.ndarray) -> "Decided":
        groups = None if self.groups is None else self.groups[images]
        return Decided(
            self.logits[images], self.labels[images], self.train_counts, self.minority, groups, self.objective
        )

    def score(self, values: np.ndarray) -> float:
        """With the offsets ``values``."""
        predicted = self.objective.decide(self.logits + values)
        return self.objective.score(self.labels, predicted, len(values), self.minority)

    def halves(self, seed: int) -> "tuple[Decided, Decided]":
        """Stratified by class, groups whole."""
        second = second_half(self.labels, len(self.train_counts), seed, self.groups)
        return self.of(~second), self.of(second)


def fit(images: Decided, seed: int) -> Offsets:
    """The rule that helps most on images that did not choose it, fitted to all images; ``seed`` draws the halves.

    One tau: offsets of -tau × log(share of the training images), tau in [-1, 2], post-hoc logit adjustment with its
    temperature tuned on held-out images (Menon et al. 2021, "Long-tail learning via logit adjustment", section 4.1).
    Per class: from there on each class that the objective is about has its own. A rule counts as a help only if what
    either half of the images chooses also raises the score on the other, and per class only beyond what one tau does.
    """
    halves = images.halves(seed)
    pairs, nothing = (halves, halves[::-1]), np.zeros(len(images.train_counts))
    plain, one, own = (
        np.array([other.score(rule(chooser)) for chooser, other in pairs])
        for rule in (lambda chooser: nothing, _one_tau, _per_class)
    )
    if (own > np.maximum(one, plain)).all():
        return Offsets(_per_class(images), tau_of(images), float((own - plain).mean()), PER_CLASS)
    gain = float((one - plain).mean())
    if (one > plain).all():
        return Offsets(_one_tau(images), tau_of(images), gain, ONE_TAU)
    return Offsets(nothing, 0.0, gain)


def tau_of(images: Decided, taus: np.ndarray = TAUS) -> float:
    """The best of ``taus``; equal scores go to the smaller offset."""
    candidates = sorted(taus, key=lambda tau: (abs(tau), tau))
    return float(max(candidates, key=lambda tau: images.score(-tau * images.log_shares)))


def _one_tau(images: Decided) -> np.ndarray:
    return -tau_of(images) * images.log_shares + 0.0


def _per_class(images: Decided) -> np.ndarray:
    """One class's offset after the other is moved to where the score is highest, until none moves."""
    values = _one_tau(images)
    classes = images.objective.classes(len(values), images.minority)
    rarest = sorted(classes, key=lambda name: (images.train_counts[name], name))[:MAX_CLASSES]
    best = images.score(values)
    for _ in range(3):
        before = best
        for name in rarest:
            for shift in sorted(SHIFTS, key=abs):
                moved = values + shift * (np.arange(len(values)) == name)
                if (score := images.score(moved)) > best:
                    values, best = moved, score
        if best == before:
            break
    return values


def spread(images: Decided, rule: str, seed: int) -> np.ndarray:
    """How much each class's offset varies over resamples of the images: standard deviations, float64 (num_classes,)."""
    fitted: dict[str, Callable[[Decided], np.ndarray]] = {ONE_TAU: _one_tau, PER_CLASS: _per_class}
    if rule == NONE:
        return np.zeros(len(images.train_counts))
    rng = np.random.default_rng(derive("resampling", seed))
    drawn = [fitted[rule](images.of(resample(images.labels, images.groups, rng))) for _ in range(NUM_RESAMPLES)]
    return np.std(drawn, axis=0, ddof=1)


def resample(labels: np.ndarray, groups: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Positions of as many images of each class, drawn with replacement; of as many groups, where there are groups.

    A group is drawn whole, in the class that it has most of.
    """
    if groups is None or are_alone(groups):
        groups = np.arange(len(labels))
    numbers, sizes = np.unique(groups, return_inverse=True)[1], np.unique(groups, return_counts=True)[1]
    counts = np.zeros((len(sizes), labels.max() + 1), np.int64)
    np.add.at(counts, (numbers, labels), 1)
    main = counts.argmax(axis=1)
    members = np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])
    drawn = [rng.choice(np.flatnonzero(main == name), (main == name).sum()) for name in np.unique(main)]
    return np.concatenate([members[group] for group in np.concatenate(drawn)])


def with_best_rule(images: Decided, seed: int, taus: np.ndarray = TAUS[::5]) -> float:
    """The score once each half of the images is decided by the tau that the other half chooses."""
    halves = images.halves(seed)
    scores = [other.score(-tau_of(own, taus) * images.log_shares) for own, other in (halves, halves[::-1])]
    return float(np.mean(scores))
