"""Images that show the same thing: they are a group, and a group stands on one side of every split."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np

from trainable.cli import UsageError
from trainable.images.listing import shortened


def by_regex(paths: Mapping[str, Sequence[str]], regex: str, say: Callable[[str], None]) -> dict[str, list[str]]:
    """The group of each image by its path: ``paths``, relative to the data folder, of those of each part.

    ``say`` gets how many groups there are, and which images are of none.

    Raises:
        UsageError: ``regex`` is no regular expression, all images are of one group, or a group stands in two parts.
    """
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UsageError([f"--group must be a regular expression, not {regex!r} ({error})"]) from error
    found, alone = {}, list[str]()
    for part in paths:
        found[part], unmatched = group_names(paths[part], pattern)
        alone += unmatched
    return _checked(f"--group {regex}", paths, found, alone, say)


def by_table(
    paths: Mapping[str, Sequence[str]], names: Mapping[str, Sequence[str]], say: Callable[[str], None]
) -> dict[str, list[str]]:
    """As ``by_regex``, of groups that a table names for all images.

    Raises:
        UsageError: all images are of one group, or a group stands in two parts.
    """
    return _checked("column group", paths, {part: list(names[part]) for part in paths}, [], say)


def _checked(
    source: str,
    paths: Mapping[str, Sequence[str]],
    found: dict[str, list[str]],
    alone: Sequence[str],
    say: Callable[[str], None],
) -> dict[str, list[str]]:
    sizes = np.unique([name for names in found.values() for name in names], return_counts=True)[1]
    if len(sizes) == 1 and "train" in paths:
        raise UsageError([f"{source}: all {sizes[0]} images are of one group, so they cannot be split"])
    if problems := [
        problem for one, other in combinations(paths, 2) for problem in _in_both(source, one, other, paths, found)
    ]:
        raise UsageError(problems)
    many = f"{sizes.min()} to {sizes.max()}" if np.ptp(sizes) else f"{sizes[0]}"
    words = f"{source}: {sizes.sum()} images are of {len(sizes)} groups of {many} images"
    if alone:
        words += f"; {len(alone)} of them are of none, and each is a group of its own ({shortened(alone)})"
    say(words)
    return found


def _in_both(
    source: str, one: str, other: str, paths: Mapping[str, Sequence[str]], found: Mapping[str, Sequence[str]]
) -> list[str]:
    """That groups stand in two folders, each of which is a side of a split."""
    places = [dict(zip(found[part], paths[part], strict=True)) for part in (one, other)]
    both = [name for name in places[0] if name in places[1]]
    if not both:
        return []
    example = f"{places[0][both[0]]}, {places[1][both[0]]}"
    return [f"{source}: {len(both)} group(s) stand in {one}/ and in {other}/ ({example}); move each to one side"]


def group_names(paths: Sequence[str], pattern: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """(the group of each image, the paths that do not match and are each a group of their own).

    The group is what the first capture group of ``pattern`` finds in the path, or all that the expression matches.
    """
    names, alone = [], []
    for path in paths:
        found = pattern.search(path)
        name = found[min(pattern.groups, 1)] if found else None
        if name is None:  # also where the capture group took no part in the match
            alone.append(path)
        names.append(f"\0{path}" if name is None else name)  # no path holds a NUL, so nobody else has this name
    return names, alone
