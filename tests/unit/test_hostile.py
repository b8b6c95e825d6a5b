"""Results from somebody else, or lost in part: links, pipes, journals; each command answers in a sentence, exit 2."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from study import analyze, confirm, predict, search
from study.execution import plan
from study.findings import ranking, summary
from study.record import files
from study.record.ledger import Ledger
from study.report import page, pictures
from study.space import parameters
from study.strategy.searcher import Searcher
from tests import studies
from tests.tampered import everything
from trainable import __main__ as trainable
from trainable.cli import UsageError
from trainable.config import TrialConfig

EARLIER_NAMES = [
    *(f".{name}.partial" for name in ("ranking.csv", "report.html", "study.json", "confirm.json")),
    "trials/3/.config.json.partial", "trials/3/last.partial", "trials/3/best.partial",
    "trials/3/validation.partial.npz", "confirm/.study.json.partial", ".winner.partial",
    ".tune", "confirm/.tune", ".0123456789abcdef.partial",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A made-up study as analysis and confirmation leave it; files that no test reads are empty. Tests take copies."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    studies.write(folder, num_trials=6, num_epochs=3, num_images=60)
    studies.confirm(folder, num_trials=6)
    assert analyze.main([str(folder)]) == 0
    run = folder / "confirm/trial-2-7"
    run.mkdir(parents=True)
    for name in ("config.json", "epochs.jsonl", "validation.npz"):
        shutil.copy(folder / "trials/2" / name, run / name)
    (folder / "winner").mkdir()
    (folder / "winner/mistakes.json").write_text("[]")
    empty = [".lock", "confirm/.lock", "confirm/study.json", "confirm/study.journal",
             "winner/model.json", "winner/weights.pt", "winner/README.md",
             "winner/model.pt2", "winner/model.onnx", "trials/2/last.pt", "trials/2/best.pt",
             "confirm/trial-2-7/last.pt", "confirm/trial-2-7/best.pt"]  # fmt: skip
    for name in empty:
        (folder / name).touch()
    return folder


@pytest.fixture
def study(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "study"))


COMMANDS = {
    "analyze": lambda folder: analyze.main([str(folder)]),
    "confirm": lambda folder: confirm.main([str(folder)]),
    "predict": lambda folder: predict.main([str(folder), str(folder.parent)]),
    "replay": lambda folder: trainable.main(["--replay", str(folder / "trials/2")]),
    "search": lambda folder: search.main(["--data", "digits", "--image-size", "16", "--results", str(folder.parent),
                                          "--name", folder.name, "--gpus", "99"]),
}  # fmt: skip


def refusal(capsys, command, folder):
    """The sentences with which the command refuses."""
    with pytest.raises(SystemExit) as caught:
        COMMANDS[command](folder)
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err


PLANTED = {
    "a link to a file elsewhere": lambda path, folder: path.symlink_to(folder.parent / "elsewhere/file"),
    "a link to a folder elsewhere": lambda path, folder: path.symlink_to(folder.parent / "elsewhere"),
    "a link to a file that is not there": lambda path, folder: path.symlink_to(folder.parent / "elsewhere/new"),
    "a link to itself": lambda path, folder: path.symlink_to(path),
    "a link within the study": lambda path, folder: path.symlink_to(folder / "confirm.json"),
    "a named pipe": lambda path, folder: os.mkfifo(path),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("planted", PLANTED)
def test_whatever_is_a_link_or_a_pipe_in_a_study_is_named_before_anything_is_read_or_written(
    study, capsys, command, planted, monkeypatch
):
    elsewhere = study.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("precious")
    there = [str(path.relative_to(study)) for path in study.rglob("*")]
    assert len(there) > 60
    if command != "analyze":  # each takes longer to come to the folder, and all go through the same door
        there = [name for name in there if not name.startswith(("figures/", "trials/")) or name.startswith("trials/2")]
    monkeypatch.setattr(plan, "machine_resources", lambda *given: None)
    monkeypatch.setattr(plan, "_data_spec", lambda arguments, before: None)
    aside = study.parent / "aside"
    for name in [*there, *EARLIER_NAMES]:
        path = study / name
        was_there = path.exists()
        if was_there:
            path.rename(aside)
        PLANTED[planted](path, study)
        before = everything(study.parent)
        said = refusal(capsys, command, study)
        assert everything(study.parent) == before, name
        # where a command cannot even see that this is a study, it says so
        assert f"{path}: is a " in said or f"{study}: holds no study" in said or "winner/model.json: " in said, said
        if name not in ("study.json", "winner", "winner/model.json"):
            assert f"{path}: is a " in said or command == "search", said
        path.unlink()
        if was_there:
            aside.rename(path)


@pytest.mark.parametrize("named", ["/etc", "../elsewhere", "..", 7, "trials/../../elsewhere", None])
def test_a_trial_that_says_it_lies_elsewhere_is_not_followed(study, capsys, named):
    edit_entry(study, 3, user_attrs={"recipe": "searched", "folder": named})
    before = everything(study)
    assert "does not lie in that folder" in refusal(capsys, "analyze", study)
    with pytest.raises(UsageError, match="does not lie in that folder"):
        Ledger(study)
    assert everything(study) == before


def edit_entry(study, number, **values):
    """Changes a trial's first line in the journal."""
    path = study / "study.journal"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    [entry for entry in entries if entry["op_code"] == 4][number].update(values)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_a_recipe_named_like_a_path_names_no_folder_elsewhere(study):
    from study.confirmation.runs import choose

    edit_entry(study, 4, user_attrs={"recipe": "../../../etc"})
    chosen = choose(files.read_trials(study), top=4)
    assert {recipe.name for recipe in chosen} <= {"course-shuffled", "course-weighted", "trial-2", "trial-3", "trial-4"}


def lines(study):
    return (study / "study.journal").read_text().splitlines(keepends=True)


def other_journal(study):
    """The journal of another study of as many trials."""
    folder = study.parent / "other"
    if not folder.exists():
        studies.write(folder, num_trials=6, num_epochs=3, num_images=60, seed=5)
    return lines(folder)


FOREIGN_STUDY = '{"op_code": 0, "worker_id": "w", "study_name": "theirs", "directions": [2]}\n'
JOURNALS = {
    "missing": None,
    "empty": lambda study: [],
    "a line with {} at its end": lambda study: [*lines(study), "{}\n"],
    "a line with {} in its middle": lambda study: [*lines(study)[:9], "{}\n", *lines(study)[9:]],
    "a line with {} and no more": lambda study: ["{}\n"],
    "a line with []": lambda study: [*lines(study), "[]\n"],
    "a line with null": lambda study: ["null\n", *lines(study)],
    "a line of another program": lambda study: [*lines(study), '{"op_code": 99, "worker_id": "w"}\n'],
    "a last line that is no JSON": lambda study: [*lines(study)[:-1], "}{\n"],
    "no line of JSON": lambda study: [*lines(study)[:5], "not JSON\n", *lines(study)[5:]],
    "the first line alone": lambda study: lines(study)[:1],
    "the first trials alone": lambda study: lines(study)[:6],
    "without its first line": lambda study: lines(study)[1:],
    "another study's": other_journal,
    "another study's and its own": lambda study: other_journal(study) + lines(study),
    "its own and another study's": lambda study: lines(study) + other_journal(study),
    "its first half, then another study's": lambda study: lines(study)[:12] + other_journal(study)[12:],
    "another name in front": lambda study: [FOREIGN_STUDY, *lines(study)],
    "another name in its first line": lambda study: [FOREIGN_STUDY, *lines(study)[1:]],
    "a trial without a recipe": lambda study: [line.replace('"recipe"', '"loss"') for line in lines(study)],
    "a trial that waits": lambda study: [line.replace('"state": 0', '"state": 4') for line in lines(study)],
}


@pytest.mark.parametrize("kind", JOURNALS)
def test_a_journal_that_is_lost_or_not_the_studys_never_makes_the_ranking_less(study, capsys, kind):
    path = study / "study.journal"
    if JOURNALS[kind] is None:
        path.unlink()
    else:
        path.write_text("".join(JOURNALS[kind](study)))
    before = everything(study)
    said = refusal(capsys, "analyze", study)
    assert said.count("\n") <= 12  # one for each trial
    assert "no trial has finished" not in said
    assert all(str(study) in line for line in said.splitlines())
    with pytest.raises(UsageError):
        files.read_trials(study)
    assert everything(study) == before


def test_the_sentence_says_what_is_lost_and_the_command_that_brings_it_back_quoted_anew(study, capsys):
    asked = files.read_study(study)
    (study / "study.journal").write_text("".join(lines(study)[:1]))
    for command, said in {
        "python -m study.search --name 'a b' -x 6": "python -m study.search --name 'a b' -x 6 puts it right",
        "python -m study.search --name x; reboot": "python -m study.search --name 'x;' reboot puts it right",
        "rm -rf ~": "the study.search command that made it puts it right",
        "python -m study.search 'open": "the study.search command that made it puts it right",
        "python -m study.search \x1b[2J": r"python -m study.search '\x1b[2J' puts it right",
    }.items():
        files.write_study(study, {**asdict(asked), "invocations": [{"time": "2026-01-01", "command": command}]})
        printed = refusal(capsys, "analyze", study)
        assert "knows of 0 trials, and trials/ holds the results of 5; " in printed
        assert said in printed


def searcher(folder, num_trials=6):
    said = []
    ledger = Ledger(folder, say=said.append)
    return (
        ledger,
        Searcher(ledger, parameters.load(parameters.COURSE_SPACE), TrialConfig(epochs=3), "random", num_trials),
        said,
    )


@pytest.mark.parametrize("num_lines", [None, 0, 1, 4, 9, 20])
@pytest.mark.parametrize("num_trials", [2, 6, 8])
def test_the_search_enters_lost_trials_again_as_they_were_and_says_so(study, num_lines, num_trials):
    # a trial that came to nothing, and has no results, is as good as new
    shutil.rmtree(study / "trials/4")
    (study / "trials/5").rename(study / "trials/4")
    kept = [line for line in lines(study) if '"trial_id": 4' not in line]
    place = max(index for index, line in enumerate(kept) if json.loads(line)["op_code"] == 4)
    kept = [line.replace('"trial_id": 5', '"trial_id": 4') for index, line in enumerate(kept) if index != place]
    (study / "study.journal").write_text("".join(kept))
    (study / "trials/2/last.pt").unlink()  # the fixture's, empty
    ranked = ranking.rank(study).table.drop(columns=["reason"])
    trials = files.read_trials(study)
    assert [trial.status for trial in trials] == ["complete", "complete", "complete", "stopped", "running"]

    if num_lines is None:
        (study / "study.journal").unlink()
    else:
        (study / "study.journal").write_text("".join(kept[:num_lines]))
    ledger, _, said = searcher(study, num_trials)
    ledger.close()
    (sentence,) = said
    assert "entered again from their folders" in sentence
    again = files.read_trials(study)
    # what the journal still has stays; of a trial that it has without its end, the search takes the last step again
    num_known = sum(json.loads(line)["op_code"] == 4 for line in kept[: num_lines or 0])
    for trial, before in list(zip(again, trials, strict=True))[num_known:]:
        assert (trial.status, trial.rows, trial.config, trial.recipe) == (before.status, before.rows, before.config,
                                                                         before.recipe)  # fmt: skip
        stopped = f"stopped at {len(trial.rows)}"
        assert trial.reason == {"complete": "epochs", "stopped": stopped, "running": ""}[trial.status]
    assert ranking.rank(study).table["minority_f1"].tolist() == ranked["minority_f1"].tolist()
    ledger, source, said = searcher(study, num_trials)
    assert said == []
    assert source.next().number >= num_known - 1  # the one that still ran, or what was interrupted in the journal
    ledger.close()


def test_a_gap_among_the_folders_is_filled_by_a_new_trial_and_a_number_made_up_fills_no_disk(study):
    (study / "trials/2/last.pt").unlink()
    (study / "study.journal").unlink()
    shutil.rmtree(study / "trials/2")
    shutil.copytree(study / "trials/3", study / "trials/99999999")
    ledger, source, _ = searcher(study)
    assert [trial.status for trial in ledger.trials.values()][:4] == ["complete", "complete", "running", "stopped"]
    assert source.next().number == 2
    assert len(ledger.trials) < 20
    ledger.close()


@pytest.mark.parametrize("kind", [kind for kind in JOURNALS if "line" in kind and "alone" not in kind])
def test_the_search_refuses_a_journal_damaged_otherwise_and_says_how_it_is_built_anew(study, kind):
    path = study / "study.journal"
    path.write_text("".join(JOURNALS[kind](study)))
    before = everything(study)
    with pytest.raises(UsageError, match=r"damaged.*once it is moved away, the command that wrote it builds it anew"):
        Ledger(study)
    assert everything(study) == before


def test_trials_whose_files_are_gone_are_named_and_the_ranking_stays(study, capsys):
    for name in ("trials/0/epochs.jsonl", "trials/1/config.json"):
        path = study / name
        content = path.read_bytes()
        path.unlink()
        before = everything(study)
        assert f"{path}: " in refusal(capsys, "analyze", study)
        assert everything(study) == before
        path.write_bytes(content)
    shutil.rmtree(study / "trials")
    before = everything(study)
    assert "trials/0" in refusal(capsys, "analyze", study)
    assert everything(study) == before


def test_what_a_killed_process_left_half_written_goes_with_the_next_search_and_not_with_an_analysis(study):
    (study / "trials/2/last.pt").unlink()
    left = [study / name for name in EARLIER_NAMES if not name.endswith(".tune")]
    for path in left:
        path.touch()
    ranking.write(ranking.rank(study), study)
    assert all(path.exists() for path in left)
    Ledger(study).close()
    assert not any(path.exists() for path in left)


def test_pictures_page_and_ranking_are_whole_or_as_they_were(study, monkeypatch):
    ranked = ranking.rank(study)
    found = summary.find(ranked, study)
    before = everything(study)

    def full(descriptor, *arguments, **more):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(os, "replace", full)
    for write in (
        lambda: ranking.write(ranked, study),
        lambda: page.write(found, study),
        lambda: pictures.write(found, study / "figures"),
    ):
        with pytest.raises(OSError, match="No space left"):
            write()
    assert everything(study) == before
