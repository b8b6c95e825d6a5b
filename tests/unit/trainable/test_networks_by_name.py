"""What holds of every network: the house's own and a member of each of torchvision's families."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.parts import networks
from trainable.parts.densenet import DenseNet
from trainable.parts.folding import without_batch_norm
from trainable.parts.heads import give_cosine_head, head_name, redraw_head, train_all, train_head_alone
from trainable.parts.resnets import resnet18, resnet32

OWN = list(networks.NETWORKS)
TORCHVISION = [
    "torchvision/" + name
    for name in [
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "googlenet",
        "mobilenet_v3_small",
        "regnet_y_400mf",
        "resnet18",
        "shufflenet_v2_x0_5",
        "swin_t",
    ]
]
ALL = OWN + TORCHVISION
FOLDED = [*OWN[:3], "torchvision/mobilenet_v3_small", "torchvision/efficientnet_b0"]
# those in which something may go another way: dropout beside the head, or none
FEW = [*OWN, *(f"torchvision/{name}" for name in ["mobilenet_v3_small", "resnet18"])]


def make(name, num_classes=7, image_size=None, dropout=0.0, width=1.0, seed=0):
    torch.manual_seed(seed)
    config = replace(TrialConfig(), network=name, dropout=dropout, width=width)
    return networks.make(config, num_classes, image_size or size_for(name))


def size_for(name):
    return 64 if name.startswith("torchvision/") else 32


def images_for(name, count=4):
    return torch.randn(count, 3, size_for(name), size_for(name), generator=torch.Generator().manual_seed(1))


def seasoned(name, **more):
    """A network in evaluation, whose batch norms have seen something and whose gains and shifts are not 1 and 0."""
    model = make(name, **more)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
                module.momentum = 0.5
        model(images_for(name))
        model(images_for(name) * 1.1)
    return model.eval()


def head(model):
    return model.get_submodule(head_name(model))


def num_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("convnet", 1_278_218),
        ("resnet32", 464_154),  # He et al. 2016, table 6: 0.46 M
        ("resnet18", 11_173_962),
        ("densenet_bc", 769_162),  # Huang et al. 2017, table 2: 0.8 M
    ],
)
def test_a_network_has_the_published_number_of_parameters(name, number):
    assert num_parameters(make(name, num_classes=10)) == number


def test_the_number_in_a_networks_name_counts_its_layers():
    def num_layers(model):
        return sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.modules())

    assert num_layers(resnet32(10, 0.0)) == 32
    assert num_layers(resnet18(10, 0.0)) == 18 + 3  # shortcuts that are convolutions are not counted
    assert num_layers(DenseNet(10, 0.0)) == 100


@torch.no_grad()
def test_a_shortcut_without_parameters_halves_the_sides_and_adds_channels_of_zeros():
    block = resnet32(10, 0.0).stages[5]
    x = torch.rand(2, 16, 7, 7)
    for layer in block.residual:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.zeros_(layer.weight)  # so that the shortcut is all there is
    out = block(x)
    assert out.shape == (2, 32, 4, 4)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


@torch.no_grad()
def test_resnet_logits_are_those_of_its_layers_written_out():
    model = seasoned("resnet18")
    state, x = model.state_dict(), images_for("resnet18")

    def norm(x, prefix):
        gain, shift, mean, variance = (
            state[f"{prefix}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return functional.batch_norm(x, mean, variance, gain, shift)

    images, x = x, norm(functional.conv2d(x, state["stem.0.weight"], padding=1), "stem.1").relu()
    for block in range(8):
        prefix, stride = f"stages.{block}", 2 if block in (2, 4, 6) else 1
        out = functional.conv2d(x, state[f"{prefix}.residual.0.weight"], stride=stride, padding=1)
        out = norm(out, f"{prefix}.residual.1").relu()
        out = norm(functional.conv2d(out, state[f"{prefix}.residual.3.weight"], padding=1), f"{prefix}.residual.4")
        if stride == 2:
            x = norm(functional.conv2d(x, state[f"{prefix}.shortcut.0.weight"], stride=2), f"{prefix}.shortcut.1")
        x = (out + x).relu()
    assert x.shape == (4, 512, 4, 4)
    expected = functional.linear(x.mean((2, 3)), state["classifier.weight"], state["classifier.bias"])
    torch.testing.assert_close(model(images), expected)


@torch.no_grad()
def test_densenet_has_the_channels_and_sides_of_the_paper():
    model = DenseNet(10, 0.0).eval()
    shapes = []
    for layer in model.features:
        layer.register_forward_hook(lambda layer, inputs, out: shapes.append(tuple(out.shape[1:])))
    x = torch.rand(1, 3, 32, 32)
    model(x)
    # 24 channels, then 12 more by each layer; a transition halves channels and sides
    first = [(24, 32, 32), *((24 + 12 * n, 32, 32) for n in range(1, 17))]
    second = [(108, 16, 16), *((108 + 12 * n, 16, 16) for n in range(1, 17))]
    third = [(150, 8, 8), *((150 + 12 * n, 8, 8) for n in range(1, 17)), (342, 8, 8), (342, 8, 8)]
    assert shapes == first + second + third
    layer = model.features[1]
    assert torch.equal(layer(torch.rand(1, 24, 4, 4, generator=torch.Generator().manual_seed(0)))[:, :24],
                       torch.rand(1, 24, 4, 4, generator=torch.Generator().manual_seed(0)))  # fmt: skip


@pytest.mark.parametrize(
    ("width", "sizes"),
    [
        (0.01, (8, 8, 8, 8, 8)),
        (0.25, (8, 16, 32, 128, 64)),
        (0.3, (8, 16, 40, 152, 80)),  # 9.6, 19.2, 38.4, 153.6 and 76.8, to the next multiple of 8
        (1.0, (32, 64, 128, 512, 256)),
        (2.0, (64, 128, 256, 1024, 512)),
    ],
)
def test_width_multiplies_the_channels_of_the_courses_network(width, sizes):
    state = make("convnet", num_classes=10, width=width).state_dict()
    c1, c2, c3, h1, h2 = sizes
    shapes = [(c1, 3, 3, 3), (c2, c1, 3, 3), (c3, c2, 3, 3), (h1, 16 * c3), (h2, h1), (10, h2)]
    assert [tuple(tensor.shape) for tensor in state.values() if tensor.dim() > 1] == shapes


def test_the_courses_network_is_as_wide_as_ever_unless_told_otherwise():
    torch.manual_seed(0)
    before = networks.ConvNet(7, 32, 0.3).state_dict()
    now = make("convnet").state_dict()
    assert list(before) == list(now)
    assert all(torch.equal(before[name], now[name]) for name in before)


@pytest.mark.parametrize("image_size", [16, 31, 64])
@pytest.mark.parametrize("name", OWN)
@torch.no_grad()
def test_logits_have_a_row_for_each_image_at_every_size(name, image_size):
    model = make(name, image_size=image_size).eval()
    assert model(torch.randn(2, 3, image_size, image_size)).shape == (2, 7)


@pytest.mark.parametrize("name", ALL)
def test_a_network_learns_with_all_its_parameters_and_its_head_has_the_classes(name):
    model = make(name, num_classes=7)
    logits = model(images_for(name))
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), parameter_name
    moved = sum(bool(p.grad.any()) for p in model.parameters() if p.requires_grad)
    assert moved > 0.9 * sum(p.requires_grad for p in model.parameters())
    assert head(model).weight.shape[0] == 7
    assert head(model).weight.grad.any()


@pytest.mark.parametrize("name", FEW)
def test_the_same_seed_draws_the_same_weights_and_their_state_makes_the_same_network(name):
    one, same, other = make(name), make(name), make(name, seed=1)
    state = one.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in same.state_dict().items())
    assert any(not torch.equal(tensor, state[key]) for key, tensor in other.state_dict().items())
    other.load_state_dict(copy.deepcopy(state))
    with torch.no_grad():
        assert torch.equal(other.eval()(images_for(name)), one.eval()(images_for(name)))


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_a_folded_network_has_the_same_logits_and_fewer_batch_norms(name):
    model = seasoned(name)
    images = images_for(name)
    expected = model(images)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    folded = without_batch_norm(model)
    norms = [sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules()) for net in (model, folded)]
    if name in FOLDED:
        assert norms[1] == 0
    elif name == "densenet_bc":  # most of whose batch norms stand before their convolution
        assert norms[1] < norms[0]
    else:
        assert norms[1] <= norms[0]
    torch.testing.assert_close(folded(images), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["convnet", "resnet32", "torchvision/resnet18"])
@torch.no_grad()
def test_an_exported_network_takes_any_number_of_images(name):
    model = without_batch_norm(seasoned(name, dropout=0.2))
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(model, (images_for(name),), dynamic_shapes=({0: batch},)).module()
    for count in (1, 3, 6):
        images = images_for(name, count)
        torch.testing.assert_close(program(images), model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_dropout_acts_in_training_only_and_is_all_that_the_field_says(name):
    model, without = make(name, dropout=0.5), make(name, dropout=0.0)
    for module in [*model.modules(), *without.modules()]:  # other randomness
        if type(module).__name__ == "StochasticDepth":
            module.p = 0.0
    images = images_for(name)
    assert not torch.equal(model(images), model(images))
    assert torch.equal(without(images), without(images))
    model.load_state_dict(without.state_dict())
    assert torch.equal(model.eval()(images), without.eval()(images))


@pytest.mark.parametrize("name", FEW)
def test_a_frozen_body_stays_as_it_is_and_only_the_head_learns_until_all_learn_again(name):
    model = make(name, dropout=0.3)
    model(images_for(name)).sum().backward()  # gradients from before it was frozen
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

    def step():
        (model(images_for(name)) - 3).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}

    train_head_alone(model)
    assert step() | step() == {f"{head_name(model)}.weight", f"{head_name(model)}.bias"}
    train_all(model, trained)
    changed = step()
    # the course's network has biases that never learn, and freezing must not wake them
    learning = {key for key, parameter in model.named_parameters() if any(parameter is other for other in trained)}
    assert learning == {key for key, parameter in model.named_parameters() if key in changed}
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert all(norm.training for norm in norms)
    if norms:
        assert any("running_mean" in key for key in changed)


@pytest.mark.parametrize("name", FEW)
@torch.no_grad()
def test_the_head_can_be_drawn_anew_and_be_one_of_cosines_and_keeps_its_dropout(name):
    model = make(name, dropout=0.5)
    before, features = {key: tensor.clone() for key, tensor in model.state_dict().items()}, images_for(name)
    redraw_head(model, 5)
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {f"{head_name(model)}.weight", f"{head_name(model)}.bias"}
    dropout = getattr(head(model), "dropout", 0.0)
    give_cosine_head(model, 30)
    assert head(model).dropout == dropout
    assert model.eval()(features).abs().max() <= 30 * (1 + 1e-5)


def test_a_network_that_ends_in_no_linear_layer_is_refused():
    with pytest.raises(UsageError) as error:
        make("torchvision/squeezenet1_1")
    assert error.value.problems == ["network: torchvision/squeezenet1_1 ends in no linear layer, so it cannot be used"]


@pytest.mark.parametrize("image_size", [16, 96, 224])
@pytest.mark.parametrize(("name", "smallest"), [("vit_b_16", 224), ("inception_v3", 75), ("maxvit_t", 224)])
def test_images_that_are_too_small_are_refused_in_a_sentence(name, smallest, image_size):
    if image_size >= smallest:
        networks.check("torchvision/" + name, image_size)
        return
    with pytest.raises(UsageError) as error:
        networks.check("torchvision/" + name, image_size)
    assert error.value.problems == [
        f"network: torchvision/{name} does not take images of {image_size}×{image_size} pixels; "
        f"the smallest that it is made for are {smallest}×{smallest}"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "torchvision/vgg11_bn",
        "torchvision/vit_b_16",
        "torchvision/inception_v3",
        "torchvision/regnet_x_400mf",
        "torchvision/maxvit_t",
        "torchvision/mnasnet0_5",
    ],
)
def test_a_network_is_tried_on_a_size_without_memory_for_its_weights(name, monkeypatch):
    seen, real, original = [], [], networks.make

    def watched(*given):
        seen.append(original(*given))
        real.extend(parameter.numel() for parameter in seen[0].parameters() if parameter.device.type != "meta")
        return seen[0]

    monkeypatch.setattr(networks, "make", watched)
    networks.check(name, 224)
    assert sum(real) <= 1000  # a ViT has a token that is drawn otherwise
    assert isinstance(head(seen[0]), nn.Linear)
    assert head(seen[0]).weight.shape[0] == 2


@pytest.mark.parametrize(("name", "meant"), [("resnet19", "torchvision/resnet18"), ("xyz", "alexnet"), ("", "alexnet")])
def test_a_name_that_torchvision_does_not_know_is_refused_with_what_may_be_meant(name, meant):
    for refuse in (networks.check, lambda network, size: make(network, image_size=size)):
        with pytest.raises(UsageError) as error:
            refuse("torchvision/" + name, 64)
        (problem,) = error.value.problems
        assert repr("torchvision/" + name) in problem
        assert meant in problem
