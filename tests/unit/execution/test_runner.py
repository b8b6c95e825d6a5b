import pytest

from study.execution.runner import Pause, Runner, TooManyFailuresError
from study.record.ledger import Ledger
from study.space import parameters
from study.strategy.scheduler import Never
from study.strategy.searcher import Searcher
from trainable.config import TrialConfig
from trainable.report import Report


def test_ten_failures_in_a_row_let_no_trial_start_any_more_and_one_success_among_them_does(tmp_path):
    ledger = Ledger(tmp_path)
    source = Searcher(ledger, parameters.load(parameters.COURSE_SPACE), TrialConfig(epochs=3), "random", 100)
    runner = Runner(ledger, source, Never(), Pause(None))
    row = {"epoch": 1, "best_minority_f1": 0.5}
    for number in range(9 + 1 + 10):
        assert runner.next().number == number
        if number == 9:
            assert runner.report(number, Report(1, row, "epochs"))
        else:
            runner.fail(number, "ValueError: no")
    assert runner.next() is None
    with pytest.raises(TooManyFailuresError, match="trial 10: ValueError: no"):
        runner.raise_what_broke_it()
    assert [trial.status for trial in ledger.trials.values()] == ["failed"] * 9 + ["complete"] + ["failed"] * 10
