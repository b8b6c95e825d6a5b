"""The course's network, and all networks by name."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.network_fields import TORCHVISION
from trainable.parts import torchvision_networks
from trainable.parts.densenet import DenseNet
from trainable.parts.resnets import resnet18, resnet32
from trainable.precision import FullPrecisionLinear


class ConvNet(nn.Module):
    """Three conv blocks (32, 64, 128 channels) and two hidden layers (512, 256), batch norm and dropout.

    ``width`` multiplies the channels and the sizes of the hidden layers, rounded to multiples of 8.
    Input float32 (batch, 3, S, S) with S of at least 8; output logits (batch, num_classes).
    1,278,218 parameters at S = 32 with 10 classes.
    """

    def __init__(self, num_classes: int, image_size: int, dropout: float, width: float = 1.0) -> None:
        super().__init__()
        side = image_size // 8  # after three 2×2 poolings
        c1, c2, c3, h1, h2 = (max(8, 8 * round(size * width / 8)) for size in (32, 64, 128, 512, 256))
        self.features = nn.Sequential(*_conv_block(3, c1), *_conv_block(c1, c2), *_conv_block(c2, c3))
        self.classifier = nn.Sequential(
            nn.Flatten(),
            *_hidden_layer(c3 * side * side, h1, dropout),
            *_hidden_layer(h1, h2, dropout),
            FullPrecisionLinear(h2, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits


def _conv_block(num_in: int, num_out: int) -> list[nn.Module]:
    conv = nn.Conv2d(num_in, num_out, 3, padding=1)
    # batch norm takes any constant away again, so the bias has no effect; its gradient costs 3 % of a step
    conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    # the course has the ReLU before the pooling: the same outputs and gradients, at four times the work
    return [conv, nn.BatchNorm2d(num_out), nn.MaxPool2d(2), nn.ReLU()]


def _hidden_layer(num_in: int, num_out: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(num_in, num_out), nn.BatchNorm1d(num_out), nn.ReLU(), nn.Dropout(dropout)]


# From (config, num_classes, image_size). Each takes float32 (batch, 3, S, S) to logits (batch, num_classes); weights
# are drawn from torch's global generator. The slowest to train come last. Beside these there are torchvision's, see
# ``make``.
NETWORKS: Mapping[str, Callable[[TrialConfig, int, int], nn.Module]] = {
    "convnet": lambda config, num_classes, image_size: ConvNet(num_classes, image_size, config.dropout, config.width),
    "resnet32": lambda config, num_classes, image_size: resnet32(num_classes, config.dropout),
    "resnet18": lambda config, num_classes, image_size: resnet18(num_classes, config.dropout),
    "densenet_bc": lambda config, num_classes, image_size: DenseNet(num_classes, config.dropout),
}


def make(config: TrialConfig, num_classes: int, image_size: int) -> nn.Module:
    """The config's network for images of ``image_size``: one of ``NETWORKS``, or torchvision's as "torchvision/NAME".

    Raises:
        UsageError: torchvision has no such classifier.
    """
    if config.network.startswith(TORCHVISION):
        return torchvision_networks.build(config.network.removeprefix(TORCHVISION), num_classes, config.dropout)
    return NETWORKS[config.network](config, num_classes, image_size)


def check(name: str, image_size: int) -> None:
    """Tries torchvision's network of that name on images of this size, by shapes alone: nothing is computed.

    Ours take every size that images can have. They are not tried: that would load a second's worth of torch.

    Raises:
        UsageError: it does not take them, or torchvision has no such classifier.
    """
    if not name.startswith(TORCHVISION):
        return
    try:
        with _ShapesAlone():
            model = make(replace(TrialConfig(), network=name), 2, image_size).to("meta")
        model(torch.empty(2, 3, image_size, image_size, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        size = torchvision_networks.smallest_size(name.removeprefix(TORCHVISION))
        problem = f"network: {name} does not take images of {image_size}×{image_size} pixels"
        raise UsageError([f"{problem}; the smallest that it is made for are {size}×{size}"]) from error


class _ShapesAlone(TorchFunctionMode):
    """Parameters get no memory. (Some of torchvision's networks count with tensors, which have to be real ones.)"""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return func(*args, **({**kwargs, "device": "meta"} if func is torch.empty else kwargs))
