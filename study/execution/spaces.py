"""A study's search space: the one asked for, the one that it began with, or the default, and why."""

import argparse

from study.record.formats import Study
from study.record.recipes import COURSE
from study.space import parameters
from study.space.designs import grid
from study.space.parameters import Space
from trainable.images.origins import origin


def read(arguments: argparse.Namespace, before: Study | None) -> Space:
    """What ``--space`` names; where it is not given that of the study ``before``, whatever the default was then.

    Raises:
        UsageError: it cannot be read, or has no grid where one is asked for.
    """
    if arguments.space is None and before and before.space:
        space = before.searched
    else:
        space = parameters.load(arguments.space or parameters.SPACES[origin(arguments.data).space])
    if arguments.algorithm == "grid":
        grid(space)
    return space


def reason(arguments: argparse.Namespace, before: Study | None) -> str:
    """Which space it is and why, to be read after "space: "."""
    if arguments.space is not None:
        return str(arguments.space)
    if before:
        return "the one that the study began with"
    name = origin(arguments.data).space
    if name == parameters.COURSE_SPACE.stem:
        return f"{name} (default for {arguments.data})"
    return f"{name} (default for image folders and cifar10; --space course for the course's five knobs)"


def grid_warnings(space: Space, num_trials: int) -> list[str]:
    num_points, num_asked = len(grid(space)), max(0, num_trials - len(COURSE))
    if num_asked == num_points:
        return []
    reached = (
        "all of them are tried, and no more trials" if num_asked > num_points else f"{num_asked} of them are tried"
    )
    return [f"note: the grid has {num_points} points; {reached}"]
