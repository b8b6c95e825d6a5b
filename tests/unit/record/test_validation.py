import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.record import validation
from trainable.cli import UsageError

NUM_IMAGES, NUM_CLASSES, NUM_EPOCHS = 40, 4, 3
NAMES = list(validation.LAYOUT)
SIZE = 100_000_000


def arrays(**other):
    rng = np.random.default_rng(0)
    labels = rng.integers(NUM_CLASSES, size=NUM_IMAGES)
    predictions = rng.integers(NUM_CLASSES, size=(NUM_EPOCHS, NUM_IMAGES)).astype(np.uint8)
    logits = rng.standard_normal((NUM_IMAGES, NUM_CLASSES)).astype(np.float16)
    groups = rng.integers(NUM_IMAGES, size=NUM_IMAGES)
    return {
        "labels": labels, "logits": logits, "predictions": predictions, "predictions_adjusted": predictions,
        "groups": groups, **other,
    }  # fmt: skip


def read(path):
    return validation.read(path, NAMES, NUM_CLASSES, NUM_IMAGES, NUM_EPOCHS)


def npz(**other):
    file = io.BytesIO()
    np.savez(file, **arrays(**other))
    return file.getvalue()


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "validation.npz"
    path.write_bytes(npz())
    for found, expected in zip(read(path), arrays().values(), strict=True):
        np.testing.assert_array_equal(found, expected)
    path.write_bytes(npz(logits=np.asfortranarray(arrays()["logits"])))
    np.testing.assert_array_equal(read(path)[1], arrays()["logits"])


def test_a_file_without_groups_is_one_in_which_each_image_is_a_group_of_its_own(tmp_path):
    path = tmp_path / "validation.npz"
    np.savez(path, **{name: array for name, array in arrays().items() if name != "groups"})
    assert read(path)[-1].tolist() == list(range(NUM_IMAGES))


def zipped(compression=zipfile.ZIP_STORED, **contents):
    """An archive of these members' bytes, and of the usual ones where none are given."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, array in arrays().items():
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(f"{name}.npy", contents.get(name, member.getvalue()))
    return file.getvalue()


def header(shape, dtype="|i1", data=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def pickled():
    file = io.BytesIO()
    np.save(file, np.array([print] * NUM_IMAGES, dtype=object), allow_pickle=True)
    return file.getvalue()


BAD = {
    "a compressed array of 100 MB": lambda: zipped(zipfile.ZIP_DEFLATED, labels=header((SIZE,), data=bytes(SIZE))),
    "a compressed array of the right shape and 100 MB behind it": lambda: zipped(
        zipfile.ZIP_DEFLATED, labels=header((NUM_IMAGES,), data=bytes(SIZE))
    ),
    "more images than the study has": lambda: npz(labels=np.zeros(NUM_IMAGES + 1, int)),
    "a shape of terabytes": lambda: zipped(labels=header((10**12,))),
    "a shape whose bytes overflow": lambda: zipped(labels=header((2**62, 2**62))),
    "a negative shape": lambda: zipped(labels=header((-1,))),
    "no images": lambda: zipped(labels=header((0,))),
    "data that end early": lambda: zipped(labels=header((NUM_IMAGES,), data=b"\0" * 7)),
    "data that go on": lambda: zipped(labels=header((NUM_IMAGES,), data=b"\0" * 700)),
    "more epochs than a trial has": lambda: npz(predictions=np.zeros((NUM_EPOCHS + 1, NUM_IMAGES), np.uint8)),
    "fewer images in one array": lambda: npz(logits=np.zeros((NUM_IMAGES - 1, NUM_CLASSES), np.float16)),
    "another number of classes": lambda: npz(logits=np.zeros((NUM_IMAGES, NUM_CLASSES + 1), np.float16)),
    "a class that there is not": lambda: npz(labels=np.full(NUM_IMAGES, NUM_CLASSES)),
    "a negative class": lambda: npz(predictions=np.full((NUM_EPOCHS, NUM_IMAGES), -1)),
    "a group that there is not": lambda: npz(groups=np.full(NUM_IMAGES, NUM_IMAGES)),
    "a negative group": lambda: npz(groups=np.full(NUM_IMAGES, -1)),
    "groups of other images": lambda: npz(groups=np.zeros(NUM_IMAGES + 1, int)),
    "labels in floats": lambda: npz(labels=np.zeros(NUM_IMAGES)),
    "labels in bool": lambda: npz(labels=np.zeros(NUM_IMAGES, bool)),
    "dates": lambda: zipped(labels=header((NUM_IMAGES,), "<M8[s]", bytes(8 * NUM_IMAGES))),
    "objects": lambda: zipped(labels=pickled()),
    "records": lambda: zipped(labels=header((NUM_IMAGES,), [("a", "<i8")], bytes(8 * NUM_IMAGES))),
    "a header nested deeply": lambda: zipped(labels=b"\x93NUMPY\1\0\xff\xff" + b"(" * 65535),
    "no archive": lambda: b"x",
    "an empty file": lambda: b"",
    "one array alone": lambda: npz()[:400],
}


@pytest.mark.parametrize("kind", BAD)
def test_arrays_that_are_not_the_studys_are_refused_before_they_are_read(tmp_path, kind):
    path = tmp_path / "validation.npz"
    path.write_bytes(BAD[kind]())
    # a study.json beside it that asks for as many images makes no difference to an archive that would grow
    num_images = SIZE if "compressed" in kind else NUM_IMAGES
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=r"validation\.npz: damaged, cannot be read") as caught:
            validation.read(path, NAMES, NUM_CLASSES, num_images, NUM_EPOCHS)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert len(caught.value.problems) == 1


@given(st.data())
def test_a_file_with_bytes_changed_is_refused_or_reads_as_before(tmp_path_factory, data):
    content = bytearray(npz())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("changed") / "validation.npz"
    path.write_bytes(content)
    try:
        found = read(path)
    except UsageError:
        return
    for array, expected in zip(found, arrays().values(), strict=True):
        np.testing.assert_array_equal(array, expected)
