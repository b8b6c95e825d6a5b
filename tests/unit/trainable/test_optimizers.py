import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler, swa_utils

from trainable.parts.networks import ConvNet
from trainable.parts.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    AveragedWeights,
    learning_rate_factor,
    load_moments,
    make_optimizer,
    set_learning_rate,
    warmup_steps,
)

RATE, DECAY = 0.01, 0.1


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(  # no bias before a norm: its gradient would be rounding alone, which Adam scales up
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5, bias=True)
    )


def backward(model, step):
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(step))
    model.zero_grad()
    model(images).square().mean().backward()


def train(model, optimizer, steps):
    for step in steps:
        backward(model, step)
        set_learning_rate(optimizer, learning_rate_factor("cosine", step, 10, 2))
        optimizer.step()


def weights(model):
    return torch.cat([tensor.detach().flatten().double() for tensor in model.state_dict().values()])


def made(name, model):
    return make_optimizer(name, model, RATE, DECAY, "cosine", 2)


def by_torch(name, model):
    """The same recipe in torch's plainest form: no fused kernels."""
    decaying = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decaying, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    if name == "adam":
        return torch.optim.Adam(model.parameters(), lr=RATE, weight_decay=DECAY, foreach=False)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=RATE, foreach=False)
    return torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True, foreach=False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_torchs_plain_one_with_its_decay_where_it_belongs(name):
    ours, theirs = network(), network()
    optimizers = made(name, ours), by_torch(name, theirs)
    for step in range(10):
        backward(ours, step)
        backward(theirs, step)
        factor = learning_rate_factor("cosine", step, 10, 2)
        set_learning_rate(optimizers[0], factor)
        for group in optimizers[1].param_groups:
            group["lr"] = factor * RATE
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "spared"), [("adam", False), ("adamw", True), ("sgd", True)])
def test_norms_and_biases_do_not_decay_but_for_the_courses_adam(name, spared):
    model = network()
    optimizer = make_optimizer(name, model, RATE, DECAY, "constant", 0)
    for tensor in model.parameters():
        tensor.data.fill_(1.0)
        tensor.grad = torch.zeros_like(tensor)
    optimizer.step()
    for tensor in model.parameters():
        assert (tensor == 1).all() == (spared and tensor.dim() <= 1)


def test_the_courses_adam_has_the_same_bits_as_before_there_were_others():
    ours, before = network(), network()
    one = make_optimizer("adam", ours, 1e-3, 1e-4, "constant", 0)
    other = torch.optim.Adam(before.parameters(), lr=1e-3, weight_decay=1e-4, fused=True, capturable=False)
    for step in range(5):
        for model, optimizer in ((ours, one), (before, other)):
            backward(model, step)
            optimizer.step()
        assert torch.equal(weights(ours), weights(before))
        set_learning_rate(one, learning_rate_factor("constant", step, 5))
    assert one.param_groups[0]["lr"] == 1e-3


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("stop", [1, 4, 9])
def test_training_goes_on_bit_for_bit_from_a_stored_state(name, stop):
    whole = network()
    train(whole, made(name, whole), range(10))
    first = network()
    optimizer = made(name, first)
    train(first, optimizer, range(stop))
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    content = torch.load(file, weights_only=True)
    second = network(seed=1)
    again = made(name, second)
    second.load_state_dict(content["model"])
    load_moments(again, content["optimizer"]["state"])
    train(second, again, range(stop, 10))
    assert torch.equal(weights(second), weights(whole))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_settings_are_the_configs_and_not_those_of_a_file(name):
    model = network()
    backward(model, 0)
    stored_optimizer = make_optimizer(name, model, 5.0, 5.0, "constant", 0)
    stored_optimizer.step()
    optimizer = made(name, model)
    rate = optimizer.param_groups[0]["lr"] = torch.tensor(RATE)  # as on a GPU
    stored = stored_optimizer.state_dict()
    stored["param_groups"][0] |= {"capturable": True, "lr": torch.tensor(7.0)}
    load_moments(optimizer, stored["state"])
    group = optimizer.param_groups[0]
    assert group["lr"] is rate
    assert (float(rate), group["weight_decay"]) == (pytest.approx(RATE), DECAY)
    assert not group.get("capturable", False)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_was_frozen_at_first_is_trained_from_when_it_no_longer_is(name):
    ours, theirs = network(), network()
    optimizers = [made(name, ours), by_torch(name, theirs)]
    for model in (ours, theirs):
        model[0].requires_grad_(False)
    for step in range(6):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            if step == 3:
                model[0].requires_grad_(True)
            backward(model, step)
            optimizer.step()
        is_frozen = torch.equal(ours[0].weight, network()[0].weight)
        assert is_frozen == (step < 3)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-5, atol=1e-6)


def test_groups_with_rates_of_their_own_keep_their_ratio():
    model = network()
    optimizer = made("adamw", model)
    optimizer.param_groups[1]["initial_lr"] = RATE / 10
    optimizer.param_groups[1]["lr"] = held = torch.tensor(0.0)
    set_learning_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == RATE / 2
    assert optimizer.param_groups[1]["lr"] is held
    assert float(held) == pytest.approx(RATE / 20)


def torchs_rates(make_scheduler, num_steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = make_scheduler(optimizer)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < num_steps:
            scheduler.step()
    return rates


def torchs(schedule, optimizer, num_steps):
    if schedule == "constant":
        return lr_scheduler.ConstantLR(optimizer, 1.0)
    if schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    if schedule == "one_cycle":
        return lr_scheduler.OneCycleLR(optimizer, 1.0, num_steps)
    return lr_scheduler.MultiStepLR(optimizer, [math.ceil(num_steps / 2), math.ceil(3 * num_steps / 4)])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 7, 100, 517])
def test_every_step_of_a_schedule_is_torchs(schedule, num_steps):
    ours = [learning_rate_factor(schedule, step, num_steps) for step in range(num_steps)]
    theirs = torchs_rates(lambda optimizer: torchs(schedule, optimizer, num_steps), num_steps)
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
@pytest.mark.parametrize(("num_warm", "num_steps"), [(2, 10), (17, 100), (99, 100)])
def test_a_warm_up_and_what_follows_are_torchs(schedule, num_warm, num_steps):
    def make(optimizer):
        after = torchs(schedule, optimizer, num_steps - num_warm)
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["initial_lr"] = 1.0
        warm = lr_scheduler.LinearLR(optimizer, 1 / num_warm, 1.0, num_warm - 1)
        return lr_scheduler.SequentialLR(optimizer, [warm, after], [num_warm])

    ours = [learning_rate_factor(schedule, step, num_steps, num_warm) for step in range(num_steps)]
    assert ours == pytest.approx(torchs_rates(make, num_steps), rel=1e-6, abs=1e-9)


@given(st.sampled_from(list(SCHEDULES)), st.integers(1, 3000), st.floats(0, 20), st.integers(1, 10), st.data())
def test_a_factor_is_above_zero_and_at_most_one(schedule, num_steps, warmup_epochs, epochs, data):
    num_warm = 0 if schedule == "one_cycle" else warmup_steps(warmup_epochs, epochs, num_steps)
    assert 0 <= num_warm <= num_steps
    step = data.draw(st.integers(0, num_steps - 1))
    assert 0 < learning_rate_factor(schedule, step, num_steps, num_warm) <= 1


def test_schedules_as_counted_by_hand():
    assert [learning_rate_factor("step", step, 8) for step in range(8)] == pytest.approx(
        [1] * 4 + [0.1] * 2 + [0.01] * 2
    )
    assert [learning_rate_factor("cosine", step, 4, 2) for step in range(4)] == pytest.approx([0.5, 1, 1, 0.5])
    assert warmup_steps(5, 50, 1000) == 100


def test_averaged_weights_are_a_slow_loops():
    model = network()
    optimizer, average = made("sgd", model), AveragedWeights(model, 0.8)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(50):
        train(model, optimizer, [step % 10])
        average.update(step)
        decay = min(0.8, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor
            else:
                expected[name] = tensor.clone()
    for name, tensor in average.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    assert average.model[1].num_batches_tracked == 50


def test_averaged_weights_are_torchs_once_the_start_is_over():
    model = network()
    average = AveragedWeights(model, 0.9)
    theirs = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True)
    theirs.update_parameters(model)  # the first one copies
    optimizer = made("adam", model)
    for step in range(10):
        train(model, optimizer, [step])
        average.update(1000 + step)
        theirs.update_parameters(model)
    for name, tensor in average.model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, theirs.module.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_averaged_weights_go_on_bit_for_bit_from_their_state_dict():
    model = network()
    optimizer = made("adamw", model)
    one = AveragedWeights(model, 0.95)
    for step in range(5):
        train(model, optimizer, [step])
        one.update(step)
    two = AveragedWeights(model, 0.95)
    two.model.load_state_dict(copy.deepcopy(one.model.state_dict()))
    for step in range(5, 10):
        train(model, optimizer, [step])
        one.update(step)
        two.update(step)
    assert torch.equal(weights(one.model), weights(two.model))


def test_the_average_is_judged_but_never_trained():
    model = ConvNet(10, 32, 0.3).to(memory_format=torch.channels_last)
    average = AveragedWeights(model, 0.99)
    assert not any(tensor.requires_grad for tensor in average.model.parameters())
    assert not average.model.training
    assert all(one.stride() == other.stride()
               for one, other in zip(average.model.parameters(), model.parameters(), strict=True))  # fmt: skip
    before = weights(average.model)
    with torch.no_grad():
        model.features[0].weight.add_(1)
    assert torch.equal(weights(average.model), before)
