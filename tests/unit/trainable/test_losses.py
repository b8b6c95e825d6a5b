import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from trainable.parts.losses import CLASS_WEIGHTS, LOSSES, class_weights, ldam_margins, log_trained_prior

COUNTS = torch.tensor([5000, 500, 50])
DEFAULTS = {
    "loss": "cross_entropy",
    "focal_gamma": 2.0,
    "tau": 1.0,
    "ldam_margin": 0.5,
    "ldam_scale": 30.0,
    "label_smoothing": 0.0,
    "class_weights": "none",
    "class_weight_power": 1.0,
    "effective_beta": 0.9999,
    "reweight_from": 0.0,
    "sampler": "shuffle",
    "sampler_power": 1.0,
    "resample_from": 0.0,
    "head_epochs": 0,
    "epochs": 10,
}
# every loss, with and without what can be combined with it
RECIPES = [
    {"loss": name, **more}
    for name in LOSSES
    for more in ({}, {"label_smoothing": 0.1}, {"class_weights": "inverse"}, {"class_weights": "effective"})
]


def config(**fields):
    assert fields.keys() <= DEFAULTS.keys()
    return SimpleNamespace(**DEFAULTS | fields)


def loss(counts=COUNTS, **fields):
    asked = config(**fields)
    return LOSSES[asked.loss](asked, counts)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(size=20, num_classes=3, seed=0, dtype=torch.float32):
    logits = 3 * torch.randn(size, num_classes, generator=generator(seed), dtype=dtype)
    return logits, torch.randint(num_classes, (size,), generator=generator(seed + 1))


def mixed(size=20, num_classes=3, seed=0, dtype=torch.float32):
    """Targets as mixup makes them: two labels an image, and how much of each."""
    pair = torch.randint(num_classes, (2, size), generator=generator(seed + 2))
    share = torch.rand(size, 1, generator=generator(seed + 3), dtype=dtype)
    one, other = functional.one_hot(pair, num_classes).to(dtype)
    return share * one + (1 - share) * other


# --- the course's loss, bit for bit ---


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize(("size", "num_classes"), [(128, 10), (97, 3), (2, 100), (50, 2)])
def test_the_default_is_todays_cross_entropy_to_the_last_bit(size, num_classes, reduction):
    plain = loss(torch.arange(1, num_classes + 1))
    for seed in range(20):
        logits, labels = batch(size, num_classes, seed)
        mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        found = plain(mine, labels, reduction=reduction)
        expected = functional.cross_entropy(theirs, labels, reduction=reduction)
        assert torch.equal(found, expected)
        weight = torch.full((), 1 / 300, dtype=torch.float64)
        (found.sum() * weight).backward()
        (expected.sum() * weight).backward()
        assert torch.equal(mine.grad, theirs.grad)


@pytest.mark.parametrize("fields", [{}, {"label_smoothing": 0.1}, {"class_weights": "inverse", "label_smoothing": 0.2}])
@pytest.mark.parametrize("soft", [False, True])
def test_weights_smoothing_and_soft_targets_are_pytorchs(fields, soft):
    logits, labels = batch()
    targets = mixed() if soft else labels
    asked = config(**fields)
    weight = class_weights(asked, COUNTS, 1).float()
    expected = functional.cross_entropy(
        logits, targets, weight, label_smoothing=asked.label_smoothing, reduction="none"
    )
    torch.testing.assert_close(loss(**fields)(logits, targets), expected)


# --- each loss against its paper's formula, by a slow loop ---


def focal(z, c, gamma=2.0):
    p = math.exp(z[c]) / sum(map(math.exp, z))
    return -((1 - p) ** gamma) * math.log(p)


def balanced(z, c, tau=1.0):
    mass = [n**tau * math.exp(x) for n, x in zip(COUNTS.tolist(), z, strict=True)]
    return -math.log(mass[c] / sum(mass))


def ldam(z, c):
    # the authors': cosines, margins up to 0.5 for the rarest class, all times 30
    cosines = [x / 30 for x in z]
    cosines[c] -= 0.5 * (50 / COUNTS[c].item()) ** 0.25
    return -math.log(math.exp(30 * cosines[c]) / sum(math.exp(30 * x) for x in cosines))


FORMULAS = [
    ({"loss": "cross_entropy"}, lambda z, c: focal(z, c, 0)),
    ({"loss": "focal"}, focal),
    ({"loss": "focal", "focal_gamma": 0.5}, lambda z, c: focal(z, c, 0.5)),
    ({"loss": "balanced_softmax"}, balanced),
    ({"loss": "logit_adjusted", "tau": 1.7}, lambda z, c: balanced(z, c, 1.7)),
    ({"loss": "ldam"}, ldam),
]


@pytest.mark.parametrize(("fields", "formula"), FORMULAS)
def test_a_loss_is_its_papers_formula(fields, formula):
    logits, labels = batch()
    expected = [formula(z, c) for z, c in zip(logits.tolist(), labels.tolist(), strict=True)]
    assert loss(**fields)(logits, labels).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("fields", "formula"), FORMULAS)
def test_with_shared_targets_weights_and_smoothing_it_is_the_expected_loss(fields, formula):
    logits, targets = batch()[0], mixed()
    weights = class_weights(config(class_weights="inverse"), COUNTS, 1).tolist()
    expected = [
        sum((0.9 * q + 0.1 / 3) * weights[c] * formula(z, c) for c, q in enumerate(shares))
        for z, shares in zip(logits.tolist(), targets.tolist(), strict=True)
    ]
    found = loss(class_weights="inverse", label_smoothing=0.1, **fields)(logits, targets)
    assert found.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_focal_counted_by_hand():
    # p = 0.9: (0.1)^2 * 0.10536 = 0.0010536; p = 0.1: 0.81 * 2.302585 = 1.865094
    found = loss(torch.tensor([1, 1]), loss="focal")(torch.tensor([[math.log(9), 0.0]] * 2), torch.tensor([0, 1]))
    assert found.tolist() == pytest.approx([0.0010536, 1.865094], rel=1e-4)


def test_margins_counted_by_hand():
    # counts 10000, 625, 16: fourth roots 10, 5, 2; margins 2/10, 2/5, 1 of 0.5
    margins = ldam_margins(config(ldam_scale=1.0), torch.tensor([10_000, 625, 16]))
    assert margins.tolist() == pytest.approx([0.1, 0.2, 0.5], rel=1e-12)


def test_ldam_keeps_its_digits_where_the_margin_is_all_that_is_left_of_the_loss():
    # the label leads by 20, 5 beyond its margin; 1 - p of the plain softmax, 2e-9, is lost in float32
    found = loss(torch.tensor([1, 1]), loss="ldam")(torch.tensor([[20.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert found.item() == pytest.approx(math.log1p(math.exp(-5)), rel=1e-4)


# --- limits ---


@pytest.mark.parametrize("fields", [
    {"loss": "focal", "focal_gamma": 0.0}, {"loss": "logit_adjusted", "tau": 0.0}, {"loss": "ldam", "ldam_margin": 0.0},
])  # fmt: skip
@pytest.mark.parametrize("soft", [False, True])
def test_without_its_one_setting_a_loss_is_cross_entropy(fields, soft):
    logits, labels = batch()
    targets = mixed() if soft else labels
    torch.testing.assert_close(loss(**fields)(logits, targets), loss()(logits, targets))


def test_with_classes_of_equal_size_balanced_softmax_is_cross_entropy():
    logits, labels = batch()
    equal = torch.tensor([70, 70, 70])
    torch.testing.assert_close(loss(equal, loss="balanced_softmax")(logits, labels), loss()(logits, labels))


@pytest.mark.parametrize("name", LOSSES)
def test_a_target_that_is_all_one_class_is_that_label(name):
    logits, labels = batch()
    one_hot = functional.one_hot(labels, 3).float()
    torch.testing.assert_close(loss(loss=name)(logits, one_hot), loss(loss=name)(logits, labels))


@pytest.mark.parametrize("fields", RECIPES)
def test_the_sum_is_that_of_the_images_losses(fields):
    logits, labels = batch()
    for targets in (labels, mixed()):
        found = loss(**fields)(logits, targets, reduction="sum")
        torch.testing.assert_close(found, loss(**fields)(logits, targets).sum())


# --- gradients and numbers ---


@pytest.mark.parametrize("fields", [*RECIPES, {"loss": "focal", "focal_gamma": 0.5}])
@pytest.mark.parametrize("soft", [False, True])
def test_gradients_are_those_of_finite_differences(fields, soft):
    logits, labels = batch(6, dtype=torch.float64)
    targets = mixed(6, dtype=torch.float64) if soft else labels
    criterion = loss(**fields).double()
    assert torch.autograd.gradcheck(lambda z: criterion(z, targets), logits.requires_grad_())


finite_logits = st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=8)


@given(finite_logits, st.sampled_from([*RECIPES, {"loss": "focal", "focal_gamma": 0.3}]), st.booleans(), st.booleans())
def test_losses_and_gradients_are_finite_and_no_loss_is_negative(rows, fields, soft, narrow):
    logits = torch.tensor(rows, dtype=torch.bfloat16 if narrow else torch.float32, requires_grad=True)
    targets = mixed(len(rows)) if soft else torch.arange(len(rows)) % 3
    found = loss(**fields)(logits, targets)
    assert (found.shape, found.dtype) == ((len(rows),), torch.float32)
    found.sum().backward()
    assert found.isfinite().all()
    assert (found >= 0).all()
    assert logits.grad.isfinite().all()


# --- class weights ---


def test_inverse_weights_are_scikit_learns_balanced():
    labels = np.repeat(np.arange(3), COUNTS.numpy())
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert class_weights(config(class_weights="inverse"), COUNTS, 1).tolist() == pytest.approx(expected, rel=1e-12)


def test_weights_to_a_power_counted_by_hand():
    # 100 and 25 images, power 1/2: 1/10 and 1/5; the mean over images (100 * 0.1 + 25 * 0.2) / 125 = 0.12
    found = class_weights(config(class_weights="inverse", class_weight_power=0.5), torch.tensor([100, 25]), 1)
    assert found.tolist() == pytest.approx([0.1 / 0.12, 0.2 / 0.12], rel=1e-12)


@pytest.mark.parametrize("beta", [0.9, 0.9999, 5549 / 5550])
def test_effective_weights_are_in_the_papers_proportions(beta):
    found = class_weights(config(class_weights="effective", effective_beta=beta), COUNTS, 1)
    paper = [(1 - beta) / (1 - beta**n) for n in COUNTS.tolist()]
    assert (found / found.sum()).tolist() == pytest.approx([w / sum(paper) for w in paper], rel=1e-9)


def test_effective_weights_lie_between_none_and_inverse_frequency():
    few, many = (
        class_weights(config(class_weights="effective", effective_beta=beta), COUNTS, 1).tolist()
        for beta in (1e-9, 1 - 1e-12)
    )
    assert few == pytest.approx([1, 1, 1], rel=1e-6)
    assert many == pytest.approx(class_weights(config(class_weights="inverse"), COUNTS, 1).tolist(), rel=1e-3)


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=10), st.sampled_from(list(CLASS_WEIGHTS)))
def test_the_mean_weight_of_a_training_image_is_1(counts, name):
    weights = class_weights(config(class_weights=name), torch.tensor(counts), 1)
    assert (weights * torch.tensor(counts)).sum().item() == pytest.approx(sum(counts), rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_begin_after_their_share_of_the_epochs_in_the_same_memory(name):
    logits, labels = batch()
    criterion = loss(loss=name, class_weights="inverse", reweight_from=0.8)
    plain, weighted = loss(loss=name), loss(loss=name, class_weights="inverse")
    where = {name: buffer.data_ptr() for name, buffer in criterion.named_buffers()}
    for epoch in [1, 8, 9, 10, 2]:
        criterion.start_epoch(epoch)
        expected = weighted if epoch > 8 else plain
        assert torch.equal(criterion(logits, labels), expected(logits, labels)), epoch
    assert {name: buffer.data_ptr() for name, buffer in criterion.named_buffers()} == where
    assert not torch.equal(plain(logits, labels), weighted(logits, labels))


# --- the prior a network was trained under ---


def test_plain_training_has_the_images_prior():
    expected = [math.log(n / 5550) for n in COUNTS.tolist()]
    assert log_trained_prior(config(), COUNTS, 1).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("fields", [
    {"loss": "balanced_softmax"}, {"loss": "logit_adjusted", "tau": 1.0}, {"class_weights": "inverse"},
    {"sampler": "weighted"}, {"sampler": "undersample"}, {"sampler": "weighted", "sampler_power": 0.5,
    "class_weights": "inverse", "class_weight_power": 0.5}, {"head_epochs": 10},
])  # fmt: skip
def test_of_a_full_correction_nothing_is_left_to_adjust(fields):
    prior = log_trained_prior(config(**fields), COUNTS, 1)
    assert (prior - prior[0]).tolist() == pytest.approx([0, 0, 0], abs=1e-12)


def test_a_double_correction_is_turned_around_and_the_adjustment_takes_it_back():
    prior = log_trained_prior(config(sampler="weighted", class_weights="inverse"), COUNTS, 1).exp()
    assert (prior / prior[0]).tolist() == pytest.approx([1, 10, 100])


def test_the_prior_is_that_of_the_epoch():
    late = config(class_weights="inverse", reweight_from=0.5)
    plain = log_trained_prior(config(), COUNTS, 1)
    assert torch.equal(log_trained_prior(late, COUNTS, 5), plain)
    assert not torch.allclose(log_trained_prior(late, COUNTS, 6), plain)


@pytest.mark.parametrize("fields", [
    {}, {"loss": "balanced_softmax"}, {"loss": "logit_adjusted", "tau": 0.4}, {"class_weights": "inverse"},
    {"loss": "logit_adjusted", "tau": 2.0, "class_weights": "effective", "effective_beta": 0.99},
])  # fmt: skip
def test_the_logits_that_cost_least_hold_the_prior(fields):
    # two inputs, seen so often as these chances say, and logits free for each input: the least expected loss
    given_class = torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9]], dtype=torch.float64)  # p(x | c)
    joint = given_class * (COUNTS / COUNTS.sum())[:, None]
    logits = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    criterion = loss(**fields).double()
    search = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-16,
                               line_search_fn="strong_wolfe")  # fmt: skip

    def expected_loss():
        search.zero_grad()
        total = sum((joint[c] * criterion(logits, torch.tensor([c, c]))).sum() for c in range(3))
        total.backward()
        return total

    search.step(expected_loss)
    adjusted = logits.detach() - log_trained_prior(config(**fields), COUNTS, 1)
    torch.testing.assert_close(adjusted.softmax(1), (given_class / given_class.sum(0)).T, rtol=1e-3, atol=1e-4)
