"""What a space asks of the network and the images, tried before anything starts."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from study.space.parameters import Space
from trainable.cli import UsageError, attempt
from trainable.config import FEW_STEPS, FIELDS, TrialConfig, num_shown, num_steps
from trainable.parts.networks import NETWORKS
from trainable.progress import stage

FOR_WEIGHTS = {"frozen_epochs", "backbone_rate"}  # fields that are of little use without weights to start from


def base_problems(base: TrialConfig, given: Sequence[str], space: Space) -> list[str]:
    """What is wrong with fields that are ``given`` for all trials, beside those that the space searches."""
    searched = {parameter.name for parameter in space}
    problems = [f"--set {name}: the space searches it" for name in given if name in searched]
    problems += [
        f"--set {name}: is set by a flag of its own, or by the study" for name in given if FIELDS[name].role != "recipe"
    ]
    active = base.to_dict()
    problems += [
        f"--set {other}={active[other]}: {name}, which the space searches, has no effect then"
        for name in searched
        for other, allowed in FIELDS[name].when.items()
        if other in set(given) - searched and active[other] not in allowed
    ]
    alone = {name: int(values_of(space, base, name)[-1]) for name in ("frozen_epochs", "head_epochs")}
    if sum(alone.values()) >= base.epochs:
        names = " plus ".join(name for name, number in alone.items() if number)
        problems.append(f"--epochs must be above {names}, up to {sum(alone.values())} in the space, not {base.epochs}")
    return problems


@stage("trying the networks")
def check_networks(space: Space, base: TrialConfig, num_classes: int, image_size: int) -> list[str]:
    """Tries each network of the space with each of its weights; a sentence for each layer that these do not fit.

    Raises:
        UsageError: there is no such network, the images are too small for it, or weights are not its own.
    """
    from trainable.learner import check_network

    problems: list[str] = []
    notes: list[str] = []
    for network, weights in itertools.product(*(values_of(space, base, name) for name in ("network", "weights"))):
        config = replace(base, network=network, weights=weights)
        notes += attempt(problems, check_network, config, num_classes, image_size) or []
    if problems:
        raise UsageError(problems)
    if values_of(space, base, "weights") == ["none"] and (of_weights := FOR_WEIGHTS & {found.name for found in space}):
        notes.append(f"note: {' and '.join(sorted(of_weights))} searched, but no weights are given to start from")
    return list(dict.fromkeys(notes))


def to_probe(space: Space, base: TrialConfig) -> TrialConfig:
    """The config by which the precision of all trials is chosen: of the slowest of the networks, which takes most of
    the time. One of torchvision's counts as that: on a CPU they cannot be trained in bfloat16.
    """
    place = {name: number for number, name in enumerate(NETWORKS)}  # the slowest last
    slowest = max(values_of(space, base, "network"), key=lambda name: place.get(name, len(place)))
    return TrialConfig.from_record({**base.to_dict(), "network": slowest})


def steps_lines(space: Space, base: TrialConfig, counts: Sequence[int]) -> list[str]:
    """How many optimizer steps an epoch has at the ends of the space; and a note if that is few.

    ``counts`` are the training images of each class.
    """
    fewest_shown, most_shown = (
        choose(num_shown(sampler, counts) for sampler in values_of(space, base, "sampler")) for choose in (min, max)
    )
    batches, accumulated = (values_of(space, base, name) for name in ("batch_size", "accumulation_steps"))
    fewest = num_steps(fewest_shown, batches[-1], accumulated[-1])
    most = num_steps(most_shown, batches[0], accumulated[0])
    sizes, numbers = (_range(values[0], values[-1]) for values in (batches, accumulated))
    made_of = f"{_range(fewest_shown, most_shown)} images in batches of {sizes}, {numbers} to a step"
    found = [f"optimizer steps in an epoch: {_range(fewest, most)} ({made_of})"]
    if fewest < FEW_STEPS:
        found.append(f"note: fewer than {FEW_STEPS} steps in an epoch are few; fewer images to a step may do better")
    return found


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def values_of(space: Space, base: TrialConfig, name: str) -> list[Any]:
    """The field's choices or ends in the space, in order; where it is not searched, what all trials have."""
    for parameter in space:
        if parameter.name == name:
            return sorted(parameter.choices or (parameter.low, parameter.high))
    return [getattr(base, name)]
