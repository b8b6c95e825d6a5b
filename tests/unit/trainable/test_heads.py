import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainable.parts.folding import without_batch_norm
from trainable.parts.heads import CosineLinear, give_cosine_head, head_name, redraw_head, train_head_alone
from trainable.parts.networks import ConvNet


def network():
    torch.manual_seed(0)
    return ConvNet(4, 16, dropout=0.5)


def state(model):
    return copy.deepcopy(model.state_dict())


def changed(before, model):
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_cosines_counted_by_hand():
    head = CosineLinear(2, 3, scale=10)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, -5.0], [3.0, 4.0]]))
    # (4, 3) has length 5: cosines 0.8, -0.6, 0.96
    torch.testing.assert_close(head(torch.tensor([[4.0, 3.0]])), torch.tensor([[8.0, -6.0, 9.6]]))


def test_features_that_are_all_zero_have_zero_logits_and_finite_gradients_before_a_relu():
    before = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    logits = CosineLinear(2, 3, scale=30)(before.relu())
    functional.cross_entropy(logits, torch.tensor([0])).backward()
    assert logits.tolist() == [[0, 0, 0]]
    assert before.grad.isfinite().all()


def test_only_the_last_layer_becomes_a_cosine_and_logits_stay_within_the_scale():
    model = network()
    before = model.features[0].weight.clone()
    name = head_name(model)
    give_cosine_head(model, 30)
    assert isinstance(model.get_submodule(name), CosineLinear)
    assert head_name(model) == name
    assert torch.equal(model.features[0].weight, before)
    logits = model.eval()(100 * torch.randn(50, 3, 16, 16))
    assert logits.shape == (50, 4)
    assert logits.abs().max() <= 30 * (1 + 1e-5)
    torch.testing.assert_close(without_batch_norm(model)(torch.ones(2, 3, 16, 16)), model(torch.ones(2, 3, 16, 16)))


@pytest.mark.parametrize("cosine", [False, True])
def test_a_redrawn_head_is_a_function_of_the_seed_in_the_same_memory_and_nothing_else_moves(cosine):
    model = network()
    if cosine:
        give_cosine_head(model, 30)
    head = model.get_submodule(head_name(model))
    before, where, dice = state(model), head.weight.data_ptr(), torch.get_rng_state()
    redraw_head(model, 7)
    first = head.weight.clone()
    assert changed(before, model) == {f"{head_name(model)}.{name}" for name, _ in head.named_parameters()}
    assert head.weight.data_ptr() == where
    assert torch.equal(torch.get_rng_state(), dice)
    redraw_head(model, 8)
    assert not torch.equal(head.weight, first)
    redraw_head(model, 7)
    assert torch.equal(head.weight, first)


def test_only_the_head_trains_on_whatever_weight_decay_and_momentum_would_do():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 4
    functional.cross_entropy(model(images), labels).backward()
    optimizer.step()  # moments that would go on moving what is frozen
    before = state(model)
    train_head_alone(model)
    for _ in range(3):
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    name = head_name(model)
    assert changed(before, model) == {f"{name}.weight", f"{name}.bias"}
    where = model.get_submodule(name).weight.grad.data_ptr()
    train_head_alone(model)  # again, in the next epoch: a captured graph adds to the gradient where it lies
    assert model.get_submodule(name).weight.grad.data_ptr() == where


def test_a_network_without_a_linear_layer_is_refused():
    with pytest.raises(ValueError, match="no linear layer"):
        head_name(nn.Conv2d(3, 4, 1))
