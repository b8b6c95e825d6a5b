"""Whole groups of images are drawn, so that each class comes as near as it can to the number that is asked for."""

from collections.abc import Sequence

import numpy as np

from trainable.streams import derive

ROUNDING = 1e-12  # of a sum of shares; what is smaller could change sides for ever
MOST_PAIRS = 40_000  # of groups that are tried to change sides together


def numbered(names: Sequence[str] | Sequence[int]) -> np.ndarray:
    """int64 (n,): equal numbers for equal names, from 0 in the order in which they first come."""
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def num_groups(groups: np.ndarray) -> int:
    return len(np.unique(groups))


def are_alone(groups: np.ndarray) -> bool:
    """Whether each image is a group of its own."""
    return num_groups(groups) == len(groups)


def draw_groups(
    labels: np.ndarray, groups: np.ndarray, num_drawn: Sequence[float], purpose: str, seed: int
) -> np.ndarray:
    """Positions in ``labels``, ascending: whole groups, with about ``num_drawn[c]`` images of each class c.

    Large groups first, in random order among equals: each goes to the side that is behind its share (as in
    scikit-learn's StratifiedGroupKFold), where each class begins with a random lead, so that also the largest group
    may come to lie on either side. Then groups change sides as long as that brings the classes nearer to their numbers.
    Classes count by shares: a hundredth of a rare class is as much as one of a frequent one.
    """
    num_classes = len(num_drawn)
    if not any(num_drawn):
        return np.array([], np.int64)
    generator = np.random.Generator(np.random.PCG64(derive(purpose, seed, num_classes)))  # classes have those below
    totals = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    members = _members(labels, groups, num_classes)
    weights, shares = (totals**-2.0).tolist(), (np.asarray(num_drawn) / totals).tolist()
    order = generator.permutation(len(members)).tolist()
    largest = np.zeros(num_classes)
    for group in members:
        for label, number in group:
            largest[label] = max(largest[label], number)
    excess = [
        float(lead) if 0 < share < 1 else 0.0
        for lead, share in zip((generator.random(num_classes) - 0.5) * largest, shares, strict=True)
    ]
    is_drawn = [False] * len(members)
    reach = [sum(weights[label] * number**2 for label, number in group) for group in members]
    for index in sorted(order, key=lambda index: -reach[index]):
        group = members[index]
        # how much further from the shares drawing it would bring the classes, in squares, than leaving it
        change = sum(weights[c] * n * (2 * excess[c] + (1 - 2 * shares[c]) * n) for c, n in group)
        is_drawn[index] = change < 0
        for label, number in group:
            excess[label] += (is_drawn[index] - shares[label]) * number
    _repair(members, order, is_drawn, num_drawn, weights)
    return np.flatnonzero(np.array(is_drawn)[np.unique(groups, return_inverse=True)[1]])


def _members(labels: np.ndarray, groups: np.ndarray, num_classes: int) -> list[list[tuple[int, int]]]:
    """Of each group, in ascending order of their numbers: its classes and its images of each."""
    numbers = np.unique(groups, return_inverse=True)[1]
    pairs, counts = np.unique(numbers * num_classes + labels, return_counts=True)
    members: list[list[tuple[int, int]]] = [[] for _ in range(int(numbers.max(initial=-1)) + 1)]
    for pair, number in zip(pairs.tolist(), counts.tolist(), strict=True):
        members[pair // num_classes].append((pair % num_classes, number))
    return members


def _repair(
    members: list[list[tuple[int, int]]],
    order: Sequence[int],
    is_drawn: list[bool],
    num_drawn: Sequence[float],
    weights: Sequence[float],
) -> None:
    """Lets groups change sides, in ``order``, one or two at a time, until that brings no class nearer to ``num_drawn``.

    Two at a time where they are few: of many, one is small enough. Groups with more images of a class than are wanted
    of it do not move in pairs: sets without them are always nearer, and they would never be drawn.
    """
    excess = [-float(number) for number in num_drawn]
    for group, drawn in zip(members, is_drawn, strict=True):
        for label, number in group:
            excess[label] += drawn * number

    def change(index: int) -> float:
        """Of the classes' squared distances from their numbers, if the group changed sides."""
        sign = -1 if is_drawn[index] else 1
        return sum(weights[c] * n * (2 * sign * excess[c] + n) for c, n in members[index])

    def flip(index: int) -> None:
        for label, number in members[index]:
            excess[label] += -number if is_drawn[index] else number
        is_drawn[index] = not is_drawn[index]

    movable = [index for index in order if all(n <= num_drawn[c] for c, n in members[index])]

    def flip_two() -> bool:
        for one in movable[: MOST_PAIRS // len(order)]:
            first = change(one)
            flip(one)
            for other in movable:
                if other != one and first + change(other) < -ROUNDING:
                    flip(other)
                    return True
            flip(one)
        return False

    changed = True
    while changed:
        changed = False
        for index in order:
            if change(index) < -ROUNDING:
                flip(index)
                changed = True
        changed = changed or flip_two()
