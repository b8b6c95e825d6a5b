"""Plays the trainings of a test bed through the study's own searcher, scheduler and runner, in simulated time."""

import dataclasses
import heapq
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from study.execution.beds import Bed, Formula
from study.execution.runner import Pause, Runner
from study.execution.surrogate import Surrogate, read_curves
from study.record.ledger import Ledger
from study.space.parameters import COURSE_SPACE, SPACES, load
from study.strategy.scheduler import Scheduler, make
from study.strategy.searcher import Searcher
from trainable.arguments import default_config
from trainable.progress import counted
from trainable.report import Report
from trainable.streams import derive

NUM_CONFIRMED = 3
CHECKPOINTS = (0.25, 0.5, 1.0)  # shares of the budget at which regret is printed


FORMULA = "formula"


def bed(curves: str | Path) -> Bed:
    """The bed fitted to a table of curves of the default space; "formula", where no file has that name: ``Formula``.

    Raises:
        UsageError: see ``surrogate.read_curves``.
    """
    if str(curves) == FORMULA and not Path(curves).is_file():
        return Formula(load(SPACES["full"]))
    return Surrogate(read_curves(Path(curves), load(COURSE_SPACE)))


@dataclass(frozen=True)
class Progress:
    """A simulated study after one more epoch."""

    seconds: float  # simulated
    num_epochs: int  # of all trials together
    regret: float  # what the best of the three that lead is worth less than the best there is
    regret_of_leader: float  # the same of the first alone, whose lead is partly luck


def simulate(
    bed: Bed, algorithm: str, scheduler: Scheduler, num_workers: int, num_trials: int, seed: int
) -> Iterator[Progress]:
    """Runs a study on a test bed, an epoch at a time; the caller may end it whenever it likes."""
    base = dataclasses.replace(default_config("digits", seed), epochs=bed.num_epochs, objective=bed.objective.name)
    ledger = Ledger(None)
    runner = Runner(ledger, Searcher(ledger, bed.space, base, algorithm, num_trials), scheduler, Pause(None))
    curves: dict[int, np.ndarray] = {}  # by trial
    worths: dict[int, float] = {}
    best: dict[int, float] = {}  # so far
    running: list[tuple[float, int, float]] = []  # when its next epoch ends, trial, seconds of an epoch

    def start(now: float) -> None:
        trial = runner.next()
        if trial is not None:
            number, config = trial.number, trial.config
            curves[number] = bed.train(config, derive("simulation", seed, number))
            worths[number] = bed.worth(config)
            pace = bed.epoch_seconds(config)
            heapq.heappush(running, (now + pace, number, pace))

    for _ in range(num_workers):
        start(0.0)
    num_epochs = 0
    while running:
        now, number, pace = heapq.heappop(running)
        epoch = len(ledger.trials[number].best) + 1
        best[number] = max(float(curves[number][epoch - 1]), best.get(number, -1.0))
        reason = "epochs" if epoch == bed.num_epochs else ""
        if runner.report(number, Report(epoch, {"epoch": epoch, bed.objective.best: best[number]}, reason)):
            start(now)
        else:
            heapq.heappush(running, (now + pace, number, pace))
        num_epochs += 1
        # study.confirm takes the first three, and tells by fresh seeds which of them is the best
        leaders = heapq.nlargest(NUM_CONFIRMED, best, key=lambda trial: (best[trial], -trial))
        regrets = [bed.best - worths[leader] for leader in leaders]
        yield Progress(now, num_epochs, min(regrets), regrets[0])


def spend(
    bed: Bed, algorithm: str, scheduler: Scheduler, num_workers: int, budget_epochs: int, seed: int
) -> list[Progress]:
    """A study's progress after each of ``budget_epochs`` epochs; a grid that ends before stays where it ended."""
    progress = simulate(bed, algorithm, scheduler, num_workers, budget_epochs, seed)
    steps = [step for step, _ in zip(progress, range(budget_epochs), strict=False)]
    return steps + steps[-1:] * (budget_epochs - len(steps))


def compare(
    bed: Bed,
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
        f"{len(bed.space)} fields, {bed.num_epochs} epochs, the best recipe worth {bed.best:.4f}; "
        f"{repeats} studies of {budget} epochs on {num_workers} workers",
        f"median regret of the best of the first {NUM_CONFIRMED} (and middle half), in {bed.objective.words}; "
        "simulated time",
        f"{'algorithm':<10}{'scheduler':<10}" + "".join(f"{head:>23}" for head in heads) + f"{'hours':>9}",
    ]
    combinations = list(itertools.product(algorithms, names))
    pairs = itertools.product(combinations, range(seed, seed + repeats))
    played: dict[tuple[str, str], list[list[Progress]]] = {combination: [] for combination in combinations}
    for (algorithm, name), own_seed in counted(pairs, "simulating", len(combinations) * repeats, "studies"):
        steps = spend(bed, algorithm, make(name, bed.num_epochs), num_workers, budget, own_seed)
        played[algorithm, name].append(steps)
    moments = [round(share * budget) - 1 for share in CHECKPOINTS]
    for (algorithm, name), studies in played.items():
        cells = [_quartiles([steps[moment].regret for steps in studies]) for moment in moments]
        hours = statistics.median(steps[-1].seconds for steps in studies) / 3600
        lines.append(f"{algorithm:<10}{name:<10}" + "".join(f"{cell:>23}" for cell in cells) + f"{hours:>9.2f}")
    return lines


def _quartiles(values: list[float]) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.4f} ({low:.4f}-{high:.4f})"
