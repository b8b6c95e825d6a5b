"""What a user is told of a folder of images before a study is built on them, and what is refused in a sentence."""

import os
import shutil
import sys
import tempfile
import unicodedata
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainable.cli import UsageError, attempt
from trainable.images import loading, splits
from trainable.images.pool import DataSpec
from trainable.images.splits import check_split, count_lines
from trainable.metrics import class_report

COUNTS = {"cat": 30, "dog": 30, "fox": 12}
NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.fixture
def make(tmp_path):
    """A function that fills a part of a set with pictures that are all different, and gives the set's folder."""
    rng = np.random.default_rng(0)

    def run(part="train", counts=COUNTS, picture=lambda: rng.integers(0, 256, (16, 16, 3), np.uint8)):
        for name, number in counts.items():
            folder = tmp_path / "set" / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(number):
                Image.fromarray(picture()).save(folder / f"{index:02d}.png")
        return tmp_path / "set"

    return run


def load(folder, said=None, **fields):
    spec = DataSpec(str(folder), "", str(folder.parent / "cache"), image_size=16, **fields)
    return loading.load(spec, (said if said is not None else []).append)


def told(folder, **fields):
    said = []
    load(folder, said, **fields)
    return [text.replace(f"{folder}/", "").replace(str(folder), "SET") for text in said]


def refused(folder, **fields):
    with pytest.raises(UsageError) as refusal:
        load(folder, **fields)
    return [text.replace(f"{folder}/", "") for text in refusal.value.problems]


def test_of_a_set_without_oddities_nothing_is_told(make):
    make("val", {"cat": 8, "dog": 8, "fox": 8})
    make("test", {"cat": 8, "dog": 8, "fox": 8})
    assert told(make()) == []


def spread(levels):
    """A picture that uses so many levels, each of which occurs."""
    return lambda: np.repeat((100 + np.arange(256) % levels).astype(np.uint8)[:, None], 3, axis=1).reshape(16, 16, 3)


@pytest.mark.parametrize(
    ("levels", "words"),
    [(1, "of one flat colour"), (2, "of less than 16 of 256 levels"), (16, "of less than 16 of 256 levels"),
     (17, None)],
)  # fmt: skip
@pytest.mark.parametrize("part", ["train", "val"])
def test_many_pictures_of_a_class_in_which_nothing_can_be_seen_are_told(make, part, levels, words):
    folder = make()
    make("val", {"cat": 9, "dog": 9, "fox": 9})
    make(part, {"fox": 5}, spread(levels))
    found = [text for text in told(folder) if "can be seen" in text]
    if words is None:
        assert found == []
    else:
        (text,) = found
        assert f"{words}" in text
        assert f"fox 5 of {12 if part == 'train' else 9}" in text
        assert "fox/00.png is one" in text
        assert "cat" not in text


def test_a_few_flat_pictures_are_not_told(make):
    folder = make()
    make("train", {"cat": 3}, spread(1))  # a tenth
    assert not any("can be seen" in text for text in told(folder))


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
@pytest.mark.parametrize(
    ("part", "other", "number"), [("test", "train", 12), ("val", "train", 5), ("test", "val", 3), ("test", "train", 1)]
)
def test_images_that_are_in_two_parts_are_counted_and_one_is_named(make, part, other, number, ending):
    folder = make()
    make("val", {"cat": 12, "dog": 12, "fox": 12})
    make("test", {"cat": 12, "dog": 12, "fox": 12})
    for index in range(number):
        if ending != "png":
            source = folder / f"{other}/dog/{index:02d}.png"
            Image.open(source).save(source.with_suffix(f".{ending}"))
            source.unlink()
        shutil.copy(folder / f"{other}/dog/{index:02d}.{ending}", folder / f"{part}/cat/copy{index:02d}.{ending}")
    assert told(folder) == [
        f"{number} of {36 + number} images in {part}/ are exact copies of images in {other}/ ({part}/cat/copy00."
        f"{ending} is {other}/dog/00.{ending}): scores on them tell what a model remembers, not what it recognises"
    ]


def test_test_files_that_differ_by_a_byte_are_no_copies_and_none_is_decoded(make):
    folder = make()
    make("test", {"cat": 5, "dog": 5, "fox": 5})
    content = bytearray((folder / "train/cat/00.png").read_bytes())
    for index, place in enumerate([0, len(content) // 2, len(content) - 1]):
        changed = bytearray(content)
        changed[place] ^= 1
        (folder / f"test/cat/{index}.png").write_bytes(changed)  # no image
    (folder / "test/cat/none.png").write_bytes(b"")
    assert told(folder) == []


@pytest.mark.parametrize(
    ("with_val", "with_test", "is_told"),
    [(False, False, True), (True, False, True), (False, True, True), (True, True, False)],
)
def test_copies_among_images_that_will_be_split_are_told(make, with_val, with_test, is_told):
    folder = make()
    for part in ["val"] * with_val + ["test"] * with_test:
        make(part, {"cat": 5, "dog": 5, "fox": 5})
    for index in range(4):
        shutil.copy(folder / "train/cat/00.png", folder / f"train/cat/a{index}.png")
    expected = ("train: 4 of 76 images are exact copies of others there (cat/a0.png is cat/00.png): a copy of a "
                "training image may be drawn to be judged by")  # fmt: skip
    assert told(folder) == [expected] * is_told


def test_copies_under_another_class_are_told_wherever_they_are_split(make):
    folder = make()
    for part in ("val", "test"):
        make(part, {"cat": 5, "dog": 5, "fox": 5})
    shutil.copy(folder / "train/cat/00.png", folder / "train/fox/x.png")
    assert told(folder, minority=("fox",)) == [
        "train: 1 images are exact copies of images in another class's folder (fox/x.png is cat/00.png)"
    ]


@pytest.mark.parametrize("damage", [None, b"", b"[]", bytes(80), "truncate", "flip", "folder"])
def test_what_was_seen_in_the_images_is_remembered_but_not_if_its_file_is_damaged(make, monkeypatch, damage):
    folder = make()
    make("val", {"cat": 9, "dog": 9, "fox": 9})
    make("train", {"fox": 5}, spread(1))
    first = told(folder)
    assert any("one flat colour" in text for text in first)
    (kept,) = (path for path in (folder.parent / "cache").glob("*.notes") if b"one flat colour" in path.read_bytes())
    whole = kept.read_bytes()
    kept.unlink()
    if damage == "folder":
        kept.mkdir()
        with pytest.raises(UsageError, match=r"--cache-dir .* cannot be written"):
            told(folder)
        return
    kept.write_bytes(
        {None: whole, "truncate": whole[:-1], "flip": whole[:70] + bytes([whole[70] ^ 1]) + whole[71:]}.get(
            damage, damage
        )
    )
    searched = []
    monkeypatch.setattr(loading, "_notes", lambda *given, find=loading._notes: searched.append(0) or find(*given))
    assert told(folder) == first
    assert len(searched) == (damage is not None)
    assert kept.read_bytes() == whole
    # and it is of these files alone
    make("train", {"dog": 5}, spread(1))
    assert sum("dog 5 of 30" in text for text in told(folder)) == 1


@pytest.mark.parametrize("name", ["notes", "masks", "tests", "validate"])
def test_folders_beside_train_that_are_not_used_are_named(make, name):
    folder = make()
    shutil.copytree(folder / "train", folder / name)
    assert told(folder) == [f"SET: {name}/ not used; only the folders train/, val/ and test/ are"]


def test_images_in_no_classs_folder_are_told(make):
    folder = make()
    shutil.copy(folder / "train/cat/00.png", folder / "train/loose.png")
    (folder / "train/.hidden.png").touch()
    (folder / "train/classes.txt").touch()
    assert told(folder) == ["train: 1 file(s) left out, images in no class's folder (loose.png)"]


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_a_fraction_for_validation_beside_an_own_val_is_told(make, fraction):
    folder = make()
    assert told(folder, val_fraction=fraction) == []
    make("val", {"cat": 8, "dog": 8, "fox": 8})
    assert told(folder, val_fraction=fraction) == [
        f"--val-fraction {fraction:g}: has no effect, as SET has a val/ of its own"
    ]
    assert told(folder) == told(folder, val_fraction=0.2) == []


@pytest.mark.parametrize("raw", [b"caf\xe9", b"\xff\xfe", b"a\x80b"])
@pytest.mark.parametrize("place", ["class", "image"])
def test_names_that_are_no_utf8_are_refused_before_anything_is_decoded(make, raw, place):
    folder = make()
    there = os.fsencode(folder / "train")
    if place == "class":
        shutil.copytree(os.fsencode(folder / "train/cat"), os.path.join(there, raw))
    else:
        shutil.copy(folder / "train/cat/00.png", os.path.join(there, b"cat", raw + b".png"))
    (problem,) = refused(folder)
    assert "its name is not in UTF-8" in problem
    assert not (folder.parent / "cache").exists()


EVIL = ["two\nlines", "\x1b[31mred\x1b[0m", "tab\there", "\x07bell", "\u202ebackwards", "\r"]


@pytest.mark.parametrize("name", EVIL)
def test_names_that_would_drive_a_terminal_are_written_out_wherever_they_are_shown(make, name):
    folder = make("train", {name: 30, "dog": 30, "fox": 12})
    (folder / "train" / name / f"{name}.txt").touch()
    make("train", {name: 8}, spread(1))
    said = []
    pool = load(folder, said, minority=(name,))
    drawn = splits.split(pool, 0, 0)
    _, warnings = check_split(pool, drawn)
    assert warnings
    lines = [*said, *warnings, *count_lines(pool, drawn)]
    lines += class_report(np.eye(3, dtype=int), pool.class_names, pool.minority).split("\n")
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
    assert all(line.isprintable() for line in lines), lines
    assert sum(shown in line for line in lines) == 6  # three notes, a warning, a row in either table


@pytest.mark.parametrize(("ours", "theirs"), [(NFC, NFD), (NFD, NFC)])
@pytest.mark.parametrize("part", ["val", "test"])
def test_names_that_differ_only_in_how_an_accent_is_stored_are_the_same_class(make, part, ours, theirs):
    folder = make("train", {"cab": 20, ours: 30, "cag": 8})
    make(part, {"cab": 5, theirs: 6, "cag": 7})
    pool = load(folder, minority=("cag", theirs))
    assert pool.spec.minority == ("cag", ours)
    labels = loading.load_test(pool)[1] if part == "test" else pool.labels[-18:]
    found = {name: int((labels == label).sum()) for label, name in enumerate(pool.class_names)}
    assert found == {"cab": 5, ours: 6, "cag": 7}


def test_two_classes_that_look_the_same_are_refused(make):
    folder = make("train", {NFC: 20, NFD: 20, "fox": 8})
    assert any("differ only in how an accent is stored" in problem for problem in refused(folder))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["cat, small"], ("cat, small",)),
        (["dog,cat, small"], ("dog", "cat, small")),
        (["cat, small,dog"], ("cat, small", "dog")),
        (["cat", "small"], ("cat", "small")),
        (["small, cat"], ("small", "cat")),
        (["cat,dog", " cat "], ("cat", "dog")),
        ([" lead"], (" lead",)),
        (["lead"], ("lead",)),
        (["a,,b,dog"], ("a,,b", "dog")),
        ([",dog,"], ("dog",)),
    ],
)
def test_the_minority_is_named_by_whole_names_also_those_with_commas(make, texts, expected):
    folder = make("train", {name: 2 for name in ["cat, small", "cat", "small", "dog", " lead", "lead", "a,,b"]})
    pool = load(folder, minority=tuple(texts))
    assert pool.spec.minority == expected
    assert load(folder, minority=pool.spec.minority).spec.minority == expected  # as a study has recorded it


@pytest.mark.parametrize(
    ("texts", "words"),
    [(["cow, small"], "no class cow, small"), (["dog,cow"], "no class cow"), ([","], "at least one"),
     ([""], "at least one"), (["cat, dog", "fox"], "every class")],
)  # fmt: skip
def test_a_minority_that_names_nothing_is_refused(make, texts, words):
    (problem,) = refused(make(), minority=tuple(texts))
    assert words in problem


@contextmanager
def another_user(folder):
    """As a user who owns nothing here; ``folder`` is where that user gets to: its new place."""
    if os.geteuid():
        pytest.skip("needs the right to be another user")
    with tempfile.TemporaryDirectory() as there:
        os.chmod(there, 0o777)
        shutil.move(folder, there)
        os.seteuid(54321)
        try:
            yield Path(there) / folder.name
        finally:
            os.seteuid(0)


def loop(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(path.name)


@pytest.mark.parametrize("what", ["train/cat/00.png", "train/cat", "train/more", "val/cat", "train/cat/more"])
def test_a_link_to_itself_is_told_in_a_sentence(make, what):
    folder = make()
    make("val")
    loop(folder / what)
    problems = refused(folder)
    assert f"{what}: cannot be used (Too many levels of symbolic links)" in problems


@pytest.mark.parametrize("what", ["train", "train/cat", "val", "val/dog", "test/fox", "train/cat/00.png", "."])
def test_what_may_not_be_read_is_told_in_a_sentence(make, what):
    folder = make()
    make("val")
    make("test")
    (folder / what).chmod(0)
    problems = []
    with another_user(folder) as there:
        spec = DataSpec(str(there), "", str(there.parent / "cache"), image_size=16)
        assert attempt(problems, loading.load, spec) is None
    assert len(problems) == 1, problems
    assert "Permission denied" in problems[0]
    assert "\n" not in problems[0]
    assert "Errno" not in problems[0]


@pytest.mark.skipif(sys.platform == "darwin", reason="names there are short in another way")
@pytest.mark.parametrize("length", [256, 5000])
def test_a_path_that_is_too_long_is_told_in_a_sentence(tmp_path, length):
    problems = []
    attempt(problems, loading.load, DataSpec(f"{tmp_path}/{'x' * length}", "", "", image_size=16))
    assert len(problems) == 1
    assert "File name too long" in problems[0]
