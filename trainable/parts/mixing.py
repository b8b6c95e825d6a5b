"""Mixing of images and their targets: each image with the one before it in the batch, whose order is random anyway.

The dice hold a share for each image, lambda, drawn from Beta(alpha, alpha): how much of the image itself is left.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from trainable.config import TrialConfig
from trainable.parts.erasing import inside

Mixed = tuple[torch.Tensor, torch.Tensor]


def beta(alpha: float, num_images: int, generator: torch.Generator) -> torch.Tensor:
    """Shares in [0, 1], float32 (num_images,): numpy draws them, torch has no Beta from a generator of one's own."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, num_images).astype(np.float32))


class Mixup:
    """Both the images and the targets are weighted means: lambda of one, 1 - lambda of the other.

    Zhang et al. 2018, "mixup: Beyond empirical risk minimization".
    """

    num_dice = 1

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor:
        return beta(self.alpha, num_images, generator)[:, None]

    def __call__(self, images: torch.Tensor, targets: torch.Tensor, dice: torch.Tensor) -> Mixed:
        """The mixed images, float32 (batch, 3, S, S), and targets, float32 (batch, K), of rows that sum to 1."""
        others = targets.roll(1, 0)
        return _mean(images, images.roll(1, 0), dice), _mean(targets, others, self.shares(targets, others, dice))

    def shares(self, targets: torch.Tensor, others: torch.Tensor, dice: torch.Tensor) -> torch.Tensor:
        """How much of its own target an image keeps, float32 (batch, 1)."""
        return dice


class Remix(Mixup):
    """Mixup whose target is wholly the rarer class's where its class is ``kappa`` times rarer and its share not small.

    Chou et al. 2020, "Remix: Rebalanced mixup", eq. 6. The paper has kappa 3 and tau 0.5.
    """

    def __init__(self, alpha: float, class_counts: torch.Tensor, kappa: float, tau: float) -> None:
        """``class_counts`` is (K,), of the training images, on the device of the images."""
        super().__init__(alpha)
        self.counts, self.kappa, self.tau = class_counts.float(), kappa, tau

    def shares(self, targets: torch.Tensor, others: torch.Tensor, dice: torch.Tensor) -> torch.Tensor:
        own, other = ((mine @ self.counts)[:, None] for mine in (targets, others))
        is_more = (own >= self.kappa * other) & (dice < self.tau)
        is_less = (own * self.kappa <= other) & (1 - dice < self.tau)
        return torch.where(is_more, 0.0, torch.where(is_less, 1.0, dice))


class CutMix:
    """A box of each image is the other's, and the targets are mixed by the areas.

    Yun et al. 2019, "CutMix: Regularization strategy to train strong classifiers with localizable features".
    """

    num_dice = 4  # the box's corners

    def __init__(self, alpha: float, image_size: int) -> None:
        self.alpha, self.image_size = alpha, image_size

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor:
        """Squares of 1 - lambda of the image's area around a point drawn evenly from it, cut off at its edges."""
        size = self.image_size
        half = (0.5 * (1 - beta(self.alpha, num_images, generator)).sqrt() * size).floor()[:, None]
        centre = torch.randint(size, (num_images, 2), generator=generator)
        return torch.cat([(centre - half).clamp(min=0), (centre + half).clamp(max=size)], 1)

    def __call__(self, images: torch.Tensor, targets: torch.Tensor, dice: torch.Tensor) -> Mixed:
        """As ``Mixup``."""
        top, left, bottom, right = dice.split(1, 1)
        share = 1 - (bottom - top) * (right - left) / self.image_size**2
        mixed = torch.where(inside(dice, self.image_size), images.roll(1, 0), images)
        return mixed, _mean(targets, targets.roll(1, 0), share)


def _mean(own: torch.Tensor, other: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    share = share.view(-1, *[1] * (own.dim() - 1))
    return own * share + other * (1 - share)


# from the config, the counts of the training images (K,) where the images are, and the images' size
MIXINGS: Mapping[str, Callable[[TrialConfig, torch.Tensor, int], Mixup | CutMix | None]] = {
    "none": lambda config, counts, image_size: None,
    "mixup": lambda config, counts, image_size: Mixup(config.mixing_alpha),
    "cutmix": lambda config, counts, image_size: CutMix(config.mixing_alpha, image_size),
    "remix": lambda config, counts, image_size: Remix(
        config.mixing_alpha, counts, config.remix_kappa, config.remix_tau
    ),
}
