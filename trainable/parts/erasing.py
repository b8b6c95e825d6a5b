"""Boxes: where an image is erased, or replaced by a part of another. Drawn on the CPU, as corners."""

import math

import torch

AREAS = (0.02, 0.33)  # of an erased box, as a share of the image
ASPECTS = (0.3, 3.3)  # its height by its width
NUM_TRIES = 10


def inside(boxes: torch.Tensor, image_size: int) -> torch.Tensor:
    """Which pixels are in the boxes: bool (n, 1, S, S), from float32 (n, 4).

    A box is top, left, bottom, right; the last two are no longer part of it. It may reach beyond the image.
    """
    along = torch.arange(image_size, device=boxes.device)
    top, left, bottom, right = boxes.view(-1, 4, 1).unbind(1)
    rows, columns = (along >= top) & (along < bottom), (along >= left) & (along < right)
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)


class Erasing:
    """Sets a box of each normalised image to 0, the mean colour. The dice are the box's corners."""

    num_dice = 4

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size

    def __call__(self, images: torch.Tensor, dice: torch.Tensor) -> torch.Tensor:
        """float32 (batch, 3, S, S), as ``images``."""
        return images.masked_fill(inside(dice, self.image_size), 0)


class Cutout(Erasing):
    """A square around a point drawn evenly from the image, so a part of it may lie outside.

    DeVries & Taylor 2017, "Improved regularization of convolutional neural networks with cutout".
    """

    def __init__(self, image_size: int, share: float) -> None:
        """``share`` of the image's side is the square's, in (0, 1]; the paper has 0.5 for CIFAR-10."""
        super().__init__(image_size)
        self.side = max(1, round(share * image_size))

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor:
        corner = torch.randint(self.image_size, (num_images, 2), generator=generator) - self.side // 2
        return torch.cat([corner, corner + self.side], 1).float()


class RandomErasing(Erasing):
    """A box of random area and shape, wholly in the image, in a share of the images.

    Zhong et al. 2020, "Random erasing data augmentation" (arXiv 2017); areas and aspects as torchvision's.
    """

    def __init__(self, image_size: int, probability: float) -> None:
        super().__init__(image_size)
        self.probability = probability

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor:
        uniform = torch.rand(num_images, NUM_TRIES, 2, generator=generator)
        corners, is_erased = torch.rand(num_images, 3, generator=generator).split([2, 1], 1)
        area = self.image_size**2 * (AREAS[0] + (AREAS[1] - AREAS[0]) * uniform[:, :, 0])
        low, high = map(math.log, ASPECTS)
        aspect = (low + (high - low) * uniform[:, :, 1]).exp()
        sides = torch.stack([(area * aspect).sqrt().round(), (area / aspect).sqrt().round()], 2)  # (n, tries, 2)
        fits = (sides < self.image_size).all(2)
        first = fits.byte().argmax(1)  # the first try that fits; a box that never did is not erased
        sides = sides[torch.arange(num_images), first]
        sides *= (is_erased < self.probability) & fits.any(1, keepdim=True)
        corner = (corners * (self.image_size - sides + 1)).floor()
        return torch.cat([corner, corner + sides], 1)
