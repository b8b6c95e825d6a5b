import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from study.confirmation.trained import TrainedRun, adjustment
from study.record import validation
from trainable.config import TrialConfig

LABELS = np.array([0, 0, 1, 1])
WRONG, HALF, RIGHT = [1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("epochs", "best"), [([WRONG, HALF], 2), ([HALF, RIGHT, RIGHT, WRONG], 2), ([RIGHT], 1), ([WRONG, WRONG], 1)]
)
def test_the_best_epoch_is_the_first_with_the_highest_minority_f1(epochs, best):
    images = SimpleNamespace(num_classes=2, minority=(0,))
    run = TrainedRun(SimpleNamespace(config=TrialConfig()), 0, Path(), images, np.array([]))
    plain = np.array(epochs, np.uint8)
    vars(run)["_validation"] = {
        validation.LABELS: LABELS, validation.PREDICTIONS: plain, validation.ADJUSTED: 1 - plain
    }  # fmt: skip
    assert run.best_epoch == best


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("minority_f1", [0, 0, 0]), ("minority_f1_adjusted", [math.log(2), math.log(4), math.log(4)])],
)
def test_an_objective_after_logit_adjustment_has_it_in_all_decisions(objective, expected):
    config = TrialConfig(objective=objective)
    assert adjustment(config, torch.tensor([100, 50, 50]), 1) == pytest.approx(expected)
