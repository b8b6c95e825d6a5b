import dataclasses

import numpy as np
import pytest
from scipy import stats

from study.execution.beds import LEAST, MOST, Formula, locate, values_at
from study.execution.surrogate import DIGITS_CURVES, Curves, Surrogate, read_curves
from study.space import parameters
from trainable.arguments import default_config

SPACE = parameters.load(parameters.COURSE_SPACE)
FULL = parameters.load(parameters.SPACES["full"])
BASE = default_config("digits", 0)


@pytest.fixture(scope="module")
def recorded():
    return read_curves(DIGITS_CURVES, SPACE)


@pytest.fixture(scope="module")
def digits(recorded):
    return Surrogate(recorded)


def some_configs(space, number, seed=0):
    shares = np.random.default_rng(seed).uniform(size=(number, len(space)))
    return [dataclasses.replace(BASE, **values_at(space, share)) for share in shares]


def test_the_table_that_is_shipped_holds_what_it_promises(recorded):
    assert recorded.scores.shape[0] >= 200
    assert recorded.scores.shape[1:] == (2, 20)
    assert DIGITS_CURVES.stat().st_size < 2**20
    assert (recorded.epoch_seconds > 0).all()


def test_distance_is_euclidean_over_fields_scaled_to_one():
    base = BASE.to_dict()

    def between(one, other):
        return np.linalg.norm(locate(SPACE, base | one) - locate(SPACE, base | other))

    weighted = {"sampler": "weighted", "sampler_power": 0.25}
    assert between({"dropout": 0.0}, {"dropout": 0.7}) == pytest.approx(1)
    assert between({"learning_rate": 2e-4}, {"learning_rate": 1e-2}) == pytest.approx(1)
    assert between({"accumulation_steps": 1}, {"accumulation_steps": 4}) == pytest.approx(2 / 3)
    assert between(weighted, weighted | {"sampler_power": 1.0}) == pytest.approx(1)
    # another sampler, and the power from where it stands to the middle
    assert between({"sampler": "shuffle"}, weighted) == pytest.approx((1 + 0.5**2) ** 0.5)
    # not active under shuffle
    assert between({"sampler_power": 0.3}, {"sampler_power": 0.9}) == 0


def test_noise_is_new_for_each_seed_and_the_same_for_the_same(digits):
    for bed, space in ((digits, SPACE), (Formula(FULL), FULL)):
        config = some_configs(space, 1)[0]
        one, again, other = (bed.train(config, seed) for seed in (1, 1, 2))
        assert (one == again).all()
        assert (one != other).any()
        assert ((one >= 0) & (one <= 1)).all()


def test_a_surrogate_finds_the_recipes_it_was_fitted_to_and_knows_its_best(recorded, digits):
    worths = [digits.mean_at(point).max() for point in recorded.points]
    assert stats.spearmanr(worths, recorded.scores.max(axis=2).mean(axis=1)).statistic > 0.9
    assert max(worths) <= digits.best <= 1
    assert all(digits.worth(config) <= digits.best for config in some_configs(SPACE, 200))


def test_where_seeds_never_differ_a_surrogate_has_no_noise_and_follows_a_smooth_truth():
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(80, len(locate(SPACE, BASE.to_dict()))))
    truth = 0.2 + 0.6 * np.exp(-((points[:, 3] - 0.5) ** 2) * 4)
    curves = truth[:, None, None] * np.linspace(0.5, 1, 5) * np.ones((1, 2, 1))
    bed = Surrogate(Curves(SPACE, points, curves, np.ones(80)))
    config = some_configs(SPACE, 1)[0]
    assert (bed.train(config, 1) == bed.train(config, 2)).all()
    assert bed.best == pytest.approx(0.8, abs=0.03)


def test_a_formulas_best_is_where_each_active_field_has_its_best_value_and_nothing_is_above_it():
    bed = Formula(FULL)
    best = dataclasses.replace(BASE, **values_at(FULL, np.array(bed._drawn["best"])))
    assert bed.worth(best) == pytest.approx(MOST, abs=1e-3)
    assert all(LEAST <= bed.worth(config) <= MOST == bed.best for config in some_configs(FULL, 200))


def test_a_formula_has_slow_starters_among_its_best():
    bed = Formula(FULL)
    configs = some_configs(FULL, 400)
    worths = np.array([bed.worth(config) for config in configs])
    early = np.array([bed.train(config, 0)[:4].max() for config in configs])
    best = worths >= np.quantile(worths, 0.9)
    assert (early[best] < np.median(early)).mean() > 0.2


@pytest.mark.parametrize("seed", range(5))
def test_a_formulas_trainings_end_near_their_worth(seed):
    bed = Formula(FULL)
    config = some_configs(FULL, 1, seed)[0]
    ends = [bed.train(config, number)[-3:].mean() for number in range(40)]
    assert np.mean(ends) == pytest.approx(bed.worth(config), abs=0.06)
