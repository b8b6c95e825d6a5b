"""What there is to look at of a winner: what spoke for its answers, first filters, labels it doubts. Uses torch."""

import base64
import io
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax
from torch import nn

from study.confirmation.grad_cam import grad_cam
from study.confirmation.trained import TrainedRun
from study.record.formats import Activation, Looks, Mistake
from study.statistics import mislabelled
from trainable.images.pool import Pool, unpack

MAX_CLASSES = 6  # of the minority that images are shown of, the first by name
NUM_EACH = 3  # images of a class that are right, and that are wrong
NUM_SUSPECTS = 24
MAX_FILTERS = 64
NUM_MISTAKES = 24
MAX_SIDE = 96  # pixels of an image that is shown: the page holds them all
HEAT = np.array([255.0, 80.0, 0.0])


def mistakes(
    names: Sequence[str],
    pixels: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    files: Sequence[str] | None,
) -> list[Mistake]:
    """The images that the winner gets most wrong: names, probabilities, the image as PNG in base64."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[of_truth[wrong].argsort(kind="stable")][:NUM_MISTAKES]
    return [
        Mistake(
            label=names[labels[index]],
            predicted=names[predicted[index]],
            probability=float(probabilities[index, predicted[index]]),
            png=png(pixels[index]),
            file=files[index] if files else None,
        )
        for index in worst
    ]


class Scaling(Protocol):
    """A classifier: its network, and how images of uint8 (n, 3, S, S) become what that takes."""

    network: nn.Module

    def scaled(self, images: torch.Tensor) -> torch.Tensor: ...


def find(
    classifiers: Sequence[Scaling],
    predicted: np.ndarray,
    probabilities: np.ndarray,
    runs: Sequence[TrainedRun],
    pool: Pool,
    files: Sequence[str] | None,
) -> Looks:
    """``predicted`` and ``probabilities`` are what the first run says of its validation images; with folds each of the
    ``classifiers`` says it of its own. Labels are doubted by what all ``runs`` of its recipe say. ``files`` are the
    paths of the pool's images, if each is a file."""
    images = runs[0].images
    owners = [own for own, part in zip(classifiers, images.parts, strict=True) for _ in part.val]
    sure = probabilities[np.arange(len(predicted)), predicted]
    return Looks(
        activations=_activations(owners, predicted, sure, images.val.numpy(), pool),
        filters=_filters(classifiers[0].network),
        suspects=_suspects(runs, pool, files),
    )


def _activations(
    owners: Sequence[Scaling], predicted: np.ndarray, sure: np.ndarray, positions: np.ndarray, pool: Pool
) -> list[Activation]:
    """Of each minority class the images that the network is surest of, right ones first, then wrong ones."""
    labels = pool.labels[positions]
    order = (-sure).argsort(kind="stable")
    chosen: list[int] = []
    for label in pool.minority[:MAX_CLASSES]:
        for is_right in (True, False):
            these = order[(labels[order] == label) & ((predicted[order] == label) == is_right)]
            chosen += these[:NUM_EACH].tolist()
    pixels = unpack(pool.pixels[positions[chosen]], pool.spec.image_size)
    inputs, classes = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), torch.from_numpy(predicted[chosen])
    heats = np.zeros(pixels.shape[:3], np.float32)
    for owner in dict.fromkeys(owners[index] for index in chosen):
        own = [place for place, index in enumerate(chosen) if owners[index] is owner]
        heats[own] = grad_cam(owner.network, owner.scaled(inputs[own]), classes[own]).numpy()
    names = pool.class_names
    return [
        Activation(
            label=names[labels[index]],
            predicted=names[predicted[index]],
            probability=float(sure[index]),
            png=png(image),
            heat=png(_over(image, heat)),
        )
        for index, image, heat in zip(chosen, pixels, heats, strict=True)
    ]


def _over(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image in grey, and what speaks for the answer in colour."""
    grey = image.astype(np.float64).mean(axis=2, keepdims=True)
    share = 0.65 * heat[:, :, None]
    return ((1 - share) * grey + share * HEAT).astype(np.uint8)


def _filters(network: nn.Module) -> str:
    """The filters of the first convolution as one picture, each on its own scale around grey; "" without any."""
    layer = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if layer is None or layer.in_channels != 3 or layer.groups != 1:
        return ""
    weights = layer.weight.detach().float().numpy()[:MAX_FILTERS].transpose(0, 2, 3, 1)
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    shown = (127.5 + 127.5 * weights / np.where(largest > 0, largest, 1)).astype(np.uint8)
    number, height, width = shown.shape[:3]
    columns = min(16, number)
    rows = -(-number // columns)
    picture = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 4), 0, np.uint8)  # lines between them
    for index, values in enumerate(shown):
        top, left = (height + 1) * (index // columns), (width + 1) * (index % columns)
        picture[top : top + height, left : left + width] = np.dstack([values, np.full(values.shape[:2], 255, np.uint8)])
    scale = max(1, 6 // max(1, height // 3))
    return png(picture.repeat(scale, axis=0).repeat(scale, axis=1))


def _suspects(runs: Sequence[TrainedRun], pool: Pool, files: Sequence[str] | None) -> list[Mistake]:
    """By the mean probability over those of ``runs`` that did not train on an image."""
    total = np.zeros((len(pool.labels), len(pool.class_names)))
    count = np.zeros(len(pool.labels))
    for run in runs:
        positions = run.images.val.numpy()
        total[positions] += softmax(run.logits.astype(np.float64), axis=1)
        count[positions] += 1
    judged = np.flatnonzero(count)
    probabilities = total[judged] / count[judged, None]
    found, likely = mislabelled.suspects(probabilities, pool.labels[judged])
    found, likely = found[:NUM_SUSPECTS], likely[:NUM_SUSPECTS]
    return [
        Mistake(
            label=pool.class_names[pool.labels[position]],
            predicted=pool.class_names[other],
            probability=float(row[other]),
            png=png(unpack(pool.pixels[position : position + 1], pool.spec.image_size)[0]),
            file=files[position] if files else None,
        )
        for position, row, other in zip(judged[found], probabilities[found], likely, strict=True)
    ]


def png(image: np.ndarray, max_side: int = MAX_SIDE) -> str:
    """An image, uint8 (S, S, 3 or 4), as PNG in base64, smaller where it is larger than that."""
    buffer, picture = io.BytesIO(), Image.fromarray(image)
    if image.shape[2] == 3 and len(image) > max_side:
        picture.thumbnail((max_side, max_side))
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
