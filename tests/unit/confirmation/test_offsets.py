"""Decision offsets: they help where a prior has shifted, and are left at 0 where they do not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from study.confirmation import offsets


def logits_of(rng, counts, val_counts, sharpness):
    """Logits of a calibrated model that was trained on ``counts``, and the labels of images drawn by ``val_counts``."""
    labels = np.repeat(np.arange(len(counts)), val_counts)
    logits = rng.standard_normal((len(labels), len(counts)))
    logits[np.arange(len(labels)), labels] += sharpness
    return sharpness * logits + np.log(counts), labels


def test_a_prior_that_has_shifted_is_found_and_taken_off():
    counts = [20, 400, 400]
    logits, labels = logits_of(np.random.default_rng(0), counts, [500, 500, 500], 2.0)
    found = offsets.fit(logits, labels, counts, [0], seed=0)
    assert 0.6 <= found.tau <= 1.4  # 1 takes off what training on these counts has put there
    assert np.allclose(found.values, -found.tau * np.log(np.array(counts) / 820))
    assert found.gain > 0.1
    fresh_logits, fresh_labels = logits_of(np.random.default_rng(1), counts, [500, 500, 500], 2.0)

    def f1(values):
        return f1_score(fresh_labels, values.argmax(axis=1), labels=[0], average="macro")

    assert f1(fresh_logits + found.values) - f1(fresh_logits) > 0.1


def test_offsets_that_do_not_help_on_images_that_did_not_choose_them_are_left_at_0():
    counts, kept = [20, 400, 400], 0
    for seed in range(40):  # the prior fits already, so that whatever helps is noise
        logits, labels = logits_of(np.random.default_rng(seed), counts, [20, 400, 400], 2.0)
        found = offsets.fit(logits, labels, counts, [0], seed)
        kept += bool(found.values.any())
        assert (found.tau == 0) == (not found.values.any())
    assert kept <= 20


@given(st.integers(0, 10_000))
def test_the_chosen_tau_is_never_worse_on_all_images_than_none(seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.standard_normal((60, 3)), rng.integers(3, size=60)
    found = offsets.fit(logits, labels, [5, 50, 60], [0, 1], seed)

    def f1(values):
        return f1_score(labels, values.argmax(axis=1), labels=[0, 1], average="macro", zero_division=0)

    assert f1(logits + found.values) >= f1(logits)


def test_equal_class_counts_leave_nothing_to_offset():
    rng = np.random.default_rng(0)
    found = offsets.fit(rng.standard_normal((90, 3)), np.repeat([0, 1, 2], 30), [50, 50, 50], [0], seed=0)
    assert not found.values.any()
    assert found.tau == 0
