"""What the config's fields put together: every recipe trains, is deferred, and goes on after an interruption."""

import dataclasses
import itertools

import pytest
import torch

from tests.trial.test_checkpoint import assert_same
from trainable import checkpoint, loop
from trainable.arguments import default_config
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
]


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
    for number in interrupted_after:
        half = content_after(number, loop.new_state(asked, images), images, folder / "half.pt")
        again = checkpoint.restore(half, asked, images, folder / "half.pt")
        assert_same(whole, content_after(asked.epochs, again, images, folder / "half.pt"), f"after epoch {number}")


@pytest.mark.parametrize("fields", RECIPES)
def test_a_trial_goes_on_to_the_same_bits_whatever_its_recipe(images, tmp_path, fields):
    assert_resumes_to_the_same_bits(config(**fields), images, tmp_path, [1, 2, 3])


def rows(images, **fields):
    return list(loop.run(loop.new_state(config(**fields), images), images))


@pytest.mark.parametrize(
    ("deferred", "at_once"),
    [
        ({"sampler": "weighted", "resample_from": 0.5}, {"sampler": "weighted"}),
        ({"class_weights": "inverse", "reweight_from": 0.5}, {"class_weights": "inverse"}),
        ({"head_epochs": 2}, {"sampler": "weighted"}),
    ],
)
def test_what_is_deferred_changes_nothing_before_and_something_after(images, deferred, at_once):
    plain, late, early = (rows(images, **fields) for fields in ({}, deferred, at_once))
    losses = [[row["train_loss"] for row in found] for found in (plain, late, early)]
    assert losses[1][:2] == losses[0][:2]
    assert losses[1][2] != losses[0][2]
    assert losses[2][0] != losses[0][0]


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
    loop.train_epoch(state, images, 1)
    num_shown = 10 * int(images.train_counts.min())
    assert {int(entry["step"]) for entry in state.optimizer.state.values()} == {num_shown // 2}


def test_a_fresh_head_is_all_that_the_last_epochs_train(images):
    state = loop.new_state(config(head_epochs=2), images)
    after = []
    for _ in loop.run(state, images):
        after.append({name: tensor.clone() for name, tensor in state.model.state_dict().items()})
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
    (head,) = (module for module in state.model.modules() if isinstance(module, CosineLinear))
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(torch.randn(50, 256, dtype=torch.bfloat16))
    assert logits.dtype == torch.float32
    assert logits.abs().max() <= 12.001
    assert state.best["logits"].isfinite().all()
