import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.record.design import DESIGN_EVERY
from study.record.ledger import Ledger
from study.space import parameters
from study.space.parameters import ALGORITHMS, Parameter
from study.strategy import searcher as module
from study.strategy.searcher import Searcher
from tests import studies
from trainable.config import TrialConfig

BASE = TrialConfig(epochs=3, seed=7, split_seed=7, cut_seed=7)
SPACE = parameters.load(parameters.COURSE_SPACE)


def searcher(ledger, algorithm="tpe", num_trials=30):
    return Searcher(ledger, SPACE, BASE, algorithm, num_trials)


def made_up_score(config):
    """Smooth, with its best at dropout 0.4 and learning rate 1e-3, and better under the weighted sampler."""
    distance = (config.dropout - 0.4) ** 2 + (math.log10(config.learning_rate) + 3) ** 2 / 4
    return math.exp(-distance) * (1.0 if config.sampler == "weighted" else 0.8)


def run_trial(ledger, trial, first_epoch=1):
    for epoch in range(first_epoch, trial.config.epochs + 1):
        best = made_up_score(trial.config) * epoch / trial.config.epochs
        ledger.record(trial.number, studies.row(epoch, best))
    ledger.complete(trial.number, "epochs")


def run_all(ledger, algorithm, num_trials=30):
    source = searcher(ledger, algorithm, num_trials)
    while (trial := source.next()) is not None:
        run_trial(ledger, trial, first_epoch=len(trial.best) + 1)
    return [trial.config for trial in ledger.trials.values()]


def test_the_courses_recipes_come_first_whatever_the_space_says():
    narrow = parameters.from_tables({"dropout": {"low": 0.5, "high": 0.6}, "sampler": {"choices": ["shuffle"]}}, {}, "")
    source = Searcher(Ledger(None), narrow, BASE, "tpe", 10)
    first, second, third = source.next(), source.next(), source.next()
    for trial, sampler in [(first, "shuffle"), (second, "weighted")]:
        expected = TrialConfig(epochs=3, split_seed=7, cut_seed=7, sampler=sampler).to_dict()
        assert {**trial.config.to_dict(), "seed": 0} == expected
    assert 0.5 <= third.config.dropout <= 0.6


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_proposals_stay_in_the_space_and_differ(algorithm):
    configs = run_all(Ledger(None), algorithm)
    assert len(configs) == 30
    searched = {tuple((p.name, c.to_dict()[p.name]) for p in SPACE if p.active(c.to_dict())) for c in configs}
    assert len(searched) == 30
    for config in configs[2:]:
        values = config.to_dict()
        assert all(p.contains(values[p.name]) for p in SPACE if p.active(values))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_study_cut_anywhere_and_taken_up_by_a_new_process_proposes_the_same(algorithm, tmp_path):
    uninterrupted = run_all(Ledger(None), algorithm, 14)
    (tmp_path / "study").mkdir()
    for interrupted_in in (0, 1, 2, 5, 11, 13):
        ledger = Ledger(tmp_path / "study")
        source = searcher(ledger, algorithm, 14)
        while (trial := source.next()) is not None and trial.number < interrupted_in:
            run_trial(ledger, trial, first_epoch=len(trial.best) + 1)
        ledger.record(trial.number, studies.row(1, made_up_score(trial.config) / 3))
        ledger.close()
    ledger = Ledger(tmp_path / "study")
    assert run_all(ledger, algorithm, 14) == uninterrupted


def test_the_grid_has_every_combination_once_and_ends():
    small = parameters.from_tables(
        {
            "sampler": {"choices": ["shuffle", "weighted"]},
            "sampler_power": {"low": 0.25, "high": 1.0, "when": {"sampler": "weighted"}},
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "accumulation_steps": {"low": 1, "high": 2},
        },
        {},
        "",
    )
    ledger = Ledger(None)
    source = Searcher(ledger, small, BASE, "grid", 100)
    while source.next() is not None:
        pass
    found = [trial.config for trial in list(ledger.trials.values())[2:]]
    points = {(c.sampler, c.sampler_power if c.sampler == "weighted" else None, c.learning_rate, c.accumulation_steps)
              for c in found}  # fmt: skip
    powers = [("shuffle", None), ("weighted", 0.25), ("weighted", 0.625), ("weighted", 1.0)]
    rates = [1e-4, pytest.approx(1e-3), 1e-2]
    assert len(found) == len(points) == 4 * 3 * 2
    for sampler, power in powers:
        for rate in rates:
            assert sum(p[:2] == (sampler, power) and p[2] == rate for p in points) == 2


def test_sobol_points_fill_the_space_more_evenly_than_random_ones():
    def largest_gap(algorithm):
        shares = sorted(SPACE[2].share(config.dropout) for config in run_all(Ledger(None), algorithm, 34)[2:])
        return max(after - before for before, after in zip([0, *shares], [*shares, 1], strict=True))

    # 32 points of a scrambled Sobol sequence: one in each 32nd of each axis
    assert largest_gap("sobol") <= 2 / 32 < largest_gap("random")


def test_the_few_points_of_the_design_are_spread_over_the_choices_of_each_knob():
    configs = run_all(Ledger(None), "tpe", 2 + 8 * DESIGN_EVERY)[2::DESIGN_EVERY]
    assert len(configs) == 8
    assert sorted(config.sampler for config in configs) == ["shuffle"] * 4 + ["weighted"] * 4
    assert {config.accumulation_steps for config in configs} == {1, 2, 4, 8}
    assert sorted(int(8 * config.dropout / 0.7) for config in configs) == list(range(8))  # one in each eighth


@given(st.integers(1, 50), st.integers(1, 60), st.booleans(), st.floats(0, 1))
def test_a_share_of_a_range_lies_in_it_and_every_whole_number_is_equally_wide(low, width, log, share):
    parameter = Parameter("accumulation_steps", low, low + width, log)
    assert low <= parameter.at(share) <= low + width
    assert isinstance(parameter.at(share), int)
    assert (parameter.at(0), parameter.at(1)) == (low, low + width)


def test_in_a_large_study_tpe_is_shown_the_best_and_the_latest():
    ledger = Ledger(None)
    source = searcher(ledger, "random", 1500)
    while (trial := source.next()) is not None:
        run_trial(ledger, trial)
    shown = [trial.number for trial in searcher(ledger, "tpe", 1500)._history()]
    scores = {number: trial.best[-1] for number, trial in ledger.trials.items()}
    best = sorted(scores, key=lambda number: (scores[number], number))[-100:]
    assert shown == sorted({*range(600, 1500), *best})


def test_from_the_first_trial_with_each_set_of_fields_tpe_sees_as_much_as_from_all(monkeypatch):
    seen = run_all(Ledger(None), "tpe", 40)
    monkeypatch.setattr(module, "_first_of_each", list)
    assert run_all(Ledger(None), "tpe", 40) == seen


def test_seeds_are_the_trials_own_and_splits_the_studys():
    configs = run_all(Ledger(None), "random", 8)
    assert len({config.seed for config in configs}) == 8
    assert {(config.split_seed, config.cut_seed) for config in configs} == {(7, 7)}


def test_tpe_learns_what_random_search_cannot():
    def late_mean(algorithm):
        scores = [made_up_score(config) for config in run_all(Ledger(None), algorithm, 60)]
        return sum(scores[40:]) / 20

    assert late_mean("tpe") > late_mean("random") + 0.1
