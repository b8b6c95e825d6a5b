"""A network that is trained: how it starts, and an epoch of its training. Knows nothing of validation.

Randomness is derived anew for each epoch, so a learner holds nothing that a fresh process could not pick up.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainable.config import TrialConfig, num_steps
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
from trainable.step import Step
from trainable.streams import derive


@dataclass
class Learner:
    """A network that is trained, and what belongs to that."""

    config: TrialConfig  # the trial's, with a seed of its own where there are folds
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedWeights[nn.Module] | None = None
    step: Step | None = None  # from the first epoch on; holds nothing that would have to be saved

    @property
    def judged(self) -> nn.Module:
        """The model whose predictions count: the averaged one, where there is one."""
        return self.model if self.average is None else self.average.model

    def state_dict(self) -> dict[str, Any]:
        """All that a fresh process needs to go on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.model.state_dict(),
        }


def new_learner(config: TrialConfig, images: TrialImages) -> Learner:
    """Before its first epoch, without the weights to start from; a function of the config's seed."""
    torch.manual_seed(derive("initialisation", config.seed))
    model = network(config, images.num_classes, images.image_size, images.pixels.device)
    learner = Learner(config, model, _optimizer(config, model))
    start_average(learner)
    return learner


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


def start_average(learner: Learner) -> None:
    decay = learner.config.average_decay
    learner.average = AveragedWeights(learner.model, decay) if decay else None


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


def train_epoch(learner: Learner, images: TrialImages, epoch: int) -> tuple[float, float]:
    """One pass over the training images: (mean loss, accuracy) over the samples as they were trained on."""
    config, device = learner.config, images.pixels.device
    if trains_head_alone(config, epoch) and not trains_head_alone(config, epoch - 1):
        redraw_head(learner.model, derive("head", config.seed))
        learner.optimizer, learner.step = _optimizer(config, learner.model), None  # without the old head's moments
        start_average(learner)
    if learner.step is None:
        augment = augmentation(config, images.image_size, images.mean, images.std)
        mixing = MIXINGS[config.mixing](config, images.train_counts.to(device), images.image_size)
        loss = LOSSES[config.loss](config, images.train_counts).to(device)
        learner.step = Step(config, learner.model, learner.optimizer, augment, mixing, loss, images.pixels)
    drawn = draw_order(config, images.labels[images.train], epoch, _generator("order", config.seed, epoch))
    order = images.train[drawn]
    dice = learner.step.draw(len(order), _generator("augmentation", config.seed, epoch))
    labels = images.labels[order].to(device)
    order, dice = order.to(device), dice.to(device)
    torch.manual_seed(derive("dropout", config.seed, epoch))
    learner.step.start_epoch(epoch)
    batches = batch_slices(len(order), config.batch_size)
    num_before, num_in_all, num_warm = _steps(config, images, epoch)
    for number, first in enumerate(range(0, len(batches), config.accumulation_steps), num_before):
        group = batches[first : first + config.accumulation_steps]
        group_size = group[-1].stop - group[0].start
        for batch in group:
            learner.step.accumulate(order[batch], dice[batch], labels[batch], group_size)
        if config.schedule != "constant" or config.warmup_epochs:
            set_learning_rate(learner.optimizer, learning_rate_factor(config.schedule, number, num_in_all, num_warm))
        learner.step.update()
        if learner.average is not None:
            learner.average.update(number)
    loss_sum, num_correct = learner.step.totals()
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


def last_learning_rate(config: TrialConfig, images: TrialImages, epoch: int) -> float:
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
