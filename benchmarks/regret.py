"""What a search is worth: regret on recorded curves over the epochs spent, for several algorithms and schedulers."""

import argparse

import numpy as np
from scipy import stats
from tqdm import tqdm

from benchmarks.harness import Figure, Outcome, Row
from study.execution import simulated
from study.space import parameters
from study.strategy import scheduler
from study.strategy.scheduler import Asha, Never, Scheduler
from trainable.cli import Parser, positive_int, seed

DEFAULT, RANDOM = "tpe, asha (the default)", "random, none"
CONFIDENCE = 0.95


def add_flags(parser: Parser) -> None:
    parser.add_argument("--repeats", type=positive_int, default=50, help="simulated studies of each kind")
    parser.add_argument("--budget", type=positive_int, default=1000, metavar="EPOCHS", help="of a study's trials")
    parser.add_argument("--workers", type=positive_int, default=4, help="trials at a time")
    parser.add_argument("--seed", type=seed, default=0, help="of the first repeat")


def run(arguments: argparse.Namespace) -> Outcome:
    curves = simulated.read_curves(simulated.DIGITS_CURVES, parameters.load(parameters.DEFAULT_SPACE))
    contenders: dict[str, tuple[str, Scheduler]] = {
        RANDOM: ("random", Never()),
        DEFAULT: ("tpe", scheduler.make("asha", curves.num_epochs)),
        "tpe, median": ("tpe", scheduler.make("median", curves.num_epochs)),
        "tpe, none": ("tpe", Never()),
        "tpe, asha of grace 1 and factor 4": ("tpe", Asha(grace=1, reduction_factor=4)),
        "random, asha": ("random", scheduler.make("asha", curves.num_epochs)),
        "sobol, asha": ("sobol", scheduler.make("asha", curves.num_epochs)),
    }
    rows: list[Row] = []
    paths: dict[str, list[np.ndarray]] = {name: [] for name in contenders}  # (budget, 2): the regrets of a Progress
    with tqdm(total=len(contenders) * arguments.repeats, unit=" studies", disable=None, leave=False) as progress:
        for number in range(arguments.repeats):
            for name, (algorithm, rule) in contenders.items():
                steps = simulated.spend(
                    curves, algorithm, rule, arguments.workers, arguments.budget, arguments.seed + number
                )
                path = np.array([(step.regret, step.regret_of_leader) for step in steps])
                paths[name].append(path)
                rows.append({"repeat": number, "contender": name, "simulated_seconds": steps[-1].seconds,
                             "regret": _changes(path[:, 0]), "regret_of_leader": _changes(path[:, 1])})  # fmt: skip
                progress.update()
    figures: list[Figure] = []
    checks: dict[str, object] = {
        "minority F1 of the course's recipes, shuffled and weighted": [float(value) for value in curves.true_f1[:2]],
        "minority F1 of the table's best": float(curves.true_f1.max()),
    }
    for column, label in enumerate(("best of the first three", "leader")):
        of_random = np.array(paths[RANDOM])[:, :, column]
        checks[f"{label}: mean regret of random search at the end"] = _mean_interval(of_random[:, -1])
        for name, found in paths.items():
            values = np.array(found)[:, :, column]
            for share in (0.25, 0.5, 1.0):
                at = values[:, round(share * arguments.budget) - 1]
                figures.append(Figure(f"{label}: {name}, {share:.0%}", "regret", at.tolist()))
                checks[f"{label}: mean regret, {name}, {share:.0%}"] = _mean_interval(at)
            checks[f"{label}: share of the budget to random search's final regret, {name}"] = _share(values, of_random)
    return Outcome(rows, figures, ratio_of="none; regret is in minority F1, [mean or share, low, high]: 95 % intervals",
                   checks=checks)  # fmt: skip


def _changes(path: np.ndarray) -> list[list[float]]:
    """[epoch, regret] wherever the regret changes."""
    changed = np.flatnonzero(np.diff(path, prepend=np.nan) != 0)
    return [[int(index) + 1, round(float(path[index]), 5)] for index in changed]


def _mean_interval(values: np.ndarray) -> list[float]:
    """Mean and its Student t interval."""
    interval = stats.ttest_1samp(values, values.mean()).confidence_interval(CONFIDENCE)
    return [float(values.mean()), float(interval.low), float(interval.high)]


def _share(values: np.ndarray, of_random: np.ndarray) -> list[float]:
    """The share of the budget after which the mean regret is first at most random search's final one; inf: never.

    With a percentile interval from 1,000 bootstrap samples of the repeats, both searches' resampled together.
    """
    rng = np.random.default_rng(0)
    samples = [np.arange(len(values)), *rng.integers(len(values), size=(1000, len(values)))]
    shares = [_first_epoch(values[s].mean(axis=0), of_random[s, -1].mean()) / values.shape[1] for s in samples]
    low, high = np.quantile(shares[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    return [shares[0], float(low), float(high)]


def _first_epoch(mean: np.ndarray, target: float) -> float:
    reached = np.flatnonzero(mean <= target)
    return float(reached[0] + 1) if len(reached) else float("inf")
