"""What trials are judged by: one score of the validation images, in [0, 1], the higher the better.

Whoever has to know which asks here: the best epoch, and by its row search and scheduler; the ranking, its intervals
and the confirmation; the words for it wherever people read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from trainable import metrics
from trainable.costs import PREFIX, Costs, parse


@dataclass(frozen=True)
class Objective:
    """A score, and what it is called: a measure of each class, and what is made of the classes'."""

    name: str  # of its field in a row and its column in ranking.csv
    words: str  # to be read in the midst of a sentence
    head: str  # of its column in a terminal
    meaning: str  # to be read after "words is"
    # credit: the share of a class's images that are right; with costs, what is not lost of the most that could be
    measure: Literal["f1", "credit", "average_precision"] = "f1"
    of_all: bool = False  # of all classes; else of the minority
    worst: bool = False  # that of the class with the lowest; else the mean
    is_adjusted: bool = False  # it looks at what is predicted after logit adjustment
    costs: Costs = ()  # of each true class (row) and predicted class

    @property
    def best(self) -> str:
        """The field of a row that has the highest score so far."""
        return f"best_{self.name}"

    @property
    def adjusted(self) -> str:
        """The field, and the column, of the same score after logit adjustment."""
        return self.name if self.is_adjusted else f"{self.name}_adjusted"

    @property
    def low(self) -> str:
        """The column with the lower end of its interval."""
        return f"{self.name}_low"

    @property
    def high(self) -> str:
        return f"{self.name}_high"

    @property
    def of_scores(self) -> bool:
        """Whether it looks at how likely the classes are found, and not at which one is predicted."""
        return self.measure == "average_precision"

    @property
    def of_decisions(self) -> "Objective":
        """What decision offsets are fitted to: itself, unless no decision changes it."""
        return MINORITY_F1 if self.of_scores else self

    def classes(self, num_classes: int, minority: Sequence[int]) -> list[int]:
        """Those that it is about."""
        return list(range(num_classes)) if self.of_all else list(minority)

    def weights(self, counts: np.ndarray) -> np.ndarray:
        """How much each class is of the mean, float64 (K,), where the classes have ``counts`` images."""
        return counts / counts.sum() if self.costs else np.full(len(counts), 1 / len(counts))

    def credit(self, num_classes: int) -> np.ndarray:
        """What an image of each true class (row) counts when each class is predicted, float64 in [0, 1], a square."""
        if not self.costs:
            return np.eye(num_classes)
        matrix = np.array(self.costs)
        return 1 - matrix / matrix.max()

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """The predicted classes (n,) of ``logits`` (n, num_classes), see ``decide_by``."""
        return self.decide_by(metrics.softmax(logits) if self.costs else logits)

    def decide_by(self, probabilities: np.ndarray) -> np.ndarray:
        """The predicted classes, int64 (n,), by ``probabilities`` (n, num_classes): the likeliest.

        With costs that of the least expected cost, the sum over true classes of their probability times what the
        mistake costs (Elkan 2001, "The foundations of cost-sensitive learning", eq. 1). Of equals the first.
        """
        if not self.costs:
            return probabilities.argmax(axis=1)
        return (probabilities @ np.array(self.costs)).argmin(axis=1)

    def judged(self, logits: np.ndarray, minority: Sequence[int]) -> np.ndarray:
        """What it looks at: predicted classes (n,), or how likely each of its classes is, float32 (n, K)."""
        return metrics.log_odds(logits, minority) if self.of_scores else self.decide(logits)

    def score(self, labels: np.ndarray, judged: np.ndarray, num_classes: int, minority: Sequence[int]) -> float:
        """Of images with ``labels`` (n,), of which a trial has said ``judged``; classes without an image do not count.

        But of F1, where such a class has 0, as in scikit-learn.
        """
        classes = self.classes(num_classes, minority)
        counts = np.bincount(labels, minlength=num_classes)[classes]
        if self.of_scores:
            values = metrics.one_vs_rest(labels, judged, classes)[1]
        else:
            confusion = metrics.confusion_matrix(labels, judged, num_classes)
            if self.measure == "f1":
                return float(metrics.f1_per_class(confusion)[classes].mean())
            values = (confusion * self.credit(num_classes)).sum(axis=1) / np.maximum(counts, 1)
        there = counts > 0
        if not there.any():
            return 0.0
        return float(values[there].min() if self.worst else values[there] @ self.weights(counts[there]))


def _all() -> tuple[Objective, ...]:
    return (
        Objective("minority_f1", "minority F1", "min F1", "the unweighted mean of the minority classes' F1"),
        Objective("macro_f1", "macro F1", "mac F1", "the unweighted mean of all classes' F1", of_all=True),
        Objective(
            "balanced_accuracy",
            "balanced accuracy",
            "bal ac",
            "the unweighted mean of all classes' recall, the share of a class's images that are found",
            measure="credit",
            of_all=True,
        ),
        Objective(
            "worst_class_recall",
            "worst-class recall",
            "worst",
            "the recall, the share of a class's images that are found, of the class with the lowest",
            measure="credit",
            of_all=True,
            worst=True,
        ),
        Objective(
            "minority_average_precision",
            "minority average precision",
            "min AP",
            "the unweighted mean of the minority classes' average precision: how well the images of a class stand "
            "before all others when they are sorted by how likely they are found to be of it",
            measure="average_precision",
        ),
        Objective(
            "minority_f1_adjusted",
            "adjusted minority F1",
            "adj F1",
            "the unweighted mean of the minority classes' F1 after logit adjustment",
            is_adjusted=True,
        ),
    )


OBJECTIVES = {objective.name: objective for objective in _all()}
MINORITY_F1 = OBJECTIVES["minority_f1"]
COSTS = Objective(
    "cost_score",
    "cost score",
    "costs",
    "1 minus the mean cost of an image over the largest cost there is",
    measure="credit",
    of_all=True,
)


@cache
def named(text: str) -> Objective:
    """The objective that a config's field ``objective`` names, or whose costs it holds."""
    return replace(COSTS, costs=parse(text)) if text.startswith(PREFIX) else OBJECTIVES[text]


def problems(text: str, num_classes: int) -> list[str]:
    """What is wrong with the objective beside so many classes."""
    number = len(named(text).costs)
    if number in (0, num_classes):
        return []
    return [f"objective must have costs for {num_classes} classes, and has them for {number}"]
