"""The benchmark of fine-tuning, in a form of a few seconds."""

import json

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import finetune, harness
from trainable import loop
from trainable.images.pool import class_counts
from trainable.images.splits import split

ASKED = ["finetune", "--data", "digits", "--image-size", "16", "--seeds", "2", "--epochs", "2", "--epochs-before", "1",
         "--precision", "float32"]  # fmt: skip


def test_both_ways_have_the_same_images_epochs_and_recipe_and_only_one_has_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "HERE", tmp_path)
    monkeypatch.setattr(finetune, "num_cores", lambda: 1)
    configs, real = [], loop.new_state

    def noted(config, images):
        configs.append((config, images.train.tolist(), images.num_classes))
        return real(config, images)

    monkeypatch.setattr(loop, "new_state", noted)
    assert benchmarks.main(ASKED) == 0
    before, *pairs = configs
    assert (before[0].epochs, before[0].weights) == (1, "none")
    for (anew, *images), (tuned, *others) in [pairs[:2], pairs[2:]]:
        assert images == others
        differ = {name for name, value in anew.to_dict().items() if tuned.to_dict()[name] != value}
        assert differ == {"weights", "frozen_epochs", "backbone_rate"}
    assert pairs[0][1] != pairs[2][1]
    (record,) = (tmp_path / "records").glob("finetune-*/record.json")
    content = json.loads(record.read_text())
    assert content["checks"]["weights_of"] == list("01234")
    assert (content["checks"]["judged_on"], content["minority"]) == (list("56789"), ["5", "6"])
    scores = {(row["contender"], row["seed"]): row["minority_f1"] for row in content["rows"]}
    gains = [scores["fine-tuned", number] - scores["from scratch", number] for number in (0, 1)]
    assert content["checks"]["mean_gain"] == pytest.approx(np.mean(gains))


def test_the_images_of_some_classes_are_a_set_of_their_own(digits_pool):
    some = finetune._of_classes(digits_pool, range(5, 10), num_rare=2, keep=0.1)
    assert some.class_names == tuple("56789")
    assert some.minority == (0, 1)
    drawn = split(some, 0, 0)
    counts = np.bincount(digits_pool.labels)[5:]
    left = [n - round(0.2 * n) for n in counts]
    assert class_counts(some, drawn.train) == [round(0.1 * left[0]), round(0.1 * left[1]), *left[2:]]
    where = np.flatnonzero(digits_pool.labels == 7)
    assert np.array_equal(some.pixels[some.labels == 2], digits_pool.pixels[where])
