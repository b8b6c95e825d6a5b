"""Several networks of one task as one."""

import torch
from torch import nn


class MeanLogits(nn.Module):
    """The mean of the networks' logits, each counted ``times`` often (default: once)."""

    def __init__(self, networks: list[nn.Module], times: list[int] | None = None) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        times = times or [1] * len(networks)
        self.shares = [number / sum(times) for number in times]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        parts = [share * network(images) for share, network in zip(self.shares, self.networks, strict=True)]
        return torch.stack(parts).sum(0)


def as_one(networks: list[nn.Module]) -> nn.Module:
    """The only one, or the mean of all."""
    return MeanLogits(networks) if len(networks) > 1 else networks[0]


def networks_of(model: nn.Module) -> list[nn.Module]:
    """What ``as_one`` was given."""
    return list(model.networks) if isinstance(model, MeanLogits) else [model]
