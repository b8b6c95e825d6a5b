"""What a search is worth: regret on recorded curves over the epochs spent, for several algorithms and schedulers."""

import argparse

import numpy as np
from scipy import stats
from tqdm import tqdm

from benchmarks.harness import Figure, Outcome, Row
from study import scheduler, simulate, space
from study.scheduler import Asha, Never, Scheduler
from trainable.arguments import Parser, positive_int, seed

DEFAULT, RANDOM = "tpe, asha (the default)", "random, none"
CONFIDENCE = 0.95


def add_flags(parser: Parser) -> None:
    parser.add_argument("--repeats", type=positive_int, default=50, help="simulated studies of each kind")
    parser.add_argument("--budget", type=positive_int, default=1000, metavar="EPOCHS", help="of a study's trials")
    parser.add_argument("--workers", type=positive_int, default=4, help="trials at a time")
    parser.add_argument("--seed", type=seed, default=0, help="of the first repeat")


def run(arguments: argparse.Namespace) -> Outcome:
    curves = simulate.read_curves(simulate.DIGITS_CURVES, space.load(space.DEFAULT_SPACE))
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
    paths: dict[str, list[np.ndarray]] = {name: [] for name in contenders}
    with tqdm(total=len(contenders) * arguments.repeats, unit=" studies", disable=None, leave=False) as progress:
        for number in range(arguments.repeats):
            for name, (algorithm, rule) in contenders.items():
                path, seconds = simulate.regret_by_epoch(
                    curves, algorithm, rule, arguments.workers, arguments.budget, arguments.seed + number
                )
                paths[name].append(path)
                rows.append({"repeat": number, "contender": name, "simulated_seconds": seconds,
                             "regret": [[int(e), r] for e, r in _steps(path)]})  # fmt: skip
                progress.update()
    target = float(np.mean([path[-1] for path in paths[RANDOM]]))
    figures = []
    checks: dict[str, object] = {"regret_of_random_search_at_the_end": target}
    for name, found in paths.items():
        values = np.array(found)
        figures.append(Figure(f"{name}: at half", "regret", values[:, arguments.budget // 2 - 1].tolist()))
        figures.append(Figure(f"{name}: at the end", "regret", values[:, -1].tolist()))
        checks[f"mean regret at the end, {name}"] = _mean_interval(values[:, -1])
        checks[f"mean regret at half, {name}"] = _mean_interval(values[:, arguments.budget // 2 - 1])
        share, low, high = _share_needed(values, np.array(paths[RANDOM]))
        checks[f"share of the budget until random search's final mean regret, {name}"] = [share, low, high]
    course = [simulate_f1 for simulate_f1 in curves.true_f1[:2]]
    checks["minority F1 of the course's recipes, shuffled and weighted"] = [float(value) for value in course]
    checks["minority F1 of the table's best"] = float(curves.true_f1.max())
    return Outcome(rows, figures, ratio_of="none; regret is in minority F1, [share, low, high] with 95 % intervals",
                   checks=checks)  # fmt: skip


def _steps(path: np.ndarray) -> list[tuple[int, float]]:
    """(epoch, regret) wherever the regret changes."""
    changed = np.flatnonzero(np.diff(path, prepend=np.nan) != 0)
    return [(int(index) + 1, float(path[index])) for index in changed]


def _mean_interval(values: np.ndarray) -> list[float]:
    """Mean and its Student t interval."""
    interval = stats.ttest_1samp(values, values.mean()).confidence_interval(CONFIDENCE)
    return [float(values.mean()), float(interval.low), float(interval.high)]


def _share_needed(values: np.ndarray, of_random: np.ndarray) -> tuple[float, float, float]:
    """The share of the budget after which the mean regret is for good at most random search's final one.

    With a percentile interval from 1,000 bootstrap samples of the repeats, both searches' resampled together.
    """
    rng = np.random.default_rng(0)
    samples = [np.arange(len(values)), *rng.integers(len(values), size=(1000, len(values)))]
    shares = [_first_epoch(values[s].mean(axis=0), of_random[s, -1].mean()) / values.shape[1] for s in samples]
    low, high = np.quantile(shares[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return shares[0], float(low), float(high)


def _first_epoch(mean: np.ndarray, target: float) -> float:
    above = np.flatnonzero(mean > target)
    first = int(above[-1]) + 2 if len(above) else 1
    return float(first) if first <= len(mean) else float("inf")
