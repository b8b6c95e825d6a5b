"""Real studies in real processes, killed for real: small digits at 16×16."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from study.ledger import Ledger
from tests.kills import session_pids

SETTINGS = ["--data", "digits", "--image-size", "16", "--epochs", "3", "--seed", "3"]


def search(results, *more, **options):
    command = [sys.executable, "-m", "study.search", *SETTINGS, "--results", str(results), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finished(process, timeout=180):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def rows_of(folder):
    return {int(path.parent.name): path.read_text() for path in folder.glob("trials/*/epochs.jsonl")}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of six trials: its folder and what it printed."""
    results = tmp_path_factory.mktemp("results")
    status, out, err = finished(search(results, "--trials", "6"))
    assert status == 0, err
    return results / "digits", out


def test_a_study_prints_counts_and_ranking_and_writes_its_files(study):
    folder, out = study
    assert "cut off" in out
    assert re.search(r"beyond course, shuffled \(0\.\d{4}\): [+-]0\.\d{4} \(search score, not confirmed\)", out)
    table = pd.read_csv(folder / "ranking.csv")
    assert len(table) == 6
    assert table["minority_f1"].is_monotonic_decreasing
    assert set(table[table["trial"] < 2]["status"]) == {"complete"}
    for number in range(6):
        assert {"config.json", "epochs.jsonl", "last.pt", "best.pt", "validation.npz"} <= set(
            os.listdir(folder / "trials" / str(number))
        )
    asked = json.loads((folder / "study.json").read_text())
    assert asked["class_counts"]["train"][:3] == [3, 4, 3]
    assert asked["trials"] == 6
    assert not (folder / ".tune").exists()


def test_ranking_agrees_with_the_rows(study):
    folder, _ = study
    for _, ranked in pd.read_csv(folder / "ranking.csv").iterrows():
        lines = (folder / f"trials/{ranked['trial']}/epochs.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        scores = [row["minority_f1"] for row in rows]
        assert ranked["minority_f1"] == max(scores)
        assert ranked["best_epoch"] == scores.index(max(scores)) + 1
        assert ranked["epochs"] == len(rows)


def replay(trial_folder):
    command = [sys.executable, "-m", "trainable", "--replay", str(trial_folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_trial_from_a_reused_actor_replays_bit_for_bit_and_an_edited_digit_is_found(study):
    folder, _ = study
    # two slots and six trials: the last one ran in an actor that had served another
    status, err = replay(folder / "trials/5")
    assert status == 0, err
    assert "no difference" in err
    path = folder / "trials/5/epochs.jsonl"
    before = path.read_text()
    rows = [json.loads(line) for line in before.splitlines()]
    rows[-1]["val_loss"] += 1e-9
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        status, err = replay(folder / "trials/5")
    finally:
        path.write_text(before)
    assert status == 1
    assert f"epoch {len(rows)}: val_loss was" in err


def test_more_trials_extend_a_finished_study_and_other_settings_are_refused(study):
    folder, _ = study
    before = rows_of(folder)
    status, _, err = finished(search(folder.parent, "--trials", "7"))
    assert status == 0, err
    after = rows_of(folder)
    assert set(after) == set(range(7))
    assert all(after[number] == before[number] for number in before)
    status, _, err = finished(search(folder.parent, "--keep", "0.5", "--val-fraction", "0.3"))
    assert status == 2
    assert "another --keep: 0.03, now 0.5" in err
    assert "another --val-fraction: 0.2, now 0.3" in err
    assert "Traceback" not in err


def test_a_second_driver_is_refused_and_changes_nothing(study):
    folder, _ = study
    asked = (folder / "study.json").read_bytes()
    ledger = Ledger(folder)
    try:
        status, _, err = finished(search(folder.parent, "--trials", "9"))
    finally:
        ledger.close()
    assert status == 2
    assert "another process is running this study" in err
    assert (folder / "study.json").read_bytes() == asked


def test_an_interrupted_study_finishes_its_epochs_says_how_to_go_on_and_exits_130(tmp_path):
    process = search(tmp_path, "--trials", "6", start_new_session=True)
    while not list(tmp_path.glob("digits/trials/*/epochs.jsonl")):
        time.sleep(0.1)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    status, out, err = finished(process)
    assert status == 130, err
    assert "to go on: python -m study.search --data digits" in out
    counts = {number: text.count("\n") for number, text in rows_of(tmp_path / "digits").items()}
    status, _, err = finished(search(tmp_path, "--trials", "6"))
    assert status == 0, err
    after = rows_of(tmp_path / "digits")
    assert len(after) == 6
    assert all(after[number].count("\n") >= count for number, count in counts.items())


def test_more_gpus_than_there_are_is_refused_at_once_and_nothing_is_written(tmp_path):
    start = time.monotonic()
    status, _, err = finished(search(tmp_path / "results", "--gpus", "64"))
    assert time.monotonic() - start < 20
    assert status == 2
    assert re.search(r"--gpus 64 asks for more GPUs than there are: \d+ found", err)
    assert "Traceback" not in err
    assert not (tmp_path / "results").exists()


def test_all_mistakes_are_told_together(tmp_path):
    more = ["--trials", "0", "--gpus", "64", "--minority", "zebra", "--space", str(tmp_path / "none"), "--nonsense"]
    status, _, err = finished(search(tmp_path / "results", *more))
    assert status == 2
    for told in ("--trials must be a whole number", "--gpus 64", "zebra", "--space", "--nonsense: no such argument"):
        assert told in err
    assert "Traceback" not in err
    assert not (tmp_path / "results").exists()


def test_help_answers_in_under_a_second():
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "study.search", "--help"], check=True, capture_output=True)
        seconds.append(time.monotonic() - start)
    assert min(seconds) < 1


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc for processes left over")
def test_nothing_is_left_running(tmp_path):
    process = search(tmp_path, "--trials", "2", "--epochs", "1", start_new_session=True)
    status, _, err = finished(process)
    assert status == 0, err
    deadline = time.monotonic() + 15
    while left := session_pids(process.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
