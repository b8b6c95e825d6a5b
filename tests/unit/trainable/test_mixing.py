import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import v2

from trainable.parts.erasing import ASPECTS, Cutout, RandomErasing, inside
from trainable.parts.mixing import CutMix, Mixup, Remix, beta

SIZE, CLASSES = 12, 4
COUNTS = torch.tensor([90, 30, 10, 10])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(number, seed=0):
    images = torch.rand(number, 3, SIZE, SIZE, generator=generator(seed))
    labels = torch.randint(CLASSES, (number,), generator=generator(seed + 1))
    return images, labels, torch.nn.functional.one_hot(labels, CLASSES).float()


@pytest.mark.parametrize("mixing", [Mixup(0.4), Remix(1.0, COUNTS, 3.0, 0.5), CutMix(1.0, SIZE)])
@given(seed=st.integers(0, 2**32), number=st.integers(1, 9))
def test_targets_still_sum_to_one_and_speak_of_two_classes_at_most(mixing, seed, number):
    images, labels, targets = batch_of(number, seed)
    mixed, soft = mixing(images, targets, mixing.draw(number, generator(seed)))
    assert mixed.shape == images.shape
    torch.testing.assert_close(soft.sum(1), torch.ones(number))
    assert (soft >= 0).all()
    for row, own, other in zip(soft, labels, labels.roll(1), strict=True):
        assert set(row.nonzero().flatten().tolist()) <= {int(own), int(other)}


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_mixup_is_torchvisions_at_one_share(seed, share):
    images, labels, targets = batch_of(6, seed)
    theirs = v2.MixUp(num_classes=CLASSES)
    params = {"lam": share, "labels": labels, "batch_size": 6}
    mixed, soft = Mixup(1.0)(images, targets, torch.full((6, 1), share))
    torch.testing.assert_close(mixed, theirs.transform(images, params))
    torch.testing.assert_close(soft, theirs.transform(labels, params))


@given(st.integers(0, 2**32))
def test_cutmix_is_torchvisions_at_one_box(seed):
    images, labels, targets = batch_of(6, seed)
    theirs, mixing = v2.CutMix(num_classes=CLASSES), CutMix(1.0, SIZE)
    dice = mixing.draw(1, generator(seed))
    top, left, bottom, right = dice[0].int().tolist()
    kept = 1 - (bottom - top) * (right - left) / SIZE**2
    params = {"box": (left, top, right, bottom), "lam_adjusted": kept, "labels": labels, "batch_size": 6}
    mixed, soft = mixing(images, targets, dice.expand(6, 4))
    assert torch.equal(mixed, theirs.transform(images, params))
    torch.testing.assert_close(soft, theirs.transform(labels, params))


def test_boxes_of_cutmix_are_what_torchvision_makes_of_the_same_share_and_centre():
    dice, again = CutMix(1.0, SIZE).draw(500, generator(3)), generator(3)
    shares = beta(1.0, 500, again)
    centres = torch.randint(SIZE, (500, 2), generator=again)
    for box, share, (y, x) in zip(dice.tolist(), shares.tolist(), centres.tolist(), strict=True):
        half = int(0.5 * math.sqrt(1 - share) * SIZE)
        assert box == [max(y - half, 0), max(x - half, 0), min(y + half, SIZE), min(x + half, SIZE)]


def test_every_image_has_its_own_share_and_the_one_before_it_as_partner():
    images = torch.tensor([0.0, 10, 20]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    mixed, soft = Mixup(1.0)(images, torch.eye(3), torch.tensor([[1.0], [0.25], [0.5]]))
    assert mixed[:, 0, 0, 0].tolist() == [0, 2.5, 15]
    assert soft.tolist() == [[1, 0, 0], [0.75, 0.25, 0], [0, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("own", "other", "share", "kept"),
    [
        (0, 1, 0.4, 0.0),  # 90 of 30, three times as many, and under half of it is left: all of the rarer
        (0, 1, 0.6, 0.6),
        (0, 2, 0.49, 0.0),
        (1, 0, 0.6, 1.0),  # 30 of 90: 0.4 of the other
        (1, 0, 0.4, 0.4),
        (2, 3, 0.1, 0.1),  # as many
        (2, 3, 0.9, 0.9),
        (3, 1, 0.51, 1.0),
    ],
)
def test_remix_gives_the_target_to_the_rarer_class_by_its_two_conditions(own, other, share, kept):
    images, targets = torch.rand(2, 3, 4, 4), torch.eye(CLASSES)[[other, own]]
    mixed, soft = Remix(1.0, COUNTS, 3.0, 0.5)(images, targets, torch.tensor([[1.0], [share]]))
    torch.testing.assert_close(soft[1], kept * targets[1] + (1 - kept) * targets[0])
    torch.testing.assert_close(mixed[1], share * images[1] + (1 - share) * images[0])


@given(st.integers(0, 2**32), st.sampled_from([0.4, 1.0, 5.0]))
def test_shares_are_betas(seed, alpha):
    shares = beta(alpha, 4000, generator(seed)).double().numpy()
    assert (shares >= 0).all()
    assert (shares <= 1).all()
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).statistic < 2.7 / 4000**0.5  # 1 in two million


def test_shares_follow_from_the_generator_alone_and_move_it_on():
    one, other = generator(5), generator(5)
    assert torch.equal(beta(0.3, 10, one), beta(0.3, 10, other))
    assert not torch.equal(beta(0.3, 10, one), beta(0.3, 10, generator(5)))


def test_a_box_holds_the_pixels_between_its_corners_and_may_reach_outside():
    boxes = torch.tensor([[1.0, 0, 3, 1], [-2, 2, 1, 9], [0, 0, 0, 0]])
    first, second, third = inside(boxes, 4)[:, 0].int().tolist()
    assert first == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert second == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert np.sum(third) == 0


@given(st.integers(0, 2**32), st.floats(0.01, 1), st.integers(16, 40))
def test_cutout_is_a_square_about_a_pixel_of_the_image(seed, share, size):
    stage = Cutout(size, share)
    dice = stage.draw(200, generator(seed))
    sides = dice[:, 2:] - dice[:, :2]
    assert (sides == max(1, round(share * size))).all()
    centres = dice[:, :2] + stage.side // 2
    assert (centres >= 0).all()
    assert (centres < size).all()
    images = torch.ones(200, 3, size, size)
    erased = stage(images, dice) == 0
    assert torch.equal(erased, inside(dice, size).expand_as(images))
    assert erased.flatten(1).any(1).all()  # each centre is inside


def test_random_erasing_is_torchvisions_where_the_box_is():
    stage, images = RandomErasing(SIZE, 1.0), torch.rand(50, 3, SIZE, SIZE)
    dice = stage.draw(50, generator())
    for ours, image, box in zip(stage(images, dice), images, dice.int().tolist(), strict=True):
        top, left, bottom, right = box
        assert torch.equal(ours, v2.functional.erase(image, top, left, bottom - top, right - left, torch.zeros(1)))


@given(st.integers(0, 2**32), st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([16, 32, 224]))
def test_random_erasing_keeps_inside_the_image_and_to_its_areas_shapes_and_share(seed, probability, size):
    dice = RandomErasing(size, probability).draw(4000, generator(seed))
    height, width = (dice[:, 2:] - dice[:, :2]).T
    erased = height > 0
    spread = (probability * (1 - probability) / 4000) ** 0.5
    assert abs(erased.double().mean() - probability) <= 6 * spread + 1e-3
    assert (dice[erased] >= 0).all()
    assert (dice[erased] <= size).all()
    height, width = height[erased], width[erased]
    # each side was rounded by half a pixel at most
    assert ((height + 0.5) * (width + 0.5) >= 0.02 * size**2).all()
    assert ((height - 0.5) * (width - 0.5) <= 0.33 * size**2).all()
    assert ((height + 0.5) / (width - 0.5) >= ASPECTS[0]).all()
    assert ((height - 0.5) / (width + 0.5) <= ASPECTS[1]).all()


def test_random_erasing_has_torchvisions_mean_area():
    theirs = v2.RandomErasing(p=1.0)
    torch.manual_seed(0)
    expected = [params["h"] * params["w"] for params in (theirs.make_params([torch.zeros(3, 32, 32)])
                                                        for _ in range(4000))]  # fmt: skip
    dice = RandomErasing(32, 1.0).draw(40_000, generator())
    ours = ((dice[:, 2] - dice[:, 0]) * (dice[:, 3] - dice[:, 1])).double()
    assert abs(ours.mean() - np.mean(expected)) < 5 * np.std(expected) / 4000**0.5
