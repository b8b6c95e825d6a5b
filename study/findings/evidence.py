"""What a study's trials said of the validation images: validation.npz of each, and how sure their scores are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from study.record import validation
from study.record.files import TrialRecord
from study.record.formats import Study
from study.statistics import choice
from study.statistics.intervals import Interval, Intervals, behind, intervals
from study.statistics.offsets import Decided, with_best_rule
from study.statistics.resamples import Resamples, Scores
from study.words import f1_with_ends
from trainable import metrics
from trainable.cli import UsageError
from trainable.metrics import confusion_matrix, minority_f1, reweighted
from trainable.objectives import Objective

MAX_DECIDED = 50  # trials for which a decision rule is sought, the best: each takes some milliseconds
EVIDENCE = (validation.LABELS, validation.LOGITS, validation.GROUPS)


@dataclass(frozen=True)
class Probable:
    """What a trial's probabilities are worth, whatever it decides by them; see ``trainable.metrics``."""

    roc_auc: np.ndarray  # of each class against all others, float64 (num_classes,)
    average_precision: np.ndarray  # the same
    calibration_error: float
    brier_score: float
    with_best_rule: float  # the objective with the decision rule that other images choose; NaN: not looked at


@dataclass(frozen=True)
class Evidence:
    """T trials on the same n validation images, each at its best epoch, in the order of ``numbers``.

    Logits are stored as float16. Where two of them round to the same value the prediction may be another than in the
    trial's rows, so that scores from here may differ from the rows' in their third or fourth decimal.
    """

    numbers: list[int]  # the trials, (T,)
    labels: np.ndarray  # int64 (n,)
    predictions: np.ndarray  # unsigned (T, n): what the objective decides by the logits, adjusted ones where it is
    num_classes: int
    scores: Scores
    intervals: Intervals  # of the objective, (T,)
    best: int  # of these trials the first in the ranking
    behind: Intervals  # the best trial's score less that of each, (T,): who is tied, how far the others are behind
    damaged: list[str]  # files that cannot be used, a sentence each
    probable: list[Probable] = field(default_factory=list)  # (T,)
    chosen: Interval | None = None  # what the best trial's score is without the luck of being chosen; with folds

    def __contains__(self, number: object) -> bool:
        return number in self.numbers

    def confusion(self, number: int) -> np.ndarray:
        """The trial's confusion matrix, int64 (num_classes, num_classes): row = true class."""
        return confusion_matrix(self.labels, self.predictions[self.numbers.index(number)], self.num_classes)

    @property
    def tied(self) -> np.ndarray:
        """Which trials cannot be told from the best, bool (T,)."""
        return self.behind.low <= 0

    @property
    def chosen_words(self) -> str:
        """What is left of the best trial's score without its luck; empty if nothing is known of it."""
        if self.chosen is None:
            return ""
        left = f1_with_ends(self.chosen.estimate, self.chosen.low, self.chosen.high)
        return f"the best of {len(self.numbers)} on the same images is partly luck; without that its score is {left}"

    def ahead_of(self, number: int) -> Interval:
        """The score of the best trial less that of ``number``, paired on the images, 95 %; within [-1, 1]."""
        index = self.numbers.index(number)
        low, high = float(self.behind.low[index]), float(self.behind.high[index])
        # Student's t knows nothing of -1 and 1, between which a difference lies
        return Interval(float(self.behind.estimate[index]), max(low, -1.0), min(high, 1.0))


def read(folder: Path, trials: Sequence[TrialRecord], study: Study) -> Evidence | None:
    """The evidence of those ``trials`` of the study in ``folder`` that have a validation.npz; None if none has."""
    objective, num_classes, minority = study.judged_by, len(study.class_names), study.minority_indices
    found: list[TrialRecord] = []
    predictions: list[np.ndarray] = []
    judged: list[np.ndarray] = []
    labels: np.ndarray | None = None
    groups = np.array([], np.int64)
    damaged: list[str] = []
    probable: list[Probable] = []
    best_first = sorted(trials, key=lambda trial: (-(trial.score or 0.0), trial.number))
    decided = {trial.number for trial in best_first[:MAX_DECIDED]}
    names = [*EVIDENCE, *([validation.ADJUSTED] if objective.is_adjusted else [])]
    for trial in trials:
        path = folder / "trials" / str(trial.number) / "validation.npz"
        if not path.exists():  # it runs, or has failed
            continue
        try:
            own_labels, logits, own_groups, *adjusted = validation.read(
                path, names, num_classes, sum(study.class_counts.val), trial.config.epochs
            )
        except UsageError as error:
            damaged.append(f"{path}: damaged, so this trial has no interval ({error.__cause__})")
            continue
        if labels is None:
            labels, groups = own_labels.astype(np.int64), own_groups
        if not (np.array_equal(own_labels, labels) and np.array_equal(own_groups, groups)):
            damaged.append(f"{path}: is of other validation images than the trials before it, and left out")
            continue
        logits = logits.astype(np.float32)
        predicted = adjusted[0][trial.rows[-1]["best_epoch"] - 1] if adjusted else objective.decide(logits)
        predictions.append(predicted.astype(np.min_scalar_type(num_classes)))
        if objective.of_scores:
            judged.append(objective.judged(logits, minority))
        with_rule = math.nan
        if trial.number in decided and not objective.of_scores:
            images = Decided(logits, labels, study.class_counts.train, minority, groups, objective)
            with_rule = with_best_rule(images, study.seed)
        probable.append(_probable(labels, metrics.softmax(logits), with_rule))
        found.append(trial)
    if labels is None or not found:
        return None
    everything, numbers = np.stack(predictions), [trial.number for trial in found]
    resamples = Resamples(labels, num_classes, minority, seed=study.seed, groups=groups, objective=objective)
    looked_at = np.stack(judged) if judged else everything
    scores = resamples.score(looked_at)
    best = max(found, key=lambda trial: (trial.score or 0.0, -trial.number)).number
    gaps = behind(scores, numbers.index(best))
    chosen = choice.corrected(scores, resamples, looked_at) if study.data.folds and len(found) > 1 else None
    ends = intervals(scores)
    return Evidence(numbers, labels, everything, num_classes, scores, ends, best, gaps, damaged, probable, chosen)


def _probable(labels: np.ndarray, probabilities: np.ndarray, with_rule: float) -> Probable:
    return Probable(
        *metrics.one_vs_rest(labels, probabilities.astype(np.float32)),  # which are sorted in half the time
        metrics.calibration_error(labels, probabilities),
        metrics.brier_score(labels, probabilities),
        with_rule,
    )


def columns(
    evidence: Evidence, number: int, minority: Sequence[int], train_counts: Sequence[int], objective: Objective
) -> dict[str, Any]:
    """The ranking's columns of one trial that follow from its predictions, but for those of each class."""
    index = evidence.numbers.index(number)
    confusion, probable = evidence.confusion(number), evidence.probable[index]
    return {
        objective.low: float(evidence.intervals.low[index]),
        objective.high: float(evidence.intervals.high[index]),
        "tied": bool(evidence.tied[index]),
        "f1_reweighted": minority_f1(reweighted(confusion, train_counts), minority),
        "micro_f1": metrics.micro_f1(confusion),
        "weighted_f1": metrics.weighted_f1(confusion),
        "balanced_accuracy": metrics.balanced_accuracy(confusion),
        "roc_auc": _mean(probable.roc_auc),
        "average_precision": _mean(probable.average_precision),
        "minority_average_precision": _mean(probable.average_precision[list(minority)]),
        "calibration_error": probable.calibration_error,
        "brier_score": probable.brier_score,
        "with_best_rule": probable.with_best_rule,
    }


def class_columns(evidence: Evidence, number: int) -> dict[str, np.ndarray]:
    """The scores that the ranking has of each class, float64 (num_classes,) each."""
    confusion, probable = evidence.confusion(number), evidence.probable[evidence.numbers.index(number)]
    return {
        "precision": metrics.precision_per_class(confusion),
        "recall": metrics.recall_per_class(confusion),
        "roc_auc": probable.roc_auc,
        "average_precision": probable.average_precision,
    }


def _mean(values: np.ndarray) -> float:
    """Over the classes for which there is one."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
