import pickle

import numpy as np
import pytest
import torch

from trainable.evaluation import evaluation_batch
from trainable.images import loading, memory
from trainable.images.pool import DataSpec, pack, unpack
from trainable.images.trial import trial_images


@pytest.mark.parametrize(("free", "is_told"), [(4200, True), (8400, False), (None, False)])
def test_images_that_take_more_than_half_of_the_free_memory_are_told(monkeypatch, free, is_told):
    monkeypatch.setattr(memory, "free_bytes", lambda: free)
    packed = pack(np.zeros((4, 16, 16, 3), np.uint8))
    assert packed.nbytes == 4 * 257 * 4  # 4112
    assert len(list(memory.notes(4, 16, "there"))) == is_told


def test_the_sentence_says_how_much_and_what_to_do(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 8 * 2**30)
    assert list(memory.notes(50_000, 320, "/cache")) == [
        "--image-size 320: 50000 images take 19.1 GiB of memory, of 8.0 GiB that are free; so they stay in a file in "
        "/cache and are read as they are needed, which is slower; a smaller size takes less"
    ]


def test_what_memory_should_not_hold_is_mapped_from_a_file_with_the_same_pixels(image_folder, tmp_path, monkeypatch):
    spec = DataSpec(str(image_folder), "", str(tmp_path / "cache"), image_size=16)
    held = loading.load(spec, lambda text: None)
    assert not isinstance(held.pixels, np.memmap)
    assert not list((tmp_path / "cache").glob("*.pixels"))
    said: list[str] = []
    monkeypatch.setattr(memory, "free_bytes", lambda: 50_000)
    mapped = loading.load(spec, said.append)
    assert any("so they stay in a file" in text for text in said)
    assert isinstance(mapped.pixels, np.memmap)
    assert np.array_equal(mapped.pixels, held.pixels)
    assert mapped.fingerprint == held.fingerprint
    given = pickle.dumps(mapped)
    assert len(given) < held.pixels.nbytes / 4  # a trial's process is given the path
    received = pickle.loads(given)
    assert isinstance(received.pixels, np.memmap)
    assert np.array_equal(received.pixels, held.pixels)
    assert np.array_equal(pickle.loads(pickle.dumps(held)).pixels, held.pixels)
    images, others = (trial_images(pool, 0, 0, torch.device("cpu")) for pool in (received, held))
    assert torch.equal(images.pixels[images.train], others.pixels[others.train])
    assert torch.equal(images.mean, others.mean)


@pytest.mark.parametrize("size", [16, 320])
def test_packing_part_by_part_leaves_each_pixel_in_its_place(size):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (45, size, size, 3), np.uint8)
    packed = pack(images)
    assert np.array_equal(unpack(packed, size), images)
    assert not packed[:, -1].any()
    assert not packed.view(np.uint8).reshape(45, -1, 4)[:, :, 3].any()


def test_free_memory_is_what_the_system_says(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  200 kB\nMemFree:  10 kB\nMemAvailable:  100 kB\nHugePages_Total: 0\n")
    assert memory.free_bytes(tmp_path / "meminfo") == 102_400
    (tmp_path / "meminfo").write_text("MemTotal:  200 kB\n")
    assert memory.free_bytes(tmp_path / "meminfo") is None
    assert memory.free_bytes(tmp_path / "none") is None


@pytest.mark.parametrize(("size", "number"), [(16, 500), (32, 500), (96, 500), (192, 125), (320, 45)])
def test_of_large_images_fewer_are_evaluated_at_a_time(size, number):
    assert evaluation_batch(size) == number
