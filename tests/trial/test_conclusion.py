"""What a confirmation leaves at its end, made in this process from photographs."""

import json

import numpy as np
import pytest

from study.confirmation import stages, winner
from study.findings import ranking, summary
from study.record import files
from study.report import page
from tests import studies
from tests.conftest import DIGITS_STUDY


@pytest.fixture(scope="module")
def concluded(tmp_path_factory):
    """The folder of a confirmed study of photographs in groups of five, its plan, and what was said."""
    place = tmp_path_factory.mktemp("photos")
    studies.write_photos(place / "photos", {"cat": 60, "dog": 60, "fox": 60})
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winner, "_export", lambda *arguments: None)  # it takes seconds, and is tested elsewhere
        asked = ["--data", place / "photos", "--group", r"\w+/\d", "--cache-dir", place / "cache", "--minority", "fox"]
        plan = studies.begin(*DIGITS_STUDY, "--results", place / "results", *asked, "--trials", "2")
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
    assert tested.mean == pytest.approx(tested.classes[2].f1.estimate)
    assert tested.false_alarms.estimate == pytest.approx(confusion[:2, 2].sum() / confusion[:2].sum())
    assert "the winner on test images of the rare classes, mean of the seeds (95 %):\n" in said
    assert "false alarms: " in said


def test_mistakes_have_the_names_of_their_files(concluded):
    folder, plan, _ = concluded
    mistakes = json.loads((folder / "winner/mistakes.json").read_text())
    assert mistakes
    for mistake in mistakes:
        assert mistake["file"].split("/")[0] == mistake["label"]
        assert (plan.pool.spec.data + "/" + mistake["file"]).endswith(".png")
    assert mistakes[0]["file"] in page.page(summary.find(ranking.rank(folder), folder))
