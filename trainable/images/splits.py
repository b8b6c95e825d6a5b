"""Which images are for what: test images set aside, validation drawn, training images cut."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from trainable.cli import printable
from trainable.images.drawing import draw_groups, num_groups
from trainable.images.imbalance import kept
from trainable.images.pool import Pool, class_counts
from trainable.streams import derive

TEST_FRACTION = 0.2
WAY_OUT = "a class with too few images can be left out (--exclude, or its rows of the table) or joined to a like one"


@dataclass(frozen=True)
class Split:
    """Positions in the pool's images, int64, ascending. ``audit`` is what the cut removed.

    With folds it is several: each image is for validation in one of them. ``val`` is then all images, those of the
    first fold before those of the second.
    """

    train: np.ndarray
    val: np.ndarray
    audit: np.ndarray
    folds: "tuple[Split, ...]" = ()  # with --folds: then train and audit are the first one's, and val is in its order

    @property
    def parts(self) -> "tuple[Split, ...]":
        """One for each network that a trial trains."""
        return self.folds or (self,)


def _together(parts: "Sequence[Split]") -> Split:
    return replace(parts[0], val=np.concatenate([part.val for part in parts]), folds=tuple(parts))


def _set_aside(labels: np.ndarray, seed: int, groups: np.ndarray | None) -> np.ndarray:
    """The test images where the source brings none: positions in ``labels``, ascending."""
    num_test = _shares(np.bincount(labels).tolist(), TEST_FRACTION)
    return _stratified(labels, groups, num_test, "test_split", seed)


def num_left(counts: Sequence[int], fraction: float) -> list[int]:
    """How many images of each class are left where that fraction is drawn, each image on its own."""
    return [n - drawn for n, drawn in zip(counts, _shares(counts, fraction), strict=True)]


def _shares(counts: Sequence[int], fraction: float) -> list[int]:
    return [round(fraction * n) for n in counts]


def split(pool: Pool, split_seed: int, cut_seed: int) -> Split:
    """Draws validation, stratified, from the pool (unless the source brought its own), then makes the imbalance.

    Where the pool has groups they are drawn, and cut, whole: other classes' images in a group that is cut go with it.
    """
    if pool.spec.folds:
        return _together([_cut(pool, val, cut_seed) for val in _folds(pool, split_seed)])
    assert pool.spec.val_fraction is not None
    if pool.num_own_val:
        val = np.arange(len(pool.labels) - pool.num_own_val, len(pool.labels))
    else:
        counts = np.bincount(pool.labels, minlength=len(pool.class_names))
        num_val = _shares(counts.tolist(), pool.spec.val_fraction)
        val = _stratified(pool.labels, pool.groups, num_val, "validation_split", split_seed)
    return _cut(pool, val, cut_seed)


def _folds(pool: Pool, seed: int) -> list[np.ndarray]:
    """The pool's images in as many parts as it is to have folds, stratified, groups whole: positions, ascending.

    The parts are as scikit-learn's ``StratifiedKFold``: of each class, and in all, they differ by an image at most.
    With groups that is what they come as near to as groups allow.
    """
    parts, rest = [], np.arange(len(pool.labels))
    for num_parts in range(pool.spec.folds, 1, -1):
        labels, groups = pool.labels[rest], None if pool.groups is None else pool.groups[rest]
        wanted = np.bincount(np.sort(labels)[::num_parts], minlength=len(pool.class_names)).tolist()
        drawn = rest[_stratified(labels, groups, wanted, "folds", derive("folds", seed, num_parts))]
        parts.append(drawn)
        rest = np.setdiff1d(rest, drawn)
    return [*parts, rest]


def _cut(pool: Pool, val: np.ndarray, cut_seed: int) -> Split:
    """What the imbalance leaves of the images that are not for validation, ``val``."""
    rest = np.setdiff1d(np.arange(len(pool.labels)), val)
    counts = np.bincount(pool.labels[rest], minlength=len(pool.class_names))
    num_kept = kept(pool.spec, pool.class_names, counts.tolist())
    num_removed = [n - number for n, number in zip(counts.tolist(), num_kept, strict=True)]
    groups = None if pool.groups is None else pool.groups[rest]
    audit = rest[_stratified(pool.labels[rest], groups, num_removed, "cut", cut_seed)]
    return Split(train=np.setdiff1d(rest, audit), val=val, audit=audit)


def subset(pool: Pool, drawn: Split, share: float, seed: int) -> Split:
    """``drawn`` with that share of each class's training images, at least two; whole groups where the pool has some."""
    if drawn.folds:
        return _together([subset(pool, part, share, seed) for part in drawn.folds])
    labels, groups = pool.labels[drawn.train], None if pool.groups is None else pool.groups[drawn.train]
    counts = np.bincount(labels, minlength=len(pool.class_names)).tolist()
    number = [min(count, max(2, round(share * count))) for count in counts]
    return replace(drawn, train=drawn.train[_stratified(labels, groups, number, "learning_curve", seed)])


def _stratified(
    labels: np.ndarray, groups: np.ndarray | None, num_drawn: Sequence[int], purpose: str, seed: int
) -> np.ndarray:
    """Positions in ``labels``, ascending: ``num_drawn[c]`` of class c, each class from a stream of its own.

    With ``groups`` whole ones, and so many as nearly as they allow.
    """
    if groups is not None:
        return draw_groups(labels, groups, num_drawn, purpose, seed)
    drawn = []
    for label, number in enumerate(num_drawn):
        members = np.flatnonzero(labels == label)
        generator = np.random.Generator(np.random.PCG64(derive(purpose, seed, label)))
        drawn.append(generator.permutation(members)[:number])
    return np.sort(np.concatenate(drawn))


def part_counts(pool: Pool, drawn: Split) -> dict[str, list[int]]:
    """Images of each class that are for training ("train"), for validation ("val") and cut off ("audit").

    With folds those in training and cut off are the mean over the networks, rounded; all images are for validation.
    """

    def mean(each: list[np.ndarray]) -> list[int]:
        return [round(fmean(counts)) for counts in zip(*(class_counts(pool, own) for own in each), strict=True)]

    train, audit = ([getattr(part, name) for part in drawn.parts] for name in ("train", "audit"))
    return {"train": mean(train), "val": class_counts(pool, drawn.val), "audit": mean(audit)}


def check_split(pool: Pool, drawn: Split) -> tuple[list[str], list[str]]:
    """(problems, warnings): classes with too few images to train on or to be judged by."""
    problems, warnings = [], []
    train = [min(counts) for counts in zip(*(class_counts(pool, part.train) for part in drawn.parts), strict=True)]
    val = class_counts(pool, drawn.val)
    if drawn.folds and pool.num_own_val:
        problems.append(f"--folds {len(drawn.folds)}: must be left out where images come with a val/ of their own")
    if not all(len(part.val) for part in drawn.parts):
        problems.append(f"--folds {len(drawn.folds)}: too many for these images, as one of them would hold none")
    for label, name in enumerate(pool.class_names):
        why = ""
        if pool.groups is not None:
            why = f" (its images are of {_num_groups(pool, label)} group(s), and a group stands on one side)"
        if train[label] < 2:
            problems.append(f"class {name}: {train[label]} training image(s) left, at least 2 are needed{why}")
        if val[label] < 5:
            problems.append(f"class {name}: {val[label]} validation image(s), at least 5 are needed{why}")
    if problems and not pool.spec.is_cut:
        problems.append(WAY_OUT)
    unit, known = "validation images", val
    if pool.groups is not None:  # images of one group say little more than one of them
        unit, known = "groups in validation", [_num_groups(pool, label, drawn.val) for label in range(len(val))]
    few = [f"{printable(pool.class_names[c])} {known[c]}" for c in pool.minority if val[c] >= 5 and known[c] < 25]
    if few:
        warning = f"fewer than 25 {unit} ({', '.join(few)}): scores of these classes will be rough"
        if not drawn.folds and not pool.num_own_val:
            warning += "; with --folds 5 every image is for validation once, which takes five times as long"
        warnings.append(warning)
    return problems, warnings


def _num_groups(pool: Pool, label: int, positions: np.ndarray | None = None) -> int:
    """How many groups a class has, in all or among ``positions``."""
    assert pool.groups is not None
    here = slice(None) if positions is None else positions
    return num_groups(pool.groups[here][pool.labels[here] == label])


def count_lines(pool: Pool, drawn: Split) -> list[str]:
    """The class counts of every split as lines of a table; minority classes are starred."""
    counts = part_counts(pool, drawn)
    columns = {
        "train": counts["train"],
        "val": counts["val"],
        "test": list(pool.test_counts) if pool.test_counts is not None else None,
        "cut off": counts["audit"],
    }
    names = [printable(name) for name in pool.class_names]
    width = max(len("class"), *(len(name) + 1 for name in names))

    def line(name: str, values: Sequence[int | str | None]) -> str:
        return "  ".join([f"{name:<{width}}", *(f"{'-' if value is None else value:>7}" for value in values)])

    lines = [line("class", list(columns))]
    for index, name in enumerate(names):
        starred = f"{name}*" if index in pool.minority else name
        lines.append(line(starred, [column[index] if column is not None else None for column in columns.values()]))
    lines.append(line("all", [sum(column) if column is not None else None for column in columns.values()]))
    if drawn.folds:
        number, mean = len(drawn.folds), "train and cut off are their mean"
        lines.append(f"{number} folds: a trial trains {number} networks, each judged by the images of one; {mean}")
    if pool.groups is not None:
        each = [[num_groups(pool.groups[own]) for own in (part.train, part.audit)] for part in drawn.parts]
        train, audit = (round(fmean(numbers)) for numbers in zip(*each, strict=True))
        lines.append(line("groups", [train, num_groups(pool.groups[drawn.val]), pool.test_groups, audit]))
    return lines
