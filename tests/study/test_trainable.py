"""A trial's own command, as it is started in a terminal."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainable.__main__ import main

ROOT = Path(__file__).parents[2]
DIGITS = ["--data", "digits", "--image-size", "16", "--precision", "float32"]


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
