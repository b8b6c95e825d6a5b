"""The page's charts of a trial's probabilities: precision against recall, and reliability."""

import plotly.graph_objects as go

from study.findings.curves import Curves
from study.report.look import LEADER, OTHER, label, new_figure

# Okabe & Ito's colours, which the colour-blind can tell apart; with more classes they begin again
COLORS = (LEADER, "#e0752d", "#1fa97f", "#cc79a7", "#e69f00", "#8a8f98")
MAX_CLASSES = 12


def precision_recall(curves: Curves) -> go.Figure:
    """A line a minority class, and a mark where the network is, by what it predicts."""
    figure = new_figure("precision", "recall", height=380)
    for index, found in enumerate(curves.minority[:MAX_CLASSES]):
        color, name = COLORS[index % len(COLORS)], label(found.name)
        figure.add_scatter(
            x=found.recall.round(4),
            y=found.precision.round(4),
            mode="lines",
            line={"color": color, "width": 2},
            name=name,
            legendgroup=str(index),
            hovertemplate=f"{name}: precision %{{y:.4f}} at recall %{{x:.4f}}<extra></extra>",
        )
        figure.add_scatter(
            x=[round(found.at[0], 4)],
            y=[round(found.at[1], 4)],
            mode="markers",
            marker={"color": color, "size": 11, "symbol": "diamond", "line": {"color": "white", "width": 1}},
            legendgroup=str(index),
            showlegend=False,
            hovertemplate=f"{name}, as it answers: precision %{{y:.4f}} at recall %{{x:.4f}}<extra></extra>",
        )
    figure.update_xaxes(range=[0, 1.02])
    figure.update_yaxes(range=[0, 1.05])
    return figure


def reliability(curves: Curves) -> go.Figure:
    """How often answers of about a probability are right; the larger a mark, the more images."""
    figure = new_figure("share that is right", "probability of the answer", height=380)
    figure.update_layout(showlegend=False)
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": OTHER, "width": 1, "dash": "dot"}, hoverinfo="skip"
    )
    sizes = 8 + 22 * (curves.counts / curves.counts.max()) ** 0.5
    figure.add_scatter(
        x=curves.confidence.round(4),
        y=curves.accuracy.round(4),
        mode="lines+markers",
        marker={"color": LEADER, "size": sizes.round(1), "opacity": 0.8},
        line={"color": LEADER, "width": 1},
        customdata=curves.counts,
        hovertemplate="%{customdata} images: %{x:.2f} sure, %{y:.2f} right<extra></extra>",
    )
    figure.update_xaxes(range=[0, 1.03])
    figure.update_yaxes(range=[0, 1.05])
    return figure
