"""What becomes of pictures that are not plain 8-bit RGB or grey: transparent, deep, oddly labelled, huge."""

import os
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from study import predict
from trainable.cli import UsageError
from trainable.images import loading
from trainable.images.pool import DataSpec, unpack
from trainable.records import StoredData

SIZE = 16


def load(folder, said=None, **fields):
    spec = DataSpec(str(folder), "", str(folder.parent / "cache"), image_size=SIZE, minority=("b",), **fields)
    return loading.load(spec, (said if said is not None else []).append)


def images_of(folder, said=None, **fields):
    """What all files of the two classes become, in the order of their names: uint8 (n, S, S, 3), none set aside."""
    pool = load(folder, said, own_test=True, **fields)
    return unpack(pool.pixels, SIZE)


def save(folder, name, image, **options):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(folder / name, **options)


def plain(folder, part="train"):
    """A class b with a picture that is nothing special."""
    values = np.random.default_rng(5).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    save(folder, f"{part}/b/0.png", Image.fromarray(values))


INSIDE = np.indices((SIZE, SIZE)).sum(axis=0) > SIZE  # a shape


def in_alpha(mode, colour, ending, **options):
    """A picture of one colour whose shape is in what is transparent."""
    alpha = Image.fromarray((INSIDE * 255).astype(np.uint8))
    flat = Image.new("L", (SIZE, SIZE), colour)
    if mode in ("L", "P", "RGB"):  # a colour that counts as transparent
        key, other = (colour + 100) % 256, colour
        values = np.where(INSIDE, other, key).astype(np.uint8)
        image = Image.fromarray(values)
        if mode == "P":
            image = Image.fromarray(values, "P")
            image.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
        image = image.convert("RGB") if mode == "RGB" else image
        return image, ending, {"transparency": (key,) * 3 if mode == "RGB" else key, **options}
    image = Image.merge("LA", [flat, alpha]) if mode == "LA" else Image.merge("RGBA", [flat, flat, flat, alpha])
    return image, ending, options


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize(
    ("mode", "ending"),
    [("RGBA", "png"), ("LA", "png"), ("P", "png"), ("P", "gif"), ("L", "png"), ("RGB", "png"), ("RGBA", "tif"),
     ("RGBA", "webp"), ("LA", "tif")],
)  # fmt: skip
def test_a_shape_in_what_is_transparent_can_be_seen_whatever_its_colour(tmp_path, mode, ending, colour):
    plain(tmp_path / "set")
    image, ending, options = in_alpha(mode, colour, ending, **({"lossless": True} if ending == "webp" else {}))
    save(tmp_path / "set", f"train/a/0.{ending}", image, **options)
    found = images_of(tmp_path / "set")[0].astype(int)
    assert (found[INSIDE] == colour).all()
    assert (found[~INSIDE] == 128).all()


@given(st.integers(0, 255), st.integers(0, 255))
@settings(max_examples=20)
def test_what_is_half_transparent_lies_over_grey(tmp_path_factory, colour, alpha):
    folder = tmp_path_factory.mktemp("images") / "set"
    plain(folder)
    save(folder, "train/a/0.png", Image.new("RGBA", (SIZE, SIZE), (colour, 10, 0, alpha)))
    found = images_of(folder)[0].astype(float)
    expected = (np.array([colour, 10, 0]) * alpha + 128 * (255 - alpha)) / 255
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_wholly_opaque_keeps_its_pixels(tmp_path, mode):
    plain(tmp_path / "set")
    values = np.random.default_rng(0).integers(0, 256, (20, 30, len(mode)), np.uint8)
    values[..., -1] = 255
    image = Image.fromarray(values)
    save(tmp_path / "set", "train/a/0.png", image)
    expected = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    assert np.array_equal(images_of(tmp_path / "set", squash=True)[0], np.asarray(expected))


def tiff(path, values):
    """A TIFF of any kind of number, one channel, without compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    pixels = values.astype(values.dtype.newbyteorder("<")).tobytes()
    tags = [(256, width), (257, height), (258, 8 * values.dtype.itemsize), (259, 1), (262, 1), (273, 8), (277, 1),
            (278, height), (279, len(pixels)), (339, kind)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries
                     + b"\0" * 4)  # fmt: skip


def png(path, values):
    save(path.parent, path.name, Image.fromarray(values))


def pgm(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"P5 %d %d 65535\n" % values.shape[::-1] + values.astype(">u2").tobytes())


DEEP = {
    "0 to 250 in 16 bits": (png, ".png", np.uint16, 0, 250, (0, 256)),
    "0 to 250 in a 16-bit TIFF": (tiff, ".tif", np.uint16, 0, 250, (0, 256)),
    "0 and 1 in 16 bits": (png, ".png", np.uint16, 0, 1, (0, 2)),
    "10 bits in 16": (pgm, ".pgm", np.uint16, 5, 1000, (0, 1024)),
    "12 bits in 16": (png, ".png", np.uint16, 0, 4095, (0, 4096)),
    "12 bits in 32": (tiff, ".tif", np.int32, 0, 4000, (0, 4096)),
    "16 bits": (png, ".png", np.uint16, 0, 65535, (0, 65536)),
    "20 bits": (tiff, ".tif", np.int32, 7, 2**20 - 1, (0, 2**20)),
    "signed, 16 bits": (tiff, ".tif", np.int16, -1024, 3071, (-1024, 4096)),
    "signed, 32 bits": (tiff, ".tif", np.int32, -100_000, 100_000, (-100_000, 200_001)),
    "negative only": (tiff, ".tif", np.int16, -500, -100, (-500, 401)),
    "shares": (tiff, ".tif", np.float32, 0.0, 1.0, (0.0, 1.0)),
    "degrees": (tiff, ".tif", np.float32, -40.0, 55.0, (-40.0, 95.0)),
}


def deep_values(kind, low, high, seed=0):
    """From low to high in the first picture, the lower quarter in the second."""
    shares = np.random.default_rng(seed).random((2, SIZE, SIZE))
    shares[0, 0, :2] = 0, 1
    shares[1] /= 4
    values = low + shares * (high - low)
    return (values if kind is np.float32 else np.rint(values)).astype(kind)


@pytest.mark.parametrize(("write", "ending", "kind", "low", "high", "scale"), DEEP.values(), ids=DEEP)
def test_deep_pixels_are_brought_to_8_bits_by_one_scale_of_the_whole_set(
    tmp_path, write, ending, kind, low, high, scale
):
    plain(tmp_path / "set")
    values = deep_values(kind, low, high)
    for index, picture in enumerate(values):
        write(tmp_path / f"set/train/a/{index}{ending}", picture)
    found = images_of(tmp_path / "set")[:2]
    expected = np.clip(np.floor((values.astype(np.float64) - scale[0]) * 256 / scale[1]), 0, 255)
    assert np.array_equal(found, np.stack([expected] * 3, axis=-1))
    assert found[0].max() - found[0].min() >= 128


@pytest.mark.parametrize(("write", "ending", "kind", "low", "high", "scale"), DEEP.values(), ids=DEEP)
def test_val_and_test_have_the_scale_of_train_also_from_the_cache(tmp_path, write, ending, kind, low, high, scale):
    values = deep_values(kind, low, high)
    for part in ("train", "val", "test"):
        plain(tmp_path / "set", part)
        for index, picture in enumerate(values if part == "train" else values[1:]):
            write(tmp_path / f"set/{part}/a/{index}{ending}", picture)
    for _ in range(2):
        pool = load(tmp_path / "set")
        train, val = unpack(pool.pixels, SIZE)[:3], unpack(pool.pixels, SIZE)[3:]
        test = unpack(loading.load_test(pool)[0], SIZE)
        assert np.array_equal(train[1], val[0])
        assert np.array_equal(val, test)


def test_numbers_that_are_none_are_black_and_white_and_spoil_no_scale(tmp_path):
    plain(tmp_path / "set")
    values = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    values[0, :3] = np.nan, np.inf, -np.inf
    tiff(tmp_path / "set/train/a/0.tif", values)
    found = images_of(tmp_path / "set")[0, ..., 0]
    assert found[0, :3].tolist() == [0, 255, 0]
    assert found[8:].min() > 100


def test_the_fingerprint_knows_the_scale(tmp_path):
    fingerprints = []
    for name, factor in [("one", 1), ("other", 2)]:  # the same pixels after scaling
        plain(tmp_path / name / "set")
        values = (np.arange(SIZE * SIZE, dtype=np.uint16) * 4 * factor).reshape(SIZE, SIZE)
        png(tmp_path / name / "set/train/a/0.png", values)
        fingerprints.append(load(tmp_path / name / "set", own_test=True).fingerprint)
    assert fingerprints[0] != fingerprints[1]


@pytest.mark.parametrize(
    ("deep", "val", "fingerprint"),
    [
        (False, False, "c2b19f42ad17f5d103dc495ce74344c679db0e5c1cea1fdbad0e207f96b3bc8a"),
        (False, True, "2f51e1f57acab4de7143f07e634dc0c94ba6c037b708b42395491e7079b69f09"),
        (True, False, "f42ef189e95099987832c4e03773c057fa2746e95ed03a90a27bba64136d5f1e"),
    ],
)
def test_studies_on_plain_and_on_16_bit_images_that_were_begun_before_go_on(tmp_path, deep, val, fingerprint):
    rng = np.random.default_rng(7)
    for name, number in [("cat", 10), ("dog", 10), ("fox", 4)]:
        for index in range(number):
            values = rng.integers(0, 256, (20, 24, 3) if index % 2 else (20, 24), np.uint8)
            save(tmp_path, f"set/train/{name}/{index:02d}.{'bmp' if index % 3 else 'png'}", Image.fromarray(values))
        if deep:
            save(tmp_path, f"set/train/{name}/deep.png",
                 Image.fromarray(rng.integers(0, 65536, (16, 16), np.uint16)))  # fmt: skip
    if val:
        (tmp_path / "set/val").symlink_to(tmp_path / "set/train")
    recorded = {"data": str(tmp_path / "set"), "data_dir": "", "cache_dir": str(tmp_path / "cache"), "image_size": SIZE}
    recorded |= {"minority": ("fox",), "keep": 1.0, "val_fraction": 0.2, "seed": 0, "own_test": False}
    assert loading.load(StoredData(**recorded).spec, [].append).fingerprint == fingerprint


def exif_bytes(*entries):
    """A block of EXIF: entries of (tag, type, count, value)."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + packed + b"\0" * 4


TURNED = (0x0112, 3, 1, 6)
ODD_EXIF = {
    "interop of no known kind": exif_bytes(TURNED, (0xA005, 2, 4, 0x41414141)),
    "interop beyond the end": exif_bytes(TURNED, (0xA005, 4, 1, 0xFFFFFF)),
    "interop at itself": exif_bytes(TURNED, (0xA005, 4, 1, 8)),
    "a camera's folder beyond the end": exif_bytes(TURNED, (0x8769, 4, 1, 0xFFFFFF)),
    "a place beyond the end": exif_bytes(TURNED, (0x8825, 4, 1, 0xFFFFFF)),
    "a text without end": exif_bytes(TURNED, (0x010E, 2, 0xFFFFFFF, 9)),
    "a type that is none": exif_bytes(TURNED, (0x0110, 99, 1, 0)),
    "a number where a text is meant": exif_bytes(TURNED, (0x010F, 5, 1, 3)),
}


def picture_with(folder, exif):
    plain(folder)
    columns = np.tile(np.linspace(0, 255, SIZE, dtype=np.uint8), (SIZE, 1))
    save(folder, "train/a/0.jpg", Image.fromarray(columns), exif=exif, quality=95)


@pytest.mark.parametrize("exif", ODD_EXIF.values(), ids=ODD_EXIF)
def test_odd_exif_keeps_no_image_from_being_read_and_turned(tmp_path, exif):
    picture_with(tmp_path / "set", exif)
    found = images_of(tmp_path / "set")[0, ..., 0].astype(int)
    assert found[-1].mean() - found[0].mean() > 200  # what was on the right is below


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II", b"Exif\0\0nonsense, and more of it", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
def test_broken_exif_leaves_the_pixels_as_they_are_with_a_note(tmp_path, exif, recwarn):
    picture_with(tmp_path / "set", exif)
    said = []
    found = images_of(tmp_path / "set", said)[0, ..., 0].astype(int)
    assert found[:, -1].mean() - found[:, 0].mean() > 200
    assert said == [
        f"{tmp_path / 'set/train'}: the EXIF of 1 image(s) cannot be read, so they are not turned (a/0.jpg)"
    ]
    assert not recwarn.list


@given(st.data())
@settings(max_examples=150)
def test_no_exif_whatever_keeps_an_image_from_being_read(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("images") / "set"
    block = bytearray(exif_bytes(TURNED, (0xA005, 4, 1, 8), (0x8769, 4, 1, 40), (0x010F, 2, 5, 12)))
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(6, len(block) - 1))] = data.draw(st.integers(0, 255))
    picture_with(folder, bytes(block))
    found = images_of(folder)[0, ..., 0].astype(int)
    assert found.max() - found.min() > 200


def test_very_many_pixels_are_refused_in_our_words_and_many_are_read_without_a_word(tmp_path):
    folder = tmp_path / "set"
    plain(folder)
    save(folder, "train/a/0.png", Image.new("1", (12_000, 12_000), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images_of(folder)[0].min() == 255
    save(folder, "train/a/1.png", Image.new("1", (14_000, 14_000)))
    with pytest.raises(UsageError) as refusal:
        load(folder)
    assert refusal.value.problems == [
        f"{folder / 'train/a/1.png'}: cannot be read as an image (it has 14000 × 14000 pixels; at most 180 million "
        "are read)"
    ]


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\nshowpage\n"


@pytest.mark.parametrize("names", [["0.eps", "0.ps"], ["0.png"]])
def test_no_other_program_is_called_for_an_image(tmp_path, names):
    gs = tmp_path / "bin/gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path / 'called'}\n")
    gs.chmod(0o755)
    for index in range(40):
        for class_name in "ab":
            save(tmp_path / "set", f"train/{class_name}/{index + 1}.png", Image.effect_noise((9, 9), 50))
    for name in names:
        (tmp_path / "set/train/a" / name).write_bytes(POSTSCRIPT)
    run = "import sys; from trainable.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "--data", str(tmp_path / "set"), "--minority", "b", "--epochs", "1"]
    done = subprocess.run([*command, "--cache-dir", str(tmp_path / "cache")], capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{gs.parent}:{os.environ['PATH']}"})  # fmt: skip
    named_an_image = names == ["0.png"]
    assert done.returncode == (2 if named_an_image else 0), done.stderr
    told = "cannot be read as an image" if named_an_image else "not images by their names (a/0.eps, a/0.ps"
    assert told in done.stderr
    assert not (tmp_path / "called").exists()


def test_a_pipe_is_no_image_and_nobody_waits_for_it(tmp_path):
    plain(tmp_path / "set")
    (tmp_path / "set/train/a").mkdir()
    os.mkfifo(tmp_path / "set/train/a/0.png")
    with pytest.raises(UsageError, match=r"a/0\.png: is neither a file nor a folder"):
        load(tmp_path / "set")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    with pytest.raises(UsageError) as refusal:
        predict.image_files([tmp_path / "pipe.png", tmp_path / "link.png"], print)
    assert len(refusal.value.problems) == 2
    assert all("it is no plain file" in problem for problem in refusal.value.problems)
