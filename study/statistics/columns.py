"""What a searched field looks like to a linear model: columns for the trials, and for the points along the field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.space.parameters import Parameter

Array = NDArray[np.float64]

DEGREE = 2  # of a number's polynomial: a slope and a bend; a third degree doubles the upper ends
NUM_POINTS = 41  # along a range


@dataclass(frozen=True)
class Block:
    """A knob's share of the design: its columns at the points along it, and for the trials."""

    parameter: Parameter
    points: tuple[Any, ...]  # (P,)
    basis: Array  # (P, C), of mean 0
    columns: Array  # (N, C), 0 where the knob is not active


def columns_of(parameter: Parameter, trials: Sequence[Mapping[str, Any]]) -> Block:
    """The columns of ``parameter`` for N trials, of which each gives the values of the fields that mattered to it."""
    active = [values[parameter.name] for values in trials if parameter.name in values]
    distinct = set(active)
    if parameter.choices:
        points: tuple[Any, ...] = tuple(choice for choice in parameter.choices if choice in distinct)
    else:
        points = _points(parameter)
    degree = min(DEGREE, len(distinct) - 1)
    basis = _raw_columns(parameter, points, points, degree)
    centre = basis.mean(axis=0) if len(points) else np.zeros(basis.shape[1])
    columns = np.zeros((len(trials), basis.shape[1]))
    is_active = [parameter.name in values for values in trials]
    columns[is_active] = _raw_columns(parameter, active, points, degree) - centre
    return Block(parameter, points, basis - centre, columns)


def _raw_columns(parameter: Parameter, values: Sequence[Any], points: Sequence[Any], degree: int) -> Array:
    """(N, C): an indicator for each choice but the last, or Legendre polynomials on the knob's own scale."""
    if parameter.choices:
        return np.array([[value == point for point in points[:-1]] for value in values], float).reshape(
            len(values), max(len(points) - 1, 0)
        )
    low, high = (float(_scaled(parameter, bound)) for bound in (parameter.low, parameter.high))
    unit = 2 * (_scaled(parameter, values) - low) / (high - low) - 1
    return np.asarray(np.polynomial.legendre.legvander(unit, max(degree, 0))[:, 1:], np.float64)


def _scaled(parameter: Parameter, values: Any) -> Array:
    scaled = np.asarray(values, float)
    return np.log(scaled) if parameter.log else scaled


def _points(parameter: Parameter) -> tuple[Any, ...]:
    """From low to high, evenly on the knob's own scale; whole numbers where only those are possible."""
    assert parameter.low is not None
    assert parameter.high is not None
    space = np.geomspace if parameter.log else np.linspace
    points = space(parameter.low, parameter.high, NUM_POINTS)
    if parameter.is_int:
        return tuple(int(point) for point in np.unique(points.round()))
    return tuple(points.tolist())
