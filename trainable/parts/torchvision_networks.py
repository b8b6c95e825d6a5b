"""torchvision's classifiers by name. torchvision takes as long to import as torch, so nothing is imported up here."""

import difflib
from typing import Any

from torch import nn

from trainable.cli import UsageError
from trainable.network_fields import TORCHVISION
from trainable.parts.heads import DropoutLinear, head_name


def build(name: str, num_classes: int, dropout: float) -> nn.Module:
    """The classifier that torchvision calls ``name``, with fresh weights and a last layer for ``num_classes``.

    Input float32 (batch, 3, S, S), output logits (batch, num_classes). ``dropout`` is that of the layers beside the
    last one; a network without any, like a ResNet, gets it before its last layer. Other randomness, like stochastic
    depth, is as torchvision has it.

    Raises:
        UsageError: torchvision has no classifier of this name, or it ends in no linear layer.
    """
    models = _models(name)
    # their second outputs, for training alone, are of no use to our losses; and these two ask how to draw weights
    extra = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **extra)
    try:
        holder_name, _, own_name = head_name(model).rpartition(".")
    except ValueError as error:
        raise UsageError([f"network: {TORCHVISION}{name} ends in no linear layer, so it cannot be used"]) from error
    holder = model.get_submodule(holder_name)
    beside = [layer for layer in holder.children() if isinstance(layer, nn.Dropout)]
    for layer in beside:
        layer.p = dropout
    drawn = getattr(holder, own_name)
    head = DropoutLinear(drawn.in_features, num_classes, 0.0 if beside else dropout)
    head.weight, head.bias = drawn.weight, drawn.bias  # as torchvision draws them
    setattr(holder, own_name, head)
    return model


def smallest_size(name: str) -> int:
    """The smallest side of an image, in pixels, that torchvision states for its weights of this network."""
    return int(max(_models(name).get_model_weights(name).DEFAULT.meta["min_size"]))


def weights_url(name: str) -> str:
    """Where torchvision's best weights of this network are."""
    return str(_models(name).get_model_weights(name).DEFAULT.url)


def _models(name: str) -> Any:
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        near = " or ".join(TORCHVISION + other for other in difflib.get_close_matches(name, names, 2))
        meant = f"; is {near} meant?" if near else f"; it has {', '.join(names)}"
        raise UsageError([f"network: torchvision has no classifier of the name {TORCHVISION + name!r:.80}{meant}"])
    return models
