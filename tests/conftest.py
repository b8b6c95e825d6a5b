import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

from trainable import data
from trainable.data import DataSpec

# how long an example takes says something about the machine only
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits_pool(tmp_path_factory):
    """The digits at 16×16."""
    return data.load(DataSpec("digits", "", str(tmp_path_factory.mktemp("cache")), image_size=16))


@pytest.fixture
def image_folder(tmp_path):
    """A folder with train/cat (20 images), train/dog (20) and train/fox (8), in random pixels."""
    rng = np.random.default_rng(0)
    for name, count in [("cat", 20), ("dog", 20), ("fox", 8)]:
        folder = tmp_path / "images" / "train" / name
        folder.mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{index:02d}.png")
    return tmp_path / "images"
