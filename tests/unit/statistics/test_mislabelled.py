"""Images whose label is probably wrong."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from study.statistics.mislabelled import suspects


def slow(probabilities, labels):
    """Section 3 of the paper, image by image."""
    classes = range(probabilities.shape[1])
    thresholds = {j: np.mean([p[j] for p, label in zip(probabilities, labels, strict=True) if label == j])
                  for j in classes if j in labels}  # fmt: skip
    found = []
    for index, (p, label) in enumerate(zip(probabilities, labels, strict=True)):
        confident = [j for j in classes if j in thresholds and p[j] >= thresholds[j] - 1e-15]
        likely = max(confident, key=lambda j: p[j], default=label)
        if likely != label:
            found.append((p[label] - p[likely], index, likely))
    return sorted(found)


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 60))
def test_the_same_images_as_a_slow_loop_finds(seed, num_classes, num_images):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(num_classes, 0.5), num_images)
    labels = rng.integers(num_classes, size=num_images)
    found, likely = suspects(probabilities, labels)
    assert [(index, other) for _, index, other in slow(probabilities, labels)] == list(
        zip(found.tolist(), likely.tolist(), strict=True)
    )


def test_labels_that_were_turned_over_come_first_also_in_a_rare_class():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [30, 500, 500])
    logits = rng.standard_normal((len(truth), 3))
    logits[np.arange(len(truth)), truth] += 6
    logits[:, 0] -= 2  # rarely called
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = truth.copy()
    turned = [3, 40, 100, 600, 900]
    labels[turned] = [1, 0, 2, 1, 1]
    found, likely = suspects(probabilities, labels)
    assert set(turned) <= set(found[:20].tolist())
    assert (likely[np.isin(found, turned)] == truth[found[np.isin(found, turned)]]).all()
