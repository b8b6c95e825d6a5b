"""The images of one trial, where its model is."""

import warnings
from dataclasses import dataclass, replace

import torch

from trainable.images import splits
from trainable.images.drawing import numbered
from trainable.images.pool import Pool, channel_statistics


@dataclass(frozen=True)
class TrialImages:
    """The images of one trial, where its model is."""

    pixels: torch.Tensor  # int32 (n, S * S + 1), see data.pack
    labels: torch.Tensor  # int64 (n,), on the CPU
    train: torch.Tensor  # int64, positions, on the CPU
    val: torch.Tensor  # int64, positions, on the CPU
    image_size: int
    num_classes: int
    minority: tuple[int, ...]
    mean: torch.Tensor  # float32 (3,): of the training images, in units of [0, 1] pixels
    std: torch.Tensor
    val_groups: torch.Tensor | None = None  # int64 (len(val),), on the CPU: equal for images of one group, from 0
    # with folds, see splits.Split: what each network has; train is then the first one's, val that of all
    folds: "tuple[TrialImages, ...]" = ()

    @property
    def parts(self) -> "tuple[TrialImages, ...]":
        """One for each network that the trial trains."""
        return self.folds or (self,)

    def on(self, pixels: torch.Tensor) -> "TrialImages":
        """The same with other pixels: a copy on another device, or other images to be seen as these are."""
        return replace(self, pixels=pixels, folds=tuple(replace(part, pixels=pixels) for part in self.folds))

    @property
    def train_counts(self) -> torch.Tensor:
        """Training images of each class, int64 (num_classes,); with folds the mean over the networks, rounded."""
        counts = [torch.bincount(self.labels[part.train], minlength=self.num_classes) for part in self.parts]
        return torch.stack(counts).double().mean(0).round().long()


def trial_images(pool: Pool, split_seed: int, cut_seed: int, device: torch.device) -> TrialImages:
    """Draws the split and moves the images to ``device``, see ``images_of``."""
    return images_of(pool, splits.split(pool, split_seed, cut_seed), device)


def images_of(pool: Pool, split: splits.Split, device: torch.device) -> TrialImages:
    """Images on ``device``, for what ``split`` says; on the CPU the pool's are used in place, not copied."""
    with warnings.catch_warnings():
        # shared between processes, so read-only; and nothing here writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        pixels = torch.from_numpy(pool.pixels).to(device)
    # networks whose logits are averaged see their images alike
    mean, std = channel_statistics(pool, split.val if split.folds else split.train)
    whole = TrialImages(
        pixels=pixels,
        labels=torch.from_numpy(pool.labels.copy()),
        train=torch.from_numpy(split.train),
        val=torch.from_numpy(split.val),
        image_size=pool.spec.image_size,
        num_classes=len(pool.class_names),
        minority=pool.minority,
        mean=torch.tensor(mean, dtype=torch.float32, device=device),
        std=torch.tensor(std, dtype=torch.float32, device=device),
        val_groups=None if pool.groups is None else torch.from_numpy(numbered(pool.groups[split.val].tolist())),
    )
    folds = [(torch.from_numpy(part.train), torch.from_numpy(part.val)) for part in split.folds]
    return replace(whole, folds=tuple(replace(whole, train=train, val=val, val_groups=None) for train, val in folds))
