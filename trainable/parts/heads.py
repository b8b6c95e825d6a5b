"""The last layer of a network, its head: one with dropout, one whose logits are cosines; trained alone, or anew."""

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from trainable.precision import FullPrecisionLinear


class DropoutLinear(FullPrecisionLinear):
    """A linear layer with dropout on its input; its tensors have a linear layer's names."""

    def __init__(self, num_in: int, num_out: int, dropout: float) -> None:
        super().__init__(num_in, num_out)
        self.dropout = dropout

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.dropout(features, self.dropout, self.training))


class CosineLinear(nn.Module):
    """Features (B, num_in) to logits (B, num_out): scale times the cosine between features and each class's vector.

    Cao et al. 2019, section 3.2, after Wang et al. 2018 ("CosFace", section 3.1). No bias. The authors' code has the
    scale in the loss; here it is in the logits, so that their softmax means the same everywhere.
    """

    def __init__(self, num_in: int, num_out: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.scale, self.dropout = scale, dropout
        self.weight = nn.Parameter(torch.empty(num_out, num_in))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws each class's vector anew, of length 1."""
        with torch.no_grad():
            self.weight.copy_(functional.normalize(self.weight.uniform_(-1, 1)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        features = functional.dropout(features, self.dropout, self.training)
        with torch.autocast(features.device.type, enabled=False):  # full precision, as ``FullPrecisionLinear`` has it
            features = functional.normalize(features.to(self.weight.dtype))
            return self.scale * functional.linear(features, functional.normalize(self.weight))


def head_name(model: nn.Module) -> str:
    """The name of the last linear layer of ``model``, which gives its logits.

    Raises:
        ValueError: there is none.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | CosineLinear)]
    if not names:
        raise ValueError("the network has no linear layer that could be its head")
    return names[-1]


def head_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The parameters of the head."""
    return set(model.get_submodule(head_name(model)).parameters())


def give_cosine_head(model: nn.Module, scale: float) -> None:
    """Puts a ``CosineLinear`` in the place of the last linear layer of ``model``."""
    name = head_name(model)
    head = model.get_submodule(name)
    assert isinstance(head, nn.Linear)
    dropout = head.dropout if isinstance(head, DropoutLinear) else 0.0
    parent, _, own_name = name.rpartition(".")
    setattr(model.get_submodule(parent), own_name, CosineLinear(head.in_features, head.out_features, scale, dropout))


def redraw_head(model: nn.Module, seed: int) -> None:
    """Draws the weights of the head anew, in place: a function of ``seed``, whatever device they are on.

    The beginning of decoupled training (cRT: Kang et al. 2020, "Decoupling Representation and Classifier for
    Long-Tailed Recognition", section 4): a fresh last layer is trained on class-balanced batches for a few epochs, on
    features that stay as plain training made them. The optimizer must forget the old head's moments.
    """
    head = model.get_submodule(head_name(model))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn = copy.deepcopy(head).cpu()
        drawn.reset_parameters()  # type: ignore[operator]
    head.load_state_dict(drawn.state_dict())


def train_head_alone(model: nn.Module) -> None:
    """Freezes all of ``model`` but its head: no gradients, no batch statistics, no dropout. Stands for ``train()``.

    Gradients below the head are taken away and not only set to 0, or an optimizer's weight decay and momentum would go
    on there.
    """
    of_head = head_parameters(model)
    for parameter in model.parameters():
        if parameter not in of_head:
            parameter.requires_grad_(False)
            parameter.grad = None
    model.eval()


def train_all(model: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """As ``train()``, and ``trained``, the parameters that learn when nothing is frozen, learn again."""
    for parameter in trained:
        parameter.requires_grad_()
    model.train()
