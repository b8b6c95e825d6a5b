"""Trials packed into one program learn what each learns alone."""

import pytest
import torch

from benchmarks import packed
from trainable.parts.networks import ConvNet
from trainable.parts.optimizers import adam

RATES = [1e-4, 2e-4, 5e-5]  # at higher ones Adam soon makes much of the last bits, which another order of sums changes


def data(num_trials, num_steps, size=16, batch=8):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(num_steps, num_trials, batch, 3, size, size, generator=generator)
    return images, torch.randint(4, (num_steps, num_trials, batch), generator=generator)


def networks(num_trials, dropout=0.0):
    torch.manual_seed(3)
    return [ConvNet(4, 16, dropout) for _ in range(num_trials)]


@pytest.mark.parametrize("num_trials", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "factor", "tolerance"), [(torch.float32, 1, 1e-5), (torch.float64, 30, 1e-7)])
def test_the_losses_of_packed_trials_are_those_of_each_alone(num_trials, dtype, factor, tolerance):
    images, labels = data(num_trials, 6)
    images, rates = images.to(dtype), [factor * rate for rate in RATES[:num_trials]]
    alone = [network.to(dtype) for network in networks(num_trials)]
    pack, optimizer = packed.pack_of(alone, [0.0] * num_trials, rates)
    optimizers = [adam(network, rate, 1e-4) for network, rate in zip(alone, rates, strict=True)]
    for step in range(6):
        together = packed.train_packed(pack, optimizer, images[step], labels[step], "float32")
        for index, network in enumerate(alone):
            single = packed.train_single(
                network, optimizers[index], images[step, index], labels[step, index], "float32"
            )
            assert together[index].item() == pytest.approx(single.item(), abs=tolerance)


def test_a_trial_is_not_touched_by_what_the_others_see_or_are_told():
    images, labels = data(2, 3)
    first, second = (packed.pack_of(networks(2), [0.0, 0.0], rates) for rates in ([1e-3, 1e-3], [1e-3, 1e-1]))
    other = images.clone()
    other[:, 1] = 0
    for step in range(3):
        losses = packed.train_packed(*first, images[step], labels[step], "float32")
        changed = packed.train_packed(*second, other[step], labels[step], "float32")
    assert losses[0].item() == pytest.approx(changed[0].item(), abs=1e-6)
    assert losses[1].item() != pytest.approx(changed[1].item(), abs=1e-2)


def test_each_trial_drops_its_own_share():
    pack, _ = packed.pack_of(networks(3), [0.0, 0.25, 0.8], RATES)
    kept = pack._dropped(torch.ones(3, 64, 512))
    assert [(part > 0).float().mean().item() for part in kept] == pytest.approx([1, 0.75, 0.2], abs=0.02)
    assert kept.mean((1, 2)).tolist() == pytest.approx([1, 1, 1], abs=0.05)
