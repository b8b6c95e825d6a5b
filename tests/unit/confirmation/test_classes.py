"""What the test images say of each class, against scikit-learn and by simulation."""

import numpy as np
import pytest
from scipy import stats
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


def coverage(counts, confusion, minority, num_sets, num_seeds=3):
    """How often each class's (recall, precision, F1) lies in its interval, (K, 3), and how often the false alarms do.

    Models of ``num_seeds`` seeds nearly agree on which images are hard; ``confusion``: probabilities (true, predicted).
    """
    rng, num_classes = np.random.default_rng(0), len(counts)
    labels = np.arange(num_classes).repeat(counts)
    expected = confusion * np.array(counts)[:, None]
    hits = expected.diagonal()
    truth = np.stack([hits / counts, hits / expected.sum(0), 2 * hits / (counts + expected.sum(0))], axis=1)
    common = np.setdiff1d(np.arange(num_classes), minority)
    alarms = expected[np.ix_(common, minority)].sum() / expected[common].sum()
    resamples = Resamples(labels, num_classes, minority, 200, seed=0)
    order = np.argsort(np.eye(num_classes)[:, ::-1], axis=1, kind="stable")[:, ::-1]  # the right class first
    bounds = stats.norm.ppf(np.minimum(np.take_along_axis(confusion, order, axis=1).cumsum(axis=1)[:, :-1], 1))
    names, held, held_alarms = list("abcde"[:num_classes]), [], []
    for _ in range(num_sets):
        difficulty = np.sqrt(0.9) * rng.standard_normal(len(labels))
        difficulty = difficulty + np.sqrt(0.1) * rng.standard_normal((num_seeds, len(labels)))
        predictions = order[labels, (difficulty[..., None] > bounds[labels]).sum(axis=-1)]
        found = [
            (c.recall, c.precision, c.f1) for c in classes.by_class(resamples, labels, predictions, names, minority)
        ]
        ends = np.array([[(value.low, value.high) for value in of_class] for of_class in found])
        held.append((ends[..., 0] <= truth) & (truth <= ends[..., 1]))
        of_alarms = classes.false_alarms(resamples, labels, predictions, minority)
        held_alarms.append(of_alarms.low <= alarms <= of_alarms.high)
    return np.mean(held, axis=0), np.mean(held_alarms)


def confusions(right, spread):
    """Probabilities (true, predicted): a class is ``right`` so often, and taken for others by the shares ``spread``."""
    others = np.where(np.eye(len(right), dtype=bool), 0.0, np.asarray(spread, float))
    others *= (1 - np.asarray(right)[:, None]) / others.sum(axis=1, keepdims=True)
    return others + np.diag(right)


RARE_SETS = [
    ([1000, 200, 40, 12], [0.97, 0.9, 0.8, 0.6], [1000, 200, 40, 12]),  # what is missed is taken for common classes
    ([1000, 200, 40, 12], [0.99, 0.95, 0.8, 0.7], [1, 1, 1, 1]),  # half of all that is called rarest is not
    ([1000, 200, 12], [0.995, 0.97, 0.08], [1, 1, 0.1]),  # hardly ever named
]


@pytest.mark.parametrize(("counts", "right", "spread"), RARE_SETS)
def test_precision_recall_f1_and_false_alarms_cover_the_truth_of_common_and_of_rare_classes(counts, right, spread):
    """100 sets; 2.5 standard errors of 95 % are 5.4 %. The slow form is longer."""
    minority = [index for index, count in enumerate(counts) if count < 100]
    held, alarms = coverage(counts, confusions(right, spread), minority, num_sets=100)
    assert held.min() >= 0.895
    assert held.mean() >= 0.93
    assert alarms >= 0.895


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [2, 5])
@pytest.mark.parametrize(
    ("counts", "right", "spread"), [*RARE_SETS, ([5000, 1500, 60, 12], [0.98, 0.95, 0.8, 0.6], [1, 1, 1, 1])]
)
def test_scores_of_classes_cover_the_truth_in_many_sets(counts, right, spread, num_seeds):
    minority = [index for index, count in enumerate(counts) if count < 100]
    held, alarms = coverage(counts, confusions(right, spread), minority, 600, num_seeds)
    assert held.min() >= 0.92
    assert alarms >= 0.92
