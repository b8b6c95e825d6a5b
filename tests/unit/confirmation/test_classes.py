"""What the test images say of each class, against scikit-learn and by simulation."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from study.confirmation import classes
from study.statistics.resamples import Resamples

NAMES = ["a", "b", "c", "d"]


def models(labels, num_seeds, rng, right=0.7):
    """Predictions (num_seeds, n), right so often, else any class."""
    drawn = rng.integers(4, size=(num_seeds, len(labels)))
    return np.where(rng.random(drawn.shape) < right, labels, drawn)


def test_scores_of_each_class_are_scikit_learns_and_lie_within_their_intervals():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 200, p=[0.1, 0.1, 0.3, 0.5])
    predictions = models(labels, 3, rng)
    resamples = Resamples(labels, 4, [0, 1], seed=0)
    found = classes.by_class(resamples, labels, predictions, NAMES, [0, 1])
    by_model = [precision_recall_fscore_support(labels, one, labels=range(4))[:3] for one in predictions]
    expected = np.mean(by_model, axis=0)
    for index, of_class in enumerate(found):
        values = of_class.precision, of_class.recall, of_class.f1
        assert [value.estimate for value in values] == pytest.approx(expected[:, index], abs=1e-6)
        assert all(0 <= value.low < value.estimate < value.high <= 1 for value in values)
    assert [(of_class.name, of_class.rare, of_class.images) for of_class in found] == [
        (name, index < 2, int((labels == index).sum())) for index, name in enumerate(NAMES)
    ]
    alarms = classes.false_alarms(resamples, labels, predictions, [0, 1])
    assert alarms.estimate == pytest.approx(np.isin(predictions[:, labels > 1], [0, 1]).mean())
    assert alarms.low < alarms.estimate < alarms.high


def test_a_class_without_images_is_left_out_and_one_that_is_never_named_has_a_wide_precision():
    labels = np.repeat([0, 1, 3], 20)
    predictions = np.zeros((2, 60), int)
    found = classes.by_class(Resamples(labels, 4, [0], seed=0), labels, predictions, NAMES, [0])
    assert [of_class.name for of_class in found] == ["a", "b", "d"]
    assert (found[1].precision.estimate, found[1].recall.estimate) == (0, 0)
    assert found[1].precision.high > 0.5
    assert 0 < found[1].recall.high < 0.3
    assert classes.false_alarms(Resamples(labels, 4, [0, 1, 3]), labels, predictions, [0, 1, 2, 3]) is None


@pytest.mark.parametrize("group_size", [1, 5])
def test_intervals_cover_the_truth_also_where_images_come_in_groups(group_size):
    """A group is found or missed as a whole; by images alone groups of 5 would be covered in about 60 %."""
    rng, covered = np.random.default_rng(1), []
    for _ in range(150):
        groups = np.arange(60).repeat(group_size)
        labels = np.arange(60).repeat(group_size) % 2
        found = np.where(rng.random((60, 1)) < 0.8, 1, 0).repeat(group_size, axis=0)[:, 0]
        predictions = np.stack([np.where(found == 1, labels, 1 - labels)] * 2)
        resamples = Resamples(labels, 2, [0, 1], 200, seed=0, groups=groups)
        scores = classes.by_class(resamples, labels, predictions, NAMES[:2], [0])[0]
        covered.append(scores.recall.low <= 0.8 <= scores.recall.high)
    assert 0.9 <= np.mean(covered) <= 1
