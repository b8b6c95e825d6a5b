"""What a field of a trial's config is, as data: its rule, part, role, condition, help, and how tables show it.

Whatever knows about fields asks here: the check of a value, ``--set`` and ``--help``, the search space, what makes two
recipes equal, the tables. Imports nothing heavy: ``--help`` answers at once.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainable.cli import MOST, shown

Value = bool | int | float | str

# recipe: what a study compares, and may search; protocol: how trials are judged, the same for all of a study;
# seed: what is drawn; machine: what it runs on. A recipe is the same recipe whatever its seeds and machine.
Role = Literal["recipe", "protocol", "seed", "machine"]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included unless they are ``above`` low or ``below`` high."""

    low: float
    high: float = MOST  # beyond it no setting makes sense, and machines have no room for whole numbers of any size
    above: bool = False
    below: bool = False

    def allows(self, value: Value) -> bool:
        assert not isinstance(value, str)
        is_high_enough = value > self.low if self.above else value >= self.low
        return is_high_enough and (value < self.high if self.below else value <= self.high)

    def words(self, kind: type) -> str:
        prefix = "a whole number " if kind is int else ""
        if self.above or self.below:
            opening, closing = "(" if self.above else "[", ")" if self.below else "]"
            return f"{prefix}in {opening}{_number(self.low)}, {_number(self.high)}{closing}"
        return f"{prefix}from {_number(self.low)} to {_number(self.high)}"


@dataclass(frozen=True)
class Choices:
    """One of a few names, or a text of the form ``pattern``, which people call ``other``."""

    names: tuple[str, ...]
    pattern: str = ""
    other: str = ""

    def allows(self, value: Value) -> bool:
        assert isinstance(value, str)
        return value in self.names or bool(self.pattern and re.fullmatch(self.pattern, value))

    def words(self, kind: type) -> str:
        *others, last = [*map(repr, self.names), *([self.other] if self.other else [])]
        return f"{', '.join(others)} or {last}"


@dataclass(frozen=True)
class Switch:
    """On or off."""

    def allows(self, value: Value) -> bool:
        return True

    def words(self, kind: type) -> str:
        return "true or false"


def _number(value: float) -> str:
    if value == 2**63 - 1:
        return "2^63 - 1"
    return str(int(value)) if value == int(value) and value < 1e16 else f"{value:g}"


@dataclass(frozen=True)
class Option:
    """A field of the config."""

    rule: Range | Choices | Switch
    help: str
    part: str  # of the recipe, or of what surrounds it: the group in which help and docs show it
    role: Role = "recipe"
    # fields and those of their values under which this one matters; elsewhere it has its default
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    short: str = ""  # the head of its column; of a field with a condition, what joins it to the value it depends on
    format: str = ""  # of its numbers in tables
    paper: str = ""  # who proposed it
    name: str = ""
    kind: type = float  # bool, int, float or str
    default: Value = 0.0

    @property
    def head(self) -> str:
        return self.short or self.name

    @property
    def words(self) -> str:
        """The rule, to be read after "must be"."""
        return self.rule.words(self.kind)

    def matters(self, values: Mapping[str, Any]) -> bool:
        """Whether the field has an effect beside ``values``, in which every field of its condition has one."""
        return all(values.get(name) in allowed for name, allowed in self.when.items())

    def condition(self) -> str:
        """As in "sampler is 'weighted'"."""
        return " and ".join(f"{name} is {' or '.join(map(repr, values))}" for name, values in self.when.items())

    def shown(self, value: Any) -> str:
        """The value in a table's cell."""
        return format(value, self.format or ".3g") if self.kind is float else str(value)

    def checked(self, value: Any) -> Value:
        """``value`` in the type of the field, exactly.

        Raises:
            ValueError: it breaks the rule; a sentence with name, rule and value.
        """
        broken = ValueError(f"{self.name} must be {self.words}, not {shown(value)}")
        if self.kind in (bool, str):
            if not isinstance(value, self.kind):
                raise broken
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise broken
        # before it is converted: no float has room for a number of 400 digits
        if not self.rule.allows(value) or (self.kind is int and value != int(value)):
            raise broken
        return self.kind(value)

    def parse(self, text: str) -> Any:
        """What ``text`` says, to be checked; ValueError where a number is meant and none is there."""
        if self.kind is str:
            return text
        if self.kind is bool:
            if text.lower() in ("true", "1", "on", "yes"):
                return True
            return False if text.lower() in ("false", "0", "off", "no") else text
        try:
            return int(text)  # not by way of float, which has no room for the last digits of a large seed
        except ValueError:
            return float(text)


def option(default: Value, rule: Range | Choices | Switch, help: str, part: str, **more: Any) -> Any:
    """A dataclass's field that is an ``Option``; ``when`` may name single values."""
    when = {name: values if isinstance(values, tuple) else (values,) for name, values in more.pop("when", {}).items()}
    found = Option(rule, help, part, when=when, default=default, **more)
    return field(default=default, metadata={"option": found})


def describe(options: Mapping[str, Option]) -> str:
    """Every field, by part: its rule, default, condition, what it means and whose it is."""
    lines: list[str] = []
    for part in dict.fromkeys(found.part for found in options.values()):
        lines += ["", f"{part}:"]
        for name, found in options.items():
            if found.part == part:
                lines.append(f"  {name:<20}{found.help}")
                only = f"; only where {found.condition()}" if found.when else ""
                lines.append(f"{'':22}{found.words}; default {found.default}{only}")
                lines += [f"{'':22}{found.paper}"] if found.paper else []
    return "\n".join(lines)


def options_of(config: type) -> dict[str, Option]:
    """The options of a dataclass of them, by name, in order."""
    return {
        found.name: dataclasses.replace(found.metadata["option"], name=found.name, kind=found.type)
        for found in dataclasses.fields(config)
    }
