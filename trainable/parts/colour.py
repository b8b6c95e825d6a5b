"""Augmentation of colours, batched: each image has its own dice, and no image waits for another's operation."""

import itertools
import math

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from trainable.parts.positions import channels_of

GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue, ITU-R BT.601, as torchvision has them


class ColorJitter:
    """Brightness, contrast and saturation, each by a factor in [1 - strength, 1 + strength], in a random order.

    torchvision's ColorJitter(strength, strength, strength) on images of floats, another order for each image. Each of
    the three is one formula, clamp(factor * x + (1 - factor) * y): y is black, the mean grey, or the pixel's grey.
    """

    num_dice = 4  # the order, and the three factors

    def __init__(self, strength: float, device: torch.device) -> None:
        """``strength`` is in (0, 1]."""
        self.strength = strength
        self._orders = torch.tensor(list(itertools.permutations(range(3))), device=device)  # (6, 3)
        self._grey = torch.tensor(GREY, device=device)

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor:
        order = torch.randint(len(self._orders), (num_images, 1), generator=generator)
        factors = 1 + self.strength * (2 * torch.rand(num_images, 3, generator=generator) - 1)
        return torch.cat([order.float(), factors], 1)

    def __call__(self, images: torch.Tensor, dice: torch.Tensor) -> torch.Tensor:
        """float32 (batch, S * S, 3) in [0, 255], as ``images``."""
        orders, factors = self._orders[dice[:, 0].long()], dice[:, 1:]
        for operation in orders.unbind(1):
            factor = factors.gather(1, operation[:, None])[:, :, None]  # (batch, 1, 1)
            grey = (images @ self._grey)[:, :, None]
            is_contrast, is_brightness = ((operation == kind)[:, None, None] for kind in (1, 0))
            other = torch.where(is_contrast, grey.mean(1, keepdim=True), grey).masked_fill(is_brightness, 0)
            images = (images * factor).add_(other * (1 - factor)).clamp_(0, 255)
        return images


GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
OPERATIONS = (
    *GEOMETRIC,
    "identity",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
NUM_MAGNITUDES = 31
MAX_MAGNITUDES = {
    "shear_x": 0.99,
    "shear_y": 0.99,
    "translate_x": 32.0,
    "translate_y": 32.0,
    "rotate": 135.0,
    "brightness": 0.99,
    "color": 0.99,
    "contrast": 0.99,
    "sharpness": 0.99,
}


def choices() -> list[tuple[str, float]]:
    """Every equally likely (operation, its number), an operation's 62 together, in the order of OPERATIONS.

    The number is a magnitude with its sign; for posterize the bits that are kept, for solarize the threshold.
    """
    steps = torch.linspace(0, 1, NUM_MAGNITUDES)
    bits = (8 - torch.arange(NUM_MAGNITUDES) / ((NUM_MAGNITUDES - 1) / 6)).round()
    thresholds = 255 * torch.linspace(1, 0, NUM_MAGNITUDES).double()
    found = []
    for operation in OPERATIONS:
        most = MAX_MAGNITUDES.get(operation, 0.0)
        numbers = {"posterize": bits, "solarize": thresholds}.get(operation, torch.linspace(0, most, len(steps)))
        signs = (1, -1) if operation in MAX_MAGNITUDES else (1, 1)
        found += [(operation, sign * number) for number in numbers.tolist() for sign in signs]
    return found


class TrivialAugment:
    """One operation of fourteen, at one of 31 strengths, for each image: nothing to tune.

    Müller & Hutter 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", the wide space, as
    torchvision's TrivialAugmentWide has it. What moves pixels is a gather through positions from Pillow; what changes
    a channel's values one by one is a table of 256 for each image and channel; only two operations need more.
    """

    num_dice = 1  # which of ``choices``

    def __init__(self, image_size: int, device: torch.device) -> None:
        self.image_size = image_size
        every = choices()
        self._num_moves = sum(operation in GEOMETRIC for operation, _ in every)
        moves = [_moved(image_size, *choice) for choice in [*every[: self._num_moves], ("identity", 0.0)]]
        self._sources = torch.from_numpy(np.stack(moves)).to(device)  # int32 (moves + 1, S * S)
        self._operations = torch.tensor([OPERATIONS.index(operation) for operation, _ in every], device=device)
        numbers = torch.tensor([number for _, number in every], dtype=torch.float64)
        self._numbers = numbers.float().to(device)
        self._kept, self._added = (1 + numbers).float().to(device), (1 - (1 + numbers)).float().to(device)
        self._values = torch.arange(256.0, device=device)

    def draw(self, num_images: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(len(self._operations), (num_images, 1), generator=generator).float()

    def __call__(self, images: torch.Tensor, dice: torch.Tensor) -> torch.Tensor:
        """int32 (batch, S * S), packed, as ``images``."""
        choice = dice[:, 0].long()
        moved = functional.pad(images, (0, 1)).gather(1, self._sources[choice.clamp(max=self._num_moves)].long())
        planes = channels_of(moved).transpose(1, 2).contiguous()  # uint8 (batch, 3, S * S)
        blended = self._blended(planes.float(), choice)
        index = planes.long()
        grey_mean = _grey(planes.float()).mean(2, keepdim=True)
        looked_up = self._tables(index, grey_mean, choice).gather(2, index)
        is_blend = self._is(choice, "color") | self._is(choice, "sharpness")
        packed = torch.zeros_like(images)
        channels_of(packed).copy_(torch.where(is_blend, blended, looked_up).transpose(1, 2))
        return packed

    def _is(self, choice: torch.Tensor, operation: str) -> torch.Tensor:
        return (self._operations[choice] == OPERATIONS.index(operation))[:, None, None]

    def _tables(self, index: torch.Tensor, grey_mean: torch.Tensor, choice: torch.Tensor) -> torch.Tensor:
        """What each value of each channel becomes: uint8 (batch, 3, 256)."""
        kept, added = self._kept[choice][:, None, None], self._added[choice][:, None, None]
        number = self._numbers[choice][:, None, None]
        counts = torch.zeros(*index.shape[:2], 256, dtype=torch.int32, device=index.device)
        counts.scatter_add_(2, index, torch.ones((), dtype=torch.int32, device=index.device).expand_as(index))
        values = self._values.expand(counts.shape)
        tables = values
        scaled = values * kept
        unit = torch.exp2(8 - number)  # posterize keeps the multiples of it
        for operation, table in {
            "brightness": scaled.clamp(0, 255),
            "contrast": (scaled + grey_mean * added).clamp(0, 255),
            "posterize": (values / unit).floor() * unit,
            "solarize": torch.where(values >= number, 255 - values, values),
            "autocontrast": _stretched(values, counts),
            "equalize": _equalized(values, counts),
        }.items():
            tables = torch.where(self._is(choice, operation), table, tables)
        return tables.byte()

    def _blended(self, planes: torch.Tensor, choice: torch.Tensor) -> torch.Tensor:
        """Each pixel with its grey (color) or its surroundings (sharpness): uint8 (batch, 3, S * S)."""
        squares = planes.view(len(planes), 3, self.image_size, self.image_size)
        # weights of 1 around a 5: a sum over 3 × 3 and 4 more of the middle; the outermost pixels stay
        rows = squares[:, :, :-2] + squares[:, :, 1:-1] + squares[:, :, 2:]
        around = rows[:, :, :, :-2] + rows[:, :, :, 1:-1] + rows[:, :, :, 2:]
        other = squares.clone()
        other[:, :, 1:-1, 1:-1] = around.add_(squares[:, :, 1:-1, 1:-1], alpha=4).div_(13).round_()
        other = torch.where(self._is(choice, "color"), _grey(planes), other.view_as(planes))
        added = self._added[choice][:, None, None]
        return planes.add((other - planes) * added).clamp_(0, 255).byte()


def _grey(planes: torch.Tensor) -> torch.Tensor:
    red, green, blue = planes.split(1, 1)
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2]).floor_()


def _stretched(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Autocontrast: from the lowest to the highest value that occurs, to 0 to 255."""
    occurs = counts > 0
    low = torch.where(occurs, values, 255.0).amin(2, keepdim=True)
    high = torch.where(occurs, values, 0.0).amax(2, keepdim=True)
    stretched = (values - low) / ((high - low) * (1 / 255))
    return torch.where(high == low, values, stretched.clamp(0, 255))


def _equalized(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Histogram equalisation in Pillow's way: whole numbers, the last value that occurs is left out of the step."""
    up_to = counts.cumsum(2, dtype=torch.int32)
    last = counts.gather(2, up_to.argmax(2, keepdim=True))
    step = (up_to[:, :, -1:] - last) // 255
    table = ((up_to - counts + step // 2) // step.clamp(min=1)).clamp(0, 255)
    return torch.where(step == 0, values, table.float())


def _moved(image_size: int, operation: str, number: float) -> np.ndarray:
    """Where each pixel of a moved image comes from: int32 (S * S,), S * S for "from outside"."""
    area = image_size**2
    positions = Image.fromarray(np.arange(1, area + 1, dtype=np.int32).reshape(image_size, image_size))
    if operation == "rotate":
        moved = positions.rotate(number, Image.Resampling.NEAREST)
    else:  # of an output pixel (x, y) to its source (a x + b y + c, d x + e y + f)
        matrix = {
            "identity": (1, 0, 0, 0, 1, 0),
            "shear_x": (1, number, 0, 0, 1, 0),
            "shear_y": (1, 0, 0, number, 1, 0),
            "translate_x": (1, 0, -math.trunc(number), 0, 1, 0),
            "translate_y": (1, 0, 0, 0, 1, -math.trunc(number)),
        }[operation]
        moved = positions.transform(positions.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
    table = np.asarray(moved).ravel()
    return np.where(table == 0, area, table - 1).astype(np.int32)
