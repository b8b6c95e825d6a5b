"""How good a trial's probabilities are: precision against recall of the minority classes, and reliability."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from study.record import validation
from trainable.objectives import MINORITY_F1, Objective

NUM_BINS = 10
MAX_POINTS = 200  # of a curve: what the page can show


@dataclass(frozen=True)
class PrecisionRecall:
    """What a class's precision and recall would be at every threshold of its probability."""

    name: str
    recall: np.ndarray  # float64 (P,), rising
    precision: np.ndarray
    at: tuple[float, float]  # recall and precision of what is predicted


@dataclass(frozen=True)
class Curves:
    minority: list[PrecisionRecall]
    # of the images in each tenth of [0, 1] by the probability of the likeliest class; bins without images are left out
    confidence: np.ndarray  # its mean, float64 (B,)
    accuracy: np.ndarray
    counts: np.ndarray  # images, int64 (B,)


def read(
    path: Path, class_names: Sequence[str], minority: Sequence[int], num_images: int, objective: Objective = MINORITY_F1
) -> Curves:
    """Of the trial whose validation.npz is at ``path``; at most ``num_images``; ``objective`` decides.

    Raises:
        UsageError: it cannot be read.
    """
    names = (validation.LABELS, validation.LOGITS)
    labels, logits = validation.read(path, names, len(class_names), num_images)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    likeliest, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    answers = objective.decide(logits.astype(np.float32))
    bins = np.minimum((sure * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    there = counts > 0
    confidence, accuracy = (
        np.bincount(bins, values, NUM_BINS)[there] / counts[there] for values in (sure, likeliest == labels)
    )
    curves = [
        PrecisionRecall(
            class_names[label], *precision_recall(probabilities[:, label], labels == label), _at(answers, labels, label)
        )
        for label in minority
        if (labels == label).any()
    ]
    return Curves(curves, confidence, accuracy, counts[there])


def precision_recall(scores: np.ndarray, is_class: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision when all images with a score of at least t are called the class, t falling; (P,) each."""
    order = (-scores).argsort(kind="stable")
    last_of_equals = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(is_class[order])[last_of_equals]
    recall, precision = hits / is_class.sum(), hits / (last_of_equals + 1)
    shown = np.unique(np.linspace(0, len(hits) - 1, MAX_POINTS).astype(np.int64))
    return recall[shown], precision[shown]


def _at(answers: np.ndarray, labels: np.ndarray, label: int) -> tuple[float, float]:
    hits = int(((answers == label) & (labels == label)).sum())
    return hits / int((labels == label).sum()), hits / max(int((answers == label).sum()), 1)
