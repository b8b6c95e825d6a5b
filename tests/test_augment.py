import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

from trainable.augment import Augment, rotation_angles, source_positions
from trainable.data import pack, unpack


@pytest.mark.parametrize("size", [16, 32])
def test_equals_torchvisions_flip_and_rotation_bit_for_bit(size):
    rng = np.random.default_rng(1)
    angles = rotation_angles(10)
    images = rng.integers(0, 256, (2 * len(angles), size, size, 3), np.uint8)
    # normalised with mean 0 and deviation 1/255, pixels come out as they are
    augment = Augment(size, True, 10, torch.zeros(3), torch.full((3,), 1 / 255))
    ours = augment(torch.from_numpy(pack(images)), torch.arange(2 * len(angles)))
    for index, image in enumerate(images):
        pil = Image.fromarray(image)
        if index >= len(angles):
            pil = functional.hflip(pil)
        rotated = functional.rotate(pil, float(angles[index % len(angles)]), InterpolationMode.NEAREST)
        expected = torch.from_numpy(np.array(rotated)).permute(2, 0, 1).float()
        assert torch.equal(ours[index].round(), expected)


def test_the_grid_is_fine_and_symmetric():
    angles = rotation_angles(10)
    assert angles[0] == -10
    assert angles[-1] == 10
    assert np.diff(angles).max() <= 0.25 + 1e-12
    assert rotation_angles(0).tolist() == [0]


def test_without_flip_and_rotation_every_pixel_stays():
    assert source_positions(16, False, 0).tolist() == [list(range(256))]


def test_pack_and_unpack():
    images = np.random.default_rng(2).integers(0, 256, (3, 16, 16, 3), np.uint8)
    assert np.array_equal(unpack(pack(images), 16), images)
