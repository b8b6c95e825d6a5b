import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from study.findings import course, summary
from study.findings import ranking as analyze
from study.findings.evidence import Evidence
from study.record import files
from study.record.ledger import Ledger
from study.report.page import ranking_columns
from study.space.parameters import from_tables
from study.statistics.intervals import behind, intervals
from study.statistics.resamples import Resamples
from tests import studies
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.objectives import MINORITY_F1
from trainable.parts.corrections import corrects_twice
from trainable.records import STUDY_FORMAT


def test_a_study_paused_before_its_first_trial_or_epoch_has_a_ranking_that_says_so(tmp_path):
    files.write_study(tmp_path, studies.asked(["a", "b"], ["a"]))
    assert json.loads((tmp_path / "study.json").read_text())["format"] == STUDY_FORMAT
    book = Ledger(tmp_path)
    for _ in range(2):
        ranking = analyze.rank(tmp_path)
        analyze.write(ranking, tmp_path)
        assert ranking.lines()[-1] == "no trial has finished an epoch yet"
        book.add(TrialConfig(), "searched", {}, {})


def table_of(dropouts, **columns):
    """Ranked trials, the best first, that differ in dropout alone."""
    rows = [
        {**TrialConfig(dropout=dropout).to_dict(), "trial": number, "recipe": "searched",
         "minority_f1": 0.9 - number / 100, **columns}
        for number, dropout in enumerate(dropouts)
    ]  # fmt: skip
    return pd.DataFrame.from_records(rows)


def boundary_lines(dropouts, low=0.0, high=0.7):
    study = SimpleNamespace(
        judged_by=MINORITY_F1, searched=from_tables({"dropout": {"low": low, "high": high}}, {}, "")
    )
    return analyze.Ranking(study, table_of(dropouts)).boundary_lines()


SPREAD = [0.05, 0.35, 0.6, 0.2, 0.5, 0.1, 0.45, 0.3] * 2


def test_a_range_is_named_where_the_best_trials_crowd_its_end():
    assert boundary_lines([0.68, 0.66, 0.69, 0.65, 0.7, *SPREAD]) == [
        "dropout: 5 of the 5 best trials crowd the high end of its range, 0.7; a wider range may hold better ones"
    ]
    assert boundary_lines(SPREAD) == []
    assert boundary_lines([0.3, 0.31, 0.68, 0.3, 0.32, *SPREAD]) == []


def test_an_end_that_the_field_cannot_go_beyond_is_not_named():
    low_end = [0.01, 0.02, 0.0, 0.03, 0.04, *SPREAD]
    assert boundary_lines(low_end) == []
    assert len(boundary_lines([value + 0.2 for value in low_end], low=0.2, high=0.9)) == 1


def test_trials_that_ran_out_of_memory_are_named():
    table = table_of([0.3, 0.4])
    table.loc[1, "num_micro_batches"] = 4
    lines = analyze.Ranking(None, table).memory_lines()
    assert len(lines) == 1
    assert lines[0].startswith("trial 1: out of GPU memory, so each batch went through the network in 4 parts")


def finished_study(folder):
    """A study of two trials on disk."""
    files.write_study(folder, studies.asked(["a", "b"], ["a"], epochs=3))
    book = Ledger(folder)
    for number, scores in enumerate([(0.2, 0.5, 0.4), (0.1, 0.3)]):
        book.add(TrialConfig(epochs=3), "searched", {}, {})
        for epoch in range(1, len(scores) + 1):
            best = max(scores[:epoch])
            row = studies.row(epoch, best, best_epoch=scores.index(best) + 1, minority_f1=scores[epoch - 1])
            book.record(number, row)
        book.complete(number, "epochs")
    book.close()


def test_rows_cut_at_any_byte_give_the_whole_ranking_or_a_sentence_never_another_ranking(tmp_path):
    finished_study(tmp_path)
    whole = analyze.rank(tmp_path).table
    path = tmp_path / "trials/0/epochs.jsonl"
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(UsageError, match=r"epochs\.jsonl"):
            analyze.rank(tmp_path)
    path.write_bytes(content + b'{"epoch": 4, "be')  # a row that is being written
    pd.testing.assert_frame_equal(analyze.rank(tmp_path).table, whole)


NAMES = [
    ["reweighted", "low", "high", "cat"],
    ["reweighted", "reweighted_", "reweighted__", "cat"],
    ["minority_f1", "minority_f1_low", "trial", "rank"],
    ["a_recall", "f1_reweighted", "recall_cat", "_"],
    ["two\nlines", "=1+1", '"quoted"', "a,b"],
]


@pytest.mark.parametrize("names", NAMES)
def test_no_name_of_a_class_takes_another_column_away(tmp_path, names):
    plain, found = (
        analyze.rank(studies.write(tmp_path / place, num_trials=6, class_names=class_names)).table
        for place, class_names in [("plain", ["k0", "k1", "k2", "k3"]), ("found", names)]
    )
    assert len(found.columns) == len(set(found.columns)) == len(plain.columns)
    for theirs, ours in zip(plain.columns, found.columns, strict=True):  # the same values in the same places
        assert plain[theirs].astype(str).tolist() == found[ours].astype(str).tolist()
        score, _, name = theirs.rpartition("_k")
        if name.isdigit():
            assert ours.rstrip("_") == f"{score}_{names[int(name)]}".rstrip("_")
        else:
            assert ours == theirs


def test_the_columns_that_begin_like_a_classs_are_known(tmp_path):
    table = analyze.rank(studies.write(tmp_path / "study", num_trials=6, class_names=["a", "b", "c"])).table
    scores = ("f1", "precision", "recall", "roc_auc", "average_precision")
    others = {f"{score}_{name}" for score in scores for name in "abc"}
    alike = {name for name in table.columns if name.startswith(tuple(f"{score}_" for score in scores))}
    assert alike - others == analyze.FIXED_COLUMNS


STUDY = SimpleNamespace(judged_by=MINORITY_F1)


class Stub:
    def __init__(self, number, tied):
        self.numbers, self.tied, self.best = list(range(number)), np.arange(number) < tied, 0


@pytest.mark.parametrize(
    ("number", "tied", "words"),
    [
        (1, 1, "trial 0 is the only one so far whose images can be compared"),
        (2, 1, "trial 0 stands out: ahead of the other one by more than chance"),
        (3, 1, "trial 0 stands out: ahead of all 2 others by more than chance"),
        (3, 2, "2 of 3 trials are tied for first on these validation images"),
    ],
)
def test_the_words_for_the_tied_fit_their_number(number, tied, words):
    assert analyze.Ranking(STUDY, table_of([0.3]), evidence=Stub(number, tied)).tied_words() == words


@pytest.mark.parametrize("num_images", [8, 10, 40])
def test_no_interval_of_a_difference_lies_beyond_one(num_images):
    labels = np.arange(num_images) % 4
    predictions = np.stack([labels, (labels + 1) % 4])  # all right and all wrong
    scores = Resamples(labels, 4, [0, 1]).score(predictions)
    found = Evidence([0, 1], labels, predictions, 4, scores, intervals(scores), 0, behind(scores, 0), [])
    gain = found.ahead_of(1)
    assert gain.estimate == 1
    assert -1 <= gain.low < gain.high <= 1
    itself = found.ahead_of(0)
    assert (itself.low, itself.estimate, itself.high) == (0, 0, 0)


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2J", "\r"])
def test_class_names_do_not_drive_the_terminal_in_an_analysis(tmp_path, name):
    folder = studies.write(tmp_path / "study", class_names=[name, "cow", "cat", "dog"])
    ranking = analyze.rank(folder)
    lines = [*ranking.lines(), *summary.find(ranking, folder).lines()]
    assert all(line.isprintable() for line in lines), [line for line in lines if not line.isprintable()]
    assert sum(ascii(name)[1:-1] in line for line in lines) >= 2


def test_trials_among_the_best_that_correct_twice_are_named_with_both_places():
    twice = TrialConfig(sampler="weighted", loss="balanced_softmax")
    places = [", ".join(corrects_twice(config.active())) for config in (twice, TrialConfig(), TrialConfig(), twice)]
    found = analyze.Ranking(STUDY, table_of([0.1] * 4).assign(corrects_twice=places))
    words = "corrects twice: weighted sampler, balanced softmax"
    assert found.correction_lines() == [f"trial 0 {words}", f"trial 3 {words}"]
    assert found.correction_lines(max_trials=2) == [f"trial 0 {words}"]


def test_double_correction_has_its_column_in_the_ranking_and_on_the_page_where_there_is_some(tmp_path):
    folder = studies.write(tmp_path / "study")
    path = folder / "trials/3/config.json"
    path.write_text(json.dumps(TrialConfig(epochs=6, seed=3, sampler="weighted", class_weights="inverse").to_dict()))
    ranking = analyze.rank(folder)
    analyze.write(ranking, folder)
    table = pd.read_csv(folder / "ranking.csv", keep_default_na=False).set_index("trial")["corrects_twice"]
    assert table[3] == "weighted sampler, inverse class weights"
    assert (table.drop(3) == "").all()
    assert list(ranking_columns(summary.find(ranking, folder))["corrects twice"]) == list(table)
    path.write_text(json.dumps(TrialConfig(epochs=6, seed=3).to_dict()))
    assert "corrects twice" not in ranking_columns(summary.find(analyze.rank(folder), folder))


def steps_told(counts, *rows):
    """What is said of the steps of trials, the best first: (recipe, batch size, accumulation, sampler) of each."""
    table = table_of([0.1] * len(rows)).assign(
        **{name: [row[place] for row in rows]
           for place, name in enumerate(("recipe", "batch_size", "accumulation_steps", "sampler"))}
    )  # fmt: skip
    study = SimpleNamespace(judged_by=MINORITY_F1, class_counts=SimpleNamespace(train=counts))
    return analyze.Ranking(study, table).step_lines()


def test_few_optimizer_steps_are_told_where_they_decide():
    course, many = ("course, shuffled", 128, 2, "shuffle"), ("searched", 32, 1, "shuffle")
    assert steps_told([800, 62], ("searched", 128, 8, "shuffle"), course) == [
        "optimizer steps in an epoch of trial 0: 1, which is few; fewer images to a step may do better"
    ]
    assert steps_told([800, 62], many, course) == [
        "optimizer steps in an epoch: 4 of course, shuffled, 27 of trial 0; that may be part of its gain"
    ]
    assert steps_told([8000, 620], many, course) == []
    assert steps_told([800, 62], many, ("searched", 128, 8, "shuffle")) == []  # which led to nothing
    (line,) = steps_told([8000, 62], ("searched", 128, 1, "undersample"), course)
    assert line.startswith("optimizer steps in an epoch of trial 0: 1,")


def test_a_leader_whose_images_cannot_be_compared_is_not_said_to_be_tied_or_to_stand_out():
    table = table_of([0.3, 0.4, 0.5])
    table["trial"] = [7, 0, 1]
    words = analyze.Ranking(STUDY, table, evidence=Stub(2, 1)).tied_words()
    assert words == "trial 7 leads, but its images cannot be compared yet; of 2 that can, 1 is first or tied with it"


def test_a_trial_that_did_not_have_all_its_epochs_is_marked():
    table = table_of([0.1, 0.2], epochs=4, max_epochs=20)
    table["status"] = ["stopped", "complete"]
    assert analyze.epochs_of(table) == ["4/20", "4"]


@pytest.mark.parametrize(
    ("shuffled", "weighted", "num_images", "words"),
    [
        (0.14, 0.4, 9, "+0.26, of 9 images"),
        (0.14, 0.4, 24, "+0.26, of 24 images"),
        (0.14, 0.4, 25, "+185.7 %"),
        (0.0, 0.4, 80, "from nothing"),
        (0.0, 0.0, 80, "none"),
    ],
)
def test_an_improvement_in_per_cent_needs_images(shuffled, weighted, num_images, words):
    assert course.Improvement("cat", shuffled, weighted, num_images).words == words
