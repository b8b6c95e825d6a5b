"""The confirmation, counted by hand."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from study.confirmation import scoring
from study.confirmation.runs import Recipe, Runs, choose, fresh_seeds, mixed_runs
from study.confirmation.trained import TrainedRun
from study.findings.verdict import Verdict
from study.record import files
from study.record.confirmation import Confirmation, confirmation_problems
from study.record.files import TrialRecord
from study.record.ledger import Ledger
from study.statistics import offsets
from tests import studies
from trainable import records
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.decoding import decode, to_json

SHUFFLED, WEIGHTED = TrialConfig(seed=10), TrialConfig(seed=11, sampler="weighted")


def record(number, best, config, recipe="searched", status="complete"):
    rows = [{"epoch": 1, "best_minority_f1": best}] if best is not None else []
    return TrialRecord(number, status, "", recipe, config, rows)


def searched(number, dropout, **fields):
    return TrialConfig(seed=100 + number, dropout=dropout, **fields)


COURSE = [record(0, 0.4, SHUFFLED, "course, shuffled"), record(1, 0.6, WEIGHTED, "course, weighted")]


def test_the_top_of_the_ranking_and_the_courses_are_chosen_the_failed_and_the_running_never():
    trials = [
        *COURSE,
        record(2, 0.5, searched(2, 0.1)),
        record(3, 0.9, searched(3, 0.2), status="failed"),
        record(4, 0.7, searched(4, 0.3, weight_decay=0.0), status="stopped"),
        record(5, 0.95, searched(5, 0.4), status="running"),
        record(6, 0.7, searched(6, 0.5)),
        record(7, None, searched(7, 0.6)),
    ]
    assert [(r.name, r.trial, r.search_score) for r in choose(trials, 2)] == [
        ("trial-4", 4, 0.7), ("trial-6", 6, 0.7), ("course-shuffled", 0, 0.4), ("course-weighted", 1, 0.6)
    ]  # fmt: skip
    # one of the course's may be among the best, and is then there once
    assert [r.name for r in choose(trials, 3)] == ["trial-4", "trial-6", "course-weighted", "course-shuffled"]
    assert choose(trials, 1)[0].config == trials[4].config


def test_a_recipe_tried_twice_is_confirmed_once_and_the_courses_keep_their_names():
    again = dataclasses.replace(WEIGHTED, seed=5, num_threads=2)
    trials = [
        *COURSE,
        record(2, 0.9, again),
        record(3, 0.8, searched(3, 0.2)),
        record(4, 0.7, searched(4, 0.2)),
        record(5, 0.5, searched(5, 0.1)),
    ]
    assert [r.name for r in choose(trials, 3)] == ["trial-3", "course-weighted", "trial-5", "course-shuffled"]
    with pytest.raises(UsageError, match="--top 5 is more than the 4 recipes"):
        choose(trials, 5)


def test_a_course_recipe_that_came_to_nothing_is_named():
    trials = [dataclasses.replace(COURSE[0], status="failed"), COURSE[1], record(2, 0.5, searched(2, 0.1))]
    with pytest.raises(UsageError, match=r"^course, shuffled: this trial of the study is unfinished or failed"):
        choose(trials, 1)


def test_fresh_seeds_are_none_of_the_searchs_and_more_of_them_begin_with_the_same():
    first = fresh_seeds(3, 4, COURSE)
    assert len({*first, 0, 10, 11}) == 7
    assert fresh_seeds(3, 2, COURSE) == first[:2]
    assert set(fresh_seeds(4, 4, COURSE)).isdisjoint(first)
    taken = [record(2, 0.5, TrialConfig(seed=first[0], cut_seed=first[2]))]
    assert fresh_seeds(3, 2, taken) == [first[1], first[3]]


@pytest.fixture
def runs_ledger(tmp_path):
    """Opens the ledger under ``tmp_path`` and hands out what is left of two recipes on the seeds that are asked for."""
    chosen = [Recipe("trial-4", 4, searched(4, 0.3), 0.7), Recipe("course-shuffled", 0, SHUFFLED, 0.4)]

    def opened(seeds):
        book = Ledger(tmp_path)
        return book, Runs(book, chosen, seeds, num_threads=2)

    return opened


def all_of(runs):
    return [trial.folder for trial in iter(runs.next, None)]


def test_runs_are_handed_out_seed_by_seed_and_after_a_kill_only_what_is_left(runs_ledger, tmp_path):
    book, runs = runs_ledger([7, 8])
    assert runs.num_new == 4
    complete, failed, running = runs.next(), runs.next(), runs.next()
    for trial in (complete, failed, running):
        book.record(trial.number, studies.row(1, 0.5))
    book.complete(complete.number, "epochs")
    book.fail(failed.number, "the worker died")
    assert runs.failures == ["course-shuffled-7 failed: the worker died"]
    book.close()
    config = records.read_config(tmp_path / "trial-4-8")
    assert config == dataclasses.replace(searched(4, 0.3), seed=8, split_seed=8, cut_seed=8, num_threads=2)

    book, runs = runs_ledger([7, 8])
    assert runs.num_new == 2  # the one that failed, again, and the last
    again = runs.next()
    assert (again.folder, again.number, again.best) == ("course-shuffled-7", 3, [0.5])  # from where it was
    assert runs.failures == []
    assert all_of(runs) == ["trial-4-8", "course-shuffled-8"]
    for trial in book.running():
        if not trial.best:
            book.record(trial.number, studies.row(1, 0.6))
        book.complete(trial.number, "epochs")
    book.close()

    book, runs = runs_ledger([7, 8, 9])
    assert all_of(runs) == ["trial-4-9", "course-shuffled-9"]
    book.close()
    assert [trial.recipe for trial in files.read_trials(tmp_path)].count("course-shuffled") == 4


def test_a_lost_journal_of_the_runs_costs_no_run(runs_ledger, tmp_path):
    book, runs = runs_ledger([7, 8])
    for _ in range(3):
        trial = runs.next()
        for epoch in range(1, trial.config.epochs + 1 if trial.number < 2 else 3):
            book.record(trial.number, studies.row(epoch, 0.5, best_epoch=1))
        if trial.number < 2:
            (tmp_path / trial.folder / "validation.npz").touch()  # as their end leaves it
            book.complete(trial.number, "epochs")
    book.close()
    (tmp_path / "study.journal").unlink()
    rows = {path: path.read_bytes() for path in tmp_path.glob("*/epochs.jsonl")}

    book, runs = runs_ledger([7, 8])
    assert [(trial.folder, trial.status, trial.reason) for trial in book.trials.values()] == [
        ("trial-4-7", "complete", "epochs"), ("course-shuffled-7", "complete", "epochs"), ("trial-4-8", "running", ""),
    ]  # fmt: skip
    assert runs.num_new == 1
    assert all_of(runs) == ["trial-4-8", "course-shuffled-8"]
    assert len(book.trials[2].best) == 2  # goes on from there
    assert {path: path.read_bytes() for path in tmp_path.glob("*/epochs.jsonl")} == rows
    book.close()


def test_runs_of_another_recipe_are_refused(runs_ledger, tmp_path):
    book, runs = runs_ledger([7])
    runs.next()
    book.close()
    same = [Recipe("trial-4", 4, searched(4, 0.3, num_threads=5), 0.7)]
    assert mixed_runs(tmp_path, same, [7]) == []
    other = [Recipe("trial-4", 4, searched(4, 0.31), 0.7)]
    assert mixed_runs(tmp_path, other, [7]) == [f"{tmp_path / 'trial-4-7'}: is a run of another recipe; move "
                                                       "it away"]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"PK", b"x"])
def test_a_runs_predictions_that_cannot_be_read_are_told_in_a_sentence(tmp_path, content):
    (tmp_path / "validation.npz").write_bytes(content)
    images = SimpleNamespace(num_classes=4, val=range(300), minority=(0,))
    run = TrainedRun(Recipe("trial-4", 4, SHUFFLED, 0.7), 7, tmp_path, images, np.empty(0, np.int64))
    with pytest.raises(UsageError, match=r"validation\.npz: damaged, cannot be read"):
        scoring.measure({"trial-4": [run]})
    with pytest.raises(UsageError, match=r"validation\.npz: damaged, cannot be read"):
        run.offsets  # noqa: B018


def test_a_runs_files_are_opened_once_whatever_is_asked_of_it(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 10)
    stored = {
        "labels": labels,
        "logits": rng.standard_normal((40, 4)).astype(np.float16),
        "predictions": np.zeros((2, 40), np.uint8),
        "predictions_adjusted": np.ones((2, 40), np.uint8),
    }
    np.savez(tmp_path / "validation.npz", **stored)
    images = SimpleNamespace(num_classes=4, val=range(40), minority=(0,), train_counts=torch.tensor([1, 2, 3, 4]))
    images.parts = (images,)
    run = TrainedRun(Recipe("trial-4", 4, SHUFFLED, 0.7), 7, tmp_path, images, np.empty(0, np.int64))
    assert (run.labels == labels).all()
    (tmp_path / "validation.npz").unlink()
    assert (run.predictions == 0).all()
    assert (run.judged[1] == 1).all()
    assert (run.logits == stored["logits"]).all()
    again = offsets.fit(offsets.Decided(run.logits, labels, [1, 2, 3, 4], [0]), 7)
    assert (run.offsets.tau, run.offsets.gain) == (again.tau, again.gain)


SCORES = np.array([[0.72, 0.68, 0.7], [0.61, 0.6, 0.59], [0.4, 0.39, 0.41]])


@pytest.fixture
def content():
    """A confirmation of three recipes on three seeds, scored on the test images."""
    plan = SimpleNamespace(
        study=SimpleNamespace(name="made up", epochs=20, objective="minority_f1"),
        seeds=[7, 8, 9],
        top=1,
        num_trials=12,
        pool=SimpleNamespace(num_own_val=0, spec=SimpleNamespace(folds=0)),
        recipes=[
            Recipe("trial-4", 4, searched(4, 0.3), 0.9),
            Recipe("course-shuffled", 0, SHUFFLED, 0.5),
            Recipe("course-weighted", 1, WEIGHTED, 0.6),
        ],
    )
    order = [0, 2, 1]  # so that the recipes' rows are not in the order of the trials
    measured = scoring.Measured(SCORES[order], SCORES[order][::-1], SCORES[order] + 0.1, None)
    found = json.loads(to_json(scoring.summary(plan, measured, "2026-11-24T12:00:00+0000")))
    test = {
        "scores": [0.6, 0.65, 0.7],
        "scores_adjusted": [0.6, 0.6, 0.6],
        "scores_offsets": [0.6, 0.6, 0.6],
        "mean": 0.65,
        "low": 0.5,
        "high": 0.8,
        "confusion": [[1]],
    }
    gap = {"estimate": 0.1, "low": -0.1, "high": 0.3}
    gaps = [{"first": "trial-4", "second": "course-weighted", **gap, "adjusted": {**gap, "estimate": 0.2}}]
    opening = {"opened": "2026-11-24T13:00:00+0000", "reopened": [], "recipes": {"trial-4": test}, "differences": gaps}
    return plan, measured, found, opening


def test_the_summary_counted_by_hand(content):
    plan, measured, found, _ = content
    assert found["winner"] == "trial-4"
    assert [recipe["mean"] for recipe in found["recipes"]] == pytest.approx([0.7, 0.4, 0.6])
    assert found["confirmed"]["chosen"] == ["trial-4"] * 3
    assert found["confirmed"]["estimate"] == pytest.approx(0.7)
    pairs = [(d["first"], d["second"]) for d in found["differences"]]
    assert pairs == [("trial-4", "course-shuffled"), ("trial-4", "course-weighted"),
                     ("course-weighted", "course-shuffled")]  # fmt: skip
    assert [d["estimate"] for d in found["differences"]] == pytest.approx([0.3, 0.1, 0.2])
    assert [d["adjusted"]["estimate"] for d in found["differences"]] == pytest.approx([0.2, -0.1, 0.3])
    theirs = stats.ttest_1samp(SCORES[2], 0).confidence_interval()
    low, high = found["recipes"][1]["low"], found["recipes"][1]["high"]
    assert (low, high) == pytest.approx((theirs.low, theirs.high))
    assert all(0 <= recipe["low"] <= recipe["high"] <= 1 for recipe in found["recipes"])
    assert found["recipes"][0]["high"] < 1
    assert (found["optimistic"], found["optimistic_reason"], found["test"]) == (False, "", None)
    assert found["num_trials"] == 12
    # of means that are as far apart on noisy seeds the simpler recipe stays, and the words say why
    noisy = SCORES[[0, 2, 1]] + 0.1 * np.array([[1, -1, 0], [0, 0, 0], [0, 1, -1]])
    simpler = Verdict(scoring.summary(plan, scoring.Measured(noisy, noisy, noisy, None), ""))
    assert simpler.content.winner == "course-weighted"
    assert simpler.winner_words == "is enough: trial 4 did better, but not beyond doubt"
    on_two = Verdict(dataclasses.replace(simpler.content, seeds=simpler.content.seeds[:2]))
    assert on_two.winner_words == f"{simpler.winner_words}, which two seeds can hardly show"
    plan.pool.num_own_val = 30
    own = scoring.summary(plan, measured, "")
    assert own.optimistic
    assert "the same that the search chose by" in own.optimistic_reason


def verdict(found):
    """Of the content of a confirm.json."""
    return Verdict(decode(json.dumps(found).encode(), Confirmation, Path("confirm.json"), confirmation_problems))


def test_what_is_printed_has_the_numbers_in_at_most_100_columns(content):
    _, _, found, opening = content
    found = {**found, "optimistic": True, "optimistic_reason": scoring.OPTIMISTIC_REASON}
    found["recipes"][0]["audit_recall"] = [0.2, 0.3, 0.4]
    lines = verdict(found).confirmation_lines()
    (row,) = [line for line in lines if line.startswith("trial 4  ")]
    assert row.split() == ["trial", "4", "0.9000", "0.7000", "(0.6503", "to", "0.7497)", "0.6000", "+0.2000",
                           "0.8000", "0.3000"]  # fmt: skip
    assert "winner: trial 4" in lines
    assert any(line.startswith("trial 4 minus course, weighted: +0.1000 (") for line in lines)
    assert any(line.startswith("confirmed score: 0.7000 (") for line in lines)
    assert "this score is optimistic:" in lines
    course = {**opening["recipes"]["trial-4"], "mean": 0.55}
    opening["recipes"] |= {"course-shuffled": course, "course-weighted": course}
    opening["reopened"] = [{"time": "2026-11-25T08:00:00+0000", "reason": "three more trials"}]
    sealed = verdict({**found, "test": opening}).test_lines()
    assert "opened again on 2026-11-25T08:00:00+0000: three more trials" in sealed
    (row,) = [line for line in sealed if line.startswith("trial 4  ")]
    assert row.split()[2:7] == ["0.9000", "0.7000", "0.6500", "(0.5000", "to"]
    told = sealed.index("trial 4 minus course, weighted: +0.1000 (-0.1000 to +0.3000)")
    assert sealed[told + 1] == "    after logit adjustment: +0.2000 (-0.1000 to +0.3000)"
    # of 0.9 - 0.6 the fresh seeds have left 0.7 - 0.6
    assert "67 % of it was luck" in " ".join(sealed)
    assert max(map(len, [*lines, *sealed])) <= 100
    assert verdict(found).test_lines() == ["the test images are sealed"]


def test_a_search_that_promised_nothing_has_no_luck(content):
    found = content[2]
    found["recipes"][0]["search_score"] = 0.6
    assert verdict(found).luck.words == "luck: the search promised no gain over course, weighted"


def test_test_scores_without_those_of_the_winner_are_refused(content):
    _, _, found, opening = content
    others = {name: recipe for name, recipe in opening["recipes"].items() if name != found["winner"]}
    with pytest.raises(UsageError, match=r"test\.recipes must hold the winner, 'trial-4'"):
        verdict({**found, "test": {**opening, "recipes": others}})


def test_an_ensemble_is_told_in_a_sentence_and_replaces_no_winner(content):
    _, _, found, _ = content
    assert verdict(found).ensemble_words == ""
    gain = {"estimate": 0.02, "low": -0.01, "high": 0.05}
    two = {**found, "ensemble": {"members": {"trial-4": 2, "course-weighted": 1}, "gain": gain}}
    lines = " ".join(" ".join(verdict(two).confirmation_lines()).split())
    assert (
        "an ensemble, the mean of trial 4 (2 of 3) and course, weighted (1 of 3): +0.0200 (-0.0100 to +0.0500)" in lines
    )
    assert "no difference can be seen" in lines
    assert "study.predict --ensemble" in lines
    assert verdict(two).content.winner == "trial-4"
    assert max(map(len, verdict(two).confirmation_lines())) <= 100
    alone = {**found, "ensemble": {"members": {"trial-4": 3}, "gain": gain}}
    assert verdict(alone).ensemble_words == "an ensemble of these recipes: trial 4 alone was chosen"
    # of one seed's runs another recipe's may be the best by chance: that is no ensemble either
    other = {**found, "ensemble": {"members": {"course-weighted": 1}, "gain": gain}}
    assert verdict(other).ensemble_words == "an ensemble of these recipes: course, weighted alone was chosen"
    with pytest.raises(UsageError, match=r"ensemble\.members must be one of the recipes"):
        verdict({**found, "ensemble": {"members": {"trial-9": 1}, "gain": gain}})
