"""A cost matrix as text, which stands in a trial's config: "costs:0,1;5,0". Imports nothing heavy: a config is checked
before anything is loaded."""

import math
import re
from collections.abc import Sequence

PREFIX = "costs:"
PATTERN = PREFIX + r"[0-9.e+,;-]+"
MAX_CLASSES = 100  # the text stands in every trial's config
RULE = "a number from 0 to 1000000 for each true class (row) and predicted class (column), 0 where both are the same"

Costs = tuple[tuple[float, ...], ...]


def text_of(costs: Sequence[Sequence[float]]) -> str:
    """The text that ``parse`` reads again."""
    return PREFIX + ";".join(",".join(re.sub(r"\.0$", "", repr(float(cost))) for cost in row) for row in costs)


def parse(text: str) -> Costs:
    """The costs in ``text``.

    Raises:
        ValueError: they break the rule; what must be, to be read after the name of the text.
    """
    try:
        costs = tuple(tuple(map(float, row.split(","))) for row in text.removeprefix(PREFIX).split(";"))
    except ValueError:
        raise ValueError(f"must have {RULE}") from None
    check(costs)
    return costs


def check(costs: Costs) -> None:
    """Raises:
    ValueError: the costs break the rule.
    """
    number = len(costs)
    if not 2 <= number <= MAX_CLASSES or any(len(row) != number for row in costs):
        raise ValueError(f"must be a square of 2 to {MAX_CLASSES} rows and columns")
    cells = [cost for row in costs for cost in row]
    if not all(math.isfinite(cost) and 0 <= cost <= 1e6 for cost in cells) or any(costs[i][i] for i in range(number)):
        raise ValueError(f"must have {RULE}")
    if not all(any(row) for row in costs):
        raise ValueError("must have a cost above 0 in each row, or nothing of that class would count")
