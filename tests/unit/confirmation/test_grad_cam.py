"""Grad-CAM against a gradient by differences, and on every kind of network."""

import numpy as np
import pytest
import torch
from torch import nn

from study.confirmation.grad_cam import grad_cam, last_feature_map
from trainable.config import TrialConfig
from trainable.parts import networks
from trainable.parts.folding import without_batch_norm


class Tiny(nn.Module):
    """One convolution of two channels on images of 4×4, in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Sequential(nn.Conv2d(3, 2, 2, stride=2), nn.Tanh())
        self.head = nn.Linear(8, 3)
        self.double()

    def forward(self, images):
        return self.head(self.features(images).flatten(1) ** 2)


def test_the_map_is_that_of_a_slow_gradient():
    network, rng = Tiny(), np.random.default_rng(0)
    images = torch.from_numpy(rng.standard_normal((5, 3, 4, 4)))
    classes = torch.tensor([0, 1, 2, 1, 0])
    found = grad_cam(network, images, classes)
    for index in range(5):
        features = network.features(images[index : index + 1]).detach().numpy()[0]
        gradient = np.empty_like(features)
        for place in np.ndindex(features.shape):  # of the logit by each number of the map, by central differences
            logits = []
            for step in (1e-6, -1e-6):
                moved = features.copy()
                moved[place] += step
                logits.append(network.head(torch.from_numpy(moved.reshape(1, -1) ** 2))[0, classes[index]].item())
            gradient[place] = (logits[0] - logits[1]) / 2e-6
        heat = np.zeros((2, 2))
        for channel in range(2):
            heat += gradient[channel].mean() * features[channel]
        heat = np.maximum(heat, 0)
        expected = nn.functional.interpolate(torch.from_numpy(heat)[None, None], size=4, mode="bilinear")[0, 0].numpy()
        expected = expected / expected.max() if expected.max() else expected
        assert found[index].numpy() == pytest.approx(expected, abs=1e-6)
    assert found.max() == 1


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("convnet", 32, "features"),
        ("resnet32", 32, "stages"),
        ("resnet18", 32, "stages"),
        ("densenet_bc", 32, "features"),
        ("torchvision/resnet18", 64, "layer4"),
        ("torchvision/densenet121", 64, "features"),
        ("torchvision/mobilenet_v3_small", 64, "features"),
        ("torchvision/convnext_tiny", 64, "features"),
        ("torchvision/swin_t", 64, "permute"),
    ],
)
def test_every_network_has_a_map(name, size, layer):
    torch.manual_seed(0)
    network = without_batch_norm(networks.make(TrialConfig(network=name), 4, size)).to(
        memory_format=torch.channels_last
    )
    images = torch.randn(2, 3, size, size)
    assert last_feature_map(network, images) == layer
    with torch.no_grad():
        before = network(images)
    heat = grad_cam(network, images, torch.tensor([0, 3]))
    assert heat.shape == (2, size, size)
    assert heat.min() >= 0
    # nothing at all may speak for what a network says that has learned nothing
    assert set(heat.amax((1, 2)).tolist()) in ({1.0}, {0.0, 1.0})
    with torch.no_grad():
        assert torch.equal(network(images), before)  # nothing is left behind
