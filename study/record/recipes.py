"""What recipes are called, and how tables show them."""

from collections.abc import Mapping, Sequence
from typing import Any

from study.space.parameters import Space, active_values
from trainable.config import FIELDS

pass


# The course's two recipes: trials 0 and 1, whatever the space says. Fields not named are the config's defaults.
COURSE_RECIPES: dict[str, dict[str, Any]] = {
    "course, shuffled": {"sampler": "shuffle"},
    "course, weighted": {"sampler": "weighted", "sampler_power": 1.0},
}


SEARCHED = "searched"  # the recipe of a trial that is not one of the course's


SHUFFLED, WEIGHTED = "course, shuffled", "course, weighted"


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


def trial_name(number: int, recipe: str) -> str:
    """The trial's number, starred if its recipe is the course's."""
    return f"{number}*" if recipe.startswith("course") else str(number)


def shown(name: str) -> str:
    """ "trial 7" of "trial-7", "course, weighted" of "course-weighted"."""
    return name.replace("trial-", "trial ").replace("course-", "course, ")
