"""Several trials of equal shapes as one program: a prototype, and whether it pays.

Each of the k trials has its own images, weights, learning rate, weight decay and dropout. Its channels are a group of
each convolution, and its hidden layers a matrix of a batched product: a GPU starts one kernel where k trials start k.
Training alone: batch norm keeps no statistics, so nothing is evaluated.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from trainable.parts.networks import ConvNet
from trainable.precision import autocast

EPSILON, MOMENTUM = 1e-5, 0.1  # of batch norm
BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8


class Pack(nn.Module):
    """The course's network k times: images float32 (k, B, 3, S, S) to logits float32 (k, B, num_classes)."""

    def __init__(self, networks: Sequence[ConvNet], dropout: torch.Tensor) -> None:
        """A pack of copies of ``networks``; ``dropout`` of each, float32 (k,)."""
        super().__init__()
        self.size = len(networks)
        features = [network.features for network in networks]
        hidden = [network.classifier for network in networks]
        self._convs = list(zip(_stacked(features, nn.Conv2d), _stacked(features, nn.BatchNorm2d), strict=True))
        linears = _stacked(hidden, nn.Linear)
        self._hidden = list(zip(linears[:-1], _stacked(hidden, nn.BatchNorm1d), strict=True))
        self._last = linears[-1]
        pairs = [layer for pair in [*self._convs, *self._hidden] for layer in pair]
        self.layers = nn.ModuleList([*pairs, self._last])
        self.dropout: torch.Tensor
        self.register_buffer("dropout", dropout.view(-1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        k, batch = images.shape[:2]
        maps = images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)  # (B, k * 3, S, S)
        for conv, norm in self._convs:
            weight = conv.weight.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            maps = functional.conv2d(maps, weight, conv.bias.flatten(), padding=1, groups=k)
            maps = functional.relu(functional.max_pool2d(norm.normalised(maps), 2))
        hidden = maps.reshape(batch, k, -1).transpose(0, 1)  # (k, B, features)
        for layer, norm in self._hidden:
            flat = norm.normalised(layer.products(hidden).transpose(0, 1).reshape(batch, -1))
            hidden = self._dropped(functional.relu(flat).reshape(batch, k, -1).transpose(0, 1))
        with torch.autocast(images.device.type, enabled=False):  # as ``FullPrecisionLinear``
            return self._last.products(hidden.to(self._last.weight.dtype))

    def _dropped(self, hidden: torch.Tensor) -> torch.Tensor:
        kept = torch.rand(hidden.shape, device=hidden.device) >= self.dropout
        return hidden * kept / (1 - self.dropout).to(hidden.dtype)


class _Stack(nn.Module):
    """The weights and biases of k layers, (k, …)."""

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        for name in ("weight", "bias"):
            own = [layer.get_parameter(name) for layer in layers]
            stack = torch.stack([tensor.detach() for tensor in own])
            self.register_parameter(name, nn.Parameter(stack, requires_grad=own[0].requires_grad))

    def products(self, features: torch.Tensor) -> torch.Tensor:
        """Of k linear layers: (k, B, num_in) to (k, B, num_out)."""
        return torch.baddbmm(self.bias.unsqueeze(1), features, self.weight.transpose(1, 2))

    def normalised(self, values: torch.Tensor) -> torch.Tensor:
        """Of k batch norms: (B, k * channels, …), each with its own mean, as all channels have."""
        return functional.batch_norm(
            values, None, None, self.weight.flatten(), self.bias.flatten(), True, MOMENTUM, EPSILON
        )


def _stacked(parts: Sequence[nn.Module], kind: type[nn.Module]) -> list[_Stack]:
    """The layers of one kind, in order, each those of all networks."""
    columns = zip(*([m for m in part.modules() if isinstance(m, kind)] for part in parts), strict=True)
    return [_Stack(column) for column in columns]


class PackedAdam:
    """The course's update of each trial by itself: its gradient's norm clipped, L2 penalty, Adam."""

    def __init__(
        self, pack: Pack, learning_rate: torch.Tensor, weight_decay: torch.Tensor, clip_norm: torch.Tensor
    ) -> None:
        """All float32 (k,), on the device of ``pack``."""
        self._parameters = [tensor for tensor in pack.parameters() if tensor.requires_grad]
        self._learning_rate, self._weight_decay, self._clip_norm = learning_rate, weight_decay, clip_norm
        self._means, self._squares = ([torch.zeros_like(p) for p in self._parameters] for _ in range(2))
        # on the device, where a captured step counts on
        self._num_steps = torch.zeros((), dtype=torch.float64, device=learning_rate.device)

    @torch.no_grad()
    def step(self) -> None:
        """Updates all, and takes the gradients away."""
        self._num_steps += 1
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norms = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
        factors = (self._clip_norm / (norms + 1e-6)).clamp(max=1)
        first, second = ((1 - beta**self._num_steps).float() for beta in BETAS)
        for p, gradient, mean, square in zip(self._parameters, gradients, self._means, self._squares, strict=True):
            each = (-1, *[1] * (p.dim() - 1))
            gradient = gradient * factors.view(each) + p * self._weight_decay.view(each)
            mean.lerp_(gradient, 1 - BETAS[0])
            square.lerp_(gradient.square(), 1 - BETAS[1])
            change = (mean / first) / ((square / second).sqrt() + ADAM_EPSILON)
            p.sub_(self._learning_rate.view(each) * change)
            p.grad = None


def pack_of(networks: Sequence[ConvNet], dropouts: Sequence[float], rates: Sequence[float]) -> tuple[Pack, PackedAdam]:
    """A pack of ``networks``, on their device, with the course's other settings."""
    device = next(networks[0].parameters()).device
    pack = Pack(networks, torch.tensor(dropouts)).to(device)
    k = len(networks)
    decay, clip = torch.full((k,), 1e-4, device=device), torch.ones(k, device=device)
    return pack, PackedAdam(pack, torch.tensor(rates, device=device), decay, clip)


def train_packed(
    pack: Pack, optimizer: PackedAdam, images: torch.Tensor, labels: torch.Tensor, precision: str
) -> torch.Tensor:
    """A step on images (k, B, 3, S, S) and labels int64 (k, B); the loss of each trial, (k,)."""
    with autocast(precision, images.device):
        logits = pack(images)
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    losses = losses.mean(1)
    losses.sum().backward()
    optimizer.step()
    return losses.detach()


def train_single(
    network: ConvNet, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor, precision: str
) -> torch.Tensor:
    """The same of one trial alone: images (B, 3, S, S) and labels (B,)."""
    with autocast(precision, images.device):
        logits = network(images)
    loss = functional.cross_entropy(logits, labels)
    loss.backward()
    clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()
