import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torchvision.transforms import Compose, InterpolationMode, Normalize, ToTensor
from torchvision.transforms import functional as torchvision

from trainable.images.pool import pack, unpack
from trainable.parts.augmentation import Augment, normalise
from trainable.parts.colour import ColorJitter, TrivialAugment
from trainable.parts.erasing import Cutout, RandomErasing
from trainable.parts.mixing import CutMix, Mixup, Remix
from trainable.parts.positions import MAX_TABLE_BYTES, rotation_angles, source_positions

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
CPU = torch.device("cpu")
theirs = Compose([ToTensor(), Normalize(MEAN, STD)])


def random_images(number, size):
    # from 1: a black pixel in the output is one that came from outside
    return np.random.default_rng(0).integers(1, 256, (number, size, size, 3), np.uint8)


def augment(size, flip=True, degrees=10.0, mean=MEAN, std=STD, **more):
    return Augment(size, flip, degrees, torch.tensor(mean), torch.tensor(std), **more)


def as_bytes(batch):
    """What ``augment(mean=[0] * 3, std=[1] * 3)`` made, as uint8 (batch, S, S, 3)."""
    return (batch * 255).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(("size", "degrees"), [(16, 10.0), (32, 10.0), (33, 3.0), (16, 180.0)])
def test_every_flip_and_rotation_is_torchvisions_bit_for_bit(size, degrees):
    angles = rotation_angles(degrees)
    images = random_images(2 * len(angles), size)
    ours = augment(size, True, degrees, [0.0] * 3, [1.0] * 3)
    batch = as_bytes(ours(torch.from_numpy(pack(images)), torch.arange(len(images))[:, None]))
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
    drawn = torch.bincount(ours.draw(2000 * num_rows, torch.Generator().manual_seed(seed))[:, 0].long())
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
    batch = augment(16)(torch.from_numpy(pack(images)), torch.full((4, 1), 7))
    expected = torch.stack([theirs(torchvision.rotate(Image.fromarray(image), float(angle))) for image in images])
    torch.testing.assert_close(batch, expected, rtol=0, atol=1e-6)


def test_batches_are_float32_in_channels_last_layout():
    pixels = torch.from_numpy(pack(random_images(3, 16)))
    augmented = augment(16)(pixels, torch.tensor([[0], [5], [80]]))
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


def courses_batch(size, flip, degrees, pixels, num_images, generator):
    """The course's augmentation by itself: a table of flipped and rotated positions, one die, one gather."""
    area = size**2
    positions = Image.fromarray(np.arange(1, area + 1, dtype=np.int32).reshape(size, size))
    mirrored = positions.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    rows = [
        np.asarray(image.rotate(float(angle), Image.Resampling.NEAREST)).ravel()
        for image in ([positions, mirrored] if flip else [positions])
        for angle in rotation_angles(degrees)
    ]
    table = np.stack(rows)
    table = torch.from_numpy(np.where(table == 0, area, table - 1).astype(np.int32))
    drawn = torch.randint(len(table), (num_images,), generator=generator)
    gathered = pixels.gather(1, table[drawn].long())
    channels = gathered.unsqueeze(2).view(torch.uint8)[:, :, :3]
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    scaled = (channels.float() - 255 * mean) / (255 * std)
    return scaled.view(num_images, size, size, 3).permute(0, 3, 1, 2)


@settings(max_examples=25)
@given(st.integers(16, 40), st.booleans(), st.sampled_from([0.0, 0.1, 7.3, 10.0, 45.0]), st.integers(0, 2**32))
def test_the_courses_recipe_has_the_same_bits_and_the_same_dice_as_before_there_was_more(size, flip, degrees, seed):
    pixels = torch.from_numpy(pack(random_images(20, size)))
    generators = [torch.Generator().manual_seed(seed) for _ in range(2)]
    expected = courses_batch(size, flip, degrees, pixels, 20, generators[0])
    ours = augment(size, flip, degrees)
    batch = ours(pixels, ours.draw(20, generators[1]))
    assert torch.equal(batch, expected)
    assert batch.stride() == expected.stride()
    assert torch.equal(*(generator.get_state() for generator in generators))


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_flips_rotation_and_crop_are_torchvisions_one_after_the_other_bit_for_bit(padding):
    size, degrees, number = 16, 20.0, 300
    images, angles = random_images(number, size), rotation_angles(degrees)
    ours = augment(size, True, degrees, [0.0] * 3, [1.0] * 3, vertical_flip=True, crop_padding=padding)
    dice = ours.draw(number, torch.Generator().manual_seed(0))
    batch = as_bytes(ours(torch.from_numpy(pack(images)), dice))
    rows, *shifts = dice.long().T
    down, right = shifts if padding else (torch.zeros(number, dtype=torch.int64),) * 2
    for image, made, row, top, left in zip(images, batch, rows.tolist(), down.tolist(), right.tolist(), strict=True):
        expected = Image.fromarray(image)
        flips, angle = divmod(row, len(angles))
        if flips % 2:
            expected = torchvision.hflip(expected)
        if flips // 2:
            expected = torchvision.vflip(expected)
        expected = torchvision.rotate(expected, float(angles[angle]), InterpolationMode.NEAREST)
        expected = torchvision.crop(torchvision.pad(expected, padding), top, left, size, size)
        assert (made == np.asarray(expected)).all(), (flips, angle, top, left)


def test_an_image_of_four_pixels_moves_as_counted_by_hand():
    ours = augment(2, False, 0.0, [0.0] * 3, [1.0] * 3, crop_padding=1)
    image = np.array([[1, 2], [3, 4]], np.uint8)[None, :, :, None].repeat(3, 3)
    moved = {(0, 0): [[0, 0], [0, 1]], (1, 1): [[1, 2], [3, 4]], (2, 1): [[3, 4], [0, 0]], (1, 2): [[2, 0], [4, 0]]}
    for (down, right), expected in moved.items():
        batch = as_bytes(ours(torch.from_numpy(pack(image)), torch.tensor([[0, down, right]])))
        assert batch[0, :, :, 0].tolist() == expected


@given(st.integers(0, 2**32), st.integers(1, 8))
def test_shifts_are_drawn_evenly_in_both_directions(seed, padding):
    ours = augment(16, False, 0.0, crop_padding=padding)
    _, down, right = ours.draw(20_000, torch.Generator().manual_seed(seed)).long().T
    places = torch.bincount(down * (2 * padding + 1) + right)
    assert len(places) == (2 * padding + 1) ** 2
    due = 20_000 / len(places)
    assert ((places - due).abs() < 6 * due**0.5).all()


def test_a_table_that_would_be_too_large_has_fewer_angles_but_keeps_its_ends():
    angles = rotation_angles(180, max_angles=100)
    assert len(angles) == 99
    assert (angles[0], angles[49], angles[-1]) == (-180, 0, 180)
    assert len(rotation_angles(180, max_angles=0)) == 3
    assert len(rotation_angles(10, max_angles=100)) == 81
    table = source_positions(224, True, 180.0, True, 16)
    assert MAX_TABLE_BYTES / 2 < table.numel() * 4 <= MAX_TABLE_BYTES


def test_every_stage_has_its_own_dice_and_none_takes_anothers():
    """All stages together do what they do one after the other."""
    pixels = torch.from_numpy(pack(random_images(40, 16)))
    packed, coloured = TrivialAugment(16, CPU), ColorJitter(0.5, CPU)
    normalised = [Cutout(16, 0.5), RandomErasing(16, 0.5)]
    ours = augment(16, crop_padding=2, packed=[packed], coloured=[coloured], normalised=normalised)
    dice = ours.draw(40, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    plain = augment(16, crop_padding=2, mean=[0.0] * 3, std=[1.0] * 3)
    moved = pack(as_bytes(plain(pixels, plain.draw(40, generator))))
    changed = packed(torch.from_numpy(moved)[:, :-1], packed.draw(40, generator))
    channels = torch.from_numpy(unpack(torch.nn.functional.pad(changed, (0, 1)).numpy(), 16).copy()).float()
    channels = coloured(channels.view(40, 256, 3), coloured.draw(40, generator)).view(40, 16, 16, 3)
    expected = (channels.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    for stage in normalised:
        expected = stage(expected, stage.draw(40, generator))
    torch.testing.assert_close(ours(pixels, dice), expected, rtol=0, atol=1e-5)


def test_nothing_waits_for_the_device_or_has_a_shape_that_depends_on_the_dice():
    """What a CUDA graph cannot capture, a tensor without values cannot do either."""
    size, counts = 16, torch.tensor([50, 10, 5])
    normalised = [Cutout(size, 0.5), RandomErasing(size, 0.5)]
    ours = augment(size, vertical_flip=True, crop_padding=2, packed=[TrivialAugment(size, CPU)],
                   coloured=[ColorJitter(0.5, CPU)], normalised=normalised)  # fmt: skip
    pixels = torch.from_numpy(pack(random_images(6, size)))
    generator, targets = torch.Generator().manual_seed(0), torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    dice = ours.draw(6, generator)
    mixings = [Mixup(0.5), Remix(0.5, counts, 3.0, 0.5), CutMix(0.5, size)]
    mixed = [(mixing, mixing.draw(6, generator)) for mixing in mixings]
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        images = ours(fake.from_tensor(pixels), fake.from_tensor(dice))
        assert images.shape == (6, 3, size, size)
        for mixing, own in mixed:
            made, soft = mixing(images, fake.from_tensor(targets), fake.from_tensor(own))
            assert (made.shape, soft.shape) == (images.shape, targets.shape)
        with pytest.raises(DataDependentOutputException):
            images.sum().item()
