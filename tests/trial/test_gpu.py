"""What a GPU must do as a CPU does: each recipe of the toolbox, captured in a graph, kept and gone on with.

Skipped where there is no GPU; the same recipes run on the CPU in the other files here.
"""

import dataclasses

import pytest
import torch

from tests.trial.test_full_space import recipe as of_full_space
from tests.trial.test_toolbox import RECIPES
from trainable import checkpoint, loop, step
from trainable.arguments import default_config
from trainable.images.trial import trial_images
from trainable.worker import Worker

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
NUM_OF_SPACE = 16
# no dropout, whose draws are a GPU's own, and steps so small that rounding does not grow
CALM = {"epochs": 4, "dropout": 0.0, "learning_rate": 1e-5, "precision": "float32"}


def configs():
    base = default_config("digits", 3, num_threads=1)
    named = [("-".join(f"{k}={v}" for k, v in fields.items()), dataclasses.replace(base, **fields | CALM))
             for fields in RECIPES]  # fmt: skip
    drawn = [(f"full-{index}", dataclasses.replace(of_full_space(index), **CALM)) for index in range(NUM_OF_SPACE)]
    return [pytest.param(config, id=name) for name, config in named + drawn]


@pytest.fixture(scope="module")
def on_gpu(digits_pool):
    return trial_images(digits_pool, 3, 3, torch.device("cuda"))


@pytest.fixture(scope="module")
def on_cpu(digits_pool):
    return trial_images(digits_pool, 3, 3, torch.device("cpu"))


def losses(config, images, num_epochs=None):
    state = loop.new_state(config, images)
    rows = loop.run(state, images)
    for _ in range(num_epochs or config.epochs):
        next(rows)
    return [row[name] for row in state.rows for name in ("train_loss", "val_loss")], state


@pytest.mark.parametrize("config", configs())
def test_a_graph_trains_as_the_eager_step_and_that_as_a_cpu(config, on_gpu, on_cpu, monkeypatch, tmp_path):
    graphed, state = losses(config, on_gpu)
    monkeypatch.setattr(step.Step, "_repeated", lambda self, work: work)
    eager, _ = losses(config, on_gpu)
    assert graphed == pytest.approx(eager, rel=0.02)
    assert eager[:2] == pytest.approx(losses(config, on_cpu, 1)[0], rel=0.05)
    monkeypatch.undo()

    half = loop.new_state(config, on_gpu)
    rows = loop.run(half, on_gpu)
    next(rows), next(rows)
    checkpoint.save(half, on_gpu, tmp_path / "last.pt")
    content = checkpoint.read(tmp_path / "last.pt")
    again = checkpoint.restore(content, config, on_gpu, tmp_path / "last.pt")
    list(loop.run(again, on_gpu))
    assert [row["train_loss"] for row in again.rows] == pytest.approx(
        [row["train_loss"] for row in state.rows], rel=0.02
    )


def test_bfloat16_is_close_to_float32(on_gpu):
    config = dataclasses.replace(default_config("digits", 3), **CALM)
    exact, rounded = (losses(dataclasses.replace(config, precision=p), on_gpu)[0] for p in ("float32", "bfloat16"))
    assert rounded == pytest.approx(exact, rel=0.05)


def test_where_memory_does_not_suffice_the_epoch_is_trained_in_smaller_parts(digits_pool, tmp_path):
    config = dataclasses.replace(default_config("digits", 3), **CALM | {"batch_size": 512, "network": "resnet18"})
    whole = one_epoch(digits_pool, config, tmp_path / "whole")
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction(0.4 * whole.gpu_bytes / total)
        parts = one_epoch(digits_pool, config, tmp_path / "parts")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert parts.row["num_micro_batches"] > whole.row["num_micro_batches"]
    assert parts.gpu_bytes < whole.gpu_bytes
    # batch norm sees other batches, or they would be equal
    assert parts.row["train_loss"] == pytest.approx(whole.row["train_loss"], rel=0.2)


def one_epoch(pool, config, folder):
    folder.mkdir()
    worker = Worker(pool)
    worker.begin(3, folder, config)
    return worker.step()
