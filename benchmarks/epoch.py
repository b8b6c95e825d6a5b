"""Images per second of training and of validation: the course's loop, the project's, and several trials at once."""

import argparse
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

from benchmarks import harness, reference
from benchmarks.harness import Figure, Outcome, Row, column
from trainable import loop
from trainable.arguments import add_precision_flag, num_cores
from trainable.cli import Parser, checked, positive_int
from trainable.config import TrialConfig
from trainable.images import loading
from trainable.images.pool import DataSpec
from trainable.images.trial import TrialImages

REFERENCE, PROJECT = "reference", "project"

Seconds = tuple[float, float]  # of an epoch: training, validation


def add_flags(parser: Parser) -> None:
    harness.add_flags(parser, batches=60)
    add_precision_flag(parser.add_argument_group("precision"), "auto, for the project's loop")
    parser.add_argument("--trials", type=positive_int, default=2,
                        help="trials that run at once, one thread each, in processes of their own")  # fmt: skip
    parser.add_argument("--workers", type=checked(int, "a whole number of at least 0", lambda v: v >= 0), default=0,
                        help="also measure the reference with so many loader processes")  # fmt: skip


def run(arguments: argparse.Namespace) -> Outcome:
    pool = harness.load(arguments)
    all_threads, one_thread = (
        harness.settled(harness.course_config(pool.spec, arguments.seed, n), arguments.precision, pool)
        for n in (num_cores(), 1)
    )
    num_images = arguments.batches * all_threads.batch_size
    loaded = f"{REFERENCE}, {arguments.workers} loaders"
    together = f"{PROJECT}, {arguments.trials} trials together"
    trials: dict[str, Sequence[_Reference | _Project]] = {
        REFERENCE: [_Reference(pool.spec, all_threads, num_images, 0)]
    }
    if arguments.workers:
        trials[loaded] = [_Reference(pool.spec, all_threads, num_images, arguments.workers)]
    trials[PROJECT] = [_Project(pool.spec, all_threads, num_images)]
    trials[together] = [_Project(pool.spec, one_thread, num_images)] * arguments.trials
    images = harness.some_images(pool, all_threads, harness.device(), num_images, num_images)
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(_running(group, images)) for name, group in trials.items()}
        rows = harness.run_rounds(contenders, arguments.rounds)
    return Outcome(
        rows,
        [
            *_figures(rows, "train_images_per_second", "training", list(trials)),
            *_figures(rows, "val_images_per_second", "validation", list(trials)),
        ],
        ratio_of="images per second, to the reference's",
        setting=harness.setting(pool, images, all_threads),
    )


def _figures(rows: list[Row], name: str, label: str, contenders: list[str]) -> list[Figure]:
    figures = [Figure(f"{label}: {c}", "images/s", column(rows, c, name)) for c in contenders]
    base = figures[0].median
    return [figures[0], *(Figure(f.name, f.unit, f.values, f.median / base) for f in figures[1:])]


@dataclass(frozen=True)
class _Reference:
    """The course's loop."""

    spec: DataSpec
    config: TrialConfig
    num_images: int
    num_workers: int

    def epochs(self) -> Iterator[Seconds]:
        pool = loading.load(self.spec, say=harness.say)
        images = harness.some_images(pool, self.config, harness.device(), self.num_images, self.num_images)
        torch.set_num_threads(self.config.num_threads)
        trainer = reference.new_trainer(self.config, images)
        train = reference.train_loader(reference.train_images(pool, images, self.config), self.config,
                                       self.num_workers)  # fmt: skip
        val = reference.val_loader(pool, images, self.config, self.num_workers)
        while True:
            yield (harness.seconds(lambda: reference.train_epoch(trainer, train)),
                   harness.seconds(lambda: reference.validate(trainer, val)))  # fmt: skip


@dataclass(frozen=True)
class _Project:
    """The project's loop, with the seconds of its rows, as a study sees them."""

    spec: DataSpec
    config: TrialConfig
    num_images: int

    def epochs(self) -> Iterator[Seconds]:
        pool = loading.load(self.spec, say=harness.say)
        images = harness.some_images(pool, self.config, harness.device(), self.num_images, self.num_images)
        for row in loop.run(loop.new_state(self.config, images), images):
            yield row["train_seconds"], row["val_seconds"]


@contextmanager
def _running(trials: Sequence[_Reference | _Project], images: TrialImages) -> Iterator[Callable[[], Row]]:
    """A process for each trial, so that none profits from another's settings; a call runs an epoch of them all."""
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    for trial in trials:
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, trial))
        process.start()
        there.close()  # so that a process that dies is noticed here
        connections.append(here)
        processes.append(process)

    def run_epoch() -> Row:
        for connection in connections:
            connection.send("go")
        return _rates(images, [connection.recv() for connection in connections])

    try:
        yield run_epoch
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.join()


def _serve(connection: Connection, trial: _Reference | _Project) -> None:
    epochs = trial.epochs()
    try:
        while True:
            connection.recv()
            connection.send(next(epochs))
    except (EOFError, BrokenPipeError):  # the parent has what it wants
        return


def _rates(images: TrialImages, measured: list[Seconds]) -> Row:
    """Images per second of all trials together; ``measured`` are each one's training and validation seconds."""
    train_seconds, val_seconds = zip(*measured, strict=True)
    return {
        "train_seconds": list(train_seconds),
        "val_seconds": list(val_seconds),
        # they start together, so the slowest sets the time of all
        "train_images_per_second": len(measured) * len(images.train) / max(train_seconds),
        "val_images_per_second": len(measured) * len(images.val) / max(val_seconds),
    }
