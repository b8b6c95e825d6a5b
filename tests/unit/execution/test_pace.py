import pytest

from study.execution import simulated
from study.execution.beds import Formula
from study.execution.pace import epochs_left
from study.record.design import is_protected
from study.record.trial import Trial
from study.space import parameters
from study.strategy import scheduler
from trainable.config import TrialConfig


def trial(number, num_epochs, status="stopped"):
    return Trial(number, TrialConfig(epochs=10), "searched", f"trials/{number}", status, best=[0.5] * num_epochs)


def left(trials, num_trials, num_slots=1, in_full=lambda number: False):
    return epochs_left(trials, num_trials, 10, num_slots, in_full)


def test_hand_counted():
    assert left([], 3) == 30
    assert left([trial(0, 4), trial(1, 8)], 4) == pytest.approx(12)  # two more, of six each
    # of the trials that reached 4 one of two went on, and that one goes on: as long as 4 or 10
    assert left([trial(0, 4), trial(1, 6, "running")], 3) == pytest.approx(4 + 7)
    assert left([trial(0, 10, "complete"), trial(1, 10, "complete")], 2) == 0


def test_those_that_no_scheduler_stops_are_known_to_be_longer():
    trials = [trial(0, 10, "complete"), trial(1, 2), trial(2, 2)]
    assert left(trials, 5, in_full=lambda number: number in (0, 4)) == pytest.approx(2 + 10)


def test_the_end_is_that_of_the_slot_that_ends_last():
    assert left([], 3, num_slots=2) == 20
    assert left([trial(0, 9, "running"), trial(1, 1, "running")], 2, num_slots=2) == 9


def test_from_the_tenth_trial_on_the_time_left_of_a_simulated_study_is_right_within_a_factor(monkeypatch):
    ledgers = []
    monkeypatch.setattr(
        simulated, "Ledger", lambda *given, make=simulated.Ledger: ledgers.append(make(*given)) or ledgers[-1]
    )
    bed, ratios = Formula(parameters.load(parameters.SPACES["full"])), []
    for seed in range(3):
        steps, told = [], []
        for step in simulated.simulate(bed, "sobol", scheduler.make("asha", 20), 4, 60, seed):
            trials = ledgers[-1].trials.values()
            if sum(found.status != "running" for found in trials) >= 10:
                expected = epochs_left(trials, 60, 20, 4, is_protected) * 4 * step.seconds / step.num_epochs
                told.append((step.seconds, expected))
            steps.append(step.seconds)
        ratios += [expected / (steps[-1] - now) for now, expected in told if steps[-1] - now > 5]
    assert sum(1 / 1.5 <= ratio <= 1.5 for ratio in ratios) / len(ratios) > 0.9
