import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import told
from trainable.__main__ import main

ROOT = Path(__file__).parents[2]
DIGITS = ["--data", "digits", "--image-size", "16", "--precision", "float32"]


SETTINGS = [*DIGITS, "--epochs", "2", "--seed", "4", "--set", "sampler=weighted", "--set", "num_threads=1"]


def test_the_damaged_files_of_a_folder_are_named_and_without_them_it_is_trained_on(refused, tmp_path, capfd):
    rng = np.random.default_rng(0)
    for name, number in [("cat", 30), ("dog", 80)]:
        (tmp_path / "photos/train" / name).mkdir(parents=True)
        for index in range(number):
            image = Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8))
            image.save(tmp_path / f"photos/train/{name}/{index}.png")
    damaged = tmp_path / "photos/train/cat/damaged.jpg"
    damaged.write_text("text")
    asked = ["--data", "photos", "--minority", "cat", "--image-size", "16", "--cache-dir", "cache", "--epochs", "1"]
    assert told(refused(*asked), f"{damaged}: cannot be read as an image")
    damaged.unlink()
    assert main([*asked, "--set", "num_threads=1", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["num_train_images"] == (30 - 6 - 5) + (80 - 16 - 13)
    assert "fewer than 25 validation images (cat 5)" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "photos"]


def test_a_trial_that_diverges_says_so_and_exits_1(capsys):
    assert main([*SETTINGS, "--json", "--set", "learning_rate=1e30"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "the trial failed: train_loss is nan in epoch 1" in err
