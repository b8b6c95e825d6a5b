import dataclasses
import re

import numpy as np
import pytest

from study import simulate
from study.execution import simulated
from study.execution.simulated import spend
from study.execution.surrogate import DIGITS_CURVES
from study.space import parameters
from study.strategy import scheduler
from study.strategy.scheduler import Asha, Never
from trainable.arguments import default_config
from trainable.cli import UsageError
from trainable.objectives import MINORITY_F1, Objective

SPACE = parameters.load(parameters.COURSE_SPACE)


@dataclasses.dataclass
class Bump:
    """Curves that rise to a worth which falls with the distance from dropout 0.35; no noise."""

    num_epochs: int = 6
    objective: Objective = MINORITY_F1
    space = SPACE
    best = 0.9

    def worth(self, config):
        return 0.9 - abs(config.dropout - 0.35)

    def train(self, config, seed):
        return self.worth(config) * np.linspace(0.5, 1, self.num_epochs)

    def epoch_seconds(self, config):
        return 2.0


def test_time_and_epochs_add_up():
    curves = Bump()
    for num_workers in (1, 3):
        steps = list(simulated.simulate(curves, "random", Never(), num_workers, 9, seed=1))
        assert [step.num_epochs for step in steps] == list(range(1, 9 * 6 + 1))
        assert steps[-1].seconds == pytest.approx(9 * 6 * 2.0 / num_workers)  # 9 trials: 3 each
        assert steps[-1].regret >= 0


def test_one_seed_one_study_and_another_seed_another():
    curves = Bump()
    first, again, other = (spend(curves, "tpe", Asha(1), 2, 60, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_regret_is_that_of_the_leaders_and_falls_towards_nothing():
    steps = spend(Bump(), "random", Never(), 1, 1200, seed=0)
    assert all(0 <= step.regret <= step.regret_of_leader for step in steps)
    course = default_config("digits", 0)  # leads while it is alone
    assert steps[0].regret == pytest.approx(abs(course.dropout - 0.35))
    assert steps[-1].regret < 0.01  # 200 recipes


def test_a_grid_that_ends_before_the_budget_stays_where_it_ended():
    steps = spend(Bump(num_epochs=2), "grid", Never(), 1, 2000, seed=0)
    assert len(steps) == 2000
    assert steps[-1] == steps[2 * (432 + 2) - 1]


def test_a_scheduler_spends_its_epochs_on_more_trials():
    curves = Bump()
    counts = {}
    for rule in (Never(), scheduler.make("asha", curves.num_epochs)):
        steps = list(simulated.simulate(curves, "random", rule, 2, 30, seed=0))
        counts[type(rule)] = steps[-1].num_epochs
    assert counts[Asha] < 0.8 * counts[Never]


def test_a_simulation_asks_the_studys_own_scheduler(monkeypatch):
    seen = []
    monkeypatch.setattr(Asha, "stops", lambda self, epoch, best, rung: seen.append(epoch) or False)
    list(simulated.simulate(Bump(), "random", Asha(2), 2, 4, seed=0))
    # of the fourth trial, whose sixth epoch is its own end; the first three are the course's and a point of the design
    assert seen == [1, 2, 3, 4, 5]


def test_a_simulation_has_the_objective_of_its_curves_and_so_have_its_words(tmp_path):
    table = DIGITS_CURVES.read_text().replace("config,seed,", "config,seed,objective,")
    table = re.sub(r"^(\d+,\d+,)", r"\1balanced_accuracy,", table, flags=re.MULTILINE)
    (tmp_path / "curves.csv").write_text(table)
    bed, plain = simulated.bed(tmp_path / "curves.csv"), simulated.bed(DIGITS_CURVES)
    assert (bed.objective.name, plain.objective.name) == ("balanced_accuracy", "minority_f1")
    assert (
        "in balanced accuracy;" in simulated.compare(Bump(objective=bed.objective), ["random"], ["asha"], 2, 9, 1, 0)[1]
    )
    (tmp_path / "curves.csv").write_text(table.replace("balanced_accuracy", "luck", 1))
    with pytest.raises(UsageError, match=r"objective must be one of minority_f1, .*, the same in all rows"):
        simulated.bed(tmp_path / "curves.csv")


def test_the_command_prints_a_line_for_each_combination(capsys):
    assert (
        simulate.main(["--repeats", "2", "--budget", "60", "--algorithms", "random,sobol", "--schedulers", "asha"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[-2:]] == [["random", "asha"], ["sobol", "asha"]]
    assert max(map(len, lines)) <= 100
