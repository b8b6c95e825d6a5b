"""Batched augmentation: flip and rotation as one gather through tables that Pillow itself made.

torchvision's RandomRotation on PIL images is nearest-neighbour: each output pixel is a copy of one input pixel
or black. So for a fixed angle the whole operation is a list of source positions. We let Pillow rotate an image
of positions once for each angle of a fine grid, with and without flip, and gather through the result: equal to
torchvision's output bit for bit at those angles.
"""

import numpy as np
import torch
from PIL import Image

ANGLE_STEP_DEGREES = 0.25


def rotation_angles(rotation_degrees: float) -> np.ndarray:
    """The angles a training image may be rotated by, float64, symmetric about 0: a grid of 0.25° or finer."""
    if rotation_degrees == 0:
        return np.zeros(1)
    steps = int(np.ceil(rotation_degrees / ANGLE_STEP_DEGREES))
    return np.linspace(-rotation_degrees, rotation_degrees, 2 * steps + 1)


def source_positions(image_size: int, flip: bool, rotation_degrees: float) -> torch.Tensor:
    """Where each output pixel comes from: int32 (flips × angles, S * S), in [0, S * S].

    S * S stands for "from outside": black. The first half of the rows is unflipped, the second flipped first,
    then rotated, as in the course's transform; without ``flip`` there is no second half.
    """
    area = image_size**2
    # 0 is Pillow's fill for what comes from outside, so positions are counted from 1 while Pillow has them
    positions = Image.fromarray(np.arange(1, area + 1, dtype=np.int32).reshape(image_size, image_size))
    mirrored = positions.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    rows = [
        np.asarray(image.rotate(float(angle), Image.Resampling.NEAREST)).ravel()
        for image in ([positions, mirrored] if flip else [positions])
        for angle in rotation_angles(rotation_degrees)
    ]
    table = np.stack(rows)
    return torch.from_numpy(np.where(table == 0, area, table - 1).astype(np.int32))


class Augment:
    """Random flip and rotation of a batch, then float and normalised."""

    def __init__(
        self, image_size: int, flip: bool, rotation_degrees: float, mean: torch.Tensor, std: torch.Tensor
    ) -> None:
        """``mean`` and ``std`` are float32 (3,), in units of [0, 1] pixels, on the device of the images."""
        self.image_size = image_size
        self.table = source_positions(image_size, flip, rotation_degrees).to(mean.device)
        self.mean, self.std = mean, std

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor:
        """A row of the table for each of ``num_images`` images, int64, each row equally likely."""
        return torch.randint(len(self.table), (num_images,), generator=generator)

    def __call__(self, pixels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The augmented batch, normalised: float32 (batch, 3, S, S) in channels_last layout.

        ``pixels`` is int32 (batch, S * S + 1) as ``data.pack`` makes it; ``rows`` int64 (batch,) from ``draw``.
        """
        gathered = pixels.gather(1, self.table[rows].long())
        return normalise(gathered, self.image_size, self.mean, self.std)


def normalise(pixels: torch.Tensor, image_size: int, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """int32 pixels (batch, S * S) as float32 (batch, 3, S, S) in channels_last layout: (x / 255 - mean) / std."""
    channels = pixels.unsqueeze(2).view(torch.uint8)[:, :, :3]  # (batch, S * S, 3)
    # an image is one row of numbers: torch works along the last dimension, and one of three is half as fast
    rows = channels.reshape(len(pixels), -1).to(mean.dtype)
    scaled = rows.sub_((255 * mean).repeat(image_size**2)).div_((255 * std).repeat(image_size**2))
    return scaled.view(len(pixels), image_size, image_size, 3).permute(0, 3, 1, 2)
