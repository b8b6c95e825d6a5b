"""Every objective on resampled images, against scikit-learn's weighted scores in a loop."""

import numpy as np
import pytest
from sklearn import metrics as reference

from study.statistics.intervals import intervals, smoothed
from study.statistics.resamples import Resamples, average_precision
from trainable.objectives import OBJECTIVES, named

COSTS = "costs:0,1,2,9;3,0,1,1;1,1,0,4;2,2,2,0"
OF_PREDICTIONS = [name for name in (*OBJECTIVES, COSTS) if not named(name).of_scores]
MINORITY = [3, 1]


def made_up(num_images=160, seed=0):
    """(labels, predictions of three trials, log odds of two classes) of four classes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_images) % 4)
    guesses = rng.integers(4, size=(3, num_images))
    predictions = np.where(rng.random(guesses.shape) < 0.7, labels, guesses)
    odds = 1.5 * (labels[:, None] == MINORITY) + rng.standard_normal((num_images, 2))
    return labels, predictions, odds.astype(np.float32)


def weights_of(resamples):
    """How often each image comes, (R, n), in the order of the labels."""
    weights = np.empty_like(resamples._weights[1:])
    weights[:, resamples._order] = resamples._weights[1:]
    return weights.astype(float)


def weighted(name, labels, predictions, weights):
    if name == COSTS:
        matrix = np.array(named(name).costs)
        return 1 - np.average(matrix[labels, predictions], weights=weights) / 9
    if "f1" in name:
        of = range(4) if name == "macro_f1" else MINORITY
        return reference.f1_score(labels, predictions, labels=of, average="macro", sample_weight=weights)
    recall = reference.recall_score(labels, predictions, average=None, sample_weight=weights)
    return recall.mean() if name == "balanced_accuracy" else recall.min()


@pytest.mark.parametrize("name", OF_PREDICTIONS)
def test_resampled_scores_of_each_objective_are_scikit_learns_weighted_ones(name):
    labels, predictions, _ = made_up()
    objective = named(name)
    resamples = Resamples(labels, 4, MINORITY, num_resamples=8, objective=objective)
    scores = resamples.score(predictions)
    for trial, row in enumerate(predictions):
        assert scores.score[trial] == pytest.approx(objective.score(labels, row, 4, MINORITY), abs=2e-7)
        for number, weight in enumerate(weights_of(resamples)):
            expected = weighted(name, labels, row, weight)
            assert scores.resampled[trial, number] == pytest.approx(expected, abs=2e-6)
    found = intervals(scores)
    assert ((found.low < scores.score) & (scores.score < found.high)).all()
    assert scores.class_weights.sum(axis=1) == pytest.approx(1)
    assert abs(smoothed(scores)[0] - scores.score).max() < 0.03


def test_the_worst_class_decides_alone_with_the_smallest_classs_degrees_of_freedom():
    labels = np.repeat([0, 1, 2], [40, 10, 30])
    predictions = labels.copy()
    predictions[40:44] = 0
    scores = Resamples(labels, 3, [1], objective=OBJECTIVES["worst_class_recall"]).score(predictions[None])
    assert scores.class_weights.tolist() == [[0, 1, 0]]
    assert scores.score[0] == 0.6
    assert scores.degrees_of_freedom == 9


def test_how_average_precision_changes_with_an_image_is_scikit_learns_slope():
    labels, _, odds = made_up()
    scores = np.round(odds[:, 0], 1).astype(float)  # with ties
    order = np.argsort(labels != 3, kind="stable")
    is_own, scores = labels[order] == 3, scores[order]
    value, slope = average_precision(scores, slice(0, int(is_own.sum())))
    assert value == pytest.approx(reference.average_precision_score(is_own, scores), abs=1e-12)
    for image in range(0, len(scores), 7):
        more, less = np.ones(len(scores)), np.ones(len(scores))
        more[image], less[image] = 1 + 1e-5, 1 - 1e-5
        up, down = (reference.average_precision_score(is_own, scores, sample_weight=times) for times in (more, less))
        assert slope[image] == pytest.approx((up - down) / 2e-5, abs=1e-8)


def test_resampled_average_precision_varies_as_scikit_learns_does():
    labels, _, odds = made_up(num_images=400)
    objective = OBJECTIVES["minority_average_precision"]
    resamples = Resamples(labels, 4, MINORITY, num_resamples=150, objective=objective)
    scores = resamples.score(odds[None])
    assert scores.score[0] == pytest.approx(objective.score(labels, odds, 4, MINORITY), abs=1e-12)
    expected = [
        np.mean([
            reference.average_precision_score(labels == name, odds[:, place], sample_weight=weight)
            for place, name in enumerate(MINORITY)
        ])
        for weight in weights_of(resamples)
    ]  # fmt: skip
    assert np.corrcoef(scores.resampled[0], expected)[0, 1] > 0.99
    assert scores.resampled[0].std() == pytest.approx(np.std(expected), rel=0.08)
