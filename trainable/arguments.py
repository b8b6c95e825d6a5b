"""The flags that a single trial and a study share. Imports nothing heavy: ``--help`` answers at once."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.cli import UsageError, checked, one_of
from trainable.config import PRECISIONS, TrialConfig
from trainable.images import origins
from trainable.images.origins import origin

if TYPE_CHECKING:
    from trainable.images.pool import DataSpec


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which images, and how they are split and cut."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        default="cifar10",
        metavar="SOURCE",
        help="cifar10, digits, or a folder with train/<class>/* and, optionally, val/ and test/",
    )
    group.add_argument("--data-dir", default="data", metavar="DIR", help="where CIFAR-10 lies or is downloaded to")
    group.add_argument(
        "--minority",
        default=None,
        metavar="A,B,...",
        help="names of the classes that matter, separated by commas (default: cifar10 and digits: the "
        "first three; a folder: those with fewer than half the median class's images)",
    )
    group.add_argument(
        "--keep",
        default=None,
        metavar="FRACTION",
        type=checked(float, "in (0, 1]", lambda v: 0 < v <= 1),
        help="fraction of the minority's training images that is kept; 1 cuts nothing (default: "
        f"{origins.words('keep')})",
    )
    group.add_argument(
        "--val-fraction",
        default=None,
        metavar="FRACTION",
        type=checked(float, "in (0, 1)", lambda v: 0 < v < 1),
        help="fraction of the training images that becomes validation, where there is no val/ "
        f"(default: {origins.words('val_fraction')})",
    )
    group.add_argument(
        "--image-size",
        default=32,
        metavar="PIXELS",
        type=checked(int, "a whole number from 16 to 96", lambda v: 16 <= v <= 96),
        help="images are resized to this many pixels on each side",
    )
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "imbalance-study"
    group.add_argument("--cache-dir", default=str(cache), metavar="DIR", help="where decoded images are kept")


def add_precision_flag(group: "argparse._ArgumentGroup", otherwise: str) -> None:
    """``--precision``; ``otherwise`` says what happens where it is left out."""
    group.add_argument(
        "--precision",
        type=one_of(("auto", *PRECISIONS)),
        default=None,
        help=f"{', '.join(PRECISIONS)}: what the network computes in; auto tries both for half a second and takes "
        f"bfloat16 where it is faster (default: {otherwise})",
    )


def data_spec(arguments: argparse.Namespace) -> "DataSpec":
    """The ``DataSpec`` that the flags describe."""
    from trainable.images.pool import DataSpec

    named = arguments.data in origins.NAMED
    return DataSpec(
        data=arguments.data if named else str(Path(arguments.data).expanduser().absolute()),
        data_dir=str(Path(arguments.data_dir).expanduser().absolute()),
        cache_dir=str(Path(arguments.cache_dir).expanduser().absolute()),
        image_size=arguments.image_size,
        minority=minority_names(arguments.minority),
        keep=arguments.keep,
        val_fraction=arguments.val_fraction,
        seed=arguments.seed,
    )


def minority_names(text: str | None) -> tuple[str, ...] | None:
    """``"cat, dog"`` as names, each once.

    Raises:
        UsageError: the text is there but names nothing.
    """
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError([f"--minority must name at least one class, not {text!r}"])
    return names


def default_config(data: str, seed: int, /, **values: object) -> TrialConfig:
    """The course's recipe for these data, its seeds all ``seed``.

    Raises:
        UsageError: ``values``, which come before all that, break the rules of their fields.
    """
    base = {"flip": origin(data).flip, "seed": seed, "split_seed": seed, "cut_seed": seed}
    return TrialConfig.from_dict({**base, **values})


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
