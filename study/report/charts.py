"""The page's interactive charts of trials and classes (plotly, which reads a little HTML: text is escaped)."""

import math
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from study.findings.course import Comparison
from study.findings.more_images import MoreImages
from study.record.recipes import SHUFFLED, WEIGHTED
from study.report.look import LEADER, OTHER, asymmetric, label, new_figure
from trainable.metrics import f1_per_class, recall_per_class

if TYPE_CHECKING:
    from study.findings.summary import Findings

COLORS = {SHUFFLED.name: "#e0752d", WEIGHTED.name: "#1fa97f"}
MAX_CURVES = 50  # trials in a chart that has a line or a row for each
MAX_CLASSES = 40  # of more, only the minority is drawn
MAX_LABELLED = 12  # classes whose confusion matrix has its numbers written in


def learning_curves(findings: "Findings", field: str, title: str) -> go.Figure:
    """A line a trial: the leader and the course's recipes in colour, the best of the others grey."""
    figure = new_figure(title, "epoch", height=380)
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
    """A row a trial, the best on top: its score with its interval, in colour those tied with the first."""
    table, objective = findings.ranking.scored, findings.ranking.objective
    table = table[table[objective.low].notna()].head(MAX_CURVES)
    figure = new_figure("", objective.words, height=110 + 20 * len(table))
    table = table.assign(place=range(len(table)))  # and not the rank: a trial that runs has no interval
    ends = "%{customdata[1]:.4f} to %{customdata[2]:.4f}"
    is_tied = (table["tied"] == True).to_numpy(bool)  # noqa: E712  of an object column
    for tied, color, name in [(True, LEADER, "tied with the first"), (False, OTHER, "behind the first")]:
        rows = table[is_tied == tied]
        score, low, high = (rows[name].to_numpy(float) for name in (objective.name, objective.low, objective.high))
        figure.add_scatter(
            x=score.round(4),
            y=rows["place"],
            mode="markers",
            marker={"color": color, "size": 8},
            error_x=asymmetric(high - score, score - low, color, thickness=2),
            name=name,
            customdata=rows[["trial", objective.low, objective.high]],
            hovertemplate=f"trial %{{customdata[0]}}: %{{x:.4f}} ({ends})<extra></extra>",
        )
    trials = zip(table["trial"], table["recipe"], strict=True)
    names = [f"trial {trial}" + (f" ({recipe})" if recipe in COLORS else "") for trial, recipe in trials]
    figure.update_yaxes(tickvals=list(range(len(table))), ticktext=names, range=[len(table) - 0.3, -0.7])
    return figure


def class_scores(findings: "Findings", trials: dict[int, str], score: str) -> go.Figure:
    """Bars of each class's F1 or recall, for the leader and the course's recipes; minority classes are starred."""
    evidence, study = findings.ranking.evidence, findings.ranking.study
    assert evidence is not None
    names, minority = study.class_names, set(study.minority)
    shown = [index for index, name in enumerate(names) if len(names) <= MAX_CLASSES or name in minority]
    figure = new_figure(score, "", height=360)
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
    figure = new_figure("", "predicted", height=430)
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
    short = [label(class_names[tick], 14) for tick in ticks]
    figure.update_xaxes(tickvals=ticks, ticktext=short, tickangle=-45, showgrid=False)
    figure.update_yaxes(tickvals=ticks, ticktext=short, autorange="reversed", showgrid=False)
    return figure


def course_curves(found: Comparison, field: str, title: str) -> go.Figure:
    """One field of the course's two recipes by epoch."""
    figure = new_figure(title, "epoch", height=300)
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


def by_images(found: MoreImages) -> go.Figure:
    """The winner's score over the share of the training images, with its interval over the seeds."""
    figure, scores = new_figure("score", "% of the training images", height=300), found.scores
    figure.add_scatter(
        x=[100 * point.share for point in found.curve.points],
        y=scores.estimate.round(4),
        mode="lines+markers",
        line={"color": LEADER},
        error_y=asymmetric(scores.high - scores.estimate, scores.estimate - scores.low, LEADER),
        hovertemplate="%{x} %: %{y:.4f}<extra></extra>",
    )
    return figure


def _by_epoch(figure: go.Figure, num_epochs: int) -> go.Figure:
    figure.update_xaxes(range=[0.7, num_epochs + 0.3], dtick=1 if num_epochs <= 12 else None)
    return figure


def _color(number: int, recipe: str, leader: int | None) -> str:
    return LEADER if number == leader else COLORS.get(recipe, OTHER)


def _rounded(value: float) -> float | None:
    """A loss may have run away, which JSON has no word for."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
