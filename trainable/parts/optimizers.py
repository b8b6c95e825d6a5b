"""Optimizers, how their learning rate changes, and averaged weights.

The learning rate is a pure function of the step, so no scheduler has a state that would have to be saved.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from trainable.parts.heads import head_parameters

MOMENTUM = 0.9  # of sgd

Rate = float | torch.Tensor
Groups = list[dict[str, Any]]


def adam(model: nn.Module, learning_rate: Rate, weight_decay: float) -> torch.optim.Optimizer:
    """Kingma & Ba 2015; ``weight_decay`` is added to the gradient of every parameter, as in the course."""
    return torch.optim.Adam(
        model.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True, capturable=_on_gpu(model)
    )


def adamw(model: nn.Module, learning_rate: Rate, weight_decay: float) -> torch.optim.Optimizer:
    """Loshchilov & Hutter 2019, "Decoupled weight decay regularization"; norms and biases do not decay."""
    groups = _groups(model, weight_decay)
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True, capturable=_on_gpu(model))


def sgd(model: nn.Module, learning_rate: Rate, weight_decay: float) -> torch.optim.Optimizer:
    """Momentum of 0.9 in Nesterov's form (Sutskever et al. 2013); norms and biases do not decay."""
    groups = _groups(model, weight_decay)
    optimizer = torch.optim.SGD(groups, lr=learning_rate, momentum=MOMENTUM, nesterov=True, fused=True)
    # torch makes them at a parameter's first step, and cannot where others, not frozen till then, have theirs
    for tensor in model.parameters():
        optimizer.state[tensor]["momentum_buffer"] = torch.zeros_like(tensor)
    return optimizer


OPTIMIZERS: Mapping[str, Callable[[nn.Module, Rate, float], torch.optim.Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
    "sgd": sgd,
}

# what each remembers of a parameter
MOMENTS: Mapping[str, Set[str]] = {
    "adam": {"step", "exp_avg", "exp_avg_sq"},
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
    "sgd": {"momentum_buffer"},
}


def make_optimizer(
    name: str,
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    schedule: str,
    warmup_epochs: float,
    backbone_rate: float = 1.0,
) -> torch.optim.Optimizer:
    """An optimizer of all parameters of ``model``, also of those that are frozen for now.

    Below the head they learn at ``backbone_rate`` times the learning rate.

    Where its learning rate will change and a CUDA graph captures its step, the rate is a tensor.
    """
    is_constant = schedule == "constant" and warmup_epochs == 0
    rate: Rate = learning_rate
    if _on_gpu(model) and not is_constant:
        rate = torch.tensor(learning_rate, device=next(model.parameters()).device)
    optimizer = OPTIMIZERS[name](model, rate, weight_decay)
    for group in optimizer.param_groups:
        group["initial_lr"] = learning_rate
    if backbone_rate != 1:
        optimizer.param_groups[:] = _slower_below(head_parameters(model), optimizer.param_groups, backbone_rate)
    for group in optimizer.param_groups:
        # a tensor each, groups may learn at different rates
        group["lr"] = (
            torch.full_like(rate, group["initial_lr"]) if isinstance(rate, torch.Tensor) else group["initial_lr"]
        )
    return optimizer


def _slower_below(of_head: Set[nn.Parameter], groups: Groups, factor: float) -> Groups:
    """Each of the groups as two: what lies below the head, which learns at ``factor`` of the rate, and the head."""
    return [
        {**group, "params": parameters, "initial_lr": rate * group["initial_lr"]}
        for group in groups
        for is_head, rate in ((False, factor), (True, 1.0))
        if (parameters := [parameter for parameter in group["params"] if (parameter in of_head) == is_head])
    ]


def _groups(model: nn.Module, weight_decay: float) -> Groups:
    """What decays and what does not: vectors are biases, or scales and shifts of a norm.

    He et al. 2019, "Bag of tricks for image classification", section 3.1: pulling those to 0 limits nothing but range.
    """
    parameters = list(model.parameters())
    return [
        {"params": [tensor for tensor in parameters if tensor.dim() > 1], "weight_decay": weight_decay},
        {"params": [tensor for tensor in parameters if tensor.dim() <= 1], "weight_decay": 0.0},
    ]


def _on_gpu(model: nn.Module) -> bool:
    return next(model.parameters()).is_cuda


def load_moments(optimizer: torch.optim.Optimizer, moments: Mapping[int, Mapping[str, torch.Tensor]]) -> None:
    """Puts ``moments``, the state in a state dict, into ``optimizer``, whose own settings stay as they are.

    Settings follow from the config and the machine; those in a file may be another machine's.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate  # the tensor itself, not the copy that torch makes


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """The next step's rate: ``factor`` times that of the start, in place where it is a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(factor * group["initial_lr"])
        else:
            group["lr"] = factor * group["initial_lr"]


def learning_rate_factor(schedule: str, step: int, num_steps: int, num_warmup_steps: int = 0) -> float:
    """What the learning rate is multiplied by at ``step``, in [0, num_steps), of a whole training; in (0, 1].

    In the warm-up it rises evenly to 1 (Goyal et al. 2017), and the schedule has what is left of the steps;
    one_cycle has a warm-up of its own and takes no other.
    """
    if step < num_warmup_steps:
        return (step + 1) / num_warmup_steps
    return SCHEDULES[schedule](step - num_warmup_steps, num_steps - num_warmup_steps)


def warmup_steps(warmup_epochs: float, epochs: int, num_steps: int) -> int:
    """The steps of the warm-up among ``num_steps`` of all epochs."""
    return min(num_steps, round(num_steps * warmup_epochs / epochs))


def constant(step: int, num_steps: int) -> float:
    return 1.0


def cosine(step: int, num_steps: int) -> float:
    """Half a cosine, to 0 after the last step. Loshchilov & Hutter 2017, "SGDR", without restarts."""
    return _between(1.0, 0.0, step / num_steps)


def one_cycle(step: int, num_steps: int) -> float:
    """Up from 1/25 for 3/10 of the steps and down to 1/250,000, each half a cosine, as torch's OneCycleLR.

    Smith 2018, "Super-convergence". The momentum stays.
    """
    top, last = 0.3 * num_steps - 1, num_steps - 1
    if step <= top:
        return _between(1 / 25, 1.0, step / top)
    return _between(1.0, 1 / 250_000, (step - top) / (last - top))


def milestones(step: int, num_steps: int) -> float:
    """A tenth from half of the steps on, a hundredth from three quarters on. He et al. 2016, section 4.2."""
    return 0.1 ** ((2 * step >= num_steps) + (4 * step >= 3 * num_steps))


SCHEDULES: Mapping[str, Callable[[int, int], float]] = {
    "constant": constant,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "step": milestones,
}


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


Network = TypeVar("Network", bound=nn.Module)


class AveragedWeights(Generic[Network]):
    """An exponential moving average of a model's weights and batch norm statistics; the model that is judged.

    Polyak & Juditsky 1992. Over the first steps the average is shorter, as TensorFlow's ExponentialMovingAverage
    has it, lest the random start still be in it after a short training.
    """

    def __init__(self, model: Network, decay: float) -> None:
        """``decay`` of a step is in (0, 1): the average is over about 1 / (1 - decay) steps."""
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        self._averages, self._currents = (
            [pair[side] for pair in pairs if pair[0].is_floating_point()] for side in (0, 1)
        )
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After the optimizer's ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._currents, 1 - decay)
        for average, current in self._counts:
            average.copy_(current)


def _tensors(model: nn.Module) -> Iterable[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()
