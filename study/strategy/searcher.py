"""What to try next: Optuna's samplers over the study's space, each proposal a function of (seed, number, ledger)."""

import warnings
from collections.abc import Container, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from study.record import design
from study.record.entries import STATE, trial_folder
from study.record.ledger import Ledger
from study.record.recipes import COURSE, SEARCHED
from study.record.trial import Trial
from study.space import designs
from study.space.distributions import distribution
from study.space.parameters import Space, active_values
from trainable.config import TrialConfig
from trainable.streams import derive

# TPE starts with so many points of a Sobol sequence: on the test beds 10 and 32 found less
NUM_START = 16
# at most so many trials are shown to TPE: a study of any size takes the same time for each proposal
NUM_LATEST_SHOWN = 900
NUM_BEST_SHOWN = 100


class Searcher:
    """Hands out trials: the interrupted ones of the ledger first, then the course's recipes, then proposals."""

    def __init__(self, ledger: Ledger, space: Space, base: TrialConfig, algorithm: str, num_trials: int,
                 known: Sequence[Mapping[str, Any]] = ()) -> None:  # fmt: skip
        """``base`` is the course's recipe with the study's settings; its seed is the study's seed.

        ``known`` recipes, values of the space, are tried after the course's, in their order.
        """
        self.ledger, self.space, self.base = ledger, space, base
        self.algorithm, self.num_trials, self.known = algorithm, num_trials, known
        self._shown: dict[int, FrozenTrial] = {}
        self._take_up_lost()
        for number in ledger.trials:  # the study may have been given more epochs
            ledger.lengthen(number, base.epochs)
        self._interrupted = ledger.running()

    def _take_up_lost(self) -> None:
        """Enters the trials again that have results on disk and no entry in the journal, because it got lost."""
        num_known, lost = len(self.ledger.trials), self.ledger.lost()
        for number in range(num_known, max(self.num_trials, num_known + len(lost))):
            if number > max(lost, default=-1) or self._enter(number) is None:
                break
            self.ledger.take_end(number)
        if lost:
            self.ledger.say(f"the journal lacked {len(lost)} trials; they are entered again from their folders")

    def next(self) -> Trial | None:
        """The next trial to run; None when all have been handed out, or a grid has no more points."""
        if self._interrupted:
            return self._interrupted.pop(0)
        number = len(self.ledger.trials)
        trial = self._enter(number) if number < self.num_trials else None
        if trial is not None:
            self.ledger.lengthen(number, self.base.epochs)  # its config may be older than its entry
        return trial

    def _enter(self, number: int) -> Trial | None:
        """Adds the trial ``number``, with the config that it has on disk or a new one; None at the end of a grid."""
        fixed = COURSE[number] if number < len(COURSE) else None
        config = self.ledger.left_behind(trial_folder(number))
        if config is None:
            values = fixed.values if fixed else self._propose(number)
            if values is None:
                return None
            seed = derive("trial_seed", self.base.seed, number)
            config = TrialConfig.from_record({**self.base.to_dict(), **values, "seed": seed})
        params, distributions = self._as_params(config)
        return self.ledger.add(config, fixed.name if fixed else SEARCHED, params, distributions)

    def _propose(self, number: int) -> dict[str, Any] | None:
        searched = number - len(COURSE)
        if searched < len(self.known):
            return dict(self.known[searched])
        index = searched - len(self.known)
        if self.algorithm == "grid":
            return designs.grid_point(self.space, index, derive("grid", self.base.seed))
        if self.algorithm == "tpe" and (place := design.place(searched)) is not None:
            return designs.sobol_point(self.space, place, derive("design", self.base.seed))
        if self.algorithm == "sobol" or (self.algorithm == "tpe" and index < NUM_START):
            return designs.sobol_point(self.space, index, derive("sobol", self.base.seed))
        # A new sampler for each proposal: what it draws depends on the seed, the number and the history alone,
        # not on what this process has drawn before.
        sampler = self._sampler(derive("sampler", self.base.seed, number) % 2**32)
        history, trial = self._history(), optuna.create_trial(state=TrialState.RUNNING)
        trial.number = number
        study = _Window(self.ledger.study, history)
        relative_space = sampler.infer_relative_search_space(_Window(self.ledger.study, _first_of_each(history)), trial)
        relative = sampler.sample_relative(study, trial, relative_space)

        parameters = {parameter.name: parameter for parameter in self.space}

        def value_of(name: str) -> Any:
            if name in relative:
                return relative[name]
            return sampler.sample_independent(study, trial, name, distribution(parameters[name]))

        return active_values(self.space, value_of)

    def _sampler(self, seed: int) -> BaseSampler:
        if self.algorithm == "random":
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of group, which conditional fields need
            return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)

    def _history(self) -> list[FrozenTrial]:
        """What TPE is shown: all trials, or in a large study the best and the latest, in order of number."""
        if self.algorithm == "random":
            return []
        trials = self.ledger.trials
        numbers = set(range(max(0, len(trials) - NUM_LATEST_SHOWN), len(trials)))
        numbers |= {number for _, number in self.ledger.ranked[-NUM_BEST_SHOWN:]}
        for number in numbers:
            trial, shown = trials[number], self._shown.get(number)
            if not shown or (shown.state, len(shown.intermediate_values)) != (STATE[trial.status], len(trial.best)):
                self._shown[number] = self._frozen(trial)
        return [self._shown[number] for number in sorted(numbers)]

    def _frozen(self, trial: Trial) -> FrozenTrial:
        params, distributions = self._as_params(trial.config)
        frozen = optuna.create_trial(
            state=STATE[trial.status],
            value=trial.best[-1] if trial.status == "complete" else None,
            params=params,
            distributions=distributions,
            intermediate_values=dict(enumerate(trial.best, 1)),
        )
        frozen.number = trial.number
        return frozen

    def _as_params(self, config: TrialConfig) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """The config as Optuna sees it: the fields of the space, where they are active and within it."""
        values = config.to_dict()
        inside = [p for p in self.space if p.active(values) and p.contains(values[p.name])]
        return {p.name: values[p.name] for p in inside}, {p.name: distribution(p) for p in inside}


def _first_of_each(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Of the trials that have ended the first with each set of fields: from these Optuna sees which vary together."""
    first: dict[frozenset[str], FrozenTrial] = {}
    for trial in trials:
        if trial.state != TrialState.RUNNING:
            first.setdefault(frozenset(trial.params), trial)
    return list(first.values())


class _Window(optuna.Study):
    """A study as a sampler sees it, with some of its trials: TPE's time for a proposal grows with their number."""

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        super().__init__(study.study_name, study._storage)
        self._trials = trials

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]
