"""One trial: its state, its validation, and the generator that yields a row for each epoch.

Knows no tuner. Randomness is derived anew for each epoch, and whether to stop is a function of the rows so far,
so the state holds nothing that a fresh process could not pick up.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import torch

from trainable import objectives
from trainable.allocator import keep_freed_memory
from trainable.config import TrialConfig
from trainable.evaluation import evaluate, likelihoods, predict, score
from trainable.images.trial import TrialImages
from trainable.learner import Learner, last_learning_rate, new_learner, start_average, train_epoch
from trainable.objectives import Objective
from trainable.parts import weights
from trainable.parts.averaging import as_one
from trainable.parts.samplers import num_deferred
from trainable.report import Row
from trainable.streams import derive


class DivergedError(Exception):
    """The loss is no longer a finite number; going on would not help."""


@dataclass
class TrialState:
    """Everything that changes while a trial runs."""

    config: TrialConfig
    learners: list[Learner]  # one, or one for each fold
    rows: list[Row]
    best: dict[str, Any]  # "model": state dict and "logits": float16 (num_val, num_classes), of the best epoch
    predictions: list[torch.Tensor] = field(default_factory=list)  # of each epoch, see ``predict``
    likelihoods: list[torch.Tensor] = field(default_factory=list)  # the same, where the objective looks at them

    @property
    def learner(self) -> Learner:
        """The only one."""
        (learner,) = self.learners
        return learner


def new_state(config: TrialConfig, images: TrialImages) -> TrialState:
    """The state before the first epoch, a function of the config's seed; sets torch's number of threads.

    Raises:
        UsageError: the weights to start from cannot be had.
    """
    state = empty_state(config, images)
    for learner in state.learners if config.weights != "none" else ():
        weights.start_from(config, learner.model)
        start_average(learner)
    return state


def empty_state(config: TrialConfig, images: TrialImages) -> TrialState:
    """As ``new_state``, but without the weights to start from: a checkpoint's take their place."""
    keep_freed_memory()
    torch.set_num_threads(config.num_threads)
    own = [config]
    if images.folds:
        own = [replace(config, seed=derive("fold_seed", config.seed, index)) for index in range(len(images.folds))]
    return TrialState(config, [new_learner(each, images) for each in own], rows=[], best={})


def run(state: TrialState, images: TrialImages) -> Iterator[Row]:
    """Trains and validates, and yields the row of each epoch, until the trial has reason to stop.

    With folds each network is trained on its own images and judged by the others; the row is of all of them together.

    Raises:
        DivergedError: a loss is not finite.
    """
    objective = objectives.named(state.config.objective)
    while stop_reason(state.config, state.rows) is None:
        epoch = len(state.rows) + 1
        start = time.perf_counter()
        pairs = list(zip(state.learners, images.parts, strict=True))
        # of one network its own loss and accuracy, to the last bit
        train_loss, train_accuracy = map(fmean, zip(*(train_epoch(*pair, epoch) for pair in pairs), strict=True))
        trained = time.perf_counter()
        found = [_validate(*pair, epoch, objective) for pair in pairs]
        logits = torch.cat([of_part for of_part, _, _ in found])
        predictions, judged = (torch.cat([of_part[place] for of_part in found], 1) for place in (1, 2))
        scores = score(logits, predictions, judged, images, objective)
        for name, loss in [("train_loss", train_loss), ("val_loss", scores["val_loss"])]:
            if not math.isfinite(loss):
                raise DivergedError(f"{name} is {loss} in epoch {epoch}")
        is_best = not state.rows or scores[objective.name] > state.rows[-1][objective.best]
        if is_best:
            model = as_one([learner.judged for learner in state.learners])
            model_state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            state.best = {"model": model_state, "logits": logits.half().cpu()}
        best = (
            (scores[objective.name], epoch)
            if is_best
            else (state.rows[-1][objective.best], state.rows[-1]["best_epoch"])
        )
        row = {
            "epoch": epoch,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            **scores,
            objective.best: best[0],
            "best_epoch": best[1],
            "learning_rate": last_learning_rate(state.config, images.parts[0], epoch),
            "num_train_images": sum(len(part.train) for part in images.parts),
            "num_micro_batches": state.config.num_micro_batches,
            "train_seconds": trained - start,
            "val_seconds": time.perf_counter() - trained,
            "ended_unix_seconds": time.time(),
        }
        state.rows.append(row)
        state.predictions.append(predictions)
        state.likelihoods += [judged] if objective.of_scores else []
        yield row


def _validate(
    learner: Learner, images: TrialImages, epoch: int, objective: Objective
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the validation images the logits, what is predicted, and what the objective looks at, see ``score``."""
    logits = evaluate(learner.judged, images, images.val, learner.config.precision)
    predictions = predict(logits, images, learner.config, epoch)
    judged = likelihoods(logits, images, learner.config, epoch) if objective.of_scores else predictions
    return logits, predictions, judged


def stop_reason(config: TrialConfig, rows: list[Row]) -> str | None:
    """Why the trial is over: "epochs", "patience", or None while it is not.

    Patience counts the epochs since validation loss last fell by more than ``min_delta`` below its best, or
    the objective last rose above its best, whichever is later. It begins once all of the recipe is on: a trial does not
    end before the sampler or the class weights that it was meant to try.
    """
    if len(rows) >= config.epochs:
        return "epochs"
    first = num_epochs_before_all_is_on(config)
    last_improved, lowest_loss = first, math.inf
    for row in rows[first:]:
        if row["val_loss"] < lowest_loss - config.min_delta:
            lowest_loss, last_improved = row["val_loss"], row["epoch"]
        if row["best_epoch"] == row["epoch"]:
            last_improved = row["epoch"]
    return "patience" if len(rows) - last_improved >= config.patience else None


def num_epochs_before_all_is_on(config: TrialConfig) -> int:
    """After how many epochs nothing of the recipe is still deferred."""
    shares = (config.resample_from, config.reweight_from)
    before_head = config.epochs - config.head_epochs if config.head_epochs else 0
    return max(config.frozen_epochs, before_head, *(num_deferred(share, config.epochs) for share in shares))


def bound_to_length(config: TrialConfig, epochs: int) -> list[str]:
    """The fields through which epochs that are over would have been others, if ``epochs`` had been asked for.

    A schedule is spread over all epochs, the progressive sampler, too; a warm-up is a share of all steps; a fresh head
    has the last epochs; what is deferred begins after a share of them. Without such a field a trial may get more epochs
    later, and its rows are those of a trial that had them from the beginning.
    """
    deferred = {
        name: num_deferred(share, config.epochs) != num_deferred(share, epochs)
        for name, share in [("resample_from", config.resample_from), ("reweight_from", config.reweight_from)]
    }
    bound = {
        "schedule": config.schedule != "constant",
        "warmup_epochs": config.warmup_epochs > 0,
        "sampler": config.sampler == "progressive",
        "head_epochs": config.head_epochs > 0,
        **deferred,
    }
    return [name for name, is_bound in bound.items() if is_bound and epochs != config.epochs]
