"""A real confirmation in real processes, which goes on from an interruption: small digits at 16×16."""

import base64
import dataclasses
import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from study import analyze, confirm
from study.confirmation import scoring, winner
from study.findings.ranking import rank
from study.findings.verdict import Verdict
from study.record import files, recipes
from study.record.ledger import Ledger
from study.report import pictures
from study.statistics import offsets
from study.statistics.seeds import paired_differences, second_half
from tests import studies
from tests.conftest import DIGITS_STUDY
from trainable import records
from trainable.__main__ import main as trainable
from trainable.arguments import default_config
from trainable.images import loading, sources
from trainable.images.pool import DataSpec, SealedImages, channel_statistics, unpack
from trainable.images.splits import split
from trainable.parts.networks import ConvNet
from trainable.streams import derive


def start(module, *arguments):
    return subprocess.Popen([sys.executable, "-m", module, *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip


def rows_of(folder):
    """The whole rows of each run."""
    found = {}
    for path in folder.glob("confirm/*/epochs.jsonl"):
        text = path.read_text()
        found[path.parent.name] = text[: text.rfind("\n") + 1].splitlines()
    return found


@pytest.fixture(scope="module")
def confirmed(digits_study, tmp_path_factory):
    """A small study's confirmation, which goes on from an interruption: its folder, what was printed, the rows before.

    The interruption itself, a kill amid an epoch, is test_kills_amid's; what Ray makes of one, test_kills'.
    """
    folder = shutil.copytree(digits_study.folder, tmp_path_factory.mktemp("results") / "digits")
    command = ["study.confirm", folder, "--top", "3", "--seeds", "2"]
    studies.train(studies.begin_confirmation(*command[1:]), num_epochs=3)
    before = rows_of(folder)
    assert not (folder / "confirm.json").exists()
    process = start(*command)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return folder, out, before


@pytest.fixture(scope="module")
def written(confirmed):
    """Its confirm.json."""
    return json.loads((confirmed[0] / "confirm.json").read_text())


def test_every_recipe_ran_on_every_seed_and_the_interruption_lost_nothing(confirmed, written):
    folder, out, before = confirmed
    assert sorted(len(rows) for rows in before.values()) == [1, 2]
    after = rows_of(folder)
    assert set(after) == {f"{recipe['name']}-{seed}" for recipe in written["recipes"] for seed in written["seeds"]}
    assert all(len(rows) == 2 for rows in after.values())
    assert all(after[name][: len(rows)] == rows for name, rows in before.items())
    assert {trial.status for trial in files.read_trials(folder / "confirm")} == {"complete"}
    for recipe in written["recipes"]:
        for seed in written["seeds"]:
            config = records.read_config(folder / "confirm" / f"{recipe['name']}-{seed}")
            drawn = {"seed": seed, "split_seed": seed, "cut_seed": seed}
            assert config.to_dict() == recipe["config"] | drawn
    searched_seeds = {trial.config.seed for trial in files.read_trials(folder)} | {3}
    assert searched_seeds.isdisjoint(written["seeds"])
    for told in ("winner: ", "confirmed score: ", "minority F1 on the test images, mean ", "luck: "):
        assert told in out
    # lines with a path are as long as it is
    assert max(len(line) for line in out.splitlines() if folder.name not in line) <= 100


def test_a_run_replays_bit_for_bit(confirmed, capsys):
    folder, _, before = confirmed
    name = next(name for name, rows in before.items() if rows)
    assert trainable(["--replay", str(folder / "confirm" / name)]) == 0
    assert "2 epochs, no difference" in capsys.readouterr().err


def logits_of(run, images, mean, std):
    """The best epoch's model on images uint8 (n, 16, 16, 3), without any of the loop's machinery."""
    best = torch.load(run / "best.pt", weights_only=True)
    model = ConvNet(10, 16, dropout=0.0)
    model.load_state_dict(best["model"])
    pixels = (torch.from_numpy(images.copy()).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    with torch.no_grad():
        return model.eval()(pixels.permute(0, 3, 1, 2).float())


def minority(score, labels, predictions):
    return score(labels, predictions, labels=[0, 1, 2], average="macro", zero_division=0)


NAMES = ("raw", "adjusted", "test", "test adjusted", "test offsets")


def test_confirm_json_against_a_second_computation_from_the_files(confirmed, written):
    folder, _, _ = confirmed
    pool = loading.load(DataSpec("digits", "", "", image_size=16, seed=3))
    whole = sources.digits(16)
    test = np.sort(np.concatenate([
        np.random.Generator(np.random.PCG64(derive("test_split", 3, label))).permutation(
            np.flatnonzero(whole.labels == label))[: round(0.2 * (whole.labels == label).sum())]
        for label in range(10)
    ]))  # fmt: skip
    table = {
        name: np.empty((len(written["recipes"]), 2))
        for name in ("raw", "adjusted", "test", "test adjusted", "test offsets")
    }
    for row, recipe in enumerate(written["recipes"]):
        confusion = np.zeros((10, 10), int)
        for column, seed in enumerate(written["seeds"]):
            run = folder / "confirm" / f"{recipe['name']}-{seed}"
            drawn = split(pool, seed, seed)
            labels = pool.labels[drawn.val]
            second = second_half(labels, 10, seed)
            with np.load(run / "validation.npz") as stored:
                assert np.array_equal(stored["labels"], labels)
                for name in ("raw", "adjusted"):
                    predictions = stored["predictions" if name == "raw" else "predictions_adjusted"]
                    assert predictions.shape == (2, len(labels))
                    halves = []
                    for half in (second, ~second):
                        on_half = [minority(f1_score, labels[half], epoch[half]) for epoch in predictions]
                        chosen = predictions[int(np.argmax(on_half))]
                        halves.append(minority(f1_score, labels[~half], chosen[~half]))
                    table[name][row, column] = np.mean(halves)
            mean, std = channel_statistics(pool, drawn.train)
            images = unpack(pool.pixels, 16)
            recalls = [
                minority(recall_score, pool.labels[part], logits_of(run, images[part], mean, std).argmax(1))
                for part in (drawn.val, drawn.audit)
            ]
            assert recalls == pytest.approx([recipe["val_recall"][column], recipe["audit_recall"][column]])
            logits = logits_of(run, whole.images[test], mean, std)
            table["test"][row, column] = minority(f1_score, whole.labels[test], logits.argmax(1))
            counts = torch.bincount(torch.from_numpy(pool.labels[drawn.train])).double()
            power = recipe["config"]["sampler_power"] if recipe["config"]["sampler"] == "weighted" else 0.0
            adjusted = logits - counts.pow(1 - power).log()
            with np.load(run / "validation.npz") as stored:
                validation = offsets.Decided(
                    stored["logits"].astype(np.float32), stored["labels"], counts.tolist(), [0, 1, 2]
                )
                shift = offsets.fit(validation, seed)
            shifted = (logits.numpy() + shift.values).argmax(1)
            confusion += confusion_matrix(whole.labels[test], shifted, labels=range(10))
            table["test offsets"][row, column] = minority(f1_score, whole.labels[test], shifted)
            table["test adjusted"][row, column] = minority(f1_score, whole.labels[test], adjusted.argmax(1))
        assert recipe["scores"] == pytest.approx(table["raw"][row])
        assert recipe["scores_adjusted"] == pytest.approx(table["adjusted"][row])
        assert recipe["mean"] == pytest.approx(table["raw"][row].mean())
        sealed = written["test"]["recipes"].get(recipe["name"])
        if sealed is not None:
            assert sealed["scores"] == pytest.approx(table["test"][row])
            assert sealed["scores_offsets"] == pytest.approx(table["test offsets"][row])
            assert sealed["scores_adjusted"] == pytest.approx(table["test adjusted"][row])
            assert sealed["confusion"] == confusion.tolist()
            assert sealed["mean"] == pytest.approx(table["test"][row].mean())
            assert 0 <= sealed["low"] <= sealed["mean"] <= sealed["high"] <= 1
            assert sealed["low"] < sealed["high"]
    names = [recipe["name"] for recipe in written["recipes"]]
    assert {"course-shuffled", "course-weighted"} < set(names)
    assert set(written["test"]["recipes"]) == {written["winner"], "course-shuffled", "course-weighted"}
    gaps, gaps_adjusted = paired_differences(table["raw"]), paired_differences(table["adjusted"])
    best = int(table["raw"].mean(axis=1).argmax())
    simple = [names.index(name) for name in ("course-shuffled", "course-weighted")]
    assert written["winner"] == names[next((index for index in simple if gaps.low[best, index] <= 0), best)]
    for difference in written["differences"]:
        pair = names.index(difference["first"]), names.index(difference["second"])
        for found, expected in ((difference, gaps), (difference["adjusted"], gaps_adjusted)):
            for end in ("estimate", "low", "high"):
                # Student's t knows nothing of -1 and 1, between which a difference lies
                assert found[end] == pytest.approx(np.clip(getattr(expected, end)[pair], -1, 1), abs=1e-12)
    on_test = written["test"]["differences"]
    assert [(d["first"], d["second"]) for d in on_test] == [
        (written["winner"], name) for name in written["test"]["recipes"] if name != written["winner"]
    ]
    for difference in on_test:
        pair = [names.index(difference["first"]), names.index(difference["second"])]
        for found, name in ((difference, "test"), (difference["adjusted"], "test adjusted")):
            means = table[name][pair].mean(axis=1)
            assert found["estimate"] == pytest.approx(means[0] - means[1], abs=1e-12)
            assert found["low"] < found["estimate"] < found["high"]
    ranked = rank(folder).table
    scores = dict(zip(ranked["trial"], ranked["minority_f1"], strict=True))
    assert [recipe["search_score"] for recipe in written["recipes"]] == [scores[r["trial"]] for r in written["recipes"]]


def test_the_winner_is_the_first_fresh_seeds_model_and_its_programs_say_the_same_elsewhere(confirmed, written):
    folder, _, _ = confirmed
    found = winner.read(folder)
    model, seed = found.model, written["seeds"][0]
    assert (model.recipe, model.seed) == (written["winner"], seed)
    run = folder / "confirm" / f"{written['winner']}-{seed}"
    assert (folder / "winner" / "weights.pt").read_bytes() == (run / "best.pt").read_bytes()
    pool = loading.load(DataSpec("digits", "", "", image_size=16, seed=3))
    drawn = split(pool, seed, seed)
    mean, std = channel_statistics(pool, drawn.train)
    assert model.mean == pytest.approx(mean)
    assert model.std == pytest.approx(std)
    images = unpack(pool.pixels, 16)[drawn.val]
    logits = (logits_of(run, images, mean, std) + torch.tensor(model.offsets)) / model.temperature
    probabilities = winner.classify(found.classifier, images)
    assert probabilities == pytest.approx(torch.softmax(logits, 1).numpy(), abs=1e-4)
    batch = np.ascontiguousarray(images[:5].transpose(0, 3, 1, 2))
    program = torch.export.load(folder / "winner" / "model.pt2").module()
    assert program(torch.from_numpy(batch)).detach().numpy() == pytest.approx(probabilities[:5], abs=1e-4)
    (theirs,) = ReferenceEvaluator(str(folder / "winner" / "model.onnx")).run(None, {"images": batch})
    assert theirs == pytest.approx(probabilities[:5], abs=1e-4)
    mistakes = json.loads((folder / "winner" / "mistakes.json").read_text())
    labels = pool.labels[drawn.val]
    of_truth = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    first = wrong[of_truth[wrong].argmin()]
    assert (mistakes[0]["label"], mistakes[0]["predicted"]) == (str(labels[first]), str(probabilities[first].argmax()))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(mistakes[0]["png"])))), images[first])
    page = (folder / "report.html").read_text()
    assert page.count(", taken for ") == len(mistakes) == min(24, len(wrong))


@pytest.fixture
def copy(confirmed, tmp_path):
    """A copy of the confirmed study, to do things to; of trials that have ended nobody reads last.pt."""
    return shutil.copytree(confirmed[0], tmp_path / "digits", ignore=shutil.ignore_patterns("last.pt"))


def refusal(capsys, *arguments):
    """What confirm says on refusing, line by line; nothing on standard output."""
    with pytest.raises(SystemExit) as stop:
        confirm.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_opening_is_refused_in_a_sentence_and_changes_nothing(copy, written, capsys):
    before = files_of(copy)
    (line,) = refusal(capsys, copy, "--top", "3", "--seeds", "2")
    assert line.startswith(f"study.confirm: the test images were opened on {written['test']['opened']}")
    assert "--reopen-test REASON" in line
    (line,) = refusal(capsys, copy, "--top", "3", "--seeds", "2", "--reopen-test", " ")
    assert line == "study.confirm: --reopen-test must give a reason, in UTF-8, not ' '"
    assert files_of(copy) == before


def test_a_reopening_is_recorded_with_its_reason_and_repeats_the_scores(copy, written, capsys):
    command = [str(copy), "--top", "3", "--seeds", "2", "--reopen-test", "the page was lost"]
    assert confirm.main(command) == 0
    again = json.loads((copy / "confirm.json").read_text())
    ((reopened,),) = [again["test"]["reopened"]]
    assert reopened["reason"] == "the page was lost"
    assert again["test"]["opened"] == written["test"]["opened"]
    assert again["test"]["recipes"] == written["test"]["recipes"]
    assert again["recipes"] == written["recipes"]
    assert "the page was lost" in capsys.readouterr().out


def test_test_images_never_opened_cannot_be_reopened(copy, capsys):
    (copy / "confirm.json").unlink()
    (line,) = refusal(capsys, copy, "--top", "3", "--seeds", "2", "--reopen-test", "why not")
    assert line == "study.confirm: --reopen-test: the test images have not been opened yet"


def test_the_opening_is_on_disk_before_a_test_score_is_shown(copy, monkeypatch):
    (copy / "confirm.json").unlink()

    def killed(content):
        raise KeyboardInterrupt

    monkeypatch.setattr(Verdict, "test_lines", killed)
    assert confirm.main([str(copy), "--top", "3", "--seeds", "2"]) == 130
    assert json.loads((copy / "confirm.json").read_text())["test"]["opened"]


def test_killed_before_the_opening_the_same_command_goes_on(copy, written, monkeypatch):
    (copy / "confirm.json").unlink()

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "measure_test", killed)
        assert confirm.main([str(copy), "--top", "3", "--seeds", "2"]) == 130
    assert json.loads((copy / "confirm.json").read_text())["test"] is None
    assert confirm.main([str(copy), "--top", "3", "--seeds", "2"]) == 0
    assert json.loads((copy / "confirm.json").read_text())["test"]["recipes"] == written["test"]["recipes"]


def test_a_study_extended_afterwards_is_marked_where_it_is_ranked(copy, written, monkeypatch, capsys):
    monkeypatch.setattr(pictures, "write", lambda found, folder, say: [])  # they take seconds, and are not looked at
    analyze.main([str(copy)])
    assert "the new ones are not confirmed" not in capsys.readouterr().out
    (copy / "confirm.json").write_text(json.dumps({**written, "num_trials": 5}))
    analyze.main([str(copy)])
    line = f"confirmed on {written['time'][:10]} with 5 trials; the study has 6 now; the new ones are not confirmed"
    assert line in capsys.readouterr().out.splitlines()


def test_damaged_files_are_named_and_exit_with_1(copy, capsys):
    (copy / "confirm.json").unlink()
    path = next(copy.glob("confirm/*/best.pt"))
    path.write_bytes(path.read_bytes()[:1000])
    assert confirm.main([str(copy), "--top", "3", "--seeds", "2"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith(f"study.confirm: {path}: damaged, cannot be read")
    away = f"move {copy / 'confirm'} away and its runs are trained again"
    assert err[1] == f"study.confirm: if a file cannot be repaired, {away}"
    assert "the same command goes on" in err[2]
    assert not (copy / "confirm.json").exists()


def test_all_mistakes_are_told_together_and_nothing_is_written(copy, capsys):
    (copy / "confirm.json").unlink()
    before = files_of(copy)
    err = refusal(capsys, copy, "--top", "7", "--seeds", "1", "--gpus", "64", "--nonsense")
    for told in (
        "--top 7 is more than the 6",
        "--seeds must be a whole number from 2 to 1000",
        "--gpus 64",
        "--nonsense",
    ):
        assert any(told in line for line in err), told
    assert len(err) == 4
    assert files_of(copy) == before
    (line,) = refusal(capsys, copy.parent / "none")
    assert "holds no study" in line


def test_another_process_at_the_study_is_named(copy, capsys):
    (copy / "confirm.json").unlink()
    book = Ledger(copy)
    try:
        (line,) = refusal(capsys, copy, "--top", "3", "--seeds", "2")
    finally:
        book.close()
    assert line == f"study.confirm: {copy}: another process is running this study"


@pytest.fixture
def folder_study(image_folder, tmp_path):
    """A study of a folder with test images of its own, by its records alone."""
    for name in ("cat", "dog", "fox"):
        (image_folder / "test" / name).mkdir(parents=True)
        for path in (image_folder / "train" / name).iterdir():
            mirrored = Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mirrored.save(image_folder / "test" / name / path.name)
    spec = DataSpec(str(image_folder), "", str(tmp_path / "cache"), image_size=16)
    pool = loading.load(spec, print)
    folder = tmp_path / "study"
    folder.mkdir()
    base = default_config(spec.data, 0, epochs=1)
    counts = {part: [5, 5, 2] for part in ("train", "val", "audit")} | {"test": pool.test_counts}
    asked = studies.asked(pool.class_names, ["fox"], counts, epochs=1) | {
        "data": pool.spec.to_dict(), "fingerprint": pool.fingerprint, "space": {"dropout": {"low": 0.0, "high": 0.5}},
    }  # fmt: skip
    book = Ledger(folder, asked)
    for number, recipe in enumerate(recipes.COURSE):
        book.add(dataclasses.replace(base, **recipe.values, seed=number), recipe.name, {}, {})
        row = studies.row(1, 0.5, f1=[0.5] * 3)
        book.record(number, row)
        book.complete(number, "epochs")
    book.close()
    return folder


def test_with_the_test_images_away_confirm_is_refused_in_a_sentence_and_analysis_runs(
    folder_study, image_folder, capsys
):
    before = files_of(folder_study)
    (image_folder / "test").rename(image_folder.parent / "away")
    (line,) = refusal(capsys, folder_study, "--top", "2")
    assert line == f"study.confirm: {image_folder / 'test'}: not found, so there are no test images"
    assert files_of(folder_study) == before
    assert not (folder_study / "confirm").exists()
    assert analyze.main([str(folder_study)]) == 0


def test_test_images_that_are_damaged_or_no_longer_as_many_are_found_before_anything_starts(
    folder_study, image_folder, capsys
):
    broken = image_folder / "test/cat/00.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    (line,) = refusal(capsys, folder_study, "--top", "2")
    assert line.startswith(f"study.confirm: {broken}: cannot be read as an image")
    broken.write_bytes(whole)
    broken.rename(image_folder / "test/dog/99.png")
    (line,) = refusal(capsys, folder_study, "--top", "2")
    assert "the test images of" in line
    assert not (folder_study / "confirm").exists()


def test_a_minority_class_without_a_test_image_is_named_before_anything_starts(folder_study, capsys, monkeypatch):
    # as where a class of two images has a val/ of its own: a fifth of two is none
    monkeypatch.setattr(
        loading, "load_test", lambda pool: SealedImages(np.zeros((4, 257), np.int32), np.array([0, 0, 1, 1]))
    )
    (line,) = refusal(capsys, folder_study, "--top", "2")
    assert line == "study.confirm: class fox: no test image, so its F1 on them cannot be told"
    assert not (folder_study / "confirm").exists()


def test_help_says_that_the_seal_is_a_record():
    done = subprocess.run([sys.executable, "-m", "study.confirm", "--help"], capture_output=True, text=True)
    assert "not a lock" in " ".join(done.stdout.split())


def test_no_other_file_loads_test_images():
    root = Path(__file__).parents[2]
    users = {path.name for part in ("study", "trainable") for path in (root / part).rglob("*.py")
             if "load_test" in path.read_text()}  # fmt: skip
    assert users == {"loading.py", "plan.py"}


# runs a command whose function MODULE.NAME says that it has begun, and then takes its time
SLOW_AT = """
import importlib, sys, time
command, module, name = sys.argv[1:4]
sys.argv = [command, *sys.argv[4:]]
setattr(importlib.import_module(module), name, lambda *given, **named: (print("begun", flush=True), time.sleep(60)))
from study.execution import tune
tune.drive = lambda *given: None  # nothing is left to be run
sys.exit(importlib.import_module(command).main())
"""


@pytest.mark.parametrize(
    ("number", "command", "module", "name"),
    [
        (signal.SIGINT, "study.confirm", "study.confirmation.scoring", "measure"),
        (signal.SIGTERM, "study.confirm", "study.confirmation.winner", "write"),
        (signal.SIGHUP, "study.search", "study.findings.ranking", "rank"),
    ],
)
def test_a_signal_while_a_study_is_scored_or_ranked_pauses_it(copy, written, number, command, module, name):
    (copy / "confirm.json").unlink()
    before = files_of(copy)
    asked = {
        "study.confirm": [str(copy), "--top", "3", "--seeds", "2"],
        "study.search": [*DIGITS_STUDY, "--trials", "6", "--results", str(copy.parent)],
    }[command]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_AT, command, module, name, *asked],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.stdout.readline() != "begun\n":
        assert process.poll() is None, process.communicate()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == f"{command}: interrupted; to go on: python -m {command} {shlex.join(asked)}\n"
    kept = {path: content for path, content in files_of(copy).items() if path in before and path.suffix != ".json"}
    assert kept == {path: content for path, content in before.items() if path in kept}


def test_a_reader_of_predictions_who_has_had_enough_is_no_failure(confirmed, image_folder):
    command = f"{sys.executable} -m study.predict {confirmed[0]} {image_folder} | head -1"
    out = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stderr == ""
