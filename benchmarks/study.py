"""A finished study's wall time against its training and validation: what running it through the tuner costs.

From the moment the first worker is asked for to the moment the last trial is entered: after that no trial is left
to start, and slots stand empty whatever the tuner does. Nothing is run, the study's folder is read.
"""

import argparse
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.harness import Figure, Outcome
from study.record import files
from study.record.formats import Study
from trainable.cli import Parser, UsageError
from trainable.records import read_rows

ENDED = "ended_unix_seconds"  # in a row: when its epoch ended, on the clock of time.time()


@dataclass(frozen=True)
class Span:
    """A trial's life, in Unix seconds."""

    number: int
    start: float  # entered in the journal; the worker is asked for next
    end: float  # told to the journal
    epochs: list[tuple[float, float]]  # training and validation, from and to


def add_flags(parser: Parser) -> None:
    parser.add_argument("results", metavar="results/NAME", help="the folder of a study that ran in one go to its end")


def run(arguments: argparse.Namespace) -> Outcome:
    accounts = account(Path(arguments.results))
    names = ("training and validation", "until a trial's first epoch", "between epochs", "after a trial's last epoch",
             "no trial")  # fmt: skip
    slots, wall = accounts["slots"], accounts["wall_seconds"]
    figures = [Figure("wall time", "s", [wall], accounts["ratio"])]
    figures += [Figure(name, "s of each slot", [accounts[name] / slots], accounts[name] / slots / wall)
                for name in names]  # fmt: skip
    return Outcome(
        accounts["rows"],
        figures,
        ratio_of="of the wall time: to training and validation; of the others: to the wall time, sum 1",
        checks={key: accounts[key] for key in ("slots", "trials", "first_workers_start_seconds")},
        setting={"study": accounts["study"]},
    )


def account(folder: Path) -> dict[str, Any]:
    """Where the slots' seconds went between the first worker's start and the last trial's, and the ratio.

    ``ratio`` is the wall time to the mean of the slots' training and validation seconds in it.

    Raises:
        UsageError: the folder holds no study, or one that cannot be accounted for.
    """
    study = files.read_study(folder)
    spans = _spans(folder, study)
    if len(study.invocations) != 1:
        raise UsageError([f"{folder}: was paused and resumed; only a study that ran in one go can be accounted for"])
    slots = _num_slots(study)
    if len(spans) <= slots:
        raise UsageError([f"{folder}: has {len(spans)} trials for {slots} slots; all of them started at once"])
    opened, closed = min(span.start for span in spans), max(span.start for span in spans)

    def total(pieces: list[tuple[float, float]]) -> float:
        """The seconds of all pieces that lie between the first start and the last."""
        return sum(max(0.0, min(end, closed) - max(start, opened)) for start, end in pieces)

    living = total([(span.start, span.end) for span in spans])
    busy = total([epoch for span in spans for epoch in span.epochs])
    before = total([(span.start, span.epochs[0][0]) for span in spans])
    after = total([(span.epochs[-1][1], span.end) for span in spans])
    first = sorted(spans, key=lambda span: span.start)[:slots]
    return {
        "study": {key: getattr(study, key) for key in ("name", "trials", "epochs", "scheduler", "versions", "commit")},
        "slots": slots,
        "trials": len(spans),
        "wall_seconds": closed - opened,
        "ratio": (closed - opened) / (busy / slots),
        "training and validation": busy,
        "until a trial's first epoch": before,
        "between epochs": living - busy - before - after,
        "after a trial's last epoch": after,
        "no trial": slots * (closed - opened) - living,
        "first_workers_start_seconds": [span.epochs[0][0] - span.start for span in first],
        "rows": [
            {"trial": s.number, "start": s.start - opened, "end": s.end - opened,
             "epochs": [[start - opened, end - opened] for start, end in s.epochs]}
            for s in spans
        ],
    }  # fmt: skip


def _num_slots(study: Study) -> int:
    """How many trials ran at a time, as study.search settles it on one machine."""
    if study.gpus:
        return study.gpus * int(1 / study.gpus_per_trial + 1e-9)
    return max(1, int(study.hardware["cores"]) // study.cpus_per_trial)


def _spans(folder: Path, study: Study) -> list[Span]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    spans = []
    for trial in optuna.load_study(study_name="study", storage=storage).get_trials(deepcopy=False):
        rows = read_rows(folder / "trials" / str(trial.number), study.judged_by)
        if trial.datetime_start is None or trial.datetime_complete is None or not rows:
            raise UsageError([f"{folder}: trial {trial.number} has not run to its end"])
        if any(ENDED not in row for row in rows):
            raise UsageError([f"{folder}: the rows of trial {trial.number} do not say when they ended ({ENDED})"])
        epochs = [(row[ENDED] - row["train_seconds"] - row["val_seconds"], row[ENDED]) for row in rows]
        spans.append(Span(trial.number, _unix(trial.datetime_start), _unix(trial.datetime_complete), epochs))
    return spans


def _unix(local: datetime) -> float:
    """Optuna keeps local times without a zone."""
    return local.timestamp()
