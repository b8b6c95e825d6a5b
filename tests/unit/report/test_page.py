"""The page and the ranking of a made-up study."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from study import analyze
from study.findings import ranking, summary
from study.findings.ranking import rank
from study.report import page, pictures
from tests import studies


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a study of 12 trials with its ranking.csv and report.html."""
    folder = studies.write(tmp_path_factory.mktemp("results") / "study")
    ranked = rank(folder)
    ranking.write(ranked, folder)
    page.write(summary.find(ranked, folder), folder)
    return folder


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory):
    """What is found in a confirmed study."""
    folder = studies.write(tmp_path_factory.mktemp("results") / "study")
    studies.confirm(folder)
    return summary.find(rank(folder), folder)


def test_the_ranking_has_intervals_the_tied_group_and_reweighted_f1_and_recall(finished):
    table = pd.read_csv(finished / "ranking.csv")
    with_images = table[table["status"].isin(["complete", "stopped"])]
    assert (with_images["minority_f1_low"] < with_images["minority_f1"]).all()
    assert (with_images["minority_f1"] < with_images["minority_f1_high"]).all()
    assert table.iloc[0]["tied"] == True  # noqa: E712
    assert (with_images["f1_reweighted"] < with_images["minority_f1"]).all()  # the rare are rarer in training
    assert with_images[f"recall_{studies.EVIL}"].between(0, 1).all()
    without = table[table["status"].isin(["failed", "running"])]
    assert len(without) == 2
    assert without["minority_f1_low"].isna().all()


def test_recall_and_reweighted_f1_as_counted_by_hand(tmp_path):
    folder = studies.write(tmp_path / "study", num_trials=3)
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    logits = np.eye(4, dtype=np.float16)[[0, 2, 1, 1, 2, 0, 3, 3]]
    for number in range(3):
        np.savez(folder / f"trials/{number}/validation.npz", labels=labels, logits=logits)
    row = rank(folder).table.iloc[0]
    assert [row[f"recall_{name}"] for name in studies.CLASS_NAMES] == [0.5, 1, 0.5, 1]
    # 20 of class 0, of which 10 are found; 400 of the 800 of class 2 are called 0
    assert row["f1_reweighted"] == pytest.approx((2 * 10 / (20 + 410) + 1) / 2)


def test_a_damaged_or_foreign_validation_file_is_named_and_breaks_nothing(tmp_path):
    folder = studies.write(tmp_path / "study")
    (folder / "trials/2/validation.npz").write_bytes(b"PK\x03\x04 not much of a file")
    np.savez(folder / "trials/4/validation.npz", labels=np.arange(3), logits=np.zeros((3, 4), np.float16))
    ranking = rank(folder)
    assert len(ranking.evidence.damaged) == 2
    assert not {2, 4} & set(ranking.evidence.numbers)
    assert "damaged, so this trial has no interval" in "\n".join(ranking.lines())
    page.page(summary.find(ranking, folder))


@pytest.mark.parametrize("num_trials", [0, 1, 2, 3])
def test_a_study_that_has_just_begun_has_a_page(tmp_path, num_trials):
    folder = studies.write(tmp_path / "study", num_trials=num_trials, num_epochs=1)
    found = summary.find(rank(folder), folder)
    assert max(map(len, [*rank(folder).lines(), *found.lines(), ""])) <= 100
    assert ("No trial has finished" in page.page(found)) == (num_trials == 0)


def test_trials_without_a_single_epoch_have_a_page(tmp_path):
    folder = studies.write(tmp_path / "study", num_trials=2)
    for number in range(2):
        (folder / f"trials/{number}/epochs.jsonl").write_text("")
        (folder / f"trials/{number}/validation.npz").unlink()
    journal = folder / "study.journal"
    journal.write_text("".join(line for line in journal.open() if json.loads(line)["op_code"] in (0, 4)))
    assert "No trial has finished" in page.page(summary.find(rank(folder), folder))


def test_a_confirmation_puts_search_confirmed_and_test_side_by_side(confirmed):
    lines = confirmed.verdict.lines(11, 6)
    assert max(map(len, lines)) <= 100
    first, second = (re.split(r"\s{2,}", line) for line in lines if line.startswith("trial 2  "))
    assert first == ["trial 2", "0.7500", "0.7100 (0.7000 to 0.7200)", "0.7100", "+0.0400", "0.7100", "-"]
    assert second == ["trial 2", "0.7500", "0.7100", "0.7000 (0.6800 to 0.7200)", "0.7100", "0.7100"]
    assert confirmed.leader["trial"] == 2
    told = lines.index("trial 2 minus course, weighted: +0.2000 (-0.0100 to +0.4000)")
    assert lines[told + 1] == "    after logit adjustment: +0.1000 (+0.0500 to +0.1500)"
    html = page.page(confirmed)
    assert "Trial 2 serves the rare classes best: minority F1 0.7100 (95 % 0.6900 to 0.7300), confirmed on 3" in html
    assert "Better than course, shuffled on fresh seeds: +0.1000 (+0.0500 to +0.1500)" in html
    assert "On the test images, trial 2 minus course, shuffled: +0.2000 (-0.0100 to +0.4000)" in html
    assert confirmed.balancing.source.startswith("the course's two recipes on 3 fresh seeds")
    assert "the new ones are not confirmed" not in html
    assert any("the study has 14 now" in note for note in confirmed.verdict.notes(14, 6))


def test_the_winners_classes_on_the_test_images_stand_on_the_page_and_the_rare_ones_in_the_terminal(tmp_path):
    folder = studies.write(tmp_path / "study")
    score = {"estimate": 0.8, "low": 0.6, "high": 0.9}
    classes = [
        {"name": name, "rare": index < 2, "images": 30, "recall": score, "precision": score, "f1": score}
        for index, name in enumerate(studies.CLASS_NAMES)
    ]
    alarms = {"estimate": 0.0123, "low": 0.0002, "high": 0.03}
    matrix = np.eye(4, dtype=int).tolist()
    studies.confirm(folder, on_test={"classes": classes, "false_alarms": alarms, "confusion": matrix})
    (folder / "winner").mkdir()
    mistake = {"label": "cat", "predicted": "dog", "probability": 0.9, "png": "AAAA", "file": f"cat/{studies.EVIL}"}
    (folder / "winner/mistakes.json").write_text(json.dumps([mistake]))
    found = summary.find(rank(folder), folder)
    html, lines = page.page(found), found.lines()
    assert max(map(len, lines)) <= 100
    told = lines.index("the winner on test images of the rare classes, mean of the seeds (95 %):")
    name = studies.EVIL[:23] + "…"
    assert re.split(r"\s{2,}", lines[told + 2]) == [name, "30", *["0.800 (0.60 to 0.90)"] * 3]
    words = "alse alarms: 1.2 % (0.02 to 3.0 %) of the other classes' images are taken for a rare class"
    assert lines[told + 4] == f"f{words}"
    assert f"F{words}".replace("'", "&#39;") in html
    assert html.count("0.8000 (0.6000 to\n0.9000)") == 12
    assert "cat/&lt;img" in html
    assert studies.EVIL not in html


def test_a_winner_that_cannot_be_told_from_the_courses_is_not_called_best(tmp_path):
    folder = studies.write(tmp_path / "study")
    studies.confirm(folder, low=-0.01)
    html = page.page(summary.find(rank(folder), folder))
    assert "Trial 2 did best, but is tied with course, shuffled and course, weighted: minority F1" in html
    assert "No visible difference from course, weighted on fresh seeds: +0.1000 (-0.0100 to +0.1500)" in html
    assert "serves the rare classes best:" not in html


def test_a_winner_that_cannot_be_told_from_another_searched_recipe_is_not_called_best(tmp_path):
    folder = studies.write(tmp_path / "study")
    studies.confirm(folder)
    content = json.loads((folder / "confirm.json").read_text())
    content["differences"].append(content["differences"][0] | {"second": "trial-5", "low": -0.001})
    content["recipes"].append(content["recipes"][0] | {"name": "trial-5", "trial": 5, "search_score": 0.5})
    (folder / "confirm.json").write_text(json.dumps(content))
    html = page.page(summary.find(rank(folder), folder))
    assert "Trial 2 did best, but is tied with trial 5: minority F1" in html


def test_the_confirmations_picture_has_each_recipes_three_scores(confirmed):
    (axis,) = pictures.confirmation(confirmed.verdict).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["trial 2", "course, weighted", "course, shuffled"]
    search, *others = axis.lines[0].get_xdata(), *(bar.lines[0].get_xdata() for bar in axis.containers)
    assert search == pytest.approx([0.75, 0.65, 0.55])
    assert others[0] == pytest.approx([0.71, 0.6166667, 0.5])
    assert others[1] == pytest.approx([0.70, 0.60, 0.50])


def test_a_sealed_test_set_is_said_to_be(tmp_path):
    folder = studies.write(tmp_path / "study")
    studies.confirm(folder, opened=False)
    found = summary.find(rank(folder), folder)
    assert "sealed" in "\n".join(found.lines())
    assert "The test images are sealed" in page.page(found)


@pytest.mark.parametrize("content", ['{"format": 2}', "[]", "{"])
def test_a_confirmation_of_another_format_or_damaged_is_refused_in_a_sentence(tmp_path, content, capsys):
    folder = studies.write(tmp_path / "study", num_trials=2)
    (folder / "confirm.json").write_text(content)
    with pytest.raises(SystemExit) as exit_:
        analyze.main([str(folder)])
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert "confirm.json" in err
    assert "Traceback" not in err


def test_names_never_become_elements(finished, confirmed):
    for html in ((finished / "report.html").read_text("utf-8"), page.page(confirmed)):
        assert "<img src=x" not in html
        assert html.count("&lt;img src=x") > 5


def test_what_could_stand_on_two_sides_of_a_split_is_told_at_the_head_of_the_page(tmp_path, finished):
    assert 'id="leaks"' not in (finished / "report.html").read_text("utf-8")
    folder = studies.write(tmp_path / "study")
    asked = json.loads((folder / "study.json").read_text())
    words = f"9 file-name stems come 6 times ({studies.EVIL}_1.png): if these show the same thing, use --group"
    (folder / "study.json").write_text(json.dumps(asked | {"leaks": words}))
    html = page.page(summary.find(rank(folder), folder))
    head = html[html.index("<h1") : html.index('class="cards"')]
    assert "9 file-name stems come 6 times (&lt;img src=x" in head
    assert "use --group" in head
