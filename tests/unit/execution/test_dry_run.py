"""``study.search --dry-run``: what would run, in words, and nothing else happens."""

import shutil
from math import ceil

import pytest
import ray  # noqa: F401  # which makes a class of subprocess.Popen while it is still one

from study import search
from study.execution import dry_run
from study.record.ledger import Ledger
from tests import studies
from trainable.arguments import num_cores
from trainable.config import TrialConfig

COUNTS = {"cat": 30, "dog": 30, "fox": 10}
ASKED = ["--image-size", "16", "--epochs", "5", "--trials", "8", "--gpus", "0", "--precision", "float32"]


@pytest.fixture
def photos(tmp_path):
    studies.write_photos(tmp_path / "set", COUNTS)
    return tmp_path / "set"


@pytest.fixture
def shown(photos, tmp_path, monkeypatch, capsys):
    """A function that runs the command, ten ms an image, and gives the lines that it prints; nothing may start."""
    monkeypatch.setattr(search, "run", lambda plan: pytest.fail("a dry run starts nothing"))
    monkeypatch.setattr(dry_run, "seconds_per_image", lambda *_: 0.01)
    places = ["--data", str(photos), "--results", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache")]
    places += ["--space", "course"]

    def run(*flags):
        before = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
        assert search.main([*places, *ASKED, *map(str, flags), "--dry-run"]) == 0
        assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before
        return capsys.readouterr().out.splitlines()

    return run


def test_a_dry_run_tells_all_that_a_study_would_begin_with_and_writes_nothing(photos, shown):
    shutil.copy(photos / "cat/00.png", photos / "cat/a copy.png")
    (photos / "dog/bad.png").write_text("text")
    found = shown("--skip-bad-files", "--val-fraction", "0.7")
    text = "\n".join(found)
    for words in [
        "has no train/, so its 3 folders are taken for the classes",
        "1 of 71 images are exact copies of others there",
        "1 of 72 images cannot be read and are left out (dog/bad.png)",
        "cat          7       18        6        0",
        "minority, with its images before any split: fox 10 (at most half of an equal share of the 71 images",
        "fewer than 25 validation images (fox 6)",
        "optimizer steps in an epoch: 1 (16 images in batches of 128, 1 to 8 to a step)",
        "note: fewer than 20 steps in an epoch are few",
        "  dropout: 0 to 0.7",
        "  learning_rate: 0.0002 to 0.01, on a log scale",
        "  sampler_power: 0.25 to 1 (where sampler is weighted)",
        "left out, as they cannot be read: dog/bad.png",
        "study set: 8 trials of at most 5 epochs",
    ]:
        assert words in text, text
    assert found[-1] == "dry run: nothing was started"


def test_the_time_is_that_of_the_trials_that_are_left(photos, shown):
    (line,) = [text for text in shown("--val-fraction", "0.7") if text.startswith("time: ")]
    # of 56 images (14 are for the test) 40 are to validate on: 0.01 · (16 + 0.4 · 40) = 0.32 s
    rounds = ceil(8 / num_cores())
    assert f"an epoch takes about 0.3 s here, so the trials at most about {round(0.32 * 5 * rounds)} s" in line
    plan = studies.begin(
        *["--data", photos, "--results", photos.parent / "results", "--cache-dir", photos.parent / "cache"],
        *["--space", "course"],
        *[*ASKED, "--val-fraction", "0.7"],
    )
    ledger = Ledger(plan.folder, plan.record())
    for number in range(4):
        ledger.add(TrialConfig(seed=number), "searched", {}, {})
    for number in range(3):
        ledger.fail(number, "no")
    ledger.close()
    found = shown("--val-fraction", "0.7")
    (line,) = [text for text in found if text.startswith("time: ")]
    assert f"at most about {round(0.32 * 5 * (ceil(4 / num_cores()) + 1 / num_cores()))} s" in line
    assert "study set: 8 trials of at most 5 epochs, 4 of them there already" in found


def test_the_time_is_the_mean_over_the_networks_of_the_space(shown, monkeypatch):
    seconds = {("convnet", 0.5): 0.01, ("convnet", 1.0): 0.02, ("convnet", 2.0): 0.09, ("resnet32", 1.0): 0.08}
    monkeypatch.setattr(dry_run, "seconds_per_image", lambda config, *_: seconds[config.network, config.width])
    found = shown("--val-fraction", "0.7", "--space", "full")
    # (0.04 + 0.08) / 2 for each of the 16 + 0.4 · 40 images
    assert any(line.startswith("time: an epoch takes about 1.9 s here") for line in found)


def test_what_is_wrong_is_told_as_ever(photos, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        search.main(["--data", str(photos), "--cache-dir", str(tmp_path / "c"), "--minority", "cow", "--dry-run"])
    assert stop.value.code == 2
    assert "no class cow" in capsys.readouterr().err


def test_a_time_budget_says_how_far_it_will_get(shown):
    asked = ("--time-budget", "3200", "--cpus-per-trial", num_cores(), "--val-fraction", "0.7")  # one at a time
    found = shown(*asked)
    (line,) = [line for line in found if line.startswith("time budget")]
    (epoch,) = [float(line.split()[5]) for line in found if line.startswith("time: ")]  # to a tenth of a second
    num_epochs = int(line.split(" are about ")[1].split()[0])
    assert num_epochs == pytest.approx(3200 / epoch, rel=0.05 / epoch)
    trials = f"{num_epochs / 5:.0f} trials in full; about {num_epochs / 5 / dry_run.USUAL_LENGTH:.0f}"
    assert line == f"time budget: 53 min 20 s are about {num_epochs} epochs here, or {trials} where as many are " + (
        "stopped early as usual"
    )
    (line,) = [line for line in shown(*asked, "--scheduler", "none") if line.startswith("time budget")]
    assert line.endswith("trials in full")
