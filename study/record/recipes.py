"""What recipes are called, and how tables show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.space.parameters import Space, active_values
from trainable.config import FIELDS

SEARCHED = "searched"  # the recipe of a trial that is not one of the course's


@dataclass(frozen=True)
class CourseRecipe:
    """One of the course's two recipes, which are tried whatever the space says."""

    name: str  # in the journal, in ranking.csv, and where people read
    run_name: str  # in a confirmation's files, and at the beginning of its runs' folders
    short: str  # where only the two are compared
    values: Mapping[str, Any]  # of the config's fields; those not named have their defaults


SHUFFLED = CourseRecipe("course, shuffled", "course-shuffled", "shuffled", {"sampler": "shuffle"})
WEIGHTED = CourseRecipe(
    "course, weighted", "course-weighted", "weighted", {"sampler": "weighted", "sampler_power": 1.0}
)
COURSE = (SHUFFLED, WEIGHTED)  # trials 0 and 1

_OF_RUNS = {recipe.run_name: recipe for recipe in COURSE}


def run_name(trial: int, recipe: str) -> str:
    """What the recipe of a trial is called in a confirmation: "trial-7", "course-weighted"."""
    return next((found.run_name for found in COURSE if found.name == recipe), f"trial-{trial}")


def is_course(run_name: str) -> bool:
    """Whether a confirmation means one of the course's recipes by it."""
    return run_name in _OF_RUNS


def shown(run_name: str) -> str:
    """What people read instead of it: "trial 7" for "trial-7", "course, weighted" for "course-weighted"."""
    return _OF_RUNS[run_name].name if is_course(run_name) else f"trial {run_name.removeprefix('trial-')}"


def trial_name(number: int, recipe: str) -> str:
    """The trial's number, starred if its recipe is the course's."""
    return str(number) if recipe == SEARCHED else f"{number}*"


def recipe_table(configs: Sequence[Mapping[Any, Any]], space: Space, width: int, gap: int) -> dict[str, list[str]]:
    """The searched fields of the configs in short: columns by their heads, as many of the first as fit into ``width``,
    ``gap`` blanks before each.

    A field that has an effect under some values of another one only stands in that one's cell: "weighted^0.50".
    """
    names = [parameter.name for parameter in space]
    columns: dict[str, list[str]] = {}
    for name in names:
        if not set(names) & FIELDS[name].when.keys():
            column = [_cell(name, active_values(space, config.__getitem__)) for config in configs]
            width -= gap + max(map(len, [FIELDS[name].head, *column]))
            if width < 0:
                break
            columns[FIELDS[name].head] = column
    return columns


def _cell(name: str, active: Mapping[str, Any]) -> str:
    if name not in active:
        return ""
    joined = [other for other in active if name in FIELDS[other].when]
    return "".join(
        [
            FIELDS[name].shown(active[name]),
            *(FIELDS[other].head + FIELDS[other].shown(active[other]) for other in joined),
        ]
    )
