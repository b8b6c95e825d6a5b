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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from study.space.parameters import Space
from study.statistics.columns import Array, Block, columns_of
from study.statistics.comparable import Rows, Trials, comparable
from study.statistics.intervals import Interval
from trainable.config import FIELDS

if TYPE_CHECKING:
    import pandas as pd

    from study.statistics.importance import Importance

Verdict = Literal["matters", "no effect", "not enough trials"]

LEVEL = 0.95  # of intervals; 1 - LEVEL is the chance that any knob without effect in a study is said to matter
VISIBLE = 0.10  # a study that cannot exclude an effect of this size has not enough trials to speak of none
MIN_RESIDUAL_DF = 5  # fewer, and the noise itself is hardly known
SMALLEST_VARIANCE = 1e-24  # of F1s that agree to their last bits


@dataclass(frozen=True)
class Knob:
    """What the trials say about one field of the space.

    Of a field that is searched only ``when`` another has some value, everything here is under that condition.
    """

    name: str
    points: tuple[Any, ...]  # along the knob: its choices, or values from low to high; (P,)
    mean: Array  # (P,) predicted minority F1 there, the others averaged over the space
    low: Array  # (P,) lower and upper ends of pointwise intervals around it
    high: Array
    effect: Interval  # max - min of the true mean along the knob; estimate and ends at least 0
    p: float  # of the nested F test, in [0, 1]
    p_adjusted: float  # Bonferroni's, over the study's knobs
    coefficients: Array  # (C,) of the knob's columns
    covariance: Array  # (C, C) of the coefficients
    basis: Array  # (P, C) the knob's columns at ``points``
    selected: bool = False  # seen only on trials that a scheduler left, where effects look too small to be denied

    @property
    def verdict(self) -> Verdict:
        if self.p_adjusted < 1 - LEVEL:
            return "matters"
        # a NaN, of a knob that could not be estimated, compares as False
        return "no effect" if self.effect.high < VISIBLE and not self.selected else "not enough trials"

    @property
    def words(self) -> str:
        if self.verdict == "matters":
            best = self.points[int(self.mean.argmax())]
            return f"matters, best near {_shown(self.name, best)}"
        if self.verdict == "no effect":
            return f"no effect larger than {self.effect.high:.3f} can be seen"
        return "not enough trials"


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
        """Mean score at the knob's point ``first`` less that at ``second``, with Student's interval, within [-1, 1]."""
        from scipy import stats

        knob = self[name]
        contrast = knob.basis[knob.points.index(first)] - knob.basis[knob.points.index(second)]
        estimate = float(contrast @ knob.coefficients)
        error = math.sqrt(contrast @ knob.covariance @ contrast)
        margin = float(stats.t.ppf((1 + LEVEL) / 2, self.residual_df)) * error
        return Interval(estimate, max(estimate - margin, -1), min(estimate + margin, 1))

    def lines(self, importances: Mapping[str, "Importance"] | None = None) -> list[str]:
        """The effects as lines of at most 100 columns."""
        trials = self.trials
        after = f" after {trials.after_epochs} epochs" if trials.after_epochs else ""
        left_out = ", ".join(f"{count} {why}" for why, count in trials.left_out.items())
        title = f"effects on {self.score}{after}, from {len(trials.numbers)} trials"
        lines = [title + (f" (left out: {left_out})" if left_out else "")]
        if trials.after_epochs:
            lines.append("  when the first trial was stopped: later, a selection by score would be compared")
        if trials.selected:
            lines.append("  these are what the scheduler left: effects on all trials are larger than they look here")
        if not self.fitted:
            needed = f"{len(self.knobs)} knobs need more, or trials that differ in more than one at a time"
            return [*lines, f"not enough trials: {needed}"]
        lines.append(f"{'':<18}  {'effect (95 %)':<17}  {'p':>6}  {'importance':<12}  verdict")
        for knob in self.knobs:
            lines.append(self._line(knob, (importances or {}).get(knob.name)))
        fit = f"noise {self.noise:.3f}, R2 {self.r2:.2f}, cross-validated {self.r2_cross_validated:.2f}"
        lines.append(f"{fit}, F test p = {self.p:.2g}")
        if not self.better_than_mean:
            lines.append("the model predicts a trial no better than the mean of the others does")
        if self.outliers:
            shown = ", ".join(map(str, self.outliers[:5])) + (" …" if len(self.outliers) > 5 else "")
            lines.append(f"trial {shown}: far from what the model expects; this widens every interval")
        lines.append("effect: largest minus smallest mean along the knob, the others averaged; p: F test, Bonferroni's")
        if importances:
            lines.append("importance: share in % by PED-ANOVA, and its range over 90 % of resamples of the trials")
        if "accumulation_steps" in self:
            lines.append("accumulation_steps also changes the effective batch and the number of optimizer steps")
        return lines

    @property
    def better_than_mean(self) -> bool:
        return self.r2_cross_validated > 0

    def _line(self, knob: Knob, importance: "Importance | None") -> str:
        share = f"{100 * importance.share:.0f} ({100 * importance.low:.0f}-{100 * importance.high:.0f})" \
            if importance else ""  # fmt: skip
        effect, p = "-", "-"
        if math.isfinite(knob.p):
            effect = f"{knob.effect.estimate:.3f} ({knob.effect.low:.2f}-{knob.effect.high:.2f})"
            p = f"{knob.p_adjusted:.3f}" if knob.p_adjusted >= 0.001 else "<0.001"
        return f"{knob.name:<18}  {effect:<17}  {p:>6}  {share:<12}  {knob.words}"


def fit(table: "pd.DataFrame", space: Space, score: str = "minority_f1", rows: Rows | None = None) -> Effects:
    """The additive model of ``score`` (a column of F1s in [0, 1]) for the trials of ``table``.

    ``table`` is that of ``ranking.rank``: a row a trial, in any order, with ``trial``, ``status`` and the config's
    fields. ``space`` is the study's. ``rows`` are the trials' epochs by number, as ``records.read_rows`` gives them.
    """
    from scipy import stats

    trials = comparable(table, space, score, rows)
    y = trials.scores
    blocks = [columns_of(parameter, trials.values) for parameter in space]
    design = np.column_stack([np.ones(len(y)), *(block.columns for block in blocks)])  # (N, K)
    num_columns = design.shape[1]
    residual_df = len(y) - num_columns
    if residual_df < MIN_RESIDUAL_DF or num_columns == 1 or np.linalg.matrix_rank(design) < num_columns:
        knobs = tuple(_unknown(block) for block in blocks)
        return Effects(score, trials, knobs, residual_df, math.nan, math.nan, math.nan, math.nan, ())

    q, r = np.linalg.qr(design)
    inverse = np.linalg.inv(r)
    residuals = y - q @ (q.T @ y)
    unexplained, total = float(residuals @ residuals), float(((y - y.mean()) ** 2).sum())
    # scores that are all alike, or fitted exactly, leave no noise to measure anything by
    variance = max(unexplained / residual_df, SMALLEST_VARIANCE)
    fitted = _Fitted(blocks, inverse @ (q.T @ y), variance * inverse @ inverse.T, residual_df)
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


@dataclass(frozen=True)
class _Fitted:
    """The least-squares fit of the whole design: the intercept, then the blocks' columns in turn."""

    blocks: Sequence[Block]
    coefficients: Array  # (K,)
    covariance: Array  # (K, K)
    residual_df: int

    def knob(self, index: int) -> Knob:
        from scipy import stats

        block, mine = self.blocks[index], self._columns(index)
        num_columns = block.basis.shape[1]
        if num_columns == 0:
            return _unknown(block)
        b, v = self.coefficients[mine], self.covariance[mine, mine]
        f = float(b @ np.linalg.solve(v, b)) / num_columns  # equals the nested models' F
        mean, margin = self._curve(index)
        return Knob(
            block.parameter.name,
            block.points,
            mean,
            mean - margin,
            mean + margin,
            effect_range(block.basis, b, v, self.residual_df),
            p=float(stats.f.sf(f, num_columns, self.residual_df)),
            p_adjusted=math.nan,
            coefficients=b,
            covariance=v,
            basis=block.basis,
        )

    def _columns(self, index: int) -> slice:
        start = 1 + sum(block.basis.shape[1] for block in self.blocks[:index])
        return slice(start, start + self.blocks[index].basis.shape[1])

    def _curve(self, index: int) -> tuple[Array, Array]:
        """(P,) means along the knob, and half the widths of their intervals."""
        from scipy import stats

        block = self.blocks[index]
        rows = np.zeros((len(block.points), len(self.coefficients)))
        rows[:, 0] = 1
        rows[:, self._columns(index)] = block.basis
        # a conditional knob is looked at where it is active; of the other knobs, columns of mean 0 stand for averages
        conditions = list(block.parameter.when.items())
        while conditions:
            name, values = conditions.pop()
            other = next(i for i, candidate in enumerate(self.blocks) if candidate.parameter.name == name)
            found = self.blocks[other]
            held = [index for index, point in enumerate(found.points) if point in values]
            if held:
                rows[:, self._columns(other)] = found.basis[held].mean(axis=0)
            conditions += found.parameter.when.items()
        errors = np.sqrt(np.einsum("pk,kl,pl->p", rows, self.covariance, rows))
        return rows @ self.coefficients, float(stats.t.ppf((1 + LEVEL) / 2, self.residual_df)) * errors


def effect_range(basis: Array, coefficients: Array, covariance: Array, residual_df: int) -> Interval:
    """The range (max - min) of ``basis @ coefficients``, (P, C) @ (C,), and an interval for the true one.

    The true range is the largest of the differences between two points. So it is above any lower end that all the
    differences respect at once (Scheffé 1953), and below the largest of their upper ends, of which the one at the
    true extremes holds already by itself (Student's t). Each end fails with at most half of ``1 - LEVEL``.
    """
    from scipy import stats

    tail, num_columns = (1 - LEVEL) / 2, basis.shape[1]
    fitted, spread = basis @ coefficients, basis @ covariance @ basis.T
    differences = fitted[:, None] - fitted[None, :]  # (P, P)
    variances = np.diag(spread)[:, None] + np.diag(spread)[None, :] - 2 * spread
    errors = np.sqrt(np.maximum(variances, 0))
    scheffe = math.sqrt(num_columns * stats.f.isf(tail, num_columns, residual_df))
    return Interval(
        float(differences.max()),
        max(float((differences - scheffe * errors).max()), 0.0),
        float((differences + stats.t.isf(tail, residual_df) * errors).max()),
    )


def _judged(knobs: list[Knob], selected: bool) -> tuple[Knob, ...]:
    # Bonferroni, not Holm: where all other knobs matter, Holm lets the one without effect pass at a full 5 %
    number = sum(math.isfinite(knob.p) for knob in knobs)
    return tuple(dataclasses.replace(knob, p_adjusted=_times(number, knob.p), selected=selected) for knob in knobs)


def _times(number: int, p: float) -> float:
    return min(number * p, 1.0) if math.isfinite(p) else p


def _unknown(block: Block) -> Knob:
    """A knob about which the trials say nothing."""
    nothing = np.full(len(block.points), math.nan)
    num_columns = block.basis.shape[1]
    unknown = Interval(math.nan, math.nan, math.nan)
    return Knob(block.parameter.name, block.points, nothing, nothing, nothing, unknown, math.nan, math.nan,
                np.full(num_columns, math.nan), np.full((num_columns, num_columns), math.nan), block.basis)  # fmt: skip


def _outliers(numbers: Sequence[int], residuals: Array, leverage: Array, residual_df: int) -> tuple[int, ...]:
    """The trials whose externally studentised residual is beyond Bonferroni's bound (Cook & Weisberg 1982, 2.2.2)."""
    from scipy import stats

    unexplained = float(residuals @ residuals)
    own = residuals**2 / (1 - leverage)
    variances = np.maximum((unexplained - own) / (residual_df - 1), SMALLEST_VARIANCE)
    bound = float(stats.t.isf((1 - LEVEL) / 2 / len(numbers), residual_df - 1))
    return tuple(int(number) for number, far in zip(numbers, own > bound**2 * variances, strict=True) if far)


def _shown(name: str, value: Any) -> str:
    return f"{value:.2g}" if FIELDS[name].kind is float else str(value)
