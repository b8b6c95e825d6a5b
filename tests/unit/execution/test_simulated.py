import dataclasses

import numpy as np
import pytest

from study import simulate
from study.execution import simulated
from study.execution.simulated import Curves, locate, spend
from study.space import parameters
from study.strategy import scheduler
from study.strategy.scheduler import Asha, Never
from trainable.arguments import default_config

SPACE = parameters.load(parameters.DEFAULT_SPACE)
BASE = default_config("digits", 0).to_dict()


@pytest.fixture(scope="module")
def recorded():
    return simulated.read_curves(simulated.DIGITS_CURVES, SPACE)


def test_the_table_that_is_shipped_holds_what_it_promises(recorded):
    assert recorded.minority_f1.shape[0] >= 200
    assert recorded.minority_f1.shape[1:] == (2, 20)
    assert recorded.true_f1[:2].max() < 0.95  # the course's recipes leave something to find
    assert simulated.DIGITS_CURVES.stat().st_size < 2**20
    assert (recorded.epoch_seconds > 0).all()


def test_distance_is_euclidean_over_fields_scaled_to_one():
    def between(one, other):
        return np.linalg.norm(locate(SPACE, BASE | one) - locate(SPACE, BASE | other))

    weighted = {"sampler": "weighted", "sampler_power": 0.25}
    assert between({"dropout": 0.0}, {"dropout": 0.7}) == pytest.approx(1)
    assert between({"learning_rate": 2e-4}, {"learning_rate": 1e-2}) == pytest.approx(1)
    assert between({"accumulation_steps": 1}, {"accumulation_steps": 4}) == pytest.approx(2 / 3)
    assert between(weighted, weighted | {"sampler_power": 1.0}) == pytest.approx(1)
    # another sampler, and the power from where it stands to the middle
    assert between({"sampler": "shuffle"}, weighted) == pytest.approx((1 + 0.5**2) ** 0.5)
    # not active under shuffle
    assert between({"sampler_power": 0.3}, {"sampler_power": 0.9}) == 0


def test_a_config_of_the_table_is_nearest_to_itself(recorded):
    import pandas as pd

    table = pd.read_csv(simulated.DIGITS_CURVES, comment="#").drop_duplicates("config")
    fields = [p.name for p in SPACE]
    for values in table.sample(30, random_state=0).to_dict("records"):
        config = dataclasses.replace(default_config("digits", 0), **{name: values[name] for name in fields})
        assert recorded.nearest(config) == values["config"]


def made_up(num_configs=40, num_epochs=6):
    """Curves that rise to a worth which falls with the distance from dropout 0.35."""
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(num_configs, len(locate(SPACE, BASE))))
    worth = 0.9 - np.abs(points[:, -4] - 0.5)
    curves = worth[:, None, None] * np.linspace(0.5, 1, num_epochs) * np.ones((1, 2, 1))
    return Curves(SPACE, points, curves, np.full(num_configs, 2.0))


def test_time_and_epochs_add_up():
    curves = made_up()
    for num_workers in (1, 3):
        steps = list(simulated.simulate(curves, "random", Never(), num_workers, 9, seed=1))
        assert [step.num_epochs for step in steps] == list(range(1, 9 * 6 + 1))
        assert steps[-1].seconds == pytest.approx(9 * 6 * 2.0 / num_workers)  # 9 trials: 3 each
        assert steps[-1].regret >= 0


def test_one_seed_one_study_and_another_seed_another():
    curves = made_up()
    first, again, other = (spend(curves, "tpe", Asha(1), 2, 60, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_regret_is_that_of_the_leaders_and_falls_to_nothing_where_all_is_tried():
    curves = made_up(num_configs=4)
    steps = spend(curves, "random", Never(), 1, 1200, seed=0)
    assert steps[-1].regret == steps[-1].regret_of_leader == 0
    gaps = set((curves.true_f1.max() - curves.true_f1).tolist())
    assert {step.regret_of_leader for step in steps} <= gaps
    assert all(step.regret <= step.regret_of_leader for step in steps)
    first = curves.nearest(default_config("digits", 0))  # the course's recipe, which leads while it is alone
    assert steps[0].regret == pytest.approx(curves.true_f1.max() - curves.true_f1[first])


def test_a_grid_that_ends_before_the_budget_stays_where_it_ended():
    steps = spend(made_up(num_epochs=2), "grid", Never(), 1, 2000, seed=0)
    assert len(steps) == 2000
    assert steps[-1] == steps[2 * (432 + 2) - 1]


def test_a_scheduler_spends_its_epochs_on_more_trials():
    curves = made_up()
    counts = {}
    for rule in (Never(), scheduler.make("asha", curves.num_epochs)):
        steps = list(simulated.simulate(curves, "random", rule, 2, 30, seed=0))
        counts[type(rule)] = steps[-1].num_epochs
    assert counts[Asha] < 0.8 * counts[Never]


def test_a_simulation_asks_the_studys_own_scheduler(monkeypatch):
    seen = []
    monkeypatch.setattr(Asha, "stops", lambda self, epoch, best, rung: seen.append(epoch) or False)
    list(simulated.simulate(made_up(), "random", Asha(2), 2, 3, seed=0))
    assert seen == [
        1,
        2,
        3,
        4,
        5,
    ]  # of the third trial, whose sixth epoch is its own end; the first two are the course's


def test_the_command_prints_a_line_for_each_combination(capsys):
    assert (
        simulate.main(["--repeats", "2", "--budget", "60", "--algorithms", "random,sobol", "--schedulers", "asha"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[-2:]] == [["random", "asha"], ["sobol", "asha"]]
    assert max(map(len, lines)) <= 100
