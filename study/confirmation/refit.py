"""``study.confirm --refit``: the winner trained once more, on training and validation images together. Uses torch."""

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from study.confirmation import winner
from study.confirmation.offsets import Offsets
from study.confirmation.plan import load_pool
from study.confirmation.winner import Made
from study.execution.runner import Pause
from study.record import files
from study.record.confirmation import Confirmation
from study.record.formats import Study
from study.record.lock import check_unlocked, locked
from study.record.recipes import shown
from trainable import checkpoint
from trainable.cli import EXIT_FAILED, EXIT_INTERRUPTED, UsageError, attempt, printable, unwritable
from trainable.config import TrialConfig
from trainable.decoding import read_file
from trainable.files import check_writable
from trainable.images.pool import Pool
from trainable.images.splits import split
from trainable.images.trial import TrialImages, images_of
from trainable.records import read_config, read_rows
from trainable.worker import Worker

NEVER = 1_000_000  # epochs of patience


@dataclass(frozen=True)
class RefitPlan:
    """A refit that may start: everything checked, nothing written yet."""

    folder: Path  # the study's
    study: Study
    pool: Pool
    recipe: str
    seed: int  # the first fresh one
    config: TrialConfig  # of the winner's run on it
    best_epochs: list[int]  # of its runs on all fresh seeds
    command: str

    @property
    def epochs(self) -> int:
        """How many: the median of those that the validation images chose, the lower one of two."""
        return statistics.median_low(self.best_epochs)

    @property
    def place(self) -> Path:
        return self.folder / "confirm" / f"{self.recipe}-{self.seed}-refit"

    @property
    def rule(self) -> str:
        return (
            f"the confirmed winner's recipe on its first fresh seed, trained once more for {self.epochs} epochs on "
            "training and validation images together (on the fresh seeds the validation images had chosen epochs "
            f"{', '.join(map(str, self.best_epochs))}); no validation image has judged this model"
        )


def preflight(arguments: argparse.Namespace, problems: list[str], command: str) -> RefitPlan:
    """Checks everything before anything starts.

    Raises:
        UsageError: everything that is wrong, ``problems`` first.
    """
    problems = list(problems)
    folder = arguments.folder.absolute()
    study = attempt(problems, files.read_study, folder)
    if study is None:
        raise UsageError(problems)
    attempt(problems, check_unlocked, folder)
    attempt(problems, check_writable, folder, "folder")
    before = attempt(problems, files.read_confirmation, folder)
    runs = attempt(problems, _runs, folder, before, len(study.class_names))
    if arguments.reopen_test is not None:
        problems.append("--reopen-test: must be left out with --refit, which looks at no test image")
    pool = attempt(problems, load_pool, study, arguments, problems)
    if pool is None or runs is None or before is None:
        raise UsageError(problems)
    config, best_epochs = runs
    return RefitPlan(folder, study, pool, before.winner, before.seeds[0], config, best_epochs, command)


def _runs(folder: Path, before: Confirmation | None, num_classes: int) -> tuple[TrialConfig, list[int]]:
    """The config of the winner's first run, and the best epochs of all."""
    if before is None or before.test is None:
        raise UsageError([f"--refit: {folder} has no winner yet; python -m study.confirm {folder} finds it"])
    places = [folder / "confirm" / f"{before.winner}-{seed}" for seed in before.seeds]
    rows = [read_rows(place, num_classes) for place in places]
    if gone := [str(place) for place, found in zip(places, rows, strict=True) if not found]:
        raise UsageError([f"--refit: {', '.join(gone)}: has no epoch, so nothing says how many to train"])
    return read_config(places[0]), [found[-1]["best_epoch"] for found in rows]


def carry_out(plan: RefitPlan, page: Callable[[Path], str]) -> int:
    """Trains, and puts the model into winner/; the exit status. ``page`` writes the study's page, and says where.

    Raises:
        UsageError: the folder cannot be written to, or another process is at it; nothing has been done.
    """
    try:
        lock = locked(plan.folder)
        plan.place.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError([unwritable(error)]) from error
    pause = Pause(None)
    try:
        print(f"{shown(plan.recipe)}: {plan.epochs} epochs on training and validation images together")
        with pause.on_signals(print):
            failure = _train(plan, pause)
        if pause.interrupted:
            print(printable(f"paused; to go on: {plan.command}"))
            return EXIT_INTERRUPTED
        if not failure:
            _write(plan)
            print(printable(f"{plan.folder / 'winner'}: {plan.rule}"))
            print(page(plan.folder))
    except (UsageError, checkpoint.CheckpointError) as error:
        failure = str(error)
    except OSError as error:
        failure = unwritable(error)
    finally:
        lock.release()
    if failure:
        print(f"study.confirm: {failure}", file=sys.stderr)
        print(f"study.confirm: nothing is lost, the same command goes on: {plan.command}", file=sys.stderr)
    return EXIT_FAILED if failure else 0


def _train(plan: RefitPlan, pause: Pause) -> str:
    """Trains to the last epoch, from where it was interrupted; why that failed, if it did.

    The loop goes on judging by the validation images, which are now trained on: nothing is made of that.
    """
    worker = Worker(plan.pool, _draw)
    worker.begin(0, plan.place, replace(plan.config, patience=NEVER))
    while not pause.interrupted:
        report = worker.step()
        if report.failure or report.unwritable:
            return report.failure or report.unwritable
        assert report.row is not None
        print(f"epoch {report.num_epochs}/{plan.epochs} train loss {report.row['train_loss']:.4f}")
        if report.num_epochs >= plan.epochs:
            break
    return ""


def _draw(pool: Pool, split_seed: int, cut_seed: int, device: torch.device) -> TrialImages:
    drawn = split(pool, split_seed, cut_seed)
    return images_of(pool, replace(drawn, train=np.union1d(drawn.train, drawn.val)), device)


def _write(plan: RefitPlan) -> None:
    content = checkpoint.read(plan.place / "last.pt")
    weights, path = content["average"] or content["model"], plan.place / "best.pt"
    checkpoint.write_model(path, plan.config.to_dict(), content["rows"][-1], weights)
    images = _draw(plan.pool, plan.config.split_seed, plan.config.cut_seed, torch.device("cpu"))
    none = Offsets(np.zeros(images.num_classes), 0.0, 0.0)
    made = Made(plan.study.name, plan.rule, plan.recipe, plan.seed, plan.config, images, none, None)
    winner.write_model(plan.folder, made, read_file(path), plan.pool, ())
    shutil.rmtree(plan.place, ignore_errors=True)
