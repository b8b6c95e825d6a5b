"""What a confirmation leaves at its end, made in this process from photographs."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from study.confirmation import afterwards, learning_curve, stages, winner
from study.confirmation import refit as refitting
from study.findings import more_images, ranking, summary
from study.record import files
from study.record.confirmation import CurvePoint, LearningCurve
from study.report import page
from tests import studies
from tests.conftest import DIGITS_STUDY
from trainable.cli import UsageError
from trainable.images.splits import split, subset
from trainable.images.trial import images_of
from trainable.learner import train_epoch
from trainable.loop import new_state


@pytest.fixture(scope="module")
def concluded(tmp_path_factory):
    """The folder of a confirmed study of photographs in groups of five, its plan, and what was said."""
    place = tmp_path_factory.mktemp("photos")
    studies.write_photos(place / "photos", {"cat": 60, "dog": 60, "fox": 60})
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winner, "_export", lambda *arguments: None)  # it takes seconds, and is tested elsewhere
        asked = ["--data", place / "photos", "--group", r"\w+/\d", "--cache-dir", place / "cache", "--minority", "fox"]
        plan = studies.begin(
            *DIGITS_STUDY, "--results", place / "results", *asked, "--trials", "2", "--space", "course"
        )
        studies.finish(plan)
        confirmation = studies.begin_confirmation(plan.folder, "--top", "1", "--seeds", "2")
        studies.train(confirmation)
        stages._conclude(confirmation, said.append)
    return plan.folder, confirmation, "\n".join(said)


def test_the_test_images_are_told_class_by_class_with_intervals_and_false_alarms(concluded):
    folder, _, said = concluded
    verdict = files.read_confirmation(folder)
    tested = verdict.test.recipes[verdict.winner]
    assert [found.name for found in tested.classes] == ["cat", "dog", "fox"]
    confusion = np.array(tested.confusion)
    for index, found in enumerate(tested.classes):
        assert 2 * found.images == confusion[index].sum()
        assert found.recall.estimate == pytest.approx(confusion[index, index] / confusion[index].sum())
        assert found.recall.low <= found.recall.estimate <= found.recall.high
    # as the model in winner/, and not as the runs that were compared
    assert np.mean(tested.scores_offsets) == pytest.approx(tested.classes[2].f1.estimate)
    assert tested.false_alarms.estimate == pytest.approx(confusion[:2, 2].sum() / confusion[:2].sum())
    offsets = "the winner, with its decision offsets, on test images of the rare classes, mean of the seeds (95 %):\n"
    assert offsets in said
    assert "false alarms: " in said


def test_mistakes_have_the_names_of_their_files(concluded):
    folder, plan, _ = concluded
    mistakes = json.loads((folder / "winner/mistakes.json").read_text())
    assert mistakes
    for mistake in mistakes:
        assert mistake["file"].split("/")[0] == mistake["label"]
        assert (plan.pool.spec.data + "/" + mistake["file"]).endswith(".png")
    assert mistakes[0]["file"] in page.page(summary.find(ranking.rank(folder), folder))


def test_a_refit_trains_on_validation_images_too_for_as_long_as_they_chose_and_takes_the_winners_place(
    concluded, monkeypatch, tmp_path, capsys
):
    folder = shutil.copytree(concluded[0], tmp_path / "photos")
    monkeypatch.setattr(winner, "_export", lambda *arguments: None)
    seeds = files.read_confirmation(folder).seeds
    for seed, best in zip(seeds, (2, 1), strict=True):  # what their validation images chose
        path = folder / "confirm" / f"{files.read_confirmation(folder).winner}-{seed}" / "epochs.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row | {"best_epoch": min(best, row["epoch"])}) + "\n" for row in rows))
    plan = studies.begin_afterwards(folder, "--refit")
    refit = refitting.Refit(plan)
    assert (refit.best_epochs, refit.epochs) == ([2, 1], 1)
    before = files.read_model(folder)
    assert afterwards.carry_out(plan, refitting.make, lambda folder: "the page") == 0
    model = files.read_model(folder)
    assert model.validation is None
    assert model.rule.endswith("no validation image has judged this model")
    assert (model.offsets, model.recipe, model.config) == ([0.0] * 3, before.recipe, before.config)
    assert files.read_mistakes(folder) == []
    assert "no image is left that could choose them" in (folder / "winner/README.md").read_text()
    assert not refit.place.exists()
    # a second implementation: the loop itself, on the images of both
    drawn = split(plan.pool, seeds[0], seeds[0])
    both = np.sort(np.concatenate([drawn.train, drawn.val]))
    images = images_of(plan.pool, dataclasses.replace(drawn, train=both), torch.device("cpu"))
    assert len(images.train) == len(drawn.train) + len(drawn.val)
    state = new_state(plan.config, images)
    train_epoch(state.learner, images, 1)
    weights = torch.load(folder / "winner/weights.pt", weights_only=True)["model"]
    assert all(torch.equal(value, weights[name]) for name, value in state.learner.model.state_dict().items())
    assert model.mean == images.mean.tolist()
    capsys.readouterr()


def test_a_refit_without_a_winner_is_refused(concluded, tmp_path):
    folder = shutil.copytree(concluded[0], tmp_path / "photos")
    (folder / "confirm.json").unlink()
    with pytest.raises(UsageError) as refusal:
        studies.begin_afterwards(folder, "--refit", "--reopen-test", "why not")
    assert refusal.value.problems == [
        f"--refit: {folder} has no winner yet; python -m study.confirm {folder} finds it",
        "--reopen-test: must be left out with --refit, which looks at no test image",
    ]


def test_the_learning_curve_trains_the_winner_on_whole_groups_of_each_class_and_says_who_gains(
    concluded, tmp_path, capsys
):
    folder = shutil.copytree(concluded[0], tmp_path / "photos")
    plan = studies.begin_afterwards(folder, "--learning-curve")
    assert afterwards.carry_out(plan, learning_curve.make, lambda folder: "the page") == 0
    curve = files.read_learning_curve(folder, 3)
    assert [point.share for point in curve.points] == [0.25, 0.5, 1]
    assert curve.points[2].scores == [rows[-1]["best_minority_f1"] for rows in plan.rows]
    drawn = split(plan.pool, plan.seeds[0], plan.seeds[0])
    for point in curve.points[:2]:
        train = subset(plan.pool, drawn, point.share, plan.seeds[0]).train
        assert np.bincount(plan.pool.labels[train]).tolist() == point.images
        outside = np.setdiff1d(drawn.train, train)
        assert set(plan.pool.groups[train]).isdisjoint(plan.pool.groups[outside])
        assert len(train) == pytest.approx(point.share * len(drawn.train), abs=15)
    assert not list(folder.glob("confirm/*-at-*"))
    found = summary.find(ranking.rank(folder), folder)
    assert found.more_images.words in " ".join(" ".join(found.lines()).split())
    assert "Would more images help?" in page.page(found)
    capsys.readouterr()


def test_the_class_whose_f1_rises_beyond_doubt_is_named_and_none_where_none_does():
    def point(share, fox):
        f1 = [[0.9, 0.8, value] for value in fox]
        return CurvePoint(share=share, images=[9, 9, 9], scores=list(fox), class_f1=f1)

    def words(fewer, everything):
        points = [point(0.5, fewer), point(1.0, everything)]
        curve = LearningCurve(recipe="trial-2", seeds=[1, 2, 3], objective="minority_f1", points=points)
        return more_images.of(curve, ["cat", "dog", "fox"])

    sure, unsure = words((0.4, 0.5, 0.45), (0.6, 0.7, 0.66)), words((0.4, 0.5, 0.7), (0.8, 0.5, 0.6))
    higher = "with all training images its F1 is higher by +0."
    assert sure.words.startswith(f"more images of fox would help most: {higher}2033 (+0.1")
    assert unsure.words.startswith(f"no class is seen to gain from more images; most of all fox might: {higher}1000 (-")
    assert words((0.4, 0.5, 0.7), (0.4, 0.4, 0.7)).words == "no class is seen to gain from more images"
    assert (sure.is_known, unsure.is_known) == (True, False)
