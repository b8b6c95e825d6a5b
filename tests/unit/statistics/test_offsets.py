"""Decision offsets: they help where a prior has shifted, and are left at 0 where they do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from study.statistics import offsets
from study.statistics.offsets import Decided


def logits_of(rng, counts, val_counts, sharpness):
    """Logits of a calibrated model that was trained on ``counts``, and the labels of images drawn by ``val_counts``."""
    labels = np.repeat(np.arange(len(counts)), val_counts)
    logits = rng.standard_normal((len(labels), len(counts)))
    logits[np.arange(len(labels)), labels] += sharpness
    return sharpness * logits + np.log(counts), labels


def test_a_prior_that_has_shifted_is_found_and_taken_off():
    counts = [20, 400, 400]
    logits, labels = logits_of(np.random.default_rng(0), counts, [500, 500, 500], 2.0)
    found = offsets.fit(Decided(logits, labels, counts, [0]), seed=0)
    assert 0.6 <= found.tau <= 1.4  # 1 takes off what training on these counts has put there
    assert np.allclose(found.values, -found.tau * np.log(np.array(counts) / 820))
    assert found.gain > 0.1
    assert found.rule == offsets.ONE_TAU
    fresh_logits, fresh_labels = logits_of(np.random.default_rng(1), counts, [500, 500, 500], 2.0)

    def f1(values):
        return f1_score(fresh_labels, values.argmax(axis=1), labels=[0], average="macro")

    assert f1(fresh_logits + found.values) - f1(fresh_logits) > 0.1


def test_offsets_that_do_not_help_on_images_that_did_not_choose_them_are_left_at_0():
    counts, kept = [20, 400, 400], 0
    for seed in range(40):  # the prior fits already, so that whatever helps is noise
        logits, labels = logits_of(np.random.default_rng(seed), counts, [20, 400, 400], 2.0)
        found = offsets.fit(Decided(logits, labels, counts, [0]), seed)
        kept += bool(found.values.any())
        assert (found.tau == 0) == (not found.values.any())
    assert kept <= 20


@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_the_chosen_tau_is_never_worse_on_all_images_than_none(seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.standard_normal((60, 3)), rng.integers(3, size=60)
    found = offsets.fit(Decided(logits, labels, [5, 50, 60], [0, 1]), seed)

    def f1(values):
        return f1_score(labels, values.argmax(axis=1), labels=[0, 1], average="macro", zero_division=0)

    assert f1(logits + found.values) >= f1(logits)


def test_equal_class_counts_leave_a_tau_nothing_to_offset():
    rng = np.random.default_rng(0)
    images = Decided(rng.standard_normal((90, 3)), np.repeat([0, 1, 2], 30), [50, 50, 50], [0])
    assert offsets.tau_of(images) == 0
    assert not offsets._one_tau(images).any()


def test_classes_that_need_other_offsets_get_their_own():
    counts = [100, 100, 100]  # the same share, so that no tau can help
    logits, labels = logits_of(np.random.default_rng(0), counts, [300, 300, 300], 1.5)
    wrong = np.array([-2.0, 1.0, 0.0])
    images = Decided(logits + wrong, labels, counts, [0, 1])
    found = offsets.fit(images, seed=0)
    assert found.rule == offsets.PER_CLASS
    assert found.gain > 0.05
    assert found.values[0] > 1 > 0 > found.values[1]
    fresh = logits_of(np.random.default_rng(1), counts, [300, 300, 300], 1.5)
    unseen = Decided(fresh[0] + wrong, fresh[1], counts, [0, 1])
    assert unseen.score(found.values) - unseen.score(np.zeros(3)) > 0.05
    varies = offsets.spread(images, found.rule, seed=0)
    assert 0 < varies[0] < 0.6
    assert varies[2] == 0
    few = images.of(np.arange(len(labels)) % 12 == 0)
    assert offsets.spread(few, found.rule, seed=0)[0] > varies[0]


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_per_class_offsets_are_never_worse_on_the_images_that_chose_them(seed):
    rng = np.random.default_rng(seed)
    images = Decided(rng.standard_normal((60, 3)), rng.integers(3, size=60), [5, 50, 60], [0, 1])
    assert (
        images.score(offsets._per_class(images))
        >= images.score(offsets._one_tau(images))
        >= images.score(0 * np.ones(3))
    )


@given(st.lists(st.integers(0, 9), min_size=10, max_size=60), st.integers(0, 100))
def test_a_group_is_resampled_whole_in_its_class_and_falls_on_one_side_of_halves(groups, seed):
    groups = np.array(groups)
    labels = groups % 3
    drawn = offsets.resample(labels, groups, np.random.default_rng(seed))
    times = np.bincount(drawn, minlength=len(labels))
    for group in set(groups.tolist()):
        assert len(set(times[groups == group].tolist())) == 1
    for name in set(labels.tolist()):  # as many groups of each class as there are
        of_class = np.unique(groups[labels == name])
        firsts = [np.flatnonzero(groups == group)[0] for group in of_class]
        assert times[firsts].sum() == len(of_class)
    one, other = Decided(np.zeros((len(labels), 3)), labels, [1, 1, 1], [0], groups).halves(seed)
    assert not set(one.groups.tolist()) & set(other.groups.tolist())


def test_the_score_with_the_best_rule_is_of_images_that_did_not_choose_it():
    counts = [20, 400, 400]
    rng = np.random.default_rng(0)
    logits, labels = logits_of(rng, counts, [100, 100, 100], 2.0)
    images = Decided(logits, labels, counts, [0])
    one, other = images.halves(3)
    by_hand = [
        other_half.score(-offsets.tau_of(half, offsets.TAUS[::5]) * images.log_shares)
        for half, other_half in ((one, other), (other, one))
    ]
    assert offsets.with_best_rule(images, seed=3) == pytest.approx(np.mean(by_hand))
    assert offsets.with_best_rule(images, seed=3) > images.score(np.zeros(3)) + 0.1
    noise = Decided(rng.standard_normal((300, 3)), labels, [5, 50, 60], [0])  # nothing to gain
    assert offsets.with_best_rule(noise, 0) <= noise.score(-offsets.tau_of(noise) * noise.log_shares) + 1e-12
