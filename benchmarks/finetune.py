"""What weights to start from are worth: trained on other classes' images, then fine-tuned, against starting anew.

Of the classes the first half is trained on to have weights, all of its images. The others are the set that is judged
by: its first classes are the minority, cut to ``--keep``. Both ways have the same epochs, images and recipe, but for
what fine-tuning adds: the last layer learns alone for an epoch, and then what lies below it at a share of its rate.
"""

import argparse
import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from tqdm import tqdm

from benchmarks import harness
from benchmarks.harness import Figure, Outcome, Row
from trainable import loop
from trainable.arguments import add_data_flags, add_precision_flag, num_cores
from trainable.cli import Parser, UsageError, checked, positive_int, seed
from trainable.config import TrialConfig
from trainable.images.pool import Pool
from trainable.images.trial import trial_images

CONFIDENCE = 0.95
ADDED: dict[str, Any] = {"frozen_epochs": 1, "backbone_rate": 0.3}
ANEW, TUNED = "from scratch", "fine-tuned"


def add_flags(parser: Parser) -> None:
    add_data_flags(parser)
    group = parser.add_argument_group("benchmark")
    group.add_argument("--seed", type=seed, default=0, help="the first one, and that of the weights")
    group.add_argument(
        "--seeds",
        type=checked(int, "a whole number of at least 2", lambda v: v >= 2),
        default=8,
        help="pairs of trainings, each with a split and a cut of its own",
    )
    group.add_argument(
        "--epochs", type=checked(int, "at least 2", lambda v: v >= 2), default=20, help="of each of a pair"
    )
    group.add_argument("--epochs-before", type=positive_int, default=10, help="of the training that makes the weights")
    add_precision_flag(group, "auto")


def run(arguments: argparse.Namespace) -> Outcome:
    pool = harness.load(arguments)
    middle = len(pool.class_names) // 2
    if middle < 2 or pool.num_own_val or pool.spec.imbalance != "step":
        raise UsageError(["--data must have at least 4 classes and no val/, and --imbalance must be step"])
    num_rare = (len(pool.class_names) - middle) // 2
    before = _of_classes(pool, range(middle), num_rare=1, keep=1.0)
    after = _of_classes(pool, range(middle, len(pool.class_names)), num_rare, pool.spec.keep)
    base = harness.course_config(pool.spec, arguments.seed, num_cores(), epochs=arguments.epochs)
    base = harness.settled(base, arguments.precision, pool)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        state, _ = _train(before, dataclasses.replace(base, epochs=arguments.epochs_before))
        torch.save(state.best["model"], weights)
        numbers = range(arguments.seed, arguments.seed + arguments.seeds)
        for number in tqdm(numbers, unit=" pairs", disable=None, leave=False):
            anew = dataclasses.replace(base, seed=number, split_seed=number, cut_seed=number)
            tuned = dataclasses.replace(anew, weights=str(weights), **ADDED)
            for name, config in [(ANEW, anew), (TUNED, tuned)]:
                _, last = _train(after, config)
                rows.append({"seed": number, "contender": name, "minority_f1": last["best_minority_f1"],
                             "best_epoch": last["best_epoch"]})  # fmt: skip
    scores = [np.array(harness.column(rows, name, "minority_f1")) for name in (ANEW, TUNED)]
    gain = scores[1] - scores[0]
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(gain) - 1) * gain.std(ddof=1) / math.sqrt(len(gain))
    images = trial_images(after, base.split_seed, base.cut_seed, harness.device())
    return Outcome(
        rows,
        [
            Figure(name, "minority F1", values.tolist())
            for name, values in [(ANEW, scores[0]), (TUNED, scores[1]), ("gain", gain)]
        ],
        ratio_of="none; the gain is fine-tuned - from scratch with the same seed, split, cut and epochs",
        checks={
            "mean_gain": float(gain.mean()),
            f"{CONFIDENCE:.0%}_t_interval": [float(gain.mean() - half), float(gain.mean() + half)],
            "weights_of": list(before.class_names),
            "judged_on": list(after.class_names),
            "minority": list(after.spec.minority or ()),
        },
        setting=harness.setting(after, images, base),
    )


def _of_classes(pool: Pool, labels: range, num_rare: int, keep: float | None) -> Pool:
    """The images of these classes, of which the first are the minority."""
    names = pool.class_names[labels.start : labels.stop]
    chosen = np.flatnonzero((pool.labels >= labels.start) & (pool.labels < labels.stop))
    return dataclasses.replace(
        pool,
        spec=dataclasses.replace(pool.spec, minority=names[:num_rare], keep=keep),
        pixels=pool.pixels[chosen],
        labels=pool.labels[chosen] - labels.start,
        class_names=names,
        test_counts=None,
        groups=None if pool.groups is None else pool.groups[chosen],
    )


def _train(pool: Pool, config: TrialConfig) -> tuple[loop.TrialState, Row]:
    """The trial's state at its end, and its last row."""
    images = trial_images(pool, config.split_seed, config.cut_seed, harness.device())
    state = loop.new_state(config, images)
    *_, last = loop.run(state, images)
    return state, last
