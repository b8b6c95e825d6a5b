"""Real studies in real processes, killed for real: small digits at 16×16."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from study import search
from study.record.ledger import Ledger
from tests import studies
from tests.conftest import DIGITS_STUDY
from tests.kills import session_pids
from trainable.__main__ import main as trainable


def launch(results, *more, **options):
    command = [sys.executable, "-m", "study.search", *DIGITS_STUDY, "--results", str(results), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finished(process, timeout=180):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def refused(capsys, results, *more):
    """What the command says before anything starts, in this process."""
    with pytest.raises(SystemExit) as stop:
        search.main([*DIGITS_STUDY, "--results", str(results), *more])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def rows_of(folder):
    return {int(path.parent.name): path.read_text() for path in folder.glob("trials/*/epochs.jsonl")}


def test_a_study_prints_counts_and_ranking_and_writes_its_files(digits_study):
    folder, out, _ = digits_study
    assert "cut off" in out
    assert re.search(r"beyond course, shuffled \(0\.\d{4}\): [+-]0\.\d{4} \(search score, not confirmed\)", out)
    table = pd.read_csv(folder / "ranking.csv")
    assert len(table) == 6
    assert table["minority_f1"].is_monotonic_decreasing
    assert set(table[table["trial"] < 2]["status"]) == {"complete"}
    for number in range(6):
        # what a trial goes on from is kept of those alone of which more epochs may be asked
        last = {"last.pt"} if set(table[table["trial"] == number]["reason"]) == {"epochs"} else set()
        kept = {"config.json", "epochs.jsonl", "best.pt", "validation.npz"} | last
        assert set(os.listdir(folder / "trials" / str(number))) == kept
    assert set(table["reason"]) > {"epochs"}
    asked = json.loads((folder / "study.json").read_text())
    assert asked["class_counts"]["train"][:3] == [3, 4, 3]
    assert asked["trials"] == 6
    assert not (folder / ".tune").exists()


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc for processes left over")
def test_nothing_is_left_running(digits_study):
    assert digits_study.left_running == []


def test_ranking_agrees_with_the_rows(digits_study):
    folder = digits_study.folder
    for _, ranked in pd.read_csv(folder / "ranking.csv").iterrows():
        lines = (folder / f"trials/{ranked['trial']}/epochs.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        scores = [row["minority_f1"] for row in rows]
        assert ranked["minority_f1"] == max(scores)
        assert ranked["best_epoch"] == scores.index(max(scores)) + 1
        assert ranked["epochs"] == len(rows)


def test_a_trial_from_a_reused_actor_replays_bit_for_bit_and_an_edited_digit_is_found(digits_study, tmp_path, capsys):
    # two slots and six trials: the last one ran in an actor that had served another
    assert trainable(["--replay", str(digits_study.folder / "trials/5")]) == 0
    assert "no difference" in capsys.readouterr().err
    folder = shutil.copytree(digits_study.folder, tmp_path / "digits", ignore=shutil.ignore_patterns("*.pt"))
    path = folder / "trials/5/epochs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[-1]["val_loss"] += 1e-9
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert trainable(["--replay", str(folder / "trials/5")]) == 1
    assert f"epoch {len(rows)}: val_loss was" in capsys.readouterr().err


def test_more_trials_extend_a_finished_study_and_an_interruption_is_told_and_costs_nothing(digits_study, tmp_path):
    folder = shutil.copytree(digits_study.folder, tmp_path / "digits")
    before = rows_of(folder)
    # Ray ends nobody because of memory: with this threshold it would end every trial, whoever takes the memory
    env = os.environ | {"RAY_memory_usage_threshold": "0.01"}
    process = launch(tmp_path, "--trials", "10", "--nice", "3", start_new_session=True, env=env)
    while len(rows_of(folder)) == 6:
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    # the driver is as nice as ever, and the trials by so much more (Ray's own would be 15)
    niceness = {pid: os.getpriority(os.PRIO_PROCESS, pid) for pid in session_pids(process.pid)}
    assert niceness[process.pid] == os.getpriority(os.PRIO_PROCESS, 0)
    assert max(niceness.values()) == niceness[process.pid] + 3
    # as timeout and a cluster's scheduler do it: to the process, and to all that it has started
    process.send_signal(signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    status, out, err = finished(process)
    assert (status, err) == (130, "")
    assert "to go on: python -m study.search --data digits" in out
    paused = rows_of(folder)
    studies.finish(studies.begin(*DIGITS_STUDY, "--trials", "10", "--results", tmp_path))
    after = rows_of(folder)
    assert set(after) == set(range(10))
    assert all(after[number] == text for number, text in before.items())
    assert all(after[number].startswith(text) for number, text in paused.items())


def test_a_terminal_that_is_closed_while_ray_starts_pauses_the_study(tmp_path):
    process = launch(tmp_path, "--trials", "2", start_new_session=True)
    while len(session_pids(process.pid)) == 1:  # Ray's first server is not there yet
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    os.killpg(process.pid, signal.SIGHUP)
    status, out, err = finished(process)
    assert status == 130, err
    assert "Traceback" not in err
    assert "to go on: python -m study.search --data digits" in out + err
    assert not (tmp_path / "digits").exists()


def test_other_settings_are_refused(digits_study, capsys):
    asked = (digits_study.folder / "study.json").read_bytes()
    err = refused(capsys, digits_study.folder.parent, "--keep", "0.5", "--val-fraction", "0.3")
    assert "was started with --keep 0.03, now 0.5" in err
    assert "was started with --val-fraction 0.2, now 0.3" in err
    assert (digits_study.folder / "study.json").read_bytes() == asked


def test_a_second_driver_is_refused_and_changes_nothing(digits_study, capsys):
    folder = digits_study.folder
    asked = (folder / "study.json").read_bytes()
    ledger = Ledger(folder)
    try:
        err = refused(capsys, folder.parent, "--trials", "9")
    finally:
        ledger.close()
    assert "another process is running this study" in err
    assert (folder / "study.json").read_bytes() == asked


def test_all_mistakes_are_told_together(tmp_path, capsys):
    more = ["--trials", "0", "--gpus", "64", "--minority", "zebra", "--space", str(tmp_path / "none"), "--nonsense"]
    err = refused(capsys, tmp_path / "results", *more)
    for told in ("--trials must be a whole number", "--gpus 64", "zebra", "--space", "--nonsense: no such argument"):
        assert told in err
    assert not (tmp_path / "results").exists()


def test_help_answers_in_under_a_second():
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "study.search", "--help"], check=True, capture_output=True)
        seconds.append(time.monotonic() - start)
    assert min(seconds) < 1


def test_a_replay_goes_on_without_a_reader_because_its_verdict_is_its_status(digits_study):
    command = f"{sys.executable} -m trainable --replay {digits_study.folder / 'trials/0'} >/dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0
    assert "standard output cannot be written (No space left on device); going on without it\n" in done.stderr
    assert "2 epochs, no difference" in done.stderr
