import pytest
import torch

from trainable.config import TrialConfig
from trainable.imbalance import adjusted_logits, epoch_order

LABELS = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)


def drawn(power, **fields):
    config = TrialConfig(sampler="weighted", sampler_power=power, **fields)
    order = torch.cat([epoch_order(LABELS, config, torch.Generator().manual_seed(seed)) for seed in range(50)])
    return torch.bincount(LABELS[order], minlength=3) / len(order)


def test_shuffle_shows_each_image_once():
    order = epoch_order(LABELS, TrialConfig(), torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() != list(range(1000))


def test_weighted_draws_classes_in_proportion_to_count_to_the_one_minus_power():
    assert drawn(1.0).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
    roots = [900**0.5, 90**0.5, 10**0.5]
    assert drawn(0.5).tolist() == pytest.approx([root / sum(roots) for root in roots], abs=0.01)


def test_adjustment_undoes_the_prior_the_network_was_trained_under():
    logits, counts = torch.tensor([[1.0, 0.5, -2.0]]), torch.tensor([900, 90, 10])
    plain = adjusted_logits(logits, counts, TrialConfig())
    expected = logits - torch.tensor([0.9, 0.09, 0.01]).log()
    assert torch.allclose(plain, expected)
    balanced = adjusted_logits(logits, counts, TrialConfig(sampler="weighted"))
    assert torch.allclose(balanced - balanced[0, 0], logits - logits[0, 0])
