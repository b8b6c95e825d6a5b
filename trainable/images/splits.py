"""Which images are for what: test images set aside, validation drawn, the minority cut."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainable.cli import printable
from trainable.images.pool import Pool, class_counts
from trainable.streams import derive

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Split:
    """Positions in the pool's images, int64, ascending. ``audit`` is what the cut removed."""

    train: np.ndarray
    val: np.ndarray
    audit: np.ndarray


def _set_aside(labels: np.ndarray, seed: int) -> np.ndarray:
    """The test images where the source brings none: positions in ``labels``, ascending."""
    return _stratified(labels, [round(TEST_FRACTION * n) for n in np.bincount(labels)], "test_split", seed)


def split(pool: Pool, split_seed: int, cut_seed: int) -> Split:
    """Draws validation, stratified, from the pool (unless the source brought its own), then cuts the minority."""
    assert pool.spec.val_fraction is not None
    assert pool.spec.keep is not None
    first_own_val = len(pool.labels) - pool.num_own_val
    if pool.num_own_val:
        val = np.arange(first_own_val, len(pool.labels))
    else:
        counts = np.bincount(pool.labels, minlength=len(pool.class_names))
        num_val = [round(pool.spec.val_fraction * n) for n in counts]
        val = _stratified(pool.labels, num_val, "validation_split", split_seed)
    rest = np.setdiff1d(np.arange(first_own_val), val)
    counts = np.bincount(pool.labels[rest], minlength=len(pool.class_names))
    num_removed = [n - round(pool.spec.keep * n) if c in pool.minority else 0 for c, n in enumerate(counts)]
    audit = rest[_stratified(pool.labels[rest], num_removed, "cut", cut_seed)]
    return Split(train=np.setdiff1d(rest, audit), val=val, audit=audit)


def _stratified(labels: np.ndarray, num_drawn: Sequence[int], purpose: str, seed: int) -> np.ndarray:
    """Positions in ``labels``, ascending: ``num_drawn[c]`` of class c, each class from a stream of its own."""
    drawn = []
    for label, number in enumerate(num_drawn):
        members = np.flatnonzero(labels == label)
        generator = np.random.Generator(np.random.PCG64(derive(purpose, seed, label)))
        drawn.append(generator.permutation(members)[:number])
    return np.sort(np.concatenate(drawn))


def check_split(pool: Pool, drawn: Split) -> tuple[list[str], list[str]]:
    """(problems, warnings): classes with too few images to train on or to be judged by."""
    problems, warnings = [], []
    train, val = class_counts(pool, drawn.train), class_counts(pool, drawn.val)
    for name, num_train, num_val in zip(pool.class_names, train, val, strict=True):
        if num_train < 2:
            problems.append(f"class {name}: {num_train} training image(s) left, at least 2 are needed")
        if num_val < 5:
            problems.append(f"class {name}: {num_val} validation image(s), at least 5 are needed")
    few = [f"{printable(pool.class_names[c])} {val[c]}" for c in pool.minority if 5 <= val[c] < 25]
    if few:
        warnings.append(f"fewer than 25 validation images ({', '.join(few)}): scores of these classes will be rough")
    return problems, warnings


def count_lines(pool: Pool, drawn: Split) -> list[str]:
    """The class counts of every split as lines of a table; minority classes are starred."""
    columns = {
        "train": class_counts(pool, drawn.train),
        "val": class_counts(pool, drawn.val),
        "test": list(pool.test_counts) if pool.test_counts is not None else None,
        "cut off": class_counts(pool, drawn.audit),
    }
    names = [printable(name) for name in pool.class_names]
    width = max(len("class"), *(len(name) + 1 for name in names))
    lines = ["  ".join([f"{'class':<{width}}", *(f"{name:>7}" for name in columns)])]
    for index, name in enumerate(names):
        starred = f"{name}*" if index in pool.minority else name
        cells = [f"{column[index]:7d}" if column is not None else f"{'-':>7}" for column in columns.values()]
        lines.append("  ".join([f"{starred:<{width}}", *cells]))
    totals = [f"{sum(column):7d}" if column is not None else f"{'-':>7}" for column in columns.values()]
    return [*lines, "  ".join([f"{'all':<{width}}", *totals])]
