"""DenseNet-BC for small images.

Huang et al. 2017, "Densely connected convolutional networks", section 4: every layer sees the outputs of all layers
before it in its block; bottlenecks (B) of four times the growth, and transitions that halve the channels (C).
"""

import torch
from torch import nn

from trainable.parts.heads import DropoutLinear

DEPTH, GROWTH = 100, 12  # L and k of the paper
NUM_BLOCKS = 3


class DenseNet(nn.Module):
    """Three blocks of 16 dense layers, the mean over all places, dropout and a linear layer.

    Input float32 (batch, 3, S, S) with S of at least 4; output logits (batch, num_classes).
    769,162 parameters with 10 classes.
    """

    def __init__(self, num_classes: int, dropout: float) -> None:
        super().__init__()
        num_layers = (DEPTH - 4) // (2 * NUM_BLOCKS)  # of two convolutions each; four stand outside of the blocks
        channels = 2 * GROWTH
        self.features = nn.Sequential(_convolution(3, channels, 3))
        for block in range(NUM_BLOCKS):
            if block > 0:
                self.features.append(nn.Sequential(*_activated(channels, channels // 2, 1), nn.AvgPool2d(2)))
                channels //= 2
            for _ in range(num_layers):
                self.features.append(_DenseLayer(channels))
                channels += GROWTH
        self.features.extend([nn.BatchNorm2d(channels), nn.ReLU()])
        self.classifier = DropoutLinear(channels, num_classes, dropout)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits


class _DenseLayer(nn.Module):
    """Adds ``GROWTH`` channels, made from all that it is given, to these."""

    def __init__(self, num_in: int) -> None:
        super().__init__()
        self.growth = nn.Sequential(*_activated(num_in, 4 * GROWTH, 1), *_activated(4 * GROWTH, GROWTH, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.growth(x)], 1)


def _activated(num_in: int, num_out: int, side: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(num_in), nn.ReLU(), _convolution(num_in, num_out, side)]


def _convolution(num_in: int, num_out: int, side: int) -> nn.Conv2d:
    layer = nn.Conv2d(num_in, num_out, side, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # He et al. 2015, as the paper has it
    return layer
