"""Weights to start from: a file of them, or those that torchvision offers for its own networks."""

import http.client
import re
from pathlib import Path

import torch
from torch import nn

from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.network_fields import TORCHVISION
from trainable.parts import torchvision_networks
from trainable.parts.heads import head_name


def start_from(config: TrialConfig, model: nn.Module) -> list[str]:
    """Copies the weights that ``config`` names into ``model``, its network; see ``fill`` for what is given back.

    Raises:
        UsageError: there is no such file, it cannot be read or downloaded, or is of another network.
    """
    return [] if config.weights == "none" else fill(model, read(config.weights, config.network), config.weights)


def read(weights: str, network: str) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, by name, on the CPU; runs none of the file's code.

    ``weights`` is the path of a file, a state dict by itself or under "model" (as a trial's best.pt has it); or
    "default" for what torchvision offers for ``network``, which is downloaded once and then kept.

    Raises:
        UsageError: there is no such file, it holds no weights, or it cannot be downloaded.
    """
    content = _downloaded(network) if weights == "default" else _read(Path(weights))
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not any(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise UsageError([f"weights: {weights} holds no state dict"])
    # the names of torchvision's older DenseNet files
    legacy = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    return {
        legacy.sub(r"\1\2", str(name)): tensor for name, tensor in content.items() if isinstance(tensor, torch.Tensor)
    }


def fill(model: nn.Module, tensors: dict[str, torch.Tensor], source: str) -> list[str]:
    """Copies ``tensors`` into ``model``; a sentence for each that has another shape, which stays as it was drawn.

    That is the head, where the classes are others. Tensors that the model has no place for are left out.

    Raises:
        UsageError: they are those of another network, or not finite numbers. The model is as it was.
    """
    head, fitting, said = head_name(model) + ".", {}, []
    for name, own in model.state_dict(keep_vars=True).items():
        found = tensors.get(name)
        if found is None:
            if name.startswith(head) or name.endswith("num_batches_tracked"):  # which the oldest files do not have
                continue
            raise UsageError([f"weights: {source} is of another network, it has no {name}"])
        if found.shape != own.shape:
            said.append(f"weights: {name} is {_shape(own)} here and {_shape(found)} in {source}, and starts anew")
        elif not torch.isfinite(found).all():
            raise UsageError([f"weights: {name} of {source} holds values that are no finite numbers"])
        else:
            fitting[name] = own, found
    if not any(own.dim() > 1 and not name.startswith(head) for name, (own, _) in fitting.items()):
        raise UsageError([f"weights: {source} is of another network, no shape fits ({said[0].split(': ', 1)[1]})"])
    with torch.no_grad():
        for own, found in fitting.values():
            own.copy_(found)
    return said


def _read(path: Path) -> object:
    if not path.is_file():  # a pipe would be waited for
        raise UsageError([f"weights: {path} is no file that is there"])
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises on a damaged file is not documented and varies
        raise UsageError([f"weights: {path} cannot be read ({_reason(error)})"]) from error


def _downloaded(network: str) -> object:
    if not network.startswith(TORCHVISION):
        raise UsageError([f"weights: torchvision has none for {network!r}, only for its own networks"])
    url = torchvision_networks.weights_url(network.removeprefix(TORCHVISION))
    try:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        problem = (
            f"weights: {url} cannot be downloaded ({_reason(error)}); put that file into {folder}, or name another"
        )
        raise UsageError([problem]) from error


def _shape(tensor: torch.Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
