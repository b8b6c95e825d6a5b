"""Any recipe of the full space: trained, kept, gone on with, exported and predicted with."""

import os
from types import SimpleNamespace

import pytest
import torch

from study.confirmation import winner
from study.space import designs, parameters
from tests.trial.test_networks import first_of_each_class
from tests.trial.test_toolbox import assert_resumes_to_the_same_bits
from trainable import checkpoint
from trainable.arguments import default_config
from trainable.config import TrialConfig
from trainable.images.pool import unpack
from trainable.images.trial import trial_images

SPACE = parameters.load(parameters.SPACES["full"])
BASE = default_config("digits", 3, epochs=2, num_threads=1)
NUM_QUICK, NUM_ALL = 30, 300


def recipe(index):
    """A recipe of the space; a sequence of them fills it evenly, so that 30 meet all of its choices."""
    return TrialConfig.from_dict(BASE.to_dict() | designs.sobol_point(SPACE, index, seed=1))


def test_few_recipes_already_have_all_choices_of_the_space():
    recipes = [recipe(index).to_dict() for index in range(NUM_QUICK)]
    for parameter in SPACE:
        assert {asked[parameter.name] for asked in recipes} >= set(parameter.choices), parameter.name


@pytest.fixture(scope="module")
def images(digits_pool):
    """At most 5 of each digit."""
    return first_of_each_class(trial_images(digits_pool, 3, 3, torch.device("cpu")), 5)


@pytest.fixture(scope="module")
def exported():
    """Which networks and heads have been exported, which takes seconds each time."""
    return set()


def check(index, images, pool, folder, export):
    asked = recipe(index)
    # trained twice, whole and with an interruption: the second is a replay, too
    assert_resumes_to_the_same_bits(asked, images, folder, [1])
    os.rename(folder / "half.pt", folder / "last.pt")
    checkpoint.finish(folder)
    model = checkpoint.best_model(folder / "best.pt", asked, 10, 16, torch.device("cpu"))
    classifier = winner.Classifier(model, images.mean.tolist(), images.std.tolist(), [0.0] * 10)
    pixels = unpack(pool.pixels[images.val], 16)
    found = torch.from_numpy(winner.classify(classifier, pixels))
    logits = checkpoint.read(folder / "last.pt")["best"]["logits"]
    torch.testing.assert_close(found, logits.float().softmax(1), rtol=0.05, atol=0.01)  # logits are float16
    if export:
        winner._export(SimpleNamespace(classifier=classifier, image_size=16), folder)
        program = torch.export.load(folder / "model.pt2").module()
        theirs = program(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        torch.testing.assert_close(theirs, found, rtol=1e-3, atol=1e-4)
        assert (folder / "model.onnx").stat().st_size > 0


@pytest.mark.parametrize("index", range(NUM_QUICK))
def test_a_recipe_of_the_full_space_trains_goes_on_to_the_same_bits_and_predicts(
    images, digits_pool, tmp_path, exported, index
):
    asked = recipe(index)
    kind = (asked.network, asked.loss == "ldam")
    check(index, images, digits_pool, tmp_path, export=kind not in exported)
    exported.add(kind)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(NUM_QUICK, NUM_ALL))
def test_every_recipe_of_the_full_space_trains_goes_on_exports_and_predicts(images, digits_pool, tmp_path, index):
    check(index, images, digits_pool, tmp_path, export=True)
