"""Six photographs of one thing say as much as one: wherever images are resampled or divided, groups are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from study.statistics import offsets, seeds
from study.statistics.choice import corrected
from study.statistics.intervals import behind, intervals
from study.statistics.resamples import Resamples
from tests.unit.trainable.test_folds import folded
from trainable.images.splits import split, subset
from trainable.objectives import OBJECTIVES, Objective

COPIES = st.integers(2, 6)


@st.composite
def images(draw):
    """Labels (n,) and the logits (T, n, 3) of some trials; of the second and third class few images."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = draw(st.integers(8, 40)), draw(st.integers(5, 15)), draw(st.integers(5, 15))
    labels = np.repeat(np.arange(3), counts)
    logits = rng.standard_normal((4, len(labels), 3)) + draw(st.floats(0.5, 2)) * np.eye(3)[labels]
    return labels, logits


@settings(max_examples=40)
@given(images(), COPIES, st.integers(0, 99), st.sampled_from(sorted(OBJECTIVES)))
def test_intervals_the_tied_group_and_the_chosen_score_are_those_of_the_clusters(found, copies, seed, name):
    objective: Objective = OBJECTIVES[name]
    labels, logits = found
    told = []
    for times in (1, copies):
        groups = np.repeat(np.arange(len(labels)), times)
        repeated = np.repeat(labels, times)
        judged = np.stack([objective.judged(np.repeat(values, times, axis=0), [1, 2]) for values in logits])
        resamples = Resamples(repeated, 3, [1, 2], 60, seed, groups, objective)
        scores = resamples.score(judged)
        ends, gaps = intervals(scores), behind(scores, 0)
        left = corrected(scores, resamples, judged)
        told.append([ends.estimate, ends.low, ends.high, gaps.low, gaps.high, [left.estimate, left.low, left.high]])
    for one, many in zip(*told, strict=True):
        assert many == pytest.approx(one, abs=2e-4)  # float32 sums, and ties of scores that are summed in another order


@settings(max_examples=40)
@given(images(), COPIES, st.integers(0, 99))
def test_halves_that_decide_and_are_decided_hold_whole_clusters(found, copies, seed):
    labels, logits = found
    groups = np.repeat(np.arange(len(labels)), copies)
    repeated = np.repeat(labels, copies)
    second = seeds.second_half(repeated, 3, seed, groups)  # of epochs, ensembles, temperatures and offsets
    assert (second.reshape(-1, copies) == second[::copies, None]).all()
    assert 0 < second.sum() < len(second)
    decided = offsets.Decided(np.repeat(logits[0], copies, axis=0), repeated, [100, 10, 5], [1, 2], groups)
    for half in decided.halves(seed):
        assert (np.unique(half.groups, return_counts=True)[1] == copies).all()
    drawn = offsets.resample(repeated, groups, np.random.default_rng(seed))  # how much offsets vary
    times = np.bincount(drawn, minlength=len(repeated)).reshape(-1, copies)
    assert (times == times[:, :1]).all()
    assert np.bincount(repeated[drawn]).tolist() == np.bincount(repeated).tolist()


@settings(max_examples=30)
@given(images(), COPIES, st.integers(0, 99), st.integers(2, 4), st.sampled_from([0.25, 0.5]))
def test_folds_and_learning_curves_hold_whole_clusters(found, copies, seed, number, share):
    labels, _ = found
    assume(np.bincount(labels).min() >= 2 * number)
    pool = folded(np.repeat(labels, copies), np.repeat(np.arange(len(labels)), copies), number)
    for num_folds in (0, number):
        drawn = split(replace(pool, spec=replace(pool.spec, folds=num_folds)), seed, seed)
        for part in (*drawn.parts, *subset(pool, drawn, share, seed).parts):
            for positions in (part.train, part.val):
                assert (np.unique(pool.groups[positions], return_counts=True)[1] == copies).all()
