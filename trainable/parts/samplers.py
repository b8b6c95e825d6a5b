"""The study's subject: what is done about rare classes. Samplers, and the adjustment that needs no training."""

import torch

from trainable.config import TrialConfig


def draw_probabilities(class_counts: torch.Tensor, config: TrialConfig) -> torch.Tensor:
    """The chance that an image drawn for training is of each class, float64 (num_classes,), summing to 1.

    n_c / n under ``shuffle``; proportional to n_c ** (1 - sampler_power) under ``weighted``.
    """
    counts = class_counts.double()
    mass = counts.pow(1 - config.sampler_power) if config.sampler == "weighted" else counts
    return mass / mass.sum()


def epoch_order(labels: torch.Tensor, config: TrialConfig, generator: torch.Generator) -> torch.Tensor:
    """Which training images one epoch shows, and in what order: int64 (n,), positions into ``labels``.

    ``shuffle`` shows each once; ``weighted`` draws n with replacement, an image of class c in proportion to
    n_c ** -sampler_power (1: all classes equally often, the course's WeightedRandomSampler).
    """
    if config.sampler == "shuffle":
        return torch.randperm(len(labels), generator=generator)
    counts = torch.bincount(labels)
    weights = counts.double().pow(-config.sampler_power)[labels]
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)
