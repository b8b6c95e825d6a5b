"""How a study's own work grows with its trials: time per proposal and per result, and memory, on made-up curves."""

import argparse
import dataclasses
import math
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness import SCRATCH, Figure, Outcome, Row
from study.record.ledger import Ledger
from study.space import parameters
from study.strategy import scheduler
from study.strategy.scheduler import why_stopped
from study.strategy.searcher import Searcher
from trainable.arguments import default_config
from trainable.cli import Parser
from trainable.config import TrialConfig

SETTINGS = (("random", "course"), ("tpe", "course"), ("tpe", "full"))  # 5 and 24 fields
SIZES = (1000, 3000, 10_000)
NUM_EPOCHS = 20
WINDOW = 200  # trials at the end whose times are taken


def add_flags(parser: Parser) -> None:
    parser.add_argument("--journal", action="store_true", help="keep the journal on disk, as a real study does")


def run(arguments: argparse.Namespace) -> Outcome:
    rows: list[Row] = []
    for algorithm, space in SETTINGS:
        for size in SIZES:
            # a process for each, so that its memory is its own
            asked = [algorithm, space, str(size), str(int(arguments.journal))]
            command = [sys.executable, "-m", "benchmarks.scaling", *asked]
            numbers = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            names = ("total_seconds", "ask_milliseconds", "result_milliseconds", "memory_mib")
            found = dict(zip(names, map(float, numbers), strict=True))
            rows.append({"algorithm": algorithm, "space": space, "trials": size, **found})
            print(rows[-1], file=sys.stderr)
    figures = [
        Figure(f"{row['algorithm']}, space {row['space']}, {row['trials']} trials: {label}", unit, [row[name]])
        for row in rows
        for name, label, unit in [
            ("ask_milliseconds", "a proposal, at the end", "ms"),
            ("result_milliseconds", "a result, at the end", "ms"),
            ("memory_mib", "memory", "MiB"),
            ("total_seconds", "all", "s"),
        ]
    ]
    return Outcome(rows, figures, ratio_of="none", setting={"window": WINDOW, "epochs": NUM_EPOCHS})


def _made_up(config: TrialConfig, epoch: int) -> float:
    distance = (config.dropout - 0.4) ** 2 + (math.log10(config.learning_rate) + 3) ** 2 / 4
    return math.exp(-distance) * (1 - 1 / (epoch + 1))


def _study(algorithm: str, space: str, num_trials: int, folder: Path | None) -> None:
    """Runs a study of so many trials, one at a time, and prints what it took."""
    ledger = Ledger(folder)
    base = dataclasses.replace(default_config("digits", 0), epochs=NUM_EPOCHS)
    searcher = Searcher(ledger, parameters.load(parameters.SPACES[space]), base, algorithm, num_trials)
    rule = scheduler.make("asha", NUM_EPOCHS)
    asks: list[float] = []
    results: list[float] = []
    begin = time.perf_counter()
    while True:
        start = time.perf_counter()
        trial = searcher.next()
        asks.append(time.perf_counter() - start)
        if trial is None:
            break
        for epoch in range(1, NUM_EPOCHS + 1):
            start = time.perf_counter()
            ledger.record(trial.number, {"epoch": epoch, "best_minority_f1": _made_up(trial.config, epoch)})
            cut = why_stopped(rule, trial, ledger)
            results.append(time.perf_counter() - start)
            if cut:
                break
        if cut:
            ledger.stop(trial.number, cut)
        else:
            ledger.complete(trial.number, "epochs")
    total = time.perf_counter() - begin
    ask, result = (1000 * sum(taken[-1 - WINDOW : -1]) / WINDOW for taken in (asks, results))
    print(total, ask, result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    algorithm, space, size, keeps_journal = sys.argv[1:]
    if keeps_journal == "1":
        SCRATCH.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=SCRATCH) as scratch:
            _study(algorithm, space, int(size), Path(scratch))
    else:
        _study(algorithm, space, int(size), None)
