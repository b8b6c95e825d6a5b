import itertools

import pytest
import torch

from tests.unit.trainable.test_losses import COUNTS, config
from trainable.parts.corrections import PLACES, corrects_twice
from trainable.parts.losses import CLASS_WEIGHTS, LOSSES, log_trained_prior
from trainable.parts.samplers import SAMPLERS

VALUES = {"sampler": list(SAMPLERS), "class_weights": list(CLASS_WEIGHTS), "loss": list(LOSSES)}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in VALUES for value in VALUES[field]])
def test_a_place_corrects_where_and_only_where_it_moves_the_prior(field, value):
    natural, found = (log_trained_prior(config(**fields), COUNTS, 10).softmax(0) for fields in ({}, {field: value}))
    assert (value in PLACES[field]) == (not torch.allclose(natural, found))


def test_no_place_has_a_value_that_does_not_exist():
    assert {(field, value) for field in PLACES for value in PLACES[field]} <= {
        (field, value) for field in VALUES for value in VALUES[field]
    }


def test_a_recipe_that_corrects_once_is_not_marked_and_one_that_does_twice_is_named():
    for sampler, weights, loss in itertools.product(*VALUES.values()):
        values = {"sampler": sampler, "class_weights": weights, "loss": loss}
        number = (sampler != "shuffle") + (weights != "none") + (loss in ("balanced_softmax", "logit_adjusted"))
        assert len(corrects_twice(values)) == (number if number > 1 else 0), values


def test_what_is_corrected_twice_is_said_in_words():
    values = {"sampler": "weighted", "class_weights": "inverse", "loss": "logit_adjusted"}
    assert corrects_twice(values) == ["weighted sampler", "inverse class weights", "logit-adjusted loss"]
    assert corrects_twice(values | {"head_epochs": 5}) == ["balanced head", *corrects_twice(values)[1:]]


def test_a_fresh_head_forgets_the_sampler_before_it_but_not_the_loss():
    assert corrects_twice({"sampler": "weighted", "head_epochs": 5}) == []
    assert corrects_twice({"loss": "balanced_softmax", "head_epochs": 5}) == ["balanced head", "balanced softmax"]


@pytest.mark.parametrize("values", [{}, {"sampler": "shuffle"}, {"loss": "ldam", "class_weights": "effective"}])
def test_old_recipes_and_ldam_with_its_papers_weights_are_not_marked(values):
    assert corrects_twice(values) == []
