"""What methods for rare classes are worth on long-tailed images, by the papers' protocol, beside published figures.

Network, optimizer and augmentation are those of Cao et al. 2019 ("Learning Imbalanced Datasets with
Label-Distribution-Aware Margin Loss", section 4.1), the same for all methods. Other than there: the learning rate falls
to a tenth at half of the steps and again at three quarters (theirs at 160 and 180 of 200 epochs), and a tenth of the
images is for validation, so the head has 4,500 images of CIFAR-10 and not 5,000.
"""

import argparse
import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import stats
from tqdm import tqdm

from benchmarks import harness
from benchmarks.harness import Figure, Outcome, Row, say
from trainable import loop
from trainable.arguments import add_data_flags, add_precision_flag, default_config, num_cores
from trainable.cli import Parser, UsageError, checked, one_of, positive_int, seed
from trainable.config import TrialConfig
from trainable.evaluation import evaluate, predict
from trainable.files import replacing
from trainable.images import loading
from trainable.images.pool import Pool, SealedImages
from trainable.images.trial import TrialImages, trial_images
from trainable.metrics import balanced_accuracy, confusion_matrix, minority_f1

CONFIDENCE = 0.95
RUNS = harness.SCRATCH / "longtail"
PROTOCOL = {
    "dropout": 0.0,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 2e-4,
    "batch_size": 128,
    "accumulation_steps": 1,
    "clip_norm": 1e6,  # not at all
    "schedule": "step",
    "rotation_degrees": 0.0,
    "crop_padding": 0.125,
}
WARMUP_EPOCHS, EPOCHS = 5, 200  # the papers'; a shorter training has as large a share of warm-up
SHORT_EPOCHS, SHORT_NETWORK = 20, "convnet"  # where there is no GPU
NETWORKS = ("resnet32", SHORT_NETWORK)


@dataclass(frozen=True)
class Method:
    """What is done about rare classes: fields beside those of the protocol."""

    published: str  # per cent, ResNet-32 on CIFAR-10-LT at ratio 100, top-1 on test, mostly its best epoch
    values: dict[str, Any] = field(default_factory=dict)
    is_adjusted: bool = False  # after training, by the classes' shares


METHODS = {
    "cross-entropy": Method("70 to 72"),
    "balanced sampling": Method("69.7", {"sampler": "weighted"}),
    "focal": Method("69.1", {"loss": "focal"}),
    "LDAM-DRW": Method("75.4", {"loss": "ldam", "class_weights": "effective", "reweight_from": 0.8}),
    "balanced softmax": Method("76.4", {"loss": "balanced_softmax"}),
    "logit adjustment": Method("78", is_adjusted=True),  # of cross-entropy's trainings: costs none of its own
    "mixup + balanced softmax": Method("81.4", {"loss": "balanced_softmax", "mixing": "mixup"}),
}
PLAIN = "cross-entropy"


def add_flags(parser: Parser) -> None:
    add_data_flags(parser)
    parser.set_defaults(imbalance="longtail")
    group = parser.add_argument_group("benchmark")
    names = f"some of {', '.join(METHODS)}; separated by commas (default: all)"
    group.add_argument("--methods", default=None, metavar="A,B,...", help=names)
    group.add_argument("--seed", type=seed, default=0, help="the first one; it draws split, cut and training")
    group.add_argument(
        "--seeds",
        type=checked(int, "a whole number of at least 2", lambda v: v >= 2),
        default=3,
        help="trainings of each method, each with a split and a cut of its own",
    )
    otherwise = f"(default: {NETWORKS[0]} on a GPU, else {SHORT_NETWORK}, the course's)"
    group.add_argument("--network", type=one_of(NETWORKS), default=None, help=f"{', '.join(NETWORKS)} {otherwise}")
    epochs = f"epochs of each training (default: {EPOCHS} on a GPU, else {SHORT_EPOCHS})"
    group.add_argument("--epochs", type=positive_int, default=None, help=epochs)
    add_precision_flag(group, "auto")


def run(arguments: argparse.Namespace) -> Outcome:
    methods = _chosen(arguments.methods)
    pool = harness.load(arguments)
    test = loading.load_test(pool, say)
    base = _base_config(arguments, pool)
    numbers = range(arguments.seed, arguments.seed + arguments.seeds)
    rows: list[Row] = []
    for number in numbers:  # all methods of a seed first: an early look then compares like with like
        for name, method in methods.items():
            config = TrialConfig.from_dict(
                {**base.to_dict(), **method.values, "seed": number, "split_seed": number, "cut_seed": number}
            )
            trained = _trained(config, pool, test, f"{name}, seed {number}")
            rows.append({"method": name, "seed": number, **_chosen_epochs(trained, method.is_adjusted)})
            say(f"{len(rows)} of {len(methods) * len(numbers)}: {_shown(rows[-1])}")
    images = trial_images(pool, base.split_seed, base.cut_seed, harness.device())
    own, theirs = "top-1, epoch by validation", "top-1, epoch by test"
    return Outcome(
        rows,
        [
            Figure(f"{name}: {label}", "%", _column(rows, name, column).tolist())
            for name in methods
            for label, column in [(own, "top1"), (theirs, "top1_best_on_test"), ("minority F1", "minority_f1")]
        ],
        ratio_of="none",
        checks={"published": {name: method.published for name, method in methods.items()}},
        setting=harness.setting(pool, images, base),
        own_table=_table(rows, methods, base),
    )


def _chosen(text: str | None) -> dict[str, Method]:
    """The methods that are asked for.

    Raises:
        UsageError: there is no such method, or none is left.
    """
    names = list(METHODS) if text is None else [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in METHODS]:
        raise UsageError([f"--methods: {name!r} is none of {', '.join(METHODS)}" for name in unknown])
    return {name: METHODS[name] for name in names}


def _base_config(arguments: argparse.Namespace, pool: Pool) -> TrialConfig:
    """The protocol without a method, in the precision that is the faster one here."""
    has_gpu = harness.device().type == "cuda"
    epochs = arguments.epochs or (EPOCHS if has_gpu else SHORT_EPOCHS)
    values = {
        **PROTOCOL,
        "network": arguments.network or (NETWORKS[0] if has_gpu else SHORT_NETWORK),
        "epochs": epochs,
        "patience": epochs,
        "warmup_epochs": WARMUP_EPOCHS * epochs / EPOCHS,
        "num_threads": num_cores(),
    }
    return harness.settled(default_config(pool.spec.data, arguments.seed, **values), arguments.precision, pool)


def _trained(config: TrialConfig, pool: Pool, test: SealedImages, name: str) -> list[Row]:
    """A row for each epoch of the config's training, which is not done again where it has been."""
    told: list[object] = [pool.fingerprint, pool.spec.imbalance, pool.spec.val_fraction, pool.spec.minority]
    told += [config.of_roles("recipe", "protocol", "seed")]
    path = RUNS / f"{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]}.json"
    if path.exists():
        rows: list[Row] = json.loads(path.read_bytes())
        return rows
    images = trial_images(pool, config.split_seed, config.cut_seed, harness.device())
    state, rows = loop.new_state(config, images), []
    pixels = torch.from_numpy(test.pixels).to(images.pixels.device)
    on_test = dataclasses.replace(images, pixels=pixels)
    with tqdm(total=config.epochs, desc=name, unit=" epochs", disable=None, leave=False) as progress:
        start = time.perf_counter()
        for row in loop.run(state, images):
            logits = evaluate(state.learner.judged, on_test, torch.arange(len(test.labels)), config.precision)
            predictions = predict(logits, images, config, row["epoch"]).numpy()
            val = _scores(images.labels[images.val].numpy(), state.predictions[-1].numpy(), images)
            rows.append({
                "precision": config.precision,
                "seconds": time.perf_counter() - start,
                "val": val,
                "test": _scores(test.labels, predictions, images),
            })  # fmt: skip
            progress.update()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(rows).encode())
    return rows


def _scores(labels: np.ndarray, predictions: np.ndarray, images: TrialImages) -> list[list[float]]:
    """[top-1, minority F1] in per cent, of what the network says and after logit adjustment.

    Top-1 is the mean recall of the classes, the same where they have equally many images.
    """
    confusions = [confusion_matrix(labels, row, images.num_classes) for row in predictions]
    return [[100 * balanced_accuracy(found), 100 * minority_f1(found, images.minority)] for found in confusions]


def _chosen_epochs(trained: Sequence[Row], is_adjusted: bool) -> Row:
    """What a training came to at its best epoch by validation and at that by test; the earlier of equal ones."""
    val, test = (np.array([row[part] for row in trained])[:, int(is_adjusted)] for part in ("val", "test"))
    epoch, best = int(val[:, 0].argmax()), int(test[:, 0].argmax())
    return {
        "epoch": epoch + 1,
        "top1": float(test[epoch, 0]),
        "minority_f1": float(test[epoch, 1]),
        "epoch_best_on_test": best + 1,
        "top1_best_on_test": float(test[best, 0]),
        "seconds": trained[-1]["seconds"],
        "precision": trained[-1]["precision"],
    }


def _shown(row: Row) -> str:
    return (
        f"{row['method']}, seed {row['seed']}: top-1 {row['top1']:.1f} % at epoch {row['epoch']}, by validation "
        f"({row['top1_best_on_test']:.1f} at epoch {row['epoch_best_on_test']}, by test), {row['seconds']:.0f} s"
    )


def _column(rows: Sequence[Row], method: str, name: str) -> np.ndarray:
    """float64 (seeds,)"""
    return np.array([row[name] for row in rows if row["method"] == method])


def _table(rows: Sequence[Row], methods: dict[str, Method], base: TrialConfig) -> str:
    """For each method the mean over seeds of each figure with its interval, and what has been published."""
    columns = ["top-1", f"beyond {PLAIN}", "minority F1", "as the papers do", "published"]
    width = max(map(len, methods))
    lines = [f"{'':<{width}}  {columns[0]:<20}  {columns[1]:<22}  {columns[2]:<20}  {columns[3]:<20}  {columns[4]}"]
    for name, method in methods.items():
        own, minority, theirs = (
            _interval(_column(rows, name, column)) for column in ("top1", "minority_f1", "top1_best_on_test")
        )
        beyond = "-"
        if PLAIN in methods and name != PLAIN:
            beyond = _interval(_column(rows, name, "top1") - _column(rows, PLAIN, "top1"), "+")
        lines.append(f"{name:<{width}}  {own:<20}  {beyond:<22}  {minority:<20}  {theirs:<20}  {method.published}")
    num_seeds = len({row["seed"] for row in rows})
    return "\n".join([
        *lines,
        "all in per cent, on the test images; top-1: the mean recall of the classes, at the epoch that is best on",
        "validation; as the papers do: at the epoch that is best on the test images themselves, which flatters;",
        f"in brackets Student's {CONFIDENCE:.0%} interval over {num_seeds} seeds, differences paired by seed",
        f"here: {base.network}, {base.epochs} epochs; published: {NETWORKS[0]}, mostly {EPOCHS} epochs, 5,000 to 50 "
        "images a class",
    ])  # fmt: skip


def _interval(values: np.ndarray, sign: str = "") -> str:
    """The mean with its interval."""
    mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error
    return f"{mean:{sign}.1f} ({mean - half:{sign}.1f} to {mean + half:{sign}.1f})"
