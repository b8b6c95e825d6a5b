"""The page's charts of the knobs: the effect of each, how important each was, all trials through all of them."""

import html
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from study.report.look import LEADER, OTHER, asymmetric, new_figure
from study.space.parameters import Parameter, active_values
from study.statistics.effects import Effects
from study.statistics.importance import Importance
from study.statistics.knobs import Knob
from trainable.objectives import Objective

if TYPE_CHECKING:
    from study.findings.summary import Findings


def knob_effect(effects: Effects, knob: Knob, parameter: Parameter, objective: Objective) -> go.Figure:
    """The mean along a knob with its interval, the others averaged, over the trials as points."""
    figure = new_figure("", "", height=240)
    figure.update_layout(showlegend=False, margin_t=8)
    figure.update_yaxes(title=objective.words)
    place = {point: index for index, point in enumerate(knob.points)} if parameter.choices else {}
    trials = zip(effects.trials.values, effects.trials.scores, effects.trials.numbers, strict=True)
    found = [(values[knob.name], score, number) for values, score, number in trials if knob.name in values]
    if found:
        values, scores, numbers = zip(*found, strict=True)
        figure.add_scatter(
            x=[place.get(value, value) for value in values],
            y=np.round(scores, 4),
            mode="markers",
            marker={"color": OTHER, "size": 5},
            opacity=0.6,
            text=numbers,
            hovertemplate="trial %{text}: %{y:.4f}<extra></extra>",
        )
    x = [place.get(point, point) for point in knob.points]
    if x and math.isfinite(knob.mean[0]):
        hover = "mean %{y:.4f}<extra></extra>"
        if parameter.choices:
            margin = {"type": "data", "array": np.round(knob.high - knob.mean, 4), "color": LEADER}
            marker = {"color": LEADER, "size": 9}
            figure.add_scatter(
                x=x, y=knob.mean.round(4), mode="markers", error_y=margin, hovertemplate=hover, marker=marker
            )
        else:
            figure.add_scatter(
                x=[*x, *x[::-1]],
                y=np.round([*knob.high, *knob.low[::-1]], 4),
                fill="toself",
                fillcolor="rgba(59,139,212,0.2)",
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
            )
            figure.add_scatter(x=x, y=knob.mean.round(4), line={"color": LEADER, "width": 2}, hovertemplate=hover)
    if parameter.choices:
        names = [_text(point) for point in place]
        figure.update_xaxes(tickvals=list(place.values()), ticktext=names, range=[-0.5, len(place) - 0.5])
    else:
        ticks = [parameter.at(share) for share in (0, 0.25, 0.5, 0.75, 1)]
        figure.update_xaxes(type="log" if parameter.log else "linear", tickvals=ticks, ticktext=_texts(ticks))
    return figure


def importance_bars(importances: dict[str, Importance]) -> go.Figure:
    """Each knob's share, with its range over resamples of the trials."""
    figure = new_figure("", "share of importance", height=90 + 30 * len(importances))
    ordered = sorted(importances.items(), key=lambda item: item[1].share)
    shares, low, high = (np.array([getattr(found, end) for _, found in ordered]) for end in ("share", "low", "high"))
    figure.add_bar(
        x=shares.round(4),
        y=[html.escape(name) for name, _ in ordered],
        orientation="h",
        marker={"color": LEADER},
        error_x=asymmetric(high - shares, shares - low, OTHER),
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )
    figure.update_layout(showlegend=False, margin_t=8)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    return figure


def parallel_coordinates(findings: "Findings") -> go.Figure:
    """A line a trial through the searched fields, each on its own scale, to its score, which also colours it."""
    table, objective = findings.ranking.scored, findings.ranking.objective
    records = table.to_dict("records")
    dimensions = [_dimension(parameter, records, findings) for parameter in findings.space]
    scores = table[objective.name].round(4).tolist()
    dimensions.append({"label": objective.words, "values": scores, "tickformat": ".2f"})
    figure = new_figure("", "", height=420)
    figure.add_parcoords(
        dimensions=dimensions,
        line={"color": scores, "colorscale": "Viridis", "showscale": False},
        labelfont={"size": 12},
        unselected={"line": {"opacity": 0.08}},
    )
    figure.update_layout(margin={"l": 60, "r": 50, "t": 50, "b": 30})
    return figure


def _dimension(parameter: Parameter, records: list[dict[Any, Any]], findings: "Findings") -> dict[str, Any]:
    """An axis; where the field was not in force a line passes below it, through "off"."""
    actives = [active_values(findings.space, record.__getitem__) for record in records]
    ticks: list[float]
    if parameter.choices:
        choices = [*parameter.choices]
        values_there = dict.fromkeys(active[parameter.name] for active in actives if parameter.name in active)
        choices += [value for value in values_there if value not in choices]
        ticks, names = list(range(len(choices))), [_text(choice) for choice in choices]
        off, values = -1.0, [float(choices.index(a[parameter.name])) if parameter.name in a else None for a in actives]
    else:
        ticks = [0, 0.25, 0.5, 0.75, 1]
        names = _texts([parameter.at(tick) for tick in ticks])
        off, values = -0.2, [parameter.share(a[parameter.name]) if parameter.name in a else None for a in actives]
    if None in values:
        ticks, names = [off, *ticks], ["off", *names]
    filled = [off if value is None else round(value, 4) for value in values]
    low, high = min([*ticks, *filled]), max([*ticks, *filled])
    return {
        "label": html.escape(parameter.name),
        "values": filled,
        "tickvals": ticks,
        "ticktext": names,
        "range": [low, high if high > low else low + 1],
    }


def _texts(values: list[Any]) -> list[str]:
    """Numbers in short; the same text twice would be one too many."""
    texts = [_text(value) for value in values]
    return [text if text not in texts[:index] else "" for index, text in enumerate(texts)]


def _text(value: Any) -> str:
    return html.escape(f"{value:.2g}" if isinstance(value, float) else str(value))
