"""What several test files share: the digits at 16×16, and folders of small images made here."""

import hypothesis
import numpy as np
import pytest
from PIL import Image

# how long an example takes says something about the machine only
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def one_thread():
    """One thread for torch: results are the same bits everywhere, and the other core is left to others."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits():
    """The digits at 16×16 as a pool, with the default cut."""
    from trainable import data

    return data.load(data.DataSpec("digits", data_dir="", cache_dir="", image_size=16))


@pytest.fixture(scope="session")
def images(digits, one_thread):
    """The digits of the split and the cut with seed 0, on the CPU."""
    import torch

    from trainable import loop

    return loop.trial_images(digits, 0, 0, torch.device("cpu"))


@pytest.fixture
def image_folder(tmp_path):
    """A function that makes ``part/class/*.png`` from numbers of images, each image of a colour of its own.

    ``image_folder({"train": {"cat": 30, "dog": 50}})`` is the path of the folder. Parts made by one or several
    calls for the same folder share no colour, so a colour says which file an image was.
    """
    made = 0

    def make(parts, name="photos"):
        nonlocal made
        for part, classes in parts.items():
            for class_name, number in classes.items():
                folder = tmp_path / name / part / class_name
                folder.mkdir(parents=True)
                for index in range(number):
                    colour = np.array([made % 256, made // 256, 200], np.uint8)
                    Image.fromarray(np.tile(colour, (16, 16, 1))).save(folder / f"{index:03d}.png")
                    made += 1
        return tmp_path / name

    return make
