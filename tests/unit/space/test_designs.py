"""The grid against a second way to make it: all combinations of all levels, without those that look the same."""

import itertools

import numpy as np
import pytest

from study.space import designs, parameters

CONDITIONAL = {
    "sampler": {"choices": ["shuffle", "weighted", "progressive"]},
    "sampler_power": {"low": 0.5, "high": 1.0},
    "resample_from": {"choices": [0.0, 0.5]},
    "batch_size": {"low": 8, "high": 9},
    "dropout": {"low": 0.0, "high": 0.5, "when": {"batch_size": 8}},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True, "when": {"sampler": ["weighted", "shuffle"]}},
}


def levels(parameter):
    if parameter.choices:
        return parameter.choices
    return list(dict.fromkeys(parameter.at(share) for share in np.linspace(0, 1, 3)))


@pytest.mark.parametrize("tables", [None, CONDITIONAL])
def test_the_grid_is_all_combinations_each_once_in_the_order_of_the_fields(tables):
    space = parameters.from_tables(tables, {}, "x") if tables else parameters.load(parameters.COURSE_SPACE)
    expected = {}
    for values in itertools.product(*map(levels, space)):
        chosen = dict(zip([parameter.name for parameter in space], values, strict=True))
        point = parameters.active_values(space, chosen.__getitem__)
        expected.setdefault(repr(point), point)
    assert designs.grid(space) == list(expected.values())
    assert len(expected) == (432 if tables is None else 92)
