"""Precision-recall and reliability of a trial's probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, precision_score, recall_score

from study.findings import curves


@given(st.integers(0, 10_000), st.integers(1, 150), st.integers(1, 5))
def test_precision_and_recall_are_those_of_scikit_learn(seed, num_images, digits):
    rng = np.random.default_rng(seed)
    scores = rng.random(num_images).round(digits)  # with ties
    is_class = rng.random(num_images) < 0.3
    is_class[0] = True
    recall, precision = curves.precision_recall(scores, is_class)
    theirs = precision_recall_curve(is_class, scores)
    assert recall == pytest.approx(theirs[1][-2::-1], abs=1e-12)
    assert precision == pytest.approx(theirs[0][-2::-1], abs=1e-12)


def test_of_a_file_counted_by_hand_and_by_scikit_learn(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=400)
    logits = (rng.standard_normal((400, 3)) + 2 * np.eye(3)[labels]).astype(np.float16)
    np.savez(tmp_path / "validation.npz", labels=labels, logits=logits)
    found = curves.read(tmp_path / "validation.npz", ["a", "b", "c"], [0, 2], 400)
    answers = logits.argmax(axis=1)
    assert [curve.name for curve in found.minority] == ["a", "c"]
    for curve, label in zip(found.minority, (0, 2), strict=True):
        expected = [
            score(labels, answers, labels=[label], average="macro") for score in (recall_score, precision_score)
        ]
        assert curve.at == pytest.approx(expected)
        assert len(curve.recall) <= curves.MAX_POINTS
        assert curve.recall[-1] == 1
    assert found.counts.sum() == 400
    assert (found.accuracy * found.counts).sum() == pytest.approx((answers == labels).sum())
