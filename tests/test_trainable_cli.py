import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainable.__main__ import main

ROOT = Path(__file__).parent.parent
DIGITS = ["--data", "digits", "--image-size", "16", "--precision", "float32"]


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


SETTINGS = [*DIGITS, "--epochs", "2", "--seed", "4", "--set", "sampler=weighted", "--set", "num_threads=1"]

ENDLESS = ["--epochs", "500", "--set", "patience=500", "--set", "num_threads=1"]

RUN_MAIN = """
import sys
from trainable.__main__ import main
status = main(sys.argv[1:])
assert "ray" not in sys.modules, "ray is imported"
sys.exit(status)
"""


@pytest.fixture(scope="module")
def shown():
    """What a run of two epochs, for people, prints; it fails where Ray is imported."""
    done = subprocess.run([sys.executable, "-c", RUN_MAIN, *SETTINGS], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_trial_without_ray_shows_counts_an_epoch_a_line_and_the_report_of_the_best(shown):
    lines = shown.splitlines()
    assert lines[0].split() == ["class", "train", "val", "test", "cut", "off"]
    epochs = [line for line in lines if line.startswith("epoch ") and "/2" in line]
    assert [line.split()[1] for line in epochs] == ["1/2", "2/2"]
    scores = [float(line.split("minority F1 ")[1].split()[0]) for line in epochs]
    (title,) = [index for index, line in enumerate(lines) if "the best by minority F1" in line]
    assert lines[title].startswith(f"epoch {scores.index(max(scores)) + 1},")
    report = {line.split()[0]: line.split()[1:] for line in lines[title + 2 :]}
    assert list(report) == ["0*", "1*", "2*", *"3456789", "minority"]
    assert float(report["minority"][-1]) == pytest.approx(max(scores), abs=1e-4)


def test_json_prints_an_object_for_each_epoch_of_the_same_run_and_nothing_else(shown, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main([*SETTINGS, "--json"]) == 0
    out, err = capfd.readouterr()
    rows = list(map(json.loads, out.splitlines()))
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert len(row["f1"]) == 10
        for field, name in [("train loss", "train_loss"), ("val loss", "val_loss"), ("minority F1", "minority_f1")]:
            assert f"{field} {row[name]:.4f}" in shown
    assert "cut off" in err  # the class counts
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_field_and_answers_in_under_a_second():
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "trainable", "--help"], capture_output=True, text=True, cwd=ROOT)
        seconds.append(time.monotonic() - start)
        assert done.returncode == 0
    assert min(seconds) < 1
    for name in ("--data", "--keep", "--set", "--replay", "--json", "dropout", "sampler_power"):
        assert name in done.stdout


def test_mistakes_of_flags_and_fields_are_told_at_once(refused, tmp_path):
    problems = refused(
        *DIGITS, "--epochs", "0", "--keep", "2", "--val-fraction", "all", "--set", "dropout=1.5", "--set",
        "batch_size=1", "--nonsense",
    )  # fmt: skip
    assert told(
        problems,
        "--epochs must be a whole number of at least 1, not '0'",
        "--keep must be in (0, 1], not '2'",
        "--val-fraction must be in (0, 1), not 'all'",
        "--set dropout must be in [0, 1), not '1.5'",
        "--set batch_size must be a whole number of at least 2, not '1'",
        "--nonsense: no such argument",
    )
    assert list(tmp_path.iterdir()) == []


def test_mistakes_of_flags_and_of_images_are_told_at_once(refused, tmp_path):
    problems = refused("--data", "photos", "--epochs", "x", "--image-size", "8")
    assert told(problems, "--epochs must be", "--image-size must be", f"{tmp_path / 'photos'} is no folder")
    problems = refused(*DIGITS, "--minority", "zebra", "--keep", "0")
    assert told(problems, "--minority: no class zebra; the classes are 0, 1, 2", "--keep must be")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "dropout=2", "--data", "photos"], ["dropout must be", "photos is no folder"]),
        (["--set", "dropuot=0.2", "--data", "photos"], ["--set dropuot: no such field", "photos is no folder"]),
        (["--set", "dropuot=0.2", "--set", "epochs=0"], ["--set dropuot: no such field", "epochs must be"]),
        (["--set", "dropout=2", "--minority", "zebra"], ["dropout must be", "no class zebra"]),
        (["--set", "dropout=2", "--minority", ","], ["dropout must be", "--minority must name"]),
    ],
)
def test_a_bad_field_hides_no_other_mistake(refused, arguments, expected):
    assert told(refused(*DIGITS, *arguments), *expected)


def test_too_few_images_are_refused_by_class(refused):
    problems = refused(*DIGITS, "--keep", "0.005", "--val-fraction", "0.02")
    few = [f"class {digit}: 1 training image(s) left" for digit in range(3)]
    assert told(problems, *few, *[f"class {digit}: 3 validation image(s)" for digit in range(10)])


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


def test_an_interrupted_trial_exits_130_without_a_traceback():
    command = [sys.executable, "-m", "trainable", *DIGITS, *ENDLESS, "--json"]
    # a shell starts what it runs in the background with SIGINT ignored, and that is inherited
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    assert json.loads(process.stdout.readline())["epoch"] == 1
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err
