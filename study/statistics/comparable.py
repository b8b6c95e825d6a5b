"""Which trials of a study can be compared with each other, and by which of their epochs.

If the scheduler stopped none, the complete ones, by their best epoch. If it stopped some, those that
it left are a selection by score, in which every effect looks smaller than it is. Then only those are compared that no
scheduler stops, where a model of the space can be fitted to so many; and else all trials, stopped or complete, by what
they had reached when the first was stopped; for that their rows are needed. The course's recipes
are in where their values lie inside the space: a fixed trial is as good a design point as a drawn one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from study.record.design import is_protected
from study.space.parameters import Space, active_values
from study.statistics.columns import columns_of

if TYPE_CHECKING:
    import pandas as pd

MIN_RESIDUAL_DF = 5  # of a model with fewer, the noise itself is hardly known

Rows = Mapping[int, Sequence[Mapping[str, Any]]]  # each trial's epochs, by its number


@dataclass(frozen=True)
class Trials:
    """The trials that can be compared, by number."""

    values: list[dict[str, Any]]  # of each trial, the searched fields that mattered to it
    scores: NDArray[np.float64]  # (N,)
    numbers: list[int]
    left_out: Mapping[str, int]  # how many are not among them, by why
    after_epochs: int | None  # scores are of the best of so many epochs; None: of the whole training
    selected: bool  # the trials are those that a scheduler left
    designed: bool = False  # they were chosen in advance, so that a knob which a model leaves out is but noise to it


def comparable(table: "pd.DataFrame", space: Space, score: str, rows: Rows | None) -> Trials:
    """The trials of ``table`` that enter; arguments as for ``effects.fit``."""
    if rows is None or table.empty or "stopped" not in set(table["status"]):
        return _entering(table, space, score, rows)
    in_full = table["trial"].map(is_protected)
    whole = _entering(table[in_full], space, score, rows)
    num_columns = 1 + sum(columns_of(parameter, whole.values).columns.shape[1] for parameter in space)
    if len(whole.numbers) < num_columns + MIN_RESIDUAL_DF:
        return _entering(table, space, score, rows)
    left_out = {**whole.left_out, "that could be stopped": int((~in_full).sum())}
    return replace(whole, left_out=left_out, designed=True)


def _entering(table: "pd.DataFrame", space: Space, score: str, rows: Rows | None) -> Trials:
    statuses = [] if table.empty else table["status"].tolist()
    epoch = None
    if rows is not None and "stopped" in statuses:
        epoch = min(len(rows[number]) for number in table.loc[table["status"] == "stopped", "trial"])
    trials: list[dict[str, Any]] = []
    scores: list[float] = []
    numbers: list[int] = []
    left_out: dict[str, int] = {}
    names = ["trial", "status", score, *(parameter.name for parameter in space)]
    # in the order of their numbers: sums in another order have other last bits
    for record in table.sort_values("trial")[names].to_dict("records") if statuses else []:
        values, status = active_values(space, record.__getitem__), str(record["status"])
        value = record[score] if epoch is None or rows is None else _after(rows[record["trial"]], epoch, score)
        if status != "complete" and (status != "stopped" or epoch is None):
            why = status
        elif value is None or not math.isfinite(value):
            why = "without a score"
        elif not all(p.contains(values[p.name]) for p in space if p.name in values):
            why = "outside the space"
        else:
            trials.append(values)
            scores.append(float(value))
            numbers.append(int(record["trial"]))
            continue
        left_out[why] = left_out.get(why, 0) + 1
    selected = epoch is None and "stopped" in statuses
    return Trials(trials, np.array(scores), numbers, left_out, epoch, selected)


def _after(rows: Sequence[Mapping[str, Any]], epoch: int, score: str) -> float | None:
    """The score of the best of the first ``epoch`` epochs; a trial that ended earlier stands with its best."""
    if not rows:
        return None
    best_epoch = rows[min(epoch, len(rows)) - 1]["best_epoch"]
    return float(rows[best_epoch - 1][score])
