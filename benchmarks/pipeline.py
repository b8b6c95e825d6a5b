"""The input pipeline alone, on one CPU thread: a batch of uint8 images gathered, flipped, rotated, normalised."""

import argparse
import importlib.util
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import default_collate
from torchvision.transforms import functional as vision

from benchmarks import harness, reference
from benchmarks.harness import Figure, Outcome, Row, column
from trainable import loop
from trainable.cli import Parser
from trainable.config import TrialConfig
from trainable.images.pool import Pool, unpack
from trainable.images.trial import TrialImages
from trainable.parts.augmentation import Augment
from trainable.parts.positions import rotation_angles

TORCHVISION = "torchvision, one by one"
IMAGES_PER_ROW = 8  # compared for each flip and angle

MakeBatch = Callable[[torch.Tensor], torch.Tensor]  # positions, int64 (batch,) -> float32 (batch, 3, S, S)


def add_flags(parser: Parser) -> None:
    harness.add_flags(parser, batches=60)


def run(arguments: argparse.Namespace) -> Outcome:
    pool = harness.load(arguments)
    config = harness.course_config(pool.spec, arguments.seed, num_threads=1)
    num_images = arguments.batches * config.batch_size
    torch.set_num_threads(1)
    devices = sorted({torch.device("cpu"), harness.device()}, key=str)  # the GPU second
    places = {where.type: harness.some_images(pool, config, where, num_images, config.batch_size) for where in devices}
    contenders: dict[str, Callable[[], Row]] = {TORCHVISION: _Torchvision(pool, places["cpu"], config)}
    for where, images in places.items():
        contenders[f"project, {where}"] = _Batches(_project(images, config), images, config)
        contenders[f"affine_grid, {where}"] = _Batches(_affine_grid(pool, images, config), images, config)
        if importlib.util.find_spec("kornia"):
            contenders[f"kornia, {where}"] = _Batches(_kornia(pool, images, config), images, config)
        contenders[_step_name(where)] = _Step(config, images)
    rows = harness.run_rounds(contenders, arguments.rounds)

    figures = [Figure(name, "ms/batch", column(rows, name, "batch_milliseconds")) for name in contenders]
    median = {figure.name: figure.median for figure in figures}
    steps = [_step_name(where) for where in places]
    return Outcome(
        rows,
        [
            figure if figure.name in (TORCHVISION, *steps)
            else Figure(figure.name, figure.unit, figure.values, median[TORCHVISION] / figure.median)
            for figure in figures
        ],
        ratio_of="torchvision's time to this one's; the step has the pipeline in it",
        checks={
            **{f"share_of_the_step_{w}": median[f"project, {w}"] / median[_step_name(w)] for w in places},
            **_check_pixels(pool, places["cpu"], config),
        },
        setting=harness.setting(pool, places["cpu"], config),
    )  # fmt: skip


def _step_name(where: str) -> str:
    return f"training step, {where}"


class _Torchvision:
    """The course's chain for one batch after the other, collated as its DataLoader does."""

    def __init__(self, pool: Pool, images: TrialImages, config: TrialConfig) -> None:
        self.dataset = reference.train_images(pool, images, config)
        self.batches = torch.arange(len(images.train)).split(config.batch_size)

    def __call__(self) -> Row:
        return _per_batch(harness.seconds(self._all), len(self.batches))

    def _all(self) -> None:
        for batch in self.batches:
            default_collate([self.dataset[index] for index in batch.tolist()])


class _Batches:
    """A batched pipeline over the same images."""

    def __init__(self, make_batch: MakeBatch, images: TrialImages, config: TrialConfig) -> None:
        self.make_batch = make_batch
        self.batches = images.train.to(images.mean.device).split(config.batch_size)

    def __call__(self) -> Row:
        return _per_batch(harness.seconds(self._all), len(self.batches))

    def _all(self) -> None:
        for batch in self.batches:
            self.make_batch(batch)


class _Step:
    """The whole training step of the project's loop, one thread."""

    def __init__(self, config: TrialConfig, images: TrialImages) -> None:
        self.rows = loop.run(loop.new_state(config, images), images)
        self.num_batches = math.ceil(len(images.train) / config.batch_size)

    def __call__(self) -> Row:
        return _per_batch(next(self.rows)["train_seconds"], self.num_batches)


def _per_batch(seconds: float, num_batches: int) -> Row:
    return {"seconds": seconds, "batches": num_batches, "batch_milliseconds": 1000 * seconds / num_batches}


def _project(images: TrialImages, config: TrialConfig) -> MakeBatch:
    augment = Augment(images.image_size, config.flip, config.rotation_degrees, images.mean, images.std)
    generator = torch.Generator().manual_seed(0)

    def make_batch(positions: torch.Tensor) -> torch.Tensor:
        rows = augment.draw(len(positions), generator).to(positions.device)
        return augment(images.pixels[positions], rows)

    return make_batch


def _affine_grid(pool: Pool, images: TrialImages, config: TrialConfig) -> MakeBatch:
    source, mean, std = _planes(pool, images)
    generator = torch.Generator().manual_seed(0)

    def make_batch(positions: torch.Tensor) -> torch.Tensor:
        flipped = torch.rand(len(positions), generator=generator) < (0.5 if config.flip else 0.0)
        degrees = (torch.rand(len(positions), generator=generator) * 2 - 1) * config.rotation_degrees
        scaled = source[positions].float() / 255
        return (_rotate(scaled, flipped.to(mean.device), degrees.to(mean.device)) - mean) / std

    return make_batch


def _rotate(pixels: torch.Tensor, flipped: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Flips, then rotates each image counter-clockwise, nearest neighbour, black outside; (batch, 3, S, S)."""
    radians = degrees.deg2rad()
    cos, sin, mirror = radians.cos(), radians.sin(), torch.where(flipped, -1.0, 1.0)
    zero = torch.zeros_like(cos)
    # from a pixel of the output to the one it comes from
    theta = torch.stack([mirror * cos, -mirror * sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _kornia(pool: Pool, images: TrialImages, config: TrialConfig) -> MakeBatch:
    from kornia import augmentation

    source, mean, std = _planes(pool, images)
    flip = augmentation.RandomHorizontalFlip(p=0.5 if config.flip else 0.0)
    rotate = augmentation.RandomRotation(config.rotation_degrees, resample="nearest", p=1.0)

    def make_batch(positions: torch.Tensor) -> torch.Tensor:
        batch: torch.Tensor = (rotate(flip(source[positions].float() / 255)) - mean) / std
        return batch

    return make_batch


def _planes(pool: Pool, images: TrialImages) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All images as uint8 (n, 3, S, S) where the trial's are, and their mean and deviation (1, 3, 1, 1)."""
    unpacked = unpack(pool.pixels, pool.spec.image_size).transpose(0, 3, 1, 2)
    source = torch.from_numpy(np.ascontiguousarray(unpacked)).to(images.mean.device)
    return source, images.mean.view(1, 3, 1, 1), images.std.view(1, 3, 1, 1)


def _check_pixels(pool: Pool, images: TrialImages, config: TrialConfig) -> dict[str, object]:
    """Compares with torchvision's flip and rotation of PIL images at every angle the project may draw."""
    augment = Augment(images.image_size, config.flip, config.rotation_degrees, images.mean, images.std)
    angles = rotation_angles(config.rotation_degrees)
    rows = torch.arange(len(angles) * (2 if config.flip else 1)).repeat_interleave(IMAGES_PER_ROW)
    positions = images.train[torch.arange(len(rows)) % len(images.train)]
    flipped, degrees = rows >= len(angles), torch.from_numpy(angles).float()[rows % len(angles)]
    sources = unpack(pool.pixels[positions.numpy()], images.image_size)
    expected = torch.from_numpy(
        np.stack([
            np.asarray(vision.rotate(vision.hflip(image) if mirror else image, float(angle)))
            for source, mirror, angle in zip(sources, flipped, angles[rows.numpy() % len(angles)], strict=True)
            for image in [Image.fromarray(source)]
        ])
    ).permute(0, 3, 1, 2)  # fmt: skip
    mean, std = images.mean.view(1, 3, 1, 1), images.std.view(1, 3, 1, 1)
    normalised = augment(images.pixels[positions], rows[:, None])
    project = ((normalised * std + mean) * 255).round().to(torch.uint8)
    course = (expected.float() / 255 - mean) / std
    scaled = torch.from_numpy(sources.copy()).permute(0, 3, 1, 2).float() / 255
    grid = (_rotate(scaled, flipped, degrees) * 255).round().to(torch.uint8)
    return {
        "images_compared": len(rows),
        "project_images_bit_equal_before_normalising": int((project == expected).flatten(1).all(1).sum()),
        "project_largest_difference_after_normalising": (normalised - course).abs().max().item(),
        "affine_grid_images_bit_equal": int((grid == expected).flatten(1).all(1).sum()),
        "affine_grid_share_of_pixels_that_differ": (grid != expected).any(1).double().mean().item(),
    }
