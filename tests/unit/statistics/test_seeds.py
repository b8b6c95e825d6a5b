import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.metrics import f1_score

from benchmarks.calibration import MINORITY, NUM_CLASSES, class_counts, draw, even_errors, f1_of, labels_of, true_f1
from study.statistics.intervals import difference, intervals
from study.statistics.resamples import Resamples, Scores
from study.statistics.seeds import (
    best_recipe,
    confirmed,
    difference_on_images,
    means_on_images,
    paired_differences,
    recipe_means,
    second_half,
    two_halves,
)

tables = hnp.arrays(
    float, st.tuples(st.integers(2, 5), st.integers(2, 6)), elements=st.integers(0, 1000).map(lambda n: n / 1000)
)


@given(tables)
def test_means_and_intervals_are_scipys(scores):
    found = recipe_means(scores, 0.9)
    for index, row in enumerate(scores):
        assert found.estimate[index] == pytest.approx(row.mean())
        if row.std() > 1e-9:
            theirs = stats.ttest_1samp(row, 0).confidence_interval(0.9)
            assert (found.low[index], found.high[index]) == pytest.approx((theirs.low, theirs.high))


@given(tables)
def test_two_recipes_differ_by_the_paired_t_interval(scores):
    pair = scores[:2]
    gaps = pair[0] - pair[1]
    found = paired_differences(pair)
    assert found.estimate[0, 1] == pytest.approx(gaps.mean(), abs=1e-12)
    if gaps.std() > 1e-9:
        theirs = stats.ttest_rel(*pair).confidence_interval(0.95)
        assert (found.low[0, 1], found.high[0, 1]) == pytest.approx((theirs.low, theirs.high))


def test_the_residual_deviation_is_pooled_over_recipes_counted_by_hand():
    # recipes 0.2 apart, a seed that adds 0.2 to all, residuals of ±0.01 or 0: least squares with 2 degrees of freedom
    scores = np.array([[0.5, 0.7, 0.6], [0.3, 0.5, 0.4]]) + 0.01 * np.array([[1, -1, 0], [-1, 1, 0]])
    found = paired_differences(scores)
    half = stats.t.ppf(0.975, 2) * np.sqrt(4 * 0.01**2 / 2 * 2 / 3)
    assert found.estimate == pytest.approx(np.array([[0, 0.2], [-0.2, 0]]), abs=1e-12)
    assert found.high[0, 1] - 0.2 == pytest.approx(half)
    assert 0.2 - found.low[0, 1] == pytest.approx(half)


@given(tables, st.lists(st.integers(-9, 9), min_size=6, max_size=6))
def test_what_a_seed_does_to_all_recipes_changes_no_difference_and_no_choice(scores, effects):
    shifted = scores + np.array(effects)[: scores.shape[1]]
    there, here = paired_differences(scores), paired_differences(shifted)
    assert here.estimate == pytest.approx(there.estimate, abs=1e-9)
    assert here.high == pytest.approx(there.high, abs=1e-9)
    others = np.sort(scores.sum(axis=1, keepdims=True) - scores, axis=0)
    if (others[-1] - others[-2] > 1e-9).all():  # no tie that rounding could break
        assert (confirmed(shifted).chosen == confirmed(scores).chosen).all()


def test_the_winner_has_the_highest_mean_and_ties_go_to_the_earlier():
    assert best_recipe(np.array([[0.5, 0.5], [0.9, 0.3], [0.1, 0.2]])) == 1
    assert best_recipe(np.array([[0.5, 0.5], [0.25, 0.75]])) == 0


@given(tables)
def test_confirmed_scores_are_those_of_a_loop(scores):
    exact = np.round(scores * 1000)  # whole numbers: sums and ties are exact
    found = confirmed(exact)
    for seed in range(exact.shape[1]):
        others = [sum(row[other] for other in range(exact.shape[1]) if other != seed) for row in exact]
        assert found.chosen[seed] == others.index(max(others))
        assert found.scores[seed] == exact[found.chosen[seed], seed]
    assert found.mean.estimate == pytest.approx(np.mean(found.scores))
    assert found.mean.low <= found.mean.estimate <= found.mean.high
    assert found.mean.estimate <= exact.mean(axis=1).max() + 1e-9


def test_confirmed_counted_by_hand():
    # without seed 0 recipe 1 leads, 1.1 to 0.9; without seed 1 and seed 2 recipe 0, 1.3 to 0.9 and 1.4 to 0.8
    scores = np.array([[0.9, 0.5, 0.4], [0.3, 0.5, 0.6]])
    found = confirmed(scores)
    assert found.chosen.tolist() == [1, 0, 0]
    assert found.scores.tolist() == [0.3, 0.5, 0.4]
    assert found.mean.estimate == pytest.approx(0.4)


def test_with_a_recipe_that_stands_out_only_its_seeds_make_the_interval():
    # seeds move both alike: the interval is then that of the seeds' mean square, on their degrees of freedom
    seeds = np.array([0.00, 0.02, 0.04, 0.06])
    scores = np.stack([0.9 + seeds, 0.5 + seeds])
    found = confirmed(scores)
    theirs = stats.ttest_1samp(scores[0], 0).confidence_interval(0.95)
    assert (found.mean.low, found.mean.high) == pytest.approx((theirs.low, theirs.high), rel=1e-3)


def test_equal_scores_have_no_width():
    found = confirmed(np.full((3, 4), 0.5))
    assert found.mean.low == found.mean.estimate == found.mean.high == 0.5


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_confirmed_score_is_unbiased_and_covered_where_the_highest_mean_is_not(spread):
    """400 confirmations of 5 recipes on 5 seeds; `python -m benchmarks calibration` is the long form."""
    rng = np.random.default_rng(1)
    off, off_highest, covered = [], [], []
    for _ in range(400):
        truth = rng.normal(0, spread, 5)
        scores = truth[:, None] + rng.normal(0, 0.5, 5) + rng.normal(0, 0.8, (5, 5))
        found = confirmed(scores)
        expected = truth[found.chosen].mean()
        off.append(found.mean.estimate - expected)
        off_highest.append(scores.mean(axis=1).max() - truth[best_recipe(scores)])
        covered.append(found.mean.low <= expected <= found.mean.high)
    assert abs(np.mean(off)) < 4 * np.std(off) / 20
    assert np.mean(off_highest) > 4 * np.std(off_highest) / 20
    assert 0.92 <= np.mean(covered) <= 0.985


def runs_of(scores, image_effects, num_images=10**6):
    """Scores of runs (R, S), one large minority class, and what N resamples of the images do to each, (R, S, N)."""
    scores = np.asarray(scores, float)
    resampled = (scores[..., None] + np.asarray(image_effects)).reshape(scores.size, -1).astype(np.float32)
    f1 = scores.ravel()
    ones = np.ones((scores.size, 1))
    return Scores(f1, resampled, f1[:, None], 1e9 * ones, np.array([num_images]), ones)


def half_width(found):
    """Of an interval that Wilson's has made, as the standard errors of the logit that it reaches, at any size."""
    low, estimate, high = (np.log(x / (1 - x)) for x in (found.low, found.estimate, found.high))
    assert high - estimate == pytest.approx(estimate - low, rel=1e-4)
    return 2 * np.sinh((high - estimate) / 2) * found.estimate * (1 - found.estimate)


def test_where_images_do_nothing_seeds_alone_make_the_interval():
    scores = np.array([[0.7, 0.72, 0.74], [0.5, 0.53, 0.53]])
    found = runs_of(scores, np.zeros((2, 3, 2)))
    expected = stats.t.ppf(0.975, 2) * scores.std(axis=1, ddof=1) / np.sqrt(3)
    assert half_width(means_on_images(found, 3)) == pytest.approx(expected, rel=1e-4)
    gap = difference_on_images(found, 3, 0, 1)
    theirs = stats.ttest_rel(*scores).confidence_interval(0.95)
    assert (gap.low, gap.high) == pytest.approx((theirs.low, theirs.high), rel=1e-5)


def test_runs_that_are_all_the_same_have_the_interval_of_one():
    labels, predictions = labels_of(class_counts(20)), []
    for draws in draw([even_errors(0.8, 20), even_errors(0.7, 20)], class_counts(20), 0.7, 1, np.random.default_rng(3)):
        predictions += [draws[0]] * 4
    scores = Resamples(labels, NUM_CLASSES, MINORITY).score(np.array(predictions))
    one, four = intervals(scores), means_on_images(scores, 4)
    assert four.estimate == pytest.approx(one.estimate[[0, 4]])
    assert four.low == pytest.approx(one.low[[0, 4]])
    assert four.high == pytest.approx(one.high[[0, 4]])
    pair, pairs = difference(scores, 0, 4), difference_on_images(scores, 4, 0, 1)
    assert pairs.estimate == pytest.approx(pair.estimate)
    # but for the images on which only one errs: each seed has one of its own
    assert 0.9 < (pairs.high - pairs.low) / (pair.high - pair.low) <= 1


def test_runs_that_never_find_a_class_are_known_as_well_as_one_of_them():
    labels = labels_of(class_counts(36))
    never = np.full((4, len(labels)), NUM_CLASSES - 1)  # always a class of the majority
    scores = Resamples(labels, NUM_CLASSES, MINORITY).score(never)
    one, two = intervals(scores), means_on_images(scores, 2)
    assert two.high == pytest.approx(one.high[[0, 2]])
    pair, pairs = difference(scores, 0, 2), difference_on_images(scores, 2, 0, 1)
    assert pairs.high - pairs.low <= (pair.high - pair.low) * (1 + 1e-9)


def test_images_add_what_two_seeds_share_and_no_more_counted_by_hand():
    # resamples move both seeds by ±0.02 alike and each by ±0.01 on its own; seeds are 0.06 apart
    common, own = np.array([1, 1, 1, 1, -1, -1, -1, -1]) * 0.02, np.array([1, 1, -1, -1, 1, 1, -1, -1]) * 0.01
    effects = np.stack([common + own, common + 0.01 * np.array([1, -1, 1, -1, 1, -1, 1, -1])])
    found = means_on_images(runs_of([[0.57, 0.63]], effects[None]), 2)
    seeds, images = 0.0018 / 2, 0.02**2
    freedom = (seeds + images) ** 2 / (seeds**2 / 1 + images**2 / 999_999)
    expected = stats.t.ppf(0.975, freedom) * np.sqrt(seeds + images)
    assert half_width(found) == pytest.approx([expected], rel=1e-4)
    # seeds that agree by chance: the images alone, of the mean over seeds
    found = means_on_images(runs_of([[0.6, 0.6]], effects[None]), 2)
    assert half_width(found) == pytest.approx([stats.norm.ppf(0.975) * np.sqrt(images + 0.01**2 / 2)], rel=1e-4)


def test_what_images_do_to_both_recipes_cancels_in_their_difference():
    common = np.array([1, -1, 1, -1]) * 0.05
    gap = difference_on_images(runs_of([[0.7, 0.72], [0.6, 0.62]], common), 2, 0, 1)
    assert (gap.low, gap.estimate, gap.high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_scores_of_0_and_1_have_a_width_within_bounds(value):
    labels = labels_of(class_counts(20))
    predictions = np.tile(labels if value else (labels + 1) % NUM_CLASSES, (2, 1))
    found = means_on_images(Resamples(labels, NUM_CLASSES, MINORITY).score(predictions), 2)
    assert found.estimate == [value]
    assert 0 <= found.low[0] < found.high[0] <= 1


@pytest.mark.parametrize(("deviation", "most_alone"), [(0.0, 0.85), (0.5, 0.88)])
def test_the_mean_over_seeds_and_images_is_covered_where_seeds_alone_do_not(deviation, most_alone):
    """300 recipes of 5 seeds on images of their own; `python -m benchmarks calibration` is the long form."""
    rng, counts = np.random.default_rng(2), class_counts(20)
    resamples = Resamples(labels_of(counts), NUM_CLASSES, MINORITY, num_resamples=100)
    covered = []
    for _ in range(300):
        models = [even_errors(0.7 + 0.05 * deviation * z, 20) for z in np.clip(rng.standard_normal(5), -3, 3)]
        scores = resamples.score(np.concatenate(list(draw(models, counts, 0.7, 1, rng))))
        both, alone = means_on_images(scores, 5), recipe_means(scores.score[None])
        covered.append([found.low[0] <= 0.7 <= found.high[0] for found in (both, alone)])
    both, alone = np.mean(covered, axis=0)
    assert 0.91 <= both <= 0.99
    assert alone < most_alone


def test_an_epoch_chosen_on_either_half_is_scored_on_the_other():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [11, 20, 33]))
    predictions = np.where(rng.random((7, 64)) < 0.7, labels, rng.integers(3, size=(7, 64)))
    scores = set()
    for seed in range(20):
        second = second_half(labels, 3, seed)
        found = two_halves(labels, predictions, 3, [0, 1], seed)
        other_scores = []
        for half in (~second, second):
            on_half = [f1_score(labels[half], row[half], labels=[0, 1], average="macro") for row in predictions]
            chosen = on_half.index(max(on_half))
            other_scores.append(f1_score(labels[~half], predictions[chosen, ~half], labels=[0, 1], average="macro"))
        assert found == pytest.approx(np.mean(other_scores))
        scores.add(found)
    assert len(scores) > 1  # the seed draws the halves


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 1000))
def test_halves_are_stratified(labels, seed):
    labels = np.array(labels)
    second = second_half(labels, 4, seed)
    for name in range(4):
        size = (labels == name).sum()
        assert (second & (labels == name)).sum() in (size // 2, size - size // 2)
    assert (second == second_half(labels, 4, seed)).all()


def test_equal_epochs_go_to_the_earlier_and_keep_their_score():
    labels = np.repeat([0, 1], [10, 10])
    second = second_half(labels, 2, seed=0)
    # on the first half it is as good as the whole truth, on the second it is wrong: so a tie shows in the score
    first = np.where(second, 1 - labels, labels)
    assert two_halves(labels, np.stack([first, labels]), 2, [0], seed=0) == pytest.approx(0.5)
    assert two_halves(labels, np.stack([labels, first]), 2, [0], seed=0) == 1.0


def test_the_best_epochs_score_is_too_high_and_two_halves_is_not():
    positives, num_sets = 50, 150
    model, counts = even_errors(0.8, positives), class_counts(positives)
    labels, truth = labels_of(counts), true_f1(model, positives)
    epochs = np.stack(list(draw([model] * 10, counts, 0.5, num_sets, np.random.default_rng(0))))
    best = np.array([f1_of(epochs[:, index], labels).max() for index in range(num_sets)])
    halves = [two_halves(labels, epochs[:, index], NUM_CLASSES, MINORITY, index) for index in range(num_sets)]
    error = np.std(halves) / np.sqrt(num_sets)
    assert abs(np.mean(halves) - truth) < 4 * error
    assert best.mean() - truth > 8 * error


@given(st.lists(st.integers(0, 3), min_size=20, max_size=80), st.integers(0, 1000), st.integers(2, 7))
def test_halves_of_groups_are_whole_groups_and_about_half_of_each_class(labels, seed, size):
    labels, groups = np.array(labels), np.arange(len(labels)) // size
    second = second_half(labels, 4, seed, groups)
    for group in range(groups.max() + 1):
        assert len(set(second[groups == group].tolist())) == 1
    for label in set(labels.tolist()):
        ours = labels == label
        largest = np.bincount(groups[ours]).max()
        assert abs(second[ours].sum() - ours.sum() / 2) <= 1.5 * largest
    assert np.array_equal(second_half(labels, 4, seed, np.arange(len(labels))), second_half(labels, 4, seed))


def test_a_simpler_recipe_stays_unless_another_beats_it_beyond_doubt():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = 0.6 + rng.normal(0, 0.03, (4, 1)) + rng.normal(0, 0.03, (4, int(rng.integers(2, 6))))
        gaps, best = paired_differences(scores), best_recipe(scores)
        expected = next((recipe for recipe in (2, 1) if gaps.low[best, recipe] <= 0), best)
        assert best_recipe(scores, [2, 1]) == expected
        # then nobody is beyond doubt better than the winner
        assert (gaps.low[:, expected] <= 0).all()
    clear = np.array([[0.9, 0.91, 0.9], [0.5, 0.51, 0.5], [0.4, 0.41, 0.4]])
    assert best_recipe(clear, [2, 1]) == 0
    assert best_recipe(clear[:, :1], [2, 1]) == 2  # of one seed nothing is beyond doubt


def test_the_recipe_that_the_other_seeds_choose_is_chosen_by_the_same_rule():
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores = 0.6 + rng.normal(0, 0.03, (4, 1)) + rng.normal(0, 0.02, (4, 5))
        found = confirmed(scores, simple=[2, 1])
        chosen = [best_recipe(np.delete(scores, seed, axis=1), [2, 1]) for seed in range(5)]
        assert found.chosen.tolist() == chosen
        assert found.scores.tolist() == [scores[recipe, seed] for seed, recipe in enumerate(chosen)]
        assert found.mean.low < found.mean.estimate < found.mean.high


def test_of_two_seeds_each_chooses_by_the_noise_of_both_and_not_always_the_simplest():
    clear = np.array([[0.9, 0.91], [0.5, 0.51], [0.4, 0.41]])
    found = confirmed(clear, simple=[2, 1])
    assert found.chosen.tolist() == [0, 0]
    assert found.mean.estimate == pytest.approx(0.905)
    close = np.array([[0.5, 0.61], [0.6, 0.52], [0.55, 0.55]])
    assert confirmed(close, simple=[2, 1]).chosen.tolist() == [2, 2]
    rng, off, covered = np.random.default_rng(3), [], []
    for _ in range(600):
        truth = rng.normal(0, 1.5, 4)
        scores = truth[:, None] + rng.normal(0, 0.3, 2) + rng.normal(0, 0.5, (4, 2))
        found = confirmed(scores, simple=[0, 1])
        expected = truth[found.chosen].mean()
        off.append(found.mean.estimate - expected)
        covered.append(found.mean.low <= expected <= found.mean.high)
    assert abs(np.mean(off)) < 4 * np.std(off) / np.sqrt(600)
    assert np.mean(covered) >= 0.92
