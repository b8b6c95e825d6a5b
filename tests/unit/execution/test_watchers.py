import json
import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from study.execution import gauges, watchers
from study.execution.runner import Pause, Runner
from study.record.ledger import Ledger
from study.record.trial import Trial
from study.space import parameters as spaces
from study.strategy.scheduler import Never
from study.strategy.searcher import Searcher
from trainable.config import TrialConfig
from trainable.report import Report

ROOT = Path(__file__).parents[3]


def row(epoch, score):
    return {"epoch": epoch, "minority_f1": score, "best_minority_f1": score, "num_train_images": 600,
            "train_seconds": 2.0, "val_loss": 1.0}  # fmt: skip


class Seen:
    def __init__(self):
        self.entries, self.is_closed = [], False

    def on_change(self, trial):
        self.entries.append((trial.number, trial.status, len(trial.best)))

    def idle(self):
        self.entries.append("idle")

    def close(self):
        self.is_closed = True


@contextmanager
def running(makers, say=lambda text: None):
    """A runner of a study in memory, and those who watch it."""
    ledger = Ledger(None)
    source = Searcher(ledger, spaces.load(spaces.COURSE_SPACE), TrialConfig(epochs=9), "random", 10)
    runner = Runner(ledger, source, Never(), Pause(None))
    with watchers.watched(runner, makers, say):
        yield runner


def test_a_watcher_sees_the_trials_that_are_there_and_each_entry_as_it_was_then_in_order():
    seen = Seen()
    with running({"x": lambda: seen}) as runner:
        runner.next()
        runner.report(0, Report(1, row(1, 0.5)))
        runner.report(0, Report(2, row(2, 0.6), reason="epochs"))
        late = Seen()
        with watchers.watched(runner, {"late": lambda: late}, print):
            runner.next()
    assert seen.entries == [(0, "running", 0), (0, "running", 1), (0, "complete", 2), (1, "running", 0)]
    assert late.entries == [(0, "complete", 2), (1, "running", 0)]
    assert seen.is_closed


class Fails(Seen):
    def on_change(self, trial):
        super().on_change(trial)
        raise ConnectionError("no such\nserver")


def no_such_package():
    raise ModuleNotFoundError("No module named 'mlflow'")


def test_a_watcher_that_fails_is_told_once_and_dropped_and_the_others_go_on():
    fails, seen, said = Fails(), Seen(), []
    with running({"one": lambda: fails, "two": lambda: seen, "three": no_such_package}, said.append) as runner:
        runner.next()
        runner.next()
    assert len(fails.entries) == 1
    assert len(seen.entries) == 2
    assert sorted(said) == [
        "one: ConnectionError: no such server; the study goes on without it",
        "three: ModuleNotFoundError: No module named 'mlflow'; the study goes on without it",
    ]


def test_a_watcher_that_hangs_holds_up_no_entry_and_is_left_behind_at_the_end(monkeypatch):
    monkeypatch.setattr(watchers, "PATIENCE_SECONDS", 0.1)
    free, said = threading.Event(), []
    with running({"slow": lambda: free.wait(60)}, said.append) as runner:
        for _ in range(5):
            runner.next()
    free.set()
    assert said == ["slow: has not taken all within 0 s of the end, and is left behind"]


class FakeGauge:
    """As ray.util.metrics.Gauge: the last value of each set of tags."""

    made: dict = {}  # noqa: RUF012

    def __init__(self, name, description, tag_keys):
        assert description
        self.tag_keys, self.series = tag_keys, {}
        self.made[name] = self

    def set(self, value, tags):
        assert set(tags) == set(self.tag_keys)
        self.series[tuple(tags.values())] = value


@pytest.fixture
def exported(monkeypatch):
    monkeypatch.setattr(gauges, "Gauge", FakeGauge)
    monkeypatch.setattr(FakeGauge, "made", {})
    return FakeGauge.made


def test_gauges_are_set_again_while_a_trial_runs_and_no_more_once_it_has_ended(exported, monkeypatch):
    """Ray gives out what was set lately, and forgets the rest."""
    monkeypatch.setattr(watchers, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(gauges, "MIN_SECONDS", 0.0)
    with running({"gauges": lambda: gauges.Gauges("digits")}) as runner:
        runner.next()
        runner.next()
        runner.report(0, Report(1, row(1, 0.5), gpu_bytes=7))
        runner.report(1, Report(1, row(1, 0.25)))
        runner.report(1, Report(2, row(2, 0.75), reason="epochs"))
        time.sleep(0.3)
        for gauge in exported.values():
            gauge.series.clear()
        time.sleep(0.3)
    values = {name: gauge.series for name, gauge in exported.items() if name in gauges.OF_TRIAL}
    assert {name: series[("digits", "0")] for name, series in values.items()} == {
        "study_trial_epoch": 1, "study_trial_score": 0.5, "study_trial_best": 0.5,
        "study_trial_images_per_second": 300.0, "study_trial_gpu_memory_bytes": 7,
    }  # fmt: skip
    assert all(len(series) == 1 for series in values.values())
    states = {state: number for (_, state), number in exported["study_trials"].series.items()}
    assert states == {"running": 1, "complete": 1, "stopped": 0, "failed": 0}


def test_the_score_of_a_gauge_is_the_one_by_which_the_trial_is_judged(exported):
    watcher = gauges.Gauges("digits")
    scores = row(1, 0.5) | {"macro_f1": 0.75}
    config = TrialConfig(objective="macro_f1")
    watcher.on_change(Trial(3, config, "searched", "trials/3", best=[0.75], row=scores))
    assert exported["study_trial_score"].series == {("digits", "3"): 0.75}


def test_every_query_of_the_grafana_dashboard_is_of_gauges_that_are_given_out():
    dashboard = json.loads((ROOT / "cluster/grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [found["definition"] for found in dashboard["templating"]["list"] if found["type"] == "query"]
    asked = {name for query in queries for name in re.findall(r"ray_\w+", query)}
    given = {f"ray_{name}" for name in (*gauges.OF_TRIAL, gauges.TRIALS)}
    assert asked == given
    labels = {label for panel in dashboard["panels"] for label in re.findall(r"{{(\w+)}}", str(panel["targets"]))}
    assert labels == {"study", "trial", "state"}
