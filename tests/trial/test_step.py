import dataclasses

import pytest
import torch

from trainable import learner, loop, step
from trainable.arguments import default_config
from trainable.images.trial import trial_images
from trainable.step import NUM_WARM_UP_CALLS, Graphed

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def config(**fields):
    return dataclasses.replace(default_config("digits", 3, epochs=3, num_threads=1), **fields)


@pytest.fixture(scope="module")
def images(digits_pool):
    return trial_images(digits_pool, 3, 3, CPU)


def call(work, inputs):
    work(*inputs)


def record(work, inputs):
    """A capture without a GPU: a replay does the work on the tensors that were captured."""
    return lambda: work(*inputs)


def graphed_on_the_cpu(self, work):
    return Graphed(work, call, record)


def rows_of(images, **fields):
    state = loop.new_state(config(**fields), images)
    rows = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in loop.run(state, images)]
    return rows, state


@pytest.mark.parametrize("fields", [{}, {"accumulation_steps": 1}, {"batch_size": 100, "num_micro_batches": 3}])
def test_an_epoch_of_replays_is_the_epoch_itself(images, fields, monkeypatch):
    plain, _ = rows_of(images, **fields)
    monkeypatch.setattr(step.Step, "_repeated", graphed_on_the_cpu)
    assert rows_of(images, **fields)[0] == plain


def test_work_is_done_once_a_call_and_captured_once_with_the_inputs_of_each_call():
    total, captured = torch.zeros(2), []

    def add(tensor):
        total.add_(tensor)

    def capture(work, inputs):
        captured.append(inputs)
        return record(work, inputs)

    graphed = Graphed(add, call, capture)
    for number in range(NUM_WARM_UP_CALLS + 4):
        graphed(torch.tensor([1.0, number]))
        assert total.tolist() == [number + 1, sum(range(number + 1))]
    assert len(captured) == 1


def gradients(images, num_images, **fields):
    state = loop.new_state(config(dropout=0.0, rotation_degrees=0.0, **fields), images)
    for module in state.learner.model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()  # each image by itself
            module.train = lambda mode=True: None
    state.learner.optimizer = torch.optim.SGD(state.learner.model.parameters(), lr=1.0)
    before = {name: tensor.clone() for name, tensor in state.learner.model.named_parameters()}
    some = dataclasses.replace(images, train=images.train[:num_images])
    loss, accuracy = learner.train_epoch(state.learner, some, 1)
    moved = torch.cat([(before[n] - p).detach().flatten() for n, p in state.learner.model.named_parameters()])
    return moved, loss, accuracy


@pytest.mark.parametrize("num_images", [64, 50, 67, 3])
@pytest.mark.parametrize("num_parts", [2, 3, 100])
def test_micro_batches_add_up_to_the_batch_where_no_batch_norm_looks_at_them(images, num_images, num_parts):
    whole = gradients(images, num_images, batch_size=32, clip_norm=1e9)
    parts = gradients(images, num_images, batch_size=32, clip_norm=1e9, num_micro_batches=num_parts)
    torch.testing.assert_close(parts[0], whole[0], rtol=0, atol=1e-6)
    assert parts[1] == pytest.approx(whole[1], rel=1e-5)
    assert parts[2] == whole[2]


def test_the_optimizer_steps_as_often_whatever_the_micro_batches(images):
    for num_parts in (1, 4):
        state = loop.new_state(config(accumulation_steps=3, batch_size=100, num_micro_batches=num_parts), images)
        learner.train_epoch(state.learner, images, 1)
        steps = {int(entry["step"]) for entry in state.learner.optimizer.state.values()}
        assert steps == {3}  # 816 images: 9 batches, 3 groups


@needs_gpu
def test_on_a_gpu_replayed_graphs_train_like_the_eager_step(digits_pool, monkeypatch):
    on_gpu = trial_images(digits_pool, 3, 3, torch.device("cuda"))
    graphed, _ = rows_of(on_gpu, dropout=0.0)
    monkeypatch.setattr(step.Step, "_repeated", lambda self, work: work)
    eager, _ = rows_of(on_gpu, dropout=0.0)
    for one, other in zip(graphed, eager, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=0.02)


@needs_gpu
def test_on_a_gpu_every_epoch_draws_another_dropout(digits_pool):
    on_gpu = trial_images(digits_pool, 3, 3, torch.device("cuda"))
    state = loop.new_state(config(learning_rate=1e-12, dropout=0.5, rotation_degrees=0.0), on_gpu)
    losses = [learner.train_epoch(state.learner, on_gpu, epoch)[0] for epoch in (1, 2, 2)]
    assert losses[0] != losses[1]


@needs_gpu
def test_on_a_gpu_a_trial_resumes_from_a_checkpoint_made_there(digits_pool, tmp_path):
    from trainable import checkpoint

    on_gpu = trial_images(digits_pool, 3, 3, torch.device("cuda"))
    _, state = rows_of(on_gpu)
    checkpoint.save(state, on_gpu, tmp_path / "last.pt")
    for images in (on_gpu, trial_images(digits_pool, 3, 3, CPU)):
        again = checkpoint.restore(checkpoint.read(tmp_path / "last.pt"), state.config, images, tmp_path / "last.pt")
        learner.train_epoch(again.learner, images, 4)
