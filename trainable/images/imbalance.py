"""The imbalance that is made of the training images: how many of each class are kept."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from trainable.cli import MOST, UsageError
from trainable.images.listing import MAX_TOLD, normal, shortened
from trainable.images.pool import DataSpec
from trainable.images.table import read_columns

COLUMNS = ("class", "count")
ROUNDING = 1e-9  # of an image: 50 may come out as a little less


def kept(spec: DataSpec, class_names: Sequence[str], counts: Sequence[int]) -> list[int]:
    """How many of ``counts`` training images of each class a settled spec leaves, where each image is on its own."""
    if spec.train_counts:
        asked = dict(spec.train_counts)
        return [min(n, asked.get(_plain(name), n)) for name, n in zip(class_names, counts, strict=True)]
    if spec.longtail_ratio is not None:
        tail = long_tail(max(counts), len(counts), spec.longtail_ratio)
        return [min(pair) for pair in zip(counts, tail, strict=True)]
    assert spec.keep is not None
    assert spec.minority is not None
    pairs = zip(class_names, counts, strict=True)
    return [round(spec.keep * n) if name in spec.minority else n for name, n in pairs]


def long_tail(largest: int, num_classes: int, ratio: float) -> list[int]:
    """Counts that fall by the same factor from class to class, from ``largest`` to ``largest / ratio``, rounded down.

    Cao et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", section 4.1; the first
    class is the most frequent, as in the authors' code.
    """
    return [int(largest * ratio ** (-label / (num_classes - 1)) + ROUNDING) for label in range(num_classes)]


def read_counts(path: Path) -> tuple[tuple[str, int], ...]:
    """(class, count) of each row of a table with these two columns, sorted by class.

    Raises:
        UsageError: the table cannot be read, or does not make sense; a sentence for each mistake.
    """
    columns = read_columns(path, "--imbalance")
    if sorted(columns) != sorted(COLUMNS):
        found = shortened(list(columns), 5) or "none"
        raise UsageError([f"--imbalance {path}: its columns must be {' and '.join(COLUMNS)}, not {found}"])
    names, texts = ([*columns[column]] for column in COLUMNS)
    problems = [] if names else ["holds no row"]
    problems += [f"row {row} names no class" for row, name in enumerate(names, 1) if not name]
    problems += [f"class {name}: has {times} rows" for name, times in Counter(names).items() if name and times > 1]
    for name, text in zip(names, texts, strict=True):
        if not (text.isascii() and text.isdigit() and 2 <= int(text[:9]) <= MOST):
            problems.append(f"class {name}: count must be a whole number from 2 to {MOST}, not {text[:40]!r}")
    if problems:
        raise UsageError([f"--imbalance {path}: {problem}" for problem in problems])
    return tuple(sorted((name, int(text)) for name, text in zip(names, texts, strict=True)))


def count_problems(spec: DataSpec, class_names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """What of the counts that are asked for these images cannot give: a class or so many of it, a sentence each."""
    there = {_plain(name): n for name, n in zip(class_names, counts, strict=True)}
    unknown = [name for name, _ in spec.train_counts if name not in there]
    few = [(name, n) for name, n in spec.train_counts if n > there.get(name, n)]
    known = f"the classes are {shortened(class_names, MAX_TOLD)}"
    return [
        *([f"--imbalance: no class {', '.join(unknown)}; {known}"] if unknown else []),
        *(f"--imbalance: class {name}: {n} training images asked for, and there are {there[name]}" for name, n in few),
    ]


def _plain(name: str) -> str:
    """A class's name as it stands in a table's cell."""
    return normal(name).strip()
