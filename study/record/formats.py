"""What stands in a study's JSON files, as types: study.json, winner/model.json, mistakes.json and looks.json.

The names are those in the files, in their order. See ``trainable.records`` for how they are checked; what has a default
is younger than the first files of the format.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from study.space.parameters import Space, from_tables
from trainable import objectives
from trainable.cli import UsageError
from trainable.config import FIELDS, TrialConfig
from trainable.decoding import EXACT, EXACT_WITH_MORE, Amount, Count, Number, Positive, Seed, Share, unique_problems
from trainable.objectives import Objective
from trainable.records import StudyOfTrial, config_from

MODEL_FORMAT = 1
ENSEMBLE_FORMAT = 1
MAX_OFFSET = 100  # decision offsets that are fitted are at most 2 × log(share of the rarest class)
Offsets = list[Annotated[float, Field(ge=-MAX_OFFSET, le=MAX_OFFSET)]]


class Invocation(TypedDict):
    """A command that began, resumed or extended the study."""

    __pydantic_config__ = EXACT_WITH_MORE  # type: ignore[misc]

    time: str  # ISO
    command: str


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Images of each class in each part."""

    __pydantic_config__ = EXACT

    train: list[Count]
    val: list[Count]
    audit: list[Count]
    test: list[Count] | None  # None: the test files were not there


@dataclass(frozen=True, kw_only=True)
class Study(StudyOfTrial):
    """study.json: what was asked, on which images, and where it ran."""

    __pydantic_config__ = EXACT

    name: str
    minority: Annotated[list[str], Field(min_length=1)]
    class_counts: ClassCounts
    skipped_files: list[str] = field(default_factory=list)  # that could not be read, relative to the data folder
    objective: str = TrialConfig.objective
    seed: Seed
    epochs: Positive
    first_epochs: Positive | None = None  # with which it began; earlier versions could not raise them
    trials: Count
    space: dict[str, dict[str, Any]]
    algorithm: str
    scheduler: str
    gpus_per_trial: Amount = 0.0
    cpus_per_trial: Positive = 1
    leaks: str = ""  # what in the images could stand on two sides of a split; empty: nothing was found, or looked for
    config: dict[str, Any] = field(default_factory=dict)
    after: str = ""  # the earlier study whose best recipes were tried first
    known: list[dict[str, Any]] = field(default_factory=list)  # these, as values of the space
    precision: str = TrialConfig.precision  # before there was a choice, all were in the default
    precision_reason: str = "as the study began"
    invocations: list[Invocation] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    hardware: dict[str, Any] = field(default_factory=dict)

    @property
    def epochs_of_scheduler(self) -> int:
        """Those by which its scheduler judges: as it began, lest trials be judged at other ages than those before."""
        return self.first_epochs or self.epochs

    @property
    def minority_indices(self) -> list[int]:
        return [self.class_names.index(name) for name in self.minority]

    @property
    def judged_by(self) -> Objective:
        return objectives.named(self.objective)

    @property
    def searched(self) -> Space:
        return from_tables(self.space, {}, "study.json") if self.space else ()


def study_problems(study: Study) -> Iterable[str]:
    """What is wrong between the fields of a study.json."""
    yield from unique_problems("minority", study.minority)
    yield from (
        f"minority must name classes, and {name!r:.40} is none of them"
        for name in study.minority
        if name not in study.class_names
    )
    for part in ("train", "val", "audit", "test"):
        counts = getattr(study.class_counts, part)
        if counts is not None and len(counts) != len(study.class_names):
            yield f"class_counts.{part} must have a number for each of the {len(study.class_names)} classes"
    try:
        text = str(FIELDS["objective"].checked(study.objective))
        yield from objectives.problems(text, len(study.class_names))
    except ValueError as error:
        yield str(error)
    try:
        inside = {parameter.name: parameter for parameter in study.searched}
        yield from (
            f"known must give values of the space, not {name!r:.40}: {value!r:.40}"
            for recipe in study.known
            for name, value in recipe.items()
            if name not in inside or not inside[name].contains(value)
        )
    except UsageError as error:
        yield from (f"space: {problem.partition(': ')[2]}" for problem in error.problems)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The winner's minority F1 on the validation images that its decision offsets were fitted to."""

    __pydantic_config__ = EXACT

    minority_f1: Share
    minority_f1_with_offsets: Share


@dataclass(frozen=True, kw_only=True)
class Model:
    """winner/model.json: all of the classifier but its weights."""

    __pydantic_config__ = EXACT

    format: int = MODEL_FORMAT
    study: str
    rule: str  # how it was chosen
    recipe: str
    seed: Seed
    config: dict[str, Any]
    class_names: Annotated[list[str], Field(min_length=2, max_length=1000)]
    minority: Annotated[list[str], Field(min_length=1)]
    image_size: Annotated[int, Field(ge=16, le=320)]
    # of files with more than 8 bits, for each kind of pixels the lowest number and the width; earlier versions had none
    scale: dict[str, tuple[Number, Annotated[float, Field(gt=0, allow_inf_nan=False)]]] = field(default_factory=dict)
    squash: bool = True  # what is not square is stretched; earlier versions did no other
    mean: Annotated[list[Share], Field(min_length=3, max_length=3)]  # of the channels, in units of [0, 1] pixels
    std: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=3, max_length=3)]
    offsets: Offsets
    offsets_tau: Number
    offsets_gain: Number
    # younger than the first files of the format: until then there was one rule, and no temperature
    offsets_rule: str = "tau"
    offsets_spread: list[Amount] = field(default_factory=list)  # of each class, over resamples of the images
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0  # by which the logits are divided
    calibration_error_before: Share | None = None  # on validation images that did not choose the temperature
    calibration_error_after: Share | None = None
    validation: Validation | None  # None: it was trained on the validation images, too


def model_problems(model: Model) -> Iterable[str]:
    """What is wrong between the fields of a model.json."""
    yield from unique_problems("class_names", model.class_names)
    yield from (
        f"minority must name classes, and {name!r:.40} is none of them"
        for name in model.minority
        if name not in model.class_names
    )
    if len(model.offsets) != len(model.class_names):
        yield f"offsets must be {len(model.class_names)} numbers, one for each class, not {len(model.offsets)}"
    try:
        config_from(model.config)
    except UsageError as error:
        yield from (f"config: {problem}" for problem in error.problems)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A network of an ensemble, and how often it counts in the mean."""

    __pydantic_config__ = EXACT

    recipe: str
    times: Positive
    config: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EnsembleModel:
    """winner/ensemble/ensemble.json: of which networks, in the order of their files; the rest is in model.json."""

    __pydantic_config__ = EXACT

    format: int = ENSEMBLE_FORMAT
    members: Annotated[list[Member], Field(min_length=1, max_length=100)]
    offsets: Offsets = field(default_factory=list)  # of the mean: logit adjustment, where the objective has it


def ensemble_problems(found: EnsembleModel) -> Iterable[str]:
    for index, member in enumerate(found.members):
        try:
            config_from(member.config)
        except UsageError as error:
            yield from (f"members[{index}].config: {problem}" for problem in error.problems)


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A validation image that the winner gets wrong."""

    __pydantic_config__ = EXACT

    label: str
    predicted: str
    probability: Share  # of what it predicts
    png: str  # the image, in base64
    file: str | None = None  # path relative to the data folder; None: it is no file, or of an earlier version


def mistake_problems(mistakes: list[Mistake]) -> Iterable[str]:
    for index, mistake in enumerate(mistakes):
        yield from _png_problems(f"[{index}].png", mistake.png)


def _png_problems(where: str, png: str) -> Iterable[str]:
    try:
        base64.b64decode(png, validate=True)
    except (binascii.Error, ValueError) as error:
        yield f"{where} must be base64 ({error})"


@dataclass(frozen=True, kw_only=True)
class Activation(Mistake):
    """A validation image of a minority class, right or wrong, and which of its places spoke for the answer."""

    __pydantic_config__ = EXACT

    heat: str  # the same image under a map of that, in base64


@dataclass(frozen=True, kw_only=True)
class Looks:
    """winner/looks.json: what there is to look at of the winner, pictures as PNG in base64."""

    __pydantic_config__ = EXACT

    activations: list[Activation]
    filters: str  # of the first convolution; empty where it does not see colours
    suspects: list[Mistake]  # images that are probably not of their label, the most probable first


def looks_problems(looks: Looks) -> Iterable[str]:
    for index, found in enumerate(looks.activations):
        yield from _png_problems(f"activations[{index}].png", found.png)
        yield from _png_problems(f"activations[{index}].heat", found.heat)
    for index, suspect in enumerate(looks.suspects):
        yield from _png_problems(f"suspects[{index}].png", suspect.png)
    yield from _png_problems("filters", looks.filters)
