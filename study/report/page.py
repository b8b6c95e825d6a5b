"""report.html: what a study says, in one file that opens offline."""

import math
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from study.findings import on_test, summary
from study.findings.evidence import class_columns
from study.findings.ranking import epochs_of
from study.record.files import write_atomically
from study.record.recipes import shown
from study.report import answer, charts, curve_charts, knob_charts
from study.space.parameters import active_values
from study.words import duration, f1, signed
from trainable.cli import UsageError
from trainable.metrics import f1_per_class

if TYPE_CHECKING:
    import pandas as pd

    from study.findings.ranking import Ranking
    from study.findings.summary import Findings

TEMPLATE = Path(__file__).with_name("page.html.jinja")
OTHER_SCORES = {
    "minority_f1_adjusted": "adjusted",
    "with_best_rule": "with its best decision rule",
    "f1_reweighted": "reweighted",
    "macro_f1": "macro F1",
    "val_accuracy": "accuracy (micro F1)",  # of one class an image, the two are one
    "weighted_f1": "weighted F1",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "minority_average_precision": "minority average precision",
    "calibration_error": "calibration error",
    "brier_score": "Brier score",
}
MAX_QUICK_TRIALS = 200  # the page of so many takes a few seconds, and the importances of more take longer
# without plotly's tool bar: where there is no mouse it always shows, over data and legends
PLOTLY_CONFIG = {"responsive": True, "displayModeBar": False}


def write(findings: "Findings", folder: Path) -> Path:
    """Writes ``report.html``; the old page or the new one.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / "report.html"
    write_atomically(path, page(findings))
    return path


def write_if_quick(ranking: "Ranking", folder: Path, in_a_hurry: bool = False) -> str:
    """Writes ``report.html`` if that takes a few seconds only; where it is, or how to make it."""
    where = os.path.relpath(folder)
    how = f"python -m study.analyze {shlex.quote(where)}"
    if in_a_hurry or len(ranking.trials) > MAX_QUICK_TRIALS:
        return f"effects, pictures and report.html: {how}"
    try:
        path = write(summary.find(ranking, folder), folder)
    except (OSError, UsageError) as error:  # the study itself is whole
        return f"report.html could not be written ({error}); {how}"
    return f"{os.path.relpath(path)}: the page of this study; effects in words and pictures: {how}"


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"f1": f1, "duration": duration, "sentence": lambda text: text[0].upper() + text[1:]}
    return environment.from_string(TEMPLATE.read_text("utf-8"))


def page(findings: "Findings") -> str:
    """The page's HTML. Names are escaped by the template, by `charts` and by itables, each where it shows them."""
    trials, verdict = summary.shown_trials(findings), findings.verdict
    tested = verdict.tested(verdict.winner.name) if verdict else None
    return _template().render(
        study=findings.ranking.study,
        asked=asdict(findings.ranking.study),
        findings=findings,
        objective=findings.ranking.objective,
        answer=answer.answer(findings),
        cards=answer.cards(findings),
        verdict=verdict,
        false_alarms=on_test.false_alarm_words(tested) if tested else "",
        test_confusion=_test_confusion(findings),
        num_trials=len(findings.ranking.trials),
        num_cut=sum(findings.ranking.study.class_counts.audit),
        warnings=findings.ranking.memory_lines()
        + findings.ranking.correction_lines()
        + findings.ranking.step_lines()
        + findings.ranking.boundary_lines()
        + findings.ranking.notes,
        costs=_costs(findings),
        statuses=_counts(findings),
        plotly=Markup(f"<script>{get_plotlyjs()}</script>"),
        ranking_table=Markup(_ranking_table(findings)) if trials else "",
        charts=_charts(findings, trials) if trials else {},
        knobs=_knobs(findings),
        classes=_classes(findings),
        other_scores=_other_scores(findings),
        shown=shown,
        signed=signed,
    )


def _test_confusion(findings: "Findings") -> Any:
    verdict = findings.verdict
    tested = verdict.tested(verdict.winner.name) if verdict else None
    if tested is None or not tested.classes:
        return ""
    return _html(charts.confusion(np.array(tested.confusion), findings.ranking.study.class_names))


def _counts(findings: "Findings") -> str:
    statuses = [trial.status for trial in findings.ranking.trials]
    parts = [f"{statuses.count(status)} {status}" for status in ("complete", "stopped", "running", "failed")]
    return ", ".join(part for part in parts if not part.startswith("0 "))


def _costs(findings: "Findings") -> dict[str, Any]:
    """Seconds and epochs of all trials together, and what stopping them saved."""
    trials, study = findings.ranking.trials, findings.ranking.study
    left = Counter[str]()
    for trial in trials:
        left[trial.status] += trial.config.epochs - len(trial.rows)
    train, val = (sum(row[name] for trial in trials for row in trial.rows) for name in ("train_seconds", "val_seconds"))
    return {
        "train_seconds": train,
        "val_seconds": val,
        "gpu_seconds": (train + val) * study.gpus_per_trial if study.gpus else None,
        "epochs": sum(len(trial.rows) for trial in trials),
        "asked": sum(trial.config.epochs for trial in trials),
        "by_scheduler": left["stopped"],
        "by_patience": left["complete"],
    }


def _ranking_table(findings: "Findings") -> str:
    """All trials, sortable and searchable (DataTables by itables, its code embedded)."""
    import itables
    from itables.javascript import generate_init_offline_itables_html

    bundle = Path(itables.__file__).parent / "html" / "dt_bundle.js"
    table = itables.to_html_datatable(
        ranking_columns(findings),
        connected=False,
        showIndex=False,
        table_id="ranking",
        maxBytes=0,
        scrollX=True,
        pageLength=25,
        lengthMenu=[10, 25, 100, 1000],
        classes="display compact nowrap",
        style="width:100%",
    )
    return generate_init_offline_itables_html(bundle) + table


def ranking_columns(findings: "Findings") -> "pd.DataFrame":
    """What of ranking.csv the page shows, a row a trial, as text; DataTables sorts a column of numbers as numbers."""
    table, objective = findings.ranking.table, findings.ranking.objective
    actives = [active_values(findings.space, record.__getitem__) for record in table.to_dict("records")]
    found = table[["rank", "trial", "recipe"]].copy()
    for name, head in [(objective.name, objective.words), (objective.low, "low"), (objective.high, "high")]:
        if name in table:
            found[head] = _column(table[name])
    if "tied" in table:
        found["tied"] = ["=" if tied is True else "" for tied in table["tied"]]
    found["status"] = table["status"]
    found["epochs"] = epochs_of(table)
    for parameter in findings.space:
        found[parameter.name] = _column(active.get(parameter.name) for active in actives)
    found["best epoch"] = ["-" if epoch != epoch else f"{epoch:.0f}" for epoch in table["best_epoch"].astype(float)]
    for name, head in OTHER_SCORES.items():
        if name in table and (name != "f1_reweighted" or findings.ranking.was_cut):
            found[head] = _column(table[name])
    if table["corrects_twice"].any():
        found["corrects twice"] = table["corrects_twice"]
    found["seconds"] = table["seconds"].round().astype(int)
    found["reason"] = table["reason"]
    return found


def _column(values: Iterable[Any]) -> list[str]:
    """Scores to four decimals; what is smaller than 0.001, like a weight decay, by its magnitude; - where unknown."""
    texts = []
    for value in values:
        if isinstance(value, float) and math.isfinite(value):
            texts.append(f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}")
        else:
            texts.append("-" if value is None or isinstance(value, float) else str(value))
    return texts


def _charts(findings: "Findings", trials: dict[int, str]) -> Mapping[str, Any]:
    """The charts' HTML by name; those that the study has the numbers for."""
    evidence, study, objective = findings.ranking.evidence, findings.ranking.study, findings.ranking.objective
    found: dict[str, Any] = {
        "score": charts.learning_curves(findings, objective.name, objective.words),
        "val_loss": charts.learning_curves(findings, "val_loss", "validation loss"),
    }
    if evidence is not None:
        found["intervals"] = charts.interval_rows(findings)
        found["f1"] = charts.class_scores(findings, trials, "F1")
        found["recall"] = charts.class_scores(findings, trials, "recall")
        found["confusions"] = [
            (title, _html(charts.confusion(evidence.confusion(number), study.class_names)))
            for number, title in trials.items()
            if number in evidence
        ]
    if findings.curves is not None:
        found["precision_recall"] = curve_charts.precision_recall(findings.curves)
        found["reliability"] = curve_charts.reliability(findings.curves)
    if findings.importances:
        found["importances"] = knob_charts.importance_bars(findings.importances)
    if findings.space:
        found["parallel"] = knob_charts.parallel_coordinates(findings)
    if findings.more_images is not None:
        found["more_images"] = charts.by_images(findings.more_images)
    if findings.comparison is not None:
        found["course_loss"] = charts.course_curves(findings.comparison, "val_loss", "validation loss")
        found["course_accuracy"] = charts.course_curves(findings.comparison, "val_accuracy", "validation accuracy")
    return {name: chart if isinstance(chart, list) else _html(chart) for name, chart in found.items()}


def _classes(findings: "Findings") -> list[dict[str, Any]]:
    """The leader's report, a row a class."""
    confusion, study, evidence = findings.confusion, findings.ranking.study, findings.ranking.evidence
    if confusion is None or findings.leader is None or evidence is None:
        return []
    found = class_columns(evidence, findings.leader["trial"])
    columns = (
        found["precision"],
        found["recall"],
        f1_per_class(confusion),
        found["roc_auc"],
        found["average_precision"],
    )
    return [
        {"name": name, "rare": name in study.minority, "scores": scores, "images": int(images)}
        for name, images, *scores in zip(study.class_names, confusion.sum(axis=1), *columns, strict=True)
    ]


def _other_scores(findings: "Findings") -> list[tuple[str, Any]]:
    """What else the leader reached, over all classes: names and numbers."""
    leader = findings.leader
    return [] if leader is None else [(head, leader[name]) for name, head in OTHER_SCORES.items() if name in leader]


def _knobs(findings: "Findings") -> list[dict[str, Any]]:
    """Each searched field's chart, effect and verdict."""
    if findings.effects is None:
        return []
    return [
        {
            "name": knob.name,
            "words": knob.words,
            "judgement": knob.judgement,
            "effect": f"{knob.effect.estimate:.3f} ({knob.effect.low:.3f} to {knob.effect.high:.3f})"
            if math.isfinite(knob.effect.estimate)
            else "",
            "p": f"{knob.p_adjusted:.2g}" if math.isfinite(knob.p_adjusted) else "",
            "chart": _html(knob_charts.knob_effect(findings.effects, knob, parameter, findings.ranking.objective)),
        }
        for knob, parameter in zip(findings.effects.knobs, findings.space, strict=True)
    ]


def _html(figure: Any) -> Any:
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=PLOTLY_CONFIG))
