"""From labels to a confusion matrix, from there to the F1 of each class and of the minority."""

from collections.abc import Sequence

import numpy as np

from trainable.cli import printable


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts, int64 (num_classes, num_classes): row = true class, column = predicted class.

    ``labels`` and ``predictions`` are whole numbers in [0, num_classes), shape (n,).
    """
    flat = labels.astype(np.int64) * num_classes + predictions.astype(np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def f1_per_class(confusion: np.ndarray) -> np.ndarray:
    """F1 = 2 TP / (2 TP + FP + FN), float64 (num_classes,); 0 for a class neither there nor predicted."""
    true_positives = np.diagonal(confusion).astype(np.float64)
    # 2 TP + FP + FN = all that are of the class + all that were called it
    denominator = confusion.sum(axis=1) + confusion.sum(axis=0)
    return np.divide(2 * true_positives, denominator, out=np.zeros(len(confusion)), where=denominator > 0)


def recall_per_class(confusion: np.ndarray) -> np.ndarray:
    """TP / (TP + FN), float64 (num_classes,); 0 for a class that is not there."""
    support = confusion.sum(axis=1)
    return np.divide(np.diagonal(confusion), support, out=np.zeros(len(confusion)), where=support > 0)


def precision_per_class(confusion: np.ndarray) -> np.ndarray:
    """Precision of each class, float64 (num_classes,), in [0, 1]; 0 for a class that is never predicted."""
    predicted = confusion.sum(axis=0)
    return np.divide(np.diagonal(confusion), predicted, out=np.zeros(len(confusion)), where=predicted > 0)


def minority_f1(confusion: np.ndarray, minority: Sequence[int]) -> float:
    """The unweighted mean of the minority classes' F1, in [0, 1]: the study's objective.

    Equal to scikit-learn's ``f1_score(labels, predictions, labels=minority, average="macro", zero_division=0)``.
    """
    return float(f1_per_class(confusion)[list(minority)].mean())


def reweighted(confusion: np.ndarray, class_counts: Sequence[int]) -> np.ndarray:
    """The confusion matrix expected if the classes came at the frequencies of ``class_counts``, float64.

    Each row keeps its distribution over predictions and is scaled to the class's share; rows without an
    image stay 0.
    """
    support = confusion.sum(axis=1).astype(np.float64)
    counts = np.asarray(class_counts, np.float64)
    scale = np.divide(counts, support, out=np.zeros_like(counts), where=support > 0)
    return confusion * scale[:, None]


def class_report(confusion: np.ndarray, class_names: Sequence[str], minority: Sequence[int]) -> str:
    """Precision, recall, F1 and support of each class as a table; minority classes are starred."""
    f1, recall, precision = f1_per_class(confusion), recall_per_class(confusion), precision_per_class(confusion)
    names = [printable(name) + "*" * (index in minority) for index, name in enumerate(class_names)]
    width = max(map(len, [*names, "minority mean"]))
    lines = [f"{'class':<{width}}  precision  recall     f1  images"]
    for index, name in enumerate(names):
        lines.append(
            f"{name:<{width}}  {precision[index]:9.4f}  {recall[index]:6.4f} {f1[index]:6.4f}  "
            f"{confusion[index].sum():6d}"
        )
    lines.append(f"{'minority mean':<{width}}  {'':9}  {'':6} {minority_f1(confusion, minority):6.4f}")
    return "\n".join(lines)
