"""How important each knob was for being among the best trials: Optuna's PED-ANOVA, with its spread over resamples."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from study.space.parameters import Space
from study.statistics.comparable import Rows, comparable
from trainable.streams import derive

if TYPE_CHECKING:
    import optuna
    import pandas as pd

NUM_RESAMPLES = 100
SPREAD = 0.90  # of the resamples lies between ``low`` and ``high``
TARGET_QUANTILE = 0.25  # the best quarter; Optuna's default of a tenth is 6 trials of 60


@dataclass(frozen=True)
class Importance:
    """A knob's share of the importances, in [0, 1]; they add up to 1, also where no knob has any effect."""

    share: float
    low: float  # over bootstrap resamples of the trials
    high: float


def importances(
    table: "pd.DataFrame", space: Space, seed: int, score: str = "minority_f1", rows: Rows | None = None
) -> dict[str, Importance]:
    """Each knob's importance (Watanabe et al. 2023, "PED-ANOVA"; conditional knobs as Optuna does), by name.

    Of the same trials as ``effects.fit``; empty if there are fewer than two. ``seed`` draws the resamples.
    """
    found = comparable(table, space, score, rows)
    if len(found.numbers) < 2:
        return {}
    trials = _frozen(found.values, found.scores.tolist(), space)
    rng = np.random.default_rng(derive("importance_resamples", seed))
    draws = rng.integers(len(trials), size=(NUM_RESAMPLES, len(trials)))
    resamples = np.array([_shares([trials[index] for index in draw], space) for draw in draws])  # (R, knobs)
    low, high = np.quantile(resamples, [(1 - SPREAD) / 2, (1 + SPREAD) / 2], axis=0)
    shares = _shares(trials, space)
    return {
        parameter.name: Importance(shares[index], float(low[index]), float(high[index]))
        for index, parameter in enumerate(space)
    }


def _frozen(
    values: Sequence[dict[str, Any]], scores: Sequence[float], space: Space
) -> "list[optuna.trial.FrozenTrial]":
    """The trials as Optuna knows them."""
    import optuna

    from study.space.distributions import distribution

    distributions = {parameter.name: distribution(parameter) for parameter in space}
    return [
        optuna.create_trial(value=score, params=own, distributions={name: distributions[name] for name in own})
        for own, score in zip(values, scores, strict=True)
    ]


def _shares(trials: "Sequence[optuna.trial.FrozenTrial]", space: Space) -> list[float]:
    """In the order of the space."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.storages import InMemoryStorage

    class Drawn(InMemoryStorage):
        """Has the trials as they are; Optuna's own copies each of them deeply, 40 s for 100 resamples of 1,000."""

        def get_all_trials(self, *args: Any, **kwargs: Any) -> list[optuna.trial.FrozenTrial]:
            return numbered

    numbered = [copy.copy(trial) for trial in trials]  # one that was drawn twice counts twice
    for number, trial in enumerate(numbered):
        trial.number = trial._trial_id = number
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", storage=Drawn())
    known = [parameter.name for parameter in space if any(parameter.name in trial.params for trial in trials)]
    with warnings.catch_warnings():  # of few trials under a condition, which the spread over resamples shows as well
        warnings.simplefilter("ignore", UserWarning)
        found = PedAnovaImportanceEvaluator(target_quantile=TARGET_QUANTILE).evaluate(study, known)
    total = sum(found.values())
    return [found.get(parameter.name, 0.0) / total if total > 0 else 0.0 for parameter in space]
