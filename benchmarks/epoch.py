"""Images per second of training and of validation: the course's loop, the project's, and several trials at once."""

import argparse
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch

from benchmarks import harness, reference
from benchmarks.harness import Figure, Outcome, Row, column
from trainable import data, loop
from trainable.arguments import Parser, checked, num_cores, positive_int
from trainable.config import TrialConfig
from trainable.data import DataSpec, Pool
from trainable.loop import TrialImages

REFERENCE, PROJECT = "reference", "project"


def add_flags(parser: Parser) -> None:
    harness.add_flags(parser, batches=60)
    parser.add_argument("--trials", type=positive_int, default=2,
                        help="trials that run at once, one thread each, in processes of their own")  # fmt: skip
    parser.add_argument("--workers", type=checked(int, "a whole number of at least 0", lambda v: v >= 0), default=0,
                        help="also measure the reference with so many loader processes")  # fmt: skip


def run(arguments: argparse.Namespace) -> Outcome:
    pool = harness.load(arguments)
    config = harness.course_config(pool.spec, arguments.seed, num_cores())
    torch.set_num_threads(num_cores())
    num_images = arguments.batches * config.batch_size
    images = harness.some_images(pool, config, harness.device(), num_images, num_images)
    loaded = f"{REFERENCE}, {arguments.workers} loaders"
    together = f"{PROJECT}, {arguments.trials} trials together"
    contenders = {REFERENCE: _Reference(pool, config, images, 0)}
    if arguments.workers:
        contenders[loaded] = _Reference(pool, config, images, arguments.workers)
    one_thread = harness.course_config(pool.spec, arguments.seed, 1)
    with _trials(arguments.trials, pool.spec, one_thread, num_images) as connections:
        rows = harness.run_rounds(
            {
                **contenders,
                PROJECT: _Project(config, images),
                together: lambda: _run_together(connections, images),
            },
            arguments.rounds,
        )
    return Outcome(
        rows,
        [
            *_figures(rows, "train_images_per_second", "training", [*contenders, PROJECT, together]),
            *_figures(rows, "val_images_per_second", "validation", [*contenders, PROJECT, together]),
        ],
        ratio_of="images per second, to the reference's",
        setting=harness.setting(pool, images, config),
    )


def _figures(rows: list[Row], name: str, label: str, contenders: list[str]) -> list[Figure]:
    figures = [Figure(f"{label}: {c}", "images/s", column(rows, c, name)) for c in contenders]
    base = figures[0].median
    return [figures[0], *(Figure(f.name, f.unit, f.values, f.median / base) for f in figures[1:])]


class _Reference:
    """The course's loop; a call trains an epoch and validates."""

    def __init__(self, pool: Pool, config: TrialConfig, images: TrialImages, num_workers: int) -> None:
        self.images = images
        self.trainer = reference.new_trainer(config, images)
        self.train = reference.train_loader(reference.train_images(pool, images, config), config, num_workers)
        self.val = reference.val_loader(pool, images, config, num_workers)

    def __call__(self) -> Row:
        train_seconds = harness.seconds(lambda: reference.train_epoch(self.trainer, self.train))
        val_seconds = harness.seconds(lambda: reference.validate(self.trainer, self.val))
        return _rates(self.images, [(train_seconds, val_seconds)])


class _Project:
    """The project's loop; a call takes its next row, which holds the seconds as a study sees them."""

    def __init__(self, config: TrialConfig, images: TrialImages) -> None:
        self.images = images
        self.rows = loop.run(loop.new_state(config, images), images)

    def __call__(self) -> Row:
        row: Row = {}
        wall_seconds = harness.seconds(lambda: row.update(next(self.rows)))
        # the wall shows what the row's own seconds leave out, if anything
        return {**_rates(self.images, [(row["train_seconds"], row["val_seconds"])]), "wall_seconds": wall_seconds}


@contextmanager
def _trials(number: int, spec: DataSpec, config: TrialConfig, num_images: int) -> Iterator[list[Connection]]:
    """Processes with a trial each, warmed up and waiting to be told to go on."""
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    for _ in range(number):
        here, there = context.Pipe()
        process = context.Process(target=_serve_trial, args=(there, spec, config, num_images), daemon=True)
        process.start()
        there.close()  # so that a process that dies is noticed here
        connections.append(here)
        processes.append(process)
    try:
        for connection in connections:
            connection.recv()
        yield connections
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.join(timeout=60)


def _serve_trial(connection: Connection, spec: DataSpec, config: TrialConfig, num_images: int) -> None:
    pool = data.load(spec, say=lambda text: print(text, file=sys.stderr))
    images = harness.some_images(pool, config, harness.device(), num_images, num_images)
    rows = loop.run(loop.new_state(config, images), images)
    try:
        while True:
            row = next(rows)
            connection.send((row["train_seconds"], row["val_seconds"]))
            connection.recv()
    except (EOFError, BrokenPipeError):  # the parent has what it wants
        return


def _run_together(connections: list[Connection], images: TrialImages) -> Row:
    for connection in connections:
        connection.send("go")
    return _rates(images, [connection.recv() for connection in connections])


def _rates(images: TrialImages, measured: list[tuple[float, float]]) -> Row:
    """Images per second of all trials together; ``measured`` are each one's training and validation seconds."""
    train_seconds, val_seconds = zip(*measured, strict=True)
    return {
        "train_seconds": list(train_seconds),
        "val_seconds": list(val_seconds),
        # they start together, so the slowest sets the time of all
        "train_images_per_second": len(measured) * len(images.train) / max(train_seconds),
        "val_images_per_second": len(measured) * len(images.val) / max(val_seconds),
    }
