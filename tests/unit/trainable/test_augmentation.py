import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import Compose, InterpolationMode, Normalize, ToTensor
from torchvision.transforms import functional as torchvision

from trainable.images.pool import pack, unpack
from trainable.parts.augmentation import Augment, normalise, rotation_angles

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
theirs = Compose([ToTensor(), Normalize(MEAN, STD)])


def random_images(number, size):
    # from 1: a black pixel in the output is one that came from outside
    return np.random.default_rng(0).integers(1, 256, (number, size, size, 3), np.uint8)


def augment(size, flip=True, degrees=10.0, mean=MEAN, std=STD):
    return Augment(size, flip, degrees, torch.tensor(mean), torch.tensor(std))


def as_bytes(batch):
    """What ``augment(mean=[0] * 3, std=[1] * 3)`` made, as uint8 (batch, S, S, 3)."""
    return (batch * 255).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(("size", "degrees"), [(16, 10.0), (32, 10.0), (33, 3.0), (16, 180.0)])
def test_every_flip_and_rotation_is_torchvisions_bit_for_bit(size, degrees):
    angles = rotation_angles(degrees)
    images = random_images(2 * len(angles), size)
    ours = augment(size, True, degrees, [0.0] * 3, [1.0] * 3)
    batch = as_bytes(ours(torch.from_numpy(pack(images)), torch.arange(len(images))))
    for row, image in enumerate(images):
        flipped = row >= len(angles)
        original = Image.fromarray(image)
        expected = torchvision.rotate(
            torchvision.hflip(original) if flipped else original,
            float(angles[row % len(angles)]),
            InterpolationMode.NEAREST,
        )
        assert (batch[row] == np.asarray(expected)).all(), (row, flipped)


@given(st.floats(0, 180))
def test_angles_are_a_fine_even_grid_about_zero(degrees):
    angles = rotation_angles(degrees)
    assert angles[0] == -degrees
    assert angles[-1] == degrees
    np.testing.assert_allclose(angles, -angles[::-1], atol=1e-12)
    gaps = np.diff(angles)
    assert (gaps <= 0.25 + 1e-9).all()
    np.testing.assert_allclose(gaps, 2 * degrees / max(len(gaps), 1), atol=1e-9)


def test_without_rotation_there_is_one_angle():
    assert rotation_angles(0).tolist() == [0]


@given(st.integers(0, 2**32), st.booleans())
def test_rows_are_drawn_evenly_from_all_of_them(seed, flip):
    ours = augment(16, flip, 1.0)
    num_rows = len(rotation_angles(1.0)) * (2 if flip else 1)
    drawn = torch.bincount(ours.draw(2000 * num_rows, torch.Generator().manual_seed(seed)))
    assert len(drawn) == num_rows
    assert ((drawn - 2000).abs() < 6 * 2000**0.5).all()


def test_without_flip_no_image_is_mirrored_and_without_rotation_nothing_happens():
    images = random_images(50, 16)
    pixels, generator = torch.from_numpy(pack(images)), torch.Generator().manual_seed(0)
    unchanged = augment(16, False, 0.0, [0.0] * 3, [1.0] * 3)
    assert (as_bytes(unchanged(pixels, unchanged.draw(50, generator))) == images).all()
    flipping = augment(16, True, 0.0, [0.0] * 3, [1.0] * 3)
    batch = as_bytes(flipping(pixels, flipping.draw(50, generator)))
    same, mirrored = (batch == images).all((1, 2, 3)), (batch == images[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all()
    assert 10 < mirrored.sum() < 40


def test_normalising_is_torchvisions():
    images = random_images(20, 32)
    expected = torch.stack([theirs(Image.fromarray(image)) for image in images])
    ours = normalise(torch.from_numpy(pack(images))[:, :-1], 32, torch.tensor(MEAN), torch.tensor(STD))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_an_augmented_batch_is_torchvisions_normalised_after_rotation():
    images = random_images(4, 16)
    angle = rotation_angles(10.0)[7]
    batch = augment(16)(torch.from_numpy(pack(images)), torch.full((4,), 7))
    expected = torch.stack([theirs(torchvision.rotate(Image.fromarray(image), float(angle))) for image in images])
    torch.testing.assert_close(batch, expected, rtol=0, atol=1e-6)


def test_batches_are_float32_in_channels_last_layout():
    pixels = torch.from_numpy(pack(random_images(3, 16)))
    augmented = augment(16)(pixels, torch.tensor([0, 5, 80]))
    plain = normalise(pixels[:, :-1], 16, torch.tensor(MEAN), torch.tensor(STD))
    for batch in (augmented, plain):
        assert batch.shape == (3, 3, 16, 16)
        assert batch.dtype == torch.float32
        assert batch.stride() == (3 * 16 * 16, 1, 3 * 16, 3)


@given(st.integers(1, 4), st.integers(1, 20), st.randoms(use_true_random=False))
def test_what_is_packed_comes_out_again_with_a_black_pixel_after_it(number, size, rng):
    images = np.frombuffer(rng.randbytes(number * size * size * 3), np.uint8).reshape(number, size, size, 3)
    packed = pack(images)
    assert packed.dtype == np.int32
    assert packed.shape == (number, size * size + 1)
    assert (packed[:, -1] == 0).all()
    assert (unpack(packed, size) == images).all()
