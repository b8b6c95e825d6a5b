import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from trainable.metrics import (
    class_report,
    confusion_matrix,
    f1_per_class,
    minority_f1,
    recall_per_class,
    reweighted,
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
def test_confusion_f1_and_recall_are_scikit_learns(outcome):
    labels, predictions, num_classes, _ = outcome
    confusion = confusion_matrix(labels, predictions, num_classes)
    options = {"labels": range(num_classes), "average": None, "zero_division": 0}
    assert (confusion == reference.confusion_matrix(labels, predictions, labels=range(num_classes))).all()
    assert f1_per_class(confusion) == pytest.approx(reference.f1_score(labels, predictions, **options), abs=1e-12)
    assert recall_per_class(confusion) == pytest.approx(
        reference.recall_score(labels, predictions, **options), abs=1e-12
    )


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
