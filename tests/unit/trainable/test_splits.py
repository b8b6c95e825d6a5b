import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainable.cli import UsageError
from trainable.images import loading, sources, splits
from trainable.images.pool import DataSpec, Pool, channel_statistics, class_counts, pack, unpack
from trainable.images.splits import check_split, count_lines


def load(folder, tmp_path, said=None, **fields):
    spec = DataSpec(str(folder), "", str(tmp_path / "cache"), image_size=16, **fields)
    return loading.load(spec, say=(said if said is not None else []).append)


def refused(folder, tmp_path, **fields):
    with pytest.raises(UsageError) as refusal:
        load(folder, tmp_path, **fields)
    return "\n".join(refusal.value.problems)


def pool_of(counts, minority=(0,), keep=1.0, val_fraction=0.2, own_val=(), shuffle_seed=0):
    """A pool of black images: ``counts[c]`` of class c in a random order, then its own validation images."""
    rng = np.random.default_rng(shuffle_seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    rng.shuffle(labels)
    labels = np.concatenate([labels, np.repeat(np.arange(len(own_val)), own_val)]).astype(np.int64)
    names = tuple(f"c{label}" for label in range(len(counts)))
    spec = DataSpec("made-up", "", "", 16, tuple(names[c] for c in minority), keep, val_fraction, 0, True)
    return Pool(spec, np.zeros((len(labels), 257), np.int32), labels, names, sum(own_val), None, "")


@pytest.fixture
def coloured(tmp_path):
    """A function that makes a folder of images, each of a colour of its own, so that a colour names a file.

    ``coloured({"train": {"cat": 30, "dog": 50}})`` is its path.
    """
    made = 0

    def make(parts):
        nonlocal made
        for part, classes in parts.items():
            for class_name, number in classes.items():
                folder = tmp_path / "coloured" / part / class_name
                folder.mkdir(parents=True)
                for index in range(number):
                    colour = np.array([made % 256, made // 256, 200], np.uint8)
                    Image.fromarray(np.tile(colour, (16, 16, 1))).save(folder / f"{index:03d}.png")
                    made += 1
        return tmp_path / "coloured"

    return make


def colours(root):
    """The colours of all images below a folder that ``coloured`` made."""
    return {Image.open(path).getpixel((0, 0)) for path in root.rglob("*.png")}


def colours_of(pool, positions=slice(None)):
    return {tuple(map(int, image[0, 0])) for image in unpack(pool.pixels[positions], 16)}


def test_cut_is_exact_and_splits_are_disjoint_and_complete(digits_pool):
    split = splits.split(digits_pool, 5, 6)
    together = np.concatenate([split.train, split.val, split.audit])
    assert sorted(together) == list(range(len(digits_pool.labels)))
    train, val, audit = (class_counts(digits_pool, part) for part in (split.train, split.val, split.audit))
    for label in range(10):
        before = train[label] + audit[label]
        assert train[label] == (round(0.03 * before) if label < 3 else before)
        assert val[label] == round(0.2 * (before + val[label]))


def test_splits_depend_on_their_own_seed_alone(digits_pool):
    first, other_cut, other_split = (splits.split(digits_pool, *seeds) for seeds in [(5, 6), (5, 7), (8, 6)])
    assert np.array_equal(first.val, other_cut.val)
    assert not np.array_equal(first.train, other_cut.train)
    assert not np.array_equal(first.val, other_split.val)


def test_channel_statistics(digits_pool):
    split = splits.split(digits_pool, 0, 0)
    mean, std = channel_statistics(digits_pool, split.train)
    pixels = unpack(digits_pool.pixels[split.train], 16).reshape(-1, 3) / 255
    assert mean == pytest.approx(pixels.mean(axis=0), abs=1e-12)
    assert std == pytest.approx(pixels.std(axis=0), abs=1e-9)


def test_folder_without_test_draws_one_and_the_rare_class_is_the_minority(image_folder, tmp_path):
    pool = load(image_folder, tmp_path)
    assert pool.spec.minority == ("fox",)
    assert pool.test_counts == (4, 4, 2)
    assert len(pool.labels) == 48 - 10


def test_moving_test_away_changes_nothing_for_a_study_that_began_with_it(image_folder, tmp_path):
    shutil.copytree(image_folder / "train", image_folder / "test")
    with_test = load(image_folder, tmp_path)
    shutil.rmtree(image_folder / "test")
    without = load(image_folder, tmp_path, own_test=True)
    assert with_test.fingerprint == without.fingerprint
    assert np.array_equal(with_test.pixels, without.pixels)
    assert without.test_counts is None


def test_own_validation_images_are_used(image_folder, tmp_path):
    shutil.copytree(image_folder / "train", image_folder / "val")
    pool = load(image_folder, tmp_path)
    assert class_counts(pool, splits.split(pool, 0, 0).val) == [20, 20, 8]


def test_what_makes_no_sense_is_refused_in_a_sentence(image_folder, tmp_path):
    assert "is no folder" in refused(tmp_path / "none", tmp_path)
    assert "no class zebra" in refused(image_folder, tmp_path, minority=("zebra",))
    assert "names every class" in refused(image_folder, tmp_path, minority=("cat", "dog", "fox"))
    (image_folder / "train/cat/loop").symlink_to("..")
    (image_folder / "train/empty").mkdir()
    problems = refused(image_folder, tmp_path)
    assert "cat/loop: is a link to a folder that it lies in" in problems
    assert "empty: no images" in problems


def test_equal_classes_need_a_named_minority(image_folder, tmp_path):
    shutil.rmtree(image_folder / "train/fox")
    assert "no class has at most half of the median of the classes' images: 10 of 20 (cat 20, dog 20)" in refused(
        image_folder, tmp_path
    )


def test_a_class_with_a_single_image_is_refused(image_folder, tmp_path):
    for path in sorted((image_folder / "train/fox").iterdir())[1:]:
        path.unlink()
    pool = load(image_folder, tmp_path)
    problems, _ = check_split(pool, splits.split(pool, 0, 0))
    assert "class fox: 1 training image(s) left, at least 2 are needed" in problems
    assert "class fox: 0 validation image(s), at least 5 are needed" in problems


@given(
    st.lists(st.integers(2, 60), min_size=2, max_size=5),
    st.floats(0, 1, exclude_min=True),
    st.floats(0.01, 0.99),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
)
def test_every_split_is_exact_disjoint_complete_and_a_function_of_its_seeds(counts, keep, fraction, split_seed, seed):
    pool = pool_of(counts, minority=(0,), keep=keep, val_fraction=fraction)
    drawn = splits.split(pool, split_seed, seed)
    assert sorted(np.concatenate([drawn.train, drawn.val, drawn.audit])) == list(range(len(pool.labels)))
    for part in (drawn.train, drawn.val, drawn.audit):
        assert (np.diff(part) > 0).all()
    for label, count in enumerate(counts):
        num_val = round(fraction * count)
        num_train = round(keep * (count - num_val)) if label == 0 else count - num_val
        found = [class_counts(pool, part)[label] for part in (drawn.val, drawn.train, drawn.audit)]
        assert found == [num_val, num_train, count - num_val - num_train]
    again = splits.split(pool, split_seed, seed)
    assert all(np.array_equal(getattr(drawn, part), getattr(again, part)) for part in ("train", "val", "audit"))


@given(st.floats(0.01, 1), st.integers(0, 1000))
def test_validation_is_drawn_before_the_cut(keep, seed):
    uncut = splits.split(pool_of([50, 70, 40], minority=(0, 2)), seed, 0)
    cut = splits.split(pool_of([50, 70, 40], minority=(0, 2), keep=keep), seed, 0)
    assert np.array_equal(cut.val, uncut.val)
    assert np.array_equal(np.union1d(cut.train, cut.audit), uncut.train)


def test_every_image_is_as_likely_to_be_drawn_as_any_other_of_its_class():
    pool = pool_of([40, 60], keep=0.5, val_fraction=0.25)
    val, audit = np.zeros(100), np.zeros(100)
    for seed in range(600):
        drawn = splits.split(pool, seed, seed)
        val[drawn.val] += 1
        audit[drawn.audit] += 1
    # 600 draws each: within 5 standard deviations of the mean
    assert np.abs(val - 150).max() < 5 * (600 * 0.25 * 0.75) ** 0.5
    chance = 0.75 * 0.5
    assert np.abs(audit[pool.labels == 0] - 600 * chance).max() < 5 * (600 * chance * (1 - chance)) ** 0.5
    assert audit[pool.labels == 1].sum() == 0


def test_pool_and_drawn_test_images_partition_the_digits(digits_pool):
    source = sources.digits(16)
    whole, pool = (
        Counter(zip(map(bytes, images), labels.tolist(), strict=True))
        for images, labels in [
            (source.images, source.labels),
            (np.ascontiguousarray(unpack(digits_pool.pixels, 16)), digits_pool.labels),
        ]
    )
    assert pool <= whole
    sealed = Counter()
    for (_, label), times in (whole - pool).items():
        sealed[label] += times
    expected = [round(0.2 * count) for count in np.bincount(source.labels)]
    assert [sealed[label] for label in range(10)] == expected == list(digits_pool.test_counts)


def test_the_test_images_are_what_the_pool_leaves_out_whatever_a_trials_seeds(digits_pool):
    source = sources.digits(16)
    pixels, labels, _ = loading.load_test(digits_pool)
    assert np.bincount(labels).tolist() == list(digits_pool.test_counts)
    together = np.concatenate([digits_pool.pixels, pixels]), np.concatenate([digits_pool.labels, labels])
    whole = pack(source.images), source.labels
    assert Counter(zip(map(bytes, together[0]), together[1], strict=True)) == Counter(
        zip(map(bytes, whole[0]), whole[1], strict=True)
    )
    splits.split(digits_pool, 5, 6)
    assert np.array_equal(loading.load_test(digits_pool)[0], pixels)


def test_a_folders_test_images_are_its_own_or_what_was_set_aside(coloured, tmp_path):
    folder = coloured({"train": {"cat": 30, "dog": 80, "fox": 90}})
    pool = load(folder, tmp_path)
    pixels, labels, _ = loading.load_test(pool)
    sealed = {tuple(image[0, 0]) for image in unpack(pixels, pool.spec.image_size)}
    assert sealed == colours(folder) - colours_of(pool)
    coloured({"test": {"cat": 3, "dog": 4, "fox": 5}})
    assert np.array_equal(loading.load_test(pool)[0], pixels)  # the study began without
    own = load(folder, tmp_path)
    pixels, labels, _ = loading.load_test(own)
    assert np.bincount(labels).tolist() == [3, 4, 5]
    assert {tuple(image[0, 0]) for image in unpack(pixels, own.spec.image_size)} == colours(folder / "test")


def test_another_seed_seals_other_images(digits_pool):
    other = loading.load(DataSpec("digits", "", "", image_size=16, seed=1))
    assert other.fingerprint != digits_pool.fingerprint
    assert not np.array_equal(other.pixels, digits_pool.pixels)
    again = loading.load(DataSpec("digits", "", "", image_size=16))
    assert again.fingerprint == digits_pool.fingerprint
    assert np.array_equal(again.pixels, digits_pool.pixels)


def test_test_images_drawn_from_a_folder_are_in_no_split(coloured, tmp_path):
    folder = coloured({"train": {"cat": 30, "dog": 80, "fox": 90}})
    pool = load(folder, tmp_path)
    assert pool.test_counts == (6, 16, 18)
    assert len(colours_of(pool)) == 200 - 40
    assert colours_of(pool) < colours(folder)


def test_a_folders_own_parts_are_used_as_they_are_and_its_test_images_never_opened(coloured, tmp_path):
    folder = coloured(
        {
            "train": {"cat": 30, "dog": 80, "fox": 90},
            "val": {"cat": 7, "dog": 8, "fox": 9},
            "test": {"cat": 3, "dog": 4, "fox": 5},
        }
    )
    for path in (folder / "test").rglob("*.png"):
        path.write_text("whoever opens this file finds no image")
    pool = load(folder, tmp_path)
    assert pool.test_counts == (3, 4, 5)
    assert pool.spec.own_test
    for seed in (0, 1):
        drawn = splits.split(pool, seed, seed)
        assert colours_of(pool, drawn.val) == colours(folder / "val")
        assert colours_of(pool, drawn.train) == colours(folder / "train")
        assert len(drawn.audit) == 0  # a user's own images are not cut unless asked
    cut = splits.split(load(folder, tmp_path, keep=0.5), 0, 0)
    assert colours_of(pool, cut.val) == colours(folder / "val")
    assert class_counts(pool, cut.train) == [15, 80, 90]


def test_a_study_that_began_without_test_goes_on_without(coloured, tmp_path):
    folder = coloured({"train": {"cat": 30, "dog": 80, "fox": 90}})
    before = load(folder, tmp_path)
    coloured({"test": {"cat": 3, "dog": 4, "fox": 5}})
    after = load(folder, tmp_path, own_test=before.spec.own_test)
    assert after.fingerprint == before.fingerprint
    assert np.array_equal(after.pixels, before.pixels)
    assert after.test_counts == before.test_counts
    # a new study takes the folder's own
    assert load(folder, tmp_path).test_counts == (3, 4, 5)


def test_the_fingerprint_knows_the_images_and_a_pool_is_what_its_settled_spec_says(coloured, tmp_path):
    folder = coloured({"train": {"cat": 30, "dog": 80, "fox": 90}})
    pool = load(folder, tmp_path)
    again = loading.load(pool.spec)
    assert again.spec == pool.spec == DataSpec(**pool.spec.to_dict())
    assert again.fingerprint == pool.fingerprint
    Image.new("RGB", (16, 16), (1, 2, 3)).save(folder / "train/cat/000.png")
    assert load(folder, tmp_path).fingerprint != pool.fingerprint


@pytest.mark.parametrize(
    ("counts", "minority", "rule"),
    [
        # an equal share is 40
        ({"a": 80, "b": 20, "c": 19, "d": 40, "e": 41}, ("b", "c"), "half of an equal share of the 200 images"),
        # 51 of 101 images; 26 and more are more than half of it
        ({"a": 51, "b": 26, "c": 24}, ("c",), "half as many images as a 51, which has more than half of all"),
        ({"a": 10, "b": 70}, ("a",), "half as many images as b 70"),
    ],
)
def test_classes_with_few_images_are_the_minority_and_a_line_says_why(coloured, tmp_path, counts, minority, rule):
    pool = load(coloured({"train": counts}), tmp_path)
    assert pool.spec.minority == minority
    shown = ", ".join(f"{name} {counts[name]}" for name in minority)
    assert pool.minority_line.startswith(f"minority, with its images before any split: {shown} (at most {rule}")


def test_named_minority_and_fraction_kept_stand(digits_pool, coloured, tmp_path):
    folder = coloured({"train": {"cat": 30, "dog": 80, "fox": 90}})
    pool = load(folder, tmp_path, minority=("fox", "cat"))
    assert pool.minority == (2, 0)
    assert (pool.spec.keep, pool.spec.val_fraction) == (1.0, 0.2)
    assert digits_pool.minority == (0, 1, 2)
    assert (digits_pool.spec.keep, digits_pool.spec.val_fraction) == (0.03, 0.2)


def test_problems_of_all_parts_are_told_at_once(coloured, tmp_path):
    folder = coloured({"train": {"cat": 5, "dog": 5}, "val": {"cat": 5, "fox": 5}, "test": {"cat": 5, "dog": 5}})
    (folder / "test/cat/more").symlink_to("nowhere")
    with pytest.raises(UsageError) as refusal:
        load(folder, tmp_path)
    val, test = sorted(refusal.value.problems, key=lambda problem: "more" in problem)
    assert "val: its classes are not those of train/ (they differ in dog, fox)" in val
    assert "test/cat/more: is a link to nowhere" in test


def test_a_folder_without_classes_or_with_one_is_refused(coloured, tmp_path):
    folder = coloured({"train": {"cat": 5}})
    assert "has only the class cat; a study needs at least 2" in refused(folder, tmp_path, minority=())
    shutil.rmtree(folder / "train/cat")
    assert "must hold one folder for each class, but has none" in refused(folder, tmp_path)
    (folder / "train/image.png").write_bytes(b"in no class")
    assert "must hold one folder for each class, but has none" in refused(folder, tmp_path)


def test_a_link_to_nowhere_is_named(coloured, tmp_path):
    folder = coloured({"train": {"cat": 5, "dog": 20}})
    (folder / "train/cat/moved.png").symlink_to("nowhere.png")
    assert "cat/moved.png" in refused(folder, tmp_path, minority=("cat",))


@pytest.mark.parametrize(
    ("num_train", "num_val", "problems", "warned"),
    [
        (2, 25, [], False),
        (2, 24, [], True),
        (2, 5, [], True),
        (2, 4, ["class c0: 4 validation image(s), at least 5 are needed", splits.WAY_OUT], False),
        (1, 25, ["class c0: 1 training image(s) left, at least 2 are needed", splits.WAY_OUT], False),
    ],
)
def test_too_few_images_are_a_problem_and_few_a_warning(num_train, num_val, problems, warned):
    pool = pool_of([num_train, 100], own_val=[num_val, 100])
    found, warnings = check_split(pool, splits.split(pool, 0, 0))
    assert found == problems
    assert [f"(c0 {num_val})" in text and "fewer than 25" in text for text in warnings] == [True] * warned


def test_few_validation_images_of_a_majority_class_are_no_warning_but_too_few_a_problem():
    pool = pool_of([100, 100, 100], own_val=[100, 24, 4])
    problems, warnings = check_split(pool, splits.split(pool, 0, 0))
    assert problems == ["class c2: 4 validation image(s), at least 5 are needed", splits.WAY_OUT]
    assert warnings == []


def test_images_of_one_flat_colour_are_left_unscaled():
    pool = pool_of([3, 3])
    assert [values.tolist() for values in channel_statistics(pool, np.arange(6))] == [[0] * 3, [1] * 3]


def test_counts_of_every_split_are_shown_and_the_minority_starred(digits_pool):
    drawn = splits.split(digits_pool, 0, 0)
    header, *lines = count_lines(digits_pool, drawn)
    assert header.split() == ["class", "train", "val", "test", "cut", "off"]
    shown = {name: list(map(int, cells)) for name, *cells in map(str.split, lines)}
    assert list(shown) == ["0*", "1*", "2*", *"3456789", "all"]
    parts = [class_counts(digits_pool, part) for part in (drawn.train, drawn.val, drawn.audit)]
    for label, cells in enumerate(list(shown.values())[:-1]):
        assert cells == [parts[0][label], parts[1][label], digits_pool.test_counts[label], parts[2][label]]
    assert shown["all"] == np.sum(list(shown.values())[:-1], axis=0).tolist()
    assert sum(shown["all"]) == 1797
