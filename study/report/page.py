"""report.html: what a study says, in one file that opens offline."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.record.files import num_ended
from study.record.recipes import shown
from study.space.parameters import active_values
from study.words import duration, signed

if TYPE_CHECKING:
    import pandas as pd

    from study.findings.summary import Findings

TEMPLATE = Path(__file__).with_name("page.html.jinja")
BETTER, WORSE, UNCLEAR = "better", "worse", "no difference can be seen"
SIGNS = {BETTER: "better than", WORSE: "worse than", UNCLEAR: "no difference can be seen to"}
PLOTLY_CONFIG = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}


def write(findings: "Findings", folder: Path) -> Path:
    """Writes ``report.html``; the old page or the new one.

    Raises:
        OSError: it cannot be written.
    """
    from study.record.files import write_atomically

    path = folder / "report.html"
    write_atomically(path, page(findings))
    return path


def page(findings: "Findings") -> str:
    """The page's HTML. Names are escaped by the template, by `charts` and by itables, each where it shows them."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from study.findings.summary import shown_trials

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"f1": _f1, "duration": duration, "sentence": lambda text: text[0].upper() + text[1:]}
    trials = shown_trials(findings)
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        study=findings.ranking.study,
        asked=asdict(findings.ranking.study),
        findings=findings,
        answer=_answer(findings),
        cards=_cards(findings),
        verdict=findings.verdict,
        num_trials=len(findings.ranking.trials),
        num_cut=sum(findings.ranking.study.class_counts.audit),
        warnings=findings.ranking.memory_lines() + findings.ranking.boundary_lines(),
        costs=_costs(findings),
        statuses=_counts(findings),
        plotly=Markup(f"<script>{get_plotlyjs()}</script>"),
        ranking_table=Markup(_ranking_table(findings)) if trials else "",
        charts=_charts(findings, trials) if trials else {},
        knobs=_knobs(findings),
        classes=_classes(findings),
        shown=shown,
        signed=signed,
    )


def _answer(findings: "Findings") -> dict[str, Any]:
    """The headline, and how sure it is in words."""
    leader, verdict = findings.leader, findings.verdict
    if leader is None:
        return {"headline": "No trial has finished an epoch yet", "recipe": "", "sure": []}
    sure = []
    if verdict is not None:
        name, expected = shown(verdict.winner.name), verdict.content.confirmed
        equals = [shown(other) for other in verdict.equals]
        verb = f"did best, but cannot be told from {' or '.join(equals)}" if equals else "serves the rare classes best"
        headline = (
            f"{name[0].upper()}{name[1:]} {verb}: minority F1 "
            f"{_with_ends(expected.estimate, expected.low, expected.high)}, confirmed on "
            f"{len(expected.scores)} fresh seeds"
        )
        for found in verdict.gains():
            sign = SIGNS[_sign(found.low, found.high)]
            sure.append(f"{sign} {shown(found.second)} on fresh seeds: {signed(found)}; after logit adjustment "
                        f"{signed(found.adjusted)}")  # fmt: skip
        sure += [verdict.luck.words, *verdict.notes(num_ended(findings.ranking.trials))]
    else:
        low, high = leader.get("minority_f1_low"), leader.get("minority_f1_high")
        headline = (
            f"Trial {leader['trial']} leads with minority F1 "
            f"{_with_ends(leader['minority_f1'], low, high)} on the validation images"
        )
        sure.append("a search score: the best of many on the same validation images is partly luck; not confirmed on "
                    "fresh seeds")  # fmt: skip
    sure += [words] if (words := findings.ranking.tied_words()) else []
    values = active_values(findings.space, leader.__getitem__)
    recipe = ", ".join(f"{name} {_plain(value)}" for name, value in values.items())
    return {"headline": headline, "recipe": recipe, "sure": sure}


def _cards(findings: "Findings") -> list[dict[str, str]]:
    """The numbers that count: a title, the number, and what to know of it."""
    leader, verdict = findings.leader, findings.verdict
    if leader is None:
        return []
    low, high = leader.get("minority_f1_low"), leader.get("minority_f1_high")
    cards = []
    if verdict is not None:
        expected = verdict.content.confirmed
        note = f"{len(expected.scores)} seeds; 95 % {_ends(expected.low, expected.high)}"
        cards.append({"title": "confirmed score", "number": _f1(expected.estimate), "note": note})
    cards += [
        {
            "title": f"minority F1 of trial {leader['trial']}",
            "number": _f1(leader["minority_f1"]),
            "note": f"search score, epoch {leader['best_epoch']:.0f}; 95 % {_ends(low, high)}",
        }
    ]
    if findings.ranking.was_cut and _known(leader.get("f1_reweighted")):
        cards.append({"title": "reweighted to the training frequencies", "number": _f1(leader["f1_reweighted"]),
                      "note": "the classes as rare as in training"})  # fmt: skip
    for found in verdict.gains() if verdict else []:
        note = f"fresh seeds, paired; 95 % {_ends(found.low, found.high)}, {_sign(found.low, found.high)}"
        cards.append({"title": f"beyond {shown(found.second)}", "number": f"{found.estimate:+.4f}", "note": note})
    for gain in [] if verdict else findings.ranking.gains():
        number, note = f"{gain.estimate:+.4f}", "search score, not confirmed"
        if gain.trial == leader["trial"]:
            number, note = "±0", "this recipe leads itself"
        elif gain.interval:
            low, high = gain.interval.low, gain.interval.high
            note += f"; 95 % {_ends(low, high)}, {_sign(low, high)}"
        cards.append({"title": f"beyond {gain.recipe}", "number": number, "note": note})
    tested = verdict and verdict.tested(verdict.winner.name)
    if tested:
        cards.append({"title": "on the test set", "number": _f1(tested.mean),
                      "note": f"{len(tested.scores)} seeds; 95 % {_ends(tested.low, tested.high)}"}
                     )  # fmt: skip
    else:
        cards.append({"title": "on the test set", "number": "sealed", "note": "study.confirm opens it, once"})
    return cards


def _sign(low: float, high: float) -> str:
    return BETTER if low > 0 else WORSE if high < 0 else UNCLEAR


def _counts(findings: "Findings") -> str:
    statuses = [trial.status for trial in findings.ranking.trials]
    parts = [f"{statuses.count(status)} {status}" for status in ("complete", "stopped", "running", "failed")]
    return ", ".join(part for part in parts if not part.startswith("0 "))


def _costs(findings: "Findings") -> dict[str, Any]:
    """Seconds and epochs of all trials together, and what stopping them saved."""
    trials, study = findings.ranking.trials, findings.ranking.study
    left = {status: sum(trial.config.epochs - len(trial.rows) for trial in trials if trial.status == status)
            for status in ("stopped", "complete")}  # fmt: skip
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
    table = findings.ranking.table
    actives = [active_values(findings.space, record.__getitem__) for record in table.to_dict("records")]
    found = table[["rank", "trial", "recipe"]].copy()
    for name, head in [("minority_f1", "minority F1"), ("minority_f1_low", "low"), ("minority_f1_high", "high")]:
        if name in table:
            found[head] = _column(table[name])
    if "tied" in table:
        found["tied"] = ["=" if tied is True else "" for tied in table["tied"]]
    for parameter in findings.space:
        found[parameter.name] = _column(active.get(parameter.name) for active in actives)
    found["status"] = table["status"]
    found["epochs"] = table["epochs"]
    found["best epoch"] = ["-" if epoch != epoch else f"{epoch:.0f}" for epoch in table["best_epoch"].astype(float)]
    for name, head in [("minority_f1_adjusted", "adjusted"), ("f1_reweighted", "reweighted"), ("macro_f1", "macro F1"),
                       ("val_accuracy", "accuracy")]:  # fmt: skip
        if name in table and (name != "f1_reweighted" or findings.ranking.was_cut):
            found[head] = _column(table[name])
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
    from study.report import charts

    evidence, study = findings.ranking.evidence, findings.ranking.study
    found: dict[str, Any] = {
        "minority_f1": charts.learning_curves(findings, "minority_f1", "minority F1"),
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
    if findings.importances:
        found["importances"] = charts.importance_bars(findings.importances)
    if findings.space:
        found["parallel"] = charts.parallel_coordinates(findings)
    if findings.comparison is not None:
        found["course_loss"] = charts.course_curves(findings.comparison, "val_loss", "validation loss")
        found["course_accuracy"] = charts.course_curves(findings.comparison, "val_accuracy", "validation accuracy")
    return {name: chart if isinstance(chart, list) else _html(chart) for name, chart in found.items()}


def _classes(findings: "Findings") -> list[dict[str, Any]]:
    """The leader's report, a row a class."""
    from trainable.metrics import f1_per_class, precision_per_class, recall_per_class

    confusion, study = findings.confusion, findings.ranking.study
    if confusion is None:
        return []
    columns = (precision_per_class(confusion), recall_per_class(confusion), f1_per_class(confusion))
    return [
        {"name": name, "rare": name in study.minority, "scores": scores, "images": int(images)}
        for name, images, *scores in zip(study.class_names, confusion.sum(axis=1), *columns, strict=True)
    ]


def _knobs(findings: "Findings") -> list[dict[str, Any]]:
    """Each searched field's chart, effect and verdict."""
    if findings.effects is None:
        return []
    from study.report import charts

    return [
        {
            "name": knob.name,
            "words": knob.words,
            "verdict": knob.verdict,
            "effect": f"{knob.effect.estimate:.3f} ({knob.effect.low:.3f} to {knob.effect.high:.3f})"
            if math.isfinite(knob.effect.estimate) else "",
            "p": "" if not math.isfinite(knob.p_adjusted) else f"{knob.p_adjusted:.2g}",
            "chart": _html(charts.knob_effect(findings.effects, knob, parameter)),
        }
        for knob, parameter in zip(findings.effects.knobs, findings.space, strict=True)
    ]  # fmt: skip


def _html(figure: Any) -> Any:
    from markupsafe import Markup

    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=PLOTLY_CONFIG))


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _f1(value: float | None) -> str:
    return f"{value:.4f}" if _known(value) else "-"


def _ends(low: float | None, high: float | None) -> str:
    return f"{_f1(low)} to {_f1(high)}" if _known(low) else "unknown"


def _with_ends(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4f} (95 % {_ends(low, high)})" if _known(low) else f"{value:.4f}"


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
