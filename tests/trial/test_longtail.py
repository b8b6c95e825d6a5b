"""Long-tailed images: a study of them, and the benchmark of methods in a form of a few seconds."""

import json

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import harness, longtail
from study import search
from study.findings.ranking import rank
from tests import studies
from tests.conftest import DIGITS_STUDY
from trainable import loop
from trainable.__main__ import main
from trainable.images.pool import class_counts
from trainable.images.splits import split

ASKED = ["longtail", "--data", "digits", "--image-size", "16", "--imbalance-ratio", "10", "--seeds", "2", "--epochs",
         "2", "--precision", "float32"]  # fmt: skip


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(longtail, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(harness, "HERE", tmp_path)
    monkeypatch.setattr(longtail, "num_cores", lambda: 1)
    return tmp_path


def test_each_method_is_trained_once_a_seed_also_after_an_interruption(scratch, monkeypatch, capsys):
    trained, real = [], loop.new_state

    def counted(config, images):
        if len(trained) == 4:  # the fifth is interrupted, once
            trained.append("interrupted")
            raise KeyboardInterrupt
        trained.append((config.loss, config.mixing, config.seed))
        return real(config, images)

    monkeypatch.setattr(loop, "new_state", counted)
    methods = "cross-entropy,focal,LDAM-DRW,balanced softmax,logit adjustment,mixup + balanced softmax"
    assert benchmarks.main([*ASKED, "--methods", methods]) == 130
    assert len(list((scratch / "runs").glob("*.json"))) == 4
    capsys.readouterr()
    assert benchmarks.main([*ASKED, "--methods", methods]) == 0
    trained.remove("interrupted")
    assert len(trained) == len(set(trained)) == 5 * 2  # logit adjustment is of cross-entropy's trainings
    out, err = capsys.readouterr()
    assert "12 of 12: mixup + balanced softmax, seed 1: top-1" in err
    assert [line[:24].strip() for line in out.splitlines()[1:7]] == methods.split(",")
    assert out.splitlines()[0].split("  ")[-1] == "published"
    (record,) = (scratch / "records").glob("longtail-*/record.json")
    content = json.loads(record.read_text())
    assert content["imbalance"] == "longtail 10"
    assert content["trial_config"]["warmup_epochs"] == 0.05
    assert len(content["rows"]) == 12
    by_name = {(row["method"], row["seed"]): row for row in content["rows"]}
    assert by_name["cross-entropy", 0]["top1"] != by_name["logit adjustment", 0]["top1"]
    assert all(row["top1"] <= row["top1_best_on_test"] for row in content["rows"])


def test_the_epoch_is_chosen_on_validation_and_the_papers_on_test():
    # of each epoch [raw, adjusted], each [top-1, minority F1]
    rows = [
        {"val": [[50, 1], [70, 1]], "test": [[40, 11], [60, 21]], "seconds": 1, "precision": "float32"},
        {"val": [[60, 2], [65, 2]], "test": [[45, 12], [66, 22]], "seconds": 2, "precision": "float32"},
        {"val": [[60, 3], [60, 3]], "test": [[55, 13], [50, 23]], "seconds": 3, "precision": "float32"},
    ]
    raw, adjusted = (longtail._chosen_epochs(rows, is_adjusted) for is_adjusted in (False, True))
    assert (raw["epoch"], raw["top1"], raw["minority_f1"]) == (2, 45, 12)
    assert (raw["epoch_best_on_test"], raw["top1_best_on_test"], raw["seconds"]) == (3, 55, 3)
    assert (adjusted["epoch"], adjusted["top1"], adjusted["minority_f1"]) == (1, 60, 21)
    assert (adjusted["epoch_best_on_test"], adjusted["top1_best_on_test"]) == (2, 66)


def test_an_interval_is_students_over_seeds():
    # mean 72, standard error 1, quantile 4.303 of 2 degrees of freedom
    values = np.array([72 - 3**0.5, 72, 72 + 3**0.5])
    assert longtail._interval(values) == "72.0 (67.7 to 76.3)"
    assert longtail._interval(values - 70, "+") == "+2.0 (-2.3 to +6.3)"


def test_a_method_that_there_is_not_is_refused(scratch, capsys):
    with pytest.raises(SystemExit) as stop:
        benchmarks.main([*ASKED, "--methods", "magic"])
    assert stop.value.code == 2
    assert "--methods: 'magic' is none of cross-entropy, balanced sampling" in capsys.readouterr().err


def test_a_study_of_a_long_tail_is_shown_ranked_replayed_and_confirmed_as_one(tmp_path, capsys):
    asked = [*DIGITS_STUDY, "--results", tmp_path, "--trials", "2", "--epochs", "1", "--imbalance", "longtail",
             "--imbalance-ratio", "10"]  # fmt: skip
    assert search.main([*map(str, asked), "--dry-run"]) == 0
    assert any(line.split() == ["9*", "11", "29", "36", "104"] for line in capsys.readouterr().out.splitlines())
    plan = studies.begin(*asked)
    studies.finish(plan)
    # the largest class, 3, has 117 images for training, and 0 has 114
    assert plan.train_counts == [114, *(int(117 * 10 ** (-label / 9)) for label in range(1, 10))]
    assert "validation was drawn before the cut" in "\n".join(rank(plan.folder).lines())
    assert main(["--replay", str(plan.folder / "trials/1"), "--json"]) == 0
    assert "no difference" in capsys.readouterr().err
    confirmation = studies.begin_confirmation(plan.folder, "--top", "1", "--seeds", "2")
    for seed in confirmation.seeds:
        drawn = split(confirmation.pool, seed, seed)
        assert class_counts(confirmation.pool, drawn.train) == plan.train_counts
        assert not np.array_equal(drawn.train, plan.drawn.train)
