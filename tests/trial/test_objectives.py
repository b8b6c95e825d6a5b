"""A study for each objective, in this process: what it is judged by decides the epoch, the ranking and the words."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from study.confirmation import afterwards, refit, scoring, stages, winner
from study.confirmation.trained import open_runs
from study.findings import ranking, summary
from study.record import files, validation
from study.report import page
from tests import studies
from tests.unit.trainable.test_objectives import cheapest
from trainable import checkpoint, loop
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.evaluation import evaluate
from trainable.images.trial import trial_images
from trainable.objectives import OBJECTIVES, named

COSTS = "true_class,usual,rare,other\nrare,9,0,5\nusual,0,1,1\nother,1,1,0\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objectives")
    studies.write_photos(folder / "photos", {"usual": 60, "rare": 40, "other": 50})
    (folder / "costs.csv").write_text(COSTS)
    return folder


def begin(place, objective, name=None):
    """The study ``name`` (default: as the objective), judged by it; None: without the flag."""
    path = place / objective if objective and objective.endswith(".csv") else objective
    return studies.begin(
        "--data", place / "photos", "--minority", "rare", "--image-size", 16, "--trials", 3, "--epochs", 3,
        "--space", "course",
        "--results", place / "results", "--name", name or objective, "--cache-dir", place / "cache",
        *(["--objective", path] if path else []),
    )  # fmt: skip


@pytest.fixture(scope="module", params=[*OBJECTIVES, "costs.csv"])
def finished(request, place):
    plan = begin(place, request.param)
    studies.finish(plan)
    return plan


def test_the_best_epoch_and_the_ranking_follow_the_objective(finished):
    ranked = ranking.rank(finished.folder)
    objective = ranked.objective
    assert objective.words in "\n".join(ranked.lines())
    assert ranked.table[objective.name].is_monotonic_decreasing
    for trial in ranked.trials:
        path = finished.folder / "trials" / str(trial.number) / "validation.npz"
        array = validation.judged(objective)[0]
        labels, judged = validation.read(path, [validation.LABELS, array], 3, 100, 3)
        scores = [objective.score(labels.astype(int), values, 3, [1]) for values in judged]
        assert [row[objective.name] for row in trial.rows] == scores
        assert trial.rows[-1]["best_epoch"] == 1 + int(np.argmax(scores))
        assert trial.score == max(scores)
    shown = ranked.table.iloc[0]
    assert shown[objective.low] <= shown[objective.name] <= shown[objective.high]
    text = page.page(summary.find(ranked, finished.folder))
    assert f"leads with {objective.words} {shown[objective.name]:.4f}" in text


def test_where_mistakes_have_costs_each_trial_predicts_what_costs_least_and_so_does_what_reads_it(place):
    plan = begin(place, "costs.csv")  # finished above, where all tests run
    studies.finish(plan)
    ranked, costs = ranking.rank(plan.folder), named(plan.base.objective).costs
    differ = 0
    for trial in ranked.trials:
        path = plan.folder / "trials" / str(trial.number) / "validation.npz"
        logits, predictions = validation.read(path, [validation.LOGITS, validation.PREDICTIONS], 3, 100, 3)
        expected = cheapest(softmax(logits.astype(float), axis=1), costs)
        # logits are stored as float16
        assert (predictions[trial.rows[-1]["best_epoch"] - 1] == expected).mean() > 0.9
        assert ranked.evidence.predictions[ranked.evidence.numbers.index(trial.number)].tolist() == expected
        differ += (expected != logits.argmax(axis=1)).sum()
    assert differ > 0


def test_a_study_that_goes_on_keeps_its_objective_and_refuses_another(place, finished):
    other = "macro_f1" if finished.base.objective == "minority_f1" else "minority_f1"
    name = finished.folder.name
    with pytest.raises(UsageError, match="--objective"):
        begin(place, other, name)
    assert begin(place, None, name).base.objective == finished.base.objective


def test_costs_are_put_into_the_order_of_the_classes(place):
    plan = begin(place, "costs.csv")
    assert plan.pool.class_names == ("other", "rare", "usual")
    assert plan.base.objective == "costs:0,1,1;5,0,9;1,1,0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("true_class,a,b\na,0,1\nb,1,0\n", "must be about the classes other, rare, usual, not a, b"),
        ("rare,other,usual\n0,1,1\n", "must have a column true_class with each class once"),
        (COSTS.replace("9", "much"), "not 'much'"),
        (COSTS.replace("usual,0", "usual,1"), "0 where both are the same"),
    ],
)
def test_a_table_of_costs_that_makes_no_sense_is_refused_in_a_sentence(place, text, words):
    (place / "wrong.csv").write_text(text)
    with pytest.raises(UsageError, match=words):
        begin(place, "wrong.csv")
    assert not (place / "results/wrong.csv").exists()


def test_a_trial_that_is_judged_otherwise_than_its_study_is_refused(place):
    plan = begin(place, "balanced_accuracy", "mixed")
    studies.finish(plan)
    path = plan.folder / "trials/2/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "objective": "macro_f1"}))
    with pytest.raises(UsageError, match="is judged by macro F1, and the study by balanced accuracy"):
        files.read_trials(plan.folder, files.read_study(plan.folder))


def test_an_interrupted_trial_judged_by_likelihoods_goes_on_with_the_same_bits(place, tmp_path):
    pool = begin(place, "minority_average_precision").pool
    images = trial_images(pool, 0, 0, torch.device("cpu"))
    config = TrialConfig(epochs=3, objective="minority_average_precision", accumulation_steps=1)
    whole = loop.new_state(config, images)
    rows = list(loop.run(whole, images))
    first = loop.new_state(config, images)
    next(loop.run(first, images))
    checkpoint.save(first, images, tmp_path / "last.pt")
    state = checkpoint.restore(checkpoint.read(tmp_path / "last.pt"), config, images, tmp_path / "last.pt")
    list(loop.run(state, images))
    for ours, theirs in zip(state.rows, rows, strict=True):
        assert {k: v for k, v in ours.items() if "seconds" not in k} == {
            k: v for k, v in theirs.items() if "seconds" not in k
        }
    assert all(map(torch.equal, state.likelihoods, whole.likelihoods))


@pytest.mark.parametrize("name", ["minority_average_precision", "minority_f1_adjusted", "costs.csv"])
def test_a_confirmation_is_judged_by_the_objective_too_and_so_is_what_comes_after_it(place, name, monkeypatch):
    plan = begin(place, name, f"confirmed-{name}")
    studies.finish(plan)
    confirmation = studies.begin_confirmation(plan.folder, "--top", 1, "--seeds", 2)
    studies.train(confirmation)
    runs = open_runs(confirmation)
    content = scoring.summary(confirmation, scoring.measure(runs), "2026-01-01")
    assert content.objective == plan.base.objective
    tested, _ = scoring.measure_test(runs, content.winner, confirmation.test, confirmation.pool.class_names, 0)
    objective = files.read_study(plan.folder).judged_by
    for run, score in zip(runs[content.winner], tested[content.winner].scores, strict=True):
        assert run.best_epoch == 1 + int(np.argmax([objective.score(run.labels, j, 3, [1]) for j in run.judged[0]]))
        assert 0 <= score <= 1
    if objective.is_adjusted:
        assert tested[content.winner].scores == tested[content.winner].scores_adjusted
    if objective.costs:
        test, run = confirmation.test, runs[content.winner][0]
        images = replace(run.images, pixels=torch.from_numpy(test.pixels))
        logits = evaluate(run.model, images, torch.arange(len(test.labels))).double().numpy()
        for values, scores in [
            (logits, tested[content.winner].scores),
            ((logits + run.offsets.values) / run.temperature.value, tested[content.winner].scores_offsets),
        ]:
            found = cheapest(softmax(values, axis=1), objective.costs)
            lost = [objective.costs[label][name] for label, name in zip(test.labels, found, strict=True)]
            assert scores[0] == pytest.approx(1 - np.mean(lost) / 9)
    monkeypatch.setattr(winner, "_export", lambda *arguments: None)  # it takes seconds, and is tested elsewhere
    stages._conclude(confirmation, lambda text: None)
    assert afterwards.carry_out(studies.begin_afterwards(plan.folder, "--refit"), refit.make, lambda folder: "") == 0
    if objective.costs:
        assert str([list(row) for row in objective.costs]) in (plan.folder / "winner/README.md").read_text()
    offsets = files.read_model(plan.folder).offsets
    assert (offsets[1] > max(offsets[0], offsets[2])) == objective.is_adjusted  # the second class is the rare one
