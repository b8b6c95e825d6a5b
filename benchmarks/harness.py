"""What the benchmarks share: the images they run on, rounds in turn, and the record that a run leaves."""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from study.record import environment
from trainable.arguments import add_data_flags, data_spec, default_config
from trainable.cli import Parser, positive_int, seed
from trainable.config import TrialConfig
from trainable.images import loading
from trainable.images.pool import DataSpec, Pool, class_counts
from trainable.images.trial import TrialImages, trial_images
from trainable.probe import probe

HERE = Path(__file__).parent
SCRATCH = HERE / "scratch"
UNBOUNDED = 10**6  # epochs and patience of a trial that is to train as long as it is asked to
NOT_RECORDED = ("data_dir", "cache_dir")  # where something lies on this machine
FOLDERS = ("data", "results")  # likewise; their last part says what they hold

Row = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A line of the table: what was measured in each round, and the ratio of medians it is judged by."""

    name: str
    unit: str
    values: list[float]
    ratio: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found."""

    rows: list[Row]  # raw, as measured
    figures: list[Figure]
    ratio_of: str  # what the ratios mean
    checks: dict[str, Any] = field(default_factory=dict)  # what else was found
    setting: dict[str, Any] = field(default_factory=dict)  # images and trial config
    own_table: str = ""  # to be printed where medians and ratios do not say it


def add_flags(parser: Parser, batches: int) -> None:
    """The flags of a benchmark that runs in rounds; ``batches`` is its default of --batches."""
    add_data_flags(parser)
    group = parser.add_argument_group("benchmark")
    group.add_argument("--seed", type=seed, default=0, help="draws the splits, the cut and the training")
    group.add_argument("--rounds", type=positive_int, default=5, help="each contender runs once a round, in turn")
    group.add_argument("--batches", type=positive_int, default=batches, help="training batches of a round, at most")


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(arguments: argparse.Namespace) -> Pool:
    return loading.load(data_spec(arguments), say=say)


def course_config(spec: DataSpec, seed: int, num_threads: int, **values: Any) -> TrialConfig:
    """The course's recipe, without an end of its own."""
    settings = {"num_threads": num_threads, "epochs": UNBOUNDED, "patience": UNBOUNDED, **values}
    return default_config(spec.data, seed, **settings)


def settled(config: TrialConfig, asked: str | None, pool: Pool) -> TrialConfig:
    """The config in the precision that is asked for; by default in the one that a study would take here."""
    if asked in (None, "auto"):
        choice = probe(config, len(pool.class_names), pool.spec.image_size, device())
        say(f"{config.num_threads} threads, {choice.precision}: {choice.reason}")
        asked = choice.precision
    return dataclasses.replace(config, precision=asked)


def some_images(
    pool: Pool, config: TrialConfig, where: torch.device, num_train: int, num_val: int | None = None
) -> TrialImages:
    """The images of the config's trial, but at most so many for training and validation, the same at each call."""
    images = trial_images(pool, config.split_seed, config.cut_seed, where)
    return dataclasses.replace(images, train=_some(images.train, num_train), val=_some(images.val, num_val))


def _some(positions: torch.Tensor, number: int | None) -> torch.Tensor:
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(0))
    return positions[order[:number]]


def setting(pool: Pool, images: TrialImages, config: TrialConfig) -> dict[str, Any]:
    """The images and the recipe of a run, for its record."""
    return {
        "fingerprint": pool.fingerprint,
        "class_names": list(pool.class_names),
        "minority": list(pool.spec.minority or ()),
        "imbalance": pool.spec.imbalance,
        "keep": pool.spec.keep,
        "val_fraction": pool.spec.val_fraction,
        "train_counts": class_counts(pool, images.train.numpy()),
        "val_counts": class_counts(pool, images.val.numpy()),
        "device": str(images.mean.device),
        "trial_config": config.to_dict(),
    }


def seconds(work: Callable[[], Any]) -> float:
    """How long ``work`` takes, on the device too."""
    synchronise()
    start = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def run_rounds(contenders: Mapping[str, Callable[[], dict[str, Any]]], num_rounds: int) -> list[Row]:
    """A B A B …: each contender once a round; a round before the first warms up and is not kept."""
    rows: list[Row] = []
    with tqdm(total=(num_rounds + 1) * len(contenders), unit=" runs", disable=None, leave=False) as progress:
        for number in range(num_rounds + 1):
            for name, contender in contenders.items():
                measured = contender()
                if number:
                    rows.append({"round": number, "contender": name, **measured})
                progress.update()
    return rows


def column(rows: list[Row], contender: str, name: str) -> list[float]:
    """What was measured under ``name`` in each round of a contender."""
    return [row[name] for row in rows if row["contender"] == contender]


def write_record(name: str, arguments: argparse.Namespace, outcome: Outcome) -> Path:
    """Leaves the run's folder under records/, with record.json in it."""
    asked = {key: value for key, value in vars(arguments).items() if key not in NOT_RECORDED}
    asked |= {key: Path(asked[key]).name for key in FOLDERS if key in asked}
    content = {
        "benchmark": name,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": environment.commit(),
        "hardware": environment.hardware(),
        "versions": {**environment.versions(), "scipy": version("scipy"), "kornia": _kornia_version()},
        "arguments": asked,
        **outcome.setting,
        "medians": {figure.name: figure.median for figure in outcome.figures},
        "units": {figure.name: figure.unit for figure in outcome.figures},
        "ratios": {figure.name: figure.ratio for figure in outcome.figures if figure.ratio is not None},
        "ratio_of": outcome.ratio_of,
        "checks": outcome.checks,
        "rows": outcome.rows,
    }
    folder = HERE / "records" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(content, indent=1) + "\n")
    return folder


def _kornia_version() -> str | None:
    try:
        return version("kornia")
    except PackageNotFoundError:
        return None


def table(outcome: Outcome) -> str:
    """The figures as lines: median, range over the rounds, ratio; or the benchmark's own table."""
    if outcome.own_table:
        return outcome.own_table
    width = max(len(figure.name) for figure in outcome.figures)
    lines = [f"{'':<{width}}  {'median':>10}  {'lowest':>10}  {'highest':>10}  {'ratio':>7}"]
    for figure in outcome.figures:
        numbers = (figure.median, min(figure.values), max(figure.values))
        cells = [f"{number:>10,.{_decimals(figure.median)}f}" for number in numbers]
        ratio = "" if figure.ratio is None else f"{figure.ratio:.3f}"
        lines.append("  ".join([f"{figure.name:<{width}}", *cells, f"{ratio:>7}", figure.unit]))
    lines.append(f"n = {max(len(figure.values) for figure in outcome.figures)}; ratio: {outcome.ratio_of}")
    lines += [f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in outcome.checks.items()]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _decimals(value: float) -> int:
    return 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 3


def say(text: str) -> None:
    """Progress, beside the table."""
    print(text, file=sys.stderr)
