"""Does balancing help? The weighted sampler against plain shuffling, raw and after post-hoc logit adjustment.

The adjustment (Menon et al. 2021) undoes the prior shift without training: what the sampler gains raw but not
adjusted, plain training gains too, for nothing. But only where the adjustment does no harm itself: it may, where few
images make a poor estimate of probabilities, and whoever is harmed less would then seem to help.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from study.findings.verdict import Verdict
from study.record import recipes
from study.space.parameters import Space
from study.statistics import effects
from study.statistics.comparable import Rows
from study.statistics.intervals import Interval, Intervals
from study.statistics.seeds import recipe_means
from study.words import WithEnds
from trainable.objectives import MINORITY_F1, Objective

if TYPE_CHECKING:
    import pandas as pd

WEIGHTED, SHUFFLED = "weighted", "shuffle"
SIDES = (recipes.SHUFFLED.short, recipes.WEIGHTED.short)
PAIR = (recipes.WEIGHTED.run_name, recipes.SHUFFLED.run_name)


@dataclass(frozen=True)
class Balancing:
    """Weighted minus shuffled, in units of the objective."""

    raw: Interval
    adjusted: Interval
    of_adjustment: dict[str, Interval]  # what the adjustment itself did to each, after it less before; by SIDES
    source: str  # where the numbers are from, in words

    def lines(self) -> list[str]:
        return [
            f"does balancing help? {self.words}",
            f"  logit adjustment itself: {', '.join(f'{name} {found}' for name, found in self.of_adjustment.items())}",
            f"  weighted - shuffled: raw {self.raw}, adjusted {self.adjusted}",
            f"  {self.source}",
        ]

    @property
    def harmful(self) -> list[str]:
        """The sides that the adjustment itself harms."""
        return [name for name, found in self.of_adjustment.items() if found.high < 0]

    @property
    def words(self) -> str:
        better, worse = self.adjusted.low > 0, self.adjusted.high < 0
        if self.harmful:  # who is ahead once both are worse, or one of them, says nothing about balancing
            helps = "yes" if self.raw.low > 0 else "no, it harms" if self.raw.high < 0 else "no difference can be seen"
            return f"{helps}; logit adjustment itself harms the {' and the '.join(self.harmful)} recipe here"
        if self.raw.low > 0:
            if better:
                return "yes, also after logit adjustment"
            after = "after it, balancing does harm" if worse else "the adjustment alone may do as much"
            return f"before logit adjustment, yes; {after}"
        if self.raw.high < 0:
            return "no, it harms" + (", but after logit adjustment it helps" if better else "")
        if better or worse:
            return f"no difference can be seen, but after logit adjustment it {'helps' if better else 'harms'}"
        return "no difference can be seen"


def from_confirmation(verdict: Verdict) -> Balancing:
    """The course's two recipes on the same fresh seeds, as `confirmation.paired_differences` has compared them."""
    for found in verdict.content.differences:
        sign = {PAIR: 1, PAIR[::-1]: -1}.get((found.first, found.second))
        if sign is not None:
            break
    else:
        raise AssertionError("a confirmation compares the course's recipes")
    raw, adjusted = (_signed(difference, sign) for difference in (found, found.adjusted))
    num_seeds, num_recipes = len(verdict.content.seeds), len(verdict.recipes)
    source = f"the course's two recipes on {num_seeds} fresh seeds, compared seed by seed; noise estimated "
    source += f"from {num_recipes} recipes"
    both = {recipe.name: recipe for recipe in verdict.recipes}
    changes = {
        side: np.subtract(both[name].scores_adjusted, both[name].scores)
        for side, name in zip(SIDES, (PAIR[1], PAIR[0]), strict=True)
    }
    return Balancing(raw, adjusted, {side: _mean(change) for side, change in changes.items()}, source)


def _models(table: "pd.DataFrame", space: Space, rows: Rows | None, objective: Objective) -> list[effects.Effects]:
    """Of the score and the adjusted one, over whole trainings with both samplers; empty where there are too few."""
    models = [effects.fit(table, space, score, rows) for score in (objective.name, objective.adjusted)]
    for model in models:
        there = model.fitted and "sampler" in model and {WEIGHTED, SHUFFLED} <= set(model["sampler"].points)
        if not there or model.trials.after_epochs:
            return []
    return models


def _mean(values: np.ndarray) -> Interval:
    """With Student's interval, within [-1, 1]; of a single value nothing is known."""
    found = recipe_means(values[None]) if len(values) > 1 else Intervals(values, values - 2, values + 2)
    low, high = float(found.low[0]), float(found.high[0])
    return Interval(float(found.estimate[0]), max(low, -1.0), min(high, 1.0))


def _signed(difference: WithEnds, sign: int) -> Interval:
    low, high = sorted((sign * difference.low, sign * difference.high))
    return Interval(sign * difference.estimate, low, high)


def from_search(
    table: "pd.DataFrame", space: Space, rows: Rows | None = None, objective: Objective = MINORITY_F1
) -> Balancing | None:
    """The sampler's effect over the trials of the search; None where they are too few, or the space has one sampler.

    Only whole trainings count: some time after its start a recipe that shuffles may have nothing yet.

    ``table``, ``space`` and ``rows`` as for ``effects.fit``.
    """
    models = _models(table, space, rows, objective)
    if not models:  # whole trainings that were chosen in advance may be too few for all knobs, and be enough for one
        models = _models(table, tuple(p for p in space if p.name == "sampler"), rows, objective)
        if not models or not models[0].trials.designed:
            return None
    raw, adjusted = (model.difference("sampler", WEIGHTED, SHUFFLED) for model in models)
    num_trials = len(models[0].trials.numbers)
    source = f"additive model of {num_trials} search trials, not confirmed; the other knobs averaged"
    samplers = [values.get("sampler") for values in models[0].trials.values]
    change = models[1].trials.scores - models[0].trials.scores
    changes = {
        side: _mean(change[[found == sampler for found in samplers]])
        for side, sampler in zip(SIDES, (SHUFFLED, WEIGHTED), strict=True)
    }
    return Balancing(raw, adjusted, changes, source)
