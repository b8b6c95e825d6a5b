"""The tools in which people follow a study: their own servers, started on one that runs, asked what they show.

They are in the dependency group "live"; where it is not installed, this file is skipped.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from study.execution import watchers
from study.execution.runner import Pause, Runner
from study.record.ledger import Ledger
from study.space import parameters as spaces
from study.strategy.scheduler import Never
from study.strategy.searcher import Searcher
from tests import studies
from trainable.config import TrialConfig
from trainable.report import Report


@pytest.fixture
def study(tmp_path):
    """A folder for a study called digits."""
    folder = tmp_path / "digits"
    folder.mkdir()
    return folder


@contextmanager
def running(folder, *names):
    """A runner of a study that trains nothing; what it was told of failures must be nothing."""
    ledger = Ledger(folder)
    source = Searcher(ledger, spaces.load(spaces.COURSE_SPACE), TrialConfig(epochs=9), "random", 10)
    runner, said = Runner(ledger, source, Never(), Pause(None)), []
    makers = watchers.makers("digits", folder, names)
    del makers["gauges"]
    with watchers.watched(runner, makers, said.append):
        yield runner
    assert said == []
    ledger.close()


@contextmanager
def served(*command, wait_for="/"):
    """The server's address; {port} in the command is a port of its own, on this machine alone."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    filled = [sys.executable, "-m", *(text.format(port=port) for text in map(str, command))]
    process = subprocess.Popen(filled, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
        while True:
            try:
                get(address + wait_for)
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def get(address, body=None):
    headers = {"Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=60) as answer:
        return answer.read().decode()


def soon(condition, seconds=30):
    """What the condition gives, once it is true: a tool reads its files every few seconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def test_tensorboard_shows_curves_and_recipes_while_trials_run_and_all_of_them_after_a_pause(study):
    pytest.importorskip("tensorboard")
    flags = ["--logdir", study / "tensorboard", "--host", "127.0.0.1", "--port", "{port}", "--reload_interval", "1"]
    with running(study, "tensorboard") as runner:
        runner.next()
        with served("tensorboard.main", *flags) as address:
            asked = {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN"], "startIndex": 0, "sliceSize": 10,
                     "colParams": [{"hparam": "dropout"}]}  # fmt: skip

            def sessions():
                return json.loads(get(f"{address}/data/plugin/hparams/session_groups", asked)).get("sessionGroups")

            before = soon(sessions)  # no epoch has ended, let alone a trial
            assert before[0]["hparams"]["dropout"] == runner.ledger.trials[0].config.dropout
            runner.report(0, Report(1, studies.row(1, 0.5)))
            runner.report(0, Report(2, studies.row(2, 0.75)))
            tags = soon(lambda: json.loads(get(f"{address}/data/plugin/scalars/tags")).get("0"))
            assert {"minority_f1", "val_loss", "train_seconds"} <= tags.keys()
            curve = f"{address}/data/plugin/scalars/scalars?tag=minority_f1&run=0"
            soon(lambda: [point[1:] for point in json.loads(get(curve))] == [[1, 0.5], [2, 0.75]])
    with running(study, "tensorboard") as runner:  # the trial is written anew, all of it once
        runner.next()
        runner.report(0, Report(3, studies.row(3, 0.75), reason="epochs"))
    files = list((study / "tensorboard/0").glob("events*"))
    assert len(files) == 1
    assert (study / "tensorboard/0/whole").exists()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(study / "tensorboard/0"))
    read.Reload()
    assert [(point.step, point.value) for point in read.Scalars("minority_f1")] == [(1, 0.5), (2, 0.75), (3, 0.75)]


@pytest.mark.slow
def test_mlflow_has_an_experiment_for_the_study_and_a_run_for_each_trial_that_goes_on_after_a_pause(
    study, tmp_path, monkeypatch
):
    mlflow = pytest.importorskip("mlflow")
    with served("mlflow", "server", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1", "--backend-store-uri",
                f"sqlite:///{tmp_path}/mlflow.db", wait_for="/health") as address:  # fmt: skip
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with running(study, "mlflow") as runner:
            for _ in range(2):
                runner.next()
            runner.report(0, Report(1, studies.row(1, 0.5)))
            runner.report(1, Report(1, studies.row(1, 0.25)))
            client = mlflow.MlflowClient(address)

            def runs():
                experiment = client.get_experiment_by_name("digits")
                return experiment and {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}

            found = soon(lambda: (r := runs()) and len(r) == 2 and r["trial 1"].data.metrics and r, seconds=240)
            assert found["trial 0"].info.status == "RUNNING"
            assert found["trial 0"].data.params["dropout"] == str(runner.ledger.trials[0].config.dropout)
            assert found["trial 0"].data.metrics["minority_f1"] == 0.5
        with running(study, "mlflow") as runner:
            for _ in range(2):
                runner.next()
            runner.report(0, Report(2, studies.row(2, 0.75), reason="epochs"))
            runner.fail(1, "no more")
        found = runs()
        assert {name: run.info.status for name, run in found.items()} == {"trial 0": "FINISHED", "trial 1": "FAILED"}
        history = client.get_metric_history(found["trial 0"].info.run_id, "minority_f1")
        assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.75)]
        assert found["trial 1"].data.tags["reason"] == "no more"


def test_optuna_dashboard_shows_the_trials_of_a_running_study_and_may_write_to_its_journal(study):
    pytest.importorskip("optuna_dashboard")
    with running(study) as runner:
        runner.next()
        runner.report(0, Report(1, studies.row(1, 0.5)))
        journal = study / "study.journal"
        with served("optuna_dashboard._cli", journal, "--host", "127.0.0.1", "--port", "{port}") as address:
            listed = json.loads(get(f"{address}/api/studies"))["study_summaries"]
            assert [found["study_name"] for found in listed] == ["study"]
            shown = json.loads(get(f"{address}/api/studies/{listed[0]['study_id']}?after=0"))["trials"]
            assert [trial["intermediate_values"] for trial in shown] == [[{"step": 1, "value": 0.5}]]
            note = {"body": "looks good", "version": 1}
            request = urllib.request.Request(
                f"{address}/api/studies/{listed[0]['study_id']}/{shown[0]['trial_id']}/note",
                json.dumps(note).encode(), {"Content-Type": "application/json"}, method="PUT",
            )  # fmt: skip
            assert urllib.request.urlopen(request, timeout=30).status < 300
            start = time.monotonic()
            runner.report(0, Report(2, studies.row(2, 0.75), reason="epochs"))
            assert time.monotonic() - start < 1 + os.getloadavg()[0]
    assert [trial.status for trial in runner.ledger.trials.values()] == ["complete"]
    assert "looks good" in journal.read_text()
