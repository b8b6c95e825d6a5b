"""The course's way of training, written afresh: what the project's loop is measured against.

One PIL image at a time through torchvision's transforms, a DataLoader in the main process, float32, eager, the
default Adam, and a synchronisation with every batch. Kept as the course has it also where the project differs: a
last, smaller group of batches weighs as much as a full one, and losses are means over batches.

Two departures, so that both loops learn from the same images: validation is the project's split and not the test
set, and images are normalised with the training images' statistics and not with constants for CIFAR-10.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from torchvision import transforms

from trainable.config import TrialConfig
from trainable.images.pool import Pool, unpack
from trainable.images.trial import TrialImages
from trainable.parts.networks import ConvNet

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]  # images, labels


class PilImages(Dataset[tuple[torch.Tensor, int]]):
    """uint8 arrays that become PIL images, one by one, each time they are asked for."""

    def __init__(self, pool: Pool, positions: torch.Tensor, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images = np.ascontiguousarray(unpack(pool.pixels[positions.numpy()], pool.spec.image_size))
        self.labels = pool.labels[positions.numpy()]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def train_images(pool: Pool, images: TrialImages, config: TrialConfig) -> PilImages:
    """The training images behind the course's augmentation."""
    flip = [transforms.RandomHorizontalFlip(p=0.5)] if config.flip else []
    rotation = transforms.RandomRotation(config.rotation_degrees)
    return PilImages(pool, images.train, transforms.Compose([*flip, rotation, *_to_normalised(images)]))


def train_loader(dataset: PilImages, config: TrialConfig, num_workers: int = 0) -> DataLoader:
    """Batches of one epoch; 0 workers, the course's choice, load in the main process."""
    if config.sampler == "shuffle":
        return DataLoader(dataset, config.batch_size, shuffle=True, num_workers=num_workers)
    weights = (1 / np.maximum(np.bincount(dataset.labels), 1))[dataset.labels]
    sampler = WeightedRandomSampler(weights.tolist(), len(weights), replacement=True)
    return DataLoader(dataset, config.batch_size, sampler=sampler, num_workers=num_workers)


def val_loader(pool: Pool, images: TrialImages, config: TrialConfig, num_workers: int = 0) -> DataLoader:
    dataset = PilImages(pool, images.val, transforms.Compose(_to_normalised(images)))
    return DataLoader(dataset, config.batch_size, shuffle=False, num_workers=num_workers)


def _to_normalised(images: TrialImages) -> list[Callable]:
    return [transforms.ToTensor(), transforms.Normalize(images.mean.tolist(), images.std.tolist())]


@dataclass
class Trainer:
    """What the course's loop works on."""

    config: TrialConfig
    model: nn.Module
    optimizer: torch.optim.Optimizer
    criterion: nn.Module
    device: torch.device


def new_trainer(config: TrialConfig, images: TrialImages) -> Trainer:
    # the course's network layer by layer, so the project's class serves here too, in torch's default layout
    device = images.mean.device
    model = ConvNet(images.num_classes, images.image_size, config.dropout).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return Trainer(config, model, optimizer, nn.CrossEntropyLoss(), device)


def train_epoch(trainer: Trainer, batches: Batches) -> tuple[float, float]:
    """One pass over ``batches``: (mean loss over the batches, accuracy)."""
    model, steps = trainer.model, trainer.config.accumulation_steps
    model.train()
    loss_total, num_correct, num_images, num_batches = 0.0, 0, 0, 0
    trainer.optimizer.zero_grad()
    for images, labels in batches:
        images, labels = images.to(trainer.device), labels.to(trainer.device)
        outputs = model(images)
        loss = trainer.criterion(outputs, labels) / steps
        loss.backward()
        num_batches += 1
        if num_batches % steps == 0:
            _update(trainer)
        loss_total += loss.item() * steps
        predicted = outputs.detach().max(1).indices
        num_images += len(labels)
        num_correct += int((predicted == labels).sum().item())
    if num_batches % steps != 0:
        _update(trainer)
    return loss_total / num_batches, num_correct / num_images


def _update(trainer: Trainer) -> None:
    nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.config.clip_norm)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()


def validate(trainer: Trainer, batches: Batches) -> tuple[float, float]:
    """(mean loss over the batches, accuracy), without gradients."""
    trainer.model.eval()
    loss_total, num_correct, num_images, num_batches = 0.0, 0, 0, 0
    with torch.no_grad():
        for images, labels in batches:
            images, labels = images.to(trainer.device), labels.to(trainer.device)
            outputs = trainer.model(images)
            loss_total += trainer.criterion(outputs, labels).item()
            predicted = outputs.max(1).indices
            num_batches += 1
            num_images += len(labels)
            num_correct += int((predicted == labels).sum().item())
    return loss_total / num_batches, num_correct / num_images


def predict(trainer: Trainer, batches: Batches) -> np.ndarray:
    """The predicted class of each image, int64 (n,)."""
    trainer.model.eval()
    predictions: list[int] = []
    with torch.no_grad():
        for images, _ in batches:
            predictions.extend(trainer.model(images.to(trainer.device)).max(1).indices.cpu().numpy())
    return np.array(predictions, np.int64)
