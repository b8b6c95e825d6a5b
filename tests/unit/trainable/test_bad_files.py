"""--skip-bad-files: what cannot be read is left out, said, recorded, and the fingerprint is of the others."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from study.record import files
from tests import studies
from trainable.cli import UsageError
from trainable.images import loading, sources
from trainable.images.pool import DataSpec

COUNTS = {"cat": 30, "dog": 30, "fox": 10}


@pytest.fixture
def photos(tmp_path):
    studies.write_photos(tmp_path / "set/train", COUNTS)
    return tmp_path / "set"


def load(folder, said=None, **fields):
    spec = DataSpec(str(folder), "", str(folder.parent / "cache"), image_size=16, **fields)
    return loading.load(spec, (said if said is not None else []).append)


def spoiled(folder, *names):
    """A copy of the set with files that cannot be read, each in another way."""
    copy = folder.parent / "spoiled"
    shutil.copytree(folder, copy)
    for name, way in zip(names, [b"", b"text", (copy / names[0]).read_bytes()[:60]] * len(names), strict=False):
        (copy / name).write_bytes(way)
    return copy


BAD = ["train/cat/03.png", "train/dog/29.png", "train/fox/00.png"]
TOLD = "3 of 70 images cannot be read and are left out (train/cat/03.png, train/dog/29.png, train/fox/00.png)"


def test_a_study_without_the_files_that_cannot_be_read_is_that_of_the_others(photos):
    bad = spoiled(photos, *BAD)
    with pytest.raises(UsageError) as refusal:
        load(bad)
    assert len(refusal.value.problems) == 3
    said = []
    pool = load(bad, said, skip_bad_files=True)
    assert said == [TOLD]
    assert pool.skipped == tuple(BAD)
    for name in BAD:
        (photos / name).unlink()
    clean = load(photos)
    assert clean.skipped == ()
    assert clean.fingerprint == pool.fingerprint
    assert np.array_equal(clean.pixels, pool.pixels)
    assert clean.minority_line == pool.minority_line
    assert np.array_equal(loading.load_test(clean)[0], loading.load_test(pool)[0])


def test_where_every_file_can_be_read_the_flag_changes_nothing(photos):
    said = []
    pool = load(photos, said, skip_bad_files=True)
    assert said == []
    assert pool.fingerprint == load(photos).fingerprint


def test_the_second_time_only_the_bad_files_are_opened_and_one_that_was_mended_is_taken(photos, monkeypatch):
    bad = spoiled(photos, *BAD)
    first = load(bad, skip_bad_files=True)
    decode, times = sources._decode, []
    monkeypatch.setattr(sources, "_decode", lambda *arguments: times.append(1) or decode(*arguments))
    said = []
    assert load(bad, said, skip_bad_files=True).fingerprint == first.fingerprint
    assert (said, times) == ([TOLD], [])
    # mended, with the same length and time: the list of bad files is tried, not believed
    found = (bad / BAD[1]).stat()
    good = (photos / BAD[1]).read_bytes()
    (bad / BAD[1]).write_bytes(b"x" * len(good))
    os.utime(bad / BAD[1], ns=(found.st_atime_ns, found.st_mtime_ns))
    assert len(load(bad, skip_bad_files=True).skipped) == 3
    (bad / BAD[1]).write_bytes(good)
    os.utime(bad / BAD[1], ns=(found.st_atime_ns, found.st_mtime_ns))
    assert load(bad, skip_bad_files=True).skipped == (BAD[0], BAD[2])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"3", b"null", b"[1, null]", b'["cat/00.png", "nowhere.png"]', b"\xff", b"[" * 100000]
)
def test_a_damaged_list_of_bad_files_leaves_nothing_out(photos, content):
    bad = spoiled(photos, *BAD)
    load(bad, skip_bad_files=True)
    (path,) = (photos.parent / "cache").glob("*.bad")
    path.write_bytes(content)
    assert load(bad, skip_bad_files=True).skipped == tuple(BAD)


def test_deep_images_have_the_scale_of_those_that_can_be_read(photos):
    rng = np.random.default_rng(1)
    for index, highest in enumerate([100, 4000, 60000]):
        values = rng.integers(0, highest, (64, 64), np.uint16)
        Image.fromarray(values).save(photos / f"train/cat/deep{index}.png")
    whole = (photos / "train/cat/deep2.png").read_bytes()
    (photos / "train/cat/deep2.png").write_bytes(whole[: len(whole) // 2])
    assert load(photos, skip_bad_files=True).scale == {"I": (0, 4096)}


def test_where_no_file_can_be_read_or_none_of_a_class_it_is_refused(photos):
    (photos / "train/fox").rename(photos.parent / "fox")
    (photos / "train/fox").mkdir()
    (photos / "train/fox/x.png").write_text("text")
    with pytest.raises(UsageError, match="class fox: 0 training image"):
        begin(photos, "--skip-bad-files")
    for path in photos.rglob("*.png"):
        path.write_text("text")
    with pytest.raises(UsageError, match="cannot be read as an image"):
        load(photos, skip_bad_files=True)


@pytest.mark.parametrize("part", ["val", "test"])
def test_bad_files_for_validation_and_test_are_left_out_too(photos, part, capsys):
    shutil.copytree(photos / "train", photos / part)
    (photos / part / "cat/05.png").write_text("text")
    pool = load(photos, skip_bad_files=True)
    if part == "val":
        assert (pool.skipped, pool.num_own_val) == (("val/cat/05.png",), 69)
    else:
        assert np.bincount(loading.load_test(pool)[1]).tolist() == [29, 30, 10]
        assert "1 of 70 images cannot be read and are left out (test/cat/05.png)" in capsys.readouterr().out


ASKED = ["--image-size", "16", "--epochs", "1", "--trials", "3", "--gpus", "0", "--precision", "float32",
         "--space", "course"]  # fmt: skip


def begin(photos, *flags):
    places = ["--cache-dir", photos.parent / "cache", "--results", photos.parent / "results", "--name", "mine"]
    return studies.begin("--data", photos, *places, *ASKED, "--val-fraction", "0.7", *flags)


def test_a_study_records_what_it_left_out_and_goes_on_so(photos):
    bad = spoiled(photos, *BAD)
    first = begin(bad, "--skip-bad-files")
    study = files.read_study(photos.parent / "results/mine")
    assert study.skipped_files == BAD
    assert study.data.skip_bad_files
    assert begin(bad).pool.fingerprint == first.pool.fingerprint


def test_a_study_from_before_these_choices_goes_on_as_it_was(photos):
    """Its study.json knows nothing of them: images were squashed, and the minority was chosen by another rule."""
    for path in photos.rglob("*.png"):
        Image.open(path).resize((20, 16)).save(path)
    first = begin(photos, "--squash", "--minority", "fox,dog")
    path = photos.parent / "results/mine/study.json"
    study = files.read_study(path.parent)
    assert study.data.squash
    younger = ("split_names", "labels", "include", "exclude", "skip_bad_files", "squash")
    content = json.loads(path.read_text())
    for name in younger:
        del content["data"][name]
    del content["skipped_files"]
    path.write_text(json.dumps(content))
    again = begin(photos)
    assert again.pool.fingerprint == first.pool.fingerprint
    assert again.pool.spec.minority == ("fox", "dog")
    assert again.pool.spec.squash
    other = load(photos)
    assert other.fingerprint != first.pool.fingerprint
    assert other.spec.minority == ("fox",)
