import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.statistics import temperature
from trainable.metrics import softmax


def drawn(seed, num_images=600, times=1.0):
    """Logits, ``times`` too large, of labels that are drawn by their probabilities."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((num_images, 4))
    labels = np.array([rng.choice(4, p=row) for row in softmax(logits)])
    return times * logits, labels


@pytest.mark.parametrize("times", [0.3, 3.0])
def test_what_logits_are_too_large_or_too_small_by_is_found(times):
    logits, labels = drawn(0, times=times)
    found = temperature.fit(logits, labels, seed=0)
    assert found.value == pytest.approx(times, rel=0.15)
    assert found.error_after < 0.5 * found.error_before
    assert (softmax(logits / found.value).argmax(axis=1) == logits.argmax(axis=1)).all()
    grid = np.exp(np.linspace(-3, 3, 3001))
    losses = [-np.log(softmax(logits / value)[np.arange(len(labels)), labels]).mean() for value in grid]
    assert found.value == pytest.approx(grid[int(np.argmin(losses))], rel=5e-3)


def test_probabilities_that_can_be_taken_at_their_word_are_mostly_left_alone():
    kept = [temperature.fit(*drawn(seed, num_images=120), seed) for seed in range(30)]
    assert sum(found.value == 1 for found in kept) >= 15
    assert all(found.error_after == found.error_before for found in kept if found.value == 1)


def test_images_of_a_single_group_judge_no_temperature():
    logits, labels = drawn(0, num_images=50, times=3.0)
    found = temperature.fit(logits, labels, 0, np.zeros(50, int))
    assert found.value == 1
    assert found.error_before == found.error_after > 0


@given(st.integers(0, 1000))
@settings(max_examples=15)
def test_a_half_that_is_all_right_or_all_wrong_ends_at_the_ends_of_the_range(seed):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((40, 3)).astype(np.float32)
    for labels in (logits.argmax(axis=1), logits.argmin(axis=1)):
        found = temperature.fit(logits, labels, seed)
        assert np.exp(-3.01) <= found.value <= np.exp(3.01)
        assert np.isfinite([found.error_before, found.error_after]).all()
