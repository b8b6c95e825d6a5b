"""The flags that a single trial and a study share. Imports nothing heavy: ``--help`` answers at once."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.cli import UsageError, checked, file_path, one_of, regex
from trainable.config import PRECISIONS, TrialConfig
from trainable.images import origins
from trainable.images.origins import origin

if TYPE_CHECKING:
    from trainable.images.pool import DataSpec

NAMED_DATA = ("cifar10", "digits")
DATA_DIR_HELP, CACHE_DIR_HELP = "where CIFAR-10 lies or is downloaded to", "where decoded images are kept"
CACHE_DIR = "~/.cache/imbalance-study"  # or under $XDG_CACHE_HOME


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which images, and how they are split and cut."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        default="cifar10",
        metavar="SOURCE",
        help="cifar10, digits, or a folder with train/<class>/* and, optionally, val/ and test/",
    )
    group.add_argument("--data-dir", default="data", metavar="DIR", help=DATA_DIR_HELP)
    group.add_argument(
        "--minority",
        action="append",
        metavar="A,B,...",
        help="names of the classes that matter, separated by commas, repeatable (default: cifar10 and digits: the "
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
        "--group",
        default=None,
        metavar="REGEX",
        type=regex,
        help="what this regular expression finds in an image's path below the folder (in its first brackets, or all) "
        "is the image's group; no group stands on two sides of a split (default: each image is a group)",
    )
    group.add_argument(
        "--image-size",
        default=32,
        metavar="PIXELS",
        type=checked(int, "a whole number from 16 to 96", lambda v: 16 <= v <= 96),
        help="images are resized to this many pixels on each side",
    )
    group.add_argument("--cache-dir", default=None, metavar="DIR", help=f"{CACHE_DIR_HELP} (default: {CACHE_DIR})")


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say where the images of a study lie now, for ``moved``."""
    group = parser.add_argument_group("data that has moved")
    known = "(default: where they were)"
    group.add_argument("--data", default=None, metavar="FOLDER", help=f"where the study's images lie now {known}")
    group.add_argument("--data-dir", default=None, metavar="DIR", help=f"{DATA_DIR_HELP} {known}")
    group.add_argument("--cache-dir", default=None, metavar="DIR", help=f"{CACHE_DIR_HELP} {known}")


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
    """The ``DataSpec`` that the flags describe.

    Raises:
        UsageError: paths that make no sense, or the cache is needed and nobody knows where.
    """
    from trainable.images.pool import DataSpec

    places = _places(arguments)
    if arguments.cache_dir is None:
        places["cache_dir"] = _default_cache_dir(is_needed=places["data"] not in origins.NAMED)
    return DataSpec(
        **places,
        image_size=arguments.image_size,
        minority=None if arguments.minority is None else tuple(arguments.minority),
        keep=arguments.keep,
        val_fraction=arguments.val_fraction,
        seed=arguments.seed,
        group=arguments.group,
    )


def moved(spec: "DataSpec", arguments: argparse.Namespace) -> "DataSpec":
    """``spec`` with the places that the flags give: the fingerprint tells whether the images there are the same.

    Raises:
        UsageError: paths that make no sense.
    """
    return replace(spec, **_places(arguments))


def _places(arguments: argparse.Namespace) -> dict[str, Any]:
    """The absolute paths that the flags give."""
    places: dict[str, Any] = {}
    problems: list[str] = []
    for flag, text in [
        ("--data", arguments.data),
        ("--data-dir", arguments.data_dir),
        ("--cache-dir", arguments.cache_dir),
    ]:
        name = flag.strip("-").replace("-", "_")
        if name == "data" and text in NAMED_DATA:
            places[name] = text
        elif text is not None:
            try:
                places[name] = str(file_path(text).absolute())
            except argparse.ArgumentTypeError as error:
                problems.append(f"{flag} {error}")
    if problems:
        raise UsageError(problems)
    return places


def _default_cache_dir(is_needed: bool) -> str:
    """$XDG_CACHE_HOME or ~/.cache; empty where nobody knows a home and it is not needed."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        if is_needed:
            raise UsageError(["--cache-dir must be given, as this user has no home folder for it"]) from None
        return ""
    return str((Path(cache) / "imbalance-study").absolute())


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
