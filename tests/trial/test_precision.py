"""Training in bfloat16: what is rounded, what is not, and that the same config gives the same bits there, too."""

import dataclasses
import json

import pytest
import torch

from trainable import loop, probe
from trainable.__main__ import main
from trainable.arguments import default_config
from trainable.evaluation import evaluate, predict, score
from trainable.images.trial import trial_images
from trainable.objectives import MINORITY_F1
from trainable.precision import FullPrecisionLinear, autocast

CPU = torch.device("cpu")
CONFIG = dataclasses.replace(default_config("digits", 3, epochs=2, num_threads=1), precision="bfloat16")


@pytest.fixture(scope="module")
def images(digits_pool):
    return trial_images(digits_pool, 3, 3, CPU)


@pytest.fixture(scope="module")
def trial(images):
    """A trial of two epochs, what came out of each of its layers, and its gradients' dtypes."""
    state = loop.new_state(CONFIG, images)
    outputs = {}
    gradients = set()
    for parameter in state.learner.model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda tensor: gradients.add(tensor.grad.dtype))
    for name, layer in [
        *state.learner.model.features.named_children(),
        *state.learner.model.classifier.named_children(),
    ]:
        key = (name, type(layer).__name__)

        def note(layer, _, output, key=key):
            outputs.setdefault(key, output.dtype)

        layer.register_forward_hook(note)
    list(loop.run(state, images))
    return state, outputs, gradients


def rows_of(config, images):
    return [
        {name: value for name, value in row.items() if not name.endswith("_seconds")}
        for row in loop.run(loop.new_state(config, images), images)
    ]


def test_every_layer_but_the_last_hands_on_bfloat16(trial):
    *_, last = outputs = list(trial[1].values())
    assert last == torch.float32
    assert set(outputs[:-1]) == {torch.bfloat16}


def test_weights_gradients_moments_and_statistics_stay_float32(trial):
    state, _, gradients = trial
    model = {name: tensor for name, tensor in state.learner.model.state_dict().items() if "num_batches" not in name}
    assert any("running_var" in name for name in model)
    moments = [tensor for entry in state.learner.optimizer.state.values() for tensor in entry.values()]
    assert {tensor.dtype for tensor in [*model.values(), *moments]} | gradients == {torch.float32}
    assert gradients


def test_the_logits_are_the_last_layers_in_float32_and_not_rounded(trial, images):
    model = trial[0].learner.model.eval()
    hidden = []
    hook = model.classifier[-1].register_forward_hook(lambda _, inputs, output: hidden.append(inputs[0]))
    logits = evaluate(model, images, images.val, "bfloat16")
    hook.remove()
    expected = torch.nn.functional.linear(torch.cat(hidden).float(), *model.classifier[-1].parameters())
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(logits, logits.bfloat16().float())
    predicted = predict(logits, images, CONFIG, 1)
    found = score(logits, predicted, predicted, images, MINORITY_F1)  # as the trial itself validates
    assert found["val_loss"] == trial[0].rows[-1]["val_loss"]


def test_the_last_layer_takes_its_gradient_in_float32():
    layer, full = torch.nn.Linear(8, 3), FullPrecisionLinear(8, 3)
    full.load_state_dict(layer.state_dict())
    inputs = torch.randn(16, 8).bfloat16().float()
    layer(inputs).square().sum().backward()
    with autocast("bfloat16", CPU):
        found = full(inputs.bfloat16())
    found.square().sum().backward()
    assert torch.equal(full.weight.grad, layer.weight.grad)


def test_the_same_config_gives_the_same_bits_and_another_precision_others(trial, images):
    state, *_ = trial
    again = rows_of(CONFIG, images)
    assert again == [{n: v for n, v in row.items() if not n.endswith("_seconds")} for row in state.rows]
    float32 = rows_of(dataclasses.replace(CONFIG, precision="float32"), images)
    assert [row["train_loss"] for row in float32] != [row["train_loss"] for row in again]
    for one, other in zip(float32, again, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=0.03)


def test_predictions_in_bfloat16_are_those_in_float32_but_where_two_classes_are_all_but_equal(trial, images):
    model = trial[0].learner.model
    rounded, exact = (evaluate(model, images, images.val, name) for name in ("bfloat16", "float32"))
    largest = (rounded - exact).abs().max()
    assert 0 < largest < 0.1
    first, second = exact.topk(2).values.unbind(1)
    differ = rounded.argmax(1) != exact.argmax(1)
    assert (first - second)[differ].le(2 * largest).all()


@pytest.mark.parametrize("asked", [[], ["--precision", "auto"]])
def test_a_trial_takes_what_the_probe_says_and_says_why(asked, monkeypatch, capsys):
    arguments = ["--data", "digits", "--image-size", "16", "--epochs", "1", "--set", "num_threads=1", "--json"]

    def rows():
        out, err = capsys.readouterr()
        row = json.loads(out)
        return {name: value for name, value in row.items() if not name.endswith("_seconds")}, err

    main([*arguments, "--precision", "bfloat16"])
    expected, err = rows()
    assert "as fast" not in err
    monkeypatch.setattr(probe, "probe", lambda *_: probe.Choice("bfloat16", "9 × as fast as float32 here"))
    main([*arguments, *asked])
    found, err = rows()
    assert found == expected
    assert "bfloat16: 9 × as fast as float32 here" in err.splitlines()
    main([*arguments, "--set", "precision=float32"])
    assert rows()[0] != expected
