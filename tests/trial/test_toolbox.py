"""What the config's fields put together: every recipe trains, is deferred, and goes on after an interruption."""

import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.space import parameters
from tests.trial.test_checkpoint import assert_same
from trainable import checkpoint, learner, loop
from trainable.arguments import default_config
from trainable.config import TrialConfig, num_batches
from trainable.evaluation import evaluate
from trainable.images.trial import trial_images
from trainable.parts.heads import CosineLinear

RECIPES = [
    {"loss": "focal", "label_smoothing": 0.1},
    {"loss": "balanced_softmax", "sampler": "progressive"},
    {"loss": "logit_adjusted", "tau": 1.5},
    {"loss": "ldam", "class_weights": "effective", "reweight_from": 0.5},
    {"sampler": "undersample", "class_weights": "inverse"},
    {"sampler": "weighted", "resample_from": 0.5, "precision": "bfloat16"},
    {"head_epochs": 2},
    {"optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 1.5, "mixing": "mixup", "loss": "balanced_softmax"},
    {"optimizer": "sgd", "schedule": "one_cycle", "mixing": "cutmix", "average_decay": 0.9, "head_epochs": 1},
    {"optimizer": "sgd", "schedule": "step", "average_decay": 0.99, "mixing": "remix", "num_micro_batches": 2},
    {"random_augment": "trivial", "erasing": "random", "vertical_flip": True, "sampler": "undersample",
     "resample_from": 0.5, "schedule": "cosine"},
    {"crop_padding": 0.125, "color_jitter": 0.4, "erasing": "cutout", "mixing": "mixup", "loss": "ldam"},
]  # fmt: skip


def config(**fields):
    return dataclasses.replace(default_config("digits", 3, epochs=4, num_threads=1), **fields)


@pytest.fixture(scope="module")
def images(digits_pool):
    return trial_images(digits_pool, 3, 3, torch.device("cpu"))


def content_after(num_epochs, state, images, path):
    """``last.pt`` once the trial has this many epochs, its times all the same."""
    epochs = loop.run(state, images)
    while len(state.rows) < num_epochs:
        next(epochs)
    checkpoint.save(state, images, path)
    content = checkpoint.read(path)
    for row in content["rows"]:
        for name in [name for name in row if name.endswith("_seconds")]:
            row[name] = 1.0
    return content


def assert_resumes_to_the_same_bits(asked, images, folder, interrupted_after):
    whole = content_after(asked.epochs, loop.new_state(asked, images), images, folder / "whole.pt")
    state = loop.new_state(asked, images)
    for number in interrupted_after:
        half = content_after(number, state, images, folder / "half.pt")
        state = checkpoint.restore(half, asked, images, folder / "half.pt")
    found = content_after(asked.epochs, state, images, folder / "half.pt")
    assert_same(whole, found, f"interrupted after {list(interrupted_after)}")


@pytest.mark.parametrize("fields", RECIPES)
def test_a_trial_goes_on_to_the_same_bits_whatever_its_recipe(images, tmp_path, fields):
    assert_resumes_to_the_same_bits(config(**fields), images, tmp_path, [1, 2, 3])


SPACE = parameters.load(parameters.SPACES["imbalance"])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0, 1), min_size=len(SPACE), max_size=len(SPACE)))
def test_any_recipe_of_the_imbalance_space_trains_and_goes_on_to_the_same_bits(images, tmp_path, shares):
    points = {parameter.name: parameter.at(share) for parameter, share in zip(SPACE, shares, strict=True)}
    base = config(epochs=2).to_dict()
    asked = TrialConfig.from_dict(base | parameters.active_values(SPACE, points.__getitem__))
    assert_resumes_to_the_same_bits(asked, images, tmp_path, [1])


def rows(images, **fields):
    return list(loop.run(loop.new_state(config(**fields), images), images))


@pytest.fixture(scope="module")
def plain(images):
    """The rows of the recipe that is the default."""
    return rows(images)


@pytest.mark.parametrize(
    ("deferred", "at_once"),
    [
        ({"sampler": "weighted", "resample_from": 0.5}, {"sampler": "weighted"}),
        ({"class_weights": "inverse", "reweight_from": 0.5}, {"class_weights": "inverse"}),
        ({"head_epochs": 2}, {"sampler": "weighted"}),
    ],
)
def test_what_is_deferred_changes_nothing_before_and_something_after(images, plain, deferred, at_once):
    late, early = (rows(images, **fields) for fields in (deferred, at_once))
    losses = [[row["train_loss"] for row in found] for found in (plain, late, early)]
    assert losses[1][:2] == losses[0][:2]
    assert losses[1][2] != losses[0][2]
    assert losses[2][0] != losses[0][0]


def test_logit_adjustment_takes_the_prior_that_each_epoch_was_trained_under(images):
    state = loop.new_state(config(sampler="weighted", resample_from=0.5), images)
    list(loop.run(state, images))
    changed = [not torch.equal(raw, adjusted) for raw, adjusted in state.predictions]
    assert changed == [True, True, False, False]


def test_patience_waits_for_what_is_deferred():
    def row(epoch):
        return {"epoch": epoch, "val_loss": 1.0 + epoch, "best_epoch": 1}

    for fields, last in [
        ({}, 4),
        ({"sampler": "weighted", "resample_from": 0.5}, 14),
        ({"class_weights": "inverse", "reweight_from": 0.25}, 9),
        ({"class_weights": "inverse", "reweight_from": 0.25, "sampler": "weighted", "resample_from": 0.5}, 14),
        ({"head_epochs": 6}, 18),
    ]:
        asked = config(epochs=20, patience=3, **fields)
        reasons = [loop.stop_reason(asked, [row(epoch) for epoch in range(1, number + 1)]) for number in range(1, 21)]
        assert reasons.index("patience") + 1 == last


def test_undersampling_shows_as_few_images_of_each_class_as_the_smallest_has(images):
    state = loop.new_state(config(sampler="undersample", batch_size=2, accumulation_steps=1), images)
    learner.train_epoch(state.learner, images, 1)
    num_shown = 10 * int(images.train_counts.min())
    assert {int(entry["step"]) for entry in state.learner.optimizer.state.values()} == {num_shown // 2}


def test_a_fresh_head_is_all_that_the_last_epochs_train(images):
    state = loop.new_state(config(head_epochs=2), images)
    after = []
    for _ in loop.run(state, images):
        after.append({name: tensor.clone() for name, tensor in state.learner.model.state_dict().items()})
    changed = [
        {name for name in first if not torch.equal(first[name], second[name])}
        for first, second in itertools.pairwise(after)
    ]
    head = {"classifier.9.weight", "classifier.9.bias"}
    assert changed[0] > head
    assert changed[1] == changed[2] == head


def test_ldam_ends_in_cosines_in_full_precision(images):
    state = loop.new_state(config(loss="ldam", ldam_scale=12.0, precision="bfloat16", epochs=1), images)
    list(loop.run(state, images))
    (head,) = (module for module in state.learner.model.modules() if isinstance(module, CosineLinear))
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(torch.randn(50, 256, dtype=torch.bfloat16))
    assert logits.dtype == torch.float32
    assert logits.abs().max() <= 12.001
    assert state.best["logits"].isfinite().all()


def test_the_learning_rate_goes_by_the_steps_of_all_epochs_and_a_fresh_head_begins_anew(images, monkeypatch):
    factors = []
    monkeypatch.setattr(learner, "set_learning_rate", lambda optimizer, factor: factors.append(factor))
    told = rows(
        images, schedule="cosine", sampler="undersample", resample_from=0.5, batch_size=64, accumulation_steps=1
    )
    num_late = -(-10 * int(images.train_counts.min()) // 64)
    assert len(factors) == 2 * 13 + 2 * num_late  # 816 images, and then as few as are left
    expected = [(1 + math.cos(math.pi * step / len(factors))) / 2 for step in range(len(factors))]
    assert factors == pytest.approx(expected)
    last = [12, 25, 25 + num_late, 25 + 2 * num_late]  # the last step of each epoch
    assert [row["learning_rate"] for row in told] == pytest.approx([1e-3 * expected[step] for step in last])
    factors.clear()
    told = rows(images, schedule="cosine", head_epochs=1, batch_size=64, accumulation_steps=1)
    assert [row["learning_rate"] for row in told] == pytest.approx([1e-3 * factors[step] for step in (12, 25, 38, 51)])
    expected = [(1 + math.cos(math.pi * step / number)) / 2 for number in (3 * 13, 13) for step in range(number)]
    assert factors == pytest.approx(expected)


@pytest.mark.parametrize("num_images", range(1, 40))
@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_batches_are_as_many_as_there_are_slices(num_images, batch_size):
    assert num_batches(num_images, batch_size) == len(learner.batch_slices(num_images, batch_size))


def test_with_averaged_weights_the_average_is_judged_and_kept(images):
    state = loop.new_state(config(average_decay=0.9, epochs=1), images)
    (row,) = loop.run(state, images)
    logits = evaluate(state.learner.average.model, images, images.val)
    assert torch.equal(state.best["logits"], logits.half())
    assert not torch.equal(logits, evaluate(state.learner.model, images, images.val))
    averaged = state.learner.average.model.state_dict()
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in state.best["model"].items())
    assert row["best_epoch"] == 1


@pytest.mark.parametrize("damaged", [None, {}, "short"])
def test_a_checkpoint_without_the_average_that_the_recipe_needs_is_refused(images, tmp_path, damaged):
    asked = config(average_decay=0.9)
    content = content_after(1, loop.new_state(asked, images), images, tmp_path / "last.pt")
    content["average"] = {**content["average"], "classifier.9.bias": torch.zeros(3)} if damaged == "short" else damaged
    with pytest.raises(checkpoint.CheckpointError, match=r"has no weights|the network's"):
        checkpoint.restore(content, asked, images, tmp_path / "last.pt")


def test_moments_of_another_optimizer_are_refused(images, tmp_path):
    asked = config(optimizer="sgd")
    content = content_after(1, loop.new_state(asked, images), images, tmp_path / "last.pt")
    for entry in content["optimizer"]["state"].values():
        entry["exp_avg"] = entry.pop("momentum_buffer")
    with pytest.raises(checkpoint.CheckpointError, match="parameter 0 is not that of sgd"):
        checkpoint.restore(content, asked, images, tmp_path / "last.pt")
