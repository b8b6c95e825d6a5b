"""confirm.json as types; its names are those in the file, in their order. See ``trainable.decoding``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from study.record.recipes import COURSE
from trainable.config import TrialConfig
from trainable.decoding import EXACT, Count, Number, Positive, Seed, Share, unique_problems

CONFIRMATION_FORMAT = 1
CURVE_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A difference of two scores, with the ends of its 95 % interval."""

    __pydantic_config__ = EXACT

    estimate: Number
    low: Number
    high: Number


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The score of the recipe ``first`` minus that of ``second``, and the same after logit adjustment."""

    __pydantic_config__ = EXACT

    first: str
    second: str
    estimate: Number
    low: Number
    high: Number
    adjusted: Estimate


@dataclass(frozen=True, kw_only=True)
class ConfirmedRecipe:
    """A recipe on the fresh seeds; lists have a value for each."""

    __pydantic_config__ = EXACT

    name: str
    trial: Count
    config: dict[str, Any]
    search_score: Share
    scores: list[Share]
    scores_adjusted: list[Share]
    mean: Share
    low: Share
    high: Share
    val_recall: list[Share]
    audit_recall: list[Share] | None  # None: nothing was cut
    stopped_at: Positive | None = None  # epochs after which the search gave the trial up; earlier versions did not say


@dataclass(frozen=True, kw_only=True)
class ConfirmedScore:
    """What to expect of a recipe chosen like this: each seed scored with the recipe that the others choose."""

    __pydantic_config__ = EXACT

    chosen: list[str]
    scores: list[Share]
    estimate: Share
    low: Share
    high: Share


@dataclass(frozen=True, kw_only=True)
class ClassOnTest:
    """How a recipe does on the test images of one class, mean of the seeds; its intervals are over seeds and images."""

    __pydantic_config__ = EXACT

    name: str
    rare: bool  # of the minority
    images: Count
    recall: Estimate
    precision: Estimate
    f1: Estimate


@dataclass(frozen=True, kw_only=True)
class RecipeOnTest:
    """A recipe on the test images; lists have a value for each seed."""

    __pydantic_config__ = EXACT

    scores: list[Share]
    scores_adjusted: list[Share]
    scores_offsets: list[Share] | None = None
    mean: Share
    low: Share
    high: Share
    confusion: list[list[Count]]  # of all seeds together; row = true class
    # younger than the first files
    classes: list[ClassOnTest] = field(default_factory=list)  # those that have test images
    false_alarms: Estimate | None = None  # share of the common classes' images that are taken for a rare class
    as_in_winner: bool = False  # whether these three are with decision offsets, as the model in winner/ has them


@dataclass(frozen=True, kw_only=True)
class Reopening:
    """That the test images were opened again."""

    __pydantic_config__ = EXACT

    time: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class OnTestImages:
    """What the test images said, and when they were opened."""

    __pydantic_config__ = EXACT

    opened: str
    reopened: list[Reopening]
    recipes: dict[str, RecipeOnTest]
    differences: list[Difference] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Runs of the first seed whose logits could be averaged, and what that gains."""

    __pydantic_config__ = EXACT

    members: Annotated[dict[str, Positive], Field(min_length=1)]  # how often each recipe's run counts
    gain: Estimate  # over the winner alone, on images that did not choose the ensemble; over the seeds

    @property
    def is_one(self) -> bool:
        """Whether a single recipe's run was chosen, so that there is nothing to average."""
        return len(self.members) == 1


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """confirm.json: recipes on fresh seeds, the winner among them, and the test images once they are opened."""

    __pydantic_config__ = EXACT

    format: int = CONFIRMATION_FORMAT
    study: str
    objective: str = TrialConfig.objective  # what all scores are, but for the recalls
    time: str
    top: Positive
    epochs: Positive
    seeds: Annotated[list[Seed], Field(min_length=2)]
    optimistic: bool
    optimistic_reason: str
    num_trials: Count
    recipes: Annotated[list[ConfirmedRecipe], Field(min_length=2)]
    differences: Annotated[list[Difference], Field(min_length=1)]
    winner: str
    confirmed: ConfirmedScore
    test: OnTestImages | None
    ensemble: Ensemble | None = None  # earlier versions had none


def confirmation_problems(found: Confirmation) -> Iterable[str]:
    """What is wrong between the fields of a confirm.json."""
    names = [recipe.name for recipe in found.recipes]
    yield from unique_problems("the recipes' names", names)
    course = [recipe.run_name for recipe in COURSE]
    if missing := [name for name in course if name not in names]:
        yield f"recipes must hold the course's, and {' and '.join(missing)} is missing"
    elif not any({pair.first, pair.second} == set(course) for pair in found.differences):
        yield "differences must compare the course's two recipes"
    if found.test is not None and found.winner not in found.test.recipes:
        yield f"test.recipes must hold the winner, {found.winner!r:.40}"
    for place, name in _named(found):
        if name not in names:
            yield f"{place} must be one of the recipes, not {name!r:.40}"
    for place, values in _by_seed(found):
        if values is not None and len(values) != len(found.seeds):
            yield f"{place} must have a value for each of the {len(found.seeds)} seeds, not {len(values)}"
    for place, recipe in _scored(found):
        if not recipe.low - 1e-9 <= recipe.mean <= recipe.high + 1e-9:  # but for the last bits
            yield f"{place}.mean must lie between low and high, {recipe.low} and {recipe.high}, not {recipe.mean}"


def _named(found: Confirmation) -> Iterable[tuple[str, str]]:
    """Where recipes are named, and which."""
    yield "winner", found.winner
    if found.ensemble is not None:
        yield from (("ensemble.members", name) for name in found.ensemble.members)
    yield from ((f"confirmed.chosen[{index}]", name) for index, name in enumerate(found.confirmed.chosen))
    pairs = {f"differences[{index}]": pair for index, pair in enumerate(found.differences)}
    if found.test is not None:
        pairs |= {f"test.differences[{index}]": pair for index, pair in enumerate(found.test.differences)}
        yield from (("test.recipes", name) for name in found.test.recipes)
    for place, pair in pairs.items():
        yield f"{place}.first", pair.first
        yield f"{place}.second", pair.second


def _scored(found: Confirmation) -> Iterable[tuple[str, ConfirmedRecipe | RecipeOnTest]]:
    yield from ((f"recipes[{index}]", recipe) for index, recipe in enumerate(found.recipes))
    if found.test is not None:
        yield from ((f"test.recipes.{name}", recipe) for name, recipe in found.test.recipes.items())


def _by_seed(found: Confirmation) -> Iterable[tuple[str, Sequence[Any] | None]]:
    """The lists that have a value for each seed, and where they stand."""
    for place, recipe in [*_scored(found), ("confirmed", found.confirmed)]:
        for name in ("chosen", "scores", "scores_adjusted", "scores_offsets", "val_recall", "audit_recall"):
            yield f"{place}.{name}", getattr(recipe, name, None)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The winner on some of the training images; lists have a value for each seed."""

    __pydantic_config__ = EXACT

    share: Share  # of the training images
    images: list[Count]  # of each class, on the first seed
    scores: list[Share]  # of the best epoch on the validation images
    class_f1: list[list[Share]]  # the same epoch's F1 of each class


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """learning_curve.json: how the winner does with fewer images, the fewest first and all of them last."""

    __pydantic_config__ = EXACT

    format: int = CURVE_FORMAT
    recipe: str
    seeds: Annotated[list[Seed], Field(min_length=2)]
    objective: str
    points: Annotated[list[CurvePoint], Field(min_length=2)]


def curve_problems(found: LearningCurve, num_classes: int) -> Iterable[str]:
    """What is wrong between the fields of a learning_curve.json of so many classes."""
    for index, point in enumerate(found.points):
        if len(point.scores) != len(found.seeds) or len(point.class_f1) != len(found.seeds):
            yield f"points[{index}] must have a value for each of the {len(found.seeds)} seeds"
        if {len(point.images), *map(len, point.class_f1)} != {num_classes}:
            yield f"points[{index}] must have a value for each of the {num_classes} classes"
