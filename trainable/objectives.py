"""What trials are judged by: one score of the validation images, in [0, 1], the higher the better.

Whoever has to know which asks here: the best epoch, and by its row search and scheduler; the ranking, its intervals
and the confirmation; the words for it wherever people read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainable import metrics


@dataclass(frozen=True)
class Objective:
    """A score, and what it is called."""

    name: str  # of its field in a row and its column in ranking.csv
    words: str  # to be read in the midst of a sentence
    head: str  # of its column in a terminal
    meaning: str  # to be read after "words is"
    of_all: bool = False  # of all classes; else of the minority

    @property
    def best(self) -> str:
        """The field of a row that has the highest score so far."""
        return f"best_{self.name}"

    @property
    def adjusted(self) -> str:
        """The field, and the column, of the same score after logit adjustment."""
        return f"{self.name}_adjusted"

    @property
    def low(self) -> str:
        """The column with the lower end of its interval."""
        return f"{self.name}_low"

    @property
    def high(self) -> str:
        return f"{self.name}_high"

    def classes(self, num_classes: int, minority: Sequence[int]) -> list[int]:
        """Those that it is about."""
        return list(range(num_classes)) if self.of_all else list(minority)

    def score(self, labels: np.ndarray, judged: np.ndarray, num_classes: int, minority: Sequence[int]) -> float:
        """Of images with ``labels`` (n,), for which a trial has said ``judged`` (n,): the classes that it predicts."""
        confusion = metrics.confusion_matrix(labels, judged, num_classes)
        return float(metrics.f1_per_class(confusion)[self.classes(num_classes, minority)].mean())


MINORITY_F1 = Objective("minority_f1", "minority F1", "min F1", "the unweighted mean of the minority classes' F1")
MACRO_F1 = Objective("macro_f1", "macro F1", "mac F1", "the unweighted mean of all classes' F1", of_all=True)
OBJECTIVES = {objective.name: objective for objective in (MINORITY_F1, MACRO_F1)}


def named(text: str) -> Objective:
    """The objective that a config's field ``objective`` names."""
    return OBJECTIVES[text]
