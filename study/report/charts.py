"""The page's interactive charts (plotly). Text is escaped: plotly reads a little HTML in names and labels.

Colours stand out from white and from black; axes, grid and text take theirs from the page's style sheet.
"""

import html
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from study.findings.course import Comparison
from study.record.recipes import SHUFFLED, WEIGHTED
from study.space.parameters import Parameter, active_values
from study.statistics.effects import Effects, Knob
from study.statistics.importance import Importance
from trainable.metrics import f1_per_class, recall_per_class

if TYPE_CHECKING:
    from study.findings.summary import Findings

LEADER, OTHER = "#3b8bd4", "#8a8f98"
COLORS = {SHUFFLED: "#e0752d", WEIGHTED: "#1fa97f"}
MAX_CURVES = 50  # trials in a chart that has a line or a row for each
MAX_CLASSES = 40  # of more, only the minority is drawn
MAX_LABELLED = 12  # classes whose confusion matrix has its numbers written in


def learning_curves(findings: "Findings", field: str, title: str) -> go.Figure:
    """A line a trial: the leader and the course's recipes in colour, the best of the others grey."""
    figure = _figure(title, "epoch", height=380)
    leader = int(findings.leader["trial"]) if findings.leader is not None else None
    table = findings.ranking.scored
    shown = set(table.head(MAX_CURVES)["trial"]) | set(table[table["recipe"].isin(COLORS)]["trial"]) | {leader}
    rest_named = False
    for trial in sorted(findings.ranking.trials, key=lambda t: (t.number == leader, t.recipe in COLORS)):
        if trial.number not in shown:
            continue
        is_rest = trial.number != leader and trial.recipe not in COLORS
        name = f"trial {trial.number}" + (f" ({trial.recipe})" if trial.recipe in COLORS else "")
        figure.add_scatter(
            x=[row["epoch"] for row in trial.rows],
            y=[_rounded(row[field]) for row in trial.rows],
            mode="lines+markers" if len(trial.rows) < 2 or not is_rest else "lines",
            line={"color": _color(trial.number, trial.recipe, leader), "width": 1 if is_rest else 2.5},
            marker={"size": 4},
            opacity=0.45 if is_rest else 1,
            legendgroup="rest" if is_rest else None,
            name="other trials" if is_rest else name,
            showlegend=not is_rest or not rest_named,
            text=[name] * len(trial.rows),
            hovertemplate="%{text}, epoch %{x}: %{y:.4f}<extra></extra>",
        )
        rest_named = rest_named or is_rest
    return _by_epoch(figure, max((len(trial.rows) for trial in findings.ranking.trials), default=0))


def interval_rows(findings: "Findings") -> go.Figure:
    """A row a trial, the best on top: minority F1 with its interval, in colour those tied with the first."""
    table = findings.ranking.scored
    table = table[table["minority_f1_low"].notna()].head(MAX_CURVES)
    figure = _figure("", "minority F1", height=110 + 20 * len(table))
    table = table.assign(place=range(len(table)))  # and not the rank: a trial that runs has no interval
    is_tied = (table["tied"] == True).to_numpy(bool)  # noqa: E712  of an object column
    for tied, color, name in [(True, LEADER, "cannot be told from the first"), (False, OTHER, "behind the first")]:
        rows = table[is_tied == tied]
        f1 = rows["minority_f1"]
        figure.add_scatter(
            x=f1.round(4),
            y=rows["place"],
            mode="markers",
            marker={"color": color, "size": 8},
            error_x={"type": "data", "symmetric": False, "color": color, "thickness": 2,
                     "array": (rows["minority_f1_high"] - f1).clip(lower=0).round(4),
                     "arrayminus": (f1 - rows["minority_f1_low"]).clip(lower=0).round(4)},
            name=name,
            customdata=rows[["trial", "minority_f1_low", "minority_f1_high"]],
            hovertemplate="trial %{customdata[0]}: %{x:.4f} (%{customdata[1]:.4f} to %{customdata[2]:.4f})"
                          "<extra></extra>",
        )  # fmt: skip
    names = [f"trial {trial}" + (f" ({recipe})" if recipe in COLORS else "")
             for trial, recipe in zip(table["trial"], table["recipe"], strict=True)]  # fmt: skip
    figure.update_yaxes(tickvals=list(range(len(table))), ticktext=names, range=[len(table) - 0.3, -0.7])
    return figure


def knob_effect(effects: Effects, knob: Knob, parameter: Parameter) -> go.Figure:
    """The mean along a knob with its interval, the others averaged, over the trials as points."""
    figure = _figure("", "", height=240)
    figure.update_layout(showlegend=False, margin_t=8)
    figure.update_yaxes(title="minority F1")
    place = {point: index for index, point in enumerate(knob.points)} if parameter.choices else {}
    found = [(values[knob.name], score, number)
             for values, score, number in zip(effects.trials.values, effects.trials.scores, effects.trials.numbers,
                                              strict=True) if knob.name in values]  # fmt: skip
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
            figure.add_scatter(x=x, y=knob.mean.round(4), mode="markers", error_y=margin, hovertemplate=hover,
                               marker={"color": LEADER, "size": 9})  # fmt: skip
        else:
            figure.add_scatter(x=[*x, *x[::-1]], y=np.round([*knob.high, *knob.low[::-1]], 4), fill="toself",
                               fillcolor="rgba(59,139,212,0.2)", line={"width": 0}, mode="lines",
                               hoverinfo="skip")  # fmt: skip
            figure.add_scatter(x=x, y=knob.mean.round(4), line={"color": LEADER, "width": 2}, hovertemplate=hover)
    if parameter.choices:
        figure.update_xaxes(tickvals=list(place.values()), ticktext=[_text(point) for point in place],
                            range=[-0.5, len(place) - 0.5])  # fmt: skip
    else:
        ticks = [parameter.at(share) for share in (0, 0.25, 0.5, 0.75, 1)]
        figure.update_xaxes(type="log" if parameter.log else "linear", tickvals=ticks, ticktext=_texts(ticks))
    return figure


def importance_bars(importances: dict[str, Importance]) -> go.Figure:
    """Each knob's share, with its range over resamples of the trials."""
    figure = _figure("", "share of importance", height=90 + 30 * len(importances))
    ordered = sorted(importances.items(), key=lambda item: item[1].share)
    shares = np.array([found.share for _, found in ordered])
    figure.add_bar(
        x=shares.round(4),
        y=[html.escape(name) for name, _ in ordered],
        orientation="h",
        marker={"color": LEADER},
        error_x={"type": "data", "symmetric": False, "color": OTHER,
                 "array": np.maximum([found.high for _, found in ordered] - shares, 0).round(4),
                 "arrayminus": np.maximum(shares - [found.low for _, found in ordered], 0).round(4)},
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(showlegend=False, margin_t=8)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    return figure


def parallel_coordinates(findings: "Findings") -> go.Figure:
    """A line a trial through the searched fields, each on its own scale, to its minority F1, which also colours it."""
    table = findings.ranking.scored
    records = table.to_dict("records")
    dimensions = [_dimension(parameter, records, findings) for parameter in findings.space]
    f1 = table["minority_f1"].round(4).tolist()
    dimensions.append({"label": "minority F1", "values": f1, "tickformat": ".2f"})
    figure = _figure("", "", height=420)
    figure.add_parcoords(
        dimensions=dimensions,
        line={"color": f1, "colorscale": "Viridis", "showscale": False},
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
        choices += [v for v in dict.fromkeys(a[parameter.name] for a in actives if parameter.name in a)
                    if v not in choices]  # fmt: skip
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
    return {"label": html.escape(parameter.name), "values": filled, "tickvals": ticks, "ticktext": names,
            "range": [low, high if high > low else low + 1]}  # fmt: skip


def class_scores(findings: "Findings", trials: dict[int, str], score: str) -> go.Figure:
    """Bars of each class's F1 or recall, for the leader and the course's recipes; minority classes are starred."""
    evidence, study = findings.ranking.evidence, findings.ranking.study
    assert evidence is not None
    names, minority = study.class_names, set(study.minority)
    shown = [index for index, name in enumerate(names) if len(names) <= MAX_CLASSES or name in minority]
    figure = _figure(score, "", height=360)
    recipes = {trial.number: trial.recipe for trial in findings.ranking.trials}
    for number, title in trials.items():
        if number not in evidence:
            continue
        per_class = (f1_per_class if score == "F1" else recall_per_class)(evidence.confusion(number))
        figure.add_bar(
            x=list(range(len(shown))),
            y=per_class[shown].round(4),
            name=title,
            marker={"color": _color(number, recipes[number], next(iter(trials)))},
            text=[label(names[index]) for index in shown],
            textposition="none",
            hovertemplate="%{text}: %{y:.4f}<extra></extra>",
        )
    texts = [label(names[index], 14) + ("*" if names[index] in minority else "") for index in shown]
    figure.update_xaxes(tickvals=list(range(len(shown))), ticktext=texts, tickangle=-45 if len(shown) > 3 else 0)
    figure.update_yaxes(range=[0, 1])
    return figure


def confusion(matrix: np.ndarray, class_names: list[str]) -> go.Figure:
    """Each true class's predictions: shares as colours, counts as numbers."""
    number = len(class_names)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = _figure("", "predicted", height=430)
    names = [label(name) for name in class_names]
    figure.add_heatmap(
        z=shares.round(4),
        x=list(range(number)),
        y=list(range(number)),
        text=matrix,
        customdata=[[f"{true} as {predicted}" for predicted in names] for true in names] if number <= 100 else None,
        texttemplate="%{text}" if number <= MAX_LABELLED else None,
        hovertemplate="%{customdata}: %{text} (%{z:.1%})<extra></extra>",
        colorscale="Blues",
        zmin=0,
        zmax=1,
        showscale=False,
    )
    figure.update_layout(margin_t=8)
    ticks = list(range(0, number, max(1, number // 20)))
    figure.update_xaxes(tickvals=ticks, ticktext=[label(class_names[tick], 14) for tick in ticks],
                        tickangle=-45, showgrid=False)  # fmt: skip
    figure.update_yaxes(tickvals=ticks, ticktext=[label(class_names[tick], 14) for tick in ticks],
                        autorange="reversed", showgrid=False)  # fmt: skip
    return figure


def course_curves(found: Comparison, field: str, title: str) -> go.Figure:
    """One field of the course's two recipes by epoch."""
    figure = _figure(title, "epoch", height=300)
    for training in (found.shuffled, found.weighted):
        rows = training.trial.rows
        figure.add_scatter(
            x=[row["epoch"] for row in rows],
            y=[_rounded(row[field]) for row in rows],
            mode="lines+markers",
            line={"color": COLORS[training.trial.recipe]},
            marker={"size": 4},
            name=training.trial.recipe,
        )
    return _by_epoch(figure, max(len(training.trial.rows) for training in (found.shuffled, found.weighted)))


def label(text: str, size: int = 24) -> str:
    """A name as plotly may show it: short, and what looks like HTML as it is written."""
    return html.escape(text if len(text) <= size else text[: size - 1] + "…")


def _figure(y: str, x: str, height: int) -> go.Figure:
    figure = go.Figure(
        layout={
            "template": "none",
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "height": height,
            "margin": {"l": 10, "r": 10, "t": 36, "b": 10},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "font": {"family": "system-ui, sans-serif", "size": 12},
            "barmode": "group",
            "hoverlabel": {"align": "left"},
        }
    )
    figure.update_xaxes(title=x, automargin=True, zeroline=False)
    figure.update_yaxes(title=y, automargin=True, zeroline=False)
    return figure


def _by_epoch(figure: go.Figure, num_epochs: int) -> go.Figure:
    figure.update_xaxes(range=[0.7, num_epochs + 0.3], dtick=1 if num_epochs <= 12 else None)
    return figure


def _color(number: int, recipe: str, leader: int | None) -> str:
    return LEADER if number == leader else COLORS.get(recipe, OTHER)


def _rounded(value: float) -> float | None:
    """A loss may have run away, which JSON has no word for."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _texts(values: list[Any]) -> list[str]:
    """Numbers in short; the same text twice would be one too many."""
    texts = [_text(value) for value in values]
    return [text if text not in texts[:index] else "" for index, text in enumerate(texts)]


def _text(value: Any) -> str:
    return html.escape(f"{value:.2g}" if isinstance(value, float) else str(value))
