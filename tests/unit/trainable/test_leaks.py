"""Near copies by their pixels, and files that count up in series by their names."""

import io
import re
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits

from trainable.images import leaks
from trainable.images.groups import group_names


def pictures(number, size=32, seed=0):
    """uint8 (number, size, size, 3): patches of colour of several sizes, no two alike."""
    rng = np.random.default_rng(seed)
    layers = [np.kron(rng.normal(0, 40, (number, side, side, 3)), np.ones((1, size // side, size // side, 1)))
              for side in (4, 8, 16)]  # fmt: skip
    return (128 + sum(layers)).clip(0, 255).astype(np.uint8)


def edited(images, edit):
    return np.stack([np.asarray(edit(Image.fromarray(image)).convert("RGB")) for image in images])


def compressed(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file)


EDITS = {
    "compressed": compressed,
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.75),
    "of more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "grey": lambda image: image.convert("L"),
    "made smaller": lambda image: image.resize((24, 24), Image.Resampling.BILINEAR).resize((32, 32)),
}


@pytest.mark.parametrize("kind", EDITS)
def test_a_copy_that_is_edited_a_little_is_found_and_nothing_else(kind):
    images = pictures(300)
    pairs = leaks.near_copies([images, edited(images, EDITS[kind])])
    assert (pairs[:, 1] - pairs[:, 0] == 300).all()
    assert len(pairs) > 0.9 * 300


def test_exact_copies_smooth_images_and_images_of_other_things_are_no_near_copies():
    images = pictures(300)
    slope = np.tile(np.arange(32, dtype=np.uint8)[None, :, None], (32, 1, 3))
    smooth = np.stack([slope + shift for shift in range(100)]).astype(np.uint8)
    assert len(leaks.near_copies([images, images, smooth, np.zeros((50, 32, 32, 3), np.uint8)])) == 0


@pytest.mark.parametrize("size", [16, 32, 40, 96])
def test_nothing_is_said_of_handwritten_digits(size):
    scans = (load_digits().images * 255 / 16).astype(np.uint8)
    images = edited(scans, lambda scan: scan.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    assert len(np.unique(leaks.near_copies([images]))) < 0.01 * len(images)
    assert leaks.sentence([f"train/0/{index}.png" for index in range(len(images))], [images], None) == ""


@pytest.mark.parametrize("size", [16, 17, 31, 50, 96])
def test_pooling_is_the_mean_of_the_pixels_by_the_area_that_they_share(size):
    pooling = leaks._pooling(size)
    assert pooling.sum(axis=0) == pytest.approx(np.ones(16), rel=1e-5)
    assert pooling.sum(axis=1) == pytest.approx(np.full(size, 16 / size), rel=1e-5)
    fine = np.repeat(np.arange(size), 16).reshape(16, size).mean(axis=1)  # each pixel as 16 parts
    assert pooling.T @ np.arange(size) == pytest.approx(fine, rel=1e-5)


def test_copies_on_one_side_are_not_told_and_their_number_is():
    images = pictures(100)
    both = [images, edited(images, EDITS["darker"])]
    paths = [f"train/{index}-{copy}.png" for copy in "xy" for index in range(100)]
    sides = np.tile(np.arange(100), 2)
    assert len(leaks.near_copies(both, sides)) == 0
    assert leaks.sentence(paths, both, sides) == ""
    sides[-10:] += 100  # of ten the copy stands elsewhere
    assert leaks.sentence(paths, both, sides) == (
        "20 of 200 images have a near copy (train/90-x.png, train/90-y.png): if these show the same thing, use --group"
    )


def test_a_share_that_moves_no_score_is_not_told():
    images = pictures(400)
    few, more = ([images, edited(images[:number], EDITS["darker"])] for number in (3, 30))
    names = [f"train/{index:04d}" for index in range(430)]
    assert leaks.sentence(names[:403], few, None) == ""
    assert leaks.sentence(names, more, None).startswith("60 of 430 images have a near copy (train/0000, train/0400)")


def test_sixty_thousand_images_take_a_few_seconds():
    images = np.random.default_rng(0).integers(0, 256, (60_000, 32, 32, 3), np.uint8)
    images[30_000:] = 200  # many alike do not make it slow
    images[30_000:, ::2, :7] = 100
    start = time.process_time()
    leaks.near_copies([images])
    assert time.process_time() - start < 15  # 3 s on an idle core


def series_words(paths):
    return leaks._series_words(leaks._series(paths), len(paths))


def paths_of(pattern, stems=range(40), counts=range(1, 7)):
    return [f"train/{'cat' if stem % 2 else 'dog'}/{pattern.format(stem, count)}" for stem in stems for count in counts]


@pytest.mark.parametrize(
    ("pattern", "counts"),
    [
        ("part_{:03d}_{}.jpg", range(1, 7)),
        ("part{:03d}-{:02d}.png", range(7, 13)),
        ("{:03d}{}.jpg", "abcdef"),
        ("scan {} ({}).tif", range(6)),
        ("deep/er/{:03d}.{}.jpg", range(6)),
    ],
)
def test_stems_that_count_up_are_found(pattern, counts):
    paths = paths_of(pattern, counts=counts)
    words = series_words(paths)
    assert words == f"40 file-name stems come 6 times ({', '.join(paths[:3])}, …)"


def test_series_of_unlike_lengths_are_told_by_their_range():
    paths = [path for index, path in enumerate(paths_of("p{}_{}.png")) if index % 7]
    assert series_words(paths).startswith("40 file-name stems come 5 to 6 times (")


@given(st.sampled_from(["{1}.png", "IMG_{1:05d}.jpg", "cat.{1}.jpg", "{0:02x}b{1:030x}e.png", "2024{0:04d}_{1}55.jpg"]))
def test_files_that_are_only_numbered_or_named_at_random_are_no_series(pattern):
    rng = np.random.default_rng(0)
    paths = [f"train/{name}/{pattern.format(int(rng.integers(100)), index)}" for name in "ab" for index in range(300)]
    assert series_words(paths) == ""


def test_a_folder_whose_files_are_numbered_behind_its_name_is_no_series():
    paths = [f"train/{name}/{name} ({index}).png" for name in "abcdefgh" for index in range(30)]
    assert series_words(paths) == ""


def augmented(num_originals=12, num_copies=8):
    """Names as Keras' ImageDataGenerator writes them: a number drawn at random behind that of the original."""
    rng = np.random.default_rng(0)
    return [
        f"{name}/aug_{letter}{original}_0_{number}.jpg"
        for name, letter in (("no", "N"), ("yes", "Y"))
        for original in range(num_originals)
        for number in rng.choice(10_000, num_copies, replace=False)
    ]


def test_copies_that_augmentation_has_numbered_at_random_are_series_and_the_group_that_keeps_them_is_named():
    paths = augmented()
    images = [np.random.default_rng(0).integers(0, 256, (len(paths), 16, 16, 3), np.uint8)]
    told = leaks.sentence(paths, images, None)
    assert told.startswith("24 file-name stems come 8 times (no/aug_N0_0_")
    regex = re.search(r"use --group '(.*)'$", told)[1]
    groups, alone = group_names(paths, re.compile(regex))
    assert not alone
    assert set(Counter(groups).values()) == {8}


@pytest.mark.parametrize(
    "pattern", ["exp{0}_num_{1}.jpg", "{2}/cat_{1}.jpg", "{2}/IMG_{1}.jpg", "{2}/n{2}{0}_{1}.jpg", "{2}/day{0}_{1}.jpg"]
)
def test_numbers_at_random_behind_few_stems_or_stems_of_every_folder_are_no_series(pattern):
    rng = np.random.default_rng(0)
    paths = [
        pattern.format(index % 3 if "n{2}" in pattern else index % 9, number, name)
        for name in "abc"
        for index, number in enumerate(rng.choice(10**6, 180, replace=False))
    ]
    assert series_words(paths) == ""


@pytest.mark.parametrize(
    ("pattern", "counts"),
    [("part_{:03d}_{}.jpg", range(1, 7)), ("scan {} ({}).tif", range(6)), ("{:03d}{}.jpg", "abcdef")],
)
def test_the_group_that_is_named_makes_a_group_of_each_series(pattern, counts):
    paths = paths_of(pattern, counts=counts)
    (regex,) = re.findall("'(.*)'", leaks._group_words(leaks._series(paths)))
    groups, alone = group_names(paths, re.compile(regex))
    assert not alone
    assert set(Counter(groups).values()) == {6}
