import dataclasses
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from benchmarks import effects as simulation
from study.findings import balancing
from study.findings.verdict import Verdict
from study.record.confirmation import Difference, Estimate
from study.space import parameters
from study.statistics import effects, importance
from study.statistics.columns import NUM_POINTS
from study.statistics.comparable import comparable
from study.statistics.intervals import Interval
from trainable.config import TrialConfig

SPACE = parameters.load(parameters.COURSE_SPACE)
SAMPLER_ONLY = parameters.from_tables({"sampler": {"choices": ["shuffle", "weighted"]}}, {}, "")
SHUFFLED, WEIGHTED = [0.50, 0.54, 0.52, 0.56], [0.60, 0.66, 0.62, 0.64]


def study(truth=None, seed=0, noise="normal", num_trials=60):
    """The ranking's table of a made-up study of random trials, the last of which failed."""
    setting = simulation.Setting("", truth or {}, noise, simulation.random_trials, 1, num_trials)
    table = pd.DataFrame.from_records(simulation.random_trials(setting, SPACE, np.random.default_rng(seed)))
    return table.assign(minority_f1_adjusted=table["minority_f1"])


def two_samplers(shuffled=SHUFFLED, weighted=WEIGHTED):
    scores = [*shuffled, *weighted]
    samplers = ["shuffle"] * len(shuffled) + ["weighted"] * len(weighted)
    return pd.DataFrame({"trial": range(len(scores)), "status": "complete", "sampler": samplers,
                         "minority_f1": scores, "minority_f1_adjusted": scores})  # fmt: skip


def nested_f_test(design, columns, y):
    """p of leaving ``columns`` out, from the two residual sums of squares."""
    rss = [float(((y - X @ np.linalg.lstsq(X, y, rcond=None)[0]) ** 2).sum())
           for X in (design, np.delete(design, columns, axis=1))]  # fmt: skip
    df = len(y) - design.shape[1]
    return stats.f.sf((rss[1] - rss[0]) / len(columns) / (rss[0] / df), len(columns), df)


def own_design(table):
    """Another basis of the same model: plain powers and dummies; and the columns of each knob."""
    weighted = (table["sampler"] == "weighted").to_numpy(float)

    def powers(values, low, high):
        along = np.linspace(low, high, NUM_POINTS)
        return [values - along.mean(), values**2 - (along**2).mean()]

    numbers = {name: table[name].to_numpy(float) for name in SPACE_NAMES if name != "sampler"}
    columns = {
        "sampler": [weighted],
        "sampler_power": [weighted * c for c in powers(numbers["sampler_power"], 0.25, 1)],
        "dropout": powers(numbers["dropout"], 0, 0.7),
        "weight_decay": powers(np.log10(numbers["weight_decay"]), -6, -2),
        "learning_rate": powers(np.log10(numbers["learning_rate"]), math.log10(2e-4), -2),
        "accumulation_steps": [numbers["accumulation_steps"] == steps for steps in (1, 2, 4)],
    }
    design = np.column_stack([np.ones(len(table)), *itertools.chain(*columns.values())])
    ends = np.cumsum([1, *map(len, columns.values())])
    return design, {name: list(range(*pair)) for name, pair in zip(columns, itertools.pairwise(ends), strict=True)}


SPACE_NAMES = [parameter.name for parameter in SPACE]


def test_two_groups_counted_by_hand():
    # means 0.53 and 0.63; sums of squares 0.002 each, so the noise is sqrt(0.004 / 6), the error sqrt(0.004/6 * 2/4)
    found = effects.fit(two_samplers(), SAMPLER_ONLY)
    knob, error = found["sampler"], math.sqrt(0.004 / 6 / 2)
    assert found.noise == pytest.approx(math.sqrt(0.004 / 6))
    assert found.residual_df == 6
    assert knob.points == ("shuffle", "weighted")
    np.testing.assert_allclose(knob.mean, [0.53, 0.63])
    np.testing.assert_allclose(knob.high - knob.mean, stats.t.ppf(0.975, 6) * math.sqrt(0.004 / 6 / 4))
    assert knob.effect.estimate == pytest.approx(0.10)
    assert knob.effect.high == pytest.approx(0.10 + stats.t.ppf(0.975, 6) * error)
    assert knob.effect.low == pytest.approx(0.10 - math.sqrt(stats.f.ppf(0.975, 1, 6)) * error)
    assert knob.p == pytest.approx(stats.ttest_ind(SHUFFLED, WEIGHTED).pvalue)
    assert knob.p_adjusted == knob.p == pytest.approx(found.p)
    assert found.r2 == pytest.approx(1 - 0.004 / 0.024)
    assert knob.words == "matters, best near weighted"


@pytest.mark.parametrize("truth", [{}, {"dropout": "hump"}, {"sampler": "level", "sampler_power": "linear"}])
def test_each_knobs_test_is_that_of_the_nested_models(truth):
    table = study(truth, seed=3)
    complete = table[table["status"] == "complete"]
    design, columns = own_design(complete)
    found = effects.fit(table, SPACE)
    for knob in found.knobs:
        assert knob.p == pytest.approx(nested_f_test(design, columns[knob.name], complete["minority_f1"]), rel=1e-6)
    assert found.p == pytest.approx(nested_f_test(design, list(range(1, design.shape[1])), complete["minority_f1"]))


def test_predictions_and_cross_validation_are_scikit_learns():
    table = study({"learning_rate": "hump", "sampler": "level"}, seed=5)
    complete = table[table["status"] == "complete"]
    y, (design, _) = complete["minority_f1"].to_numpy(), own_design(complete)
    found = effects.fit(table, SPACE)
    model = LinearRegression(fit_intercept=False)
    each_from_the_others = cross_val_predict(model, design, y, cv=LeaveOneOut())
    mean_of_others = cross_val_predict(model, design[:, :1], y, cv=LeaveOneOut())
    expected = 1 - ((y - each_from_the_others) ** 2).sum() / ((y - mean_of_others) ** 2).sum()
    assert found.r2_cross_validated == pytest.approx(expected)
    assert found.r2 == pytest.approx(model.fit(design, y).score(design, y))

    # along a knob, the mean over recipes whose other knobs take every value once
    knob = found["learning_rate"]
    for point, mean in zip(knob.points[::20], knob.mean[::20], strict=True):
        grid = [
            {"sampler": sampler, "accumulation_steps": steps, "learning_rate": point,
             **{other: found[other].points[index] for other in ("sampler_power", "dropout", "weight_decay")}}
            for sampler in ("shuffle", "weighted") for steps in (1, 2, 4, 8) for index in range(NUM_POINTS)
        ]  # fmt: skip
        assert model.predict(own_design(pd.DataFrame(grid))[0]).mean() == pytest.approx(mean)


def test_a_conditional_knob_is_shown_under_its_condition():
    found = effects.fit(study({"sampler": "level"}, seed=1), SPACE)
    at_weighted = found["sampler"].mean[1]
    assert found["sampler_power"].mean.mean() == pytest.approx(at_weighted)
    assert at_weighted - found["sampler"].mean[0] == pytest.approx(0.1, abs=0.03)


def test_intervals_hold_the_predictions_and_the_true_curve():
    found = effects.fit(study({"dropout": "linear"}, seed=2), SPACE)
    knob = found["dropout"]
    true = simulation.CENTRE + 0.1 * np.linspace(-0.5, 0.5, len(knob.points))
    assert ((knob.low < true) & (true < knob.high)).all()
    assert 0 <= knob.effect.low < knob.effect.estimate < knob.effect.high < 0.2


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), shift=st.floats(-0.3, 0.3), data=st.data())
def test_what_may_not_change_an_effect(seed, shift, data):
    table = study({"dropout": "hump"}, seed=seed)
    found = effects.fit(table, SPACE)

    shuffled = data.draw(st.permutations(range(len(table))))
    assert effects.fit(table.iloc[shuffled], SPACE).lines() == found.lines()

    raised = effects.fit(table.assign(minority_f1=table["minority_f1"] + shift), SPACE)
    names = {1: 3, 2: 1, 4: 8, 8: 5}  # other names of the choices, in another order
    renamed_space = tuple(dataclasses.replace(p, choices=(1, 3, 5, 8)) if p.name == "accumulation_steps" else p
                          for p in SPACE)  # fmt: skip
    renamed = effects.fit(table.assign(accumulation_steps=table["accumulation_steps"].map(names)), renamed_space)
    for other in (raised, renamed):
        for knob, before in zip(other.knobs, found.knobs, strict=True):
            assert knob.p == pytest.approx(before.p, rel=1e-6)
            assert dataclasses.astuple(knob.effect) == pytest.approx(dataclasses.astuple(before.effect), abs=1e-9)
    np.testing.assert_allclose(raised["dropout"].mean, found["dropout"].mean + shift)
    by_name = dict(zip(renamed["accumulation_steps"].points, renamed["accumulation_steps"].mean, strict=True))
    knob = found["accumulation_steps"]
    np.testing.assert_allclose([by_name[names[point]] for point in knob.points], knob.mean)


def test_p_values_are_adjusted_for_the_number_of_knobs_that_could_be_tested():
    table = study({"dropout": "linear"})
    for some, number in [(table, 6), (table.assign(weight_decay=1e-4), 5)]:
        knobs = [knob for knob in effects.fit(some, SPACE).knobs if math.isfinite(knob.p)]
        assert len(knobs) == number
        assert [knob.p_adjusted for knob in knobs] == [min(1, number * knob.p) for knob in knobs]


def test_only_complete_trials_inside_the_space_enter():
    table = study()
    table.loc[0, "status"], table.loc[1, "status"] = "stopped", "running"
    table.loc[2, "minority_f1"] = None
    table.loc[3, "dropout"] = 0.9
    table.loc[4, ["sampler", "sampler_power"]] = ["shuffle", 0.1]  # not active, so not outside
    found = effects.fit(table, SPACE)
    assert len(found.trials.numbers) == 56
    assert found.trials.left_out == {
        "stopped": 1,
        "running": 1,
        "without a score": 1,
        "outside the space": 1,
        "failed": 1,
    }


def test_where_trials_were_stopped_all_are_compared_when_the_first_was():
    # three epochs of four trials; the second was stopped after two, the third ended by itself after one
    curves = {0: [0.2, 0.5, 0.4], 1: [0.3, 0.1], 2: [0.6], 3: [0.1, 0.2, 0.9]}
    best_epochs = {0: [1, 2, 2], 1: [1, 1], 2: [1], 3: [1, 2, 3]}
    rows = {n: [{"minority_f1": f1, "minority_f1_adjusted": f1 / 2, "best_epoch": best}
                for f1, best in zip(curves[n], best_epochs[n], strict=True)] for n in curves}  # fmt: skip
    table = pd.DataFrame({"trial": [3, 2, 0, 1], "status": ["complete"] * 3 + ["stopped"], "sampler": "shuffle",
                          "minority_f1": [0.9, 0.6, 0.5, 0.3]})  # fmt: skip
    found = comparable(table, SAMPLER_ONLY, "minority_f1", rows)
    assert (found.numbers, found.scores.tolist(), found.after_epochs) == ([0, 1, 2, 3], [0.5, 0.3, 0.6, 0.2], 2)
    table["minority_f1_adjusted"] = 0.0
    adjusted = comparable(table, SAMPLER_ONLY, "minority_f1_adjusted", rows)
    assert adjusted.scores.tolist() == [0.25, 0.15, 0.3, 0.1]
    unstopped = comparable(table[table["status"] == "complete"], SAMPLER_ONLY, "minority_f1", rows)
    assert (unstopped.scores.tolist(), unstopped.after_epochs) == ([0.5, 0.6, 0.9], None)
    without_rows = comparable(table, SAMPLER_ONLY, "minority_f1", None)
    assert (without_rows.numbers, without_rows.left_out, without_rows.selected) == ([0, 2, 3], {"stopped": 1}, True)


def with_stops(num_trials):
    """Two samplers, alike at the first epoch, when odd trials but the course's are stopped, and unlike at the end."""
    numbers = range(num_trials)
    samplers = ["shuffle" if n in (0, 2, 18, 34) else "weighted" for n in numbers]
    ends = [(0.5 if sampler == "shuffle" else 0.8) + 0.01 * (n % 3) for n, sampler in enumerate(samplers)]
    rows = {n: [{"minority_f1": f1, "minority_f1_adjusted": f1, "best_epoch": epoch}
                for epoch, f1 in enumerate([0.3 + 0.01 * (n % 2), ends[n]][: 1 if n % 2 and n > 1 else 2], 1)]
            for n in numbers}  # fmt: skip
    scores = [found[-1]["minority_f1"] for found in rows.values()]
    status = ["stopped" if len(found) == 1 else "complete" for found in rows.values()]
    table = pd.DataFrame({"trial": numbers, "status": status, "sampler": samplers, "minority_f1": scores,
                          "minority_f1_adjusted": scores})  # fmt: skip
    return table, rows


def test_where_trials_were_stopped_whole_trainings_are_compared_if_enough_of_them_were_meant_to_be():
    # the course's two, and trials 2, 10, 18, 26 and 34
    table, rows = with_stops(35)
    found = comparable(table, SAMPLER_ONLY, "minority_f1", rows)
    assert (found.numbers, found.after_epochs, found.selected) == ([0, 1, 2, 10, 18, 26, 34], None, False)
    assert found.left_out == {"that could be stopped": 28}
    verdict = balancing.from_search(table, SAMPLER_ONLY, rows)
    assert 0.25 < verdict.raw.low < verdict.raw.high < 0.35
    table, rows = with_stops(34)  # one too few
    found = comparable(table, SAMPLER_ONLY, "minority_f1", rows)
    assert (len(found.numbers), found.after_epochs) == (34, 1)
    assert balancing.from_search(table, SAMPLER_ONLY, rows) is None  # of the first epoch it does not speak


def test_nothing_is_denied_of_trials_that_a_score_selected():
    table = study({"dropout": "linear"})
    assert "no effect" in {knob.judgement for knob in effects.fit(table, SPACE).knobs}
    table.loc[0, "status"] = "stopped"
    found = effects.fit(table, SPACE)
    assert found["dropout"].judgement == "matters"
    assert {knob.judgement for knob in found.knobs} == {"matters", "not enough trials"}
    assert any("that the scheduler spared" in line for line in found.lines())


@pytest.mark.parametrize("num_trials", [0, 1, 5, 17])
def test_too_few_trials_say_so(num_trials):
    found = effects.fit(study(num_trials=num_trials), SPACE)
    assert not found.fitted
    assert {knob.judgement for knob in found.knobs} == {"not enough trials"}
    assert "not enough trials" in "\n".join(found.lines())
    assert balancing.from_search(study(num_trials=num_trials), SPACE) is None


def test_no_table_no_effects():
    assert not effects.fit(pd.DataFrame(), SPACE).fitted
    assert importance.importances(pd.DataFrame(), SPACE, 0) == {}


def test_a_knob_that_never_moved_says_nothing_and_spoils_nothing():
    table = study({"learning_rate": "linear"}).assign(dropout=0.3)
    table = table[table["accumulation_steps"] != 8]
    found = effects.fit(table, SPACE)
    assert found["dropout"].words == "not enough trials"
    assert found["accumulation_steps"].points == (1, 2, 4)
    assert found["learning_rate"].judgement == "matters"
    assert all(len(line) <= 100 for line in found.lines(importance.importances(table, SPACE, 0)))


def test_knobs_that_moved_together_cannot_be_told_apart():
    table = study()
    table["weight_decay"] = 1e-6 * (1e4) ** (table["dropout"] / 0.7)
    assert not effects.fit(table, SPACE).fitted


def test_scores_that_are_all_alike():
    found = effects.fit(study().assign(minority_f1=0.5), SPACE)
    assert {knob.judgement for knob in found.knobs} == {"no effect"}
    assert not found.better_than_mean


def test_few_noisy_trials_cannot_deny_an_effect():
    found = effects.fit(study(num_trials=20, seed=4), SPACE)
    assert "not enough trials" in {knob.judgement for knob in found.knobs}


def test_a_trial_far_from_the_model_is_named():
    table = study(seed=6)
    assert effects.fit(table, SPACE).outliers == ()
    table.loc[17, "minority_f1"] = 0.0
    found = effects.fit(table, SPACE)
    assert found.outliers == (17,)
    assert any(line.startswith("trial 17: far from") for line in found.lines())


def test_a_models_lines_say_when_it_is_no_better_than_the_mean():
    told = "the model predicts a trial no better than the average of the others"
    assert told in effects.fit(study(seed=0), SPACE).lines()
    assert told not in effects.fit(study({"dropout": "linear"}, seed=0), SPACE).lines()


def test_whole_numbers_are_points():
    whole = parameters.from_tables({"accumulation_steps": {"low": 1, "high": 6}}, {}, "")
    rng = np.random.default_rng(0)
    steps = rng.integers(1, 7, 40)
    table = pd.DataFrame({"trial": range(40), "status": "complete", "accumulation_steps": steps,
                          "minority_f1": 0.5 + 0.02 * steps + rng.normal(0, 0.01, 40)})  # fmt: skip
    knob = effects.fit(table, whole)["accumulation_steps"]
    assert knob.points == (1, 2, 3, 4, 5, 6)
    assert knob.effect.estimate == pytest.approx(0.1, abs=0.02)


# The calibration in short: n studies each; the bounds are 4 standard errors of the shares promised.
@pytest.mark.parametrize("noise", simulation.NOISES)
def test_without_effects_seldom_anything_matters(noise):
    found = [effects.fit(study(seed=seed, noise=noise), SPACE) for seed in range(150)]
    any_matters = sum(any(knob.judgement == "matters" for knob in one.knobs) for one in found)
    assert any_matters / 150 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 150)
    # unadjusted p-values are uniform: the test is exact, not merely careful
    share = np.mean([knob.p < 0.2 for one in found for knob in one.knobs])
    assert share == pytest.approx(0.2, abs=4 * math.sqrt(0.2 * 0.8 / 900))
    covered = np.mean([knob.effect.low == 0 for one in found for knob in one.knobs])
    assert covered > 0.95


@pytest.mark.parametrize(
    "truth",
    [{"dropout": "linear"}, {"weight_decay": "hump"}, {"learning_rate": "valley"}, {"sampler_power": "linear"},
     {"sampler": "level"}, {"accumulation_steps": "level"}],
)  # fmt: skip
def test_an_effect_of_a_tenth_is_seen_and_its_interval_holds_it(truth):
    (name,) = truth
    found = [effects.fit(study(truth, seed=seed, noise="skewed"), SPACE)[name] for seed in range(40)]
    assert sum(knob.judgement == "matters" for knob in found) >= 36
    assert sum(knob.effect.low <= 0.1 <= knob.effect.high for knob in found) >= 34
    assert np.median([knob.effect.estimate for knob in found]) == pytest.approx(0.1, abs=0.02)


def test_importance_goes_to_the_knob_that_decides():
    table = study({"learning_rate": "linear"}, seed=2)
    found = importance.importances(table, SPACE, 0)
    assert max(found, key=lambda name: found[name].share) == "learning_rate"
    assert sum(one.share for one in found.values()) == pytest.approx(1)
    assert all(0 <= one.low <= one.high <= 1 for one in found.values())
    assert found["learning_rate"].low > found["sampler"].high
    assert all(len(line) <= 100 for line in effects.fit(table, SPACE).lines(found))


def confirmation(raw, adjusted, first="course-weighted", second="course-shuffled", changes=(0.0, 0.0)):
    """What a confirmation of two recipes on 6 seeds found: (estimate, low, high) of their difference.

    ``changes`` are what logit adjustment did to the shuffled one and to the weighted.
    """
    ends = ("estimate", "low", "high")
    far = dict.fromkeys(ends, 9.0)
    other = Difference(first="trial-3", second=first, **far, adjusted=Estimate(**far))
    pair = Difference(first=first, second=second, **dict(zip(ends, raw, strict=True)),
                      adjusted=Estimate(**dict(zip(ends, adjusted, strict=True))))  # fmt: skip
    noise = np.linspace(-0.05, 0.05, 6)
    recipes = [
        SimpleNamespace(name=name, scores=[0.6] * 6, scores_adjusted=0.6 + change + noise)
        for name, change in zip(["course-shuffled", "course-weighted"], changes, strict=True)
    ]
    return Verdict(
        SimpleNamespace(seeds=[0] * 6, recipes=[SimpleNamespace(name="trial-3"), *recipes], differences=[other, pair])
    )


def test_balancing_on_fresh_seeds_is_the_difference_of_the_courses_recipes_whichever_came_first():
    found = balancing.from_confirmation(confirmation((0.3, 0.2, 0.4), (-0.1, -0.3, 0.1)))
    assert (found.raw, found.adjusted) == (Interval(0.3, 0.2, 0.4), Interval(-0.1, -0.3, 0.1))
    turned = confirmation((-0.3, -0.4, -0.2), (0.1, -0.1, 0.3), "course-shuffled", "course-weighted")
    assert balancing.from_confirmation(turned) == found
    assert "6 fresh seeds" in found.source
    assert all(len(line) <= 100 for line in found.lines())


def test_balancing_in_the_search_is_the_samplers_effect_and_says_so():
    table = two_samplers().assign(minority_f1_adjusted=[*WEIGHTED, *WEIGHTED])
    found = balancing.from_search(table, SAMPLER_ONLY)
    interval = stats.ttest_ind(WEIGHTED, SHUFFLED).confidence_interval(0.95)
    assert (found.raw.low, found.raw.high) == pytest.approx((interval.low, interval.high))
    assert found.adjusted.estimate == pytest.approx(0)
    assert found.words == "before logit adjustment, yes; the adjustment alone may do as much"
    assert "additive model of 8 search trials" in found.source
    assert all(len(line) <= 100 for line in found.lines())


@pytest.mark.parametrize(
    ("raw", "adjusted", "words"),
    [
        ((1, 0.9, 1.1), (1, 0.9, 1.1), "yes, also after logit adjustment"),
        ((0, -0.1, 0.1), (0, -0.1, 0.1), "no difference can be seen"),
        ((0.3, 0.1, 0.5), (0, -0.1, 0.1), "before logit adjustment, yes; the adjustment alone may do as much"),
        ((-1, -1.1, -0.9), (0, -0.1, 0.1), "no, it harms"),
        ((1, 0.9, 1.1), (-1, -1.1, -0.9), "before logit adjustment, yes; after it, balancing does harm"),
        ((-1, -1.1, -0.9), (1, 0.9, 1.1), "no, it harms, but after logit adjustment it helps"),
        ((0, -0.1, 0.1), (1, 0.9, 1.1), "no difference can be seen, but after logit adjustment it helps"),
        ((0, -0.1, 0.1), (-1, -1.1, -0.9), "no difference can be seen, but after logit adjustment it harms"),
    ],
)
def test_the_answer_in_words(raw, adjusted, words):
    assert balancing.from_confirmation(confirmation(raw, adjusted)).words == words


@pytest.mark.parametrize(
    ("raw", "adjusted", "changes", "words"),
    [
        # seen on real images: plain 0.63, adjusted 0.50, and "after logit adjustment it helps, +0.18"
        ((0.05, -0.02, 0.12), (0.18, 0.1, 0.26), (-0.13, 0),
         "no difference can be seen; logit adjustment itself harms the shuffled recipe here"),
        ((-0.1, -0.2, -0.05), (0.18, 0.1, 0.26), (-0.3, -0.1),
         "no, it harms; logit adjustment itself harms the shuffled and the weighted recipe here"),
        ((0.1, 0.05, 0.2), (0.1, 0.05, 0.2), (-0.2, 0),
         "yes; logit adjustment itself harms the shuffled recipe here"),
        ((0.1, 0.05, 0.2), (0, -0.1, 0.1), (0.2, 0),
         "before logit adjustment, yes; the adjustment alone may do as much"),
    ],
)  # fmt: skip
def test_an_adjustment_that_harms_is_said_first_and_nothing_is_concluded_from_it(raw, adjusted, changes, words):
    found = balancing.from_confirmation(confirmation(raw, adjusted, changes=changes))
    assert found.words == words
    margin = stats.t.ppf(0.975, 5) * np.linspace(-0.05, 0.05, 6).std(ddof=1) / 6**0.5
    shuffled = found.of_adjustment["shuffled"]
    assert (shuffled.estimate, shuffled.high) == pytest.approx((changes[0], changes[0] + margin))
    assert found.lines()[1].startswith(f"  logit adjustment itself: shuffled {changes[0]:+.3f} (")


def test_the_courses_recipes_enter_where_the_space_holds_them():
    table = study(num_trials=30)
    course = {**TrialConfig().to_dict(), "trial": 99, "status": "complete", "recipe": "course, shuffled",
              "minority_f1": 0.6}  # fmt: skip
    with_course = pd.concat([table, pd.DataFrame([course])], ignore_index=True)
    assert len(effects.fit(with_course, SPACE).trials.numbers) == 31
    narrow = tuple(dataclasses.replace(p, low=0.4) if p.name == "dropout" else p for p in SPACE)
    outside = (table["dropout"].iloc[:30] < 0.4).sum()
    assert len(effects.fit(with_course, narrow).trials.numbers) == 30 - outside
