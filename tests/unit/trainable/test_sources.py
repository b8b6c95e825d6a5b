import contextlib
import hashlib
import io
import os
import pickle
import shutil
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

from tests.disk import damages, files_of_at_most
from trainable.cli import UsageError
from trainable.images import loading, sources
from trainable.images.decoding import decoding_threads
from trainable.images.listing import list_folder
from trainable.images.pool import DataSpec

SIZE = 16


@pytest.fixture
def folder(tmp_path):
    """A class "other" with an image, so that a test adds only what it is about."""
    (tmp_path / "photos/other").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(tmp_path / "photos/other/0.png")
    (tmp_path / "photos/class").mkdir()
    return tmp_path / "photos"


def load(folder, size=SIZE, said=None):
    said = [] if said is None else said
    return sources.folder(folder, list_folder(folder), size, folder.parent / "cache", said.append)


def refused(folder):
    with pytest.raises(UsageError) as refusal:
        load(folder)
    return refusal.value.problems


def decoded(folder, save, size=SIZE):
    """The image that ``save`` writes to a path without ending, as the source gives it: uint8 (S, S, 3)."""
    save(folder / "class/image")
    source = load(folder, size)
    assert source.class_names == ("class", "other")
    assert source.labels.tolist() == [0, 1]
    return source.images[0]


def pattern(height, width, channels, kind=np.uint8):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)


def writer(image, ending, **options):
    return lambda path: image.save(f"{path}{ending}", **options)


def grey():
    values = pattern(SIZE, SIZE, 1)
    return writer(Image.fromarray(values), ".png"), np.stack([values] * 3, axis=2)


def over_grey(colours, values):
    """The colours as they look in front of grey, the last channel of ``values`` being how opaque they are."""
    opacity = values[..., -1:] / 255
    return colours * opacity + 128 * (1 - opacity)


def grey_with_alpha():
    values = pattern(SIZE, SIZE, 2)
    return writer(Image.fromarray(values, "LA"), ".png"), over_grey(np.stack([values[..., 0]] * 3, axis=2), values)


def one_bit():
    values = pattern(SIZE, SIZE, 1) > 127
    return writer(Image.fromarray(values), ".png"), np.stack([values * np.uint8(255)] * 3, axis=2)


def rgb_with_alpha():
    values = pattern(SIZE, SIZE, 4)
    return writer(Image.fromarray(values), ".PNG"), over_grey(values[..., :3], values)


def palette(ending=".png"):
    table, indices = pattern(256, 3, 1), pattern(SIZE, SIZE, 1)
    image = Image.fromarray(indices, "P")
    image.putpalette(table.tobytes())
    return writer(image, ending), table[indices]


def gif():
    return palette(".gif")


def cmyk():
    values = pattern(SIZE, SIZE, 4)
    ink = 1 - values / 255
    return writer(Image.fromarray(values, "CMYK"), ".tif"), ink[..., :3] * ink[..., 3:] * 255


def grey_16_bit_png():
    values = pattern(SIZE, SIZE, 1, np.uint16)
    return writer(Image.fromarray(values), ".png"), np.stack([values / 256] * 3, axis=2)


def grey_16_bit_big_endian_tiff():
    values = pattern(SIZE, SIZE, 1, np.uint16)
    image = Image.frombytes("I;16B", (SIZE, SIZE), values.astype(">u2").tobytes())
    return writer(image, ".tif"), np.stack([values / 256] * 3, axis=2)


def grey_16_bit_pgm():
    values = pattern(SIZE, SIZE, 1, np.uint16)
    content = b"P5 %d %d 65535\n" % (SIZE, SIZE) + values.astype(">u2").tobytes()
    return lambda path: path.with_suffix(".pgm").write_bytes(content), np.stack([values / 256] * 3, axis=2)


@pytest.mark.parametrize(
    "kind",
    [
        grey,
        grey_with_alpha,
        one_bit,
        rgb_with_alpha,
        palette,
        gif,
        cmyk,
        grey_16_bit_png,
        grey_16_bit_big_endian_tiff,
        grey_16_bit_pgm,
    ],
)
def test_every_kind_of_image_becomes_its_rgb_pixels(folder, kind):
    save, expected = kind()
    # a grey level for rounding
    assert np.abs(decoded(folder, save).astype(float) - expected).max() <= 1


def test_a_cmyk_jpeg_is_not_inverted(folder):
    # Adobe's CMYK JPEGs hold the inks inverted
    image = Image.new("CMYK", (40, 30), (0, 200, 100, 50))
    expected = [255 * 205 / 255, 55 * 205 / 255, 155 * 205 / 255]
    found = decoded(folder, writer(image, ".jpg"))
    assert np.abs(found.astype(float) - expected).max() < 5


def quadrants(height, width):
    """An image with four colours, so that every turn and mirroring of it looks different."""
    colours = np.array([[[250, 10, 10], [10, 250, 10]], [[10, 10, 250], [240, 240, 240]]], np.uint8)
    return colours[np.arange(height) * 2 // height][:, np.arange(width) * 2 // width]


# how a camera stores an upright image under each EXIF orientation: the inverse of what a viewer does
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize(("height", "width"), [(16, 16), (30, 40), (90, 7), (200, 300)])
@pytest.mark.parametrize("orientation", STORED)
def test_images_are_turned_upright_then_resized(folder, orientation, height, width):
    upright = quadrants(height, width)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    found = decoded(folder, writer(stored, ".png", exif=exif))
    expected = Image.fromarray(upright).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    assert np.array_equal(found, np.asarray(expected))


def test_a_phones_jpeg_is_turned_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](quadrants(60, 80))))
    found = decoded(folder, writer(stored, ".jpeg", exif=exif, quality=95))
    assert np.abs(found.astype(int) - quadrants(SIZE, SIZE)).mean() < 10


@pytest.mark.parametrize("size", [(1, 1), (7, 99), (16, 16), (640, 3)])
@pytest.mark.parametrize("image_size", [16, 33])
def test_an_image_of_any_size_and_one_colour_keeps_its_colour(folder, size, image_size):
    found = decoded(folder, writer(Image.new("RGB", size, (200, 10, 77)), ".png"), image_size)
    assert found.shape == (image_size, image_size, 3)
    assert (found == [200, 10, 77]).all()


def test_digits_are_the_scans_in_their_order_with_their_grey_levels():
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    source = sources.digits(8)
    assert source.labels.tolist() == labels.tolist()
    assert source.class_names == tuple("0123456789")
    assert np.abs(source.images - scans.reshape(-1, 8, 8, 1) * 255 / 16).max() <= 0.5
    assert sources.digits(16).images.shape == (1797, 16, 16, 3)


def test_other_files_among_the_images_are_left_out_with_a_note_and_hidden_ones_without(folder):
    for name in ("notes.txt", "photo.xmp", ".DS_Store", "._0.png"):
        (folder / "other" / name).write_text("no image")
    Image.new("RGB", (9, 9)).save(folder / "class/0.png")
    assert load(folder).labels.tolist() == [0, 1]
    (note,) = list_folder(folder).notes
    assert "2 file(s) left out" in note
    assert "other/notes.txt" in note
    assert "other/photo.xmp" in note


def test_all_files_that_are_no_images_are_named_and_nothing_is_cached(folder):
    (folder / "class/text.jpg").write_text("this is text")
    Image.fromarray(pattern(64, 64, 3)).save(folder / "class/whole.jpg")
    whole = (folder / "class/whole.jpg").read_bytes()
    (folder / "class/truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "class/empty.png").touch()
    problems = refused(folder)
    assert [problem.split(": cannot be read as an image")[0] for problem in problems] == [
        str(folder / "class" / name) for name in ("empty.png", "text.jpg", "truncated.jpg")
    ]
    assert list((folder.parent / "cache").iterdir()) == []


def test_of_very_many_damaged_files_twenty_are_named_and_the_others_counted(folder):
    for index in range(25):
        (folder / f"class/{index}.png").write_text("text")
    problems = refused(folder)
    assert len(problems) == 21
    assert "5 more files cannot be read" in problems[-1]


def spoil(path):
    """Makes a file undecodable, leaving its size and time as they are."""
    stat = path.stat()
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_second_load_decodes_nothing(folder):
    path = folder / "class/0.png"
    Image.fromarray(pattern(30, 20, 3)).save(path)
    first = load(folder)
    images = np.array(first.images)
    spoil(path)
    second = load(folder)
    assert np.array_equal(second.images, images)
    assert second.content_hash == first.content_hash
    # another size cannot come from there
    with pytest.raises(UsageError, match="cannot be read as an image"):
        load(folder, 24)


def test_a_changed_an_added_and_a_removed_file_are_seen(folder):
    Image.new("RGB", (20, 20), (200, 0, 0)).save(folder / "class/0.png")
    first = load(folder)
    Image.new("RGB", (20, 20), (0, 200, 0)).save(folder / "class/0.png")
    changed = load(folder)
    assert (changed.images[0] == [0, 200, 0]).all()
    Image.new("RGB", (20, 20), (0, 0, 200)).save(folder / "class/1.png")
    added = load(folder)
    assert added.labels.tolist() == [0, 0, 1]
    (folder / "class/1.png").unlink()
    removed = load(folder)
    assert len({first.content_hash, changed.content_hash, added.content_hash}) == 3
    assert removed.content_hash == changed.content_hash


def test_a_cache_folder_that_cannot_be_written_is_told(folder):
    Image.new("RGB", (20, 20)).save(folder / "class/0.png")
    (folder.parent / "cache").write_text("a file is in the way")
    (problem,) = refused(folder)
    assert problem.startswith(f"--cache-dir {folder.parent / 'cache'}: cannot be written")


@pytest.fixture
def both(folder):
    """The folder with an image in each class."""
    Image.fromarray(pattern(30, 20, 3)).save(folder / "class/0.png")
    return folder


def cached(folder):
    """The two files of the cache: the array and its hash."""
    cache = folder.parent / "cache"
    (array,), (digest,) = cache.glob("*.npy"), cache.glob("*.sha256")
    assert len(list(cache.iterdir())) == 2
    return array, digest


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def another_kind(content, kind):
    images = np.load(io.BytesIO(content))
    return npy(np.frombuffer(images.tobytes(), kind).reshape((*images.shape[:-1], -1)))


DAMAGED_ARRAYS = {
    "emptied": lambda content: b"",
    "cut in its header": lambda content: content[:60],
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "pixels zeroed": lambda content: content[:128] + bytes(len(content) - 128),
    "one bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "half written": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "int8": lambda content: another_kind(content, np.int8),
    "a row less": lambda content: npy(np.load(io.BytesIO(content))[:-1]),
    "mirrored": lambda content: npy(np.asfortranarray(np.load(io.BytesIO(content)))),
    "objects": lambda content: npy(np.array([{}, []], object)),
    "text": lambda content: b"text",
}
DAMAGED_HASHES = {
    "emptied": lambda text: b"",
    "cut": lambda text: text[:-1],
    "longer": lambda text: text + b"\n",
    "capitals": lambda text: b"F" + text[1:].upper(),
    "another": lambda text: b"0" * 64,
    "no text": lambda text: b"\xff\xfe" * 32,
}


@pytest.mark.parametrize(
    ("which", "damage"),
    [pytest.param(0, damage, id=f"array: {name}") for name, damage in DAMAGED_ARRAYS.items()]
    + [pytest.param(1, damage, id=f"hash: {name}") for name, damage in DAMAGED_HASHES.items()],
)
def test_a_damaged_cache_is_decoded_anew_with_a_note(both, which, damage):
    said = []
    first = load(both, said=said)
    images = np.array(first.images)
    assert said == []
    path = cached(both)[which]
    path.write_bytes(damage(path.read_bytes()))
    again = load(both, said=said)
    assert np.array_equal(again.images, images)
    assert again.content_hash == first.content_hash
    array, _ = cached(both)
    assert said == [f"{array}: damaged or never finished, so the images of {both} are decoded anew"]
    # and that mends it
    spoil(both / "class/0.png")
    assert load(both, said=said).content_hash == first.content_hash
    assert len(said) == 1


@pytest.mark.parametrize("what", ["pipe", "link to nowhere", "link to a device"])
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_no_file_in_the_cache_is_replaced_by_one(both, which, what):
    first = load(both)
    path = cached(both)[which]
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if what == "link to a device" else both / "nowhere")
    said = []
    assert load(both, said=said).content_hash == first.content_hash
    assert len(said) == 1
    assert path.is_file()
    assert not path.is_symlink()


def test_a_cache_damaged_anywhere_gives_the_same_images(both):
    first = load(both)
    paths = cached(both)
    contents, images = [path.read_bytes() for path in paths], np.array(first.images)

    @settings(max_examples=200)
    @given(st.tuples(*(st.none() | damages(len(content)) for content in contents)))
    def check(damage_of_each):
        for path, content, damage in zip(paths, contents, damage_of_each, strict=True):
            path.write_bytes(damage(content) if damage else content)
        found = load(both)
        assert np.array_equal(found.images, images)
        assert found.content_hash == first.content_hash

    check()


def test_a_damaged_hash_does_not_make_the_images_others(image_folder, tmp_path):
    spec = DataSpec(str(image_folder), "", str(tmp_path / "cache"), image_size=SIZE, minority=("fox",))
    first = loading.load(spec)
    for path in (tmp_path / "cache").glob("*.sha256"):
        path.write_text("")
    said = []
    assert loading.load(spec, said.append).fingerprint == first.fingerprint
    assert len(said) == 1


def test_a_cache_of_the_version_before_is_used(both):
    source = load(both)
    array, digest = cached(both)
    images = np.array(source.images)
    written = np.lib.format.open_memmap(array, mode="w+", dtype=np.uint8, shape=images.shape)
    written[:] = images
    written.flush()
    digest.write_text(
        hashlib.sha256(repr(images.shape).encode() + images.tobytes() + source.labels.tobytes()).hexdigest()
    )
    spoil(both / "class/0.png")
    assert np.array_equal(load(both).images, images)


def test_of_what_killed_processes_have_left_only_the_old_is_removed(both):
    there = both.parent / "cache"
    there.mkdir()
    old, young, others = (
        [f".{'0' * 16}.partial", f"{'a' * 32}.4711.partial"],
        [f".{'1' * 16}.partial", f"{'b' * 32}.4711.partial"],
        ["film.partial", f"{'c' * 32}.npy"],
    )
    for name in old + young + others:
        (there / name).touch()
        if name not in young:
            os.utime(there / name, (0, 0))
    load(both)
    left = {path.name for path in there.iterdir()}
    assert left & {*old, *young, *others} == {*young, *others}


def test_a_cache_file_that_becomes_too_large_is_told_in_a_sentence(both):
    with files_of_at_most(1000):
        (problem,) = refused(both)
    assert problem == f"--cache-dir {both.parent / 'cache'}: cannot be written (File too large)"
    assert list((both.parent / "cache").iterdir()) == []


@pytest.fixture
def tiny_cifar10(tmp_path, monkeypatch):
    """Two batches in CIFAR-10's format with known checksums: the folder they lie in, their pixels and labels."""
    base = tmp_path / "data" / CIFAR10.base_folder
    base.mkdir(parents=True)
    pixels, labels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8), [3, 9, 0, 0, 1]
    published = []
    for name, part in [("data_batch_1", slice(0, 3)), ("data_batch_2", slice(3, 5))]:
        planes = pixels[part].transpose(0, 3, 1, 2).reshape(-1, 3072)
        (base / name).write_bytes(pickle.dumps({"data": planes, "labels": labels[part]}))
        published.append([name, calculate_md5(base / name)])
    monkeypatch.setattr(CIFAR10, "train_list", published)
    # nobody listens there
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    return base, pixels, labels


def test_cifar10s_batches_are_read_without_the_test_batch(tiny_cifar10):
    base, pixels, labels = tiny_cifar10
    assert sources.cifar10_test_counts(base.parent) is None
    (base / "test_batch").write_text("whoever opens this finds no pickle")
    source = sources.cifar10(32, base.parent)
    assert np.array_equal(source.images, pixels)
    assert source.labels.tolist() == labels
    assert [source.class_names[label] for label in labels] == ["cat", "truck", "airplane", "airplane", "automobile"]
    assert sources.cifar10_test_counts(base.parent) == (1000,) * 10
    small = sources.cifar10(16, base.parent).images
    assert np.array_equal(small[4], Image.fromarray(pixels[4]).resize((16, 16), Image.Resampling.BILINEAR))


def test_cifar10s_test_batch_is_read_where_it_is_asked_for(tiny_cifar10, monkeypatch):
    base, pixels, labels = tiny_cifar10
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", "0"]])
    with pytest.raises(UsageError, match="test_batch: not found, so there are no test images"):
        sources.cifar10_test(32, base.parent)
    planes = pixels[:4].transpose(0, 3, 1, 2).reshape(-1, 3072)
    (base / "test_batch").write_bytes(pickle.dumps({"data": planes, "labels": labels[:4]}))
    with pytest.raises(UsageError, match="test_batch: damaged"):
        sources.cifar10_test(32, base.parent)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", calculate_md5(base / "test_batch")]])
    source = sources.cifar10_test(32, base.parent)
    assert np.array_equal(source.images, pixels[:4])
    assert source.labels.tolist() == labels[:4]


def test_damaged_batches_of_cifar10_are_named_and_not_unpickled(tiny_cifar10, tmp_path):
    base, _, _ = tiny_cifar10
    canary = tmp_path / "canary"
    (base / "data_batch_2").write_bytes(b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.")
    with pytest.raises(UsageError) as refusal:
        sources.cifar10(32, base.parent)
    (problem,) = refusal.value.problems
    assert problem.startswith(f"{base / 'data_batch_2'}: damaged")
    assert not canary.exists()


def test_without_network_cifar10_is_refused_in_one_sentence(tiny_cifar10):
    base, _, _ = tiny_cifar10
    shutil.rmtree(base.parent)
    with pytest.raises(UsageError) as refusal:
        sources.cifar10(32, base.parent)
    (problem,) = refusal.value.problems
    assert "\n" not in problem
    for told in ("--data cifar10", str(base), "not downloaded", "--data digits"):
        assert told in problem


def test_a_download_that_fails_leaves_nothing_behind(tiny_cifar10):
    base, _, _ = tiny_cifar10
    shutil.rmtree(base.parent)
    with pytest.raises(UsageError):
        sources.cifar10(32, base.parent)
    assert not base.parent.exists()


def test_an_interruption_while_images_are_handed_to_the_threads_waits_for_none_that_has_not_begun():
    with contextlib.suppress(KeyboardInterrupt), decoding_threads() as threads:
        waiting = [threads.submit(time.sleep, 0.1) for _ in range(1000)]
        raise KeyboardInterrupt
    assert sum(future.cancelled() for future in waiting) > 900
