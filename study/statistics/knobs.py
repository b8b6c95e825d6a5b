"""One knob: what the additive model of `effects` says about one field of the space, with intervals and in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from study.statistics.columns import Array, Block
from study.statistics.intervals import Interval
from trainable.config import FIELDS

Judgement = Literal["matters", "no effect", "not enough trials"]

LEVEL = 0.95  # of intervals; 1 - LEVEL is the chance that any knob without effect in a study is said to matter
VISIBLE = 0.10  # a study that cannot exclude an effect of this size has not enough trials to speak of none


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
    def judgement(self) -> Judgement:
        if self.p_adjusted < 1 - LEVEL:
            return "matters"
        # a NaN, of a knob that could not be estimated, compares as False
        return "no effect" if self.effect.high < VISIBLE and not self.selected else "not enough trials"

    @property
    def words(self) -> str:
        if self.judgement == "matters":
            best = self.points[int(self.mean.argmax())]
            return f"matters, best near {_shown(self.name, best)}"
        if self.judgement == "no effect":
            return f"no effect larger than {self.effect.high:.3f} can be seen"
        return "not enough trials"


@dataclass(frozen=True)
class Fitted:
    """The least-squares fit of the whole design: the intercept, then the blocks' columns in turn."""

    blocks: Sequence[Block]
    coefficients: Array  # (K,)
    covariance: Array  # (K, K)
    residual_df: int

    def knob(self, index: int) -> Knob:
        block, mine = self.blocks[index], self._columns(index)
        num_columns = block.basis.shape[1]
        if num_columns == 0:
            return unknown(block)
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


def unknown(block: Block) -> Knob:
    """A knob about which the trials say nothing."""
    num_columns = block.basis.shape[1]
    nothing, coefficients = np.full(len(block.points), math.nan), np.full(num_columns, math.nan)
    return Knob(
        block.parameter.name,
        block.points,
        mean=nothing,
        low=nothing,
        high=nothing,
        effect=Interval(math.nan, math.nan, math.nan),
        p=math.nan,
        p_adjusted=math.nan,
        coefficients=coefficients,
        covariance=np.full((num_columns, num_columns), math.nan),
        basis=block.basis,
    )


def _shown(name: str, value: Any) -> str:
    return f"{value:.2g}" if FIELDS[name].kind is float else str(value)
