"""A trial's network, the weights it starts from, and what of it learns when."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from study.confirmation.winner import Classifier, classify
from tests import studies
from tests.conftest import DIGITS_STUDY, told
from tests.trial.test_toolbox import assert_resumes_to_the_same_bits, config
from trainable import checkpoint, loop
from trainable.__main__ import main
from trainable.cli import UsageError
from trainable.evaluation import evaluate
from trainable.images.pool import unpack
from trainable.images.trial import trial_images
from trainable.parts.heads import head_name
from trainable.parts.networks import make
from trainable.records import read_config

CPU = torch.device("cpu")


def first_of_each_class(images, number, start=0):
    """The images with at most so many of each class to train on, and few to validate on."""

    def chosen(positions, start, number):
        labels = images.labels[positions]
        parts = [positions[labels == label][start : start + number] for label in range(images.num_classes)]
        return torch.cat(parts)

    return dataclasses.replace(images, train=chosen(images.train, start, number), val=chosen(images.val, 0, 5))


@pytest.fixture(scope="module")
def images(digits_pool):
    """At most 6 of each digit."""
    return first_of_each_class(trial_images(digits_pool, 3, 3, CPU), 6)


@pytest.fixture
def file(tmp_path):
    """A function that leaves the weights of a network, drawn from another seed, in a file."""

    def write(asked, num_classes=10):
        torch.manual_seed(99)
        torch.save(make(asked, num_classes, 16).state_dict(), tmp_path / "weights.pt")
        return dataclasses.replace(asked, weights=str(tmp_path / "weights.pt"))

    return write


@pytest.mark.parametrize(
    ("fields", "num_classes"),
    [
        ({"network": "resnet32", "loss": "ldam", "backbone_rate": 0.3, "frozen_epochs": 1,
          "precision": "bfloat16"}, None),
        ({"network": "densenet_bc", "optimizer": "adamw", "schedule": "cosine", "epochs": 2}, None),
        ({"width": 0.5, "frozen_epochs": 2, "optimizer": "sgd", "schedule": "step", "backbone_rate": 0.1}, None),
        ({"network": "torchvision/resnet18", "frozen_epochs": 1, "head_epochs": 2, "average_decay": 0.9}, 6),
        ({"network": "torchvision/mobilenet_v3_small", "frozen_epochs": 2, "backbone_rate": 0.1, "optimizer": "sgd",
          "mixing": "mixup"}, 10),
    ],
)  # fmt: skip
def test_a_trial_goes_on_to_the_same_bits_whatever_its_network_and_what_it_starts_from(
    images, tmp_path, file, fields, num_classes
):
    asked = config(**{"batch_size": 16, **fields})
    asked = file(asked, num_classes) if num_classes else asked
    assert_resumes_to_the_same_bits(asked, images, tmp_path, range(1, asked.epochs))


def test_a_trial_goes_on_without_the_weights_that_it_started_from(images, tmp_path, file):
    asked = file(config(epochs=2))
    state = loop.new_state(asked, images)
    next(loop.run(state, images))
    checkpoint.save(state, images, tmp_path / "last.pt")
    (tmp_path / "weights.pt").unlink()
    again = checkpoint.restore(checkpoint.read(tmp_path / "last.pt"), asked, images, tmp_path / "last.pt")
    assert len(list(loop.run(again, images))) == 1
    with pytest.raises(UsageError, match="no file that is there"):
        loop.new_state(asked, images)


@pytest.mark.parametrize("network", ["convnet", "resnet32", "torchvision/resnet18"])
def test_the_head_learns_first_then_all_and_what_is_frozen_does_not_change(images, file, network):
    asked = file(config(network=network, frozen_epochs=2, average_decay=0.9, weight_decay=0.1, dropout=0.5))
    state = loop.new_state(asked, images)

    def everything():
        models = {"model": state.learner.model, "average": state.learner.average.model}
        return {f"{which}.{name}": tensor.clone() for which, model in models.items()
                for name, tensor in model.state_dict().items()}  # fmt: skip

    given = torch.load(asked.weights)
    after = [everything()]
    assert all(torch.equal(after[0][f"model.{name}"], tensor) for name, tensor in given.items())
    assert all(torch.equal(after[0][f"average.{name}"], tensor) for name, tensor in given.items())
    for _ in loop.run(state, images):
        after.append(everything())
    changed = [
        {name for name in first if not torch.equal(first[name], second[name])}
        for first, second in itertools.pairwise(after)
    ]
    head = {
        f"{which}.{head_name(state.learner.model)}.{name}"
        for which in ("model", "average")
        for name in ("weight", "bias")
    }
    assert changed[0] == changed[1] == head
    learning = {
        f"model.{name}" for name, parameter in state.learner.model.named_parameters() if parameter.requires_grad
    }
    statistics = {f"model.{name}" for name, _ in state.learner.model.named_buffers()}
    assert changed[2] >= learning | statistics


def test_below_the_head_a_share_of_the_learning_rate_is_learned_with(images):
    def moved(**fields):
        state = loop.new_state(config(optimizer="sgd", learning_rate=1e-3, weight_decay=0.0, epochs=1, batch_size=64,
                                      accumulation_steps=1, **fields), images)  # fmt: skip
        before = {name: parameter.detach().clone() for name, parameter in state.learner.model.named_parameters()}
        next(loop.run(state, images))
        return {name: parameter.detach() - before[name] for name, parameter in state.learner.model.named_parameters()}

    one, slow = moved(), moved(backbone_rate=0.25)  # of a single step
    for name, distance in one.items():
        factor = 1.0 if name.startswith("classifier.9") else 0.25
        torch.testing.assert_close(slow[name], factor * distance, rtol=1e-3, atol=1e-7)


def test_fine_tuning_gains_over_training_from_scratch_at_equal_epochs(digits_pool, tmp_path):
    """Weights from a short training on other images of the digits; then four images of each digit."""
    whole = trial_images(digits_pool, 3, 3, CPU)
    others = dataclasses.replace(whole, train=whole.train[::2])
    state = loop.new_state(config(batch_size=32, accumulation_steps=1), others)
    list(loop.run(state, others))
    checkpoint.save(state, others, tmp_path / "last.pt")
    checkpoint.finish(tmp_path)
    few = dataclasses.replace(
        first_of_each_class(dataclasses.replace(whole, train=whole.train[1::2]), 4), val=whole.val
    )

    def best(**fields):
        state = loop.new_state(config(batch_size=16, accumulation_steps=1, **fields), few)
        return max(row["macro_f1"] for row in loop.run(state, few))

    fields = {"weights": str(tmp_path / "best.pt"), "frozen_epochs": 1, "backbone_rate": 0.1}
    assert best(**fields) > best() + 0.1


@pytest.mark.parametrize("network", ["densenet_bc", "torchvision/mobilenet_v3_small"])
def test_what_any_network_has_learned_can_be_predicted_with(images, tmp_path, digits_pool, network):
    asked = config(network=network, epochs=1, batch_size=16)
    state = loop.new_state(asked, images)
    list(loop.run(state, images))
    checkpoint.save(state, images, tmp_path / "last.pt")
    checkpoint.finish(tmp_path)
    model = checkpoint.best_model(tmp_path / "best.pt", asked, 10, 16, CPU)
    classifier = Classifier(model, images.mean.tolist(), images.std.tolist(), [0.0] * 10)
    found = torch.from_numpy(classify(classifier, unpack(digits_pool.pixels[images.val], 16)))
    expected = evaluate(state.learner.model, images, images.val).softmax(1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (["network=torchvision/resnet19"], "torchvision has no classifier of the name 'torchvision/resnet19'; is"),
        (["network=torchvision/vit_b_16"],
         "torchvision/vit_b_16 does not take images of 16×16 pixels; the smallest that it is made for are 224×224"),
        (["network=torchvision/squeezenet1_1"], "ends in no linear layer"),
        (["weights=none/there.pt"], "none/there.pt is no file that is there"),
        (["weights=default"], "torchvision has none for 'convnet', only for its own networks"),
        (["frozen_epochs=2"], "frozen_epochs must be below epochs, 2, not 2"),
        (["network=resnet32", "width=2"], "width has no effect unless network is 'convnet', so it cannot be 2.0"),
    ],
)  # fmt: skip
def test_a_network_or_weights_that_cannot_be_are_refused_before_anything_starts(refused, fields, sentence):
    asked = ["--data", "digits", "--image-size", "16", "--epochs", "2", "--precision", "float32"]
    assert told(refused(*asked, *(part for field in fields for part in ("--set", field))), sentence)


def test_a_trial_says_which_layers_its_weights_do_not_fit(tmp_path, capsys, file):
    file(config(), num_classes=7)
    asked = ["--data", "digits", "--image-size", "16", "--epochs", "1", "--precision", "float32"]
    assert main([*asked, "--set", f"weights={tmp_path / 'weights.pt'}", "--set", "num_threads=1"]) == 0
    path = tmp_path / "weights.pt"
    expected = f"weights: classifier.9.weight is 10×256 here and 7×256 in {path}, and starts anew"
    assert expected in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    "network", [pytest.param("resnet32", marks=pytest.mark.slow), "torchvision/mobilenet_v3_small"]
)
def test_images_of_320_pixels_are_trained_on(image_folder, tmp_path, capsys, network):
    for index in range(8):  # else there are too few to validate on
        Image.fromarray(np.full((20, 24, 3), 10 * index, np.uint8)).save(image_folder / f"train/fox/more{index}.png")
    asked = ["--data", str(image_folder), "--image-size", "320", "--epochs", "1", "--precision", "float32", "--json",
             "--minority", "fox", "--keep", "1", "--val-fraction", "0.5",
             "--cache-dir", str(tmp_path / "cache")]  # fmt: skip
    assert main([*asked, "--set", f"network={network}", "--set", "num_threads=1", "--set", "batch_size=4"]) == 0
    assert json.loads(capsys.readouterr().out)["epoch"] == 1


def test_a_study_fine_tunes_from_weights_set_for_all_its_trials_and_a_trial_is_replayed(tmp_path, capsys, file):
    given = file(config()).weights
    asked = [*DIGITS_STUDY, "--results", tmp_path, "--epochs", "3", "--trials", "3", "--space", "finetune"]
    studies.finish(studies.begin(*asked, "--set", f"weights={given}"))
    trials = tmp_path / "digits" / "trials"
    configs = [read_config(trials / str(number)) for number in range(3)]
    assert {asked.weights for asked in configs} == {given}
    assert (configs[2].frozen_epochs, configs[2].backbone_rate) != (0, 1.0)
    assert main(["--replay", str(trials / "2"), "--json"]) == 0
    assert "no difference" in capsys.readouterr().err
