import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainable.parts.samplers import SAMPLERS, num_drawn, order, shares

COUNTS = torch.tensor([6000, 3000, 600, 20])
LABELS = torch.arange(4).repeat_interleave(COUNTS)
LABELS = LABELS[torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(0))]
EPOCHS = 10


def config(sampler, power=1.0, resample_from=0.0, head_epochs=0):
    return SimpleNamespace(sampler=sampler, sampler_power=power, resample_from=resample_from, head_epochs=head_epochs,
                           epochs=EPOCHS)  # fmt: skip


def drawn(asked, epoch=1, labels=LABELS, seed=0):
    return order(asked, labels, epoch, torch.Generator().manual_seed(seed))


def shares_of(asked, epoch):
    return shares(asked, COUNTS, epoch).tolist()


NATURAL = (COUNTS / COUNTS.sum()).double().tolist()
RECIPES = [config("shuffle"), config("weighted"), config("weighted", 0.5), config("progressive"), config("undersample"),
           config("progressive", resample_from=0.5), config("shuffle", head_epochs=3)]  # fmt: skip


# --- what is drawn is what the shares say ---


@pytest.mark.parametrize("asked", RECIPES)
@pytest.mark.parametrize("epoch", [1, 4, 6, 10])
def test_each_class_is_drawn_as_often_as_its_share(asked, epoch):
    positions = drawn(asked, epoch)
    number = num_drawn(asked, COUNTS, epoch)
    assert positions.shape == (number,)
    for label, observed in enumerate(torch.bincount(LABELS[positions], minlength=4).tolist()):
        chance = shares_of(asked, epoch)[label]
        assert abs(observed - number * chance) <= 5 * math.sqrt(number * chance * (1 - chance)), label


@given(st.lists(st.integers(0, 3), max_size=60), st.sampled_from(RECIPES), st.integers(1, EPOCHS), st.integers(0, 99))
def test_an_order_is_positions_as_many_as_promised(more, asked, epoch, seed):
    labels = torch.tensor([0, 1, 2, 3, *more])
    positions = drawn(asked, epoch, labels, seed)
    counts = torch.bincount(labels)
    assert positions.dtype == torch.int64
    assert len(positions) == num_drawn(asked, counts, epoch)
    assert ((positions >= 0) & (positions < len(labels))).all()
    assert shares(asked, counts, epoch).sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("asked", RECIPES)
def test_an_order_is_a_function_of_its_generator(asked):
    assert torch.equal(drawn(asked, 6, seed=3), drawn(asked, 6, seed=3))
    assert not torch.equal(drawn(asked, 6, seed=3), drawn(asked, 6, seed=4))


# --- progressive ---


def test_progressive_goes_in_a_straight_line_from_the_images_shares_to_equal_ones():
    asked = config("progressive")
    assert shares_of(asked, 1) == pytest.approx(NATURAL, rel=1e-6)
    assert shares_of(asked, 10) == pytest.approx([0.25] * 4, rel=1e-12)
    # epoch 4 of 10 is a third of the way: 2/3 of 0.6237 and 1/3 of 0.25
    assert shares_of(asked, 4)[0] == pytest.approx(2 / 3 * 6000 / 9620 + 1 / 12, rel=1e-12)


def test_a_single_epoch_of_progressive_sampling_is_natural():
    asked = config("progressive")
    asked.epochs = 1
    assert shares_of(asked, 1) == pytest.approx(NATURAL, rel=1e-6)


# --- undersampling ---


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(0, 99))
def test_undersampling_shows_each_class_as_often_as_the_smallest_and_no_image_twice(more, seed):
    labels = torch.tensor([0, 1, 2, *more])
    positions = drawn(config("undersample"), 1, labels, seed)
    smallest = torch.bincount(labels).min()
    assert torch.bincount(labels[positions]).tolist() == [smallest] * 3
    assert len(set(positions.tolist())) == len(positions)


def test_undersampling_takes_each_image_of_a_class_equally_often_and_in_every_place():
    labels = torch.tensor([0] * 8 + [1] * 2)
    orders = torch.stack([drawn(config("undersample"), 1, labels, seed) for seed in range(4000)])
    times = torch.bincount(orders.flatten(), minlength=10).tolist()
    assert times[8:] == [4000, 4000]
    for observed in times[:8]:
        assert abs(observed - 1000) < 5 * math.sqrt(4000 * 0.25 * 0.75)
    first_is_rare = (labels[orders[:, 0]] == 1).sum().item()
    assert abs(first_is_rare - 2000) < 5 * math.sqrt(4000 * 0.25)


# --- deferred, and the head at the end ---


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "shuffle"])
def test_a_deferred_sampler_shuffles_first(sampler):
    asked = config(sampler, resample_from=0.8)
    for epoch in (1, 8):
        assert torch.equal(drawn(asked, epoch), drawn(config("shuffle"), epoch))
        assert shares_of(asked, epoch) == shares_of(config("shuffle"), 1)
    assert not torch.equal(drawn(asked, 9), drawn(config("shuffle"), 9))
    assert shares_of(asked, 10) == pytest.approx([0.25] * 4, rel=1e-12)


def test_a_deferred_progressive_sampler_makes_its_way_in_the_epochs_that_are_left():
    asked = config("progressive", resample_from=0.6)  # epochs 7, 8, 9, 10
    assert shares_of(asked, 7) == pytest.approx(NATURAL, rel=1e-6)
    assert shares_of(asked, 8)[3] == pytest.approx(2 / 3 * 20 / 9620 + 1 / 12, rel=1e-12)


@pytest.mark.parametrize(("share", "first"), [(0.0, 1), (0.29, 4), (0.5, 6), (0.8, 9), (0.96, None), (1.0, None)])
def test_the_share_of_the_epochs_is_rounded_to_whole_ones(share, first):
    asked = config("weighted", resample_from=share)
    begun = [epoch for epoch in range(1, EPOCHS + 1) if shares_of(asked, epoch) != shares_of(config("shuffle"), 1)]
    assert begun == ([] if first is None else list(range(first, EPOCHS + 1)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_last_epochs_of_a_fresh_head_draw_all_classes_equally_often(sampler):
    asked, without = config(sampler, 0.5, head_epochs=2), config(sampler, 0.5)
    assert torch.equal(drawn(asked, 8), drawn(without, 8))
    for epoch in (9, 10):
        assert shares_of(asked, epoch) == [0.25] * 4
        assert torch.equal(drawn(asked, epoch), drawn(config("weighted", 1.0), epoch))
