"""The flags that a single trial and a study share. Imports nothing heavy: ``--help`` answers at once."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.cli import MOST, UsageError, attempt, checked, file_path, one_of, regex, whole
from trainable.config import PRECISIONS, TrialConfig
from trainable.images import origins
from trainable.images.origins import origin

if TYPE_CHECKING:
    from trainable.images.pool import DataSpec

PLACES = ("data", "labels", "data_dir", "cache_dir")
FOLDER_FLAGS = (
    "labels",
    "include",
    "exclude",
    "skip_bad_files",
    "squash",
    "group",
)  # of what is not given, a study that goes on keeps what it began with
DATA_DIR_HELP, CACHE_DIR_HELP = "where CIFAR-10 lies or is downloaded to", "where decoded images are kept"
MATCHES = "matches, relative to the data folder; * is anything, also slashes; repeatable (default: no rule)"
LABELS_HELP = (
    "a CSV or Parquet file with the columns path (relative to --data FOLDER), label and, if wanted, split and group, "
    "instead of a folder for each class"
)
MAX_FOLDS = 10
LONGTAIL_RATIO = 100.0  # the most usual one in papers
CACHE_DIR = "~/.cache/imbalance-study"  # or under $XDG_CACHE_HOME


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which images, and how they are split and cut."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        default="cifar10",
        metavar="SOURCE",
        help="cifar10, digits, or a folder with train/<class>/* and, optionally, val/ and test/, or <class>/* alone",
    )
    group.add_argument("--data-dir", default="data", metavar="DIR", help=DATA_DIR_HELP)
    group.add_argument(
        "--minority",
        action="append",
        metavar="A,B,...",
        help="names of the classes that matter, separated by commas, repeatable (default: cifar10 and digits: the "
        "first three; a folder: those with at most half of an equal share of the images, or half as many as one class "
        "that has more than half of all, or as the median class, and after --imbalance longtail or FILE the same of "
        "the training images that are left; the start says which, and why)",
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
        "--imbalance",
        default=None,
        metavar="KIND",
        help="step: the minority is cut to --keep; longtail: from the first class to the last, training images become "
        "fewer by the same factor (Cao et al. 2019); or a CSV file with the columns class and count, the training "
        "images to keep of each (default: step)",
    )
    group.add_argument(
        "--imbalance-ratio",
        default=None,
        metavar="RATIO",
        type=checked(float, "at least 1 and at most 1000000", lambda v: 1 <= v <= MOST),
        help="longtail: how many times as many training images the first class has as the last "
        f"(default: {LONGTAIL_RATIO:g})",
    )
    _add_split_flags(group)
    group.add_argument("--cache-dir", default=None, metavar="DIR", help=f"{CACHE_DIR_HELP} (default: {CACHE_DIR})")
    _add_folder_flags(parser.add_argument_group("data that are a folder"))


def _add_split_flags(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--val-fraction",
        default=None,
        metavar="FRACTION",
        type=checked(float, "in (0, 1)", lambda v: 0 < v < 1),
        help="fraction of the training images that becomes validation, where there is no val/ "
        f"(default: {origins.words('val_fraction')})",
    )
    group.add_argument(
        "--folds",
        default=None,
        metavar="K",
        type=whole(2, MAX_FOLDS),
        help="cross-validation: training and validation images in K parts, and a trial trains K networks, each judged "
        "by the part that it has not seen; K times the time (default: one split)",
    )
    group.add_argument(
        "--image-size",
        default=32,
        metavar="PIXELS",
        type=whole(16, 320),
        help="images are resized to this many pixels on each side",
    )


def _add_folder_flags(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--labels", default=None, metavar="FILE", help=LABELS_HELP)
    group.add_argument("--include", action="append", metavar="GLOB", help=f"take only images whose path {MATCHES}")
    group.add_argument("--exclude", action="append", metavar="GLOB", help=f"leave out what has a path that {MATCHES}")
    group.add_argument(
        "--skip-bad-files",
        action="store_const",
        const=True,
        help="leave out files that cannot be read as images, and say which (default: they are refused)",
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
        "--squash",
        action="store_const",
        const=True,
        help="stretch what is not square (default: it keeps its shape, and its edges are continued)",
    )


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say where the images of a study lie now, for ``moved``."""
    group = parser.add_argument_group("data that has moved")
    known = "(default: where they were)"
    group.add_argument("--data", default=None, metavar="FOLDER", help=f"where the study's images lie now {known}")
    group.add_argument("--labels", default=None, metavar="FILE", help=f"where the study's table lies now {known}")
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
        UsageError: paths, or flags together, that make no sense, or the cache is needed and nobody knows where.
    """
    from trainable.images.pool import DataSpec

    problems: list[str] = []
    places = attempt(problems, _places, arguments)
    imbalance = attempt(problems, _imbalance, arguments)
    if arguments.data in origins.NAMED:
        attempt(problems, _refuse_folder_flags, arguments)
    if arguments.folds and arguments.val_fraction is not None:
        problems.append(
            f"--val-fraction {arguments.val_fraction:g}: must be left out with --folds, where every image is "
            "for validation once"
        )
    if arguments.cache_dir is None:
        cache_dir = attempt(problems, _default_cache_dir, arguments.data not in origins.NAMED)
    if problems:
        raise UsageError(problems)
    if arguments.cache_dir is None:
        places["cache_dir"] = cache_dir
    return DataSpec(
        **places,
        **imbalance,
        image_size=arguments.image_size,
        minority=None if arguments.minority is None else tuple(arguments.minority),
        keep=arguments.keep,
        val_fraction=arguments.val_fraction,
        folds=arguments.folds or 0,
        seed=arguments.seed,
        group=arguments.group,
        include=tuple(arguments.include or ()),
        exclude=tuple(arguments.exclude or ()),
        skip_bad_files=bool(arguments.skip_bad_files),
        squash=bool(arguments.squash),
    )


def _imbalance(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of a ``DataSpec`` that say which imbalance is made, beside ``keep``.

    Raises:
        UsageError: flags that do not go together, or a file with mistakes.
    """
    ratio, keep = arguments.imbalance_ratio, arguments.keep
    kind = "step" if arguments.imbalance is None else arguments.imbalance
    problems: list[str] = []
    fields: dict[str, Any] = {}
    if ratio is not None and kind != "longtail":
        problems.append(f"--imbalance-ratio {ratio:g}: only for --imbalance longtail, not for {kind}")
    if keep is not None and kind != "step":
        problems.append(f"--keep {keep:g}: only for --imbalance step, not for {kind}")
    if keep is None and arguments.imbalance == "step" and origin(arguments.data).keep == 1:
        problems.append("--imbalance step: cuts nothing without --keep, the fraction of the minority that is kept")
    if kind == "longtail":
        fields["longtail_ratio"] = LONGTAIL_RATIO if ratio is None else ratio
    elif kind != "step":
        fields["train_counts"] = attempt(problems, _counts, kind)
    if problems:
        raise UsageError(problems)
    return fields


def _counts(text: str) -> "tuple[tuple[str, int], ...]":
    from trainable.images.imbalance import read_counts  # numpy

    try:
        return read_counts(file_path(text))
    except argparse.ArgumentTypeError as error:
        raise UsageError([f"--imbalance {error}"]) from error


def _refuse_folder_flags(arguments: argparse.Namespace) -> None:
    given = [f"--{name.replace('_', '-')}" for name in FOLDER_FLAGS if getattr(arguments, name) is not None]
    if given:
        raise UsageError([f"{', '.join(given)}: only for --data FOLDER, not for {arguments.data}"])


def moved(spec: "DataSpec", arguments: argparse.Namespace) -> "DataSpec":
    """``spec`` with the places that the flags give: the fingerprint tells whether the images there are the same.

    Raises:
        UsageError: paths that make no sense, or a table where there was none.
    """
    if arguments.labels is not None and spec.labels is None:
        raise UsageError(["--labels: the study's images came without a table"])
    return replace(spec, **_places(arguments))


def _places(arguments: argparse.Namespace) -> dict[str, Any]:
    """The absolute paths that the flags give."""
    places: dict[str, Any] = {}
    problems: list[str] = []
    for name in PLACES:
        text = getattr(arguments, name)
        if name == "data" and text in origins.NAMED:
            places[name] = text
        elif text is not None:
            try:
                # again with the current folder, which is part of what is written down
                places[name] = str(file_path(str(file_path(text).absolute())))
            except argparse.ArgumentTypeError as error:
                problems.append(f"--{name.replace('_', '-')} {error}")
    if problems:
        raise UsageError(problems)
    return places


def _default_cache_dir(is_needed: bool) -> str:
    """$XDG_CACHE_HOME or ~/.cache; empty where nobody knows a home and it is not needed."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return str(file_path(str((Path(cache) / "imbalance-study").absolute())))
    except RuntimeError:
        problem = "must be given, as this user has no home folder for it"
    except argparse.ArgumentTypeError as error:
        problem = str(error)
    if is_needed:
        raise UsageError([f"--cache-dir {problem}"])
    return ""


def default_config(data: str, seed: int, /, **values: object) -> TrialConfig:
    """The course's recipe for these data, its seeds all ``seed``.

    Raises:
        UsageError: ``values``, which come before all that, break the rules of their fields.
    """
    base = {"flip": origin(data).flip, "seed": seed, "split_seed": seed, "cut_seed": seed}
    if isinstance(file := values.get("weights", "none"), str) and file not in ("none", "default"):
        values["weights"] = os.path.abspath(os.path.expanduser(file))  # wherever trials run, and the study goes on
    return TrialConfig.from_dict({**base, **values})


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
