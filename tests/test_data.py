import shutil

import numpy as np
import pytest
from PIL import Image

from trainable import data, sources
from trainable.config import UsageError
from trainable.data import DataSpec


def load(folder, tmp_path, said=None, **fields):
    spec = DataSpec(str(folder), "", str(tmp_path / "cache"), image_size=16, **fields)
    return data.load(spec, say=(said if said is not None else []).append)


def refused(folder, tmp_path, **fields):
    with pytest.raises(UsageError) as refusal:
        load(folder, tmp_path, **fields)
    return "\n".join(refusal.value.problems)


def test_cut_is_exact_and_splits_are_disjoint_and_complete(digits_pool):
    split = data.split(digits_pool, 5, 6)
    together = np.concatenate([split.train, split.val, split.audit])
    assert sorted(together) == list(range(len(digits_pool.labels)))
    train, val, audit = (data.class_counts(digits_pool, part) for part in (split.train, split.val, split.audit))
    for label in range(10):
        before = train[label] + audit[label]
        assert train[label] == (round(0.03 * before) if label < 3 else before)
        assert val[label] == round(0.2 * (before + val[label]))


def test_splits_depend_on_their_own_seed_alone(digits_pool):
    first, other_cut, other_split = (data.split(digits_pool, *seeds) for seeds in [(5, 6), (5, 7), (8, 6)])
    assert np.array_equal(first.val, other_cut.val)
    assert not np.array_equal(first.train, other_cut.train)
    assert not np.array_equal(first.val, other_split.val)


def test_channel_statistics(digits_pool):
    split = data.split(digits_pool, 0, 0)
    mean, std = data.channel_statistics(digits_pool, split.train)
    pixels = data.unpack(digits_pool.pixels[split.train], 16).reshape(-1, 3) / 255
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
    assert data.class_counts(pool, data.split(pool, 0, 0).val) == [20, 20, 8]


def test_images_of_every_kind_and_size(image_folder, tmp_path):
    folder = image_folder / "train" / "fox"
    red = Image.new("RGB", (40, 30), (200, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    half = Image.new("RGB", (32, 16), (0, 0, 0))
    half.paste((255, 255, 255), (0, 0, 16, 16))
    half.save(folder / "a-exif.png", exif=exif)
    red.convert("CMYK").save(folder / "b-cmyk.jpg")
    red.convert("RGBA").save(folder / "c-rgba.png")
    Image.new("L", (7, 99), 77).save(folder / "d-grey.png")
    Image.fromarray(np.full((20, 20), 77 * 256, np.uint16)).save(folder / "e-16bit.png")
    red.convert("P").save(folder / "f.gif")
    (folder / "notes.txt").write_text("not an image")
    said = []
    listing = sources.list_folder(image_folder / "train")
    source = sources.folder(image_folder / "train", listing, 16, tmp_path / "cache", said.append)
    by_name = dict(zip(listing.names, source.images, strict=True))
    turned = by_name["fox/a-exif.png"]
    assert turned[:7].min() > 250
    assert turned[9:].max() < 5
    for name in ("b-cmyk.jpg", "c-rgba.png", "f.gif"):
        assert np.abs(by_name[f"fox/{name}"].reshape(-1, 3).mean(axis=0) - [200, 10, 10]).max() < 30, name
    assert (by_name["fox/d-grey.png"] == 77).all()
    assert (by_name["fox/e-16bit.png"] == 77).all()
    assert "notes.txt" in said[0]


def test_a_second_load_reads_the_cache_and_a_changed_file_is_read_again(image_folder, tmp_path):
    import os

    path = image_folder / "train/cat/00.png"
    first = load(image_folder, tmp_path).fingerprint
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(bytes(len(content)))  # no image any more, but its size and time are the same
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert load(image_folder, tmp_path).fingerprint == first
    Image.new("RGB", (20, 20)).save(path)
    assert load(image_folder, tmp_path).fingerprint != first


def test_damaged_images_are_named(image_folder, tmp_path):
    (image_folder / "train/cat/bad.jpg").write_text("text")
    (image_folder / "train/dog/cut.png").write_bytes((image_folder / "train/dog/00.png").read_bytes()[:200])
    problems = refused(image_folder, tmp_path)
    assert "cat/bad.jpg" in problems
    assert "dog/cut.png" in problems


def test_what_makes_no_sense_is_refused_in_a_sentence(image_folder, tmp_path):
    assert "is no folder" in refused(tmp_path / "none", tmp_path)
    assert "has no folder train/" in refused(image_folder / "train", tmp_path)
    assert "no class zebra" in refused(image_folder, tmp_path, minority=("zebra",))
    assert "names every class" in refused(image_folder, tmp_path, minority=("cat", "dog", "fox"))
    (image_folder / "train/cat/sub").mkdir()
    (image_folder / "train/empty").mkdir()
    problems = refused(image_folder, tmp_path)
    assert "cat/sub: is a folder" in problems
    assert "empty: no images" in problems


def test_equal_classes_need_a_named_minority(image_folder, tmp_path):
    shutil.rmtree(image_folder / "train/fox")
    assert "cat 20, dog 20" in refused(image_folder, tmp_path)


def test_a_class_with_a_single_image_is_refused(image_folder, tmp_path):
    for path in sorted((image_folder / "train/fox").iterdir())[1:]:
        path.unlink()
    pool = load(image_folder, tmp_path)
    problems, _ = data.check_split(pool, data.split(pool, 0, 0))
    assert "class fox: 1 training image(s) left, at least 2 are needed" in problems
    assert "class fox: 0 validation image(s), at least 5 are needed" in problems
