"""The benchmark for a GPU, in its short form on the CPU, where little is installed."""

import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.gpu import read_images, run_steps
from benchmarks.gpu_steps import STEPS

WITHOUT_THE_REST = """
import sys
for name in ("ray", "optuna", "rich", "torchvision", "sklearn", "scipy", "pandas", "tqdm", "filelock",
             "pydantic", "study"):
    sys.modules[name] = None
from benchmarks.__main__ import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An archive as that of CIFAR-10: 12 classes in an order of their own, three images each, and test images."""
    path = tmp_path_factory.mktemp("images") / "images.tar.xz"
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:xz") as archive:
        for class_name in ["dog", "cat", *(f"animal-{index}" for index in range(10))]:
            for split, number in [("train", 3), ("test", 2)]:
                for index in range(number):
                    file = io.BytesIO()
                    Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(file, "PNG")
                    info = tarfile.TarInfo(f"{split}/{class_name}/{index}.png")
                    info.size = file.tell()
                    file.seek(0)
                    archive.addfile(info, file)
    return path


def test_the_training_images_of_an_archive_are_read_with_their_classes(images):
    pool = read_images(images)
    assert (len(pool.labels), pool.class_names[:2]) == (36, ("dog", "cat"))
    assert pool.labels.tolist() == [index // 3 for index in range(36)]


def test_it_runs_from_its_archive_where_little_is_installed_and_a_step_that_fails_stops_no_other(images, tmp_path):
    assert main(["gpu", "--pack", str(tmp_path / "gpu.tar"), "--images", str(images)]) == 0
    with tarfile.open(tmp_path / "gpu.tar") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    (tmp_path / "there/run.py").write_text(WITHOUT_THE_REST)
    command = [sys.executable, "run.py", "gpu", "--device", "cpu", "--short", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path / "there", capture_output=True, text=True, timeout=1500)
    assert done.returncode == 1, done.stderr
    (folder,) = (tmp_path / "out").iterdir()
    records = {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}
    assert set(records) == set(STEPS)
    failed = {name: record["error"] for name, record in records.items() if "error" in record}
    assert set(failed) == {"reference"}  # the course's loop is torchvision's
    assert "torchvision" in failed["reference"]
    assert records["captured"]["found"]["largest_difference"] == 0
    assert records["replay"]["found"]["largest_difference"] == 0
    assert set(records["together"]["found"]) == {"2"}
    assert set(records["packed"]["found"]) == {"1", "2"}


def test_every_step_leaves_a_record_whatever_became_of_those_before(tmp_path):
    def fail():
        raise RuntimeError("no such kernel")

    assert run_steps({"one": fail, "two": lambda: {"x": 1}}, tmp_path) == 1
    assert json.loads((tmp_path / "one.json").read_text())["error"] == "RuntimeError: no such kernel"
    assert json.loads((tmp_path / "two.json").read_text())["found"] == {"x": 1}
    assert run_steps({"two": lambda: {"x": 1}}, tmp_path) == 0
