"""The number format a trial computes in: float32, or bfloat16 where small differences do not add up.

Under bfloat16, convolutions and hidden layers multiply numbers of 8 significant bits, and so do their gradients; what
lies in memory between the layers takes half the bytes. These stay float32: the weights and their gradients as they add
up over batches, Adam's moments, the sums and statistics of batch norm, the last layer with its logits (with 8 bits many
would be equal, and the class that comes first would win), and the losses.
"""

import torch
from torch import nn


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which a network computes in ``precision``.

    Without the cache of casted weights, which would outlive the capture of a CUDA graph.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)


class FullPrecisionLinear(nn.Linear):
    """A linear layer that ``autocast`` leaves alone."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        kind = images.device.type  # "meta", where shapes alone are tried, knows no autocast
        if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
            return super().forward(images)
        with torch.autocast(kind, enabled=False):
            return super().forward(images.to(self.weight.dtype))
