"""How fast a study's winner classifies: the network as it was trained, called plainly, against the path of predict."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import harness
from benchmarks.harness import Figure, Outcome, Row, column
from study.confirmation import winner
from study.record import files
from trainable import checkpoint
from trainable.cli import Parser, positive_int
from trainable.config import TrialConfig
from trainable.images import loading
from trainable.images.pool import unpack

PLAIN, FAST = "plain eager", "predict"
BATCH_SIZES = (1, 256)
ROUND_BATCHES = {1: 200, 256: 8}

Classify = Callable[[np.ndarray, int], np.ndarray]  # images uint8 (n, S, S, 3), batch size -> probabilities


def add_flags(parser: Parser) -> None:
    parser.add_argument("results", metavar="results/NAME", help="a confirmed study's folder")
    parser.add_argument("--rounds", type=positive_int, default=7, help="each contender runs once a round, in turn")
    parser.add_argument("--images", type=positive_int, default=2048, help="images of the study, at most")


def run(arguments: argparse.Namespace) -> Outcome:
    folder = Path(arguments.results)
    study, found = files.read_study(folder), winner.read(folder)
    pool = loading.load(study.data.spec, say=harness.say)
    chosen = np.random.default_rng(0).permutation(len(pool.labels))[: arguments.images]
    images = unpack(pool.pixels[chosen], found.image_size)
    contenders: dict[str, Classify] = {
        PLAIN: _plain(folder, found),
        FAST: partial(winner.classify, found.classifier),
    }
    by_both = [classify(images, 256) for classify in contenders.values()]
    rows = harness.run_rounds(
        {
            f"{name}, batches of {size}": partial(_timed, classify, images, size)
            for size in BATCH_SIZES
            for name, classify in contenders.items()
        },
        arguments.rounds,
    )
    figures = []
    for size in BATCH_SIZES:
        plain, fast = (column(rows, f"{name}, batches of {size}", "images_per_second") for name in (PLAIN, FAST))
        figures.append(Figure(f"{PLAIN}, batches of {size}", "images/s", plain))
        ratio = float(np.median(fast) / np.median(plain))
        figures.append(Figure(f"{FAST}, batches of {size}", "images/s", fast, ratio))
    return Outcome(
        rows,
        figures,
        ratio_of="images per second, to plain eager's",
        checks={
            "images": len(images),
            "same_predictions": int((by_both[0].argmax(axis=1) == by_both[1].argmax(axis=1)).sum()),
            "largest_difference_of_a_probability": float(np.abs(by_both[0] - by_both[1]).max()),
            "num_threads": torch.get_num_threads(),
        },
        setting={"fingerprint": pool.fingerprint, "image_size": found.image_size, "class_names": found.class_names},
    )


def _plain(folder: Path, found: winner.Winner) -> Classify:
    """The network as its trial left it, in torch's default layout, step by step."""
    model = found.model
    network = checkpoint.best_model(
        folder / "winner" / "weights.pt", TrialConfig.from_dict(model.config), len(found.class_names),
        found.image_size, torch.device("cpu"),
    ).to(memory_format=torch.contiguous_format).eval()  # fmt: skip
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.mean, model.std))
    offsets = torch.tensor(model.offsets, dtype=torch.float32)

    @torch.no_grad()
    def classify(images: np.ndarray, batch_size: int) -> np.ndarray:
        batches = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).split(batch_size)
        return torch.cat([(network((batch / 255 - mean) / std) + offsets).softmax(1) for batch in batches]).numpy()

    return classify


def _timed(classify: Classify, images: np.ndarray, batch_size: int) -> Row:
    some = images[: batch_size * ROUND_BATCHES[batch_size]]
    seconds = harness.seconds(partial(classify, some, batch_size))
    return {"seconds": seconds, "images": len(some), "images_per_second": len(some) / seconds}
