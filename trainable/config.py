"""What one trial is asked to do: the only door from a dict to a configuration.

No heavy import stands here: ``--help`` and every check of the arguments run before torch is loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainable import costs
from trainable.cli import UsageError, shown
from trainable.options import Choices, Range, Role, option, options_of
from trainable.recipe import Recipe

SEEDS = Range(0, 2**63 - 1)
PRECISIONS = ("float32", "bfloat16")
FEW_STEPS = 20  # of the optimizer in an epoch; below it a recipe is judged by how few they are
OBJECTIVES = (
    "minority_f1",
    "macro_f1",
    "balanced_accuracy",
    "worst_class_recall",
    "minority_average_precision",
    "minority_f1_adjusted",
)


@dataclass(frozen=True)
class TrialConfig(Recipe):
    """One training recipe and everything its outcome depends on besides the images.

    Two trials with equal configs on equal
    images give equal rows on the same kind of CPU. See ``options`` for what is said of each field.
    """

    epochs: int = option(50, Range(1), "passes over the training images, at most", "length", role="protocol")
    objective: str = option(
        "minority_f1",
        Choices(OBJECTIVES, costs.PATTERN, f"{costs.PREFIX}ROW;ROW;…"),
        "score by which the best epoch is chosen",
        "objective",
        role="protocol",
    )
    seed: int = option(0, SEEDS, "initialisation, order, augmentation and dropout", "seeds", role="seed")
    split_seed: int = option(0, SEEDS, "which images are for validation", "seeds", role="seed")
    cut_seed: int = option(0, SEEDS, "which images of the minority classes are kept", "seeds", role="seed")
    num_threads: int = option(
        1, Range(1, 4096), "CPU threads; another number gives other last bits", "machine", role="machine"
    )
    precision: str = option(
        "float32",
        Choices(PRECISIONS),
        "what convolutions and hidden layers compute in; the other one gives other numbers",
        "machine",
        role="machine",
    )
    num_micro_batches: int = option(
        1,
        Range(1),
        "parts of a batch that go through the network one by one, where memory is short",
        "machine",
        role="machine",
    )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrialConfig":
        """The config that ``values`` describes; fields left out take their defaults.

        Raises:
            UsageError: a key is unknown, a value breaks its field's rule, or a field is set where it has no effect;
                all such mistakes at once.
        """
        problems = [
            f"{key}: no such field of a trial's config (value {shown(values[key])}); the fields are {', '.join(FIELDS)}"
            for key in values
            if key not in FIELDS
        ]
        checked: dict[str, Any] = {}
        refused = set()
        for name in [name for name in values if name in FIELDS]:
            try:
                checked[name] = FIELDS[name].checked(values[name])
            except ValueError as error:
                problems.append(str(error))
                refused.add(name)
        config = cls(**checked)
        alone = {name: getattr(config, name) for name in ("frozen_epochs", "head_epochs") if getattr(config, name)}
        if (number := sum(alone.values())) >= config.epochs:
            problems.append(f"{' plus '.join(alone)} must be below epochs, {config.epochs}, not {number}")
        if config.objective.startswith(costs.PREFIX):
            try:
                costs.parse(config.objective)
            except ValueError as error:
                problems.append(f"objective {error}, not {shown(config.objective)}")
        active = config.active()
        problems += [
            f"{name} has no effect unless {FIELDS[name].condition()}, so it cannot be {value!r}"
            for name, value in checked.items()
            if name not in active and value != FIELDS[name].default and not FIELDS[name].when.keys() & refused
        ]
        if problems:
            raise UsageError(problems)
        return config

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> "TrialConfig":
        """The config in a file of a study: as ``from_dict``, but a field without effect has its default.

        Earlier versions wrote down whatever it was set to.
        """
        if not isinstance(values, Mapping):
            raise UsageError([f"a trial's config must be a table of fields, not {values!r:.40}"])
        values, active = dict(values), dict[str, Any]()
        for name, found in FIELDS.items():
            if found.matters(active):
                active[name] = values.get(name, found.default)
            else:
                values.pop(name, None)
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, in the order of their definition."""
        return {name: getattr(self, name) for name in FIELDS}

    def active(self) -> dict[str, Any]:
        """The fields that have an effect, and their values."""
        values: dict[str, Any] = {}
        for name, found in FIELDS.items():
            if found.matters(values):
                values[name] = getattr(self, name)
        return values

    def of_roles(self, *roles: Role) -> dict[str, Any]:
        """The fields of these roles, and their values."""
        return {name: getattr(self, name) for name, found in FIELDS.items() if found.role in roles}


FIELDS = options_of(TrialConfig)


def num_batches(num_images: int, batch_size: int) -> int:
    """How many batches an epoch has: a last one of a single image joins the one before it."""
    return -(-num_images // batch_size) - (num_images > batch_size and num_images % batch_size == 1)


def num_steps(num_images: int, batch_size: int, accumulation_steps: int) -> int:
    """How many optimizer steps an epoch that shows so many images has."""
    return -(-num_batches(num_images, batch_size) // accumulation_steps)


def num_shown(sampler: str, counts: Sequence[int]) -> int:
    """How many of ``counts`` training images of each class an epoch shows once the sampler is on."""
    return len(counts) * min(counts) if sampler == "undersample" else sum(counts)


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
            problems.append(f"--set takes KEY=VALUE, not {shown(assignment)}")
        elif name not in FIELDS:
            problems.append(f"--set {name}: no such field; the fields are {', '.join(FIELDS)}")
        else:
            try:
                values[name] = FIELDS[name].checked(FIELDS[name].parse(text))
            except ValueError:
                problems.append(f"--set {name} must be {FIELDS[name].words}, not {shown(text)}")
    if problems:
        raise UsageError(problems)
    return values
