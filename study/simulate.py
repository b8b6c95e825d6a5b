"""python -m study.simulate: replays recorded learning curves, for anyone choosing an algorithm or a scheduler.

The searcher, the scheduler and the ledger are the study's own; only the trials are read from a table of curves and
time is simulated. A config that is not in the table takes the curve of the nearest one that is.
"""

import argparse
import dataclasses
import heapq
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from study.space import parameters as spaces
from study.space.parameters import ALGORITHMS, Parameter, Space
from study.strategy import scheduler as schedulers
from study.strategy.scheduler import SCHEDULERS, Scheduler
from trainable.arguments import default_config
from trainable.cli import Parser, UsageError, fail, positive_int, seed
from trainable.command import command, output_is_essential
from trainable.config import TrialConfig

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
        UsageError: the file cannot be read or lacks a field of the space.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, comment="#")
    except (OSError, ValueError) as error:
        raise UsageError([f"--curves {path}: cannot be read ({error})"]) from error
    missing = [p.name for p in space if p.name not in table]
    if missing:
        raise UsageError([f"--curves {path}: has no column {', '.join(missing)}"])
    epochs = [column for column in table if column.startswith("epoch_") and column != "epoch_seconds"]
    grouped = table.groupby("config", sort=True)
    firsts = grouped.first().to_dict("records")
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
    from study.record.ledger import Ledger
    from study.strategy.searcher import Searcher
    from trainable.streams import derive

    base = dataclasses.replace(default_config("digits", seed), epochs=curves.num_epochs)
    ledger = Ledger(None)
    searcher = Searcher(ledger, curves.space, base, algorithm, num_trials)
    true_f1, scores = curves.true_f1, dict[int, tuple[float, int]]()  # trial: (best so far, row of the table)
    running: list[tuple[float, int, int]] = []  # when its next epoch ends, trial, row of the table
    num_epochs = 0

    def start(now: float) -> None:
        trial = searcher.next()
        if trial is not None:
            row = curves.nearest(trial.config)
            heapq.heappush(running, (now + curves.epoch_seconds[row], trial.number, row))

    for _ in range(num_workers):
        start(0.0)
    while running:
        now, number, row = heapq.heappop(running)
        trial = ledger.trials[number]
        curve = curves.minority_f1[row, derive("simulation", seed, number) % curves.minority_f1.shape[1]]
        epoch = len(trial.best) + 1
        running_best = max(float(curve[epoch - 1]), *trial.best[-1:], -1.0)
        ledger.record(number, {"epoch": epoch, "best_minority_f1": running_best})
        num_epochs += 1
        scores[number] = running_best, row
        if schedulers.is_cut(scheduler, trial, ledger.standings):
            ledger.stop(number, "scheduler")
            start(now)
        elif epoch == curves.num_epochs:
            ledger.complete(number, "epochs")
            start(now)
        else:
            heapq.heappush(running, (now + curves.epoch_seconds[row], number, row))
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


@command("study.simulate")
def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse(argv)
    problems = list(parser.problems)
    for flag, known in (("algorithms", ALGORITHMS), ("schedulers", SCHEDULERS)):
        names = getattr(arguments, flag).split(",")
        problems += [f"--{flag}: {name!r} is none of {', '.join(known)}" for name in names if name not in known]
        setattr(arguments, flag, names)
    try:
        curves = read_curves(arguments.curves, spaces.load(spaces.DEFAULT_SPACE))
    except UsageError as error:
        problems += error.problems
    if problems:
        fail(parser.prog, problems)
    output_is_essential()
    print("\n".join(_report(curves, arguments)))
    return 0


def _parser() -> Parser:
    parser = Parser("study.simulate", "Replays recorded learning curves through the study's searcher and scheduler.")
    parser.add_argument("--curves", type=Path, default=DIGITS_CURVES, metavar="FILE",
                        help="the table of curves (default: 200 recipes on digits)")  # fmt: skip
    parser.add_argument("--algorithms", default="tpe,random", metavar="LIST", help=f"of {', '.join(ALGORITHMS)}")
    parser.add_argument(
        "--schedulers", default=",".join(SCHEDULERS), metavar="LIST", help=f"of {', '.join(SCHEDULERS)}"
    )
    parser.add_argument("--workers", type=positive_int, default=4, help="trials at a time")
    parser.add_argument("--budget", type=positive_int, default=600, metavar="EPOCHS", help="of all trials together")
    parser.add_argument("--repeats", type=positive_int, default=20, help="studies with seeds of their own")
    parser.add_argument("--seed", type=seed, default=0, help="of the first repeat")
    return parser


def _report(curves: Curves, arguments: argparse.Namespace) -> list[str]:
    from tqdm import tqdm

    heads = [f"{share:.0%} of budget" for share in CHECKPOINTS]
    lines = [
        f"{len(curves.points)} recipes of {curves.num_epochs} epochs, the best worth {curves.true_f1.max():.4f}; "
        f"{arguments.repeats} studies of {arguments.budget} epochs on {arguments.workers} workers",
        f"median regret of the best of the first {NUM_CONFIRMED} (and middle half), in minority F1; simulated time",
        f"{'algorithm':<10}{'scheduler':<10}" + "".join(f"{head:>23}" for head in heads) + f"{'hours':>9}",
    ]
    combinations = [(a, s) for a in arguments.algorithms for s in arguments.schedulers]
    with tqdm(total=len(combinations) * arguments.repeats, unit=" studies", disable=None, leave=False) as progress:
        for algorithm, name in combinations:
            scheduler = schedulers.make(name, curves.num_epochs)
            studies = []
            for number in range(arguments.repeats):
                own_seed = arguments.seed + number
                studies.append(spend(curves, algorithm, scheduler, arguments.workers, arguments.budget, own_seed))
                progress.update()
            moments = [round(share * arguments.budget) - 1 for share in CHECKPOINTS]
            cells = [_quartiles([steps[moment].regret for steps in studies]) for moment in moments]
            hours = statistics.median(steps[-1].seconds for steps in studies) / 3600
            lines.append(f"{algorithm:<10}{name:<10}" + "".join(f"{cell:>23}" for cell in cells) + f"{hours:>9.2f}")
    return lines


def _quartiles(values: list[float]) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.4f} ({low:.4f}-{high:.4f})"


if __name__ == "__main__":
    sys.exit(main())
