"""python -m tests.kills: kills drivers and workers of real studies at random moments, resumes each, and checks
that nothing was lost, repeated or changed. tests/study/test_kills.py runs a short form.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests import studies
from trainable.worker import TRACE

SETTINGS = ["--data", "digits", "--image-size", "16", "--epochs", "3", "--seed", "3", "--precision", "float32"]
WORKER_NAMES = ("ray::ResourceTrainable", "ray::RayTrial")  # how Ray titles the process of a trial
START_UP_SECONDS = 9.0  # of a study, before its first epoch, about


@dataclasses.dataclass(frozen=True)
class Study:
    """A study under test: its folder's parent, its size, and how many trials run at a time."""

    results: Path
    num_trials: int
    one_slot: bool
    more: tuple[str, ...] = ()  # of the command's arguments

    @property
    def folder(self) -> Path:
        return self.results / "digits"

    @property
    def trace(self) -> Path:
        return self.results / "trace"

    @property
    def arguments(self) -> list[str]:
        threads = ["--cpus-per-trial", str(len(os.sched_getaffinity(0)))] if self.one_slot else []
        return [*SETTINGS, *self.more, "--trials", str(self.num_trials), *threads, "--results", str(self.results)]

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "study.search", *self.arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, TRACE: str(self.trace)},
        )  # fmt: skip

    def finish(self) -> None:
        """Runs the study, from wherever it is, to its end."""
        process = self.start()
        out, _ = process.communicate(timeout=600)
        assert process.returncode == 0, out

    def finish_here(self) -> None:
        """Runs the study in this process: nothing to be killed."""
        studies.finish(studies.begin(*self.arguments))

    def starts(self) -> list[str]:
        """A line "trial epoch" for each epoch that was started, in that order."""
        return self.trace.read_text().split("\n")[:-1] if self.trace.exists() else []

    def num_folders(self) -> int:
        """The trials that have a folder."""
        return len(list(self.folder.glob("trials/*")))

    def rows(self) -> dict[int, list[dict]]:
        """The rows on disk that are whole, of each trial."""
        found = {}
        for path in self.folder.glob("trials/*/epochs.jsonl"):
            text = path.read_text()
            found[int(path.parent.name)] = [json.loads(x) for x in text[: text.rfind("\n") + 1].splitlines()]
        return found

    def optuna_view(self) -> list[tuple]:
        """(state, value, params, intermediate values, attributes) of each trial, as Optuna reads them."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = JournalStorage(JournalFileBackend(str(self.folder / "study.journal")))
        return [
            (t.state.name, t.value, t.params, t.intermediate_values, t.user_attrs)
            for t in optuna.load_study(study_name="study", storage=storage).trials
        ]

    def ended(self) -> dict[int, tuple]:
        if not (self.folder / "study.journal").exists():
            return {}
        try:
            view = self.optuna_view()
        except KeyError:  # killed before the study's own line
            return {}
        return {number: trial for number, trial in enumerate(view) if trial[0] != "RUNNING"}


def without_seconds(rows: dict[int, list[dict]]) -> dict[int, list[dict]]:
    return {n: [{k: v for k, v in r.items() if not k.endswith("_seconds")} for r in found] for n, found in rows.items()}


def wait_for_an_epoch(study: Study, process: subprocess.Popen, rng: random.Random) -> None:
    """Waits for a random moment, counted in epochs: however slow the machine is, some are left to do then.

    A trial is in its second epoch or a later one, so that it would be noticed if it began anew.
    """
    known = len(study.starts())
    num_awaited = known + rng.randint(1, max(1, (2 * study.num_trials - known) // 2))
    deadline = time.monotonic() + 600
    while process.poll() is None:
        assert time.monotonic() < deadline, "the study does not get on"
        starts = study.starts()
        if len(starts) >= num_awaited and not starts[-1].endswith(" 1"):
            break
        time.sleep(0.05)
    time.sleep(rng.uniform(0, 0.3))


def kill_driver(study: Study, rng: random.Random) -> bool:
    """Starts the study and kills its driver, one time in four before the first epoch; False if it had ended by then."""
    process = study.start()
    if rng.random() < 0.25:
        time.sleep(rng.uniform(1.0, START_UP_SECONDS))
    else:
        wait_for_an_epoch(study, process, rng)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until_gone(process.pid)
    return True


def wait_for_a_handover(study: Study, process: subprocess.Popen) -> None:
    """Waits until a worker that has trained is about to be given another trial."""
    known = len(study.starts())
    deadline = time.monotonic() + 600
    while process.poll() is None and len(study.starts()) == known:
        assert time.monotonic() < deadline, "the study does not get on"
        time.sleep(0.05)
    num_folders = study.num_folders()
    while process.poll() is None and study.num_folders() == num_folders:
        assert time.monotonic() < deadline, "the study does not get on"
        time.sleep(0.001)


def kill_worker(study: Study, rng: random.Random) -> bool:
    """Starts the study, kills a worker, and lets it run to its end; False if there was none to kill.

    One time in three it is killed, and all others with it, as a trial is handed to it: Tune itself would not try such
    a trial again.
    """
    process = study.start()
    at_handover = rng.random() < 1 / 3
    if at_handover:
        wait_for_a_handover(study, process)
    else:
        wait_for_an_epoch(study, process, rng)
    workers = _workers(process.pid)
    for worker in workers if at_handover else rng.sample(workers, min(1, len(workers))):
        os.kill(worker, signal.SIGKILL)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return bool(workers)


def check(study: Study, before: dict[int, list[dict]], ended: dict[int, tuple], num_kills: int) -> None:
    """What must hold of a study that was killed in ``num_kills`` runs with epochs and has now run to its end."""
    rows, view = study.rows(), study.optuna_view()
    assert len(view) == study.num_trials, "trials were lost or are there twice"
    assert sorted(rows) == list(range(study.num_trials)), f"trials without a row: {_odd(view)}"
    assert all(state in ("COMPLETE", "PRUNED") for state, *_ in view), f"trials failed or run on: {_odd(view)}"
    for number, trial in ended.items():
        assert view[number] == trial, f"trial {number} had ended and has changed"
    for number, known in before.items():
        assert rows[number][: len(known)] == known, f"rows of trial {number} were lost or trained again"
    for number, (_, _, _, values, _) in enumerate(view):
        assert values == {row["epoch"]: row["best_minority_f1"] for row in rows[number]}
    starts = study.starts()
    again = len(starts) - len(set(starts))
    num_slots = 1 if study.one_slot else len(os.sched_getaffinity(0))
    assert again <= num_kills * num_slots, f"{again} epochs were started again after {num_kills} kills"
    assert set(starts) == {f"{number} {row['epoch']}" for number, found in rows.items() for row in found}


def _odd(view: list[tuple]) -> list[tuple]:
    """Number, state and attributes of the trials that came to no end of their own."""
    return [(n, state, attrs) for n, (state, _, _, _, attrs) in enumerate(view) if state not in ("COMPLETE", "PRUNED")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drivers", type=int, default=25, help="kills of the driver")
    parser.add_argument("--workers", type=int, default=10, help="kills of a worker")
    parser.add_argument("--per-study", type=int, default=3, help="kills of the driver before a study may end")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(run(arguments.drivers, arguments.workers, arguments.per_study, arguments.trials, arguments.seed))


def run(
    num_drivers: int, num_workers: int, per_study: int, num_trials: int, seed: int, more: tuple[str, ...] = ()
) -> str:
    """Kills and checks; a line that says what was done. ``more`` is what the studies are asked beyond ``SETTINGS``."""
    rng = random.Random(seed)
    adopt_orphans()
    with tempfile.TemporaryDirectory() as scratch:
        plain = Study(Path(scratch) / "plain", num_trials, True, more)
        plain.results.mkdir()
        plain.finish_here()
        killed = num_studies = done = 0
        while killed < num_drivers:
            num_studies += 1
            study = Study(Path(scratch) / f"driver{num_studies}", num_trials, num_studies % 2 == 1, more)
            study.results.mkdir()
            kills, before, ended = 0, {}, {}
            in_epochs = 0  # the kills that can have cost one
            while kills < min(per_study, num_drivers - killed):
                num_starts = len(study.starts())
                if not kill_driver(study, rng):
                    break
                kills += 1
                in_epochs += len(study.starts()) > num_starts
                _check_monotonic(study, before, ended)
                before, ended = study.rows(), study.ended()
            worker_killed = done < num_workers and kill_worker(study, rng)
            if not worker_killed:
                study.finish()
            check(study, before, ended, in_epochs + worker_killed)
            if study.one_slot:
                _check_equal(study, plain)
            killed += kills
            done += worker_killed
            what = f"driver killed {kills} times, worker {worker_killed:d} times"
            print(f"study {num_studies}: {what}, one slot {study.one_slot}: whole", flush=True)
        number = 0
        while done < num_workers:
            number += 1
            study = Study(Path(scratch) / f"worker{number}", num_trials, number % 2 == 0, more)
            study.results.mkdir()
            done += kill_worker(study, rng)
            check(study, {}, {}, 1)
            if study.one_slot:
                _check_equal(study, plain)
            print(f"study {number}: worker killed, one slot {study.one_slot}: whole", flush=True)
    return (
        f"{killed} kills of a driver in {num_studies} studies, {done} of a worker: nothing lost, nothing trained twice"
    )


def _check_monotonic(study: Study, before: dict[int, list[dict]], ended: dict[int, tuple]) -> None:
    """After another kill all that was there is still there."""
    rows, now = study.rows(), study.ended()
    assert all(rows[number][: len(known)] == known for number, known in before.items())
    assert all(now[number] == trial for number, trial in ended.items())


def _check_equal(study: Study, plain: Study) -> None:
    assert study.optuna_view() == plain.optuna_view(), "Optuna sees another study than without kills"
    assert without_seconds(study.rows()) == without_seconds(plain.rows()), "other rows than without kills"


def adopt_orphans() -> None:
    """What a killed driver leaves behind becomes this process's child, not that of process 1, as on many desktops."""
    PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def session_pids(session: int) -> list[int]:
    stats = {int(pid): _stat(int(pid)) for pid in os.listdir("/proc") if pid.isdigit()}
    # a process that has ended stays listed, as a Z, until its parent asks for it
    return [pid for pid, stat in stats.items() if stat[3:4] == [str(session)] and stat[0] != "Z"]


def _workers(session: int) -> list[int]:
    return [pid for pid in session_pids(session) if _title(pid).startswith(WORKER_NAMES)]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name; the fourth is the session."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_until_gone(session: int) -> None:
    """A worker ends by itself, a few seconds after its driver; agents of Ray may stay, and are ended here."""
    deadline = time.monotonic() + 60
    while _workers(session):
        assert time.monotonic() < deadline, "a worker outlives its driver"
        time.sleep(0.2)
    for pid in session_pids(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
