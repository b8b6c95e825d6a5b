"""What a study would do, in words: ``study.search --dry-run``."""

import math
from collections.abc import Sequence

import torch

from study.execution.plan import StudyPlan
from study.execution.trying import steps_lines
from study.record.entries import goes_on
from study.record.files import TrialRecord
from study.record.recipes import COURSE
from study.space.designs import grid
from study.space.parameters import Parameter
from study.words import duration
from trainable.probe import seconds_per_image

VALIDATION_SHARE = 0.4  # of the time that training takes for an image: no way back, no augmentation


def lines(plan: StudyPlan, known: Sequence[TrialRecord]) -> list[str]:
    """Optimizer steps, search space and a rough time; ``known`` trials are there already."""
    return [
        *_skipped_lines(plan.pool.skipped),
        *steps_lines(plan.space, plan.base, plan.train_counts),
        "search space:",
        *(f"  {_words(parameter)}" for parameter in plan.space),
        _time_line(plan, known),
    ]


def _skipped_lines(skipped: Sequence[str]) -> list[str]:
    return [f"left out, as they cannot be read: {', '.join(skipped)}"] if skipped else []


def _words(parameter: Parameter) -> str:
    if parameter.choices:
        text = f"{parameter.name}: {', '.join(map(str, parameter.choices))}"
    else:
        scale = ", on a log scale" if parameter.log else ""
        text = f"{parameter.name}: {parameter.at(0):g} to {parameter.at(1):g}{scale}"
    only = [f"{name} is {' or '.join(map(str, allowed))}" for name, allowed in parameter.when.items()]
    return f"{text} (where {' and '.join(only)})" if only else text


def _time_line(plan: StudyPlan, known: Sequence[TrialRecord]) -> str:
    if plan.resources.address is not None:
        return "time: cannot be told beforehand for a cluster"
    pool, num_trials = plan.pool, plan.num_trials
    if plan.algorithm == "grid":
        num_trials = min(num_trials, len(grid(plan.space)) + len(COURSE))
    device = torch.device("cuda" if plan.resources.gpus else "cpu")
    per_image = seconds_per_image(plan.base, len(pool.class_names), pool.spec.image_size, device)
    epoch = per_image * (len(plan.drawn.train) + VALIDATION_SHARE * len(plan.drawn.val))
    rounds = math.ceil(max(0, num_trials - len(known)) / plan.resources.num_slots)
    begun = sum(
        plan.base.epochs - len(trial.rows)
        for trial in known
        if trial.status == "running" or goes_on(trial.status, trial.reason, len(trial.rows), plan.base.epochs)
    )
    most = epoch * (plan.base.epochs * rounds + begun / plan.resources.num_slots)
    shown = duration(epoch) if epoch >= 10 else f"{epoch:.1f} s"
    return (
        f"time: an epoch takes about {shown} here, so the trials at most about "
        f"{duration(most)}; those that are stopped early make it less"
    )
