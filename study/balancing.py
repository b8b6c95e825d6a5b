"""Does balancing help? The weighted sampler against plain shuffling, raw and after post-hoc logit adjustment.

The adjustment (Menon et al. 2021) undoes the prior shift without training: what the sampler gains raw but not
adjusted, plain training gains too, for nothing.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from study import effects
from study.effects import LEVEL, Array, Interval, Rows
from study.space import Space

if TYPE_CHECKING:
    import pandas as pd

WEIGHTED, SHUFFLED = "weighted", "shuffle"


@dataclass(frozen=True)
class Confirmed:
    """Minority F1 of the course's two recipes on fresh seeds, the same seeds in the same order; each (n,)."""

    weighted: Array
    shuffled: Array
    weighted_adjusted: Array  # after logit adjustment
    shuffled_adjusted: Array


@dataclass(frozen=True)
class Balancing:
    """Weighted minus shuffled, in units of F1."""

    raw: Interval
    adjusted: Interval
    source: str  # where the numbers are from, in words

    def lines(self) -> list[str]:
        return [
            f"does balancing help? {self.words}",
            f"  weighted - shuffled: raw {self.raw}, adjusted {self.adjusted}",
            f"  {self.source}",
        ]

    @property
    def words(self) -> str:
        if self.adjusted.low > 0:
            return "yes, also after logit adjustment"
        if self.raw.low > 0:
            return "raw only; logit adjustment alone may do the same"
        if self.raw.high < 0:
            return "no, it harms"
        return "no difference can be seen"


def does_balancing_help(
    table: "pd.DataFrame", space: Space, confirmed: Confirmed | None, rows: Rows | None = None
) -> Balancing | None:
    """From the confirmed recipes if there are pairs of them, else from the trials of the search; None: from neither.

    ``table``, ``space`` and ``rows`` as for ``effects.fit``.
    """
    if confirmed is not None and len(confirmed.weighted) >= 2:
        return Balancing(
            paired(confirmed.weighted, confirmed.shuffled),
            paired(confirmed.weighted_adjusted, confirmed.shuffled_adjusted),
            f"the course's two recipes on {len(confirmed.weighted)} fresh seeds, paired, Student's t",
        )
    models = [effects.fit(table, space, score, rows) for score in ("minority_f1", "minority_f1_adjusted")]
    for model in models:
        if not model.fitted or "sampler" not in model or not {WEIGHTED, SHUFFLED} <= set(model["sampler"].points):
            return None
    raw, adjusted = (model.difference("sampler", WEIGHTED, SHUFFLED) for model in models)
    return Balancing(raw, adjusted, f"additive model of {len(models[0].trials.numbers)} search trials, not confirmed; "
                                    "the other knobs averaged")  # fmt: skip


def paired(first: Array, second: Array) -> Interval:
    """Mean of ``first - second``, (n,) each with n at least 2, with Student's interval."""
    from scipy import stats

    differences = np.asarray(first, float) - np.asarray(second, float)
    estimate = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    margin = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)) * error
    return Interval(estimate, estimate - margin, estimate + margin)
