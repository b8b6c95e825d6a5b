"""The course's network."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils import fusion

from trainable.precision import FullPrecisionLinear


class ConvNet(nn.Module):
    """Three conv blocks (32, 64, 128 channels) and two hidden layers (512, 256), batch norm and dropout.

    Input float32 (batch, 3, S, S) with S from 16 to 96; output logits (batch, num_classes).
    1,278,218 parameters at S = 32 with 10 classes.
    """

    def __init__(self, num_classes: int, image_size: int, dropout: float) -> None:
        super().__init__()
        side = image_size // 8  # after three 2×2 poolings
        self.features = nn.Sequential(*_conv_block(3, 32), *_conv_block(32, 64), *_conv_block(64, 128))
        self.classifier = nn.Sequential(
            nn.Flatten(),
            *_hidden_layer(128 * side * side, 512, dropout),
            *_hidden_layer(512, 256, dropout),
            FullPrecisionLinear(256, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images))
        return logits

    def without_batch_norm(self) -> "ConvNet":
        """A copy for inference alone, each batch norm folded into the layer before it; dropout is gone too.

        The same logits but for rounding, in fewer steps over the activations.
        """
        folded = copy.deepcopy(self).eval()
        folded.features = _folded(folded.features)
        folded.classifier = _folded(folded.classifier)
        return folded


def _folded(layers: nn.Sequential) -> nn.Sequential:
    kept: list[Any] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            kept[-1] = fusion.fuse_conv_bn_eval(kept[-1], layer)
        elif isinstance(layer, nn.BatchNorm1d):
            kept[-1] = fusion.fuse_linear_bn_eval(kept[-1], layer)
        elif not isinstance(layer, nn.Dropout):
            kept.append(layer)
    return nn.Sequential(*kept)


def _conv_block(num_in: int, num_out: int) -> list[nn.Module]:
    conv = nn.Conv2d(num_in, num_out, 3, padding=1)
    # batch norm takes any constant away again, so the bias has no effect; its gradient costs 3 % of a step
    conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    # the course has the ReLU before the pooling: the same outputs and gradients, at four times the work
    return [conv, nn.BatchNorm2d(num_out), nn.MaxPool2d(2), nn.ReLU()]


def _hidden_layer(num_in: int, num_out: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(num_in, num_out), nn.BatchNorm1d(num_out), nn.ReLU(), nn.Dropout(dropout)]
