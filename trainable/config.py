"""What one trial is asked to do: the only door from a dict to a configuration.

No heavy import stands here: ``--help`` and every check of the arguments run before torch is loaded.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainable.cli import UsageError
from trainable.options import Choices, Range, Role, Switch, option, options_of

SEEDS = Range(0, 2**63 - 1)
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TrialConfig:
    """One training recipe and everything its outcome depends on besides the images.

    The defaults are the recipe of the course this study grew out of. Two trials with equal configs on equal
    images give equal rows on the same kind of CPU. See ``options`` for what is said of each field.
    """

    dropout: float = option(
        0.3, Range(0, 1, below=True), "dropout of both hidden layers", "network", short="drop", format=".2f"
    )
    learning_rate: float = option(
        1e-3, Range(0, above=True), "Adam's step size", "optimizer", short="rate", format=".1e"
    )
    weight_decay: float = option(
        1e-4, Range(0), "L2 penalty, added to the gradient by Adam", "optimizer", short="decay", format=".0e"
    )
    batch_size: int = option(128, Range(2), "images in a batch", "optimizer", short="batch")
    accumulation_steps: int = option(
        2, Range(1), "batches whose gradients make one optimizer step", "optimizer", short="accum"
    )
    clip_norm: float = option(
        1.0, Range(0, above=True), "the gradient's norm is clipped to this", "optimizer", short="clip"
    )
    sampler: str = option(
        "shuffle",
        Choices(("shuffle", "weighted", "progressive", "undersample")),
        "how images are drawn: each once, rare classes more often, more and more so, or all cut to the smallest",
        "sampler",
        paper="Kang et al. 2020, section 3 (weighted, progressive); Buda et al. 2018 (undersample)",
    )
    sampler_power: float = option(
        1.0,
        Range(0, 1, above=True),
        "weighted sampler: class weight = count ** -power; 1 = equal classes",
        "sampler",
        when={"sampler": "weighted"},
        short="^",
        format=".2f",
        paper="Kang et al. 2020, eq. 1 (q = 1 - power)",
    )
    resample_from: float = option(
        0.0,
        Range(0, 1, below=True),
        "share of the epochs after which the sampler begins; shuffled before",
        "sampler",
        when={"sampler": ("weighted", "progressive", "undersample")},
        short="from",
        format=".2f",
        paper="Cao et al. 2019, section 3.3 (DRS)",
    )
    head_epochs: int = option(
        0,
        Range(0),
        "last epochs, in which a fresh last layer alone is trained, on equal classes; 0 = none",
        "sampler",
        short="head",
        paper="Kang et al. 2020, section 4 (cRT)",
    )
    loss: str = option(
        "cross_entropy",
        Choices(("cross_entropy", "focal", "balanced_softmax", "logit_adjusted", "ldam")),
        "what a wrong answer costs",
        "loss",
        paper="Lin et al. 2017; Ren et al. 2020; Menon et al. 2021; Cao et al. 2019",
    )
    focal_gamma: float = option(
        2.0,
        Range(0, 10),
        "focal loss: how much less an easy image counts; 0 = cross-entropy",
        "loss",
        when={"loss": "focal"},
        short="gamma",
        format=".2f",
        paper="Lin et al. 2017, section 3.2",
    )
    tau: float = option(
        1.0,
        Range(0, 10, above=True),
        "logit-adjusted loss: tau * log(class share) is added to the logits; 1 = balanced softmax",
        "loss",
        when={"loss": "logit_adjusted"},
        format=".2f",
        paper="Menon et al. 2021, eq. 10",
    )
    ldam_margin: float = option(
        0.5,
        Range(0, 1, above=True),
        "LDAM: the rarest class's margin, in units of the cosine",
        "loss",
        when={"loss": "ldam"},
        short="margin",
        format=".2f",
        paper="Cao et al. 2019, section 3.2",
    )
    ldam_scale: float = option(
        30.0,
        Range(1, 100),
        "LDAM: logits are this times the cosine of features and class vector",
        "loss",
        when={"loss": "ldam"},
        short="scale",
        format=".0f",
        paper="Cao et al. 2019 (30 in the authors' code, 10 in the text)",
    )
    label_smoothing: float = option(
        0.0,
        Range(0, 1, below=True),
        "this much of each target is shared out among all classes",
        "loss",
        short="smooth",
        format=".2f",
        paper="Szegedy et al. 2016, section 7",
    )
    class_weights: str = option(
        "none",
        Choices(("none", "inverse", "effective")),
        "losses weigh by class: count ** -power, or 1 / effective number of images",
        "loss",
        short="weights",
        paper="King and Zeng 2001 (inverse); Cui et al. 2019 (effective)",
    )
    class_weight_power: float = option(
        1.0,
        Range(0, 1, above=True),
        "inverse class weights: count ** -power; 1 = equal classes",
        "loss",
        when={"class_weights": "inverse"},
        short="^",
        format=".2f",
    )
    effective_beta: float = option(
        0.9999,
        Range(0, 1, above=True, below=True),
        "effective class weights: (N - 1) / N for N different images of a class in all; near 1 = inverse",
        "loss",
        when={"class_weights": "effective"},
        short="beta",
        format=".5g",
        paper="Cui et al. 2019, section 3.2",
    )
    reweight_from: float = option(
        0.0,
        Range(0, 1, below=True),
        "share of the epochs after which class weights begin; none before",
        "loss",
        when={"class_weights": ("inverse", "effective")},
        short="from",
        format=".2f",
        paper="Cao et al. 2019, section 3.3 (DRW)",
    )
    flip: bool = option(True, Switch(), "mirror half of the training images, left to right", "augmentation")
    rotation_degrees: float = option(
        10.0, Range(0, 180), "rotate by a random angle within ± this many degrees", "augmentation", short="rotate"
    )
    patience: int = option(10, Range(1), "epochs without improvement before the trial ends itself", "length")
    min_delta: float = option(0.001, Range(0), "smallest fall of validation loss that counts", "length", short="delta")
    epochs: int = option(50, Range(1), "passes over the training images, at most", "length", role="protocol")
    seed: int = option(0, SEEDS, "initialisation, order, augmentation and dropout", "seeds", role="seed")
    split_seed: int = option(0, SEEDS, "which images are for validation", "seeds", role="seed")
    cut_seed: int = option(0, SEEDS, "which images of the minority classes are kept", "seeds", role="seed")
    num_threads: int = option(
        1, Range(1), "CPU threads; another number gives other last bits", "machine", role="machine"
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
        problems = [f"{key}: no such field of a trial's config (value {values[key]!r}); the fields are "
                    f"{', '.join(FIELDS)}" for key in values if key not in FIELDS]  # fmt: skip
        checked: dict[str, Any] = {}
        refused = set()
        for name in [name for name in values if name in FIELDS]:
            try:
                checked[name] = FIELDS[name].checked(values[name])
            except ValueError as error:
                problems.append(str(error))
                refused.add(name)
        config = cls(**checked)
        if config.head_epochs >= config.epochs:
            problems.append(f"head_epochs must be below epochs, {config.epochs}, not {config.head_epochs}")
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
        return dataclasses.asdict(self)

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
                values[name] = FIELDS[name].checked(FIELDS[name].parse(text))
            except ValueError:
                problems.append(f"--set {name} must be {FIELDS[name].words}, not {text!r}")
    if problems:
        raise UsageError(problems)
    return values
