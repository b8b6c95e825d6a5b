import numpy as np
import pytest

from trainable.evaluation import evaluation_batch
from trainable.images import memory
from trainable.images.pool import pack


@pytest.mark.parametrize(("free", "is_told"), [(4200, True), (8400, False), (None, False)])
def test_images_that_take_more_than_half_of_the_free_memory_are_told(monkeypatch, free, is_told):
    monkeypatch.setattr(memory, "free_bytes", lambda: free)
    packed = pack(np.zeros((4, 16, 16, 3), np.uint8))
    assert packed.nbytes == 4 * 257 * 4  # 4112
    assert len(list(memory.notes(4, 16))) == is_told


def test_the_sentence_says_how_much_and_what_to_do(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 8 * 2**30)
    assert list(memory.notes(50_000, 320)) == [
        "--image-size 320: 50000 images take 19.1 GiB of memory, of 8.0 GiB that are free; a smaller size takes less"
    ]


def test_free_memory_is_what_the_system_says(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  200 kB\nMemFree:  10 kB\nMemAvailable:  100 kB\nHugePages_Total: 0\n")
    assert memory.free_bytes(tmp_path / "meminfo") == 102_400
    (tmp_path / "meminfo").write_text("MemTotal:  200 kB\n")
    assert memory.free_bytes(tmp_path / "meminfo") is None
    assert memory.free_bytes(tmp_path / "none") is None


@pytest.mark.parametrize(("size", "number"), [(16, 500), (32, 500), (96, 500), (192, 125), (320, 45)])
def test_of_large_images_fewer_are_evaluated_at_a_time(size, number):
    assert evaluation_batch(size) == number
