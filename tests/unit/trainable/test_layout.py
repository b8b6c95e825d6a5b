"""How images may come: by parts under many names, as class folders alone, nested, with files left out."""

import shutil

import numpy as np
import pytest
from PIL import Image

from trainable.cli import UsageError
from trainable.images import loading
from trainable.images.layout import list_parts
from trainable.images.pool import DataSpec
from trainable.images.splits import split

COUNTS = {"cat": 30, "dog": 30, "fox": 10}


@pytest.fixture
def make(tmp_path):
    """A function that fills a folder of the set with class folders of pictures that are all different."""
    rng = np.random.default_rng(0)

    def run(part="train", counts=COUNTS):
        for name, number in counts.items():
            folder = tmp_path / "set" / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(number):
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{index:02d}.png")
        return tmp_path / "set"

    return run


def load(folder, **fields):
    """The pool, and what was told, with SET for the folder."""
    said = []
    pool = loading.load(DataSpec(str(folder), "", str(folder.parent / "cache"), image_size=16, **fields), said.append)
    return pool, [text.replace(f"{folder}/", "").replace(str(folder), "SET") for text in said]


def refused(folder, **fields):
    with pytest.raises(UsageError) as refusal:
        load(folder, **fields)
    return [text.replace(f"{folder}/", "").replace(str(folder), "SET") for text in refusal.value.problems]


def test_a_folder_of_class_folders_is_used_as_if_it_were_train(make):
    folder = make()
    by_part, _ = load(folder)
    alone, told = load(folder / "train")
    assert told == ["SET: has no train/, so its 3 folders are taken for the classes (cat/, dog/, fox/)"]
    assert alone.fingerprint == by_part.fingerprint
    assert alone.spec.minority == ("fox",)
    assert np.array_equal(loading.load_test(alone)[0], loading.load_test(by_part)[0])


@pytest.mark.parametrize("name", ["val", "Validation", "TEST", "dev"])
def test_parts_without_one_for_training_are_no_classes(make, name):
    shutil.move(make() / "train", make() / name)
    make("cat/inside")
    shutil.rmtree(make() / "train")
    problem, unused = refused(make("cat/inside"))
    assert "has no folder train/" in problem
    assert f"{name}/ is " in problem
    assert "cat/ not used" in unused


@pytest.mark.parametrize("name", ["val", "Val", "validation", "VALID", "Dev"])
@pytest.mark.parametrize("train", ["train", "Train", "training"])
def test_images_for_validation_are_found_under_all_their_names(make, name, train):
    folder = make("val", {"cat": 8, "dog": 7, "fox": 6})
    usual, told = load(make())
    assert told == []
    (folder / "val").rename(folder / "moved")
    (folder / "moved").rename(folder / name)
    (folder / "train").rename(folder / "moved")
    (folder / "moved").rename(folder / train)
    pool, told = load(folder)
    assert (pool.fingerprint, pool.num_own_val) == (usual.fingerprint, 21)
    uses = [("train", train, "for training"), ("val", name, "for validation")]
    unusual = [f"{found}/ is used {use}" for part, found, use in uses if found != part]
    assert told == ([f"SET: {', '.join(unusual)}"] if unusual else [])


@pytest.mark.parametrize("name", ["test", "Test", "TESTING"])
def test_test_images_are_found_under_all_their_names(make, name):
    folder = make("test", {"cat": 8, "dog": 7, "fox": 6})
    usual, _ = load(make())
    (folder / "test").rename(folder / "moved")
    (folder / "moved").rename(folder / name)
    pool, told = load(folder)
    assert told == ([] if name == "test" else [f"SET: {name}/ is used as the test images"])
    assert (pool.fingerprint, pool.test_counts) == (usual.fingerprint, (8, 7, 6))
    assert np.array_equal(loading.load_test(pool)[0], loading.load_test(usual)[0])


def test_of_two_folders_for_one_part_the_usual_name_counts_and_else_neither(make):
    folder = make("valid", {"cat": 8, "dog": 7, "fox": 6})
    make("Dev", {"cat": 8, "dog": 7, "fox": 6})
    assert "Dev/ and valid/ could all be for validation; leave one" in refused(make())[0]
    make("val", {"cat": 5, "dog": 5, "fox": 5})
    pool, told = load(folder)
    assert pool.num_own_val == 15
    assert told == ["SET: Dev/, valid/ not used; only the folders train/, val/ and test/ are"]


def test_a_study_from_before_other_names_counted_goes_on_without_them(make):
    folder = make()
    before, _ = load(folder, split_names=False)
    make("valid", {"cat": 8, "dog": 7, "fox": 6})
    after, told = load(folder, split_names=False, own_test=False)
    assert after.fingerprint == before.fingerprint
    assert told == ["SET: valid/ not used; only the folders train/, val/ and test/ are"]
    assert load(folder)[0].num_own_val == 21


def test_images_deeper_in_a_classs_folder_are_taken_and_told(make):
    folder = make()
    flat, _ = load(folder)
    everything = [np.concatenate([flat.pixels, loading.load_test(flat)[0]])]
    for index in range(10):
        deep = folder / f"train/cat/day {index % 2}/a"
        deep.mkdir(parents=True, exist_ok=True)
        (folder / f"train/cat/{index:02d}.png").rename(deep / f"{index:02d}.png")
    pool, told = load(folder)
    assert told == [
        "train: 10 of 70 images lie in folders inside their class's folder and are taken, too (cat/day 0/a/00.png, …); "
        "--exclude leaves some out"
    ]
    for path in [*folder.glob("train/dog/*.png"), *folder.glob("train/cat/*.png"), *folder.glob("train/fox/*.png")]:
        (path.parent / "a").mkdir(exist_ok=True)
        path.rename(path.parent / "a" / path.name)
    (all_of_train, *_) = load(folder)[1]
    assert all_of_train.startswith("train: all 70 images lie in folders inside their class's folder (cat/a/")
    everything.append(np.concatenate([pool.pixels, loading.load_test(pool)[0]]))
    assert sorted(map(bytes, everything[0])) == sorted(map(bytes, everything[1]))
    assert np.bincount(pool.labels).tolist() == np.bincount(flat.labels).tolist()


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"exclude": ("*/0?.png",)}, [20, 20]),  # fox has no image left, so it is no class
        ({"include": ("train/cat/*", "train/fox/*")}, [30, 10]),
        ({"include": ("*/1?.png",), "exclude": ("*5.png", "*6.png")}, [8, 8]),
        ({"exclude": ("train/dog",)}, [30, 10]),
        ({"exclude": ("*/fox/*",)}, [30, 30]),
        ({"exclude": ("*.PNG",)}, [30, 30, 10]),  # capitals count
    ],
)
def test_globs_choose_images_by_their_paths(make, fields, counts):
    listings, notes = list_parts(DataSpec(str(make()), "", "", **fields))
    assert listings["train"].counts == counts
    assert len(notes) == 1
    assert ("nothing matches" in notes[0]) == (counts == [30, 30, 10])


def test_globs_that_leave_nothing_are_refused_and_a_pruned_folder_is_not_looked_into(make):
    folder = make()
    assert refused(folder, include=("*.jpg",)) == ["train: --include and --exclude leave no image"]
    (folder / "train/cat/old").symlink_to("nowhere")
    (folder / "train/cat/up").symlink_to("..")
    (folder / "train/empty").mkdir()
    assert len(refused(folder)) == 3
    (folder / "train/cat/old").unlink()
    pool, told = load(folder, exclude=("train/cat/up", "train/empty"))
    assert told == ["2 image(s) or folders of them are left out by --exclude"]
    assert len(pool.labels) == 56


def test_masks_beside_their_photographs_are_told(make):
    folder = make()
    for index in range(4):
        shutil.copy(folder / f"train/dog/{index:02d}.png", folder / f"train/cat/{index:02d}.bmp")
    for index in range(3):
        shutil.copy(folder / f"train/dog/1{index}.png", folder / f"train/fox/{index:02d}_Mask.png")
    _, told = load(folder, minority=("fox",))
    (sentence,) = [text for text in told if "masks?" in text]
    assert sentence == (
        "train: 7 images lie beside one of the same name but for the ending or a word like mask (cat/00.bmp and "
        "cat/00.png): masks? --exclude leaves them out, for instance --exclude '*.png', …"
    )
    _, told = load(folder, exclude=("*.bmp", "*_Mask.png"))
    assert told == ["7 image(s) or folders of them are left out by --exclude"]


def test_names_that_only_look_like_masks_are_not_told(make):
    folder = make()
    for name in ("mask", "unmask", "07 label-free", "gt"):
        (folder / "train/cat/07.png").rename(folder / f"train/cat/{name}.png")
        shutil.copy(folder / "train/cat/08.png", folder / "train/cat/07.png")
    shutil.copy(folder / "train/cat/08.png", folder / "train/dog/x_mask.png")
    assert not any("masks?" in text for text in load(folder)[1])


def test_own_validation_and_test_images_have_their_globs_too(make):
    folder = make("Valid", {"cat": 8, "dog": 7, "fox": 6})
    make("test", {"cat": 8, "dog": 7, "fox": 6})
    pool, _ = load(make(), exclude=("Valid/*/00.png", "test/*/0[01].png"))
    assert pool.num_own_val == 18
    assert pool.test_counts == (6, 5, 4)
    assert len(loading.load_test(pool)[1]) == 15
    assert len(split(pool, 0, 0).val) == 18
    assert len(list((folder / "test/cat").iterdir())) == 8
