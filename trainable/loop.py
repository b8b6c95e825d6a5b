"""One trial: its state, the training epoch, the evaluation, and the generator that yields a row for each epoch.

Knows no tuner. Randomness is derived anew for each epoch, and whether to stop is a function of the rows so far,
so the state holds nothing that a fresh process could not pick up.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from trainable import objectives
from trainable.allocator import keep_freed_memory
from trainable.config import TrialConfig, num_steps
from trainable.evaluation import evaluate, likelihoods, predict, score
from trainable.images.trial import TrialImages
from trainable.parts import networks, weights
from trainable.parts.augmentation import augmentation
from trainable.parts.heads import give_cosine_head, redraw_head
from trainable.parts.losses import LOSSES
from trainable.parts.mixing import MIXINGS
from trainable.parts.optimizers import (
    AveragedWeights,
    learning_rate_factor,
    make_optimizer,
    set_learning_rate,
    warmup_steps,
)
from trainable.parts.samplers import num_deferred, num_drawn, trains_head_alone
from trainable.parts.samplers import order as draw_order
from trainable.report import Row
from trainable.step import Step
from trainable.streams import derive


class DivergedError(Exception):
    """The loss is no longer a finite number; going on would not help."""


@dataclass
class TrialState:
    """Everything that changes while a trial runs."""

    config: TrialConfig
    model: nn.Module
    optimizer: torch.optim.Optimizer
    rows: list[Row]
    best: dict[str, Any]  # "model": state dict and "logits": float16 (num_val, num_classes), of the best epoch
    predictions: list[torch.Tensor] = field(default_factory=list)  # of each epoch, see ``predict``
    likelihoods: list[torch.Tensor] = field(default_factory=list)  # the same, where the objective looks at them
    average: AveragedWeights[nn.Module] | None = None
    step: Step | None = None  # from the first epoch on; holds nothing that would have to be saved

    @property
    def judged(self) -> nn.Module:
        """The model whose predictions count: the averaged one, where there is one."""
        return self.model if self.average is None else self.average.model


def new_state(config: TrialConfig, images: TrialImages) -> TrialState:
    """The state before the first epoch, a function of the config's seed; sets torch's number of threads.

    Raises:
        UsageError: the weights to start from cannot be had.
    """
    state = empty_state(config, images)
    if config.weights != "none":
        weights.start_from(config, state.model)
        _start_average(state)
    return state


def empty_state(config: TrialConfig, images: TrialImages) -> TrialState:
    """As ``new_state``, but without the weights to start from: a checkpoint's take their place."""
    keep_freed_memory()
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(derive("initialisation", config.seed))
    model = network(config, images.num_classes, images.image_size, images.pixels.device)
    state = TrialState(config, model, _optimizer(config, model), rows=[], best={})
    _start_average(state)
    return state


def _optimizer(config: TrialConfig, model: nn.Module) -> torch.optim.Optimizer:
    return make_optimizer(
        config.optimizer,
        model,
        config.learning_rate,
        config.weight_decay,
        config.schedule,
        config.warmup_epochs,
        config.backbone_rate,
    )


def _start_average(state: TrialState) -> None:
    decay = state.config.average_decay
    state.average = AveragedWeights(state.model, decay) if decay else None


def network(config: TrialConfig, num_classes: int, image_size: int, device: torch.device) -> nn.Module:
    """The config's network on ``device``; its weights are drawn from torch's global generator."""
    model = networks.make(config, num_classes, image_size)
    if config.loss == "ldam":
        give_cosine_head(model, config.ldam_scale)
    return model.to(memory_format=torch.channels_last).to(device)


def check_network(config: TrialConfig, num_classes: int, image_size: int) -> list[str]:
    """Tries the config's network before anything starts; a sentence for each layer that the weights do not fit.

    Raises:
        UsageError: there is no such network, the images are too small for it, or the weights are not its own.
    """
    networks.check(config.network, image_size)
    if config.weights == "none":
        return []
    return weights.start_from(config, network(config, num_classes, image_size, torch.device("cpu")))


def run(state: TrialState, images: TrialImages) -> Iterator[Row]:
    """Trains and validates, and yields the row of each epoch, until the trial has reason to stop.

    Raises:
        DivergedError: a loss is not finite.
    """
    objective = objectives.named(state.config.objective)
    while stop_reason(state.config, state.rows) is None:
        epoch = len(state.rows) + 1
        start = time.perf_counter()
        train_loss, train_accuracy = train_epoch(state, images, epoch)
        trained = time.perf_counter()
        logits = evaluate(state.judged, images, images.val, state.config.precision)
        predictions = predict(logits, images, state.config, epoch)
        judged = likelihoods(logits, images, state.config, epoch) if objective.of_scores else predictions
        scores = score(logits, predictions, judged, images, objective)
        for name, loss in [("train_loss", train_loss), ("val_loss", scores["val_loss"])]:
            if not math.isfinite(loss):
                raise DivergedError(f"{name} is {loss} in epoch {epoch}")
        is_best = not state.rows or scores[objective.name] > state.rows[-1][objective.best]
        if is_best:
            model_state = {name: tensor.detach().clone() for name, tensor in state.judged.state_dict().items()}
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
            "learning_rate": _last_learning_rate(state.config, images, epoch),
            "num_train_images": len(images.train),
            "num_micro_batches": state.config.num_micro_batches,
            "train_seconds": trained - start,
            "val_seconds": time.perf_counter() - trained,
            "ended_unix_seconds": time.time(),
        }
        state.rows.append(row)
        state.predictions.append(predictions)
        state.likelihoods += [judged] if objective.of_scores else []
        yield row


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


def train_epoch(state: TrialState, images: TrialImages, epoch: int) -> tuple[float, float]:
    """One pass over the training images: (mean loss, accuracy) over the samples as they were trained on."""
    config, device = state.config, images.pixels.device
    if trains_head_alone(config, epoch) and not trains_head_alone(config, epoch - 1):
        redraw_head(state.model, derive("head", config.seed))
        state.optimizer, state.step = _optimizer(config, state.model), None  # without the old head's moments
        _start_average(state)
    if state.step is None:
        augment = augmentation(config, images.image_size, images.mean, images.std)
        mixing = MIXINGS[config.mixing](config, images.train_counts.to(device), images.image_size)
        loss = LOSSES[config.loss](config, images.train_counts).to(device)
        state.step = Step(config, state.model, state.optimizer, augment, mixing, loss, images.pixels)
    drawn = draw_order(config, images.labels[images.train], epoch, _generator("order", config.seed, epoch))
    order = images.train[drawn]
    dice = state.step.draw(len(order), _generator("augmentation", config.seed, epoch))
    labels = images.labels[order].to(device)
    order, dice = order.to(device), dice.to(device)
    torch.manual_seed(derive("dropout", config.seed, epoch))
    state.step.start_epoch(epoch)
    batches = batch_slices(len(order), config.batch_size)
    num_before, num_in_all, num_warm = _steps(config, images, epoch)
    for number, first in enumerate(range(0, len(batches), config.accumulation_steps), num_before):
        group = batches[first : first + config.accumulation_steps]
        group_size = group[-1].stop - group[0].start
        for batch in group:
            state.step.accumulate(order[batch], dice[batch], labels[batch], group_size)
        if config.schedule != "constant" or config.warmup_epochs:
            set_learning_rate(state.optimizer, learning_rate_factor(config.schedule, number, num_in_all, num_warm))
        state.step.update()
        if state.average is not None:
            state.average.update(number)
    loss_sum, num_correct = state.step.totals()
    return loss_sum / len(order), num_correct / len(order)


def _steps(config: TrialConfig, images: TrialImages, epoch: int) -> tuple[int, int, int]:
    """The optimizer's steps before ``epoch``, in all, and of the warm-up. A fresh head has a count and schedule of its
    own, and with an undersampling that is deferred not all epochs have as many."""
    counts, before_head = images.train_counts, config.epochs - config.head_epochs
    first, last = (before_head + 1, config.epochs) if trains_head_alone(config, epoch) else (1, before_head)

    def of_epoch(number: int) -> int:
        return num_steps(num_drawn(config, counts, number), config.batch_size, config.accumulation_steps)

    def of_epochs(start: int, stop: int) -> int:
        # all epochs before the re-sampling have as many, and all from then on
        begun = min(max(num_deferred(config.resample_from, config.epochs) + 1, start), stop)
        return (begun - start) * of_epoch(start) + (stop - begun) * of_epoch(stop - 1)

    num_in_all = of_epochs(first, last + 1)
    return of_epochs(first, epoch), num_in_all, warmup_steps(config.warmup_epochs, last + 1 - first, num_in_all)


def _last_learning_rate(config: TrialConfig, images: TrialImages, epoch: int) -> float:
    """The learning rate at the epoch's last step."""
    num_before, num_in_all, num_warm = _steps(config, images, epoch)
    num_shown = num_drawn(config, images.train_counts, epoch)
    last = num_before + num_steps(num_shown, config.batch_size, config.accumulation_steps) - 1
    return config.learning_rate * learning_rate_factor(config.schedule, last, num_in_all, num_warm)


def batch_slices(num_images: int, batch_size: int) -> list[slice]:
    """Consecutive batches; a last one of a single image joins the one before it (batch norm needs two)."""
    starts = list(range(0, num_images, batch_size))
    if len(starts) > 1 and num_images - starts[-1] == 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], num_images], strict=True)]


def _generator(purpose: str, seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive(purpose, seed, epoch))
