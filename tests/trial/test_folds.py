"""A trial with folds: K networks, one row an epoch, one file to go on from, and one model in the end."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from study.confirmation import afterwards, learning_curve, refit, stages, winner
from study.confirmation import ensemble as ensembles
from study.confirmation.trained import open_runs
from study.findings import ranking, summary
from study.record import files, validation
from study.record.confirmation import Ensemble, Estimate
from study.report import page
from tests import studies
from trainable import checkpoint, loop
from trainable.__main__ import main as trainable_main
from trainable.checkpoint import CheckpointError
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.evaluation import evaluate
from trainable.images import loading
from trainable.images.pool import unpack
from trainable.images.trial import trial_images
from trainable.parts.averaging import networks_of
from trainable.parts.losses import log_trained_prior
from trainable.step import Step
from trainable.worker import Worker

CPU = torch.device("cpu")
CONFIG = TrialConfig(epochs=3, width=0.25, accumulation_steps=1, average_decay=0.9, objective="macro_f1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    studies.write_photos(folder / "photos", {"usual": 60, "rare": 40, "other": 50})
    return folder


def arguments(place, name, *more):
    return [
        "--data", place / "photos", "--minority", "rare", "--image-size", 16, "--trials", 3, "--epochs", 2,
        "--folds", 3, "--results", place / "results", "--name", name, "--cache-dir", place / "cache",
        "--space", "course", "--set", "width=0.25", "--precision", "float32", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def study(place):
    plan = studies.begin(*arguments(place, "photos", "--objective", "minority_f1_adjusted", "--keep-checkpoints"))
    studies.finish(plan)
    return plan


@pytest.fixture(scope="module")
def images(study):
    return trial_images(study.pool, 0, 0, CPU)


@pytest.fixture(scope="module")
def whole(images):
    """A trial of three epochs without interruption."""
    state = loop.new_state(CONFIG, images)
    for _ in loop.run(state, images):
        pass
    return state


def without_seconds(rows):
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def tensors(content):
    """All tensors in a checkpoint, by their place."""
    if isinstance(content, torch.Tensor):
        return {"": content}
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return {f"{name}.{more}": found for name, value in pairs for more, found in tensors(value).items()}


def assert_same(one, other):
    assert without_seconds(one["rows"]) == without_seconds(other["rows"])
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_row_is_of_what_each_image_was_told_by_the_network_that_has_not_seen_it(study, images):
    folder, num_classes = study.folder / "trials/0", 3
    labels, logits, plain, adjusted = validation.read(
        folder / "validation.npz",
        [validation.LABELS, validation.LOGITS, validation.PREDICTIONS, validation.ADJUSTED],
        num_classes, len(study.pool.labels), 2,
    )  # fmt: skip
    (trial, *_) = files.read_trials(study.folder, files.read_study(study.folder))
    assert np.array_equal(labels, study.pool.labels[study.drawn.val])
    assert len(labels) == len(study.pool.labels)
    for row, predicted, decided in zip(trial.rows, plain, adjusted, strict=True):
        assert row["num_train_images"] == 2 * len(labels)  # each is in training for two of the three networks
        assert row["f1"] == pytest.approx(f1_score(labels, predicted, average=None, zero_division=0), abs=1e-12)
        assert row["minority_f1_adjusted"] == pytest.approx(
            f1_score(labels, decided, labels=[1], average="macro", zero_division=0), abs=1e-12
        )
    model = checkpoint.best_model(folder / "best.pt", trial.config, num_classes, 16, CPU)
    own = [evaluate(net, images, part.val) for net, part in zip(networks_of(model), images.parts, strict=True)]
    assert np.array_equal(torch.cat(own).half().numpy(), logits)
    best = trial.rows[-1]["best_epoch"]
    priors = [log_trained_prior(trial.config, part.train_counts, best) for part in images.parts]
    shifted = torch.cat([one - prior for one, prior in zip(own, priors, strict=True)])
    assert np.array_equal(shifted.argmax(1).numpy(), adjusted[best - 1])
    shown = ranking.rank(study.folder).table
    assert shown["minority_f1_adjusted"].is_monotonic_decreasing
    assert (shown["minority_f1_adjusted_low"] <= shown["minority_f1_adjusted"]).all()


def test_the_networks_differ_in_all_that_is_random(whole):
    seeds = [learner.config.seed for learner in whole.learners]
    assert len({CONFIG.seed, *seeds}) == 4
    first, second = (learner.model.state_dict() for learner in whole.learners[:2])
    assert not any(torch.equal(first[name], second[name]) for name in first if name.endswith("weight"))


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_a_trial_that_stops_after_any_epoch_goes_on_with_the_same_bits(tmp_path, images, whole, num_epochs):
    path = tmp_path / "last.pt"
    checkpoint.save(whole, images, path)
    expected = checkpoint.read(path)
    state = loop.new_state(CONFIG, images)
    rows = loop.run(state, images)
    for _ in range(num_epochs):
        next(rows)
    checkpoint.save(state, images, path)
    state = checkpoint.restore(checkpoint.read(path), CONFIG, images, path)
    for _ in loop.run(state, images):
        pass
    checkpoint.save(state, images, path)
    assert_same(checkpoint.read(path), expected)


WORK = """
import sys
from pathlib import Path
from tests.trial.test_folds import work
work(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def work(place, folder):
    """Trains a trial in ``folder`` to its end, from wherever it stands."""
    parser = studies.search._parser()
    plan = studies.preflight(parser.parse(list(map(str, arguments(place, "killed")))), parser.problems, "")
    worker = Worker(plan.pool)
    worker.begin(0, folder, CONFIG)
    while not worker.step().is_last:
        pass


def test_a_process_that_is_killed_loses_no_epoch_that_is_on_disk(place, tmp_path, images, whole):
    process = subprocess.Popen([sys.executable, "-c", WORK, str(place), str(tmp_path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 1 <= len(checkpoint.read(tmp_path / "last.pt")["rows"]) < 3
    work(place, tmp_path)
    found = checkpoint.read(tmp_path / "last.pt")
    checkpoint.save(whole, images, tmp_path / "whole.pt")
    assert_same(found, checkpoint.read(tmp_path / "whole.pt"))


def test_where_memory_suffices_for_one_network_alone_all_train_the_epoch_in_smaller_parts(
    study, images, tmp_path, monkeypatch
):
    train_on, steps = Step._train_on, []

    def limited(self, positions, *more):
        if self not in steps:
            steps.append(self)
        if self is not steps[0] and len(positions) > 50:  # the first network is through its epoch by then
            raise torch.OutOfMemoryError("CUDA out of memory")
        train_on(self, positions, *more)

    monkeypatch.setattr(Step, "_train_on", limited)
    worker = Worker(study.pool)
    worker.begin(0, tmp_path, CONFIG)
    found = [worker.step().row]
    monkeypatch.undo()
    assert len(steps) > 3  # whose first is of a network that was given up
    found.append(worker.step().row)
    state = loop.new_state(replace(CONFIG, num_micro_batches=2), images)
    assert without_seconds(found) == without_seconds(islice(loop.run(state, images), 2))


def test_a_file_of_other_folds_or_none_is_refused(tmp_path, study, images, whole):
    path = tmp_path / "last.pt"
    checkpoint.save(whole, images, path)
    with pytest.raises(CheckpointError, match="made with 3 network"):
        checkpoint.restore(checkpoint.read(path), CONFIG, images.parts[0], path)
    content = torch.load(path, weights_only=True)
    for wrong in ({}, [1], [{}]):
        torch.save({**content, "other_folds": wrong}, path)
        with pytest.raises(CheckpointError):
            checkpoint.restore(checkpoint.read(path), CONFIG, images, path)
    weights = torch.load(study.folder / "trials/0/best.pt", weights_only=True)
    for number in (0, 11, 2.0, 4, None):
        torch.save({**weights, "num_networks": number}, path)
        with pytest.raises(CheckpointError, match=r"last\.pt"):
            checkpoint.best_model(path, study.base, 3, 16, CPU)


def test_a_replay_trains_the_same_folds(study, capsys):
    assert trainable_main(["--replay", str(study.folder / "trials/1")]) == 0
    assert "2 epochs, no difference" in capsys.readouterr().err


def test_a_study_keeps_its_folds(place, study):
    for folds in (["--folds", 4], []):
        asked = [str(part) for part in arguments(place, "photos", *folds)]
        if not folds:
            del asked[asked.index("--folds") : asked.index("--folds") + 2]
        with pytest.raises(UsageError, match="was started with --folds 3, now"):
            studies.begin(*asked, "--objective", "minority_f1_adjusted")


@pytest.fixture(scope="module")
def confirmed(study):
    plan = studies.begin_confirmation(study.folder, "--top", 1, "--seeds", 2)
    studies.train(plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winner, "_export", lambda *arguments: None)  # it takes seconds; see below for one program
        stages._conclude(plan, lambda text: None)
    return plan


def test_a_confirmation_has_other_folds_on_each_seed_and_says_that_the_images_are_the_same(confirmed):
    content = files.read_confirmation(confirmed.folder)
    assert (content.optimistic, content.optimistic_reason[:25]) == (True, "with folds all images are")
    first, second = next(iter(open_runs(confirmed).values()))
    assert not torch.equal(first.images.val, second.images.val)
    assert sorted(first.images.val) == sorted(second.images.val) == list(range(len(confirmed.pool.labels)))


def test_the_winner_is_the_mean_of_its_networks_here_and_exported(confirmed):
    content = files.read_confirmation(confirmed.folder)
    run = open_runs(confirmed)[content.winner][0]
    test = loading.load_test(confirmed.pool)
    seen = run.images.on(torch.from_numpy(test.pixels))
    alone = [evaluate(network.eval(), seen, torch.arange(len(test.labels))) for network in networks_of(run.model)]
    assert len(alone) == 3
    logits = torch.stack(alone).mean(0).numpy() + run.offsets.values
    expected = torch.softmax(torch.from_numpy(logits) / run.temperature.value, 1).numpy()
    found = winner.read(confirmed.folder)
    pixels = unpack(test.pixels, 16)
    assert winner.classify(found.classifier, pixels) == pytest.approx(expected, abs=1e-5)
    _, archive = winner.exported(found.classifier, 16)
    program = torch.export.load(io.BytesIO(archive)).module()
    outside = program(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())).detach().numpy()
    assert outside == pytest.approx(expected, abs=1e-5)
    # what is shown of it was said by networks that had not seen the image
    shown = {mistake.file: mistake.probability for mistake in files.read_mistakes(confirmed.folder)}
    said = torch.softmax(torch.from_numpy(run.logits + run.offsets.values) / run.temperature.value, 1).max(1).values
    paths = np.array(loading.paths(confirmed.pool))[run.images.val.numpy()].tolist()
    assert shown
    assert all(said[paths.index(file)] == pytest.approx(value, abs=5e-3) for file, value in shown.items())


def test_an_ensemble_is_of_all_networks_of_its_runs(confirmed, monkeypatch):
    monkeypatch.setattr(ensembles, "exported", lambda *arguments: (None, b""))
    runs = open_runs(confirmed)
    one, other = list(runs)[:2]
    shutil.rmtree(confirmed.folder / "winner/ensemble", ignore_errors=True)
    gain = Estimate(estimate=0.0, low=0.0, high=0.0)
    ensembles.write(confirmed.folder, runs, Ensemble(members={one: 2, other: 1}, gain=gain))
    classifier = ensembles.read(confirmed.folder).classifier
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), np.uint8))
    networks = [(2 if name == one else 1, net) for name in (one, other) for net in networks_of(runs[name][0].model)]
    logits = [times * network.eval()(classifier.scaled(pixels)) for times, network in networks]
    expected = torch.softmax(torch.stack(logits).sum(0) / 9 + classifier.offsets, 1)
    assert torch.allclose(classifier(pixels), expected, atol=1e-5)


def test_a_refit_is_one_network_on_all_images_and_a_learning_curve_is_of_all(confirmed, monkeypatch):
    monkeypatch.setattr(winner, "_export", lambda *arguments: None)
    begun = studies.begin_afterwards(confirmed.folder, "--learning-curve")
    assert afterwards.carry_out(begun, learning_curve.make, lambda folder: "") == 0
    curve = files.read_learning_curve(confirmed.folder, 3)
    assert [sum(point.images) < 150 for point in curve.points] == [True] * 3
    begun = studies.begin_afterwards(confirmed.folder, "--refit")
    assert afterwards.carry_out(begun, refit.make, lambda folder: "") == 0
    found = winner.read(confirmed.folder)
    assert len(networks_of(found.classifier.network)) == 1
    assert "no validation image has judged this model" in found.model.rule


def test_the_ranking_and_the_page_say_in_one_line_what_is_left_without_the_luck_of_the_choice(study):
    found = ranking.rank(study.folder)
    words = found.evidence.chosen_words
    assert words.startswith("the best of 3 on the same images is partly luck; without that its score is 0.")
    assert words in found.lines()
    assert words[1:] in page.page(summary.find(found, study.folder))
    assert found.evidence.chosen.low <= found.evidence.chosen.estimate <= found.evidence.chosen.high
