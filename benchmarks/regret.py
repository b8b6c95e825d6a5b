"""What a search is worth: regret on a test bed over the epochs spent, for the study's own searches and their peers."""

import argparse
from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats
from tqdm import tqdm

from benchmarks.harness import Figure, Outcome, Row
from benchmarks.peers import PEERS, Tally
from study.execution import simulated
from study.execution.beds import Bed
from study.execution.surrogate import DIGITS_CURVES
from study.strategy import scheduler
from trainable.cli import Parser, UsageError, positive_int, seed

DEFAULT, RANDOM = "tpe, asha (the default)", "random, none"
OWN = {  # algorithm and scheduler
    RANDOM: ("random", "none"),
    DEFAULT: ("tpe", "asha"),
    "tpe, median": ("tpe", "median"),
    "tpe, none": ("tpe", "none"),
    "random, asha": ("random", "asha"),
    "sobol, asha": ("sobol", "asha"),
}
CONFIDENCE = 0.95


def add_flags(parser: Parser) -> None:
    curves = "recorded curves that the trainings are to be like (default: those on digits), or formula"
    parser.add_argument("--curves", default=None, metavar="FILE", help=curves)
    parser.add_argument("--contenders", default=None, metavar="LIST", help="some of them, by ; (default: all)")
    parser.add_argument("--repeats", type=positive_int, default=50, help="simulated studies of each kind")
    parser.add_argument("--budget", type=positive_int, default=1000, metavar="EPOCHS", help="of a study's trials")
    parser.add_argument("--workers", type=positive_int, default=4, help="trials at a time; the peers have one")
    parser.add_argument("--seed", type=seed, default=0, help="of the first repeat")


def run(arguments: argparse.Namespace) -> Outcome:
    bed = simulated.bed(arguments.curves or DIGITS_CURVES)
    contenders = _contenders(arguments)
    rows: list[Row] = []
    paths: dict[str, list[np.ndarray]] = {name: [] for name in contenders}  # (budget, 2): the regrets of a Progress
    with tqdm(total=len(contenders) * arguments.repeats, unit=" studies", disable=None, leave=False) as progress:
        for number in range(arguments.repeats):
            for name, contender in contenders.items():
                path = contender(bed, arguments.seed + number)
                paths[name].append(path)
                rows.append({"repeat": number, "contender": name,
                             "regret": _changes(path[:, 0]), "regret_of_leader": _changes(path[:, 1])})  # fmt: skip
                progress.update()
    figures: list[Figure] = []
    checks: dict[str, object] = {"minority F1 of the bed's best recipe": bed.best}
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


def _contenders(arguments: argparse.Namespace) -> Mapping[str, Callable[[Bed, int], np.ndarray]]:
    """The regrets of a study by the name of its search: (budget, 2), of the best of the first three and the first."""

    def own(algorithm: str, rule: str) -> Callable[[Bed, int], np.ndarray]:
        def path(bed: Bed, seed: int) -> np.ndarray:
            made = scheduler.make(rule, bed.num_epochs)
            steps = simulated.spend(bed, algorithm, made, arguments.workers, arguments.budget, seed)
            return np.array([(step.regret, step.regret_of_leader) for step in steps])

        return path

    def peer(search: Callable[[Tally], None]) -> Callable[[Bed, int], np.ndarray]:
        def path(bed: Bed, seed: int) -> np.ndarray:
            tally = Tally(bed, arguments.budget, seed)
            search(tally)
            return np.array(tally.path + tally.path[-1:] * (arguments.budget - len(tally.path)))

        return path

    known = {name: own(*pair) for name, pair in OWN.items()} | {name: peer(search) for name, search in PEERS.items()}
    asked = arguments.contenders.split(";") if arguments.contenders else list(known)
    if unknown := [name for name in asked if name not in known]:
        raise UsageError([f"--contenders: {name!r} is none of {'; '.join(known)}" for name in unknown])
    return {name: known[name] for name in dict.fromkeys([RANDOM, *asked])}


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
