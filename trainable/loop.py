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

from trainable.allocator import keep_freed_memory
from trainable.config import TrialConfig
from trainable.evaluation import evaluate, predict, score
from trainable.images.trial import TrialImages
from trainable.parts.augmentation import Augment
from trainable.parts.heads import give_cosine_head, redraw_head
from trainable.parts.losses import LOSSES
from trainable.parts.networks import ConvNet
from trainable.parts.samplers import num_deferred
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
    model: ConvNet
    optimizer: torch.optim.Optimizer
    rows: list[Row]
    best: dict[str, Any]  # "model": state dict and "logits": float16 (num_val, num_classes), of the best epoch
    predictions: list[torch.Tensor] = field(default_factory=list)  # of each epoch, see ``predict``
    step: Step | None = None  # from the first epoch on; holds nothing that would have to be saved


def new_state(config: TrialConfig, images: TrialImages) -> TrialState:
    """The state before the first epoch, a function of the config's seed; sets torch's number of threads."""
    keep_freed_memory()
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(derive("initialisation", config.seed))
    model = network(config, images.num_classes, images.image_size, images.pixels.device)
    return TrialState(config, model, _optimizer(config, model), rows=[], best={})


def _optimizer(config: TrialConfig, model: ConvNet) -> torch.optim.Optimizer:
    is_cuda = next(model.parameters()).is_cuda
    return torch.optim.Adam(
        model.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
        capturable=is_cuda,
    )


def network(config: TrialConfig, num_classes: int, image_size: int, device: torch.device) -> ConvNet:
    """The config's network on ``device``; its weights are drawn from torch's global generator."""
    model = ConvNet(num_classes, image_size, config.dropout)
    if config.loss == "ldam":
        give_cosine_head(model, config.ldam_scale)
    return model.to(memory_format=torch.channels_last).to(device)


def run(state: TrialState, images: TrialImages) -> Iterator[Row]:
    """Trains and validates, and yields the row of each epoch, until the trial has reason to stop.

    Raises:
        DivergedError: a loss is not finite.
    """
    while stop_reason(state.config, state.rows) is None:
        epoch = len(state.rows) + 1
        start = time.perf_counter()
        train_loss, train_accuracy = train_epoch(state, images, epoch)
        trained = time.perf_counter()
        logits = evaluate(state.model, images, images.val, state.config.precision)
        predictions = predict(logits, images, state.config, epoch)
        scores = score(logits, predictions, images)
        for name, loss in [("train_loss", train_loss), ("val_loss", scores["val_loss"])]:
            if not math.isfinite(loss):
                raise DivergedError(f"{name} is {loss} in epoch {epoch}")
        is_best = not state.rows or scores["minority_f1"] > state.rows[-1]["best_minority_f1"]
        if is_best:
            model_state = {name: tensor.detach().clone() for name, tensor in state.model.state_dict().items()}
            state.best = {"model": model_state, "logits": logits.half().cpu()}
        best = (scores["minority_f1"], epoch) if is_best else (
            state.rows[-1]["best_minority_f1"], state.rows[-1]["best_epoch"])  # fmt: skip
        row = {
            "epoch": epoch,
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            **scores,
            "best_minority_f1": best[0],
            "best_epoch": best[1],
            "learning_rate": state.config.learning_rate,
            "num_train_images": len(images.train),
            "num_micro_batches": state.config.num_micro_batches,
            "train_seconds": trained - start,
            "val_seconds": time.perf_counter() - trained,
            "ended_unix_seconds": time.time(),
        }
        state.rows.append(row)
        state.predictions.append(predictions)
        yield row


def stop_reason(config: TrialConfig, rows: list[Row]) -> str | None:
    """Why the trial is over: "epochs", "patience", or None while it is not.

    Patience counts the epochs since validation loss last fell by more than ``min_delta`` below its best, or
    minority F1 last rose above its best, whichever is later. It begins once all of the recipe is on: a trial does not
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
    return max(before_head, *(num_deferred(share, config.epochs) for share in shares))


def train_epoch(state: TrialState, images: TrialImages, epoch: int) -> tuple[float, float]:
    """One pass over the training images: (mean loss, accuracy) over the samples as they were trained on."""
    config, device = state.config, images.pixels.device
    if epoch == config.epochs - config.head_epochs + 1:
        redraw_head(state.model, derive("head", config.seed))
        state.optimizer, state.step = _optimizer(config, state.model), None  # without the old head's moments
    if state.step is None:
        augment = Augment(images.image_size, config.flip, config.rotation_degrees, images.mean, images.std)
        loss = LOSSES[config.loss](config, images.train_counts).to(device)
        state.step = Step(config, state.model, state.optimizer, augment, loss, images.pixels)
    drawn = draw_order(config, images.labels[images.train], epoch, _generator("order", config.seed, epoch))
    order = images.train[drawn]
    rows = state.step.augment.draw(len(order), _generator("augmentation", config.seed, epoch))
    labels = images.labels[order].to(device)
    order, rows = order.to(device), rows.to(device)
    torch.manual_seed(derive("dropout", config.seed, epoch))
    state.step.start_epoch(epoch)
    batches = batch_slices(len(order), config.batch_size)
    for first in range(0, len(batches), config.accumulation_steps):
        group = batches[first : first + config.accumulation_steps]
        group_size = group[-1].stop - group[0].start
        for batch in group:
            state.step.accumulate(order[batch], rows[batch], labels[batch], group_size)
        state.step.update()
    loss_sum, num_correct = state.step.totals()
    return loss_sum / len(order), num_correct / len(order)


def batch_slices(num_images: int, batch_size: int) -> list[slice]:
    """Consecutive batches; a last one of a single image joins the one before it (batch norm needs two)."""
    starts = list(range(0, num_images, batch_size))
    if len(starts) > 1 and num_images - starts[-1] == 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], num_images], strict=True)]


def _generator(purpose: str, seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive(purpose, seed, epoch))
