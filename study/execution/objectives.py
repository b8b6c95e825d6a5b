"""A study's objective: one of those that have a name, or a table of what each mistake costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from study.record.formats import Study
from trainable import costs
from trainable.cli import UsageError, shown
from trainable.config import OBJECTIVES, TrialConfig
from trainable.images.table import read_columns

FLAG, TRUE_CLASS = "--objective", "true_class"


@dataclass(frozen=True)
class Named:
    name: str

    def text(self, class_names: Sequence[str]) -> str:
        """As a trial's config has it."""
        return self.name


@dataclass(frozen=True)
class CostTable:
    """What it costs to take an image of one class (outer key) for one of another (inner key)."""

    path: Path
    cells: dict[str, dict[str, float]]

    def text(self, class_names: Sequence[str]) -> str:
        """The costs in the order of the study's classes, as a trial's config has them.

        Raises:
            UsageError: they are not of these classes.
        """
        if set(self.cells) != set(class_names):
            theirs, ours = (", ".join(sorted(names)) for names in (self.cells, class_names))
            raise UsageError([f"{FLAG} {self.path}: must be about the classes {ours:.200}, not {theirs:.200}"])
        return costs.text_of([[self.cells[one][other] for other in class_names] for one in class_names])


def read(asked: Path | None, before: Study | None) -> Named | CostTable:
    """What ``--objective`` asks for; where it is not given, that of the study ``before``, which goes on.

    Raises:
        UsageError: there is neither; or the table breaks a rule.
    """
    if asked is None:
        return Named(before.objective if before else TrialConfig.objective)
    if str(asked) in OBJECTIVES:
        return Named(str(asked))
    if not asked.exists():
        raise UsageError([f"{FLAG} must be {', '.join(OBJECTIVES)} or a table's file, not {shown(str(asked))}"])
    columns = read_columns(asked, FLAG)
    rows, names = columns.pop(TRUE_CLASS, []), list(columns)
    if sorted(rows) != sorted(names):
        rule = f"a column {TRUE_CLASS} with each class once, and a column for each of these classes"
        raise UsageError([f"{FLAG} {asked}: must have {rule}, not the columns {', '.join(names):.200}"])
    try:
        cells = {one: {name: _number(columns[name][row]) for name in names} for row, one in enumerate(rows)}
        costs.check(tuple(tuple(cells[one].values()) for one in names))
    except ValueError as error:
        raise UsageError([f"{FLAG} {asked}: {error}"]) from error
    return CostTable(asked, cells)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"must have {costs.RULE}, not {shown(cell)}") from None
