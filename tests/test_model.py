import pytest
import torch

from trainable.model import ConvNet


def test_number_of_parameters():
    assert sum(parameter.numel() for parameter in ConvNet(10, 32, 0.3).parameters()) == 1_278_218


@pytest.mark.parametrize("size", [16, 31, 32, 64, 96])
def test_works_at_every_image_size(size):
    assert ConvNet(7, size, 0.3)(torch.zeros(2, 3, size, size)).shape == (2, 7)
