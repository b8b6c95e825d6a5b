import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from trainable.metrics import (
    balanced_accuracy,
    brier_score,
    calibration_error,
    class_report,
    confusion_matrix,
    f1_per_class,
    micro_f1,
    minority_f1,
    one_vs_rest,
    precision_per_class,
    recall_per_class,
    reweighted,
    softmax,
    weighted_f1,
)


@st.composite
def outcomes(draw):
    """(labels, predictions, number of classes, minority); some classes absent, some never predicted."""
    num_classes = draw(st.integers(2, 6))
    classes = st.integers(0, num_classes - 1)
    there = draw(st.lists(classes, min_size=1, unique=True))
    called = draw(st.lists(classes, min_size=1, unique=True))
    size = draw(st.integers(1, 60))
    labels = draw(st.lists(st.sampled_from(there), min_size=size, max_size=size))
    predictions = draw(st.lists(st.sampled_from(called), min_size=size, max_size=size))
    minority = draw(st.lists(classes, min_size=1, max_size=num_classes - 1, unique=True))
    return np.array(labels), np.array(predictions), num_classes, minority


@given(outcomes())
def test_minority_f1_is_scikit_learns(outcome):
    labels, predictions, num_classes, minority = outcome
    ours = minority_f1(confusion_matrix(labels, predictions, num_classes), minority)
    theirs = reference.f1_score(labels, predictions, labels=minority, average="macro", zero_division=0)
    assert ours == pytest.approx(theirs, abs=1e-12)


@given(outcomes())
def test_confusion_precision_recall_and_f1_are_scikit_learns(outcome):
    labels, predictions, num_classes, _ = outcome
    confusion = confusion_matrix(labels, predictions, num_classes)
    options = {"labels": range(num_classes), "average": None, "zero_division": 0}
    assert (confusion == reference.confusion_matrix(labels, predictions, labels=range(num_classes))).all()
    assert f1_per_class(confusion) == pytest.approx(reference.f1_score(labels, predictions, **options), abs=1e-12)
    assert recall_per_class(confusion) == pytest.approx(
        reference.recall_score(labels, predictions, **options), abs=1e-12
    )
    assert precision_per_class(confusion) == pytest.approx(
        reference.precision_score(labels, predictions, **options), abs=1e-12
    )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@given(outcomes())
def test_scores_over_all_classes_are_scikit_learns(outcome):
    labels, predictions, num_classes, _ = outcome
    confusion = confusion_matrix(labels, predictions, num_classes)
    options = {"labels": range(num_classes), "zero_division": 0}
    for ours, average in [(micro_f1, "micro"), (weighted_f1, "weighted")]:
        theirs = reference.f1_score(labels, predictions, average=average, **options)
        assert ours(confusion) == pytest.approx(theirs, abs=1e-12)
    theirs = reference.balanced_accuracy_score(labels, predictions)
    assert balanced_accuracy(confusion) == pytest.approx(theirs, abs=1e-12)


@st.composite
def probable(draw):
    """(labels, probabilities (n, K)); classes absent, or one alone there; scores that tie, or are certain."""
    labels, _, num_classes, _ = draw(outcomes())
    values = draw(st.sampled_from([[0.0], [0.0, 1.0], [-1.5, 0.0, 0.5, 2.0], [-100.0, 0.0, 100.0], None]))
    shape = (len(labels), num_classes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.standard_normal(shape) if values is None else rng.choice(values, shape)
    return labels, softmax(logits)


@given(probable())
def test_areas_under_curves_are_scikit_learns(case):
    labels, probabilities = case
    areas, precisions = one_vs_rest(labels, probabilities)
    for name in range(probabilities.shape[1]):
        is_own, scores = labels == name, probabilities[:, name]
        if not is_own.any():
            assert np.isnan(areas[name])
            assert np.isnan(precisions[name])
            continue
        assert precisions[name] == pytest.approx(reference.average_precision_score(is_own, scores), abs=1e-12)
        if is_own.all():
            assert np.isnan(areas[name])
        else:
            assert areas[name] == pytest.approx(reference.roc_auc_score(is_own, scores), abs=1e-12)


@given(probable())
def test_the_brier_score_is_scikit_learns_and_the_calibration_error_is_that_of_a_slow_loop(case):
    labels, probabilities = case
    everything = range(probabilities.shape[1])
    theirs = reference.brier_score_loss(labels, probabilities, labels=everything, scale_by_half=False)
    assert brier_score(labels, probabilities) == pytest.approx(theirs, abs=1e-12)
    bins = {}
    for label, row in zip(labels, probabilities, strict=True):
        place = next(index for index, end in enumerate(np.linspace(0, 1, 16)[1:]) if row.max() <= end or index == 14)
        bins.setdefault(place, []).append((row.max(), row.argmax() == label))
    gaps = [len(found) / len(labels) * abs(np.mean(found, axis=0) @ [1, -1]) for found in bins.values()]
    assert calibration_error(labels, probabilities) == pytest.approx(sum(gaps), abs=1e-12)


def test_calibration_counted_by_hand():
    # three images at 0.8, of which one is right, one at 0.6 that is right: 3/4 × (0.8 - 1/3) + 1/4 × 0.4
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.6, 0.4]])
    assert calibration_error(np.array([0, 1, 0, 0]), probabilities) == pytest.approx(0.75 * (0.8 - 1 / 3) + 0.1)


def test_minority_f1_counted_by_hand():
    # class 0: TP 2, FP 1, FN 1: F1 4/6; class 1: never predicted: 0; class 2: TP 3, FP 1, FN 0: 6/7
    labels, predictions = np.array([0, 0, 0, 1, 2, 2, 2]), np.array([0, 0, 2, 0, 2, 2, 2])
    confusion = confusion_matrix(labels, predictions, 3)
    assert confusion.tolist() == [[2, 0, 1], [1, 0, 0], [0, 0, 3]]
    assert f1_per_class(confusion).tolist() == pytest.approx([4 / 6, 0, 6 / 7])
    assert minority_f1(confusion, [0, 1]) == pytest.approx(2 / 6)


def test_many_labels_in_a_small_type_do_not_overflow():
    labels = np.full(10, 199, np.uint8)
    confusion = confusion_matrix(labels, labels, 200)
    assert confusion[199, 199] == confusion.sum() == 10


@given(outcomes(), st.lists(st.integers(1, 5), min_size=6, max_size=6))
def test_reweighting_is_what_more_images_of_a_class_would_give(outcome, times):
    labels, predictions, num_classes, minority = outcome
    repeats = np.array(times)[labels]
    repeated = confusion_matrix(labels.repeat(repeats), predictions.repeat(repeats), num_classes)
    counts = repeated.sum(axis=1)
    weighted = reweighted(confusion_matrix(labels, predictions, num_classes), counts)
    np.testing.assert_allclose(weighted, repeated, atol=1e-12)
    theirs = reference.f1_score(
        labels, predictions, labels=minority, average="macro", zero_division=0, sample_weight=repeats
    )
    assert minority_f1(weighted, minority) == pytest.approx(theirs, abs=1e-12)


def test_reweighting_leaves_a_class_without_images_at_zero():
    assert reweighted(np.array([[3, 1], [0, 0]]), [40, 7]).tolist() == [[30, 10], [0, 0]]


@given(outcomes())
def test_report_shows_scikit_learns_numbers_and_stars_the_minority(outcome):
    labels, predictions, num_classes, minority = outcome
    names = [f"class-{index}" for index in range(num_classes)]
    confusion = confusion_matrix(labels, predictions, num_classes)
    _, *lines, last = class_report(confusion, names, minority).splitlines()
    theirs = reference.classification_report(
        labels, predictions, labels=range(num_classes), target_names=names, output_dict=True, zero_division=0
    )
    assert len(lines) == num_classes
    for index, line in enumerate(lines):
        name, *cells, support = line.split()
        assert name == names[index] + ("*" if index in minority else "")
        expected = theirs[names[index]]
        assert list(map(float, cells)) == pytest.approx(
            [expected[column] for column in ("precision", "recall", "f1-score")], abs=5.1e-5
        )
        assert int(support) == expected["support"]
    assert float(last.split()[-1]) == pytest.approx(minority_f1(confusion, minority), abs=5.1e-5)
    # right-aligned columns of one width: a table
    assert len({len(line) for line in lines}) == 1
