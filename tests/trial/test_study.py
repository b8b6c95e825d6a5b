"""A whole study in this process, one trial after the other."""

import shutil

from study import analyze
from study.report import pictures
from tests import studies
from tests.conftest import DIGITS_STUDY
from trainable.__main__ import main as trainable


def test_with_the_test_images_moved_away_a_study_goes_on_and_its_trials_and_ranking_are_the_same(
    image_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(pictures, "write", lambda found, folder, say: [])  # they take seconds, and are of the ranking
    test, away = image_folder / "test", image_folder / "away"
    shutil.copytree(image_folder / "train", test)
    more = ["--data", str(image_folder), "--val-fraction", "0.7", "--cache-dir", str(tmp_path / "cache"),
            "--name", "photos", "--trials", "2", "--epochs", "1", "--space", "course"]  # fmt: skip
    # begun while test/ was there, and interrupted before its first trial
    asked = [*DIGITS_STUDY, "--results", tmp_path, *more]
    folder = studies.begin(*asked).folder

    test.rename(away)
    studies.finish(studies.begin(*asked))
    trials = [folder / f"trials/{number}" for number in range(2)]
    assert all((trial / "epochs.jsonl").read_text().count("\n") == 1 for trial in trials)
    assert trainable(["--replay", str(trials[0])]) == 0
    assert analyze.main([str(folder)]) == 0
    without = (folder / "ranking.csv").read_bytes()

    away.rename(test)
    assert trainable(["--replay", str(trials[1])]) == 0
    assert capsys.readouterr().err.count("no difference") == 2
    assert analyze.main([str(folder)]) == 0
    assert (folder / "ranking.csv").read_bytes() == without
