"""Test beds: made-up trainings whose truth is known, which ``simulated`` plays through the study's own search."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy.special import expit, logit

from study.space.parameters import Parameter, Space, active_values
from trainable.config import TrialConfig
from trainable.objectives import MINORITY_F1, Objective


class Bed(Protocol):
    """A space, and what training each recipe of it would give."""

    @property
    def space(self) -> Space: ...

    @property
    def num_epochs(self) -> int: ...

    @property
    def objective(self) -> Objective:
        """What its trainings are judged by."""
        ...

    @property
    def best(self) -> float:
        """The worth of the best recipe."""
        ...

    def worth(self, config: TrialConfig) -> float:
        """What a recipe is worth: the score of its best epoch, without noise; in [0, 1]."""
        ...

    def train(self, config: TrialConfig, seed: int) -> np.ndarray:
        """The score after each epoch of a training, float64 (num_epochs,) in [0, 1]; ``seed`` draws all its noise."""
        ...

    def epoch_seconds(self, config: TrialConfig) -> float: ...


def locate(space: Space, values: dict[str, Any]) -> np.ndarray:
    """A config as a point: ranges and ordered choices in [0, 1], other choices a corner each, distance 1 apart.

    A field that is not active stands in the middle of its range.
    """
    coordinates: list[float] = []
    for parameter in space:
        active = parameter.active(values)
        coordinates += _coordinates(parameter, values[parameter.name]) if active else _middle(parameter)
    return np.array(coordinates)


def _coordinates(parameter: Parameter, value: Any) -> list[float]:
    if not parameter.choices:
        return [parameter.share(value)]
    if all(isinstance(choice, int | float) for choice in parameter.choices):
        return [sorted(parameter.choices).index(value) / max(1, len(parameter.choices) - 1)]
    return [(choice == value) / 2**0.5 for choice in parameter.choices]


def _middle(parameter: Parameter) -> list[float]:
    return [0.5] * len(_coordinates(parameter, parameter.choices[0] if parameter.choices else parameter.low))


def values_at(space: Space, shares: np.ndarray) -> dict[str, Any]:
    """The fields that matter at a point of the unit cube (num_parameters,), each evenly on its own scale."""
    point = {parameter.name: parameter.at(float(share)) for parameter, share in zip(space, shares, strict=True)}
    return active_values(space, point.__getitem__)


# of a formula's recipes
MOST, LEAST = 0.9, 0.05  # worth of the best, and where the score of all begins
SEED_NOISE, EPOCH_NOISE, PACE_NOISE = 0.15, 0.15, 0.15  # standard deviations on the logit scale; of the pace: relative


@dataclass(frozen=True)
class Formula:
    """Recipes whose worth is a formula of their fields, for spaces as large as the toolbox.

    Each field costs the more the farther it is from its own best value, few of them much; two neighbours cost more
    together. How soon a recipe leaves the floor depends on the fields, too, but has nothing to do with its worth: among
    the best there are as many slow starters as elsewhere. ``seed`` draws the formula.
    """

    space: Space
    num_epochs: int = 20
    seed: int = 0
    objective: Objective = MINORITY_F1

    @property
    def best(self) -> float:
        return MOST

    def worth(self, config: TrialConfig) -> float:
        return self._worth_and_start(config)[0]

    def train(self, config: TrialConfig, seed: int) -> np.ndarray:
        worth, start = self._worth_and_start(config)
        rng = np.random.default_rng(seed)
        noise = SEED_NOISE * rng.standard_normal() + EPOCH_NOISE * rng.standard_normal(self.num_epochs)
        own_start = start * np.exp(PACE_NOISE * rng.standard_normal())
        risen = expit(2 * (np.arange(1, self.num_epochs + 1) - own_start))
        risen /= expit(2 * (self.num_epochs - start))  # at its end a training without noise is what it is worth
        return expit(logit(LEAST + (worth - LEAST) * np.minimum(risen, 1)) + noise)

    def epoch_seconds(self, config: TrialConfig) -> float:
        return 1.0

    def _worth_and_start(self, config: TrialConfig) -> tuple[float, float]:
        values = config.to_dict()
        shares = {p.name: _share(p, values[p.name]) for p in self.space if p.active(values)}
        away = np.array([abs(shares[p.name] - best) if p.name in shares else 0.0
                         for p, best in zip(self.space, self._drawn["best"], strict=True)])  # fmt: skip
        loss = (self._drawn["weight"] * away**2).sum() + (self._drawn["pair"] * away[1:] * away[:-1]).sum()
        slow = sum(weight * (shares.get(p.name, 0.5) - 0.5)
                   for p, weight in zip(self.space, self._drawn["slow"], strict=True))  # fmt: skip
        return LEAST + (MOST - LEAST) * float(np.exp(-loss)), float(self.num_epochs * expit(slow - 1.5))

    @cached_property
    def _drawn(self) -> dict[str, np.ndarray]:
        rng, number = np.random.default_rng(self.seed), len(self.space)
        best = rng.uniform(0.2, 0.8, number)
        for index, parameter in enumerate(self.space):
            if parameter.choices:  # one of them is the best, so that the best recipe can be had
                best[index] = _share(parameter, parameter.choices[rng.integers(len(parameter.choices))])
        importances = 2.0 ** -np.arange(number)[rng.permutation(number)] * 2 + 0.05
        return {
            "best": best,
            "weight": importances,
            "pair": 0.5 * np.sqrt(importances[1:] * importances[:-1]),
            "slow": rng.normal(0, 3 / np.sqrt(number), number),
        }


def _share(parameter: Parameter, value: Any) -> float:
    """Where a value lies in its range, or among its choices in their order; in [0, 1]."""
    if parameter.choices:
        return parameter.choices.index(value) / max(1, len(parameter.choices) - 1)
    return parameter.share(value)
