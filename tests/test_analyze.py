import json

from study import analyze, ledger
from study.ledger import Ledger
from trainable.config import TrialConfig


def test_a_study_paused_before_its_first_trial_or_epoch_has_a_ranking_that_says_so(tmp_path):
    asked = {"class_names": ["a", "b"], "minority": ["a"], "data": {"keep": 1.0}}
    ledger.write_study(tmp_path, asked)
    assert json.loads((tmp_path / "study.json").read_text())["format"] == ledger.FORMAT
    book = Ledger(tmp_path)
    for _ in range(2):
        ranking = analyze.rank(tmp_path)
        analyze.write(ranking, tmp_path)
        assert ranking.lines()[-1] == "no trial has finished an epoch yet"
        book.add(TrialConfig(), "searched", {}, {})
