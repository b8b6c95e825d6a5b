"""Folds: every image is for validation once, classes alike in all parts, groups whole."""

import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from tests.unit.trainable.test_groups import deviation, grouped, pool_of
from trainable.__main__ import main
from trainable.images.splits import check_split, count_lines, part_counts, split, subset
from trainable.images.trial import images_of

numbers = st.integers(2, 10)


def folded(labels, groups, number, **more):
    pool = pool_of(labels, np.arange(len(labels)) if groups is None else groups, **more)
    return replace(pool, spec=replace(pool.spec, folds=number), groups=None if groups is None else pool.groups)


@given(grouped(), numbers, st.floats(0, 1, exclude_min=True), st.integers(0, 2**32), st.booleans())
def test_each_image_is_for_validation_once_and_no_group_stands_on_two_sides(images, number, keep, seed, has_groups):
    labels, groups = images
    pool = folded(labels, groups if has_groups else None, number, keep=keep)
    drawn = split(pool, seed, seed)
    assert len(drawn.parts) == number
    assert np.array_equal(drawn.val, np.concatenate([part.val for part in drawn.parts]))
    assert sorted(drawn.val) == list(range(len(labels)))
    for part in drawn.parts:
        sides = [part.train, part.val, part.audit]
        assert sorted(np.concatenate(sides)) == list(range(len(labels)))
        assert all((np.diff(side) > 0).all() for side in sides)
        if has_groups:
            owners = [set(groups[side].tolist()) for side in sides]
            assert sum(map(len, owners)) == len(set().union(*owners))
    again = split(pool, seed, seed)
    assert all(np.array_equal(one.train, other.train) for one, other in zip(drawn.parts, again.parts, strict=True))


@given(st.lists(st.integers(10, 60), min_size=2, max_size=5), numbers, st.integers(0, 2**32 - 1))
def test_class_shares_are_those_of_scikit_learn(counts, number, seed):
    labels = np.random.default_rng(seed % 1000).permutation(np.repeat(np.arange(len(counts)), counts))
    ours = [part.val for part in split(folded(labels, None, number), seed, seed).parts]
    splitter = StratifiedKFold(number, shuffle=True, random_state=seed)
    theirs = [val for _, val in splitter.split(labels, labels)]
    assert Counter(map(len, ours)) == Counter(map(len, theirs))
    for label in range(len(counts)):
        of_class = [Counter((labels[val] == label).sum() for val in parts) for parts in (ours, theirs)]
        assert of_class[0] == of_class[1]


@settings(max_examples=6)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 5]))
def test_over_some_sets_shares_of_groups_are_about_as_near_as_scikit_learns(seed, number):
    rng = np.random.default_rng(seed)
    ours, theirs = [], []
    for place in range(5):
        sizes = rng.integers(1, 9, size=60)
        groups, labels = np.repeat(np.arange(60), sizes), np.repeat(np.arange(60) % 3, sizes)
        parts = split(folded(labels, groups, number), seed, seed).parts
        ours += [deviation(labels, part.val, 1 / number) for part in parts]
        splitter = StratifiedGroupKFold(number, shuffle=True, random_state=place)
        theirs += [deviation(labels, val, 1 / number) for _, val in splitter.split(labels, labels, groups)]
    assert np.mean(ours) < np.mean(theirs) + 0.01


def test_other_seeds_have_other_folds_and_another_cut_the_same_ones():
    labels = np.repeat([0, 1], [40, 100])
    pool = folded(labels, None, 4, keep=0.5)
    one, other, cut = split(pool, 0, 0), split(pool, 1, 0), split(pool, 0, 1)
    assert not np.array_equal(one.val, other.val)
    assert np.array_equal(one.val, cut.val)
    assert not np.array_equal(one.train, cut.train)
    assert [np.bincount(labels[part.train]).tolist() for part in one.parts] == [[15, 75]] * 4


def test_fewer_training_images_are_fewer_for_each_network_and_validation_stays():
    pool = folded(np.repeat([0, 1], [40, 100]), None, 4)
    whole = split(pool, 0, 0)
    half = subset(pool, whole, 0.5, 0)
    assert [len(part.train) for part in half.parts] == [53] * 4
    assert np.array_equal(half.val, whole.val)


def test_the_images_in_training_are_counted_as_the_mean_over_the_networks():
    # groups of 8, 8 and 4 images of a class of 20, and 30 images alone: each fold holds one group and ten others
    groups = np.concatenate([np.repeat([0, 1, 2], [8, 8, 4]), np.arange(3, 33)])
    pool = folded(np.repeat([0, 1], [20, 30]), groups, 3)
    drawn = split(pool, 0, 0)
    assert len({np.bincount(pool.labels[part.train]).tolist()[0] for part in drawn.parts}) > 1
    assert part_counts(pool, drawn) == {"train": [13, 20], "val": [20, 30], "audit": [0, 0]}  # 40 / 3
    assert images_of(pool, drawn, torch.device("cpu")).train_counts.tolist() == [13, 20]
    assert count_lines(pool, drawn)[-1].split() == ["groups", "22", "33", "-", "0"]


def test_too_many_folds_and_classes_that_a_network_would_lack_are_problems():
    pool = folded(np.repeat([0, 1], [20, 40]), np.arange(60) // 20, 5)
    problems, _ = check_split(pool, split(pool, 0, 0))
    assert "--folds 5: too many for these images, as one of them would hold none" in problems
    assert any(problem.startswith("class c0: 0 training image(s) left, at least 2") for problem in problems)


def test_folds_are_suggested_where_a_rare_class_has_few_validation_images_and_there_are_none_yet():
    labels = np.repeat([0, 1], [60, 200])
    one, many = (folded(labels, None, number) for number in (0, 5))
    (warning,) = check_split(one, split(one, 0, 0))[1]
    assert "with --folds 5 every image is for validation once" in warning
    assert check_split(many, drawn := split(many, 0, 0))[1] == []
    assert count_lines(many, drawn)[-1].startswith("5 folds: a trial trains 5 networks, each judged by the images of")
    own = pool_of(labels, np.arange(260), num_own_val=20)
    assert "--folds" not in str(check_split(own, split(own, 0, 0))[1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--folds", "1"], "a whole number from 2 to 10"),
        (["--folds", "11"], "a whole number from 2 to 10"),
        (["--folds", "3", "--val-fraction", "0.3"], "--val-fraction 0.3: must be left out with --folds"),
    ],
)
def test_folds_that_make_no_sense_are_refused_before_anything_starts(capsys, arguments, words):
    with warnings.catch_warnings(), pytest.raises(SystemExit) as end:
        main(["--data", "digits", *arguments])
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def test_folds_beside_a_val_of_their_own_are_refused(image_folder, tmp_path, capsys):
    (image_folder / "train").rename(image_folder / "keep")
    for part in ("train", "val"):
        (image_folder / part).mkdir()
        for folder in (image_folder / "keep").iterdir():
            (image_folder / part / folder.name).symlink_to(folder)
    with pytest.raises(SystemExit) as end:
        main(
            ["--data", str(image_folder), "--folds", "3", "--image-size", "16", "--cache-dir", str(tmp_path / "cache")]
        )
    assert end.value.code == 2
    assert "--folds 3: must be left out where images come with a val/ of their own" in capsys.readouterr().err
