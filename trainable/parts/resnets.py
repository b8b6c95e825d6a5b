"""Residual networks for small images.

He et al. 2016, "Deep residual learning for image recognition". ResNet-32 is that of its section 4.2, with shortcuts
that have no parameters (option A). ResNet-18 is the one of its table 1 in the form that became usual for CIFAR: a 3×3
convolution and no pooling in place of the stem for photographs, and shortcuts by projection (option B).
"""

import torch
from torch import nn
from torch.nn import functional

from trainable.parts.heads import DropoutLinear


def resnet32(num_classes: int, dropout: float) -> "ResNet":
    """464,154 parameters with 10 classes."""
    return ResNet([16, 32, 64], num_blocks=5, projects=False, num_classes=num_classes, dropout=dropout)


def resnet18(num_classes: int, dropout: float) -> "ResNet":
    """11,173,962 parameters with 10 classes."""
    return ResNet([64, 128, 256, 512], num_blocks=2, projects=True, num_classes=num_classes, dropout=dropout)


class ResNet(nn.Module):
    """A convolution, stages of ``num_blocks`` residual blocks, the mean over all places, dropout and a linear layer.

    Input float32 (batch, 3, S, S); output logits (batch, num_classes). Each stage but the first halves the sides.
    """

    def __init__(
        self, channels: list[int], *, num_blocks: int, projects: bool, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, channels[0]), nn.BatchNorm2d(channels[0]), nn.ReLU())
        self.stages = nn.Sequential()
        num_in = channels[0]
        for stage, num_out in enumerate(channels):
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                self.stages.append(_Block(num_in, num_out, stride, projects))
                num_in = num_out
        self.classifier = DropoutLinear(num_in, num_classes, dropout)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.stages(self.stem(images)).mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Two 3×3 convolutions, and a shortcut around them."""

    def __init__(self, num_in: int, num_out: int, stride: int, projects: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(num_in, num_out, stride),
            nn.BatchNorm2d(num_out),
            nn.ReLU(),
            _convolution(num_out, num_out),
            nn.BatchNorm2d(num_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if num_in != num_out:
            self.shortcut = _projection(num_in, num_out) if projects else _Padding(num_out - num_in)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.residual(x) + self.shortcut(x))


class _Padding(nn.Module):
    """Option A: every second pixel of each side, and new channels of zeros, half on each side of the old ones."""

    def __init__(self, num_new: int) -> None:
        super().__init__()
        self.num_new = num_new

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.num_new // 2
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.num_new - before))


def _projection(num_in: int, num_out: int) -> nn.Sequential:
    """Option B."""
    return nn.Sequential(_convolution(num_in, num_out, stride=2, side=1), nn.BatchNorm2d(num_out))


def _convolution(num_in: int, num_out: int, stride: int = 1, side: int = 3) -> nn.Conv2d:
    layer = nn.Conv2d(num_in, num_out, side, stride, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # He et al. 2015
    return layer
