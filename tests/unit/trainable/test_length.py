"""Which fields make epochs that are over depend on how many there will be."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainable.config import TrialConfig
from trainable.loop import bound_to_length, num_epochs_before_all_is_on
from trainable.parts.losses import class_weights, log_trained_prior
from trainable.parts.optimizers import learning_rate_factor, warmup_steps
from trainable.parts.samplers import freezes_body, order, trains_head_alone

LABELS = torch.tensor([0] * 12 + [1] * 5 + [2] * 3)
STEPS = 4  # of the optimizer in an epoch
SHARES = st.sampled_from([0.0, 0.01, 0.2, 0.5, 0.8])


def work(config, epoch):
    """All that the loop asks of the config in an epoch, besides the fields that it reads as they are."""
    counts = torch.bincount(LABELS)
    num_steps = STEPS * config.epochs
    warm = warmup_steps(config.warmup_epochs, config.epochs, num_steps)
    steps = range(STEPS * (epoch - 1), STEPS * epoch)
    return (
        [learning_rate_factor(config.schedule, step, num_steps, warm) for step in steps],
        order(config, LABELS, epoch, torch.Generator().manual_seed(0)).tolist(),
        class_weights(config, counts, epoch).tolist(),
        log_trained_prior(config, counts, epoch).tolist(),
        trains_head_alone(config, epoch),
        freezes_body(config, epoch),
    )


@st.composite
def configs(draw):
    schedule = draw(st.sampled_from(["constant", "constant", "constant", "cosine", "one_cycle", "step"]))
    values = {"epochs": draw(st.integers(3, 10)), "schedule": schedule}
    if schedule != "one_cycle":
        values["warmup_epochs"] = draw(st.sampled_from([0.0, 0.0, 0.5, 2.0]))
    values["sampler"] = draw(st.sampled_from(["shuffle", "weighted", "progressive", "undersample"]))
    if values["sampler"] != "shuffle":
        values["resample_from"] = draw(SHARES)
    values["class_weights"] = draw(st.sampled_from(["none", "inverse"]))
    if values["class_weights"] != "none":
        values["reweight_from"] = draw(SHARES)
    values["head_epochs"] = draw(st.sampled_from([0, 0, 0, 1]))
    values["frozen_epochs"] = draw(st.sampled_from([0, 1]))
    return TrialConfig.from_dict(values)


@given(configs(), st.integers(1, 30))
def test_epochs_of_a_recipe_without_such_a_field_are_the_same_however_many_follow(config, more):
    longer = replace(config, epochs=config.epochs + more)
    if not bound_to_length(config, longer.epochs):
        assert num_epochs_before_all_is_on(config) == num_epochs_before_all_is_on(longer)
        for epoch in range(1, config.epochs + 1):
            assert work(config, epoch) == work(longer, epoch)


@pytest.mark.parametrize(
    ("values", "named"),
    [({}, []), ({"sampler": "weighted", "frozen_epochs": 2, "average_decay": 0.9}, []),
     ({"schedule": "cosine"}, ["schedule"]), ({"sampler": "progressive"}, ["sampler"]),
     ({"head_epochs": 2, "warmup_epochs": 1.0}, ["warmup_epochs", "head_epochs"]),
     ({"class_weights": "inverse", "reweight_from": 0.8}, ["reweight_from"]),
     ({"sampler": "undersample", "resample_from": 0.01}, [])],  # none of 10 and none of 20 epochs
)  # fmt: skip
def test_fields_that_go_by_the_number_of_epochs_are_named(values, named):
    config = TrialConfig.from_dict({"epochs": 10, **values})
    assert bound_to_length(config, 20) == named
    assert bound_to_length(config, 10) == []
