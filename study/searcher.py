"""What to try next: Optuna's samplers over the study's space, each proposal a function of (seed, number, ledger)."""

import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from study.ledger import Ledger, Trial
from study.space import Parameter, Space
from trainable.config import TrialConfig
from trainable.streams import derive

# The course's two recipes: trials 0 and 1, whatever the space says. Fields not named are the config's defaults.
COURSE_RECIPES: dict[str, dict[str, Any]] = {
    "course, shuffled": {"sampler": "shuffle"},
    "course, weighted": {"sampler": "weighted", "sampler_power": 1.0},
}


class Searcher:
    """Hands out trials: the interrupted ones of the ledger first, then the course's recipes, then proposals."""

    def __init__(self, ledger: Ledger, space: Space, base: TrialConfig, algorithm: str, num_trials: int) -> None:
        """``base`` is the course's recipe with the study's settings; its seed is the study's seed."""
        self.ledger, self.space, self.base = ledger, space, base
        self.algorithm, self.num_trials = algorithm, num_trials
        self._interrupted = ledger.running()

    def next(self) -> Trial | None:
        """The next trial to run; None when all have been handed out."""
        if self._interrupted:
            return self._interrupted.pop(0)
        number = len(self.ledger.trials)
        if number >= self.num_trials:
            return None
        fixed = dict(enumerate(COURSE_RECIPES.items())).get(number)
        recipe, values = fixed or ("searched", self._propose(number))
        seed = derive("trial_seed", self.base.seed, number)
        config = TrialConfig.from_dict(self.base.to_dict() | values | {"seed": seed})
        params, distributions = self._as_params(config)
        return self.ledger.add(config, recipe, params, distributions)

    def _propose(self, number: int) -> dict[str, Any]:
        # A new sampler for each proposal: what it draws depends on the seed, the number and the history alone,
        # not on what this process has drawn before.
        sampler = self._sampler(derive("sampler", self.base.seed, number) % 2**32)
        study, trial = self.ledger.study, optuna.create_trial(state=TrialState.RUNNING)
        trial.number = number
        relative_space = sampler.infer_relative_search_space(study, trial)
        relative = sampler.sample_relative(study, trial, relative_space)
        values: dict[str, Any] = {}
        for parameter in self.space:
            if parameter.active(values):
                name = parameter.name
                if name in relative:
                    values[name] = relative[name]
                else:
                    values[name] = sampler.sample_independent(study, trial, name, distribution(parameter))
        return values

    def _sampler(self, seed: int) -> BaseSampler:
        if self.algorithm == "random":
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of group, which conditional fields need
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)

    def _as_params(self, config: TrialConfig) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """The config as Optuna sees it: the fields of the space, where they are active and within it."""
        values = config.to_dict()
        inside = [p for p in self.space if p.active(values) and p.contains(values[p.name])]
        return {p.name: values[p.name] for p in inside}, {p.name: distribution(p) for p in inside}


def distribution(parameter: Parameter) -> BaseDistribution:
    """The field as Optuna knows it."""
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.is_int:
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
