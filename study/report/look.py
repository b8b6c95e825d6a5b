"""What the page's charts (plotly) have in common: their look, and text as plotly may show it.

Colours stand out from white and from black; axes, grid and text take theirs from the page's style sheet.
"""

import html
from typing import Any

import numpy as np
import plotly.graph_objects as go

LEADER, OTHER = "#3b8bd4", "#8a8f98"


def label(text: str, size: int = 24) -> str:
    """A name as plotly may show it: short, and what looks like HTML as it is written."""
    return html.escape(text if len(text) <= size else text[: size - 1] + "…")


def asymmetric(above: np.ndarray, below: np.ndarray, color: str, **look: Any) -> dict[str, Any]:
    """Bars from marks to the ends of their intervals, so far ``above`` and ``below`` them; rounding may make either
    negative."""
    array, arrayminus = (np.maximum(length, 0).round(4) for length in (above, below))
    return {"type": "data", "symmetric": False, "color": color, "array": array, "arrayminus": arrayminus, **look}


def new_figure(y: str, x: str, height: int) -> go.Figure:
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
