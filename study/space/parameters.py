"""The search space as data: a TOML file of ranges, choices and conditions over fields of the trial's config."""

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainable.cli import UsageError, printable, shown
from trainable.config import FIELDS
from trainable.files import check_plain

SPACES = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}  # by name
COURSE_SPACE = SPACES["course"]
ALGORITHMS = ("tpe", "random", "sobol", "grid")  # the ways to search it, see searcher.py


@dataclass(frozen=True)
class Parameter:
    """One searched field: a range (``low``, ``high``, ``log``) or ``choices``, searched only ``when`` others agree."""

    name: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def is_int(self) -> bool:
        return FIELDS[self.name].kind is int

    def active(self, values: Mapping[str, Any]) -> bool:
        """Whether the field matters beside ``values``, the fields chosen before it."""
        return all(values.get(name) in allowed for name, allowed in self.when.items())

    def at(self, share: float) -> Any:
        """The value that divides the range, or the choices, in the ratio of ``share`` in [0, 1], on its own scale."""
        if self.choices:
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        low, high = self._bounds()
        if share in (0, 1):
            return (low, high)[int(share)]  # exactly
        # each whole number has a stretch of the same width
        margin = 0.5 if self.is_int else 0.0
        start, stop = self._scaled(low - margin), self._scaled(high + margin)
        point = start + share * (stop - start)
        value = math.exp(point) if self.log else point
        return min(max(round(value) if self.is_int else value, low), high)

    def share(self, value: float) -> float:
        """Where ``value`` lies in the range, on its own scale, from 0 (low) to 1 (high)."""
        start, stop = map(self._scaled, self._bounds())
        return (self._scaled(value) - start) / (stop - start)

    def can_widen(self, upwards: bool) -> bool:
        """Whether a value beyond the range's end is one that the field allows."""
        low, high = self._bounds()
        bound, sign = (high, 1) if upwards else (low, -1)
        if self.is_int:
            beyond: float = bound + sign
        else:
            beyond = bound * 1.01**sign if self.log else bound + sign * 0.01 * (high - low)
        return not _value_problems(self.name, beyond)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value

    def _bounds(self) -> tuple[float, float]:
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def contains(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        low, high = self._bounds()
        return isinstance(value, int | float) and bool(low <= value <= high)


Space = tuple[Parameter, ...]


def active_values(space: Space, value_of: Callable[[str], Any]) -> dict[str, Any]:
    """The fields that matter, each with what ``value_of`` says of its name; later ones may depend on earlier ones."""
    values: dict[str, Any] = {}
    for parameter in space:
        if parameter.active(values):
            values[parameter.name] = value_of(parameter.name)
    return values


def load(path: Path) -> Space:
    """The space that a TOML file describes; a path that is no file but a name in ``SPACES`` means that one.

    Raises:
        UsageError: the file cannot be read, or one of its tables makes no sense; every problem, with its line.
    """
    if str(path) in SPACES and not path.is_file():
        path = SPACES[str(path)]
    try:
        check_plain(path)
        text = path.read_text("utf-8-sig")
        return from_tables(tomllib.loads(text), _line_numbers(text), str(path))
    except OSError as error:
        names = f"; by name there are {', '.join(SPACES)}" if isinstance(error, FileNotFoundError) else ""
        raise UsageError([f"--space {path}: cannot be read ({error.strerror}){names}"]) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand lists in each other
        raise UsageError([f"--space {path}: is no valid TOML ({error})"]) from error


def from_tables(tables: Mapping[str, Any], lines: Mapping[str, int], source: str) -> Space:
    """As ``load``, from parsed tables; ``lines`` says where each table starts."""
    space: list[Parameter] = []
    problems: list[str] = []
    for name, table in tables.items():
        where = f"--space {source}, line {lines.get(name, 1)}: [{name}]"
        try:
            space.append(_parameter(name, table, space))
        except ValueError as error:
            problems += [f"{where} {problem}" for problem in str(error).splitlines()]
    if not space and not problems:
        problems.append(f"--space {source}: has no table, so there is nothing to search")
    if problems:
        raise UsageError(problems)
    return tuple(space)


def to_tables(space: Space) -> dict[str, dict[str, Any]]:
    """The space as plain values, as in its file."""
    tables: dict[str, dict[str, Any]] = {}
    for parameter in space:
        if parameter.choices:
            table: dict[str, Any] = {"choices": list(parameter.choices)}
        else:
            table = {"low": parameter.low, "high": parameter.high, "log": parameter.log}
        when = {name: values[0] if len(values) == 1 else list(values) for name, values in parameter.when.items()}
        tables[parameter.name] = table | ({"when": when} if when else {})
    return tables


def _parameter(name: str, table: Any, earlier: Sequence[Parameter]) -> Parameter:
    if name not in FIELDS:
        raise ValueError(f"is no field of a trial's config; the fields are {', '.join(FIELDS)}")
    if FIELDS[name].role != "recipe":
        raise ValueError("is the study's to set and cannot be searched")
    if not isinstance(table, dict):
        raise ValueError(f"must be a table with low and high, or choices, not {shown(table)}")
    known = ("low", "high", "log", "choices", "when")
    problems = [
        f"has an unknown key {printable(key)}; known are {', '.join(known)}" for key in table if key not in known
    ]
    try:
        when = _condition(name, table.get("when", {}), {parameter.name: parameter for parameter in earlier})
    except ValueError as error:
        problems.append(str(error))
        when = {}
    problems += _choice_problems(name, table) if "choices" in table else _range_problems(name, table)
    if problems:
        raise ValueError("\n".join(problems))
    if "choices" in table:
        return Parameter(name, choices=tuple(map(FIELDS[name].checked, table["choices"])), when=when)
    return Parameter(name, table["low"], table["high"], table.get("log", False), when=when)


def _condition(name: str, when: Any, earlier: Mapping[str, Parameter]) -> dict[str, tuple[Any, ...]]:
    """The field's own condition and that of its table; what the space does not search has its default.

    Raises:
        ValueError: the table's makes no sense, or the field's own never holds in this space.
    """
    if not isinstance(when, dict) or any(other not in earlier for other in when):
        known = ", ".join(earlier) or "none"
        raise ValueError(f"when must name fields searched before it ({known}), not {shown(when)}")
    found = {other: tuple(values) if isinstance(values, list) else (values,) for other, values in when.items()}
    for other, values in found.items():
        if not values:
            raise ValueError(f"when must name at least one value of {other}, not an empty list")
        if unknown := [value for value in values if not earlier[other].contains(value)]:
            raise ValueError(f"when must name values that {other} can take, not {shown(unknown[0])}")
    for other, allowed in FIELDS[name].when.items():
        if other in earlier:
            asked = found.get(other, allowed)
            if possible := tuple(value for value in asked if value in allowed and earlier[other].contains(value)):
                found[other] = possible
                continue
        elif FIELDS[other].default in allowed:
            continue
        raise ValueError(f"has no effect unless {FIELDS[name].condition()}, so the file must search that above it")
    return found


def _choice_problems(name: str, table: dict[str, Any]) -> list[str]:
    choices = table["choices"]
    if not isinstance(choices, list) or not choices or {"low", "high", "log"} & set(table):
        return [f"choices must be a list with at least one value, without low, high and log, not {shown(choices)}"]
    if problems := [problem for choice in choices for problem in _value_problems(name, choice)]:
        return problems
    if len(set(map(FIELDS[name].checked, choices))) < len(choices):
        return [f"choices must differ from each other, not {shown(choices)}"]
    return []


def _range_problems(name: str, table: dict[str, Any]) -> list[str]:
    if FIELDS[name].kind not in (int, float):
        return ["needs choices: it is no number"]
    low, high, log = table.get("low"), table.get("high"), table.get("log", False)
    numbers = [v for v in (low, high) if isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < math.inf]
    if len(numbers) < 2:
        return [f"low and high must be numbers, not {shown(low)} and {shown(high)}"]
    if not isinstance(log, bool):
        return [f"log must be true or false, not {shown(log)}"]
    problems = [problem for bound in numbers for problem in _value_problems(name, bound)]
    if numbers[0] >= numbers[1]:
        problems.append(f"low must be below high, not {shown(low)} and {shown(high)}: the range is empty")
    if log and numbers[0] <= 0:
        problems.append(f"low must be above 0 where log = true, not {shown(low)}")
    return problems


def _value_problems(name: str, value: Any) -> list[str]:
    try:
        FIELDS[name].checked(value)
    except ValueError as error:
        return [str(error)]
    return []


def _line_numbers(text: str) -> dict[str, int]:
    """The line (from 1) at which each top-level table of a TOML text is first named."""
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name = line.split("#")[0].strip().lstrip("[").split("]")[0].split("=")[0].split(".")[0].strip(" \"'")
        lines.setdefault(name, number)
    return lines
