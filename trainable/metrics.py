"""What predictions are worth: from labels to a confusion matrix and what follows from it, and of probabilities."""

from collections.abc import Sequence

import numpy as np

from trainable.cli import printable

NUM_BINS = 15  # of the calibration error


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


def micro_f1(confusion: np.ndarray) -> float:
    """F1 with all classes' counts added up, in [0, 1]: where each image has one class, the share that is right."""
    return float(np.trace(confusion) / confusion.sum())


def weighted_f1(confusion: np.ndarray) -> float:
    """The mean of the classes' F1, each weighted by its number of images, in [0, 1]."""
    support = confusion.sum(axis=1)
    return float((f1_per_class(confusion) * support).sum() / support.sum())


def balanced_accuracy(confusion: np.ndarray) -> float:
    """The unweighted mean recall of the classes that are there, in [0, 1]."""
    return float(recall_per_class(confusion)[confusion.any(axis=1)].mean())


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


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 (..., num_classes)."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype=np.float64)
    return powers / powers.sum(axis=-1, keepdims=True)


def log_odds(logits: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """How likely an image is of each of the ``classes``, float32 (n, K), from logits (n, num_classes).

    Sorted as the probabilities are, but not all alike where these are nearly 1.
    """
    found = np.empty((len(logits), len(classes)), np.float32)
    for index, name in enumerate(classes):
        others = np.delete(logits, name, axis=1).astype(np.float64)
        highest = others.max(axis=1)
        found[:, index] = logits[:, name] - highest - np.log(np.exp(others - highest[:, None]).sum(axis=1))
    return found


def one_vs_rest(
    labels: np.ndarray, scores: np.ndarray, classes: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How well each class's scores tell its images from all others: area under the ROC curve, and average precision.

    Of the ``classes`` (default: all), float64 (K,) each, in [0, 1]; NaN where a class has no image, and the area also
    where it has all. ``labels`` are whole numbers (n,), ``scores`` float (n, K), the higher the likelier. As
    scikit-learn's ``roc_auc_score`` and ``average_precision_score`` of ``labels == class``, ties counted as there.
    """
    areas, precisions = np.full((2, scores.shape[1]), np.nan)
    num_images = len(labels)
    for index, everything in enumerate(np.sort(scores, axis=0).T):
        own = np.sort(scores[labels == (index if classes is None else classes[index]), index])
        num_others = num_images - len(own)
        if not len(own):
            continue
        # how many are below each of the class's images, or at most as high: of all images, and of the class's own
        below, up_to = (np.searchsorted(everything, own, side) for side in ("left", "right"))
        own_below, own_up_to = (np.searchsorted(own, own, side) for side in ("left", "right"))
        precisions[index] = ((len(own) - own_below) / (num_images - below)).mean()
        if num_others:
            areas[index] = (below - own_below + up_to - own_up_to).mean() / 2 / num_others
    return areas, precisions


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """How far the probability of what is predicted is from the share that is right, in [0, 1].

    The mean over images in 15 bins of equal width, each the difference within its bin: the expected calibration error
    of Guo et al. 2017, "On calibration of modern neural networks", eq. 3. ``probabilities``: (n, num_classes).
    """
    confidence, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.searchsorted(np.linspace(0, 1, NUM_BINS + 1)[1:-1], confidence)
    return float(np.abs(np.bincount(places, confidence - is_right)).sum() / len(labels))


def brier_score(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean squared distance of an image's probabilities (n, num_classes) from the truth, in [0, 2].

    Brier 1950, "Verification of forecasts expressed in terms of probability", eq. 2.
    """
    of_truth = probabilities[np.arange(len(labels)), labels]
    return float(((probabilities**2).sum(axis=1) + 1 - 2 * of_truth).mean())


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
