"""The study's subject: what is done about rare classes. Samplers, and the adjustment that needs no training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Sampler:
    """How an epoch's images are drawn, a function of the config and of how far the sampler has come (0 to 1)."""

    # (config, counts float64 (K,), progress) to the mass of each class among the images drawn: float64 (K,), any sum
    mass: Callable[[Any, torch.Tensor, float], torch.Tensor]
    # (config, labels, progress, generator) to positions into ``labels``, int64 (n,)
    order: Callable[[Any, torch.Tensor, float, torch.Generator], torch.Tensor]


def num_deferred(share: float, num_epochs: int) -> int:
    """The epochs before something that begins after ``share`` of them all.

    Cao et al. 2019, section 3.3, algorithm 1 (deferred re-balancing); theirs is 0.8: on from epoch 161 of 200.
    """
    return round(share * num_epochs)


def has_begun(share: float, epoch: int, num_epochs: int) -> bool:
    """Whether it is on in ``epoch`` (from 1)."""
    return epoch > num_deferred(share, num_epochs)


def trains_head_alone(config: Any, epoch: int) -> bool:
    """Whether ``epoch`` (from 1) is one of the last, in which a fresh head is trained (see ``parts/heads.py``)."""
    return bool(config.head_epochs) and epoch > config.epochs - config.head_epochs


def freezes_body(config: Any, epoch: int) -> bool:
    """Whether nothing below the head learns in ``epoch`` (from 1): at first, where that is asked for, and at last."""
    return epoch <= config.frozen_epochs or trains_head_alone(config, epoch)


def shares(config: Any, counts: torch.Tensor, epoch: int) -> torch.Tensor:
    """Each class's share of the images drawn in ``epoch`` (from 1): float64 (K,), summing to 1.

    ``counts`` are the training images of each class, int64 (K,), each at least 1.
    """
    sampler, progress = _at(config, epoch)
    mass = sampler.mass(config, counts.double(), progress)
    return mass / mass.sum()


def num_drawn(config: Any, counts: torch.Tensor, epoch: int) -> int:
    """How many images ``epoch`` shows: all of them, or with undersampling K times the smallest class's."""
    sampler, _ = _at(config, epoch)
    return len(counts) * int(counts.min()) if sampler is SAMPLERS["undersample"] else int(counts.sum())


def order(config: Any, labels: torch.Tensor, epoch: int, generator: torch.Generator) -> torch.Tensor:
    """Which training images ``epoch`` shows, and in what order: int64 (num_drawn,), positions into ``labels``."""
    sampler, progress = _at(config, epoch)
    return sampler.order(config, labels, progress, generator)


def _at(config: Any, epoch: int) -> tuple[Sampler, float]:
    """The sampler in charge of ``epoch``, and how far it has come from its first epoch (0) to the last of all (1).

    Shuffle until the sampler begins; class-balanced while a fresh head is trained.
    """
    if trains_head_alone(config, epoch):
        return CLASS_BALANCED, 1.0
    if not has_begun(config.resample_from, epoch, config.epochs):
        return SAMPLERS["shuffle"], 0.0
    first = num_deferred(config.resample_from, config.epochs) + 1
    return SAMPLERS[config.sampler], (epoch - first) / max(1, config.epochs - first)


def _natural_mass(config: Any, counts: torch.Tensor, progress: float) -> torch.Tensor:
    return counts


def _shuffled(config: Any, labels: torch.Tensor, progress: float, generator: torch.Generator) -> torch.Tensor:
    """Each image once."""
    return torch.randperm(len(labels), generator=generator)


def _weighted_mass(config: Any, counts: torch.Tensor, progress: float) -> torch.Tensor:
    """n_c ** (1 - power): Kang et al. 2020, section 3, eq. 1, where q = 1 - power."""
    return counts.pow(1 - config.sampler_power)


def _weighted(config: Any, labels: torch.Tensor, progress: float, generator: torch.Generator) -> torch.Tensor:
    """n with replacement, an image of class c in proportion to n_c ** -power: the course's WeightedRandomSampler."""
    return _with_replacement(torch.bincount(labels).double().pow(-config.sampler_power), labels, generator)


def _progressive_mass(config: Any, counts: torch.Tensor, progress: float) -> torch.Tensor:
    """(1 - t / T) of the images' shares and t / T of equal ones: Kang et al. 2020, section 3, eq. 2.

    t / T goes from 0 in the first epoch to 1 in the last, as in the authors' code.
    """
    return (1 - progress) * counts / counts.sum() + progress / len(counts)


def _progressive(config: Any, labels: torch.Tensor, progress: float, generator: torch.Generator) -> torch.Tensor:
    """n with replacement, each class as often as its mass says."""
    counts = torch.bincount(labels).double()
    return _with_replacement(_progressive_mass(config, counts, progress) / counts, labels, generator)


def _equal_mass(config: Any, counts: torch.Tensor, progress: float) -> torch.Tensor:
    return torch.ones_like(counts)


def _undersampled(config: Any, labels: torch.Tensor, progress: float, generator: torch.Generator) -> torch.Tensor:
    """As many images of every class as the smallest has, none twice, another choice in each epoch.

    Random undersampling (Buda et al. 2018, "A systematic study of the class imbalance problem in convolutional neural
    networks", where the choice is made once).
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    counts = torch.bincount(labels)
    by_class = labels[shuffled].argsort(stable=True)  # positions into ``shuffled``, class after class
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)  # within the class
    chosen = shuffled[by_class[place < counts.min()]]
    # shuffled once more: by their places in the first shuffle the large classes would all come early
    return chosen[torch.randperm(len(chosen), generator=generator)]


def _class_balanced(config: Any, labels: torch.Tensor, progress: float, generator: torch.Generator) -> torch.Tensor:
    """n with replacement, all classes equally often: Kang et al. 2020, section 3, q = 0."""
    return _with_replacement(torch.bincount(labels).double().reciprocal(), labels, generator)


def _with_replacement(weights: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As many positions as there are labels, an image of class c drawn in proportion to ``weights[c]``."""
    return torch.multinomial(weights[labels], len(labels), replacement=True, generator=generator)


SAMPLERS = {
    "shuffle": Sampler(_natural_mass, _shuffled),
    "weighted": Sampler(_weighted_mass, _weighted),
    "progressive": Sampler(_progressive_mass, _progressive),
    "undersample": Sampler(_equal_mass, _undersampled),
}
CLASS_BALANCED = Sampler(_equal_mass, _class_balanced)
