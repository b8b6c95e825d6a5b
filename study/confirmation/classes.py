"""What the test images say of each class, with intervals over seeds and images."""

from collections.abc import Sequence

import numpy as np

from study.record.confirmation import ClassOnTest, Estimate
from study.statistics import seeds
from study.statistics.resamples import Resamples, Scores


def by_class(
    resamples: Resamples,
    labels: np.ndarray,
    predictions: np.ndarray,
    class_names: Sequence[str],
    minority: Sequence[int],
) -> list[ClassOnTest]:
    """Recall, precision and F1 of each class that has images, for a recipe's S models.

    ``labels`` (n,) and ``predictions`` (S, n) are whole numbers below the number of classes.
    """
    found = []
    for index, name in enumerate(class_names):
        is_there, is_called = (labels == index)[None], predictions == index
        if not is_there.any():
            continue
        hits = is_there & is_called
        found.append(
            ClassOnTest(
                name=name,
                rare=index in minority,
                images=int(is_there.sum()),
                recall=_estimate(resamples.shares(hits, is_there)),
                precision=_estimate(resamples.shares(hits, is_called)),
                f1=_estimate(resamples.shares(2 * hits, is_there + is_called.astype(int))),
            )
        )
    return found


def false_alarms(
    resamples: Resamples, labels: np.ndarray, predictions: np.ndarray, minority: Sequence[int]
) -> Estimate | None:
    """What share of the common classes' images is taken for a class of the ``minority``; None where there is none."""
    is_common = ~np.isin(labels, minority)[None]
    if not is_common.any():
        return None
    return _estimate(resamples.shares(is_common & np.isin(predictions, minority), is_common))


def _estimate(scores: Scores) -> Estimate:
    found = seeds.means_on_images(scores, len(scores.score))
    return Estimate(estimate=float(found.estimate[0]), low=float(found.low[0]), high=float(found.high[0]))
