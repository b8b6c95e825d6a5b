"""Does balancing help? The weighted sampler against plain shuffling, raw and after post-hoc logit adjustment.

The adjustment (Menon et al. 2021) undoes the prior shift without training: what the sampler gains raw but not
adjusted, plain training gains too, for nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.findings.verdict import Verdict
from study.space.parameters import Space
from study.statistics import effects
from study.statistics.comparable import Rows
from study.statistics.intervals import Interval
from study.words import WithEnds

if TYPE_CHECKING:
    import pandas as pd

WEIGHTED, SHUFFLED = "weighted", "shuffle"
PAIR = ("course-weighted", "course-shuffled")


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
        better, worse = self.adjusted.low > 0, self.adjusted.high < 0
        if self.raw.low > 0:
            if better:
                return "yes, also after logit adjustment"
            return "raw only; " + (
                "after logit adjustment it harms" if worse else "logit adjustment alone may do the same"
            )
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
    source = f"the course's two recipes on {num_seeds} fresh seeds, paired; deviation pooled over {num_recipes} recipes"
    return Balancing(raw, adjusted, source)


def _signed(difference: WithEnds, sign: int) -> Interval:
    low, high = sorted((sign * difference.low, sign * difference.high))
    return Interval(sign * difference.estimate, low, high)


def from_search(table: "pd.DataFrame", space: Space, rows: Rows | None = None) -> Balancing | None:
    """The sampler's effect over the trials of the search; None where they are too few, or the space has one sampler.

    ``table``, ``space`` and ``rows`` as for ``effects.fit``.
    """
    models = [effects.fit(table, space, score, rows) for score in ("minority_f1", "minority_f1_adjusted")]
    for model in models:
        if not model.fitted or "sampler" not in model or not {WEIGHTED, SHUFFLED} <= set(model["sampler"].points):
            return None
    raw, adjusted = (model.difference("sampler", WEIGHTED, SHUFFLED) for model in models)
    return Balancing(raw, adjusted, f"additive model of {len(models[0].trials.numbers)} search trials, not confirmed; "
                                    "the other knobs averaged")  # fmt: skip
