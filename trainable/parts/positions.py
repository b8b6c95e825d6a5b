"""The first stage of augmentation: flip, rotation and crop as one gather through tables that Pillow itself made.

torchvision's RandomRotation on PIL images is nearest-neighbour: each output pixel is a copy of one input pixel
or black. So for a fixed angle the whole operation is a list of source positions. We let Pillow rotate an image
of positions once for each angle of a fine grid, with and without flip, and gather through the result: equal to
torchvision's output bit for bit at those angles.
"""

from typing import Protocol

import numpy as np
import torch
from PIL import Image

ANGLE_STEP_DEGREES = 0.25
MAX_TABLE_BYTES = 128 * 2**20  # of source positions, each trial has its own; beyond it the grid of angles is coarser


class Stage(Protocol):
    """A part of the augmentation: dice per image, drawn on the CPU, and what is done with them where the images are.

    The dice are float32 (n, num_dice); all whole numbers among them are below 2^24, so they are exact.
    """

    num_dice: int

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor: ...

    def __call__(self, images: torch.Tensor, dice: torch.Tensor) -> torch.Tensor: ...


def rotation_angles(rotation_degrees: float, max_angles: int = 2**31) -> np.ndarray:
    """The angles a training image may be rotated by, float64, symmetric about 0.

    A grid of 0.25° or finer; coarser only where that would be more than ``max_angles``, and never under 3 angles.
    """
    if rotation_degrees == 0:
        return np.zeros(1)
    steps = min(int(np.ceil(rotation_degrees / ANGLE_STEP_DEGREES)), max(1, (max_angles - 1) // 2))
    return np.linspace(-rotation_degrees, rotation_degrees, 2 * steps + 1)


class Positions:
    """Where each output pixel comes from: flips, then a rotation, then a crop of the padded image, in one gather."""

    def __init__(
        self,
        image_size: int,
        flip: bool,
        rotation_degrees: float,
        vertical_flip: bool,
        crop_padding: int,
        device: torch.device,
    ) -> None:
        """``crop_padding`` black pixels are added on each side before the crop: the image moves by at most so many."""
        self.num_shifts = 2 * crop_padding + 1
        self.num_dice = 1 if crop_padding == 0 else 3
        table = source_positions(image_size, flip, rotation_degrees, vertical_flip, crop_padding).to(device)
        # every crop of every row as a view, (rows, shifts, shifts, S, S): an index copies just what it needs
        self._crops = table.unfold(1, image_size, 1).unfold(2, image_size, 1)

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor:
        """A row of the table for each image, each equally likely; then, with padding, how far down and right."""
        dice = [torch.randint(len(self._crops), (num_images,), generator=generator)]
        for _ in range(self.num_dice - 1):
            dice.append(torch.randint(self.num_shifts, (num_images,), generator=generator))
        return torch.stack(dice, 1).float()

    def __call__(self, images: torch.Tensor, dice: torch.Tensor) -> torch.Tensor:
        """int32 (batch, S * S) from ``images``, int32 (batch, S * S + 1) as ``pool.pack`` makes it."""
        row, *shifts = dice.long().unbind(1)
        crops = self._crops[row, *shifts] if shifts else self._crops[:, 0, 0][row]
        return images.gather(1, crops.flatten(1).long())


def source_positions(
    image_size: int, flip: bool, rotation_degrees: float, vertical_flip: bool = False, padding: int = 0
) -> torch.Tensor:
    """Where each pixel comes from: int32 (flips × angles, S + 2 * padding, S + 2 * padding), in [0, S * S].

    S * S stands for "from outside": black. The rows are unflipped first, then mirrored left to right, then the same
    upside down; flipped first, then rotated, as in the course's transform. Without a flip its rows are missing.
    """
    area, side = image_size**2, image_size + 2 * padding
    # 0 is Pillow's fill for what comes from outside, so positions are counted from 1 while Pillow has them
    images = [Image.fromarray(np.arange(1, area + 1, dtype=np.int32).reshape(image_size, image_size))]
    if flip:
        images += [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
    if vertical_flip:
        images += [image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) for image in images]
    angles = rotation_angles(rotation_degrees, MAX_TABLE_BYTES // (len(images) * side**2 * 4))
    rows = [np.asarray(image.rotate(float(angle), Image.Resampling.NEAREST)) for image in images for angle in angles]
    table = np.pad(np.stack(rows), ((0, 0), (padding, padding), (padding, padding)))
    return torch.from_numpy(np.where(table == 0, area, table - 1).astype(np.int32))


def channels_of(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (batch, S * S, 3): a view of int32 (batch, S * S)."""
    return pixels.unsqueeze(2).view(torch.uint8)[:, :, :3]
