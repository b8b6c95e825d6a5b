import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from trainable import metrics

NUM_CLASSES = 5


@given(
    st.integers(1, NUM_CLASSES).flatmap(
        lambda kinds: st.lists(st.tuples(st.integers(0, kinds - 1), st.integers(0, NUM_CLASSES - 1)), min_size=1)
    ),
    st.sets(st.integers(0, NUM_CLASSES - 1), min_size=1, max_size=NUM_CLASSES - 1),
)
def test_minority_f1_is_scikit_learns(pairs, minority):
    labels, predictions = np.array(pairs).T
    confusion = metrics.confusion_matrix(labels, predictions, NUM_CLASSES)
    expected = f1_score(labels, predictions, labels=sorted(minority), average="macro", zero_division=0)
    assert metrics.minority_f1(confusion, sorted(minority)) == pytest.approx(expected, abs=1e-12)


def test_hand_counted():
    confusion = metrics.confusion_matrix(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1]), 3)
    assert confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert metrics.f1_per_class(confusion).tolist() == [2 * 2 / 6, 2 * 1 / 4, 0.0]
    assert metrics.recall_per_class(confusion).tolist() == [2 / 3, 1 / 2, 0.0]
    assert metrics.reweighted(confusion, [6, 4, 0]).tolist() == [[4, 2, 0], [2, 2, 0], [0, 0, 0]]
