from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.calibration import (
    GROUP_SIZES,
    GROUPED,
    NUM_CLASSES,
    class_counts,
    draw,
    even_errors,
    grouped,
    labels_of,
    true_f1,
    uneven_errors,
)
from study.statistics.intervals import difference, intervals, tied_with_best
from study.statistics.resamples import Resamples, Scores
from trainable.metrics import confusion_matrix, minority_f1

MINORITY = [0, 1, 2]


def made_up(num_trials, seed=0, num_images=200, right=0.8, num_classes=5):
    """(labels, predictions of trials that are right with probability ``right``), in no order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(num_images) % num_classes)
    guesses = rng.integers(num_classes, size=(num_trials, num_images))
    return labels, np.where(rng.random(guesses.shape) < right, labels, guesses)


def scores_of(minority_f1, resampled, class_sizes):
    """Scores of one minority class, from plain numbers."""
    f1 = np.array(minority_f1, float)
    sizes = np.full((len(f1), 1), float(class_sizes))
    return Scores(f1, np.array(resampled, np.float32), f1[:, None], sizes, np.array([10**6]), np.ones((len(f1), 1)))


def test_scores_are_those_of_the_confusion_of_each_resample_in_a_loop():
    labels, predictions = made_up(num_trials=70)  # more than a block
    resamples = Resamples(labels, 5, [3, 1], num_resamples=6, seed=4)
    scores = resamples.score(predictions)
    weights = np.empty((6, 200))
    weights[:, resamples._order] = resamples._weights[1:]
    for trial, row in enumerate(predictions):
        assert scores.score[trial] == pytest.approx(minority_f1(confusion_matrix(labels, row, 5), [3, 1]), abs=1e-14)
        for number, weight in enumerate(weights):
            confusion = np.zeros((5, 5))
            for label, prediction, times in zip(labels, row, weight, strict=True):
                confusion[label, prediction] += times
            assert scores.resampled[trial, number] == pytest.approx(minority_f1(confusion, [3, 1]), abs=1e-5)


def test_every_class_keeps_its_images_in_every_resample():
    labels = np.repeat([0, 1, 2, 3], [5, 1, 40, 30])
    weights = Resamples(labels, 5, [0], num_resamples=50)._weights
    for name, count in enumerate([5, 1, 40, 30]):
        assert weights[:, labels == name].sum(axis=1) == pytest.approx(count, rel=1e-5)
    # 5 images: 4 drawn, each counted 5/4 times
    assert set(np.unique(weights[1:, :5] * 4 / 5).round(4)) <= {0, 1, 2, 3, 4}


def test_the_variance_of_a_mean_is_unbiased():
    # recall of a class that nobody else is called: F1 = 2 TP / (n + TP); with 6 images the plain bootstrap has 5/6
    labels = np.repeat([0, 1], [6, 6])
    weights = Resamples(labels, 2, [0], num_resamples=20_000)._weights[1:, :6]
    right = np.array([1, 1, 1, 1, 0, 0], np.float32)
    assert (weights @ right / 6).var() == pytest.approx(right.var(ddof=1) / 6, rel=0.03)


def test_the_bootstrap_error_is_the_delta_methods():
    labels, predictions = made_up(num_trials=1, num_images=3000)
    scores = Resamples(labels, 5, MINORITY, num_resamples=4000).score(predictions)
    influence = np.zeros(3000)
    for name, f1, size in zip(MINORITY, scores.class_scores[0], scores.class_sizes[0], strict=True):
        called = predictions[0] == name
        influence += (2 * (called & (labels == name)) - f1 * called) / size / 3
    variance = sum((labels == name).sum() * influence[labels == name].var(ddof=1) for name in range(5))
    assert scores.resampled.var() == pytest.approx(variance, rel=0.06)


def test_equal_predictions_give_equal_resamples_and_the_seed_decides_them():
    labels, predictions = made_up(num_trials=2)
    both = Resamples(labels, 5, MINORITY, seed=3).score(predictions[[0, 1, 0]])
    alone = Resamples(labels, 5, MINORITY, seed=3).score(predictions[:1])
    other = Resamples(labels, 5, MINORITY, seed=4).score(predictions[:1])
    assert (both.resampled[0] == both.resampled[2]).all()
    assert both.resampled[0] == pytest.approx(alone.resampled[0], abs=1e-6)
    assert (alone.resampled != other.resampled).any()


@pytest.mark.parametrize("wrong", [199, 201])
def test_predictions_of_other_images_are_refused(wrong):
    labels, _ = made_up(num_trials=1)
    with pytest.raises(ValueError, match=f"predictions of {wrong} images, but there are 200"):
        Resamples(labels, 5, MINORITY).score(np.zeros((1, wrong), int))


def test_a_minority_class_without_images_is_refused():
    with pytest.raises(ValueError, match=r"every class of it needs an image, but they have \[3, 0\]"):
        Resamples(np.zeros(3, int), 2, [0, 1])


def test_the_interval_is_wilsons_at_the_effective_size():
    # large sizes, so that pseudo-counts do not matter: variance 0.001 at 0.8 is that of 160 images
    resampled = 0.8 + np.sqrt(0.001) * np.array([[-1.0, 1.0]])
    found = intervals(scores_of([0.8], resampled, class_sizes=1e9))
    wilson = stats.binomtest(128, 160).proportion_ci(0.95, "wilson")
    assert (found.low[0], found.high[0]) == pytest.approx((wilson.low, wilson.high), abs=1e-4)


def test_the_interval_is_symmetric_on_the_logit_scale():
    resampled = 0.9 + 0.02 * np.array([[-1.0, 1.0]])
    found = intervals(scores_of([0.9], resampled, class_sizes=1e9))
    error = 0.02 / (0.9 * 0.1)  # of the logit
    reach = 2 * np.arcsinh(1.96 * error / 2)
    for end, side in [(found.low, -1), (found.high, 1)]:
        assert np.log(end / (1 - end))[0] == pytest.approx(np.log(9) + side * reach, abs=1e-3)


@pytest.mark.parametrize("positives", [20, 50])
def test_without_an_error_the_interval_is_that_of_a_count_of_none(positives):
    labels = np.repeat([0, 1, 2, 3], [positives] * 3 + [500])
    scores = Resamples(labels, 4, MINORITY).score(labels[None, :])
    found = intervals(scores)
    assert found.estimate[0] == found.high[0] == 1
    # errors are a share of 2 × 3 × positives; t² for none of them, by Wilson
    t = stats.t.ppf(0.975, 3 * positives - 3)
    assert 1 - found.low[0] == pytest.approx(t**2 / (6 * positives + t**2), rel=0.05)


def test_a_class_without_an_error_widens_the_interval_the_more_the_fewer_images_it_has():
    widths = []
    for positives in (5, 50):
        labels = np.repeat([0, 1, 2], [positives, 500, 500])
        predictions = labels.copy()
        predictions[labels == 1] = np.repeat([1, 2], [450, 50])
        found = intervals(Resamples(labels, 3, [0, 1]).score(predictions[None, :]))
        widths.append(found.high[0] - found.low[0])
    assert widths[0] > 1.5 * widths[1]


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
@settings(max_examples=40)
def test_ends_enclose_the_estimate_within_bounds_and_widen_with_confidence(seed, right):
    labels, predictions = made_up(num_trials=3, seed=seed, num_images=40, right=right)
    scores = Resamples(labels, 5, MINORITY, num_resamples=50).score(predictions)
    narrow, wide = intervals(scores, 0.8), intervals(scores, 0.99)
    for found in (narrow, wide):
        assert (found.low >= 0).all()
        assert (found.high <= 1).all()
        assert (found.low <= found.estimate + 1e-12).all()
        assert (found.estimate <= found.high + 1e-12).all()
    assert (wide.low <= narrow.low).all()
    assert (wide.high >= narrow.high).all()
    assert (wide.high > wide.low).all()


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_a_difference_turns_its_sign_with_its_trials_and_pairs_what_they_share(seed):
    labels, predictions = made_up(num_trials=2, seed=seed)
    scores = Resamples(labels, 5, MINORITY, num_resamples=100).score(predictions)
    there, back = difference(scores, 0, 1), difference(scores, 1, 0)
    assert there.estimate == pytest.approx(-back.estimate)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    same = difference(scores, 0, 0)
    assert same.estimate == 0
    assert same.high - same.low < (there.high - there.low) / 2


def test_the_difference_is_students_with_the_paired_error():
    # deviations (2, 0, -2, 0) and (0, 2, -2, 0) hundredths: their difference has variance 2e-4
    resampled = 0.5 + 0.01 * np.array([[2.0, 0, -2, 0], [0, 2, -2, 0]])
    found = difference(scores_of([0.6, 0.5], resampled, class_sizes=1e9), np.array([0, 1]), np.array([1, 1]))
    assert found.estimate.tolist() == pytest.approx([0.1, 0])
    assert (found.high - found.estimate).tolist() == pytest.approx([1.96 * np.sqrt(2e-4), 0], abs=1e-5)


def test_two_models_that_agree_on_all_images_may_still_differ_on_others():
    labels = np.repeat([0, 1, 2, 3], [20, 20, 20, 500])
    found = difference(Resamples(labels, 4, MINORITY).score(np.stack([labels, labels])), 0, 1)
    # one image, of 2 × 20 and a third of the mean
    half = stats.t.ppf(0.975, 57) / (40 * 3)
    assert (found.low, found.high) == pytest.approx((-half, half))


@pytest.mark.parametrize("seed", range(4))
def test_the_tied_group_is_that_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    labels, predictions = made_up(num_trials=8, seed=seed, num_images=100)
    for trial in range(1, 8):  # the first with other guesses on 5 to 80 images: close pairs and distant ones
        images = rng.permutation(100)[: (5, 80)[trial % 2]]
        guesses = np.where(rng.random(len(images)) < 0.5, labels[images], rng.integers(5, size=len(images)))
        predictions[trial] = predictions[0]
        predictions[trial, images] = guesses
    scores = Resamples(labels, 5, MINORITY, num_resamples=400).score(predictions)
    f1, resampled = scores.score, scores.resampled.astype(float)
    first = int(f1.argmax())
    tied = []
    for trial in range(8):
        errors, studentised = [], []
        for other in range(8):
            gap = resampled[other] - resampled[trial]
            unseen = sum((scores.class_sizes[index] ** -2.0).mean() / 9 for index in (trial, other))
            errors.append(np.sqrt(gap.var() + unseen))
            studentised.append((gap - gap.mean()) / errors[-1])
        critical = np.quantile(np.max(studentised, axis=0), 0.95)
        tied.append((f1[first] - f1[trial]) / errors[first] <= stats.t.ppf(stats.norm.cdf(critical), 19))
    assert tied_with_best(scores).tolist() == tied
    assert 1 < sum(tied) < 8


def test_equal_trials_are_tied_and_a_single_one_is():
    labels, predictions = made_up(num_trials=1)
    resamples = Resamples(labels, 5, MINORITY, num_resamples=100)
    assert tied_with_best(resamples.score(predictions)).tolist() == [True]
    assert tied_with_best(resamples.score(predictions[[0, 0, 0]])).tolist() == [True] * 3


@pytest.mark.parametrize(("deficit", "tied"), [(1.9, True), (2.2, False)])
def test_the_group_ends_at_dunnetts_quantile(deficit, tied):
    # independent errors of 0.01 each: the paired error is 0.014, and the largest of three deficits to a common
    # control has the one-sided quantile 2.06 (Dunnett 1955, table 1a, without end of degrees of freedom)
    rng = np.random.default_rng(0)
    resampled = 0.5 + 0.01 * rng.standard_normal((4, 40_000))
    f1 = [0.5, 0.5 - deficit * 0.01 * np.sqrt(2), 0.5, 0.5]
    assert tied_with_best(scores_of(f1, resampled, class_sizes=1e9))[1] == tied


@given(st.integers(0, 10**6), st.permutations(range(6)))
@settings(max_examples=25)
def test_the_group_holds_the_first_and_does_not_depend_on_the_order(seed, order):
    labels, predictions = made_up(num_trials=6, seed=seed, num_images=60)
    resamples = Resamples(labels, 5, MINORITY, num_resamples=100)
    scores = resamples.score(predictions)
    tied = tied_with_best(scores)
    assert tied[scores.score.argmax()]
    if len(set(scores.score)) == 6:
        assert (tied_with_best(resamples.score(predictions[order])) == tied[order]).all()


def test_what_two_trials_share_separates_them():
    """The same deficit is told apart if both err on the same images, and not if they err on different ones."""
    labels = np.repeat([0, 1, 2, 3], [100, 100, 100, 300])
    better, nested, apart = labels.copy(), labels.copy(), labels.copy()
    better[:20] = nested[:28] = 3
    apart[72:100] = 3
    resamples = Resamples(labels, 4, MINORITY)
    assert tied_with_best(resamples.score(np.stack([better, nested]))).tolist() == [True, False]
    assert tied_with_best(resamples.score(np.stack([better, apart]))).tolist() == [True, True]


@pytest.mark.parametrize("population", [even_errors, uneven_errors])
@pytest.mark.parametrize(("positives", "f1", "least", "most"), [(20, 0.97, 0.91, 0.985), (50, 0.8, 0.92, 0.98)])
def test_coverage(population, positives, f1, least, most):
    """500 data sets; `python -m benchmarks calibration` is the long form. 3 standard errors of 95 % are 3 %."""
    models = [population(f1, positives), population(f1 - 0.02, positives)]
    counts = class_counts(positives)
    resamples = Resamples(labels_of(counts), NUM_CLASSES, MINORITY, num_resamples=300)
    first, second = draw(models, counts, 0.7, 500, np.random.default_rng(0))
    scores = resamples.score(np.concatenate([first, second]))
    truth = [true_f1(model, positives) for model in models]
    assert truth == pytest.approx([f1, f1 - 0.02])
    found = intervals(scores)
    covered = ((found.low <= truth[0]) & (truth[0] <= found.high))[:500].mean()
    assert least <= covered <= most
    gap = difference(scores, np.arange(500), np.arange(500, 1000))
    assert least <= ((gap.low <= 0.02) & (gap.high >= 0.02)).mean() <= most


# --- images that come in groups ---


def made_up_groups(num_groups, sizes, seed=0, num_classes=4):
    """(labels, groups) of groups of one class each, in no order."""
    rng = np.random.default_rng(seed)
    main, drawn = np.arange(num_groups) % num_classes, rng.choice(sizes, num_groups)
    order = rng.permutation(drawn.sum())
    return np.repeat(main, drawn)[order], np.repeat(np.arange(num_groups), drawn)[order]


def test_images_that_are_groups_of_their_own_have_the_same_bits_as_without_groups():
    labels, predictions = made_up(num_trials=3)
    plain, alone = (
        Resamples(labels, 5, MINORITY, num_resamples=50, groups=groups).score(predictions)
        for groups in (None, np.random.default_rng(0).permutation(200))
    )
    for name in ("score", "resampled", "class_scores", "class_sizes", "class_counts"):
        assert np.array_equal(getattr(plain, name), getattr(alone, name))
        assert getattr(plain, name).dtype == getattr(alone, name).dtype


def test_images_of_a_group_come_together_in_every_resample():
    labels, groups = made_up_groups(40, [1, 2, 6])
    resamples = Resamples(labels, 4, [0, 1], num_resamples=80, groups=groups)
    weights = np.empty((80, len(labels)))
    weights[:, resamples._order] = resamples._weights[1:]
    for group in range(40):
        assert (np.ptp(weights[:, groups == group], axis=1) == 0).all()
    # ten groups of each class: nine are drawn, each counted 10/9 times
    first = [np.flatnonzero(groups == group)[0] for group in range(40)]
    for label in range(4):
        drawn = weights[:, first][:, labels[first] == label]
        assert drawn.sum(axis=1) == pytest.approx(10, rel=1e-5)
        assert set((drawn * 9 / 10).round(4).ravel()) <= set(range(10))


def test_scores_of_resampled_groups_are_those_of_a_loop():
    labels, groups = made_up_groups(24, [1, 3, 5])
    labels = np.where(np.arange(len(labels)) % 9 == 0, (labels + 1) % 4, labels)  # some groups of several classes
    predictions = np.where(np.arange(len(labels)) % 3 == 0, 1, labels)[None]
    resamples = Resamples(labels, 4, [1, 3], num_resamples=30, groups=groups)
    scores = resamples.score(predictions)
    assert scores.score[0] == pytest.approx(minority_f1(confusion_matrix(labels, predictions[0], 4), [1, 3]))
    weights = np.empty((30, len(labels)))
    weights[:, resamples._order] = resamples._weights[1:]
    for number, weight in enumerate(weights):
        confusion = np.zeros((4, 4))
        np.add.at(confusion, (labels, predictions[0]), weight)
        assert scores.resampled[0, number] == pytest.approx(minority_f1(confusion, [1, 3]), abs=1e-5)


@pytest.mark.parametrize("positives", [12, 60])
def test_groups_that_are_each_right_or_wrong_as_a_whole_count_as_one_image_each(positives):
    labels = np.repeat([0, 1, 2], [positives, positives, 5 * positives])
    predictions = labels.copy()
    predictions[: positives // 4] = 2
    one = Resamples(labels, 3, [0, 1], num_resamples=4000).score(predictions[None])
    six = Resamples(
        np.repeat(labels, 6), 3, [0, 1], num_resamples=4000, groups=np.repeat(np.arange(len(labels)), 6)
    ).score(np.repeat(predictions, 6)[None])
    assert six.degrees_of_freedom == one.degrees_of_freedom
    assert six.class_counts == pytest.approx(one.class_counts)
    assert six.class_sizes == pytest.approx(one.class_sizes)
    apart, together = intervals(one), intervals(six)
    assert (together.low[0], together.high[0]) == pytest.approx((apart.low[0], apart.high[0]), abs=0.01)
    naive = intervals(Resamples(np.repeat(labels, 6), 3, [0, 1]).score(np.repeat(predictions, 6)[None]))
    assert naive.high[0] - naive.low[0] < 0.5 * (together.high[0] - together.low[0])


def test_unlike_groups_count_by_kishs_effective_number():
    labels = np.repeat([0, 1], [10, 20])
    groups = np.concatenate([np.repeat(np.arange(4), [4, 4, 1, 1]), 4 + np.arange(20)])
    assert Resamples(labels, 2, [0], groups=groups).score(labels[None]).class_counts.tolist() == [100 / 34]


def test_a_class_of_a_single_group_has_no_certainty_of_its_own():
    labels = np.repeat([0, 1, 2], [12, 12, 60])
    groups = np.concatenate([np.zeros(12, int), np.ones(12, int), 2 + np.arange(60)])
    predictions = np.where(np.arange(84) == 3, 2, labels)
    found = intervals(Resamples(labels, 3, [0, 1], groups=groups).score(predictions[None]))
    assert found.high[0] - found.low[0] > 0.6


def covered_of_groups(sizes, positives, f1, num_sets):
    rows = grouped(sizes, positives, f1, SimpleNamespace(sets=num_sets, resamples=300, seed=0))["measured"]
    return [rows[f"coverage of {name}"] for name in ("a model", "the difference of two", "a model, by image")]


@pytest.mark.parametrize("sizes", GROUP_SIZES)
def test_coverage_of_groups(sizes):
    """200 data sets; the slow form and `python -m benchmarks calibration` are longer. 2.5 standard errors are 3.9 %."""
    model, gap, by_image = covered_of_groups(sizes, 100, 0.9, 200)
    assert 91 <= model <= 99
    assert 91 <= gap <= 100
    assert (by_image < 88) == (sizes != "1")


@pytest.mark.slow
@pytest.mark.parametrize("sizes", GROUP_SIZES)
@pytest.mark.parametrize(("positives", "f1"), GROUPED)
def test_coverage_of_groups_in_many_sets(sizes, positives, f1):
    model, gap, by_image = covered_of_groups(sizes, positives, f1, 2000)
    assert 93 <= model <= 97
    assert 93 <= gap <= 98.5
    assert (by_image < 88) == (sizes != "1")
