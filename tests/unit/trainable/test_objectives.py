import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as reference

from tests.unit.trainable.test_metrics import outcomes
from trainable import config, costs
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.objectives import OBJECTIVES, named, problems


def test_a_config_names_the_objectives_that_there_are():
    assert tuple(OBJECTIVES) == config.OBJECTIVES
    assert all(name == objective.name for name, objective in OBJECTIVES.items())
    names = [text for objective in OBJECTIVES.values() for text in (objective.name, objective.best, objective.low)]
    assert len(set(names)) == len(names)


def by_scikit_learn(name, labels, predictions, num_classes, minority):
    options = {"average": None, "zero_division": 0}
    if name in ("minority_f1", "minority_f1_adjusted", "macro_f1"):
        of = range(num_classes) if name == "macro_f1" else minority
        return reference.f1_score(labels, predictions, labels=of, **{**options, "average": "macro"})
    recall = reference.recall_score(labels, predictions, labels=np.unique(labels), **options)
    return recall.mean() if name == "balanced_accuracy" else recall.min()


@given(outcomes())
@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "minority_average_precision"])
def test_objectives_of_predictions_are_scikit_learns(name, outcome):
    labels, predictions, num_classes, minority = outcome
    ours = OBJECTIVES[name].score(labels, predictions, num_classes, minority)
    assert ours == pytest.approx(by_scikit_learn(name, labels, predictions, num_classes, minority), abs=1e-12)


@given(outcomes(), st.integers(0, 2**32 - 1), st.booleans())
def test_average_precision_of_log_odds_is_scikit_learns_of_probabilities(outcome, seed, tie):
    labels, _, num_classes, minority = outcome
    logits = np.random.default_rng(seed).standard_normal((len(labels), num_classes))
    logits = logits.round() if tie else logits
    objective = OBJECTIVES["minority_average_precision"]
    judged = objective.judged(logits, minority)
    there = [name for name in minority if (labels == name).any()]
    theirs = [
        reference.average_precision_score(labels == name, judged[:, minority.index(name)].astype(float))
        for name in there
    ]
    assert objective.score(labels, judged, num_classes, minority) == pytest.approx(np.mean(theirs or [0]), abs=1e-12)
    powers = np.exp(logits)
    odds = powers[:, minority] / (powers.sum(axis=1, keepdims=True) - powers[:, minority])
    assert judged == pytest.approx(np.log(odds), abs=1e-5)


def test_images_that_are_all_nearly_certain_are_still_told_apart():
    logits = np.array([[90.0, 0.0], [60.0, 0.0], [75.0, 0.0]], np.float32)  # probabilities of 1 - 1e-26 and less
    judged = OBJECTIVES["minority_average_precision"].judged(logits, [0])
    assert judged[:, 0].argsort().tolist() == [1, 2, 0]


@st.composite
def tables(draw):
    number = draw(st.integers(2, 6))
    cost = st.floats(0.1, 1e4) | st.integers(1, 9)
    return [[0 if row == column else draw(cost) for column in range(number)] for row in range(number)]


@given(tables(), st.integers(0, 2**32 - 1))
def test_a_cost_score_is_what_is_not_lost_of_the_largest_cost(table, seed):
    text = costs.text_of(table)
    objective = named(TrialConfig.from_dict({"objective": text}).objective)
    assert objective.costs == tuple(map(tuple, table))
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(len(table), size=(2, 30))
    lost = [table[label][prediction] for label, prediction in zip(labels, predictions, strict=True)]
    expected = 1 - np.mean(lost) / max(map(max, table))
    assert objective.score(labels, predictions, len(table), [0]) == pytest.approx(expected, abs=1e-12)


def cheapest(probabilities, table):
    """By a slow loop: of each image the class that costs least on average."""
    found = []
    for image in probabilities:
        expected = [sum(p * row[name] for p, row in zip(image, table, strict=True)) for name in range(len(table))]
        found.append(expected.index(min(expected)))
    return found


@given(tables(), st.integers(0, 2**32 - 1))
def test_with_costs_the_class_of_the_least_expected_cost_is_predicted(table, seed):
    objective = named(costs.text_of(table))
    logits = np.random.default_rng(seed).normal(0, 3, (20, len(table)))
    probabilities = softmax(logits, axis=1)
    assert objective.decide(logits).tolist() == objective.judged(logits, [0]).tolist() == cheapest(probabilities, table)
    assert objective.decide_by(probabilities).tolist() == cheapest(probabilities, table)


def test_a_decision_by_costs_counted_by_hand():
    objective = named("costs:0,1;9,0")  # to miss the second class costs nine times as much
    assert objective.decide(np.log([[0.91, 0.09], [0.89, 0.11]])).tolist() == [0, 1]
    assert named("costs:0,1;1,0").decide(np.log([[0.51, 0.49], [0.49, 0.51]])).tolist() == [0, 1]
    assert OBJECTIVES["macro_f1"].decide(np.log([[0.51, 0.49], [0.5, 0.5]])).tolist() == [0, 0]


def test_equal_costs_are_accuracy():
    labels, predictions = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    assert named("costs:0,3,3;3,0,3;3,3,0").score(labels, predictions, 3, [0]) == 0.5


@pytest.mark.parametrize(
    "text",
    ["costs:0", "costs:0,1", "costs:0,1;1", "costs:0,1;1,2", "costs:0,-1;1,0", "costs:0,1;0,0", "costs:0,1e9;1,0",
     "costs:0,1;,0", "costs:" + ";".join([",".join("0" * 101)] * 101), "costs:", "costs:0,nan;1,0"],
)  # fmt: skip
def test_costs_that_make_no_sense_are_refused(text):
    with pytest.raises(UsageError, match="objective must"):
        TrialConfig.from_dict({"objective": text})


def test_costs_of_another_number_of_classes_are_named():
    assert problems("costs:0,1;1,0", 2) == problems("macro_f1", 7) == []
    assert problems("costs:0,1;1,0", 3) == ["objective must have costs for 3 classes, and has them for 2"]
