"""Points of the space chosen in advance, whatever the outcomes: a scrambled Sobol sequence, and a grid."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.stats import qmc

from study.space.parameters import Parameter, Space, active_values
from trainable.cli import UsageError

NUM_GRID_LEVELS = 3  # of a range: both ends and the middle
MAX_GRID_POINTS = 100_000


def sobol_point(space: Space, index: int, seed: int) -> dict[str, Any]:
    """The ``index``-th (from 0) point of a scrambled Sobol sequence over all fields, each evenly on its own scale.

    Owen 1998, "Scrambling Sobol' and Niederreiter-Xing points". Fields that are not active have no part in the
    result, but keep their dimension.
    """
    sequence = qmc.Sobol(len(space), rng=np.random.default_rng(seed))
    if index:
        sequence.fast_forward(index)
    return _active(space, [p.at(share) for p, share in zip(space, sequence.random(1)[0], strict=True)])


def grid_point(space: Space, index: int, seed: int) -> dict[str, Any] | None:
    """The ``index``-th point of the grid in an order drawn by ``seed``, so that a part of it covers all; or None.

    A range has three levels, its ends and its middle, on its own scale.
    """
    points = grid(space)
    if index >= len(points):
        return None
    return points[np.random.default_rng(seed).permutation(len(points))[index]]


def grid(space: Space) -> list[dict[str, Any]]:
    """All points of the grid, each once.

    Raises:
        UsageError: there are more than MAX_GRID_POINTS.
    """
    points: list[dict[str, Any]] = [{}]
    for parameter in space:
        levels = _levels(parameter)
        grown: list[dict[str, Any]] = []
        for point in points:
            grown += [{**point, parameter.name: level} for level in levels] if parameter.active(point) else [point]
            if len(grown) > MAX_GRID_POINTS:
                rule = f"a grid can have at most {MAX_GRID_POINTS} points"
                raise UsageError([f"--algorithm grid: {rule}, and the fields up to {parameter.name} have more"])
        points = grown
    return points


def _levels(parameter: Parameter) -> list[Any]:
    if parameter.choices:
        return list(parameter.choices)
    # a whole number may have fewer than three
    return list(dict.fromkeys(parameter.at(share) for share in np.linspace(0, 1, NUM_GRID_LEVELS)))


def _active(space: Space, values: Iterable[Any]) -> dict[str, Any]:
    point = {parameter.name: value for parameter, value in zip(space, values, strict=True)}
    return active_values(space, point.__getitem__)
