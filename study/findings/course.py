"""The course's own analysis: plain shuffling against the weighted sampler, in its numbers and its words.

As in the exercise, but that per-class F1 is that of the best epoch, as everywhere in a study.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.record.files import TrialRecord
from study.record.recipes import SHUFFLED, WEIGHTED
from trainable.cli import printable

NUM_LAST = 10  # epochs whose validation losses tell how stable a training was
FEW_IMAGES = 25  # of a class; an image more or less found moves its F1 by several hundredths


@dataclass(frozen=True)
class Training:
    """What the course looks at in one training."""

    trial: TrialRecord

    @property
    def val_losses(self) -> np.ndarray:
        """float64 (num_epochs,)."""
        return np.array([row["val_loss"] for row in self.trial.rows])

    @property
    def stability(self) -> float:
        """Standard deviation of the last validation losses: the smaller, the more stable."""
        return float(np.std(self.val_losses[-NUM_LAST:]))

    @property
    def best_loss(self) -> float:
        return float(self.val_losses.min())

    @property
    def epochs_to_best(self) -> int:
        return int(self.val_losses.argmin()) + 1

    def class_f1(self, index: int) -> float:
        return float(self.trial.rows[self.trial.rows[-1]["best_epoch"] - 1]["f1"][index])


@dataclass(frozen=True)
class Improvement:
    """One minority class's F1 in the two trainings."""

    name: str
    shuffled: float
    weighted: float
    num_images: int  # of validation, that both F1s were measured on

    @property
    def words(self) -> str:
        """In per cent of the shuffled one's F1, as in the course, where there are images enough to say so."""
        if self.num_images < FEW_IMAGES:
            return f"{self.weighted - self.shuffled:+.2f}, of {self.num_images} images"
        if self.shuffled == 0:
            return "from nothing" if self.weighted else "none"
        return f"{100 * (self.weighted - self.shuffled) / self.shuffled:+.1f} %"


@dataclass(frozen=True)
class Comparison:
    """The course's two recipes side by side."""

    shuffled: Training
    weighted: Training
    classes: list[Improvement]  # of the minority

    def insights(self) -> list[str]:
        """What the course reads off, a sentence each with its numbers. One training each: a seed may turn them over."""
        s, w = self.shuffled, self.weighted
        better = [c for c in self.classes if c.weighted > c.shuffled]
        lower, steadier = w.best_loss < s.best_loss, w.stability < s.stability
        faster = w.epochs_to_best < s.epochs_to_best
        return [
            f"balancing reached {'a' if lower else 'no'} lower validation loss: "
            f"{w.best_loss:.4f} against {s.best_loss:.4f}",
            f"training with balancing was {'more' if steadier else 'not more'} stable; standard deviation "
            f"of the last losses ({NUM_LAST} at most): {w.stability:.4f} against {s.stability:.4f}",
            f"balancing {'sped' if faster else 'did not speed'} convergence up: "
            f"best loss at epoch {w.epochs_to_best} against {s.epochs_to_best}",
            f"balancing raised the F1 of {len(better)} of {len(self.classes)} minority classes",
        ]

    def lines(self) -> list[str]:
        """The comparison as lines of at most 100 columns."""
        # a class's name may have any length
        names = [name if len(name) <= 40 else name[:39] + "…" for name in (printable(c.name) for c in self.classes)]
        width = max(map(len, [*names, "minority class"]))
        lines = [
            "the course's two recipes, one training each, F1 at the best epoch:",
            f"  {'minority class':<{width}}  shuffled  weighted  improvement",
        ]
        for name, found in zip(names, self.classes, strict=True):
            lines.append(f"  {name:<{width}}  {found.shuffled:8.4f}  {found.weighted:8.4f}  {found.words}")
        for sentence in self.insights():
            lines += textwrap.wrap(sentence, 100, initial_indent="  ", subsequent_indent="    ")
        return lines


def compare(
    trials: Sequence[TrialRecord], class_names: Sequence[str], minority: Sequence[int], val_counts: Sequence[int]
) -> Comparison | None:
    """The course's comparison from a study's trials; None until both recipes have an epoch."""
    found = {trial.recipe: Training(trial) for trial in trials if trial.rows}
    if SHUFFLED.name not in found or WEIGHTED.name not in found:
        return None
    shuffled, weighted = found[SHUFFLED.name], found[WEIGHTED.name]
    classes = [
        Improvement(class_names[index], shuffled.class_f1(index), weighted.class_f1(index), val_counts[index])
        for index in minority
    ]
    return Comparison(shuffled, weighted, classes)
