"""What a checkpoint every epoch costs, on the real network with short epochs: blocks of epochs with and without."""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Figure, Outcome, Row, column
from trainable import checkpoint, loop
from trainable.arguments import num_cores
from trainable.cli import Parser, positive_int
from trainable.config import TrialConfig
from trainable.images.trial import TrialImages

WITHOUT, WITH = "without", "with"
LONGEST_EPOCH_SECONDS = 2.0


def add_flags(parser: Parser) -> None:
    harness.add_flags(parser, batches=12)
    parser.add_argument("--epochs", type=positive_int, default=5, help="epochs of a block; a round is two blocks")


def run(arguments: argparse.Namespace) -> Outcome:
    pool = harness.load(arguments)
    config = harness.course_config(pool.spec, arguments.seed, num_cores())
    num_train = arguments.batches * config.batch_size
    images = harness.some_images(pool, config, harness.device(), num_train, num_train // 4)
    harness.SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=harness.SCRATCH) as folder:  # a disk like that of results/, not memory
        path = Path(folder) / "last.pt"
        rows = harness.run_rounds(
            {
                WITHOUT: _Block(config, images, arguments.epochs, None),
                WITH: _Block(config, images, arguments.epochs, path),
            },
            arguments.rounds,
        )
        num_bytes = path.stat().st_size
    figures = [Figure(name, "s/epoch", column(rows, name, "epoch_seconds")) for name in (WITHOUT, WITH)]
    ratio = figures[1].median / figures[0].median
    # on a noisy machine the difference of two epochs says little about a hundredth of one
    saving = Figure("the checkpoint itself", "s/epoch", column(rows, WITH, "save_seconds"))
    return Outcome(
        rows,
        [figures[0], Figure(WITH, "s/epoch", figures[1].values, ratio), saving],
        ratio_of="with to without",
        checks={
            "cost_percent": 100 * (ratio - 1),
            "checkpoint_itself_percent": 100 * saving.median / figures[0].median,
            "checkpoint_bytes": num_bytes,
            f"epochs_are_at_most_{LONGEST_EPOCH_SECONDS:g}_s": figures[0].median <= LONGEST_EPOCH_SECONDS,
        },
        setting=harness.setting(pool, images, config),
    )


class _Block:
    """A trial; a call runs a block of its epochs, each followed by a checkpoint where there is a path."""

    def __init__(self, config: TrialConfig, images: TrialImages, num_epochs: int, path: Path | None) -> None:
        self.state = loop.new_state(config, images)
        self.images, self.num_epochs, self.path = images, num_epochs, path
        self.rows = loop.run(self.state, images)

    def __call__(self) -> Row:
        self.save_seconds = 0.0
        seconds = harness.seconds(self._run)
        return {
            "seconds": seconds,
            "epochs": self.num_epochs,
            "epoch_seconds": seconds / self.num_epochs,
            "save_seconds": self.save_seconds / self.num_epochs,
        }

    def _run(self) -> None:
        for _ in range(self.num_epochs):
            next(self.rows)
            if self.path is not None:
                start = time.perf_counter()
                checkpoint.save(self.state, self.images, self.path)
                self.save_seconds += time.perf_counter() - start
