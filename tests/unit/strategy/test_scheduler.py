import random

from hypothesis import given
from hypothesis import strategies as st

from study.record.design import DESIGN_EVERY
from study.record.ledger import Ledger
from study.record.recipes import COURSE, SEARCHED
from study.record.standings import Standings
from study.strategy import scheduler
from study.strategy.scheduler import Asha, Median, Never
from tests import studies
from trainable.config import TrialConfig

MAX_EPOCHS = 12

scores = st.floats(0, 1, allow_nan=False)
curves = st.tuples(st.lists(scores, min_size=1, max_size=MAX_EPOCHS), st.booleans())  # raw F1, ended by itself


def running_best(raw):
    return [max(raw[: i + 1]) for i in range(len(raw))]


def at(curve, epoch):
    """What a curve stands with at an epoch, looked up in the slow way; None: it is not there."""
    raw, ended = curve
    best = running_best(raw)
    return best[epoch - 1] if len(best) >= epoch else best[-1] if ended else None


def enter(standings, curves):
    for raw, ended in curves:
        best = running_best(raw)
        for epoch, value in enumerate(best, 1):
            standings.enter(epoch, value)
        if ended:
            standings.end(len(best), best[-1], MAX_EPOCHS)


def stops(rule, epoch, best, others):
    return rule.stops(epoch, best, sorted([best, *others]))


def test_hand_counted_rung():
    asha = Asha(grace=2, reduction_factor=3)
    # three records at epoch 2: one of them goes on
    assert not stops(asha, 2, 0.61, [0.5, 0.6])
    assert not stops(asha, 2, 0.6, [0.5, 0.6])  # a tie is not worse
    assert stops(asha, 2, 0.59, [0.5, 0.6])
    # a fourth record makes room for two
    assert not stops(asha, 2, 0.59, [0.5, 0.6, 0.1])


def test_hand_counted_median():
    median = Median(grace=2, min_trials=5)
    others = [0.1, 0.2, 0.7, 0.8]
    assert not stops(median, 2, 0.3, others)  # two of five are better
    assert stops(median, 2, 0.15, others)  # three are
    assert stops(median, 7, 0.15, others)
    assert not stops(median, 1, 0.15, others)
    assert not stops(median, 2, 0.15, others[1:])


def test_no_decision_before_the_rung_holds_reduction_factor_records():
    assert not stops(Asha(grace=2, reduction_factor=3), 2, 0.0, [0.9])


def test_decisions_fall_at_milestones_only():
    asha = Asha(grace=2, reduction_factor=3)
    assert [epoch for epoch in range(1, 31) if stops(asha, epoch, 0.1, [0.9] * 5)] == [2, 6, 18]


def test_a_trial_that_ended_by_itself_stands_in_later_rungs_and_a_stopped_one_does_not():
    standings = Standings()
    enter(standings, [([0.9, 0.8], True), ([0.7, 0.95], False)])
    assert [list(standings.at(epoch)) for epoch in (1, 2, 3, MAX_EPOCHS, MAX_EPOCHS + 1)] == [
        [0.7, 0.9], [0.9, 0.95], [0.9], [0.9], []
    ]  # fmt: skip


def study_of(*curves, epochs=MAX_EPOCHS):
    """A ledger with raw curves, the course's two first; of those that are over with True beside them."""
    ledger = Ledger(None)
    for number, (raw, ended) in enumerate(curves):
        recipe = COURSE[number].name if number < len(COURSE) else SEARCHED
        ledger.add(TrialConfig(epochs=epochs), recipe, {}, {})
        for epoch, best in enumerate(running_best(raw), 1):
            ledger.record(number, studies.row(epoch, best))
        if ended:
            ledger.complete(number, "epochs")
    return ledger


OF_THE_COURSE = ([0.5, 0.6, 0.7], False)


def test_a_stopped_trial_says_at_which_epoch_and_behind_how_many():
    ledger = study_of(
        OF_THE_COURSE, OF_THE_COURSE, ([0.1, 0.9], False), ([0.3, 0.4], False), ([0.6], False), ([0.2, 0.3], False)
    )
    asha = Asha(grace=2)
    assert scheduler.why_stopped(asha, ledger.trials[5], ledger) == "stopped at 2: 4 of 5 were better"
    assert scheduler.why_stopped(asha, ledger.trials[3], ledger) == "stopped at 2: 3 of 5 were better"
    assert [scheduler.why_stopped(asha, ledger.trials[number], ledger) for number in (0, 1)] == ["", ""]
    assert scheduler.why_stopped(Never(), ledger.trials[5], ledger) == ""


def test_every_second_trial_is_not_judged_on_a_floor_where_one_of_the_courses_recipes_stood_at_that_age():
    slow = [0.0, 0.0, 0.0, 0.1, 0.3, 0.5]
    others = [([0.5] * 6, False)] * 4

    def epochs_that_stop(first, is_over=False, number=6, score=0.0):
        stops = []
        for epoch in range(1, 7):
            own = ([score] * epoch, False)
            trials = [(first, is_over), ([0.5] * 6, False), *others, own, own][: number + 1]
            ledger = study_of(*trials)
            if scheduler.why_stopped(Median(grace=1, min_trials=2), ledger.trials[number], ledger):
                stops.append(epoch)
        return stops

    assert epochs_that_stop(slow) == [4, 5, 6]  # 0.1 is more than a tenth of 0.5
    assert epochs_that_stop([0.0, 0.02, 0.04, 0.04, 0.3, 0.5]) == [5, 6]
    assert epochs_that_stop(slow[:3]) == []  # it may still rise
    assert epochs_that_stop([0.0] * 6) == []
    assert epochs_that_stop([0.0] * 6, is_over=True) == [1, 2, 3, 4, 5, 6]  # it came to nothing, and says nothing
    assert epochs_that_stop(slow[:5], is_over=True) == [4, 5, 6]  # it ended by itself
    assert epochs_that_stop(slow, number=7) == [1, 2, 3, 4, 5, 6]
    assert epochs_that_stop(slow, score=0.06) == [1, 2, 3, 4, 5, 6]  # not on the floor


def test_points_of_the_design_are_never_stopped_and_there_are_more_of_them_in_a_larger_study():
    ledger = study_of(OF_THE_COURSE, OF_THE_COURSE, *[([0.5] * 3, False)] * 8, *[([0.1] * 3, False)] * 20)
    stopped = [n for n, trial in ledger.trials.items() if scheduler.why_stopped(Asha(grace=1), trial, ledger)]
    designed = [2 + DESIGN_EVERY * place for place in range(4)]
    assert stopped == [n for n in range(10, 30) if n not in designed]


def test_asha_judges_first_after_a_twentieth_of_the_epochs_and_the_median_rule_after_a_fifth():
    assert scheduler.make("asha", 50) == Asha(grace=3)
    assert scheduler.make("asha", 20) == scheduler.make("asha", 3) == Asha(grace=1)
    assert scheduler.make("median", 20) == Median(grace=4)
    assert scheduler.make("none", 50) == Never()


@given(st.lists(curves, max_size=12), st.integers(1, MAX_EPOCHS))
def test_standings_agree_with_a_look_at_every_curve(curves, epoch):
    standings = Standings()
    enter(standings, curves)
    assert list(standings.at(epoch)) == sorted(v for c in curves if (v := at(c, epoch)) is not None)


def arrive(ledger, events):
    """Enters rows and ends in the order of ``events``: (trial, epoch and running best, or None for its end)."""
    for number, row in events:
        if row is None:
            ledger.complete(number, "patience")
        else:
            ledger.record(number, studies.row(*row))


def interleaved(curves, rng):
    """The events of all curves in some order that keeps each curve's own."""
    queues = [
        [(number, (epoch, best)) for epoch, best in enumerate(running_best(raw), 1)] + [(number, None)] * ended
        for number, (raw, ended) in enumerate(curves)
    ]
    events = []
    while any(queues):
        events.append(rng.choice([queue for queue in queues if queue]).pop(0))
    return events


def decisions(ledger):
    return [
        rule.stops(len(trial.best), trial.best[-1], ledger.standings.at(len(trial.best)))
        for rule in (Asha(2, 3), Median(2, 3))
        for trial in ledger.trials.values()
    ]


@given(st.lists(curves, min_size=1, max_size=8), st.randoms(use_true_random=False), st.integers(0, 40))
def test_decisions_are_those_of_the_curves_however_they_came_and_wherever_a_process_ended(
    tmp_path_factory, curves, rng: random.Random, cut
):
    at_once = Ledger(None)
    for _ in curves:
        at_once.add(TrialConfig(epochs=MAX_EPOCHS), "searched", {}, {})
    arrive(at_once, [event for n, c in enumerate(curves) for event in interleaved([([], False)] * n + [c], rng)])

    folder = tmp_path_factory.mktemp("study")
    first = Ledger(folder)
    for _ in curves:
        first.add(TrialConfig(epochs=MAX_EPOCHS), "searched", {}, {})
    events = interleaved(curves, rng)
    arrive(first, events[:cut])
    first.close()
    resumed = Ledger(folder)
    arrive(resumed, events[cut:])
    resumed.close()
    assert decisions(resumed) == decisions(at_once)


@given(st.lists(scores, min_size=3, max_size=30, unique=True))
def test_at_a_full_rung_the_best_third_goes_on(values):
    going = [v for v in values if not Asha(grace=1, reduction_factor=3).stops(1, v, sorted(values))]
    assert sorted(going, reverse=True) == sorted(values, reverse=True)[: -(-len(values) // 3)]
