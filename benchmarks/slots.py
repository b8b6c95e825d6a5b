"""What the driver keeps at work: one-epoch trials of a trainable that only waits, on faked GPUs, through Ray Tune."""

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import SCRATCH, Figure, Outcome, Row
from trainable.cli import Parser, positive_int

NAMES = (
    "wall_seconds",
    "trials_per_second",
    "share_of_slot_time",
    "share_once_all_work",
    "trials_per_second_once_all_work",
    "workers_that_ran",
    "driver_milliseconds_per_trial",
    "driver_mib",
)
SIZES = (500, 1000, 2000)


def add_flags(parser: Parser) -> None:
    parser.add_argument("--gpus", type=positive_int, default=64, help="faked, a trial on each")
    parser.add_argument("--seconds", type=float, default=1.0, help="an epoch, in which a trial only waits")
    parser.add_argument("--trials", type=positive_int, nargs="+", default=list(SIZES), help="sizes of the studies")


def run(arguments: argparse.Namespace) -> Outcome:
    rows: list[Row] = []
    for size in arguments.trials:
        # a process for each, so that its memory is its own
        command = [sys.executable, "-m", "benchmarks.slots", str(size), str(arguments.gpus), str(arguments.seconds)]
        numbers = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-len(NAMES) :]
        rows.append({"trials": size, **dict(zip(NAMES, map(float, numbers), strict=True))})
        print(rows[-1], file=sys.stderr)
    figures = [Figure(f"{row['trials']} trials: {name.replace('_', ' ')}", "", [row[name]])
               for row in rows for name in NAMES]  # fmt: skip
    return Outcome(rows, figures, ratio_of="none", setting={"gpus": arguments.gpus, "seconds": arguments.seconds})


def _study(num_trials: int, num_gpus: int, seconds: float, folder: Path) -> None:
    """Runs a study of so many trials and prints what it took, from its first epoch's start to its end."""
    from ray import tune

    from study.execution import tune as driver
    from study.execution.machine import Resources, ray_running
    from study.execution.runner import Pause, Runner
    from study.record.ledger import Ledger
    from study.space import parameters
    from study.strategy import scheduler
    from study.strategy.searcher import Searcher
    from trainable.arguments import default_config
    from trainable.report import Report

    class Waits(tune.Trainable):  # made here, so that it travels as it is and workers need not import torch
        def setup(self, config: dict[str, Any], pool: None = None) -> None:
            self.number = config["number"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.number = new_config["number"]
            return True

        def step(self) -> dict[str, Any]:
            started = time.time()
            time.sleep(seconds)
            score = (self.number * 0.618) % 1
            row = {"epoch": 1, "best_minority_f1": score}
            span = {"worker": os.getpid(), "started": started, "ended": time.time()}
            return {"report": Report(1, {**row, **span}, "epochs"), "training_iteration": 1, "done": True}

    driver.RayTrial = Waits  # type: ignore[misc, assignment]
    base = dataclasses.replace(default_config("digits", 0), epochs=1)
    ledger = Ledger(folder)
    searcher = Searcher(ledger, parameters.load(parameters.COURSE_SPACE), base, "tpe", num_trials)
    spans: dict[int, tuple[int, float, float]] = {}

    def on_change(trial: Any) -> None:
        if trial.row:
            spans[trial.number] = trial.row["worker"], trial.row["started"], trial.row["ended"]

    runner = Runner(ledger, searcher, scheduler.make("asha", 1), Pause(None), on_change)
    resources = Resources(num_gpus, 1, 1.0, num_gpus)
    with ray_running(resources, "benchmarks slots", "slots"):
        before = time.process_time()
        driver.run(runner, None, resources, print)  # type: ignore[arg-type]
        spent = time.process_time() - before
    assert len(spans) == num_trials
    first_ends: dict[int, float] = {}  # of each worker
    for worker, _, end in sorted(spans.values(), key=lambda span: span[2]):
        first_ends.setdefault(worker, end)
    began = min(start for _, start, _ in spans.values())
    all_work = list(first_ends.values())[:num_gpus][-1]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, pace, used = _used(list(spans.values()), began, num_gpus)
    _, steady_pace, steady_used = _used(list(spans.values()), all_work, num_gpus)
    print(wall, pace, used, steady_used, steady_pace, len(first_ends), 1000 * spent / num_trials, memory)


def _used(spans: list[tuple[int, float, float]], since: float, num_gpus: int) -> tuple[float, float, float]:
    """From ``since`` to the last epoch's end: seconds, trials ended in a second, share of all slots' time in epochs."""
    wall = max(end for _, _, end in spans) - since
    inside = [end - max(start, since) for _, start, end in spans if end > since]
    return wall, len(inside) / max(wall, 1e-9), sum(inside) / (num_gpus * max(wall, 1e-9))


if __name__ == "__main__":
    SCRATCH.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=SCRATCH) as scratch:
        _study(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(scratch) / "study")
