"""The two sentences at the head: each thing that they say follows from one thing in the study."""

import json

import numpy as np
import pytest

from study.findings import advice, ranking, summary
from tests import studies

FEWER_IMAGES = "more optimizer steps in an epoch than 7: fewer images to a step (batch_size, accumulation_steps)"


def found_in(folder):
    return summary.find(ranking.rank(folder), folder)


def test_before_a_confirmation_they_say_so_and_count_what_is_found(tmp_path):
    folder = studies.write(tmp_path / "study", num_trials=3)
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 3, 3])
    logits = np.eye(4, dtype=np.float16)[[0, 0, 0, 2, 1, 2, 2, 0, 3, 3]]
    for number in range(3):
        np.savez(folder / f"trials/{number}/validation.npz", labels=labels, logits=logits)
    use, better = found_in(folder).advice
    leads = ranking.rank(folder).scored.iloc[0]["trial"]
    # four of six are found; of the five that are called rare one is not
    assert "of 100 images of the rare classes it finds 67, and of 100 that it calls rare 80 are right" in use
    assert use.startswith("Use trial ")
    assert "the validation images that chose it, so expect a little less" in use
    assert use.endswith(
        "It is one of the course's own recipes; whether another one is better, study.confirm tells."
        if leads < 2
        else "Whether it is better than the course's recipes, study.confirm tells."
    )
    # F1 of class 0 is 6 / 8, of class 1 2 / 3
    assert better == (
        f"To make it better: {FEWER_IMAGES}; "
        f"more images of {studies.CLASS_NAMES[1]}, the rare class it knows least well."
    )


def test_a_winner_is_named_with_what_it_is_better_than_and_how_far_its_score_may_be_off(tmp_path):
    folder = studies.write(tmp_path / "study")
    studies.confirm(folder)
    use, _ = found_in(folder).advice
    assert use.startswith("Use the model in winner/, trial 2: ")
    assert "of 100 images of the rare classes models made like it find " in use
    assert "its score may be off by 2 points of 100." in use
    assert use.endswith("It is better than course, shuffled and course, weighted.")
    studies.confirm(folder, low=-0.01)
    assert found_in(folder).advice[0].endswith("It is not known to be better than the course's.")
    assert max(map(len, advice.lines(ranking.rank(folder), summary.verdict_of(folder), None))) <= 100


def test_more_epochs_more_trials_and_groups_are_asked_for_where_they_would_help(tmp_path):
    folder = studies.write(tmp_path / "study", num_trials=14)
    asked = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(asked | {"leaks": "418 images have a near copy"}))
    number = 11  # complete, the last but two
    path = folder / f"trials/{number}/epochs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    best = {"minority_f1": 0.99, "best_minority_f1": 0.99, "best_epoch": len(rows)}
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:-1], rows[-1] | best]))
    journal = folder / "study.journal"
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    for entry in entries:
        if entry["op_code"] == 7 and (entry["trial_id"], entry["step"]) == (number, len(rows)):
            entry["intermediate_value"] = 0.99
        if entry["op_code"] == 6 and entry["trial_id"] == number:
            entry["values"] = [0.99]
    journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    use, better = found_in(folder).advice
    assert use.startswith("Use trial 11 for now: ")
    assert better.startswith(
        "To make it better: --group, if images show the same thing: until then the score may be memory; "
        f"more --epochs than 6: its best epoch was the last; {FEWER_IMAGES.replace('7', '4')}; "
        "more --trials: the best of the search came late; "
        "more images of "
    )


def head_of(folder, confusion, **more):
    """A confirmation whose winner has that confusion on the test images; what is said at the head."""
    classes = [{"name": "x", "rare": True, "images": 1, **{s: {"estimate": 0, "low": 0, "high": 1} for s in SCORES}}]
    studies.confirm(folder, on_test={"confusion": confusion, "classes": classes, **more})
    return found_in(folder).advice[0]


SCORES = ("recall", "precision", "f1")


def test_many_false_alarms_are_told_at_the_head_and_few_are_not(tmp_path):
    folder = studies.write(tmp_path / "study")
    rare = [[8, 2, 0, 0], [0, 9, 1, 0]]
    few = head_of(folder, [*rare, [0, 1, 99, 0], [1, 0, 0, 99]])
    assert "of 100 that models made like it call rare 81 are right (on the sealed test images)" in few
    many = head_of(folder, [*rare, [40, 40, 20, 0], [30, 60, 0, 10]])
    assert "call rare 9 are right; of 100 other images models made like it call 85 rare (on the sealed" in many


@pytest.mark.parametrize(("rise", "told"), [(0.2, True), (0.0, False)])
def test_scores_that_still_rise_late_ask_for_more_epochs_though_the_last_is_not_the_best(tmp_path, rise, told):
    folder = studies.write(tmp_path / "study", num_trials=4, num_epochs=8)
    for path in folder.glob("trials/*/epochs.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["best_minority_f1"] = 0.5 + (rise if row["epoch"] >= 7 else 0)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (journal := folder / "study.journal").write_text(
        "".join(line + "\n" for line in map(json.dumps, entries_of(journal, rise)))
    )
    _, better = found_in(folder).advice
    assert ("more --epochs than 8: scores still rose by 0.20 in the last quarter" in better) == told


def entries_of(journal, rise):
    """The journal's entries with the scores of the rows above."""
    for entry in map(json.loads, journal.read_text().splitlines()):
        if entry["op_code"] == 7:
            entry["intermediate_value"] = 0.5 + (rise if entry["step"] >= 7 else 0)
        if entry["op_code"] == 6 and entry["values"]:
            entry["values"] = [0.5 + rise]
        yield entry


def test_few_optimizer_steps_are_among_what_to_change(tmp_path):
    folder = studies.write(tmp_path / "study")
    asked = json.loads((folder / "study.json").read_text())
    counts = asked["class_counts"] | {"train": [20, 20, 40, 40]}
    (folder / "study.json").write_text(json.dumps(asked | {"class_counts": counts}))
    assert "more optimizer steps in an epoch than 1: fewer images to a step (batch_size" in found_in(folder).advice[1]
