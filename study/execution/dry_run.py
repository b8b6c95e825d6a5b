"""What a study would do, in words: ``study.search --dry-run``."""

import itertools
import math
from collections.abc import Sequence

import torch

from study.execution.plan import StudyPlan
from study.record.recipes import COURSE
from study.space.designs import grid
from study.space.parameters import Parameter, Space
from study.words import duration
from trainable.config import TrialConfig
from trainable.loop import num_batches
from trainable.probe import seconds_per_image

FEW_STEPS = 10  # of the optimizer in an epoch
VALIDATION_SHARE = 0.4  # of the time that training takes for an image: no way back, no augmentation


def lines(plan: StudyPlan, num_known: int) -> list[str]:
    """Optimizer steps, search space and a rough time; ``num_known`` trials are there already."""
    num_train = len(plan.drawn.train)
    return [
        *_skipped_lines(plan.pool.skipped),
        *_step_lines(num_train, plan.space, plan.base),
        "search space:",
        *(f"  {_words(parameter)}" for parameter in plan.space),
        _time_line(plan, num_known),
    ]


def _skipped_lines(skipped: Sequence[str]) -> list[str]:
    return [f"left out, as they cannot be read: {', '.join(skipped)}"] if skipped else []


def _step_lines(num_train: int, space: Space, base: TrialConfig) -> list[str]:
    sizes, numbers = (_values(space, name, getattr(base, name)) for name in ("batch_size", "accumulation_steps"))
    steps = [
        math.ceil(num_batches(num_train, int(size)) / int(number)) for size, number in itertools.product(sizes, numbers)
    ]
    found = [
        f"optimizer steps in an epoch: {_range(steps)} ({num_train} training images in batches of {_range(sizes)}, "
        f"{_range(numbers)} batches to a step)"
    ]
    if min(steps) < FEW_STEPS:
        found.append(
            f"note: with fewer than {FEW_STEPS} steps a recipe learns little in an epoch; more --epochs, or a --space "
            "with a smaller batch_size and accumulation_steps, make up for it"
        )
    return found


def _values(space: Space, name: str, usual: float) -> list[float]:
    """The values of a field that the search may try, of a range its ends; one that is not searched has its usual."""
    for parameter in space:
        if parameter.name == name:
            return list(parameter.choices) or [parameter.at(0), parameter.at(1)]
    return [usual]


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _words(parameter: Parameter) -> str:
    if parameter.choices:
        text = f"{parameter.name}: {', '.join(map(str, parameter.choices))}"
    else:
        scale = ", on a log scale" if parameter.log else ""
        text = f"{parameter.name}: {parameter.at(0):g} to {parameter.at(1):g}{scale}"
    only = [f"{name} is {' or '.join(map(str, allowed))}" for name, allowed in parameter.when.items()]
    return f"{text} (where {' and '.join(only)})" if only else text


def _time_line(plan: StudyPlan, num_known: int) -> str:
    if plan.resources.address is not None:
        return "time: cannot be told beforehand for a cluster"
    pool, num_trials = plan.pool, plan.num_trials
    if plan.algorithm == "grid":
        num_trials = min(num_trials, len(grid(plan.space)) + len(COURSE))
    device = torch.device("cuda" if plan.resources.gpus else "cpu")
    per_image = seconds_per_image(plan.base, len(pool.class_names), pool.spec.image_size, device)
    epoch = per_image * (len(plan.drawn.train) + VALIDATION_SHARE * len(plan.drawn.val))
    rounds = math.ceil(max(0, num_trials - num_known) / plan.resources.num_slots)
    shown = duration(epoch) if epoch >= 10 else f"{epoch:.1f} s"
    return (
        f"time: an epoch takes about {shown} here, so the trials at most about "
        f"{duration(epoch * plan.base.epochs * rounds)}; those that are stopped early make it less"
    )
