import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import ColorJitter as TheirColorJitter
from torchvision.transforms.v2 import TrivialAugmentWide
from torchvision.transforms.v2 import functional as torchvision

from trainable.images.pool import pack, unpack
from trainable.parts.colour import GEOMETRIC, OPERATIONS, ColorJitter, TrivialAugment, choices

CPU = torch.device("cpu")
SIZE = 24


def images_of(number, seed=0):
    """uint8 (number, S, S, 3): of noise, faint, and of one flat colour."""
    images = np.random.default_rng(seed).integers(0, 256, (number, SIZE, SIZE, 3), np.uint8)
    images[1::3] = images[1::3] // 4 + 90
    images[2::3] = images[2::3, :1, :1]
    return images


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_choice(images, chosen):
    """TrivialAugment's ``chosen`` on uint8 (n, S, S, 3)."""
    packed = torch.from_numpy(pack(images))[:, :-1]
    made = TrivialAugment(SIZE, CPU)(packed, torch.tensor(chosen).float()[:, None])
    return unpack(np.pad(made.numpy(), ((0, 0), (0, 1))), SIZE)


def their(image, operation, number):
    """torchvision's operation: on Pillow's image where pixels move, as everywhere here, else on a tensor."""
    if operation in GEOMETRIC:
        picture, nearest = Image.fromarray(image), InterpolationMode.NEAREST
        level = math.degrees(math.atan(number))
        moved = {
            "shear_x": lambda: torchvision.affine(picture, 0.0, [0, 0], 1.0, [level, 0.0], nearest, center=[0, 0]),
            "shear_y": lambda: torchvision.affine(picture, 0.0, [0, 0], 1.0, [0.0, level], nearest, center=[0, 0]),
            "translate_x": lambda: torchvision.affine(picture, 0.0, [int(number), 0], 1.0, [0.0, 0.0], nearest),
            "translate_y": lambda: torchvision.affine(picture, 0.0, [0, int(number)], 1.0, [0.0, 0.0], nearest),
            "rotate": lambda: torchvision.rotate(picture, number, nearest),
        }
        return np.asarray(moved[operation]())
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    changed = {
        "identity": lambda: tensor,
        "brightness": lambda: torchvision.adjust_brightness(tensor, 1 + number),
        "color": lambda: torchvision.adjust_saturation(tensor, 1 + number),
        "contrast": lambda: torchvision.adjust_contrast(tensor, 1 + number),
        "sharpness": lambda: torchvision.adjust_sharpness(tensor, 1 + number),
        "posterize": lambda: torchvision.posterize(tensor, int(number)),
        "solarize": lambda: torchvision.solarize(tensor, number),
        "autocontrast": lambda: torchvision.autocontrast(tensor),
        "equalize": lambda: torchvision.equalize(tensor),
    }
    return changed[operation]().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_at_each_strength_is_torchvisions(operation):
    every = choices()
    chosen = [row for row, choice in enumerate(every) if choice[0] == operation]
    assert len(chosen) == 62
    images = images_of(2 * len(chosen), seed=OPERATIONS.index(operation))
    made = by_choice(images, [*chosen, *chosen])
    expected = np.stack([their(image, *every[row]) for image, row in zip(images, [*chosen, *chosen], strict=True)])
    difference = np.abs(made.astype(int) - expected)
    if operation in ("color", "sharpness"):  # the last bit of a float before it is cut to a whole number
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01
    else:
        assert difference.max() == 0


def test_the_strengths_are_torchvisions():
    theirs = TrivialAugmentWide()._AUGMENTATION_SPACE
    ours = {operation: [number for name, number in choices() if name == operation] for operation in OPERATIONS}
    assert {name.lower() for name in theirs} == {operation.replace("_", "") for operation in ours}
    for name, (magnitudes, signed) in theirs.items():
        found = next(numbers for operation, numbers in ours.items() if operation.replace("_", "") == name.lower())
        numbers = magnitudes(31, SIZE, SIZE)
        numbers = [0.0] * 31 if numbers is None else (numbers * (255 if name == "Solarize" else 1)).tolist()
        expected = sorted([*numbers, *(-number if signed else number for number in numbers)])
        np.testing.assert_allclose(sorted(found), expected, rtol=1e-6)


@given(st.integers(0, 2**32))
def test_every_choice_is_equally_likely(seed):
    stage = TrivialAugment(16, CPU)
    drawn = torch.bincount(stage.draw(500 * 868, generator(seed))[:, 0].long())
    assert len(drawn) == 868
    assert ((drawn - 500).abs() < 6 * 500**0.5).all()


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_jitter_is_torchvisions_in_every_order(strength):
    stage, images = ColorJitter(strength, CPU), images_of(120)
    dice = stage.draw(len(images), generator())
    assert dice[:, 0].unique().tolist() == [0, 1, 2, 3, 4, 5]
    made = stage(torch.from_numpy(images).view(len(images), -1, 3).float(), dice)
    functions = [torchvision.adjust_brightness, torchvision.adjust_contrast, torchvision.adjust_saturation]
    for image, ours, (order, *factors) in zip(images, made, dice.tolist(), strict=True):
        expected = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        for operation in stage._orders[int(order)].tolist():
            expected = functions[operation](expected, factors[operation])
        torch.testing.assert_close(ours.view(SIZE, SIZE, 3).permute(2, 0, 1) / 255, expected, rtol=0, atol=1e-5)


def test_jitter_of_two_pixels_as_counted_by_hand():
    stage = ColorJitter(1.0, CPU)
    pixels = torch.tensor([[[100.0, 100, 100], [200, 200, 200]]])  # grey 99.99 and 199.98, of mean 149.985
    order = stage._orders.tolist().index([0, 1, 2])
    brighter = stage(pixels, torch.tensor([[order, 1.5, 1.0, 1.0]]))
    torch.testing.assert_close(brighter[0, :, 0], torch.tensor([150.0, 255.0]))
    flatter = stage(pixels, torch.tensor([[order, 1.0, 0.0, 1.0]]))
    torch.testing.assert_close(flatter, torch.full((1, 2, 3), 149.985))


@given(st.integers(0, 2**32), st.floats(0.01, 1))
def test_factors_are_drawn_evenly_from_torchvisions_range(seed, strength):
    factors = ColorJitter(strength, CPU).draw(3000, generator(seed))[:, 1:].double()
    low, high = TheirColorJitter(strength).brightness or (1.0, 1.0)
    assert (factors >= low - 1e-6).all()
    assert (factors <= high + 1e-6).all()
    assert (factors.mean() - 1).abs() < 6 * strength / 3**0.5 / 9000**0.5
