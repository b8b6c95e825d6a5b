"""Which places of an image speak for a class. Uses torch.

Grad-CAM: Selvaraju et al. 2017, "Grad-CAM: Visual explanations from deep networks via gradient-based localization",
section 3.
"""

import torch
from torch import nn
from torch.nn import functional

BATCH = 16  # images at a time, whose activations all stay in memory


def grad_cam(network: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """How much each place of an image speaks for a class, float32 (n, S, S), each image's largest value 1, or all 0.

    Each channel of the network's last feature map is weighted by the mean of its gradient over the places; what is
    negative in their sum speaks against the class, and is 0. ``network`` takes ``images``, float32 (n, 3, S, S), to
    logits (n, num_classes), and is in evaluation mode; ``classes`` is int64 (n,).

    Raises:
        ValueError: the network has no feature map, see ``last_feature_map``.
    """
    layer = network.get_submodule(last_feature_map(network, images[:1]))
    parts = zip(images.split(BATCH), classes.split(BATCH), strict=True)
    return torch.cat([_grad_cam(network, layer, *part) for part in parts])


def _grad_cam(network: nn.Module, layer: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, given: object, features: torch.Tensor) -> torch.Tensor:
        kept.append(features)
        return features.clone()  # the layer after it may work in place

    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            # also where no parameter before the map asks for a gradient
            logits = network(images.requires_grad_())
            (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), kept[-1])
    finally:
        hook.remove()
    features = kept[-1].detach()
    heat = functional.relu((gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True))
    heat = functional.interpolate(heat, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)


@torch.no_grad()
def last_feature_map(network: nn.Module, images: torch.Tensor) -> str:
    """The name of the part of ``network`` whose output is the last with channels and more than one place, (n, C, H, W).

    That is what the last convolution has led to. The convolution itself may be one of many that are put together
    (DenseNet), or be followed by half a block (ResNet). A transformer's last map is its patches, or what its blocks
    make of them.

    Raises:
        ValueError: there is none.
    """
    found: list[str] = []

    def look(name: str, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
            found.append(name)

    hooks = [
        module.register_forward_hook(lambda module, given, output, name=name: look(name, output))
        for name, module in network.named_modules()
        if name
    ]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError("the network has no feature map of more than one place")
    return found[-1]
