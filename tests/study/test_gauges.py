"""A study's gauges, read where Prometheus would, and what Ray's dashboard calls its workers."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from study.execution.gauges import OF_TRIAL, TRIALS
from tests.conftest import DIGITS_STUDY

LINE = re.compile(r"ray_(study_\w+){(.*)} (\S+)")


def read(path):
    return json.loads(path.read_text())


def series(temporary):
    """{(gauge, trial or state): value} of what the node gives out now."""
    found = {}
    for path in Path(temporary).glob("ray/session_2*/prom_metrics_service_discovery.json"):
        for target in read(path)[0]["targets"]:
            text = urllib.request.urlopen(f"http://{target}/metrics", timeout=5).read().decode()
            for name, labels, value in LINE.findall(text):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', labels))
                if labels["study"] == "digits":
                    found[name, labels.get("trial", labels.get("state"))] = float(value)
    return found


@pytest.mark.slow
def test_gauges_are_of_the_trials_that_run_and_workers_are_called_by_study_and_trial(tmp_path, request):
    temporary = Path(f"/tmp/g{os.getpid()}")  # a short path, for Ray's sockets
    temporary.mkdir()
    request.addfinalizer(lambda: shutil.rmtree(temporary, ignore_errors=True))
    environment = os.environ | {"RAY_TMPDIR": str(temporary), "RAY_metrics_report_interval_ms": "1000",
                                "HOME": str(tmp_path)}  # fmt: skip
    command = [sys.executable, "-m", "study.search", *DIGITS_STUDY, "--image-size", "48", "--epochs", "4",
               "--trials", "5", "--scheduler", "none", "--results", str(tmp_path)]  # fmt: skip
    out = tmp_path / "out"
    with out.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.PIPE, text=True)
    seen, were_shown, gone, actors, jobs = set(), set(), set(), "", "[]"
    while process.poll() is None:
        time.sleep(0.5)
        try:
            now = series(temporary)
            seen |= {name for name, _ in now}
            shown = {label for name, label in now if name in OF_TRIAL}
            gone |= (were_shown & ended(tmp_path)) - shown
            were_shown |= shown
            if shown and not actors:
                actors, jobs = asked(tmp_path, "v0/actors?detail=1"), asked(tmp_path, "jobs/")
        except (OSError, ValueError):  # Ray comes up, or goes
            continue
    _, err = process.communicate()
    assert (process.returncode, err) == (0, ""), out.read_text()
    assert seen == {*OF_TRIAL, TRIALS}
    assert gone & {"0", "1", "2"}
    names = [actor["repr_name"] for actor in json.loads(actors)["data"]["result"]["result"]]
    assert "digits/trials/0 and later" in names
    assert [job["metadata"]["job_name"] for job in json.loads(jobs)] == ["digits"]


def asked(home, path):
    """What the dashboard answers: at the address that was printed, with the token that lies at home."""
    address = re.search(r"dashboard: (http://\S+)", (home / "out").read_text())[1]
    token = (home / ".ray/auth_token").read_text()
    request = urllib.request.Request(f"{address}/api/{path}", headers={"Authorization": f"Bearer {token}"})
    return urllib.request.urlopen(request, timeout=10).read().decode()


def ended(results):
    """The trials that have come to their end: the cut of their last checkpoint is there."""
    return {path.parent.name for path in results.glob("digits/trials/*/validation.npz")}
