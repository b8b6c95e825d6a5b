import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_as_many_workers_are_started_as_there_are_slots_though_trials_are_shorter_than_their_start():
    """Tune by itself starts one for nearly each of these trials: it ends such as are starting, and such as are free."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # Ray's sockets need a short path
        command = [sys.executable, "-m", "benchmarks.slots", "60", "6", "0.2"]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env={**os.environ, "RAY_TMPDIR": folder})
        logs = list(Path(folder).glob("ray/session_2*/logs/worker-*.out"))
    assert len(logs) == 6
