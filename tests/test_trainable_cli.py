import json
import subprocess
import sys

import pytest

from trainable.config import TrialConfig, UsageError, parse_assignments


def run(*arguments):
    command = [sys.executable, "-m", "trainable", "--data", "digits", "--image-size", "16", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_json_prints_one_object_an_epoch_and_nothing_else():
    done = run("--epochs", "2", "--json")
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert {"train_loss", "val_loss", "minority_f1", "f1", "minority_f1_adjusted", "best_epoch"} <= set(first)


def test_a_trial_imports_no_ray():
    code = """
import sys
from trainable.__main__ import main
main(["--data", "digits", "--image-size", "16", "--epochs", "1"])
assert "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_mistakes_are_told_together_without_a_traceback():
    done = run("--epochs", "0", "--keep", "2", "--set", "dropout=1.5", "--nonsense")
    assert done.returncode == 2
    for told in ("--epochs must be", "--keep must be in (0, 1], not '2'", "dropout must be in [0, 1)", "--nonsense"):
        assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_assignments_become_typed_values():
    assert parse_assignments(["dropout=0.5", "flip=off", "epochs=3", "sampler=weighted"]) == {
        "dropout": 0.5, "flip": False, "epochs": 3, "sampler": "weighted",
    }  # fmt: skip


@pytest.mark.parametrize(
    "values", [{"dropout": 1.0}, {"sampler_power": 0}, {"epochs": 2.5}, {"flip": 1}, {"seed": -1}, {"dropuot": 0.1},
               {"learning_rate": float("nan")}, {"sampler": "wieghted"}, {"batch_size": True}]
)  # fmt: skip
def test_a_config_is_checked_at_its_only_door(values):
    with pytest.raises(UsageError, match=next(iter(values))):
        TrialConfig.from_dict(values)


def test_a_config_describes_itself_whole():
    config = TrialConfig(dropout=0.1, sampler="weighted")
    assert TrialConfig.from_dict(config.to_dict()) == config
