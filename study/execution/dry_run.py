"""What a study would do, in words: ``study.search --dry-run``."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import torch

from study.execution.plan import StudyPlan
from study.execution.trying import steps_lines, values_of
from study.record.entries import goes_on
from study.record.files import TrialRecord
from study.record.recipes import COURSE
from study.space.designs import grid
from study.space.parameters import Parameter
from study.words import duration
from trainable.config import TrialConfig
from trainable.probe import seconds_per_image
from trainable.progress import stage

USUAL_LENGTH = 0.5  # of a trial, as a share of its epochs: asha on the test beds
VALIDATION_SHARE = 0.4  # of the time that training takes for an image: no way back, no augmentation


def lines(plan: StudyPlan, known: Sequence[TrialRecord]) -> list[str]:
    """Optimizer steps, search space and a rough time; ``known`` trials are there already."""
    return [
        *_skipped_lines(plan.pool.skipped),
        *steps_lines(plan.space, plan.base, plan.train_counts),
        "search space:",
        *(f"  {_words(parameter)}" for parameter in plan.space),
        _time_line(plan, known),
        *budget_lines(plan),
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


def budget_lines(plan: StudyPlan) -> list[str]:
    """How far the time budget will get, in a sentence; none without a budget, or for a cluster."""
    if plan.time_budget_seconds is None or plan.resources.address is not None:
        return []
    epochs = plan.time_budget_seconds * plan.resources.num_slots / _epoch_seconds(plan)
    words = f"time budget: {duration(plan.time_budget_seconds)} are about {epochs:.0f} epochs here, "
    words += f"or {epochs / plan.base.epochs:.0f} trials in full"
    if plan.scheduler != "none":
        words += f"; about {epochs / plan.base.epochs / USUAL_LENGTH:.0f} where as many are stopped early as usual"
    return [words]


@stage("timing the networks")
def _epoch_seconds(plan: StudyPlan) -> float:
    """About how long an epoch takes here, the mean over the networks of the space, by a probe of half a second each."""
    pool, space, device = plan.pool, plan.space, torch.device("cuda" if plan.resources.gpus else "cpu")

    def seconds(network: str, width: float) -> float:
        config = replace(plan.base, network=network, width=width)
        return seconds_per_image(config, len(pool.class_names), pool.spec.image_size, device)

    widths = {TrialConfig.network: values_of(space, plan.base, "width")}  # the only one that has them
    per_image = fmean(
        fmean(seconds(network, width) for width in widths.get(network, [plan.base.width]))
        for network in values_of(space, plan.base, "network")
    )
    return per_image * sum(len(part.train) + VALIDATION_SHARE * len(part.val) for part in plan.drawn.parts)


def _time_line(plan: StudyPlan, known: Sequence[TrialRecord]) -> str:
    if plan.resources.address is not None:
        return "time: cannot be told beforehand for a cluster"
    num_trials, epoch = plan.num_trials, _epoch_seconds(plan)
    if plan.algorithm == "grid":
        num_trials = min(num_trials, len(grid(plan.space)) + len(COURSE))
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
