"""Points of the space chosen in advance, whatever the outcomes: a scrambled Sobol sequence, and a grid."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.stats import qmc

from study.space.parameters import Parameter, Space, active_values

NUM_GRID_LEVELS = 3  # of a range: both ends and the middle


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
    """All points of the grid, each once."""
    levels = [_levels(parameter) for parameter in space]
    points = (_active(space, values) for values in itertools.product(*levels))
    return list({repr(point): point for point in points}.values())


def _levels(parameter: Parameter) -> list[Any]:
    if parameter.choices:
        return list(parameter.choices)
    # a whole number may have fewer than three
    return list(dict.fromkeys(parameter.at(share) for share in np.linspace(0, 1, NUM_GRID_LEVELS)))


def _active(space: Space, values: Iterable[Any]) -> dict[str, Any]:
    point = {parameter.name: value for parameter, value in zip(space, values, strict=True)}
    return active_values(space, point.__getitem__)
