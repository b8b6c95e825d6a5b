"""What one trial is asked to do: the only door from a dict to a configuration.

No heavy import stands here: ``--help`` and every check of the arguments run before torch is loaded.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class UsageError(Exception):
    """Bad input, found before anything started; ``problems`` holds one sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _rule(default: Any, text: str, check: Callable[[Any], bool], help: str) -> Any:
    """A field of the config: its default, its rule in words and as a predicate, and what it means."""
    return field(default=default, metadata={"rule": text, "check": check, "help": help})


def _count(default: int, help: str) -> Any:
    return _rule(default, "a whole number of at least 1", lambda value: value >= 1, help)


def _seed(help: str) -> Any:
    return _rule(0, "a whole number from 0 to 2^63 - 1", lambda value: 0 <= value < 2**63, help)


@dataclass(frozen=True)
class TrialConfig:
    """One training recipe and everything its outcome depends on besides the images.

    The defaults are the recipe of the course this study grew out of. Two trials with equal configs on equal
    images give equal rows on the same kind of CPU.
    """

    dropout: float = _rule(0.3, "in [0, 1)", lambda v: 0 <= v < 1, "dropout of both hidden layers")
    weight_decay: float = _rule(1e-4, "at least 0", lambda v: v >= 0, "L2 penalty, added to the gradient by Adam")
    learning_rate: float = _rule(1e-3, "above 0", lambda v: v > 0, "Adam's step size")
    accumulation_steps: int = _count(2, "batches whose gradients make one optimizer step")
    sampler: str = _rule(
        "shuffle", "'shuffle' or 'weighted'", lambda v: v in ("shuffle", "weighted"), "how an epoch's images are drawn"
    )
    sampler_power: float = _rule(
        1.0, "in (0, 1]", lambda v: 0 < v <= 1, "weighted sampler: class weight = count ** -power; 1 = equal classes"
    )
    num_micro_batches: int = _count(1, "parts of a batch that go through the network one by one, where memory is short")
    batch_size: int = _rule(128, "a whole number of at least 2", lambda v: v >= 2, "images in a batch")
    clip_norm: float = _rule(1.0, "above 0", lambda v: v > 0, "the gradient's norm is clipped to this")
    epochs: int = _count(50, "passes over the training images, at most")
    patience: int = _count(10, "epochs without improvement before the trial ends itself")
    min_delta: float = _rule(0.001, "at least 0", lambda v: v >= 0, "smallest fall of validation loss that counts")
    flip: bool = _rule(True, "true or false", lambda v: True, "mirror half of the training images, left to right")
    rotation_degrees: float = _rule(
        10.0, "from 0 to 180", lambda v: 0 <= v <= 180, "rotate by a random angle within ± this many degrees"
    )
    seed: int = _seed("initialisation, order, augmentation and dropout")
    split_seed: int = _seed("which images are for validation")
    cut_seed: int = _seed("which images of the minority classes are kept")
    num_threads: int = _count(1, "CPU threads; another number gives other last bits")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrialConfig":
        """The config that ``values`` describes; fields left out take their defaults.

        Raises:
            UsageError: a key is unknown, or a value breaks its field's rule; all such mistakes at once.
        """
        problems = [f"{key}: no such field of a trial's config (value {values[key]!r}); the fields are "
                    f"{', '.join(FIELDS)}" for key in values if key not in FIELDS]  # fmt: skip
        checked: dict[str, Any] = {}
        for name, value in values.items():
            if name not in FIELDS:
                continue
            try:
                checked[name] = _checked(FIELDS[name], value)
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise UsageError(problems)
        return cls(**checked)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, in the order of their definition."""
        return dataclasses.asdict(self)


FIELDS: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(TrialConfig)}


def _checked(field: dataclasses.Field[Any], value: Any) -> Any:
    """``value`` in the type of ``field``, exactly; ValueError with a sentence where it breaks the rule."""
    rule = ValueError(f"{field.name} must be {field.metadata['rule']}, not {value!r}")
    kind = field.type
    if kind is bool or kind == "bool":
        if not isinstance(value, bool):
            raise rule
    elif kind is str or kind == "str":
        if not isinstance(value, str):
            raise rule
    elif isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise rule
    elif kind is int or kind == "int":
        if value != int(value):
            raise rule
        value = int(value)
    else:
        value = float(value)
    if not field.metadata["check"](value):
        raise rule
    return value


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """``["dropout=0.3", "flip=false"]`` as values of the config's types.

    Raises:
        UsageError: an assignment has no ``=``, an unknown name, or a text that breaks its field's rule; all of them.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name, text = name.strip(), text.strip()
        if not equals:
            problems.append(f"--set takes KEY=VALUE, not {assignment!r}")
        elif name not in FIELDS:
            problems.append(f"--set {name}: no such field; the fields are {', '.join(FIELDS)}")
        else:
            try:
                values[name] = _checked(FIELDS[name], _parse(FIELDS[name], text))
            except ValueError:
                problems.append(f"--set {name} must be {FIELDS[name].metadata['rule']}, not {text!r}")
    if problems:
        raise UsageError(problems)
    return values


def _parse(field: dataclasses.Field[Any], text: str) -> Any:
    if field.type is str:
        return text
    if field.type is bool:
        return {"true": True, "1": True, "on": True, "yes": True,
                "false": False, "0": False, "off": False, "no": False}.get(text.lower(), text)  # fmt: skip
    try:
        return int(text)  # not by way of float, which has no room for the last digits of a large seed
    except ValueError:
        number = float(text)
        if not math.isfinite(number):
            raise
        return number
