import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from trainable import learner, loop
from trainable.arguments import default_config
from trainable.evaluation import adjusted_logits, evaluate
from trainable.images.pool import channel_statistics, class_counts, unpack
from trainable.images.splits import split
from trainable.images.trial import trial_images
from trainable.metrics import confusion_matrix, f1_per_class
from trainable.parts.augmentation import normalise
from trainable.parts.samplers import order as draw_order
from trainable.streams import derive

CPU = torch.device("cpu")


def config(**fields):
    return dataclasses.replace(default_config("digits", 3, epochs=4, num_threads=1), **fields)


@pytest.fixture(scope="module")
def images(digits_pool):
    return trial_images(digits_pool, 3, 3, CPU)


class Linear64(torch.nn.Module):
    """Float64, no batch norm, no dropout."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3 * 16 * 16, 10, dtype=torch.float64)

    def forward(self, batch):
        return self.linear(batch.double().flatten(1))


def state_of(model, lr=0.1, **fields):
    """A trial by plain gradient descent."""
    one = learner.Learner(config(**fields), model, torch.optim.SGD(model.parameters(), lr=lr))
    return loop.TrialState(one.config, [one], [], {})


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained_once(images, batch_size, accumulation_steps):
    """Weights after an epoch of plain gradient descent, unclipped."""
    torch.manual_seed(0)
    model = Linear64()
    state = state_of(
        model, batch_size=batch_size, accumulation_steps=accumulation_steps, clip_norm=1e9, rotation_degrees=0
    )
    learner.train_epoch(state.learner, images, 1)
    return weights(model)


def trained_by_hand(images, union_size):
    """The same epoch, written out: a step on the mean loss of each union of batches."""
    torch.manual_seed(0)
    model = Linear64()
    asked = config(rotation_degrees=0)
    generator = torch.Generator().manual_seed(derive("order", asked.seed, 1))
    order = images.train[draw_order(asked, images.labels[images.train], 1, generator)]
    for union in order.split(union_size):
        batch = normalise(images.pixels[union, :-1], 16, images.mean, images.std)
        loss = functional.cross_entropy(model(batch), images.labels[union])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    return weights(model)


@pytest.mark.parametrize(("batch_size", "steps"), [(100, 3), (50, 4), (64, 8)])
def test_accumulated_batches_give_the_step_of_their_union_last_partial_group_included(images, batch_size, steps):
    # 816 images: the last group is smaller, and so is its last batch
    union, accumulated = trained_by_hand(images, batch_size * steps), trained_once(images, batch_size, steps)
    assert torch.allclose(union, accumulated, rtol=0, atol=1e-6)
    assert not torch.allclose(union, trained_once(images, batch_size, 1), rtol=0, atol=1e-4)


def plain_pixels(images, positions):
    """The images, normalised and otherwise as they are, by NumPy: float64 (n, 3, S, S)."""
    pixels = unpack(images.pixels[positions].numpy(), images.image_size) / 255
    return torch.from_numpy((pixels - images.mean.numpy()) / images.std.numpy()).permute(0, 3, 1, 2)


UNALTERED = {"flip": False, "rotation_degrees": 0.0}


def mean_gradient(model, images, positions):
    """The gradient of the mean cross-entropy over the images at ``positions``, all in one batch."""
    loss = functional.cross_entropy(model(plain_pixels(images, positions)), images.labels[positions])
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize(("batch_size", "num_images"), [(6, 24), (6, 20), (6, 25), (40, 20)])
def test_a_group_weighs_each_of_its_images_the_same(images, batch_size, num_images):
    # one group holds all images: its step must be that of their mean, in whatever order they came
    some = dataclasses.replace(images, train=images.train[:num_images])
    model = Linear64()
    before, gradient = weights(model), mean_gradient(model, some, some.train)
    state = state_of(model, batch_size=batch_size, accumulation_steps=10, clip_norm=1e9, **UNALTERED)
    learner.train_epoch(state.learner, some, 1)
    torch.testing.assert_close(weights(model), before - 0.1 * gradient, rtol=0, atol=1e-6)


def test_the_gradient_of_a_whole_group_is_clipped(images):
    some = dataclasses.replace(images, train=images.train[:20])
    model = Linear64()
    before, gradient = weights(model), mean_gradient(model, some, some.train)
    assert gradient.norm() > 0.5
    state = state_of(model, batch_size=6, accumulation_steps=10, clip_norm=0.5, **UNALTERED)
    learner.train_epoch(state.learner, some, 1)
    torch.testing.assert_close(weights(model), before - 0.1 * 0.5 * gradient / gradient.norm(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [100, 815])
def test_training_loss_and_accuracy_are_means_over_images_not_over_batches(images, batch_size):
    model = Linear64()
    logits = model(plain_pixels(images, images.train)).detach()
    labels = images.labels[images.train]
    loss, accuracy = learner.train_epoch(state_of(model, lr=0, batch_size=batch_size, **UNALTERED).learner, images, 1)
    assert loss == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert accuracy == (logits.argmax(1) == labels).double().mean().item()


def trained_epoch(images, epoch, **fields):
    torch.manual_seed(0)
    state = state_of(Linear64(), **fields)
    learner.train_epoch(state.learner, images, epoch)
    return weights(state.learner.model)


def test_each_epoch_has_its_own_order(images):
    first, again, second = (trained_epoch(images, epoch, **UNALTERED) for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - second).abs().max() > 1e-4


@pytest.mark.parametrize("fields", [{"flip": True, "rotation_degrees": 0.0}, {"rotation_degrees": 10.0}])
def test_each_epoch_augments_in_its_own_way(images, fields):
    # one image, many times, in one batch: no order matters here
    one = dataclasses.replace(images, train=images.train[:1].repeat(41))
    first, again, second = (trained_epoch(one, epoch, batch_size=41, **fields) for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - second).abs().max() > 1e-6


def test_images_outside_training_change_nothing_in_training(images):
    spoiled = images.pixels.clone()
    spoiled[images.val] = 0
    rest = torch.ones(len(images.labels), dtype=torch.bool)
    rest[images.train] = False
    spoiled[rest] = 0x00FFFFFF
    trained = []
    for pixels in (images.pixels, spoiled):
        torch.manual_seed(0)
        state = state_of(Linear64())
        learner.train_epoch(state.learner, dataclasses.replace(images, pixels=pixels), 1)
        trained.append(weights(state.learner.model))
    assert torch.equal(*trained)


@given(st.integers(1, 500), st.integers(2, 64))
def test_batches_cover_all_in_order_and_none_is_a_single_image(num_images, batch_size):
    slices = learner.batch_slices(num_images, batch_size)
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(num_images))
    sizes = [s.stop - s.start for s in slices]
    assert num_images == 1 or min(sizes) > 1
    assert max(sizes) <= batch_size + 1
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)


def rows(losses, scores):
    history = []
    for epoch, loss in enumerate(losses, 1):
        best = max(scores[:epoch])
        history.append({"epoch": epoch, "val_loss": loss, "best_epoch": scores.index(best) + 1})
    return history


@pytest.mark.parametrize(
    ("losses", "scores", "reason"),
    [
        ([1.0, 1.0, 1.0], [0.5, 0.5, 0.5], "patience"),
        ([1.0, 0.9, 0.8], [0.5, 0.5, 0.5], None),  # loss falls
        ([1.0, 1.1, 1.2], [0.5, 0.6, 0.7], None),  # F1 rises
        ([1.0, 0.9995, 0.999], [0.5, 0.5, 0.5], "patience"),  # falls by less than min_delta
        ([1.0, 0.9, 0.8, 0.7], [0.5] * 4, "epochs"),
    ],
)
def test_stops_when_neither_loss_nor_f1_improves(losses, scores, reason):
    assert loop.stop_reason(config(patience=2), rows(losses, scores)) == reason


@given(
    st.lists(st.tuples(st.sampled_from([0.7, 0.8, 0.85, 0.9, 1.0]), st.sampled_from([0.1, 0.2, 0.3])), max_size=15),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.06, 0.15]),
    st.integers(1, 15),
)
def test_stopping_agrees_with_a_slow_reference(history, patience, min_delta, epochs):
    losses, scores = zip(*history, strict=True) if history else ((), ())

    def loss_improved(epoch):
        """The loss fell by more than min_delta below what it was when it last did."""
        last = next((before for before in reversed(range(epoch)) if loss_improved(before)), None)
        return last is None or losses[epoch] < losses[last] - min_delta

    def f1_improved(epoch):
        return all(scores[epoch] > score for score in scores[:epoch])

    waiting = [not loss_improved(epoch) and not f1_improved(epoch) for epoch in range(len(history))]
    if len(history) >= epochs:
        expected = "epochs"
    else:
        expected = "patience" if len(history) >= patience and all(waiting[-patience:]) else None
    asked = config(patience=patience, min_delta=min_delta, epochs=epochs)
    assert loop.stop_reason(asked, rows(losses, scores)) == expected


def test_a_model_that_stays_as_it_is_keeps_its_first_epoch_and_stops_after_its_patience(images):
    state = state_of(Linear64(), lr=0, patience=3, epochs=9)
    found = list(loop.run(state, images))
    assert [row["best_epoch"] for row in found] == [1, 1, 1, 1]  # ties go to the earlier epoch
    assert loop.stop_reason(state.config, found) == "patience"
    assert list(loop.run(state, images)) == []


class Scripted(torch.nn.Module):
    """In its n-th epoch it recognises ``shares[n - 1]`` of each class and takes the rest for the last class."""

    def __init__(self, shares, images):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(10))
        self.register_buffer("epoch", torch.tensor(0))
        self.labels, self.shares = images.labels[images.val], shares

    def train(self, mode=True):
        self.epoch += mode
        return super().train(mode)

    def predictions(self, epoch):
        found = torch.full_like(self.labels, 9)
        for label in range(10):
            members = torch.where(self.labels == label)[0]
            members = members[: int(self.shares[epoch - 1] * len(members))]
            found[members] = label
        return found

    def forward(self, batch):
        if self.training:
            return self.weight.expand(len(batch), 10)
        return functional.one_hot(self.predictions(int(self.epoch)), 10).float()


def test_the_best_epoch_counts_also_after_worse_ones_and_ties_go_to_the_earlier(images):
    model = Scripted([0.3, 0.6, 0.6, 0.9, 0.2, 0.9, 0.5], images)
    state = state_of(model, epochs=7, patience=7)
    found = list(loop.run(state, images))
    assert [row["best_epoch"] for row in found] == [1, 2, 2, 4, 4, 4, 4]
    labels = images.labels[images.val].numpy()
    for row in found:
        f1 = f1_per_class(confusion_matrix(labels, model.predictions(row["epoch"]).numpy(), 10))
        assert row["f1"] == f1.tolist()
        assert row["minority_f1"] == pytest.approx(f1[:3].mean())
        assert row["best_minority_f1"] == found[row["best_epoch"] - 1]["minority_f1"]
    assert state.best["model"]["epoch"] == 4
    assert torch.equal(state.best["logits"].argmax(1), model.predictions(4))


@pytest.fixture(scope="module")
def trial(images):
    """A finished trial of four epochs: its state, its rows, and the model after each epoch."""
    state = loop.new_state(config(sampler="weighted", sampler_power=0.5), images)
    found, models = [], []
    for row in loop.run(state, images):
        found.append(dict(row))
        models.append({name: tensor.clone() for name, tensor in state.learner.model.state_dict().items()})
    return state, found, models


def test_a_row_has_the_fields_that_others_read(trial):
    _, found, _ = trial
    assert [row["epoch"] for row in found] == [1, 2, 3, 4]
    for row in found:
        assert row.keys() >= {
            "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "minority_f1", "macro_f1", "f1",
            "minority_f1_adjusted", "best_minority_f1", "best_epoch", "learning_rate", "num_train_images",
            "train_seconds", "val_seconds",
        }  # fmt: skip
        assert len(row["f1"]) == 10
        assert row["num_train_images"] == 816
        assert min(row["train_seconds"], row["val_seconds"]) > 0


def test_running_best_and_the_best_state_are_those_of_the_first_epoch_with_the_highest_f1(trial, images):
    state, found, models = trial
    scores = [row["minority_f1"] for row in found]
    assert scores[-1] > 0
    for index, row in enumerate(found):
        assert row["best_minority_f1"] == max(scores[: index + 1])
        assert row["best_epoch"] == scores.index(max(scores[: index + 1])) + 1
    best = found[-1]["best_epoch"] - 1
    assert all(torch.equal(tensor, models[best][name]) for name, tensor in state.best["model"].items())
    model = loop.new_state(state.config, images).learner.model
    model.load_state_dict(models[best])
    assert torch.equal(state.best["logits"], evaluate(model, images, images.val).half())


def test_validation_scores_follow_from_the_logits(trial, images):
    state, found, _ = trial
    logits = evaluate(state.learner.model, images, images.val)
    labels = images.labels[images.val].numpy()
    row = found[-1]
    f1 = f1_per_class(confusion_matrix(labels, logits.argmax(1).numpy(), 10))
    counts = torch.bincount(images.labels[images.train])
    adjusted = adjusted_logits(logits, counts, state.config, 4).argmax(1).numpy()
    assert row["f1"] == f1.tolist()
    assert row["macro_f1"] == pytest.approx(f1.mean())
    assert row["minority_f1"] == pytest.approx(f1[:3].mean())
    assert row["minority_f1_adjusted"] == pytest.approx(f1_per_class(confusion_matrix(labels, adjusted, 10))[:3].mean())
    assert row["val_accuracy"] == (logits.argmax(1).numpy() == labels).mean()
    pairs = zip(logits.double().numpy(), labels, strict=True)
    surprise = [math.log(np.exp(z - z.max()).sum()) + z.max() - z[y] for z, y in pairs]
    assert row["val_loss"] == pytest.approx(np.mean(surprise))


def test_evaluation_is_the_models_output_image_by_image_and_leaves_the_model_alone(trial, images):
    model = trial[0].learner.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # more images than fit one chunk
    logits = evaluate(model, images, images.train)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in plain_pixels(images, images.train[490:510]).float()])
    torch.testing.assert_close(logits[490:510], alone, rtol=1e-4, atol=1e-4)


def test_statistics_and_counts_are_those_of_the_training_images(images, digits_pool):
    drawn = split(digits_pool, 3, 3)
    mean, std = channel_statistics(digits_pool, drawn.train)
    np.testing.assert_allclose(images.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(images.std, std, rtol=1e-6)
    assert images.train_counts.tolist() == class_counts(digits_pool, drawn.train)


def without_seconds(row):
    return {name: value for name, value in row.items() if not name.endswith("_seconds")}


def test_equal_configs_give_equal_rows_whatever_else_draws_random_numbers(trial, images):
    state, found, _ = trial
    torch.rand(1000)
    twin = loop.run(loop.new_state(state.config, images), images)
    stranger = loop.run(loop.new_state(dataclasses.replace(state.config, seed=99), images), images)
    for row in found:
        assert without_seconds(next(twin)) == without_seconds(row)
        next(stranger)


def test_another_seed_trains_otherwise(images):
    losses = set()
    for seed in (1, 2):
        state = loop.new_state(config(seed=seed, epochs=1), images)
        losses.add(next(loop.run(state, images))["train_loss"])
    assert len(losses) == 2


def test_a_loss_that_is_no_number_ends_the_trial(images):
    state = loop.new_state(config(), images)
    with torch.no_grad():
        state.learner.model.classifier[-1].bias[0] = float("nan")
    with pytest.raises(loop.DivergedError, match="train_loss is nan in epoch 1"):
        next(loop.run(state, images))


def test_a_learning_rate_far_too_large_ends_the_trial_without_a_row(images):
    state = loop.new_state(config(learning_rate=1e30), images)
    with pytest.raises(loop.DivergedError, match=r"(train|val)_loss is (nan|inf) in epoch 1"):
        list(loop.run(state, images))
    assert state.rows == []
