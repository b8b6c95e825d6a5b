"""Which file each image of a pool is of."""

import shutil

import numpy as np
import pytest

from trainable.images import loading
from trainable.images.decoding import decoded
from trainable.images.pool import DataSpec, unpack


@pytest.mark.parametrize(
    ("parts", "group"), [(("train",), None), (("train", "val", "test"), None), (("train",), r"\d")]
)
def test_each_path_is_that_of_its_image(image_folder, tmp_path, parts, group):
    (image_folder / "train/dog/07.png").write_bytes(b"no image")
    for part in parts[1:]:
        for name in ("cat", "dog", "fox"):
            (image_folder / part / name).mkdir(parents=True)
            for index in range(5):
                shutil.copy(
                    image_folder / "train" / name / f"0{index}.png", image_folder / part / name / f"x{index}.png"
                )
    spec = DataSpec(str(image_folder), "", str(tmp_path / "cache"), image_size=16, skip_bad_files=True, group=group)
    pool = loading.load(spec, lambda text: None)
    paths = loading.paths(pool)
    assert len(set(paths)) == len(paths) == len(pool.labels)
    for index, path in enumerate(paths):
        assert np.array_equal(decoded(image_folder / path, 16, {}, False), unpack(pool.pixels, 16)[index])
        assert pool.class_names[pool.labels[index]] == path.split("/")[1]


def test_images_that_are_no_files_have_no_paths(digits_pool):
    assert loading.paths(digits_pool) is None
