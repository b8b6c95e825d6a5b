"""Images whose label is probably wrong, by what models said of them that were not trained on them.

Confident learning: Northcutt, Jiang & Chuang 2021, "Confident learning: Estimating uncertainty in dataset labels".
"""

import numpy as np


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions of images that are confidently of another class than their label, the most probable first, and
    that class of each; int64 both.

    A model is confident of a class where its probability reaches the mean that images labelled so have (section 3.1):
    a threshold of each class's own, so that rare classes, which models call less sure, are judged by their own measure.
    Of several such classes the most probable counts. The order is that of the normalised margin (section 3.2): the
    label's probability less the other's. ``probabilities`` is float (n, num_classes), ``labels`` whole numbers (n,).
    """
    images = np.arange(len(labels))
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    own = np.bincount(labels, probabilities[images, labels], minlength=len(counts))
    thresholds = np.divide(own, counts, out=np.full(len(counts), np.inf), where=counts > 0)
    confident = np.where(probabilities >= thresholds, probabilities, -np.inf)
    likely = confident.argmax(axis=1)
    found = np.flatnonzero(np.isfinite(confident[images, likely]) & (likely != labels))
    margins = probabilities[found, labels[found]] - probabilities[found, likely[found]]
    found = found[margins.argsort(kind="stable")]
    return found, likely[found]
