"""figures/*.png: the confirmation, and the course's own pictures, from the ledger."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from study.findings.course import NUM_LAST, Comparison, Training
from study.findings.summary import shown_trials
from study.findings.verdict import Verdict
from study.record.recipes import SHUFFLED, WEIGHTED
from study.report import fonts
from trainable.files import replacing
from trainable.metrics import recall_per_class

if TYPE_CHECKING:
    from study.findings.summary import Findings

# Okabe & Ito's colours, which the colour-blind can tell apart
BLUE, RED, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
MAX_HISTORIES = 20  # with more trials, only the leader and the course's recipes have a picture of their history
MAX_NAMED = 20  # classes; with more, a confusion matrix has no numbers and only some names


def write(findings: "Findings", folder: Path, say: Callable[[str], None] = lambda text: None) -> list[Path]:
    """Draws each trial's history, the leader, and the course's two recipes into ``folder``; the pictures' paths.

    ``say`` is told what the pictures cannot show.

    Raises:
        OSError: one cannot be written.
    """
    lettering = fonts.lettering(findings.ranking.study.class_names)
    if lettering.note:
        say(lettering.note)
    # a class may be named "$\\alpha"
    with mpl.rc_context(
        {
            "font.family": lettering.families,
            "font.size": 9,
            "text.parse_math": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.axisbelow": True,
        }
    ):
        drawn = _draw(findings, lettering.names)
        folder.mkdir(exist_ok=True)
        for name, figure in drawn.items():
            with replacing(folder / f"{name}.png") as file:
                figure.savefig(file, dpi=120, format="png")
    return [folder / f"{name}.png" for name in drawn]


def _draw(findings: "Findings", class_names: list[str]) -> dict[str, Figure]:
    study, evidence = findings.ranking.study, findings.ranking.evidence
    drawn: dict[str, Figure] = {}
    shown = shown_trials(findings)
    trials = {trial.number: trial for trial in findings.ranking.trials if trial.rows}
    every = trials if len(trials) <= MAX_HISTORIES else shown
    for number, title in {**{number: f"trial {number}" for number in every}, **shown}.items():
        drawn[f"history-{_file_name(title)}"] = history(Training(trials[number]), title)
    for number, title in shown.items():
        if evidence is not None and number in evidence:
            drawn[f"confusion-{_file_name(title)}"] = confusion(evidence.confusion(number), class_names, title)
    if findings.verdict is not None:
        drawn["confirmation"] = confirmation(findings.verdict)
    if findings.comparison is not None:
        drawn["course-classes"] = classes(findings.comparison, [class_names[index] for index in study.minority_indices])
        drawn["course-comparison"] = comparison(findings.comparison)
        drawn["course-epochs-to-best"] = epochs_to_best(findings.comparison)
    return drawn


def _file_name(title: str) -> str:
    return re.sub("[^a-z0-9]+", "-", title.lower())


def history(training: Training, title: str) -> Figure:
    """Loss, accuracy, generalisation gap, and how validation loss changes, by epoch."""
    figure, axes = _panels(f"History of {title}")
    rows = training.trial.rows
    epochs = np.array([row["epoch"] for row in rows])
    names = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
    values = {name: np.array([row[name] for row in rows]) for name in names}
    for axis, name, text in [(axes[0, 0], "loss", "Loss"), (axes[0, 1], "accuracy", "Accuracy")]:
        axis.plot(epochs, values[f"train_{name}"], ".-", color=BLUE, label="training")
        axis.plot(epochs, values[f"val_{name}"], ".-", color=RED, label="validation")
        _labelled(axis, text, text)
    axes[1, 0].plot(epochs, values["val_loss"] - values["train_loss"], ".-", color=PURPLE)
    _labelled(axes[1, 0], "Generalisation gap", "validation - training loss")
    axes[1, 1].plot(epochs[1:], np.diff(values["val_loss"]), ".-", color=ORANGE)
    axes[1, 1].axhline(0, color="grey", linewidth=0.8)
    _labelled(axes[1, 1], "Change of validation loss", "since the epoch before")
    for axis in axes.flat:
        axis.axvline(rows[-1]["best_epoch"], color=GREEN, linestyle=":", label="best epoch")
        axis.legend()
    return figure


def confusion(matrix: np.ndarray, class_names: list[str], title: str) -> Figure:
    """Counts as numbers, each row's shares as colours; row = true class."""
    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    axis = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    step = max(1, len(class_names) // MAX_NAMED)
    ticks, names = range(0, len(class_names), step), [_short(name) for name in class_names[::step]]
    axis.set_xticks(ticks, names, rotation=45, ha="right")
    axis.set_yticks(ticks, names)
    if len(class_names) <= MAX_NAMED:
        for (row, column), count in np.ndenumerate(matrix):
            color = "white" if shares[row, column] > 0.6 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    axis.grid(False)
    axis.set(xlabel="predicted", ylabel="true")
    axis.set_title(f"{title}: mean recall {recall_per_class(matrix).mean():.4f} (validation)")
    return figure


def confirmation(verdict: Verdict) -> Figure:
    """Each recipe's search score, its mean on fresh seeds and on the test images, with 95 % intervals."""
    rows = verdict.rows()
    figure = Figure(figsize=(8, 1.6 + 0.75 * len(rows)), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(rows))[::-1]
    axis.plot([row["search"] for row in rows], places + 0.22, "o", mfc="none", color=ORANGE, label="search score")
    for shift, color, label, (mean, low, high) in [
        (0.0, BLUE, f"{len(verdict.content.seeds)} fresh seeds", ("confirmed", "low", "high")),
        (-0.22, GREEN, "test images", ("test", "test_low", "test_high")),
    ]:
        shown = [(place, row) for place, row in zip(places, rows, strict=True) if row[mean] is not None]
        if not shown:  # sealed
            continue
        means = np.array([row[mean] for _, row in shown])
        ends = (means - [row[low] for _, row in shown], np.array([row[high] for _, row in shown]) - means)
        errors = np.maximum(ends, 0)  # the last bits of a mean at an end of its interval
        heights = [place + shift for place, _ in shown]
        axis.errorbar(means, heights, xerr=errors, fmt="o", capsize=3, color=color, label=label)
    axis.set_yticks(places, [row["recipe"] for row in rows])
    axis.set(
        xlabel=f"{verdict.objective.words}, 95 % intervals", title="What the search promised, and what is left of it"
    )
    axis.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def classes(found: Comparison, names: Sequence[str]) -> Figure:
    """The F1 of each minority class in the course's two recipes, with the improvement in per cent; their ``names``."""
    figure = Figure(figsize=(max(6.0, 1.6 * len(found.classes)), 4.5), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(found.classes))
    axis.bar(places - 0.2, [c.shuffled for c in found.classes], 0.4, color=RED, label=SHUFFLED.short)
    axis.bar(places + 0.2, [c.weighted for c in found.classes], 0.4, color=BLUE, label=WEIGHTED.short)
    for place, improvement in enumerate(found.classes):
        height = max(improvement.shuffled, improvement.weighted)
        axis.text(place, height + 0.015, improvement.words, ha="center")
    axis.set_xticks(places, [_short(name) for name in names])
    axis.set(ylabel="F1 at the best epoch", ylim=(0, 1.12), title="Minority classes: the course's two recipes")
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper right", ncols=2)
    return figure


def comparison(found: Comparison) -> Figure:
    """Validation loss, accuracy, stability and best loss of the course's two recipes."""
    figure, axes = _panels("The course's two recipes")
    for recipe, training, color in [(SHUFFLED, found.shuffled, RED), (WEIGHTED, found.weighted, BLUE)]:
        rows = training.trial.rows
        epochs = [row["epoch"] for row in rows]
        axes[0, 0].plot(epochs, training.val_losses, ".-", color=color, label=recipe.short)
        axes[0, 1].plot(epochs, [row["val_accuracy"] for row in rows], ".-", color=color, label=recipe.short)
    _labelled(axes[0, 0], "Validation loss", "loss")
    _labelled(axes[0, 1], "Validation accuracy", "accuracy")
    _bars(axes[1, 0], [found.shuffled.stability, found.weighted.stability], "{:.4f}")
    axes[1, 0].set(title=f"Stability: deviation of the last losses, {NUM_LAST} at most", ylabel="standard deviation")
    _bars(axes[1, 1], [found.shuffled.best_loss, found.weighted.best_loss], "{:.4f}")
    axes[1, 1].set(title="Best validation loss", ylabel="loss")
    for axis in axes[0]:
        axis.legend()
    return figure


def epochs_to_best(found: Comparison) -> Figure:
    """How many epochs each of the course's two recipes took to its lowest validation loss."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    _bars(axis, [found.shuffled.epochs_to_best, found.weighted.epochs_to_best], "{:.0f}")
    axis.set(title="Epochs to the best validation loss", ylabel="epoch")
    return figure


def _panels(title: str) -> tuple[Figure, Any]:
    """A figure of 2 × 2 axes."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    figure.suptitle(title)
    return figure, figure.subplots(2, 2)


def _labelled(axis: Axes, title: str, label: str) -> None:
    axis.set(title=title, xlabel="epoch", ylabel=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _bars(axis: Axes, values: list[float], form: str) -> None:
    """Shuffled and weighted."""
    bars = axis.bar([SHUFFLED.short, WEIGHTED.short], values, color=[RED, BLUE])
    axis.bar_label(bars, [form.format(value) for value in values])
    axis.margins(y=0.15)
    axis.grid(axis="x", visible=False)


def _short(name: str, size: int = 24) -> str:
    return name if len(name) <= size else name[: size - 1] + "…"
