"""Groups of images: what makes one, and that none stands on two sides of a split."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from tests.conftest import told
from trainable.cli import UsageError
from trainable.images import loading
from trainable.images.drawing import draw_groups
from trainable.images.groups import by_regex
from trainable.images.pool import DataSpec, Pool, unpack
from trainable.images.splits import check_split, count_lines, split


def pool_of(labels, groups, minority=(0,), keep=1.0, val_fraction=0.2, num_own_val=0):
    """A pool of black images, every class of at least one."""
    names = tuple(f"c{label}" for label in range(max(labels) + 1))
    spec = DataSpec("made-up", "", "", 16, tuple(names[c] for c in minority), keep, val_fraction, 0, True, "x")
    labels, groups = np.asarray(labels, np.int64), np.asarray(groups, np.int64)
    return Pool(spec, np.zeros((len(labels), 257), np.int32), labels, names, num_own_val, None, "", groups=groups)


@st.composite
def grouped(draw, max_groups=40):
    """(labels, groups) of groups of one to eight images, some of them of several classes, in random order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_classes = draw(st.integers(2, 5))
    main = np.concatenate([np.arange(num_classes), rng.integers(num_classes, size=draw(st.integers(4, max_groups)))])
    sizes = rng.integers(1, 1 + draw(st.integers(1, 8)), size=len(main))
    groups, labels = np.repeat(np.arange(len(main)), sizes), np.repeat(main, sizes)
    mixed = rng.random(len(labels)) < draw(st.sampled_from([0, 0, 0.3]))
    labels = np.where(mixed, rng.integers(num_classes, size=len(labels)), labels)
    labels = np.unique(labels, return_inverse=True)[1]  # a class may have lost its last image
    order = rng.permutation(len(labels))
    return labels[order], groups[order]


@given(grouped(), st.floats(0.02, 0.98), st.floats(0, 1, exclude_min=True), st.integers(0, 2**32), st.integers(0, 99))
def test_no_group_stands_on_two_sides_of_a_split_and_every_image_on_one(images, fraction, keep, split_seed, cut_seed):
    pool = pool_of(*images, keep=keep, val_fraction=fraction)
    drawn = split(pool, split_seed, cut_seed)
    parts = [drawn.train, drawn.val, drawn.audit]
    assert sorted(np.concatenate(parts)) == list(range(len(pool.labels)))
    assert all((np.diff(part) > 0).all() for part in parts)
    sides = [set(pool.groups[part].tolist()) for part in parts]
    assert sum(map(len, sides)) == len(set().union(*sides))
    if keep == 1:
        assert len(drawn.audit) == 0
    # the cut takes no group that has nothing of the minority
    assert set(pool.groups[pool.labels == 0].tolist()) >= sides[2]
    again = split(pool, split_seed, cut_seed)
    assert all(
        np.array_equal(one, getattr(again, name)) for one, name in zip(parts, ("train", "val", "audit"), strict=True)
    )


@given(grouped(), st.integers(0, 2**32))
def test_another_cut_leaves_validation_as_it_is(images, seed):
    whole, cut = (split(pool_of(*images, keep=keep), seed, seed) for keep in (1.0, 0.3))
    assert np.array_equal(whole.val, cut.val)
    assert np.array_equal(np.union1d(cut.train, cut.audit), whole.train)


def deviation(labels, drawn, share):
    """How far the classes' shares of ``drawn`` are from ``share``, averaged over the classes."""
    counts = np.bincount(labels)
    return np.abs(np.bincount(labels[drawn], minlength=len(counts)) / counts - share).mean()


@given(grouped(max_groups=60), st.sampled_from([3, 5, 10]))
@settings(max_examples=60)
def test_class_shares_are_as_near_as_scikit_learns(images, folds):
    labels, groups = images
    counts = np.bincount(labels)
    # with fewer, a single image is a large part of a class, and no study is begun (see check_split)
    assume(counts.min() >= 2 * folds and len(np.unique(groups)) >= folds)
    wanted = (counts / folds).tolist()
    ours = [deviation(labels, draw_groups(labels, groups, wanted, "validation_split", s), 1 / folds) for s in range(6)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer images than folds
        theirs = [
            deviation(labels, drawn, 1 / folds)
            for seed in range(2)
            for _, drawn in StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups)
        ]
    # on average of all sets clearly nearer, see below, and nowhere much farther
    assert np.mean(ours) <= np.mean(theirs) + 0.02


def test_over_many_sets_the_shares_are_nearer_than_scikit_learns():
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for seed in range(40):
        main = rng.integers(3, size=50)
        sizes = rng.integers(1, 9, size=50)
        groups, labels = np.repeat(np.arange(50), sizes), np.repeat(main, sizes)
        wanted = (np.bincount(labels) / 5).tolist()
        ours.append(deviation(labels, draw_groups(labels, groups, wanted, "validation_split", seed), 0.2))
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        theirs += [deviation(labels, drawn, 0.2) for _, drawn in splitter.split(labels, labels, groups)]
    assert np.mean(ours) < np.mean(theirs)


def test_every_group_may_lie_on_either_side_and_equal_ones_equally_often():
    labels = np.repeat([0, 1], [90, 200])
    groups = np.concatenate([np.repeat(np.arange(5), [30, 15, 15, 15, 15]), 5 + np.arange(200) // 5])
    times = np.zeros(45)
    for seed in range(600):
        times[np.unique(groups[draw_groups(labels, groups, [18, 40], "validation_split", seed)])] += 1
    error = (600 * 0.2 * 0.8) ** 0.5
    assert np.abs(times[5:] - 600 * 0.2).max() < 4.5 * error
    assert times[0] > 0.1 * 600  # the largest of its class: a third of it
    assert np.ptp(times[1:5]) < 6 * error


@given(st.lists(st.integers(6, 40), min_size=2, max_size=4), st.integers(0, 1000))
def test_groups_of_one_image_are_drawn_to_the_nearest_number(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    drawn = draw_groups(labels, np.arange(len(labels)), [round(0.2 * n) for n in counts], "validation_split", seed)
    assert np.bincount(labels[drawn], minlength=len(counts)).tolist() == [round(0.2 * n) for n in counts]


def test_without_groups_a_split_has_the_bits_that_it_always_had():
    labels = np.repeat([0, 1], [20, 30])
    pool = pool_of(labels, labels, keep=0.5)
    drawn = split(Pool(**{**vars(pool), "groups": None}), 5, 6)
    assert drawn.val.tolist() == [4, 9, 12, 14, 29, 35, 36, 39, 43, 44]
    assert drawn.audit.tolist() == [0, 1, 5, 6, 7, 8, 11, 16]


def test_a_minority_of_many_groups_is_cut_by_whole_groups_with_whatever_is_in_them():
    # twenty groups of three rare images and one frequent, and frequent ones beside
    labels = np.concatenate([np.tile([0, 0, 0, 1], 20), np.ones(100, int)])
    groups = np.concatenate([np.repeat(np.arange(20), 4), 20 + np.arange(100)])
    drawn = split(pool_of(labels, groups, keep=0.25), 0, 0)
    assert len(np.unique(groups[drawn.val])) < 60
    kept = np.isin(np.arange(20), groups[drawn.train]).sum()
    assert kept == 4  # of 16 that validation has left
    assert np.bincount(labels[drawn.audit]).tolist() == [36, 12]


def test_too_few_groups_are_a_problem_that_says_so_and_few_a_warning():
    labels = np.repeat([0, 1], [12, 400])
    pool = pool_of(labels, np.concatenate([np.zeros(12, int), 1 + np.arange(400)]))
    problems, _ = check_split(pool, split(pool, 0, 0))
    assert len(problems) == 2
    assert problems[0].endswith("(its images are of 1 group(s), and a group stands on one side)")
    assert problems[1].startswith("a class with too few images can be left out")
    labels = np.repeat([0, 1], [120, 400])
    pool = pool_of(labels, np.concatenate([np.arange(120) // 4, 30 + np.arange(400)]))
    problems, warned = check_split(pool, drawn := split(pool, 0, 0))
    assert problems == []
    assert len(warned) == 1
    assert warned[0].startswith(
        "fewer than 25 groups in validation (c0 6): scores of these classes will be rough; with"
    )
    assert count_lines(pool, drawn)[-1].split() == ["groups", "344", "86", "-", "0"]


# --- paths, and folders on disk ---


def names_of(regex, **parts):
    said = []
    paths = {part: [f"{part}/{name}" for name in names] for part, names in parts.items()}
    return by_regex(paths, regex, said.append), said


def test_a_group_is_what_the_first_brackets_find_else_all_that_matches_else_the_image_alone():
    names = ["cat/p1_a.png", "cat/p1_b.png", "dog/p1_c.png", "dog/p2_a.png", "dog/none.png", "dog/other.png"]
    found, said = names_of(r"(p\d)_(\w)", train=names)
    assert found["train"][:4] == ["p1", "p1", "p1", "p2"]
    assert len(set(found["train"])) == 4
    assert said == [
        r"--group (p\d)_(\w): 6 images are of 4 groups of 1 to 3 images; 2 of them are of none, and each is a group "
        "of its own (train/dog/none.png, train/dog/other.png)"
    ]
    assert names_of(r"/p\d", train=names)[0]["train"][:4] == ["/p1", "/p1", "/p1", "/p2"]
    # a bracket that takes no part in the match is none
    assert len(set(names_of(r"none|(p\d)", train=names)[0]["train"])) == 4
    assert names_of(r"train/(\w+)", train=names)[0]["train"] == ["cat", "cat", *["dog"] * 4]


def test_what_makes_no_groups_is_refused_in_a_sentence():
    for regex, words in [("(", "must be a regular expression, not '('"), ("train", "all 2 images are of one group")]:
        with pytest.raises(UsageError, match="--group") as refusal:
            names_of(regex, train=["a/1.png", "a/2.png"])
        assert words in refusal.value.problems[0]
    with pytest.raises(UsageError) as refusal:
        names_of(r"p\d", train=["a/p1.png", "a/p2.png", "a/p3.png"], val=["a/p1x.png"], test=["a/p1.png", "a/p3y.png"])
    assert told(
        refusal.value.problems,
        "1 group(s) stand in train/ and in val/ (train/a/p1.png, val/a/p1x.png); move each to one side",
        "2 group(s) stand in train/ and in test/ (train/a/p1.png, test/a/p1.png)",
        "1 group(s) stand in val/ and in test/",
    )


def photographs(folder, parts):
    """``parts``: {part: {class: number of things}}, each photographed three times, in a colour of its own."""
    made = 0
    for part, classes in parts.items():
        for name, number in classes.items():
            (folder / part / name).mkdir(parents=True)
            for _ in range(number):
                for view in range(3):
                    colour = np.array([made % 256, made // 256, 60 * view], np.uint8)
                    path = folder / part / name / f"thing{made:04d}-{view}.png"
                    Image.fromarray(np.tile(colour, (16, 16, 1))).save(path)
                made += 1
    return folder


def load(folder, **fields):
    spec = DataSpec(str(folder), "", str(folder.parent / "cache"), image_size=16, **fields)
    return loading.load(spec, say=lambda text: None)


def things(pixels):
    return {tuple(map(int, image[0, 0, :2])) for image in unpack(pixels, 16)}


GROUP = r"thing\d+"


def test_the_test_images_that_are_set_aside_are_whole_groups_and_their_groups_are_known(tmp_path):
    folder = photographs(tmp_path / "set", {"train": {"cat": 20, "dog": 60, "fox": 50}})
    pool = load(folder, group=GROUP)
    test = loading.load_test(pool)
    assert not things(pool.pixels) & things(test.pixels)
    assert len(things(pool.pixels) | things(test.pixels)) == 130
    assert pool.test_counts == tuple(np.bincount(test.labels)) == (12, 36, 30)
    assert np.unique(test.groups, return_counts=True)[1].tolist() == [3] * 26
    assert pool.test_groups == 26
    drawn = split(pool, 1, 2)
    assert not things(pool.pixels[drawn.train]) & things(pool.pixels[drawn.val])


def test_the_fingerprint_knows_the_groups_and_without_any_it_is_as_before(tmp_path):
    folder = photographs(tmp_path / "set", {"train": {"cat": 20, "dog": 60, "fox": 50}})
    none, plain, brackets, other = (
        load(folder, group=group).fingerprint for group in (None, GROUP, r"(thing\d+)-", r"thing\d\d\d")
    )
    assert plain == brackets  # the same groups by other words
    assert len({none, plain, other}) == 3


def test_own_folders_keep_their_images_and_a_group_in_two_of_them_is_refused(tmp_path):
    parts = {"train": {"cat": 20, "dog": 60}, "val": {"cat": 8, "dog": 9}, "test": {"cat": 5, "dog": 5}}
    folder = photographs(tmp_path / "set", parts)
    pool = load(folder, group=GROUP, minority=("cat",))
    assert pool.test_groups == 10
    assert np.unique(loading.load_test(pool).groups, return_counts=True)[1].tolist() == [3] * 10
    assert len(split(pool, 0, 0).val) == 51
    (folder / "train/cat/thing0000-0.png").rename(folder / "val/cat/thing0000-0.png")
    with pytest.raises(UsageError, match=r"1 group\(s\) stand in train/ and in val/"):
        load(folder, group=GROUP, minority=("cat",))
    (folder / "val/cat/thing0000-0.png").rename(folder / "test/cat/thing0000-0.png")
    with pytest.raises(UsageError, match=r"1 group\(s\) stand in train/ and in test/"):
        load(folder, group=GROUP, minority=("cat",))
    # a study that began without test/ goes on without
    assert load(folder, group=GROUP, minority=("cat",), own_test=False).num_own_val == 51


def test_groups_of_data_without_paths_are_refused(refused):
    for data in ("digits", "cifar10"):
        assert told(refused("--data", data, "--group", "x"), f"--group: only for --data FOLDER, not for {data}")


def test_a_bad_regular_expression_is_told_beside_other_mistakes(refused):
    problems = refused("--data", "digits", "--group", "(", "--epochs", "0")
    assert told(problems, "--group must be a regular expression, not '('", "--epochs must be a whole number")


def test_a_tables_column_says_the_groups_as_an_expression_does(tmp_path):
    folder = photographs(tmp_path / "set", {"train": {"cat": 20, "dog": 60, "fox": 50}})
    paths = sorted(folder.glob("train/*/*.png"))
    table = tmp_path / "table.csv"
    lines = [f"{path.relative_to(folder)},{path.parent.name},{path.name[:9]}" for path in paths]
    table.write_text("\n".join(["path,label,group", *lines]))
    by_table, by_path = load(folder, labels=str(table)), load(folder, group=GROUP)
    assert by_table.fingerprint == by_path.fingerprint
    assert np.array_equal(by_table.groups, by_path.groups)
    assert np.array_equal(loading.load_test(by_table).groups, loading.load_test(by_path).groups)
    with pytest.raises(UsageError, match="--group thing: must be left out where the table has a column group"):
        load(folder, labels=str(table), group="thing")
