"""Batched augmentation: dice for each image of an epoch, and a batch as the network trains on it."""

from collections.abc import Callable, Mapping, Sequence

import torch

from trainable.config import TrialConfig
from trainable.parts.colour import ColorJitter, TrivialAugment
from trainable.parts.erasing import Cutout, RandomErasing
from trainable.parts.positions import Positions, Stage, channels_of


class Augment:
    """A batch of packed images as the network trains on it: positions, then colours, normalised, then erased.

    What mixes images and targets is a stage by itself, see ``mixing``.
    """

    def __init__(
        self,
        image_size: int,
        flip: bool,
        rotation_degrees: float,
        mean: torch.Tensor,
        std: torch.Tensor,
        *,
        vertical_flip: bool = False,
        crop_padding: int = 0,
        packed: Sequence[Stage] = (),
        coloured: Sequence[Stage] = (),
        normalised: Sequence[Stage] = (),
    ) -> None:
        """``mean`` and ``std`` are float32 (3,), in units of [0, 1] pixels, on the device of the images.

        The further stages are in the order in which they work: ``packed`` on int32 (batch, S * S), ``coloured`` on
        float32 (batch, S * S, 3) in [0, 255], ``normalised`` on float32 (batch, 3, S, S).
        """
        self.image_size = image_size
        positions = Positions(image_size, flip, rotation_degrees, vertical_flip, crop_padding, mean.device)
        self.mean, self.std = mean, std
        self._packed, self._coloured, self._normalised = [positions, *packed], coloured, normalised
        self._stages: list[Stage] = [*self._packed, *coloured, *normalised]

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor:
        """The dice of ``num_images`` images: float32 (num_images, dice of all stages)."""
        return torch.cat([stage.draw(num_images, generator) for stage in self._stages], 1)

    def __call__(self, pixels: torch.Tensor, dice: torch.Tensor) -> torch.Tensor:
        """The augmented batch, normalised: float32 (batch, 3, S, S) in channels_last layout.

        ``pixels`` is int32 (batch, S * S + 1) as ``pool.pack`` makes it; ``dice`` is from ``draw``.
        """
        shares = iter(dice.split([stage.num_dice for stage in self._stages], 1))
        for stage in self._packed:
            pixels = stage(pixels, next(shares))
        channels = channels_of(pixels)
        if self._coloured:
            channels = channels.float()
        for stage in self._coloured:
            channels = stage(channels, next(shares))
        images = _normalised(channels, self.image_size, self.mean, self.std)
        for stage in self._normalised:
            images = stage(images, next(shares))
        return images


def normalise(pixels: torch.Tensor, image_size: int, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """int32 pixels (batch, S * S) as float32 (batch, 3, S, S) in channels_last layout: (x / 255 - mean) / std."""
    return _normalised(channels_of(pixels), image_size, mean, std)


def _normalised(channels: torch.Tensor, image_size: int, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    # an image is one row of numbers: torch works along the last dimension, and one of three is half as fast
    rows = channels.reshape(len(channels), -1).to(mean.dtype)
    scaled = rows.sub_((255 * mean).repeat(image_size**2)).div_((255 * std).repeat(image_size**2))
    return scaled.view(len(channels), image_size, image_size, 3).permute(0, 3, 1, 2)


RANDOM_AUGMENTS: Mapping[str, Callable[[int, torch.device], list[Stage]]] = {
    "none": lambda image_size, device: [],
    "trivial": lambda image_size, device: [TrivialAugment(image_size, device)],
}
ERASINGS: Mapping[str, Callable[[TrialConfig, int], list[Stage]]] = {
    "none": lambda config, image_size: [],
    "cutout": lambda config, image_size: [Cutout(image_size, config.cutout_size)],
    "random": lambda config, image_size: [RandomErasing(image_size, config.erasing_probability)],
}


def augmentation(config: TrialConfig, image_size: int, mean: torch.Tensor, std: torch.Tensor) -> Augment:
    """The config's augmentation; ``mean`` and ``std`` as for ``Augment``."""
    return Augment(
        image_size,
        config.flip,
        config.rotation_degrees,
        mean,
        std,
        vertical_flip=config.vertical_flip,
        crop_padding=round(config.crop_padding * image_size),
        packed=RANDOM_AUGMENTS[config.random_augment](image_size, mean.device),
        coloured=[ColorJitter(config.color_jitter, mean.device)] if config.color_jitter else [],
        normalised=ERASINGS[config.erasing](config, image_size),
    )
