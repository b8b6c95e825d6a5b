"""Ray that cannot be started or that dies, and studies that end before their trials do: real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.record.ledger import Ledger
from tests import studies
from tests.conftest import DIGITS_STUDY
from tests.kills import session_pids, wait_until_gone

LONG = "/tmp/" + "x" * 64  # 69 characters
STUDY = [sys.executable, "-m", "study.search", *DIGITS_STUDY]
ONE_SLOT = ["--cpus-per-trial", str(len(os.sched_getaffinity(0)))]


def launch(results, *more, **options):
    return subprocess.Popen([*STUDY, "--results", str(results), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, start_new_session=True, **options)  # fmt: skip


def rows_of(folder):
    return {path.parent.name: path.read_text() for path in folder.glob("trials/*/epochs.jsonl")}


def finished_here(results, num_trials, *arguments):
    """The rows once the study has gone on to its end, in this process and without Ray."""
    studies.finish(studies.begin(*DIGITS_STUDY, *arguments, "--trials", num_trials, "--results", results))
    return rows_of(results / "digits")


def once(condition, process):
    """Waits until something is so while the process runs."""
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def server(process, name):
    """The pid of a server of Ray's that the process has started; None as long as there is none."""
    for pid in session_pids(process.pid):
        program = Path(f"/proc/{pid}/cmdline")
        if program.exists() and program.read_bytes().split(b"\0")[0].endswith(name.encode()):
            return pid
    return None


def trials_of(folder):
    ledger = Ledger(folder)
    ledger.close()
    return [(trial.status, len(trial.best)) for trial in ledger.trials.values()]


def test_what_ray_needs_and_has_not_is_told_before_anything_starts(tmp_path):
    command = f"ulimit -n 64; exec {' '.join(STUDY)} --results {tmp_path / 'results'}"
    without = os.environ | {"RAY_TMPDIR": LONG}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=without)
    assert (done.returncode, done.stdout) == (2, "")
    files, folder = done.stderr.splitlines()
    assert files == "study.search: only 64 files may be open at once, and Ray needs 256 (ulimit -n)"
    assert folder.startswith(f"study.search: {LONG}: Ray needs a temporary folder that can be written to")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("environment", [{"RAY_JOB_CONFIG_JSON_ENV_VAR": "{"}, {"RAY_TMPDIR": "/tmp/é"}])
def test_whatever_else_ray_refuses_is_a_sentence_and_nothing_is_written(tmp_path, environment):
    Path("/tmp/é").mkdir(exist_ok=True)
    process = launch(tmp_path / "results", "--trials", "2", env=os.environ | environment)
    _, err = process.communicate(timeout=240)
    if process.returncode == 0:  # this Ray takes it
        return
    assert process.returncode == 1, err
    assert err.startswith("study.search: Ray cannot be started (")
    assert err.endswith("); nothing has been changed\n")
    assert err.count("\n") == 1
    assert not (tmp_path / "results").exists()
    assert session_pids(process.pid) == []


def kill_gcs(process, folder, aside):
    os.kill(server(process, "gcs_server"), signal.SIGKILL)


def kill_raylet(process, folder, aside):
    os.kill(server(process, "raylet"), signal.SIGKILL)


def move(process, folder, aside):
    folder.rename(aside)


def test_a_server_of_rays_that_dies_or_a_study_that_is_moved_is_told_and_the_same_command_goes_on(tmp_path):
    """One blow after the other to one study, each as soon as an epoch is there that was not before.

    Tune makes a study's folder anew in the place of one that is gone; its parts are tests/trial/test_gone.py's.
    """
    folder, aside = tmp_path / "digits", tmp_path / "aside"
    arguments = ["--trials", "60", *ONE_SLOT]  # so many that some are left, however late a blow is noticed
    known = {}
    for blow in (kill_gcs, kill_raylet, move):
        process = launch(tmp_path, *arguments)
        once(lambda: sum(map(len, rows_of(folder).values())) > sum(map(len, known.values())), process)  # noqa: B023
        start = time.monotonic()
        blow(process, folder, aside)
        _, err = process.communicate(timeout=240)
        assert process.returncode == 1, err
        assert err.count("\n") == 1
        if aside.exists():
            back = "once it is back in its place, the same command goes on"
            assert err == f"study.search: {folder}: was deleted or moved while the study ran; {back}\n"
            assert not folder.exists()
            aside.rename(folder)
        else:
            assert time.monotonic() - start < 30
            assert err.startswith("study.search: Ray has ended: its server at ")
            assert err.endswith("; all epochs that were finished are kept, and the same command goes on\n")
        rows = rows_of(folder)
        assert all(rows[number].startswith(text) for number, text in known.items())
        known = rows
        wait_until_gone(process.pid)
    rows = finished_here(tmp_path, len(known) + 1, *ONE_SLOT)
    assert all(rows[number].startswith(text) for number, text in known.items())
    statuses = [status for status, _ in trials_of(folder)]
    assert len(statuses) == len(known) + 1
    assert set(statuses) <= {"complete", "stopped"}


def test_a_time_budget_ends_an_epoch_midway_and_the_trial_goes_on_from_the_one_before(tmp_path, monkeypatch):
    """Every epoch of all trials is begun once, but for the one that the end of a budget has cut off."""
    folder, trace = tmp_path / "digits", tmp_path / "trace"
    monkeypatch.setenv("STUDY_TRACE", str(trace))
    arguments = ["--scheduler", "none", *ONE_SLOT]
    budget, num_paused = 20, 0  # in which Ray starts, too, which takes longer on a busy machine
    while not any(rows_of(folder).values()):
        process = launch(tmp_path, *arguments, "--trials", "60", "--time-budget", str(budget))
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "")
        assert "the time budget is spent; epochs that were running are given up, " in out
        assert "paused; to go on: python -m study.search " in out
        budget, num_paused = 2 * budget, num_paused + 1
    known = rows_of(folder)
    rows = finished_here(tmp_path, len(known) + 1, *arguments)
    assert all(rows[number].startswith(text) for number, text in known.items())
    assert trials_of(folder) == len(rows) * [("complete", 2)]
    starts = trace.read_text().split("\n")[:-1]
    assert len(starts) - len(set(starts)) <= num_paused


def test_an_epoch_that_is_longer_than_the_time_budget_is_not_waited_for(tmp_path):
    trace, budget = tmp_path / "trace", 20
    more = ["--image-size", "192", "--set", "batch_size=2", "--trials", "2", *ONE_SLOT]
    while not trace.exists():  # on a busy machine Ray alone may take as long
        start = time.monotonic()
        process = launch(tmp_path, *more, "--time-budget", str(budget), env=os.environ | {"STUDY_TRACE": str(trace)})
        out, err = process.communicate(timeout=400)
        assert (process.returncode, err) == (0, "")
        assert "epochs that were running are given up, no other one was finished in it; paused; to go on: " in out
        assert budget < time.monotonic() - start < budget + 60  # Ray starts and ends in it, too
        assert not any(rows_of(tmp_path / "digits").values())
        budget *= 2


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs the right to become somebody")
def test_somebody_whom_the_machine_does_not_know_and_who_has_no_home_can_run_a_study(tmp_path):
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o777)
    somebody = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
    rights = "+dac_override,+dac_read_search"  # Python itself may lie where nobody else may go
    somebody += [f"--inh-caps={rights}", f"--ambient-caps={rights}"]
    without = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run([*somebody, *STUDY, "--help"], capture_output=True, text=True, env=without)
    assert (done.returncode, done.stderr) == (0, "")
    more = ["--cache-dir", str(tmp_path / "cache"), "--results", str(tmp_path / "results"), "--trials", "2"]
    done = subprocess.run([*somebody, *STUDY, *more], capture_output=True, text=True, env=without, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ray get-auth-token" not in done.stdout
    assert trials_of(tmp_path / "results/digits") == [("complete", 2)] * 2
