"""Plays recorded learning curves through the study's own searcher, scheduler and runner, in simulated time.

Only the trials are read from a table of curves. A config that is not in the table takes the curve of the nearest one
that is.
"""

import dataclasses
import heapq
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from study.execution.runner import Pause, Runner
from study.record.ledger import Ledger
from study.space.parameters import Parameter, Space
from study.strategy.scheduler import Scheduler, make
from study.strategy.searcher import Searcher
from trainable.arguments import default_config
from trainable.cli import UsageError, shown
from trainable.config import TrialConfig
from trainable.files import check_plain
from trainable.objectives import MINORITY_F1
from trainable.report import Report
from trainable.streams import derive

DIGITS_CURVES = Path(__file__).with_name("digits_curves.csv")
NUM_CONFIRMED = 3
CHECKPOINTS = (0.25, 0.5, 1.0)  # shares of the budget at which regret is printed


@dataclass(frozen=True)
class Curves:
    """Recorded learning curves of some configs, each trained with several seeds."""

    space: Space
    points: np.ndarray  # float64 (num_configs, num_fields), see ``locate``
    minority_f1: np.ndarray  # float64 (num_configs, num_seeds, num_epochs), in [0, 1]
    epoch_seconds: np.ndarray  # float64 (num_configs,)

    @property
    def num_epochs(self) -> int:
        return self.minority_f1.shape[2]

    @property
    def true_f1(self) -> np.ndarray:
        """What a config is worth: the mean over its seeds of the best epoch's F1, float64 (num_configs,)."""
        return self.minority_f1.max(axis=2).mean(axis=1)

    def nearest(self, config: TrialConfig) -> int:
        """The row of the config that is nearest by Euclidean distance, each field scaled to [0, 1]."""
        distances = ((self.points - locate(self.space, config.to_dict())) ** 2).sum(axis=1)
        return int(distances.argmin())


def read_curves(path: Path, space: Space) -> Curves:
    """Reads a table as ``benchmarks.curves`` writes it: a row for each config and seed.

    Raises:
        UsageError: the file cannot be read, or holds something else; what is wrong first.
    """
    try:
        check_plain(path)
        table = pd.read_csv(path, comment="#")
        return _curves(table, space)
    except OSError as error:
        reason: object = error.strerror or error
    except ValueError as error:
        reason = str(error).splitlines()[0]
    raise UsageError([f"--curves {path}: cannot be read ({reason})"])


def _curves(table: pd.DataFrame, space: Space) -> Curves:
    """The curves in the table.

    Raises:
        ValueError: a column is missing, or values are no such curves.
    """
    epochs = [name for name in table if re.fullmatch(r"epoch_\d+", name)]
    needed = ["config", *(parameter.name for parameter in space), "epoch_seconds"]
    if missing := [name for name in needed if name not in table] + ([] if epochs else ["epoch_1"]):
        raise ValueError(f"it has no column {', '.join(missing)}")
    scores, seconds = table[epochs].to_numpy(float), table["epoch_seconds"].to_numpy(float)
    if not len(table) or not ((scores >= 0) & (scores <= 1)).all() or not ((seconds >= 0) & (seconds < 1e9)).all():
        raise ValueError("it must have rows with scores from 0 to 1 and seconds of at least 0")
    grouped = table.groupby("config", sort=True)
    if len(set(grouped.size())) > 1:
        raise ValueError("it must have as many seeds of each config")
    firsts = grouped.first().to_dict("records")
    for values in firsts:
        for parameter in space:
            if parameter.active(values) and not parameter.contains(values[parameter.name]):
                rule = f"{parameter.name} must be a value of the space"
                raise ValueError(f"{rule}, not {shown(values[parameter.name])}")
    return Curves(
        space,
        np.array([locate(space, values) for values in firsts]),
        np.stack([group[epochs].to_numpy(float) for _, group in grouped]),
        grouped["epoch_seconds"].mean().to_numpy(float),
    )


def locate(space: Space, values: dict[str, Any]) -> np.ndarray:
    """A config as a point: ranges and ordered choices in [0, 1], other choices a corner each, distance 1 apart.

    A field that is not active stands in the middle of its range.
    """
    coordinates: list[float] = []
    for parameter in space:
        active = parameter.active(values)
        coordinates += _coordinates(parameter, values[parameter.name]) if active else _middle(parameter)
    return np.array(coordinates)


def _coordinates(parameter: Parameter, value: Any) -> list[float]:
    if not parameter.choices:
        return [parameter.share(value)]
    if all(isinstance(choice, int | float) for choice in parameter.choices):
        return [sorted(parameter.choices).index(value) / max(1, len(parameter.choices) - 1)]
    return [(choice == value) / 2**0.5 for choice in parameter.choices]


def _middle(parameter: Parameter) -> list[float]:
    return [0.5] * len(_coordinates(parameter, parameter.choices[0] if parameter.choices else parameter.low))


@dataclass(frozen=True)
class Progress:
    """A simulated study after one more epoch."""

    seconds: float  # simulated
    num_epochs: int  # of all trials together
    regret: float  # what the best of the three that lead is worth less than the best of the table, in minority F1
    regret_of_leader: float  # the same of the first alone, whose lead is partly luck


def simulate(
    curves: Curves, algorithm: str, scheduler: Scheduler, num_workers: int, num_trials: int, seed: int
) -> Iterator[Progress]:
    """Runs a study on recorded curves, an epoch at a time; the caller may end it whenever it likes."""
    base = dataclasses.replace(default_config("digits", seed), epochs=curves.num_epochs)
    ledger = Ledger(None)
    runner = Runner(ledger, Searcher(ledger, curves.space, base, algorithm, num_trials), scheduler, Pause(None))
    true_f1, scores = curves.true_f1, dict[int, tuple[float, int]]()  # trial: (best so far, row of the table)
    running: list[tuple[float, int, int]] = []  # when its next epoch ends, trial, row of the table
    num_epochs = 0

    def start(now: float) -> None:
        trial = runner.next()
        if trial is not None:
            row = curves.nearest(trial.config)
            heapq.heappush(running, (now + curves.epoch_seconds[row], trial.number, row))

    for _ in range(num_workers):
        start(0.0)
    while running:
        now, number, row = heapq.heappop(running)
        best = ledger.trials[number].best
        curve = curves.minority_f1[row, derive("simulation", seed, number) % curves.minority_f1.shape[1]]
        epoch = len(best) + 1
        running_best = max(float(curve[epoch - 1]), *best[-1:], -1.0)
        reason = "epochs" if epoch == curves.num_epochs else ""
        if runner.report(number, Report(epoch, {"epoch": epoch, MINORITY_F1.best: running_best}, reason)):
            start(now)
        else:
            heapq.heappush(running, (now + curves.epoch_seconds[row], number, row))
        num_epochs += 1
        scores[number] = running_best, row
        # study.confirm takes the first three, and tells by fresh seeds which of them is the best
        leaders = [row for _, row in heapq.nlargest(NUM_CONFIRMED, scores.values())]
        regrets = true_f1.max() - true_f1[leaders]
        yield Progress(now, num_epochs, float(regrets.min()), float(regrets[0]))


def spend(
    curves: Curves, algorithm: str, scheduler: Scheduler, num_workers: int, budget_epochs: int, seed: int
) -> list[Progress]:
    """A study's progress after each of ``budget_epochs`` epochs; a grid that ends before stays where it ended."""
    progress = simulate(curves, algorithm, scheduler, num_workers, budget_epochs, seed)
    steps = [step for step, _ in zip(progress, range(budget_epochs), strict=False)]
    return steps + steps[-1:] * (budget_epochs - len(steps))


def compare(
    curves: Curves,
    algorithms: Sequence[str],
    names: Sequence[str],
    num_workers: int,
    budget: int,
    repeats: int,
    seed: int,
) -> list[str]:
    """How far studies get with each algorithm and scheduler (``names``), as the lines of a table.

    ``repeats`` studies of ``budget`` epochs each, with seeds from ``seed`` on.
    """
    heads = [f"{share:.0%} of budget" for share in CHECKPOINTS]
    lines = [
        f"{len(curves.points)} recipes of {curves.num_epochs} epochs, the best worth {curves.true_f1.max():.4f}; "
        f"{repeats} studies of {budget} epochs on {num_workers} workers",
        f"median regret of the best of the first {NUM_CONFIRMED} (and middle half), in minority F1; simulated time",
        f"{'algorithm':<10}{'scheduler':<10}" + "".join(f"{head:>23}" for head in heads) + f"{'hours':>9}",
    ]
    combinations = [(a, s) for a in algorithms for s in names]
    with tqdm(total=len(combinations) * repeats, unit=" studies", disable=None, leave=False) as progress:
        for algorithm, name in combinations:
            scheduler = make(name, curves.num_epochs)
            studies = []
            for number in range(repeats):
                own_seed = seed + number
                studies.append(spend(curves, algorithm, scheduler, num_workers, budget, own_seed))
                progress.update()
            moments = [round(share * budget) - 1 for share in CHECKPOINTS]
            cells = [_quartiles([steps[moment].regret for steps in studies]) for moment in moments]
            hours = statistics.median(steps[-1].seconds for steps in studies) / 3600
            lines.append(f"{algorithm:<10}{name:<10}" + "".join(f"{cell:>23}" for cell in cells) + f"{hours:>9.2f}")
    return lines


def _quartiles(values: list[float]) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.4f} ({low:.4f}-{high:.4f})"
