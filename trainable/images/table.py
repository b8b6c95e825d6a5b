"""Images by a table: ``path,label[,split][,group]``, a row for each image."""

import os
import stat
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from trainable.cli import UsageError
from trainable.images.globs import ALL, Globs
from trainable.images.listing import Listing, normal, shortened
from trainable.images.parts import PART_NAMES, part_of

NEEDED, COLUMNS = ("path", "label"), ("path", "label", "split", "group")
PARQUET = (".parquet", ".pq")


def read_table(table: Path, data: Path, globs: Globs = ALL) -> dict[str, Listing]:
    """The images of each part that occurs in the column "split"; where there is none, all are for training.

    Paths are relative to the folder ``data``. Rows whose path the globs leave out are passed over. No image is opened.
    The images of a class are sorted by their paths, whatever the order of the rows.

    Raises:
        UsageError: the table cannot be read, or does not make sense; a sentence for each kind of mistake.
    """
    columns = read_columns(table, "--labels")
    problems = _column_problems(list(columns))
    columns = {name: columns[name] for name in COLUMNS if name in columns}
    num_rows = max(map(len, columns.values()), default=0)
    paths = columns.get("path", [])
    rows = [row for row in range(num_rows) if not paths or globs.take(paths[row])]
    cells = {name: [values[row] for row in rows] for name, values in columns.items()}
    if not rows and not problems:
        problems.append("holds no row" + (" that --include and --exclude leave" if num_rows else ""))
    problems += _cell_problems(cells, rows)
    parts = [part_of(split) for split in cells["split"]] if "split" in cells else ["train"] * len(rows)
    files = _Files(data, cells.get("path", []))
    problems += files.problems
    if rows and "train" not in parts:
        problems.append("no row's split is train, so there is nothing to train on")
    if problems:
        raise UsageError([f"--labels {table}: {problem}" for problem in problems])
    members = {part: [row for row, found in enumerate(parts) if found == part] for part in PART_NAMES}
    listings = {part: _listing(data, files.stamps, cells, found) for part, found in members.items() if found}
    return listings | {"train": replace(listings["train"], num_left_out=num_rows - len(rows))}


def read_columns(table: Path, flag: str) -> dict[str, list[str]]:
    """All columns, their cells as texts; what is empty is "". ``flag`` is the one that names the file.

    Raises:
        UsageError: the file cannot be read as a table.
    """
    import pandas as pd  # half a second

    is_parquet = table.suffix.lower() in PARQUET
    if is_parquet and find_spec("pyarrow") is None:
        raise UsageError([f"{flag} {table}: a Parquet file needs pyarrow, which is not installed; a CSV does not"])
    try:
        if not stat.S_ISREG(os.stat(table).st_mode):
            raise ValueError("it is no plain file")
        if is_parquet:
            frame = pd.read_parquet(table)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a row with too many cells would lose some
                frame = pd.read_csv(
                    table, dtype=str, na_filter=False, index_col=False, skipinitialspace=True, encoding="utf-8-sig"
                )
    except UnicodeDecodeError as error:
        raise UsageError([f"{flag} {table}: is not in UTF-8 (byte {error.start})"]) from error
    except (OSError, ValueError, Warning) as error:  # pandas' and Arrow's errors are kinds of ValueError
        reason = (getattr(error, "strerror", None) or str(error) or "empty").strip().splitlines()[0]
        raise UsageError([f"{flag} {table}: cannot be read as a table ({reason})"]) from error
    names = [str(name).strip() for name in frame.columns]
    if again := [name for name, times in Counter(names).items() if times > 1]:
        raise UsageError([f"{flag} {table}: has two columns {', '.join(again)}"])
    frame = frame.astype(object).where(frame.notna(), "")
    return {
        name: [str(cell) if name == "path" else normal(str(cell).strip()) for cell in frame.iloc[:, place]]
        for place, name in enumerate(names)
    }


def _column_problems(names: Sequence[str]) -> list[str]:
    missing = [name for name in NEEDED if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    rule = "the columns are path and label, and, if wanted, split and group"
    return [
        *([f"has no column {' and no column '.join(missing)}; {rule}"] if missing else []),
        *([f"has {len(unknown)} unknown column(s): {shortened(unknown, 5)}; {rule}"] if unknown else []),
    ]


def _cell_problems(cells: dict[str, list[str]], rows: Sequence[int]) -> list[str]:
    """What is wrong with the cells by themselves; ``rows`` are their places in the table, from 0."""
    problems = []
    for name, values in cells.items():
        empty = [f"row {rows[index] + 1}" for index, value in enumerate(values) if not value]
        if empty:
            problems.append(f"{len(empty)} row(s) have no {name} ({shortened(empty)}, counted below the header)")
    unknown = [
        f"row {rows[index] + 1}: {split}"
        for index, split in enumerate(cells.get("split", []))
        if split and part_of(split) is None
    ]
    if unknown:
        known = ", ".join(name for names in PART_NAMES.values() for name in names)
        problems.append(f"{len(unknown)} row(s) have an unknown split ({shortened(unknown)}); known are {known}")
    return problems


class _Files:
    """The files that the paths name, and what is wrong with them."""

    def __init__(self, data: Path, paths: Sequence[str]) -> None:
        self.stamps: list[tuple[str, int, int]] = []
        self._root = os.path.realpath(data)
        self._folders: dict[str, str] = {}  # the real one of each that a path has named
        missing: list[str] = []
        outside: list[str] = []
        again: list[str] = []
        first: dict[str, str] = {}
        for path in filter(None, paths):
            try:
                real, found = self._real(path)
                if found is None:
                    outside.append(path)
                    continue
                if not stat.S_ISREG(found.st_mode):
                    raise FileNotFoundError
            except (OSError, ValueError):  # not there, not to be reached, or a name that none can have
                missing.append(path)
                continue
            if real in first:
                again.append(path if path == first[real] else f"{path} is {first[real]}")
            first.setdefault(real, path)
            name = real[len(self._root) + 1 :] if ".." in path else os.path.normpath(path)
            self.stamps.append((name, found.st_size, found.st_mtime_ns))
        self.problems = [
            f"{len(found)} {words} ({shortened(found)})"
            for found, words in [
                (missing, f"row(s) name files that are not in {data}"),
                (outside, f"row(s) have a path that leads out of {data} or is not relative to it"),
                (again, "row(s) name a file that another row names"),
            ]
            if found
        ]

    def _real(self, path: str) -> tuple[str, os.stat_result | None]:
        """Where the file lies after all links, and its stat; None where that is outside."""
        whole = os.path.join(self._root, path)
        folder, name = os.path.split(whole)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._folders[folder], name)
        if os.path.isabs(path) or not self._is_inside(real):
            return real, None
        found = os.lstat(real)
        if stat.S_ISLNK(found.st_mode):
            real = os.path.realpath(real)
            if not self._is_inside(real):
                return real, None
            found = os.stat(real)
        return real, found

    def _is_inside(self, real: str) -> bool:
        return real.startswith(self._root + os.sep) and os.path.basename(real) not in ("..", ".")


def _listing(
    data: Path, stamps: Sequence[tuple[str, int, int]], cells: dict[str, list[str]], rows: Sequence[int]
) -> Listing:
    labels = cells["label"]
    rows = sorted(rows, key=lambda row: (labels[row], stamps[row][0]))
    class_names = sorted({labels[row] for row in rows})
    place = {name: label for label, name in enumerate(class_names)}
    return Listing(
        data,
        "",
        tuple(class_names),
        [stamps[row][0] for row in rows],
        np.array([place[labels[row]] for row in rows], np.int64),
        [stamps[row] for row in rows],
        [],
        groups=[cells["group"][row] for row in rows] if "group" in cells else None,
    )
