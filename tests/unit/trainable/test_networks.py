import pytest
import torch
from torch.nn import functional

from trainable.parts.networks import ConvNet


def network(image_size, num_classes=10, dropout=0.3):
    torch.manual_seed(0)
    return ConvNet(num_classes, image_size, dropout)


def trained(image_size):
    """A network whose batch norms have seen something, ready to evaluate."""
    model = network(image_size)
    for _ in range(3):
        model(torch.randn(16, 3, image_size, image_size) * 2 + 1)
    return model.eval()


def written_out(state, images):
    """The network's output in evaluation, a function call for each layer."""
    tensors = iter(state.values())

    def affine_and_norm(x, layer):
        weight, bias = next(tensors), next(tensors)
        gain, shift, mean, variance, _ = (next(tensors) for _ in range(5))
        return functional.batch_norm(layer(x, weight, bias), mean, variance, gain, shift)

    x = images
    for _ in range(3):
        x = functional.max_pool2d(affine_and_norm(x, lambda *a: functional.conv2d(*a, padding=1)).relu(), 2)
    x = x.flatten(1)
    for _ in range(2):
        x = affine_and_norm(x, functional.linear).relu()
    return functional.linear(x, next(tensors), next(tensors))


def test_number_of_parameters():
    assert sum(parameter.numel() for parameter in network(32).parameters()) == 1_278_218


@pytest.mark.parametrize("image_size", [16, 31, 32, 33, 96])
@torch.no_grad()
def test_logits_are_those_of_the_layers_written_out(image_size):
    model = trained(image_size)
    images = torch.randn(5, 3, image_size, image_size)
    logits = model(images)
    assert logits.shape == (5, 10)
    torch.testing.assert_close(logits, written_out(model.state_dict(), images))


@torch.no_grad()
def test_dropout_acts_in_training_only():
    images = torch.randn(8, 3, 16, 16)
    model = network(16, dropout=0.5)
    assert not torch.equal(model(images), model(images))
    model = network(16, dropout=0)
    torch.testing.assert_close(model(images), model(images))
    model = trained(16)
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("image_size", [16, 33])
def test_gradients_are_those_of_the_layers_written_out(image_size):
    # in the order of the course, ReLU before pooling, with batch norm in training
    torch.manual_seed(0)
    images = torch.randn(6, 3, image_size, image_size, dtype=torch.float64)
    model = network(image_size, dropout=0.0).double()
    model(images).square().sum().backward()
    leaves = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    tensors = iter(leaves.values())
    x = images
    for convolution in (True, True, True, False, False):
        weight, bias, gain, shift = (next(tensors) for _ in range(4))
        x = (
            functional.conv2d(x, weight, bias, padding=1)
            if convolution
            else functional.linear(x.flatten(1), weight, bias)
        )
        x = functional.batch_norm(x, None, None, gain, shift, training=True).relu()
        x = functional.max_pool2d(x, 2) if convolution else x
    functional.linear(x, next(tensors), next(tensors)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, leaves[name].grad)
        else:  # left as it is, since batch norm takes it away again
            assert leaves[name].grad.abs().max() < 1e-10
