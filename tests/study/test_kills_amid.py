"""Processes killed amid what comes after a study and a confirmation: each goes on, and ends as if it had not been.

They are processes of their own, without Ray, and end the hard way once an epoch is trained and before it is kept.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import torch

from study.confirmation import afterwards, learning_curve, refit, stages, winner
from study.record import files
from tests import studies
from tests.conftest import DIGITS_STUDY
from trainable import checkpoint
from trainable.worker import TRACE

PROCESSES = multiprocessing.get_context("forkserver")  # one that has imported everything and has not trained yet
PROCESSES.set_forkserver_preload(["tests.study.test_kills_amid"])
MAKE = {"--refit": refit.make, "--learning-curve": learning_curve.make}


def raise_epochs(folder, asked):
    studies.finish(studies.begin(*asked, "--results", folder.parent, "--epochs", "4"))


def train_once_more(folder, flag):
    assert afterwards.carry_out(studies.begin_afterwards(folder, flag), MAKE[flag], lambda folder: "the page") == 0


def confirm(folder):
    plan = studies.begin_confirmation(folder, "--top", "1", "--seeds", "2")
    studies.train(plan)
    stages._conclude(plan, lambda text: None)


def work(function, *arguments, num_epochs=None, trace=None):
    """Without the export, which takes seconds and is tested elsewhere; killed when ``num_epochs`` are trained."""
    num_kept = 0
    save = checkpoint.save

    def keep(*given):
        nonlocal num_kept
        num_kept += 1
        if num_kept == num_epochs:
            os.kill(os.getpid(), signal.SIGKILL)
        save(*given)

    with pytest.MonkeyPatch.context() as patch, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        patch.setattr(winner, "_export", lambda *arguments: None)
        patch.setattr(checkpoint, "save", keep)
        if trace is not None:
            patch.setenv(TRACE, str(trace))
        torch.set_num_threads(1)
        function(*arguments)


def done_twice(tmp_path, folder, num_epochs, function, *arguments):
    """The work done in two copies of ``folder``, in one of them with a kill, after which nothing is done twice.

    They are returned, that of the kill first.
    """
    killed, plain = (shutil.copytree(folder, tmp_path / name / folder.name) for name in ("killed", "plain"))
    again, once = tmp_path / "again", tmp_path / "once"  # a line for each epoch begun
    work(function, plain, *arguments, trace=once)
    process = PROCESSES.Process(
        target=work, args=(function, killed, *arguments), kwargs={"num_epochs": num_epochs, "trace": again}
    )
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    kept = {path: path.read_text() for path in killed.rglob("epochs.jsonl")}
    work(function, killed, *arguments, trace=again)
    starts = once.read_text().splitlines()
    assert num_epochs <= len(starts)
    assert again.read_text().splitlines() == [*starts[:num_epochs], *starts[num_epochs - 1 :]]
    for path, text in kept.items():
        whole = text[: text.rfind("\n") + 1]
        assert not path.exists() or path.read_text().startswith(whole)
    return killed, plain


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of three trials of photographs: its arguments, and its folder."""
    place = tmp_path_factory.mktemp("photos")
    studies.write_photos(place / "photos", {"cat": 60, "dog": 60, "fox": 60})
    asked = ["--data", str(place / "photos"), "--cache-dir", str(place / "cache"), "--minority", "fox"]
    asked = [*DIGITS_STUDY, *asked, "--trials", "3"]
    plan = studies.begin(*asked, "--results", place / "results")
    studies.finish(plan)
    return asked, plan.folder


@pytest.fixture(scope="module")
def confirmed(finished, tmp_path_factory):
    """A confirmed copy of it, where on both seeds the last of the winner's two epochs is the best."""
    folder = shutil.copytree(finished[1], tmp_path_factory.mktemp("confirmed") / "photos")
    work(confirm, folder)
    for path in folder.glob("confirm/*/epochs.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row | {"best_epoch": row["epoch"]}) + "\n" for row in rows))
    return folder


def told(folder):
    """What trials say, but for the time that it took."""
    for trial in files.read_trials(folder):
        rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in trial.rows]
        yield trial.number, trial.status, trial.reason, trial.config, rows


def same_arrays(killed, plain):
    paths = [path.relative_to(plain) for path in plain.rglob("validation.npz")]
    assert paths
    for path in paths:
        with np.load(plain / path) as theirs, np.load(killed / path) as ours:
            assert all(np.array_equal(ours[name], theirs[name]) for name in (*ours, *theirs))


def winners(folder):
    """Its description, and its weights."""
    weights = torch.load(folder / "winner/weights.pt", weights_only=True)["model"]
    return json.loads((folder / "winner/model.json").read_text()), weights


def test_a_raise_of_the_epochs_goes_on_after_a_kill(finished, tmp_path):
    asked, folder = finished
    killed, plain = done_twice(tmp_path, folder, 3, raise_epochs, asked)
    assert list(told(killed)) == list(told(plain))
    assert [len(rows) for *_, rows in told(killed)][:2] == [4, 4]
    same_arrays(killed, plain)


def test_a_confirmation_goes_on_after_a_kill(finished, tmp_path):
    killed, plain = done_twice(tmp_path, finished[1], 4, confirm)
    assert list(told(killed / "confirm")) == list(told(plain / "confirm"))
    same_arrays(killed, plain)
    ours, theirs = (files.read_confirmation(folder) for folder in (killed, plain))
    assert (ours.recipes, ours.winner, ours.test.recipes) == (theirs.recipes, theirs.winner, theirs.test.recipes)


@pytest.mark.parametrize(("flag", "num_epochs"), [("--refit", 2), ("--learning-curve", 4)])
def test_what_follows_a_confirmation_goes_on_after_a_kill(confirmed, tmp_path, flag, num_epochs):
    killed, plain = done_twice(tmp_path, confirmed, num_epochs, train_once_more, flag)
    (ours, weights), (theirs, their_weights) = winners(killed), winners(plain)
    assert ours == theirs
    assert all(torch.equal(value, their_weights[name]) for name, value in weights.items())
    curves = [files.read_learning_curve(folder, 3) for folder in (killed, plain)]
    assert curves[0] == curves[1]
    assert (curves[0] is not None) == (flag == "--learning-curve")
    assert not [*killed.glob("confirm/*-refit"), *killed.glob("confirm/*-at-*")]
