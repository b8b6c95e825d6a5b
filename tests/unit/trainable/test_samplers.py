import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainable.config import TrialConfig
from trainable.evaluation import adjusted_logits
from trainable.parts.samplers import order as draw_order
from trainable.parts.samplers import shares

SHUFFLE = TrialConfig(sampler="shuffle")
COUNTS = [12_000, 3_000, 600, 20]
LABELS = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))
LABELS = LABELS[torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(0))]

powers = st.floats(0, 1, exclude_min=True)


def weighted(power):
    return TrialConfig(sampler="weighted", sampler_power=power)


def drawn(config, labels=LABELS, seed=0):
    return draw_order(config, labels, 1, torch.Generator().manual_seed(seed))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(0, 2**32))
def test_shuffle_shows_each_image_once(labels, seed):
    order = drawn(SHUFFLE, torch.tensor(labels), seed)
    assert sorted(order.tolist()) == list(range(len(labels)))


def test_shuffle_does_not_keep_the_order():
    assert (drawn(SHUFFLE) == torch.arange(len(LABELS))).float().mean() < 0.01


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_weighted_draws_each_class_as_often_as_it_should(power):
    order = drawn(weighted(power))
    number = len(order)
    assert number == len(LABELS)
    mass = [count ** (1 - power) for count in COUNTS]
    for label, observed in enumerate(torch.bincount(LABELS[order], minlength=4).tolist()):
        chance = mass[label] / sum(mass)
        assert abs(observed - number * chance) < 5 * math.sqrt(number * chance * (1 - chance)), label


def test_weighted_draws_each_image_of_a_class_equally_often():
    times = torch.bincount(drawn(weighted(1.0)), minlength=len(LABELS))[LABELS == 3]
    expected = len(LABELS) / 4 / 20
    assert ((times - expected).abs() < 5 * math.sqrt(expected)).all()


@pytest.mark.parametrize("config", [SHUFFLE, weighted(1.0), weighted(0.5)])
def test_an_order_is_a_function_of_its_generator(config):
    assert torch.equal(drawn(config, seed=3), drawn(config, seed=3))
    assert not torch.equal(drawn(config, seed=3), drawn(config, seed=4))


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=10), powers)
def test_chances_by_a_slow_loop(counts, power):
    for config, mass in [(SHUFFLE, counts), (weighted(power), [count * count**-power for count in counts])]:
        chances = shares(config, torch.tensor(counts), 1).tolist()
        assert chances == pytest.approx([m / sum(mass) for m in mass], rel=1e-9)


def test_adjustment_counted_by_hand():
    # priors 0.9 and 0.1: 1 - ln 0.9 = 1.1054, 0.5 - ln 0.1 = 2.8026; the rare class wins now
    adjusted = adjusted_logits(torch.tensor([[1.0, 0.5]]), torch.tensor([90, 10]), SHUFFLE, 1)
    assert adjusted.tolist() == [pytest.approx([1.1054, 2.8026], abs=1e-4)]


@given(st.lists(st.tuples(st.integers(1, 10**5), st.floats(-30, 30)), min_size=2, max_size=8), powers)
def test_adjustment_by_a_slow_loop(classes, power):
    counts, logits = zip(*classes, strict=True)
    for config, mass in [(SHUFFLE, counts), (weighted(power), [count ** (1 - power) for count in counts])]:
        adjusted = adjusted_logits(torch.tensor([logits]), torch.tensor(counts), config, 1)
        slow = [logit - math.log(m / sum(mass)) for logit, m in zip(logits, mass, strict=True)]
        assert adjusted[0].tolist() == pytest.approx(slow, rel=1e-5, abs=1e-5)


def test_under_the_fully_weighted_sampler_adjustment_changes_no_prediction():
    logits = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    adjusted = adjusted_logits(logits, torch.tensor(COUNTS), weighted(1.0), 1)
    assert torch.equal(adjusted.argmax(1), logits.argmax(1))
    torch.testing.assert_close(adjusted.softmax(1), logits.softmax(1))
    # and under the other samplers it does
    for config in (SHUFFLE, weighted(0.5)):
        assert not torch.equal(adjusted_logits(logits, torch.tensor(COUNTS), config, 1).argmax(1), logits.argmax(1))
