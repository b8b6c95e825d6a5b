"""A run that has ended: each of its files is opened once, when it is first asked for. Uses torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from study.confirmation.plan import ConfirmationPlan
from study.confirmation.runs import Recipe
from study.record import validation
from study.statistics import offsets, temperature
from trainable import checkpoint, objectives
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.images.splits import Split, split
from trainable.images.trial import TrialImages, trial_images
from trainable.objectives import Objective
from trainable.parts.losses import log_trained_prior


@dataclass(frozen=True)
class TrainedRun:
    """A recipe's run on one seed. Where a file of it is damaged, what needs that file raises UsageError."""

    recipe: Recipe
    seed: int
    folder: Path
    images: TrialImages  # split and normalised as the run had them
    drawn: Split  # the same as positions, and what the cut has kept from it

    @cached_property
    def model(self) -> nn.Module:
        """Of the best epoch; with folds the mean of their networks."""
        images = self.images
        try:
            return checkpoint.best_model(
                self.folder / "best.pt", self.recipe.config, images.num_classes, images.image_size, images.pixels.device
            )
        except checkpoint.CheckpointError as error:
            raise UsageError([str(error)]) from error

    @property
    def objective(self) -> Objective:
        """What its best epoch is chosen by."""
        return objectives.named(self.recipe.config.objective)

    @property
    def labels(self) -> np.ndarray:
        """Of the n validation images, int64 (n,)."""
        return self._validation[validation.LABELS].astype(np.int64)

    @property
    def groups(self) -> np.ndarray:
        """Equal for validation images of one group, (n,)."""
        return self._validation[validation.GROUPS]

    @property
    def logits(self) -> np.ndarray:
        """Of the best epoch on the validation images, float32 (n, num_classes)."""
        return self._validation[validation.LOGITS].astype(np.float32)

    @property
    def predictions(self) -> np.ndarray:
        """The classes that each epoch saw in the validation images, (num_epochs, n)."""
        return self._validation[validation.PREDICTIONS]

    @property
    def judged(self) -> tuple[np.ndarray, np.ndarray]:
        """What the objective looks at in each epoch, and the same after logit adjustment, (num_epochs, n, …)."""
        plain, adjusted = validation.judged(self.objective)
        return self._validation[plain], self._validation[adjusted]

    @cached_property
    def best_epoch(self) -> int:
        """The epoch of ``model``, counted from 1: the first with the highest score on the validation images."""
        num_classes, minority = self.images.num_classes, self.images.minority
        scores = [self.objective.score(self.labels, row, num_classes, minority) for row in self.judged[0]]
        return 1 + scores.index(max(scores))

    @cached_property
    def decided(self) -> offsets.Decided:
        """The validation images as decisions are made of them.

        Logit adjustment is part of the logits where the objective looks at what is predicted after it.
        """
        logits, sizes = self.logits, [len(part.val) for part in self.images.parts]
        return offsets.Decided(
            logits + np.repeat(self._before_each, sizes, axis=0),
            self.labels,
            self.images.train_counts.tolist(),
            self.images.minority,
            self.groups,
            self.objective.of_decisions,
        )

    @cached_property
    def offsets(self) -> offsets.Offsets:
        """The decision offsets: its validation images, and nothing else, fix them."""
        found = offsets.fit(self.decided, self.seed)
        return replace(found, values=found.values + self.before)

    @cached_property
    def temperature(self) -> temperature.Temperature:
        """Of the probabilities that are left once the offsets are added."""
        return temperature.fit(self.logits + self.offsets.values, self.labels, self.seed, self.groups)

    def as_in_winner(self, logits: np.ndarray) -> np.ndarray:
        """``logits`` (n, num_classes) with decision offsets, and scaled: those of the classifier made of this run."""
        return (logits + self.offsets.values) / self.temperature.value

    @property
    def before(self) -> np.ndarray:
        """What is added to the logits of ``model`` before any offset, float64 (num_classes,)."""
        return self._before_each.mean(axis=0)

    @property
    def _before_each(self) -> np.ndarray:
        """The same of each network, float64 (num_networks, num_classes)."""
        config, epoch = self.recipe.config, self.best_epoch
        return np.stack([adjustment(config, part.train_counts, epoch) for part in self.images.parts])

    @cached_property
    def _validation(self) -> dict[str, np.ndarray]:
        names, max_epochs = list(validation.LAYOUT), self.recipe.config.epochs
        names += validation.OF_LIKELIHOODS if self.objective.of_scores else ()
        path, images = self.folder / "validation.npz", self.images
        found = validation.read(path, names, images.num_classes, len(images.val), max_epochs)
        return dict(zip(names, found, strict=True))


def adjustment(config: TrialConfig, train_counts: torch.Tensor, epoch: int) -> np.ndarray:
    """What is added to a network's logits of ``epoch`` before any offset is fitted, float64 (num_classes,).

    Logit adjustment where the objective looks at what is predicted after it, else nothing.
    """
    if not objectives.named(config.objective).is_adjusted:
        return np.zeros(len(train_counts))
    return -log_trained_prior(config, train_counts, epoch).double().numpy()


TrainedRuns = Mapping[str, Sequence[TrainedRun]]  # by the recipe's name; in the order of the seeds


def open_runs(plan: ConfirmationPlan) -> TrainedRuns:
    """All runs of a confirmation, which have ended; their recipes in the order of the plan."""
    device = torch.device("cuda" if plan.resources.gpus and torch.cuda.is_available() else "cpu")
    runs: dict[str, list[TrainedRun]] = {recipe.name: [] for recipe in plan.recipes}
    pixels: torch.Tensor | None = None
    for seed in plan.seeds:
        images = trial_images(plan.pool, seed, seed, device)
        pixels = images.pixels if pixels is None else pixels  # on a GPU one copy is enough
        images, drawn = images.on(pixels), split(plan.pool, seed, seed)
        for recipe in plan.recipes:
            folder = plan.runs_folder / recipe.run_folder(seed)
            runs[recipe.name].append(TrainedRun(recipe, seed, folder, images, drawn))
    return runs
