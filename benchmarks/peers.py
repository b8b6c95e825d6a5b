"""What others would search with, on a test bed: one trial at a time, each as its users would run it."""

import dataclasses
import heapq
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, TPESampler

from study.execution.beds import Bed, values_at
from study.execution.simulated import NUM_CONFIRMED
from study.record.recipes import COURSE
from study.space.distributions import distribution
from study.space.parameters import active_values
from trainable.arguments import default_config
from trainable.config import TrialConfig
from trainable.streams import derive

FIRST_SHARE = 5  # a trial is judged first after a fifth of its epochs, as the study's own are
FACTOR = 3
NUM_KEPT = 3  # trained to the end by "train a little, keep the best"


class Tally:
    """A study of one of these searches: what was trained, how far, and what the leaders are worth."""

    def __init__(self, bed: Bed, budget: int, seed: int) -> None:
        self.bed, self.budget, self.seed = bed, budget, seed
        self.curves: list[np.ndarray] = []  # running best, of each trial
        self.epochs: list[int] = []  # trained so far
        self.worths: list[float] = []
        self.path: list[tuple[float, float]] = []  # regret of the best of the first three, and of the first

    @property
    def is_over(self) -> bool:
        return len(self.path) >= self.budget

    def begin(self, values: dict[str, object]) -> int:
        base = dataclasses.replace(default_config("digits", self.seed), epochs=self.bed.num_epochs)
        config, number = TrialConfig.from_record({**base.to_dict(), **values}), len(self.curves)
        self.curves.append(np.maximum.accumulate(self.bed.train(config, derive("simulation", self.seed, number))))
        self.epochs.append(0)
        self.worths.append(self.bed.worth(config))
        return number

    def best(self, number: int) -> float:
        return float(self.curves[number][self.epochs[number] - 1]) if self.epochs[number] else -1.0

    def train(self, number: int, num_epochs: int) -> None:
        """Up to so many epochs in all, or until the budget is spent."""
        while self.epochs[number] < num_epochs and not self.is_over:
            self.epochs[number] += 1
            leaders = heapq.nlargest(
                NUM_CONFIRMED, range(len(self.curves)), key=lambda trial: (self.best(trial), -trial)
            )
            regrets = [self.bed.best - self.worths[leader] for leader in leaders if self.epochs[leader]]
            self.path.append((min(regrets), regrets[0]))


def _random(bed: Bed, seed: int) -> Iterator[dict[str, object]]:
    """The course's recipes, then random ones."""
    yield from (dict(recipe.values) for recipe in COURSE)
    rng = np.random.default_rng(seed)
    while True:
        yield values_at(bed.space, rng.uniform(size=len(bed.space)))


def keep_top(tally: Tally) -> None:
    """Trains each for a fifth of its epochs, and the best three to the end (Egele et al. 2024, "The unreasonable
    effectiveness of early discarding after one epoch in neural network hyperparameter optimization").
    """
    bed, most = tally.bed, tally.bed.num_epochs
    first = -(-most // FIRST_SHARE)
    recipes = _random(bed, tally.seed)
    for _ in range(max(1, (tally.budget - NUM_KEPT * (most - first)) // first)):
        tally.train(tally.begin(next(recipes)), first)
    for number in sorted(range(len(tally.curves)), key=lambda trial: -tally.best(trial)):
        tally.train(number, most)


def promoting(tally: Tally) -> None:
    """Asynchronous successive halving in its promoting form (Li et al. 2020, algorithm 2) over random recipes."""
    most, recipes = tally.bed.num_epochs, _random(tally.bed, tally.seed)
    rungs = [-(-most // FIRST_SHARE)]
    while rungs[-1] < most:
        rungs.append(min(most, FACTOR * rungs[-1]))
    at: list[dict[int, float]] = [{} for _ in rungs]  # what each trial had there
    while not tally.is_over:
        for level in range(len(rungs) - 2, -1, -1):
            best = heapq.nlargest(len(at[level]) // FACTOR, at[level], key=at[level].__getitem__)
            found = next((trial for trial in best if trial not in at[level + 1]), None)
            if found is not None:
                level += 1
                break
        else:
            level, found = 0, tally.begin(next(recipes))
        tally.train(found, rungs[level])
        at[level][found] = tally.best(found)


def tpe_hyperband(tally: Tally) -> None:
    """Optuna's TPE with its hyperband."""
    _with_optuna(tally, lambda seed: TPESampler(seed=seed), HyperbandPruner(1, tally.bed.num_epochs, FACTOR))


def gaussian_process(tally: Tally) -> None:
    """Optuna's GPSampler, nothing stopped."""
    _with_optuna(tally, lambda seed: GPSampler(seed=seed), NopPruner())


def _with_optuna(tally: Tally, sampler: Callable[[int], BaseSampler], pruner: BasePruner) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(direction="maximize", sampler=sampler(tally.seed), pruner=pruner)
    distributions = {parameter.name: distribution(parameter) for parameter in tally.bed.space}
    for recipe in COURSE:
        values = {**default_config("digits", tally.seed).to_dict(), **recipe.values}
        study.enqueue_trial({p.name: values[p.name] for p in tally.bed.space if p.contains(values[p.name])})
    while not tally.is_over:
        trial = study.ask()
        values = active_values(tally.bed.space, partial(_suggest, trial, distributions))
        number, pruned = tally.begin(values), False
        for epoch in range(1, tally.bed.num_epochs + 1):
            tally.train(number, epoch)
            trial.report(tally.best(number), epoch)
            if pruned := trial.should_prune():
                break
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, tally.best(number))


def _suggest(trial: optuna.Trial, distributions: Mapping[str, BaseDistribution], name: str) -> Any:
    return trial._suggest(name, distributions[name])  # what all suggest_float and its like come down to


PEERS = {
    "train 1/5, keep the best 3": keep_top,
    "promoting asha": promoting,
    "Optuna's tpe, hyperband": tpe_hyperband,
    "Optuna's gp": gaussian_process,
}
