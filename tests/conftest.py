import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, by numpy; threads that wait for each other cost CPU

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image
from xdist.scheduler import LoadScopeScheduling

from trainable.__main__ import main
from trainable.images import loading
from trainable.images.pool import DataSpec

DIGITS_STUDY = ["--data", "digits", "--image-size", "16", "--epochs", "2", "--seed", "3", "--precision", "float32"]

# how long an example takes says something about the machine only
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


# these run Ray studies: two at a time, which wait about as much as they compute; a third process has all the rest
RAY = (("search", "confirm", "faults", "gauges"), ("servers", "kills", "cluster"))
STUDIES = {f"tests/study/test_{name}.py": f"studies {index}" for index, names in enumerate(RAY) for name in names}


class ByFile(LoadScopeScheduling):
    """A file's tests run in one process, which makes their fixtures once; those with Ray are as two files.

    (The marker xdist_group would say the same; pytest-xdist 3.8 has no way to read it under pytest 9.2.)
    """

    def _split_scope(self, nodeid):
        file = nodeid.split("::")[0]
        return STUDIES.get(file, file)


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items):
    """The studies first, since they take longest."""
    items.sort(key=lambda item: item.nodeid.split("::")[0] not in STUDIES)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits_pool(tmp_path_factory):
    """The digits at 16×16."""
    return loading.load(DataSpec("digits", "", str(tmp_path_factory.mktemp("cache")), image_size=16))


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


class FinishedStudy(NamedTuple):
    """A real study: its folder, what it printed, and what still ran of it 15 seconds later."""

    folder: Path
    out: str
    left_running: list[int]


@pytest.fixture(scope="session")
def digits_study(tmp_path_factory):
    """Six trials of two epochs, small digits at 16×16, from the command itself; tests that change files take a copy."""
    from tests.kills import session_pids

    results = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "study.search", *DIGITS_STUDY, "--trials", "6", "--results", str(results)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)  # fmt: skip
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    left, deadline = [], time.monotonic() + 15
    while Path("/proc").exists() and (left := session_pids(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return FinishedStudy(results / "digits", out, left)


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """A function that runs the command in an empty folder and returns the problems told, a line each.

    Nothing else may have happened.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        assert stop.value.code == 2
        out, err = capfd.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert all(line.startswith("trainable: ") for line in lines), err
        return [line.removeprefix("trainable: ") for line in lines]

    return run


def told(problems, *expected):
    """Whether each of ``expected`` is in a problem of its own, and there are no others."""
    return len(problems) == len(expected) and all(sum(text in p for p in problems) == 1 for text in expected)
