"""Ensembles: who is chosen, and what that gains elsewhere."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from study.statistics.ensembles import cross_fitted_gain, select
from trainable.metrics import confusion_matrix, minority_f1


def score(labels, logits):
    return minority_f1(confusion_matrix(labels, logits.argmax(axis=1), 3), [0, 1])


def models(rng, num_models, num_images, num_classes=3):
    labels = rng.integers(num_classes, size=num_images)
    logits = rng.standard_normal((num_models, num_images, num_classes)) + np.eye(num_classes)[labels]
    return logits, labels


def slow(logits, labels, rounds):
    """All ensembles on the greedy way as lists of models; the first of the best."""
    way = [[]]
    for _ in range(rounds):
        tried = [[*way[-1], model] for model in range(len(logits))]
        way.append(max(tried, key=lambda some: score(labels, logits[some].sum(axis=0))))
    best = max(way[1:], key=lambda some: score(labels, logits[some].sum(axis=0)))
    return [best.count(model) for model in range(len(logits))]


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_the_models_are_those_of_a_slow_search_and_never_worse_than_the_best_alone(seed, num_models):
    logits, labels = models(np.random.default_rng(seed), num_models, 30)
    times = select(logits, labels, score, rounds=4)
    assert times.tolist() == slow(logits, labels, 4)
    together = score(labels, np.tensordot(times, logits, 1))
    assert together >= max(score(labels, own) for own in logits)


def test_models_that_err_on_their_own_gain_together_on_images_that_did_not_choose_them():
    rng, gains, alike = np.random.default_rng(0), [], []
    for _ in range(20):
        logits, labels = models(rng, 4, 400)
        second = np.arange(400) % 2 == 0
        gains.append(cross_fitted_gain(logits, labels, second, 0, score))
        alike.append(cross_fitted_gain(np.repeat(logits[:1], 4, axis=0), labels, second, 0, score))
    assert np.mean(gains) > 0.08
    assert alike == [0] * 20


def test_of_models_that_are_equally_good_by_chance_alone_choosing_promises_nothing():
    """Where one is as good as all, what the choice gains on its own images is not gained on others."""
    rng, promised, kept = np.random.default_rng(1), [], []
    for _ in range(100):
        labels = rng.integers(3, size=60)
        logits = np.eye(3)[rng.integers(3, size=(4, 60))]  # they guess
        second = np.arange(60) % 2 == 0
        times = select(logits, labels, score)
        chosen = np.tensordot(times, logits, 1)
        promised.append(score(labels, chosen) - score(labels, logits[0]))
        kept.append(cross_fitted_gain(logits, labels, second, 0, score))
    assert np.mean(promised) > 0.1
    assert abs(np.mean(kept)) < 3 * np.std(kept) / 10
