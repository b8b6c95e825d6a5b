"""What may be trained once a confirmation has found its winner: the check before it, and a run on other images."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from study.confirmation.plan import load_pool, open_study
from study.execution.runner import Pause
from study.record import files
from study.record.confirmation import Confirmation
from study.record.formats import Study
from study.record.lock import locked
from trainable.checkpoint import CheckpointError
from trainable.cli import EXIT_FAILED, EXIT_INTERRUPTED, UsageError, attempt, printable, unwritable
from trainable.config import TrialConfig
from trainable.files import check_writable
from trainable.images.pool import Pool
from trainable.records import read_config, read_rows
from trainable.report import Report, Row
from trainable.worker import Draw, Worker


@dataclass(frozen=True)
class WinnersPlan:
    """What may start: everything checked, nothing written yet."""

    folder: Path  # the study's
    study: Study
    pool: Pool
    recipe: str  # the winner's
    seeds: list[int]
    config: TrialConfig  # of its run on the first of them
    rows: list[list[Row]]  # of its run on each
    command: str

    def run_config(self, seed: int) -> TrialConfig:
        """Of its run on ``seed``."""
        return replace(self.config, seed=seed, split_seed=seed, cut_seed=seed)


def preflight(arguments: argparse.Namespace, flag: str, problems: list[str], command: str) -> WinnersPlan:
    """Checks everything before anything starts.

    Raises:
        UsageError: everything that is wrong, ``problems`` first.
    """
    problems = list(problems)
    folder, study = open_study(arguments, problems)
    attempt(problems, check_writable, folder, "folder")
    before = attempt(problems, files.read_confirmation, folder)
    runs = attempt(problems, _runs, folder, flag, before, study)
    if arguments.reopen_test is not None:
        problems.append(f"--reopen-test: must be left out with {flag}, which looks at no test image")
    pool = attempt(problems, load_pool, study, arguments, problems)
    if pool is None or runs is None or before is None:
        raise UsageError(problems)
    config, rows = runs
    return WinnersPlan(folder, study, pool, before.winner, before.seeds, config, rows, command)


def _runs(folder: Path, flag: str, before: Confirmation | None, study: Study) -> tuple[TrialConfig, list[list[Row]]]:
    """The config of the winner's first run, and the rows of all."""
    if before is None or before.test is None:
        raise UsageError([f"{flag}: {folder} has no winner yet; python -m study.confirm {folder} finds it"])
    places = [folder / "confirm" / f"{before.winner}-{seed}" for seed in before.seeds]
    rows = [read_rows(place, study.judged_by, len(study.class_names)) for place in places]
    if gone := [str(place) for place, found in zip(places, rows, strict=True) if not found]:
        raise UsageError([f"{flag}: {', '.join(gone)}: has no epoch"])
    return read_config(places[0]), rows


def train(
    pool: Pool, draw: Draw, place: Path, config: TrialConfig, pause: Pause, is_over: Callable[[Report], bool]
) -> Report | None:
    """Trains in this process, from where it was interrupted, on the images that ``draw`` gives; the last report.

    None if a pause was asked for before.
    """
    place.mkdir(exist_ok=True)
    worker = Worker(pool, draw)
    worker.begin(0, place, config)
    while not pause.interrupted:
        report = worker.step()
        if report.failure or report.unwritable or is_over(report):
            return report
    return None


def carry_out(plan: WinnersPlan, make: Callable[[WinnersPlan, Pause], str], page: Callable[[Path], str]) -> int:
    """Has ``make`` do its work, and ``page`` write the study's page and say where it is; the exit status.

    ``make`` says why it failed, if it did. Raises:
        UsageError: the folder cannot be written to, or another process is at it; nothing has been done.
    """
    try:
        lock = locked(plan.folder)
    except OSError as error:
        raise UsageError([unwritable(error)]) from error
    pause, failure = Pause(None), ""
    try:
        with pause.on_signals(print):
            failure = make(plan, pause)
        if pause.interrupted:
            print(printable(f"paused; to go on: {plan.command}"))
            return EXIT_INTERRUPTED
        if not failure:
            print(page(plan.folder))
    except (UsageError, CheckpointError) as error:
        failure = str(error)
    except OSError as error:
        failure = unwritable(error)
    finally:
        lock.release()
    if failure:
        print(f"study.confirm: {failure}", file=sys.stderr)
        print(f"study.confirm: nothing is lost, the same command goes on: {plan.command}", file=sys.stderr)
    return EXIT_FAILED if failure else 0
