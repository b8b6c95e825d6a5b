import random

from hypothesis import given
from hypothesis import strategies as st

from study import scheduler
from study.scheduler import Asha, Curve, Never

scores = st.floats(0, 1, allow_nan=False)
curves = st.builds(
    lambda raw, ended: Curve([max(raw[: i + 1]) for i in range(len(raw))], ended),
    st.lists(scores, min_size=1, max_size=12),
    st.booleans(),
)


def test_hand_counted_rung():
    asha = Asha(grace=2, reduction_factor=3)
    others = [Curve([0.1, 0.5]), Curve([0.2, 0.6, 0.7])]
    # three records at epoch 2: one of them goes on
    assert not asha.stops(Curve([0.0, 0.61]), others)
    assert not asha.stops(Curve([0.0, 0.6]), others)  # a tie is not worse
    assert asha.stops(Curve([0.0, 0.59]), others)
    # a fourth record makes room for two
    assert not asha.stops(Curve([0.0, 0.59]), [*others, Curve([0.0, 0.1])])


def test_no_decision_before_the_rung_holds_reduction_factor_records():
    asha = Asha(grace=2, reduction_factor=3)
    assert not asha.stops(Curve([0.0, 0.0]), [Curve([0.9, 0.9]), Curve([0.9])])


def test_decisions_fall_at_milestones_only():
    asha = Asha(grace=2, reduction_factor=3)
    others = [Curve([0.9] * 30)] * 5
    stopped_at = [epoch for epoch in range(1, 31) if asha.stops(Curve([0.1] * epoch), others)]
    assert stopped_at == [2, 6, 18]


def test_a_trial_that_ended_by_itself_stands_in_later_rungs_and_a_stopped_one_does_not():
    asha = Asha(grace=2, reduction_factor=2)
    assert asha.stops(Curve([0.1] * 4), [Curve([0.9, 0.9, 0.9], ended=True)])
    assert not asha.stops(Curve([0.1] * 4), [Curve([0.9, 0.9, 0.9], ended=False)])


def test_grace_is_a_fifth_of_the_epochs():
    assert scheduler.make("asha", 50) == Asha(grace=10)
    assert scheduler.make("asha", 3) == Asha(grace=1)
    assert scheduler.make("none", 50) == Never()


@given(curves, st.lists(curves, max_size=12), st.randoms(use_true_random=False))
def test_decision_ignores_order_of_arrival_and_what_comes_after_the_epoch(own, others, rng: random.Random):
    asha = Asha(grace=2, reduction_factor=3)
    decision = asha.stops(own, others)
    shuffled = others[:]
    rng.shuffle(shuffled)
    assert asha.stops(own, shuffled) == decision
    # others that have gone on meanwhile, as after a resume, change nothing at this epoch
    longer = [Curve([*curve.best, 1.0], curve.ended) if len(curve.best) >= len(own.best) else curve for curve in others]
    assert asha.stops(own, longer) == decision


@given(st.lists(scores, min_size=3, max_size=30, unique=True))
def test_at_a_full_rung_the_best_third_goes_on(values):
    asha = Asha(grace=1, reduction_factor=3)
    going = [
        value for i, value in enumerate(values)
        if not asha.stops(Curve([value]), [Curve([v]) for j, v in enumerate(values) if j != i])
    ]  # fmt: skip
    assert sorted(going, reverse=True) == sorted(values, reverse=True)[: -(-len(values) // 3)]
