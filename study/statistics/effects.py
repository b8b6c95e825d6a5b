"""Which knob matters: the effect of each searched field on minority F1, with intervals and a verdict in words.

A function of the ranking's table and the space; which trials enter, `comparable` says. Needs neither Ray nor torch.

The model is additive: an intercept, and for each knob a few columns of its own, fitted by least squares. Each column
has mean 0 over its knob's points in the space, so the intercept is the mean over the space, and a prediction along one
knob is one with the others averaged. Interactions and kinks are noise to it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from study.space.parameters import Space
from study.statistics.columns import Array, columns_of
from study.statistics.comparable import MIN_RESIDUAL_DF, Rows, Trials, comparable
from study.statistics.intervals import Interval
from study.statistics.knobs import LEVEL, Fitted, Knob, unknown
from study.words import count

if TYPE_CHECKING:
    import pandas as pd

    from study.statistics.importance import Importance

SMALLEST_VARIANCE = 1e-24  # of F1s that agree to their last bits


@dataclass(frozen=True)
class Effects:
    """The additive model of a study's trials; without knobs' estimates (NaN) where there are too few of them."""

    score: str  # the table's column that was modelled
    trials: "Trials"
    knobs: tuple[Knob, ...]  # in the order of the space
    residual_df: int
    noise: float  # residual standard deviation
    r2: float
    r2_cross_validated: float  # 1 - PRESS / total: each trial predicted from all the others
    p: float  # of the overall F test
    outliers: tuple[int, ...]  # trials whose score the model cannot explain, see ``_outliers``

    def __getitem__(self, name: str) -> Knob:
        return next(knob for knob in self.knobs if knob.name == name)

    def __contains__(self, name: str) -> bool:
        return any(knob.name == name for knob in self.knobs)

    @property
    def fitted(self) -> bool:
        return math.isfinite(self.p)

    def difference(self, name: str, first: Any, second: Any) -> Interval:
        """Mean score at the knob's point ``first`` minus that at ``second``, with Student's interval, in [-1, 1]."""
        knob = self[name]
        contrast = knob.basis[knob.points.index(first)] - knob.basis[knob.points.index(second)]
        estimate = float(contrast @ knob.coefficients)
        error = math.sqrt(contrast @ knob.covariance @ contrast)
        margin = float(stats.t.ppf((1 + LEVEL) / 2, self.residual_df)) * error
        return Interval(estimate, max(estimate - margin, -1), min(estimate + margin, 1))

    def lines(self, importances: Mapping[str, "Importance"] | None = None) -> list[str]:
        """The effects as lines of at most 100 columns."""
        trials = self.trials
        after = f" after {count(trials.after_epochs, 'epoch')}" if trials.after_epochs else ""
        left_out = ", ".join(f"{count} {why}" for why, count in trials.left_out.items())
        title = f"effects on {self.score}{after}, from {len(trials.numbers)} trials"
        lines = [title + (f" (left out: {left_out})" if left_out else "")]
        if trials.after_epochs:
            lines.append("  the epoch at which the first trial was stopped; later, only good trials are left")
        if trials.selected:
            lines.append("  only trials that the scheduler spared are compared, so effects look smaller than they are")
        if not self.fitted:
            needed = f"{len(self.knobs)} knobs need more trials, or trials that differ in several knobs at once"
            return [*lines, f"not enough trials: {needed}"]
        lines.append(f"{'':<18}  {'effect (95 %)':<17}  {'p':>6}  {'importance':<12}  verdict")
        for knob in self.knobs:
            lines.append(self._line(knob, (importances or {}).get(knob.name)))
        fit = f"noise {self.noise:.3f}, R2 {self.r2:.2f}, cross-validated {self.r2_cross_validated:.2f}"
        lines.append(f"{fit}, F test p = {self.p:.2g}")
        if not self.better_than_mean:
            lines.append("the model predicts a trial no better than the average of the others")
        if self.outliers:
            shown = ", ".join(map(str, self.outliers[:5])) + (" …" if len(self.outliers) > 5 else "")
            lines.append(f"trial {shown}: far from what the model expects; this widens every interval")
        lines.append(
            "effect: largest minus smallest mean along the knob, others averaged; p: F test, Bonferroni-corrected"
        )
        if importances:
            lines.append("importance: share in % by PED-ANOVA, and its range over 90 % of resamples of the trials")
        if "accumulation_steps" in self:
            lines.append("accumulation_steps also changes the effective batch and the number of optimizer steps")
        return lines

    @property
    def better_than_mean(self) -> bool:
        return self.r2_cross_validated > 0

    def _line(self, knob: Knob, importance: "Importance | None") -> str:
        share, effect, p = "", "-", "-"
        if importance:
            share = f"{100 * importance.share:.0f} ({100 * importance.low:.0f}-{100 * importance.high:.0f})"
        if math.isfinite(knob.p):
            effect = f"{knob.effect.estimate:.3f} ({knob.effect.low:.2f}-{knob.effect.high:.2f})"
            p = f"{knob.p_adjusted:.3f}" if knob.p_adjusted >= 0.001 else "<0.001"
        return f"{knob.name:<18}  {effect:<17}  {p:>6}  {share:<12}  {knob.words}"


def fit(table: "pd.DataFrame", space: Space, score: str = "minority_f1", rows: Rows | None = None) -> Effects:
    """The additive model of ``score`` (a column of F1s in [0, 1]) for the trials of ``table``.

    ``table`` is that of ``ranking.rank``: a row a trial, in any order, with ``trial``, ``status`` and the config's
    fields. ``space`` is the study's. ``rows`` are the trials' epochs by number, as ``records.read_rows`` gives them.
    """
    trials = comparable(table, space, score, rows)
    y = trials.scores
    blocks = [columns_of(parameter, trials.values) for parameter in space]
    design = np.column_stack([np.ones(len(y)), *(block.columns for block in blocks)])  # (N, K)
    num_columns = design.shape[1]
    residual_df = len(y) - num_columns
    if residual_df < MIN_RESIDUAL_DF or num_columns == 1 or np.linalg.matrix_rank(design) < num_columns:
        knobs = tuple(unknown(block) for block in blocks)
        return Effects(score, trials, knobs, residual_df, math.nan, math.nan, math.nan, math.nan, ())

    q, r = np.linalg.qr(design)
    inverse = np.linalg.inv(r)
    residuals = y - q @ (q.T @ y)
    unexplained, total = float(residuals @ residuals), float(((y - y.mean()) ** 2).sum())
    # scores that are all alike, or fitted exactly, leave no noise to measure anything by
    variance = max(unexplained / residual_df, SMALLEST_VARIANCE)
    fitted = Fitted(blocks, inverse @ (q.T @ y), variance * inverse @ inverse.T, residual_df)
    f = max(total - unexplained, 0) / (num_columns - 1) / variance
    leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-9)  # (N,)
    press = float(((residuals / (1 - leverage)) ** 2).sum())
    press_of_mean = total * (len(y) / (len(y) - 1)) ** 2  # the same with an intercept only
    return Effects(
        score,
        trials,
        _judged([fitted.knob(index) for index in range(len(blocks))], trials.selected),
        residual_df,
        noise=math.sqrt(variance),
        r2=1 - unexplained / total if total > len(y) * SMALLEST_VARIANCE else 0.0,
        r2_cross_validated=1 - press / press_of_mean if total > len(y) * SMALLEST_VARIANCE else 0.0,
        p=float(stats.f.sf(f, num_columns - 1, residual_df)),
        outliers=_outliers(trials.numbers, residuals, leverage, residual_df),
    )


def _judged(knobs: list[Knob], selected: bool) -> tuple[Knob, ...]:
    # Bonferroni, not Holm: where all other knobs matter, Holm lets the one without effect pass at a full 5 %
    number = sum(math.isfinite(knob.p) for knob in knobs)
    return tuple(dataclasses.replace(knob, p_adjusted=_times(number, knob.p), selected=selected) for knob in knobs)


def _times(number: int, p: float) -> float:
    return min(number * p, 1.0) if math.isfinite(p) else p


def _outliers(numbers: Sequence[int], residuals: Array, leverage: Array, residual_df: int) -> tuple[int, ...]:
    """The trials whose externally studentised residual is beyond Bonferroni's bound (Cook & Weisberg 1982, 2.2.2)."""
    unexplained = float(residuals @ residuals)
    own = residuals**2 / (1 - leverage)
    variances = np.maximum((unexplained - own) / (residual_df - 1), SMALLEST_VARIANCE)
    bound = float(stats.t.isf((1 - LEVEL) / 2 / len(numbers), residual_df - 1))
    return tuple(int(number) for number, far in zip(numbers, own > bound**2 * variances, strict=True) if far)
