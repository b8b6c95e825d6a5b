"""Whether a recipe learns the same in bfloat16 as in float32: the minority F1 of paired seeds, for both samplers."""

import argparse
import dataclasses
import math

import numpy as np
from scipy import stats
from tqdm import tqdm

from benchmarks import harness
from benchmarks.harness import Figure, Outcome, Row
from trainable import loop
from trainable.arguments import add_data_flags, num_cores
from trainable.cli import Parser, checked, positive_int, seed
from trainable.config import PRECISIONS

CONFIDENCE = 0.95
SMALL = 0.02  # of minority F1: the interval of a difference must lie within so much on either side
SAMPLERS = ("shuffle", "weighted")


def add_flags(parser: Parser) -> None:
    add_data_flags(parser)
    group = parser.add_argument_group("benchmark")
    group.add_argument("--seed", type=seed, default=0, help="draws the splits and the cut, the same for all pairs")
    group.add_argument(
        "--seeds",
        type=checked(int, "a whole number of at least 2", lambda v: v >= 2),
        default=8,
        help="pairs of trainings for each sampler, seeds 0, 1, …",
    )
    group.add_argument("--epochs", type=positive_int, default=10, help="epochs of each training, the best counts")
    group.add_argument("--subset", type=positive_int, default=6000, help="training images, drawn after the cut")


def run(arguments: argparse.Namespace) -> Outcome:
    pool = harness.load(arguments)
    config = harness.course_config(pool.spec, arguments.seed, num_cores(), epochs=arguments.epochs)
    images = harness.some_images(pool, config, harness.device(), arguments.subset)
    rows: list[Row] = []
    with tqdm(total=4 * arguments.seeds, unit=" trainings", disable=None, leave=False) as progress:
        for number in range(arguments.seeds):
            for sampler in SAMPLERS:
                for precision in PRECISIONS:
                    paired = dataclasses.replace(config, sampler=sampler, seed=number, precision=precision)
                    *_, last = loop.run(loop.new_state(paired, images), images)
                    rows.append({"seed": number, "sampler": sampler, "precision": precision,
                                 "minority_f1": last["best_minority_f1"]})  # fmt: skip
                    progress.update()
    figures, checks = [], dict[str, object]()
    for sampler in SAMPLERS:
        float32, bfloat16 = (_scores(rows, sampler, precision) for precision in PRECISIONS)
        differences = bfloat16 - float32
        figures += [
            Figure(f"{sampler}: float32", "minority F1", float32.tolist()),
            Figure(f"{sampler}: bfloat16", "minority F1", bfloat16.tolist()),
            Figure(f"{sampler}: difference", "minority F1", differences.tolist()),
        ]
        low, high = _interval(differences)
        checks |= {
            f"{sampler}_mean_difference": float(differences.mean()),
            f"{sampler}_{CONFIDENCE:.0%}_t_interval": [low, high],
            f"{sampler}_holds_0_and_lies_within_{SMALL}": -SMALL <= low <= 0 <= high <= SMALL,
        }
    return Outcome(
        rows,
        figures,
        ratio_of="none; a difference is bfloat16 - float32 with the same seed",
        checks=checks,
        setting=harness.setting(pool, images, config),
    )


def _scores(rows: list[Row], sampler: str, precision: str) -> np.ndarray:
    """float64 (num_seeds,)."""
    return np.array([row["minority_f1"] for row in rows if (row["sampler"], row["precision"]) == (sampler, precision)])


def _interval(differences: np.ndarray) -> tuple[float, float]:
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1) * differences.std(ddof=1)
    half /= math.sqrt(len(differences))
    return float(differences.mean() - half), float(differences.mean() + half)
