import pytest

from study.execution import tune
from study.execution.runner import Pause, Runner
from study.record.ledger import Ledger
from study.space import parameters as spaces
from study.strategy.scheduler import Never
from study.strategy.searcher import Searcher
from trainable.config import TrialConfig
from trainable.report import Report


@pytest.mark.parametrize("fails_at", ["start", "result", "end"])
def test_what_a_hook_of_the_run_raises_is_kept_and_ends_the_run(tmp_path, fails_at):
    """As Tune does it: what a stop's hook raises makes it call that hook again, for a trial that is gone."""
    calls = []

    def on_change(trial):
        calls.append(trial.number)
        if len(calls) > ["start", "result", "end"].index(fails_at):
            raise UnicodeEncodeError("ascii", "ü", 0, 1, "no such letter")

    ledger = Ledger(tmp_path)
    source = Searcher(ledger, spaces.load(spaces.COURSE_SPACE), TrialConfig(epochs=3), "random", 100)
    session = tune._Session(Runner(ledger, source, Never(), Pause(None), on_change), lambda: 1)
    searcher, scheduler = tune._TuneSearcher(session), tune._TuneScheduler(session)
    row = {"epoch": 1, "best_minority_f1": 0.5}
    result = {"report": Report(1, row), "training_iteration": 1, "done": False}
    tune_trial = type("Trial", (), {"trial_id": "7ab7b962"})()
    config = searcher.suggest("7ab7b962")
    assert (config is None) == (fails_at == "start")
    if config is not None:
        decision = scheduler.on_trial_result(None, tune_trial, result)
        assert decision == ("STOP" if fails_at == "result" else "CONTINUE")
        searcher.on_trial_complete("7ab7b962", {**result, "report": Report(1, row, "epochs"), "done": True})
        searcher.on_trial_complete("7ab7b962", error=True)
    assert isinstance(session.error, UnicodeEncodeError)
    assert searcher.suggest("next") == "FINISHED"
    ledger.close()


def test_a_trial_whose_worker_dies_is_handed_out_again_before_others_and_fails_the_third_time(tmp_path):
    """Whenever the worker dies: Tune gives up a trial whose worker dies as it is reused, after the first time."""
    ledger = Ledger(tmp_path)
    source = Searcher(ledger, spaces.load(spaces.COURSE_SPACE), TrialConfig(epochs=3), "random", 2)
    searcher = tune._TuneSearcher(tune._Session(Runner(ledger, source, Never(), Pause(None)), lambda: 1))
    for attempt in "abc":
        config = searcher.suggest(attempt)
        assert config["number"] == 0
        assert ledger.trials[0].status == "running"
        searcher.on_trial_complete(attempt, error=True)
    assert ledger.trials[0].status == "failed"
    assert searcher.suggest("d")["number"] == 1
    ledger.close()


def test_a_trial_whose_worker_dies_amid_a_pause_is_left_for_the_next_command(tmp_path):
    ledger = Ledger(tmp_path)
    source = Searcher(ledger, spaces.load(spaces.COURSE_SPACE), TrialConfig(epochs=3), "random", 2)
    pause = Pause(None)
    searcher = tune._TuneSearcher(tune._Session(Runner(ledger, source, Never(), pause), lambda: 1))
    searcher.suggest("a")
    pause.interrupted = True
    searcher.on_trial_complete("a", error=True)
    assert ledger.trials[0].status == "running"
    assert searcher.suggest("b") == "FINISHED"
    ledger.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('ray::ResourceTrainable.train() (pid=7)\n  File "x.py", line 3, in run\nValueError: no\n', "ValueError: no"),
        ("The actor died unexpectedly before finishing this task.\n\tclass_name: X\n\tpid: 7\n",
         "The actor died unexpectedly before finishing this task."),
        ("", "unknown"),
    ],
)  # fmt: skip
def test_the_reason_of_a_failure_is_its_last_line_or_what_ray_says_of_the_worker(text, reason):
    earlier = "Failure # 1 (occurred at noon)\n  File \"x.py\"\nKeyError: 'old'\n"
    assert tune._last_failure(f"{earlier}Failure # 2 (occurred at night)\n{text}") == reason
