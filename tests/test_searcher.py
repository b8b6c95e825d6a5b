import math

import pytest

from study import space
from study.ledger import Ledger
from study.searcher import Searcher
from study.space import ALGORITHMS
from trainable.config import TrialConfig

BASE = TrialConfig(epochs=3, seed=7, split_seed=7, cut_seed=7)
SPACE = space.load(space.DEFAULT_SPACE)


def searcher(ledger, algorithm="tpe", num_trials=30):
    return Searcher(ledger, SPACE, BASE, algorithm, num_trials)


def made_up_score(config):
    """Smooth, with its best at dropout 0.4 and learning rate 1e-3, and better under the weighted sampler."""
    distance = (config.dropout - 0.4) ** 2 + (math.log10(config.learning_rate) + 3) ** 2 / 4
    return math.exp(-distance) * (1.0 if config.sampler == "weighted" else 0.8)


def run_trial(ledger, trial, first_epoch=1):
    for epoch in range(first_epoch, trial.config.epochs + 1):
        best = made_up_score(trial.config) * epoch / trial.config.epochs
        ledger.record(trial.number, {"epoch": epoch, "best_minority_f1": best})
    ledger.complete(trial.number, "epochs")


def run_all(ledger, algorithm, num_trials=30):
    source = searcher(ledger, algorithm, num_trials)
    while (trial := source.next()) is not None:
        run_trial(ledger, trial, first_epoch=len(trial.best) + 1)
    return [trial.config for trial in ledger.trials.values()]


def test_the_courses_recipes_come_first_whatever_the_space_says():
    narrow = space.from_tables({"dropout": {"low": 0.5, "high": 0.6}, "sampler": {"choices": ["shuffle"]}}, {}, "")
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
    assert len({(c.dropout, c.weight_decay, c.learning_rate) for c in configs[1:]}) == 29
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
        ledger.record(trial.number, {"epoch": 1, "best_minority_f1": made_up_score(trial.config) / 3})
        ledger.close()
    ledger = Ledger(tmp_path / "study")
    assert run_all(ledger, algorithm, 14) == uninterrupted


def test_seeds_are_the_trials_own_and_splits_the_studys():
    configs = run_all(Ledger(None), "random", 8)
    assert len({config.seed for config in configs}) == 8
    assert {(config.split_seed, config.cut_seed) for config in configs} == {(7, 7)}


def test_tpe_learns_what_random_search_cannot():
    def late_mean(algorithm):
        scores = [made_up_score(config) for config in run_all(Ledger(None), algorithm, 60)]
        return sum(scores[40:]) / 20

    assert late_mean("tpe") > late_mean("random") + 0.1
