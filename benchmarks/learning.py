"""Whether the project's loop learns what the course's does: losses in float64, and minority F1 of paired seeds."""

import argparse
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from scipy import stats
from tqdm import tqdm

from benchmarks import harness, reference
from benchmarks.harness import Figure, Outcome, Row
from trainable import learner, loop, metrics
from trainable.arguments import add_data_flags, num_cores
from trainable.cli import Parser, checked, positive_int, seed
from trainable.config import TrialConfig
from trainable.images.pool import Pool
from trainable.images.trial import TrialImages
from trainable.parts.augmentation import Augment
from trainable.parts.samplers import order as draw_order
from trainable.streams import derive

NUM_LOSSES = 50
CONFIDENCE = 0.95


def add_flags(parser: Parser) -> None:
    add_data_flags(parser)
    group = parser.add_argument_group("benchmark")
    group.add_argument("--seed", type=seed, default=0, help="draws the splits and the cut, the same for all pairs")
    group.add_argument(
        "--seeds",
        type=checked(int, "a whole number of at least 2", lambda v: v >= 2),
        default=5,
        help="pairs of trainings for each sampler, seeds 0, 1, …",
    )
    group.add_argument("--epochs", type=positive_int, default=10, help="epochs of each training, the best counts")
    group.add_argument("--subset", type=positive_int, default=6000, help="training images, drawn after the cut")


def run(arguments: argparse.Namespace) -> Outcome:
    pool = harness.load(arguments)
    config = harness.course_config(pool.spec, arguments.seed, num_cores(), epochs=arguments.epochs)
    images = harness.some_images(pool, config, harness.device(), arguments.subset)
    losses = _compare_losses(pool, config)
    scores: list[Row] = []
    with tqdm(total=4 * arguments.seeds, unit=" trainings", disable=None, leave=False) as progress:
        for number in range(arguments.seeds):
            for sampler in ("shuffle", "weighted"):
                paired = dataclasses.replace(config, sampler=sampler, seed=number)
                for contender, train in [("reference", _reference_f1), ("project", _project_f1)]:
                    score = train(pool, images, paired)
                    scores.append({"seed": number, "sampler": sampler, "contender": contender, "minority_f1": score})
                    progress.update()
    figures, intervals = [], {}
    for sampler in ("shuffle", "weighted"):
        course, project = (
            [row["minority_f1"] for row in scores if (row["sampler"], row["contender"]) == (sampler, contender)]
            for contender in ("reference", "project")
        )
        differences = [ours - theirs for ours, theirs in zip(project, course, strict=True)]
        figures += [Figure(f"{sampler}: reference", "minority F1", course),
                    Figure(f"{sampler}: project", "minority F1", project),
                    Figure(f"{sampler}: difference", "minority F1", differences)]  # fmt: skip
        interval = stats.ttest_1samp(differences, 0).confidence_interval(CONFIDENCE)
        intervals[f"{sampler}_mean_difference"] = sum(differences) / len(differences)
        intervals[f"{sampler}_{CONFIDENCE:.0%}_t_interval"] = [float(interval.low), float(interval.high)]
    return Outcome(
        [*losses, *scores],
        figures,
        ratio_of="none; a difference is project - reference with the same seed",
        checks={
            "losses_compared": len(losses),
            "largest_difference_of_a_loss": max(abs(row["project"] - row["reference"]) for row in losses),
            **intervals,
        },
        setting=harness.setting(pool, images, config),
    )


def _compare_losses(pool: Pool, config: TrialConfig) -> list[Row]:
    """The loss of each of the first optimizer steps, of both loops on the same augmented batches, float64, no dropout.

    The project's loop runs through its own front door, in epochs of one step, so whatever it does inside is what
    is compared. The batches are drawn once more as the loop draws them, and fed to the reference.
    """
    with _float64():
        config = dataclasses.replace(config, dropout=0.0)
        images = harness.some_images(pool, config, harness.device(), num_train=len(pool.labels))
        images = dataclasses.replace(images, mean=images.mean.double(), std=images.std.double())
        state = loop.new_state(config, images)
        trainer = reference.new_trainer(config, images)
        trainer.model.load_state_dict(state.learner.model.state_dict())
        step = config.batch_size * config.accumulation_steps
        losses = []
        for epoch in range(1, NUM_LOSSES + 1):
            order = torch.randperm(len(images.train), generator=torch.Generator().manual_seed(epoch))
            some = dataclasses.replace(images, train=images.train[order[:step]])
            project, _ = learner.train_epoch(state.learner, some, epoch)
            course, _ = reference.train_epoch(trainer, _batches(some, config, epoch))
            losses.append({"step": epoch, "project": project, "reference": course})
        return losses


def _batches(images: TrialImages, config: TrialConfig, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The augmented batches of an epoch of the project's loop, in the default layout."""

    def generator(purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive(purpose, config.seed, epoch))

    device = images.mean.device
    augment = Augment(images.image_size, config.flip, config.rotation_degrees, images.mean, images.std)
    order = images.train[draw_order(config, images.labels[images.train], epoch, generator("order"))]
    rows = augment.draw(len(order), generator("augmentation")).to(device)
    batch = augment(images.pixels[order.to(device)], rows).contiguous()
    return list(zip(batch.split(config.batch_size), images.labels[order].split(config.batch_size), strict=True))


@contextmanager
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _project_f1(pool: Pool, images: TrialImages, config: TrialConfig) -> float:
    *_, last = loop.run(loop.new_state(config, images), images)
    return float(last["best_minority_f1"])


def _reference_f1(pool: Pool, images: TrialImages, config: TrialConfig) -> float:
    trainer = reference.new_trainer(config, images)
    trainer.model.load_state_dict(loop.new_state(config, images).learner.model.state_dict())  # a pair starts alike
    torch.manual_seed(config.seed)
    train = reference.train_loader(reference.train_images(pool, images, config), config)
    val = reference.val_loader(pool, images, config)
    labels = images.labels[images.val].numpy()
    scores = []
    for _ in range(config.epochs):
        reference.train_epoch(trainer, train)
        confusion = metrics.confusion_matrix(labels, reference.predict(trainer, val), images.num_classes)
        scores.append(metrics.minority_f1(confusion, images.minority))
    return max(scores)
