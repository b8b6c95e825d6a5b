import json
from types import SimpleNamespace

import pandas as pd
import pytest

from study.findings import ranking as analyze
from study.record import files
from study.record.ledger import Ledger
from study.space.parameters import from_tables
from tests import studies
from trainable.cli import UsageError
from trainable.config import TrialConfig
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
    study = SimpleNamespace(searched=from_tables({"dropout": {"low": low, "high": high}}, {}, ""))
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
