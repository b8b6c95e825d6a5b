"""The files that a trial leaves, and what it needs of its study's, read and checked before anything is made of them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypeVar

from pydantic import Field, ValidationError
from pydantic_core import from_json
from typing_extensions import TypedDict

from trainable.arguments import MAX_FOLDS
from trainable.cli import UsageError
from trainable.config import FIELDS, TrialConfig
from trainable.decoding import (
    EXACT,
    EXACT_WITH_MORE,
    Amount,
    Count,
    Fraction,
    Number,
    Place,
    Positive,
    Rule,
    Seed,
    Share,
    adapter,
    read_file,
    read_versioned,
    refusal,
    shown,
    unique_problems,
    words,
)
from trainable.files import check_folder
from trainable.images.pool import DataSpec
from trainable.objectives import Objective
from trainable.report import Row

STUDY_FORMAT = 1


# the fields of a trial's config that every version has written; a later one's default says what was done without it
EARLIEST_FIELDS = (
    "dropout",
    "weight_decay",
    "learning_rate",
    "accumulation_steps",
    "sampler",
    "sampler_power",
    "batch_size",
    "clip_norm",
    "epochs",
    "patience",
    "min_delta",
    "flip",
    "rotation_degrees",
    "seed",
    "split_seed",
    "cut_seed",
    "num_threads",
)


class EpochRow(TypedDict):
    """A line of epochs.jsonl: what an epoch came to, on the validation images unless it says otherwise."""

    __pydantic_config__ = EXACT_WITH_MORE  # type: ignore[misc]

    epoch: Positive
    train_loss: Number
    train_accuracy: Share
    val_loss: Number
    val_accuracy: Share
    minority_f1: Share
    macro_f1: Share
    f1: Annotated[list[Share], Field(min_length=2)]  # of each class
    minority_f1_adjusted: Share
    best_epoch: Positive
    learning_rate: Annotated[float, Field(ge=0)]
    num_train_images: Positive
    num_micro_batches: NotRequired[Positive]
    train_seconds: Amount
    val_seconds: Amount
    ended_unix_seconds: NotRequired[Amount]


@dataclass(frozen=True, kw_only=True)
class StoredData:
    """Which images a study is about: a ``DataSpec`` in which everything is settled."""

    __pydantic_config__ = EXACT

    data: Place
    data_dir: Place
    cache_dir: Place
    image_size: Annotated[int, Field(ge=16, le=320)]
    minority: Annotated[tuple[str, ...], Field(min_length=1)]
    keep: Fraction
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed
    own_test: bool
    # younger than the first files: without them a study has all the images in train/, val/ and test/, made square
    split_names: bool = False
    labels: Place | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    skip_bad_files: bool = False
    squash: bool = True
    group: str | None = None
    longtail_ratio: Annotated[float, Field(ge=1)] | None = None
    train_counts: tuple[tuple[str, Positive], ...] = ()
    folds: Annotated[int, Field(ge=0, le=MAX_FOLDS)] = 0

    @property
    def spec(self) -> DataSpec:
        return DataSpec(**asdict(self))


@dataclass(frozen=True, kw_only=True)
class StudyOfTrial:
    """What a trial has to know of its study, from study.json."""

    __pydantic_config__ = EXACT

    data: StoredData
    fingerprint: str  # of the images
    class_names: Annotated[list[str], Field(min_length=2)]
    gpus: Count = 0


StudyT = TypeVar("StudyT", bound=StudyOfTrial)


def read_study(folder: Path, kind: type[StudyT], rule: Rule = lambda study: ()) -> StudyT:
    """What ``kind`` says of study.json. The door to a study: the whole folder is checked first.

    Raises:
        UsageError: there is none, it cannot be read, its format is unknown, or the folder holds links.
    """
    path = folder / "study.json"
    try:
        path.lstat()  # a folder that holds no study may be huge, and is not looked through
    except OSError as error:
        raise UsageError([f"{folder}: holds no study (study.json: {error.strerror})"]) from error
    check_folder(folder)
    return read_versioned(path, STUDY_FORMAT, kind, lambda study: [*_class_problems(study), *rule(study)])


def _class_problems(study: StudyOfTrial) -> Iterable[str]:
    names = study.class_names
    yield from unique_problems("class_names", names)
    yield from unique_problems("data.minority", study.data.minority)
    yield from (
        f"data.minority must name classes, and {name!r:.40} is none of them"
        for name in study.data.minority
        if name not in names
    )


def read_rows(folder: Path, objective: Objective, num_classes: int | None = None) -> list[Row]:
    """The rows in a trial's epochs.jsonl, in the order of the epochs; a half-written last line is left out.

    Where ``num_classes`` is given, the rows must be of so many classes. They must have the scores of ``objective``.

    Raises:
        UsageError: a line is damaged, or rows are out of order.
    """
    path = folder / "epochs.jsonl"
    if not path.exists():
        return []
    content = read_file(path)
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    try:
        # all lines at once: for 50,000 rows this takes half as long as json.loads does without any check
        rows: list[Row] = adapter(list[EpochRow]).validate_json(b"[" + b",".join(lines) + b"]")
        if len(rows) != len(lines):
            raise refusal(path, ["a line holds more than one row"])
    except ValidationError as error:
        raise _damaged_line(path, lines) from error
    if problems := list(row_problems(rows, objective, num_classes)):
        raise refusal(path, problems)
    return rows


def _damaged_line(path: Path, lines: Sequence[bytes]) -> UsageError:
    for number, line in enumerate(lines, 1):
        try:
            adapter(EpochRow).validate_json(line)
        except ValidationError as error:
            return refusal(path, [f"line {number}: {words(found)}" for found in error.errors(include_url=False)])
    return refusal(path, ["a line holds more than one row"])


def checked_rows(rows: Any, objective: Objective) -> list[Row]:
    """Rows that come from elsewhere than a file of lines, as ``read_rows`` gives them.

    Raises:
        ValueError: they are none; what is wrong first.
    """
    try:
        adapter(list[EpochRow]).validate_python(rows)
    except ValidationError as error:
        raise ValueError(f"rows{words(error.errors(include_url=False)[0])}") from error
    checked: list[Row] = rows  # as they came: the decoder's own have some fields in another place
    for problem in row_problems(checked, objective):
        raise ValueError(problem)
    return checked


def row_problems(rows: Sequence[Row], objective: Objective, num_classes: int | None = None) -> Iterable[str]:
    """What is wrong between rows that are right one by one."""
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
        yield "its epochs are not 1, 2, 3, …"
    for row in rows:
        if row["best_epoch"] > row["epoch"]:
            yield f"best_epoch of epoch {row['epoch']} must be an epoch up to it, not {row['best_epoch']}"
            return
        for name in (objective.name, objective.adjusted, objective.best):
            if not _is_share(row.get(name)):
                yield f"{name} of epoch {row['epoch']} must be a number from 0 to 1, not {shown(row.get(name))}"
                return
    lengths = {len(row["f1"]) for row in rows}
    if len(lengths | ({num_classes} if num_classes and rows else set())) > 1:
        yield (
            f"f1 must have a value for each of the study's classes{f', {num_classes}' if num_classes else ''}, not "
            + (" or ".join(map(str, sorted(lengths))))
        )


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def read_config(folder: Path) -> TrialConfig:
    """A trial's config.

    Raises:
        UsageError: config.json is missing or damaged.
    """
    path = folder / "config.json"
    content = read_file(path)
    try:
        return config_from(from_json(content))
    except UsageError as error:
        raise refusal(path, error.problems) from error
    except ValueError as error:
        raise UsageError([f"{path}: damaged, cannot be read ({error})"]) from error


def config_from(values: Any) -> TrialConfig:
    """The config that a file of a study holds.

    Raises:
        UsageError: it is none, or lacks a field that all versions have written; a few words for each thing.
    """
    if isinstance(values, dict) and (unknown := [name for name in values if name not in FIELDS]):
        raise UsageError([f"{shown(name)} is no field of a trial's config" for name in unknown])
    config = TrialConfig.from_record(values)
    if missing := [f"{name} is missing" for name in EARLIEST_FIELDS if name not in values]:
        raise UsageError(missing)
    return config
