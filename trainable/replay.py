"""A study's trial run again and compared with its rows."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainable.cli import EXIT_FAILED, UsageError, attempt

if TYPE_CHECKING:
    from trainable.config import TrialConfig
    from trainable.images.pool import DataSpec
    from trainable.report import Row


def _read_trial(folder: Path) -> "tuple[DataSpec, TrialConfig, list[Row], str, bool]":
    """(data, config, rows, fingerprint, on a GPU) of a trial in a study's folder.

    Raises:
        UsageError: it is no trial of a study, or files are damaged; all of them.
    """
    from trainable import objectives, records

    # the trial's own folder may not be a link
    study = records.read_study(Path(os.path.abspath(folder)).parent.parent, records.StudyOfTrial)
    problems: list[str] = []
    config = attempt(problems, records.read_config, folder)
    if config is None:
        raise UsageError(problems)
    rows = attempt(problems, records.read_rows, folder, objectives.named(config.objective), len(study.class_names))
    if not problems and not rows:
        problems.append(f"--replay {folder}: the trial has no epoch to compare with")
    if problems:
        raise UsageError(problems)
    return study.data.spec, config, rows, study.fingerprint, study.gpus > 0


class _Comparison:
    """Rows of a replay against the stored ones; without stored rows everything is the same."""

    def __init__(self, stored: "list[Row] | None", exact: bool) -> None:
        self.stored, self.exact = stored, exact
        self.difference: str | None = None
        self.largest: dict[str, float] = {}

    def same(self, row: "Row") -> bool:
        """False once an exact comparison has found a difference."""
        if self.stored is None:
            return True
        before = self.stored[row["epoch"] - 1]
        for name in sorted(set(before) | set(row)):
            # a function of the config; earlier versions wrote down where a schedule begins
            if name.endswith("_seconds") or name == "learning_rate":
                continue
            if self.exact:
                if before.get(name) != row.get(name):
                    was, now = before.get(name), row.get(name)
                    self.difference = f"epoch {row['epoch']}: {name} was {was!r}, and is {now!r} now"
                    return False
            else:
                self.largest[name] = max(self.largest.get(name, 0.0), _distance(before.get(name), row.get(name)))
        return True

    def verdict(self, num_rows: int) -> int:
        if self.stored is None:
            return 0
        if self.exact:
            if self.difference is None and num_rows < len(self.stored):
                self.difference = f"epoch {num_rows + 1}: the study has it, and the replay ended before"
            print(f"replay: {self.difference or f'{num_rows} epochs, no difference'}", file=sys.stderr)
            return EXIT_FAILED if self.difference else 0
        print("replay on a GPU, the largest difference of each field:", file=sys.stderr)
        for name, distance in self.largest.items():
            print(f"  {name}: {distance:.3g}", file=sys.stderr)
        return 0


def _distance(before: Any, now: Any) -> float:
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return max(map(_distance, before, now), default=0.0)
    if isinstance(before, int | float) and isinstance(now, int | float):
        return abs(before - now)
    return float(before != now)
