"""Whether study.effects keeps its word, on simulated studies whose true effects are known."""

import argparse
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.harness import Figure, Outcome, Row
from study.space import parameters
from study.space.parameters import Parameter, Space, active_values
from study.statistics import effects
from study.strategy import scheduler
from trainable.cli import Parser, positive_int, seed
from trainable.config import TrialConfig
from trainable.streams import derive

EFFECT, NOISE, CENTRE = 0.10, 0.03, 0.6  # range of an effect, standard deviation of a score, a score without effects
NUM_SLOTS = 4  # trials at a time
EPOCHS = 15  # so ASHA decides at epochs 3 and 9

# over [0, 1], of range 1
SMOOTH: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "hump": lambda x: 1 - (2 * x - 1) ** 2,
    "valley": lambda x: (2 * x - 1) ** 2,
}
# more than a slope and a bend: the model is wrong here
SHARP: dict[str, Callable[[float], float]] = {
    "knee": lambda x: min(0.0, (0.6 - x) / 0.4),
    "peak": lambda x: math.exp(-((x - 0.3) ** 2) / (2 * 0.12**2)),
}
Truth = Mapping[str, str]  # the shape of each knob that has an effect; "level" of a choice
NOISES: dict[str, Callable[[np.random.Generator], float]] = {
    "normal": lambda rng: rng.normal(0, NOISE),
    "skewed": lambda rng: NOISE * (1 - rng.exponential()),  # a long tail downwards, skewness -2
}


def add_flags(parser: Parser) -> None:
    group = parser.add_argument_group("benchmark")
    group.add_argument("--seed", type=seed, default=0, help="draws the studies")
    group.add_argument("--studies", type=positive_int, default=400, help="of randomly drawn trials, for each setting")
    group.add_argument("--searched-studies", type=positive_int, default=20, help="proposed by TPE, for each setting")
    group.add_argument("--trials", type=positive_int, default=60, help="trials of a study")


def run(arguments: argparse.Namespace) -> Outcome:
    searched = parameters.load(parameters.COURSE_SPACE)
    settings = _settings(searched, arguments)
    rows: list[Row] = []
    total = sum(setting.num_studies for setting in settings)
    with tqdm(total=total, unit=" studies", disable=None, leave=False) as progress:
        for number, setting in enumerate(settings):
            studies = []
            for study in range(setting.num_studies):
                rng = np.random.default_rng(derive("benchmark_effects", arguments.seed, number, study))
                studies.append(_study_rows(setting, searched, rng))
                progress.update()
            rows += _summary(setting, studies)
    return Outcome(
        rows,
        _figures(rows),
        ratio_of="none; the values are those of the knobs, or of knobs and shapes",
        checks={"effect": EFFECT, "noise": NOISE, "studies_of_random_trials": arguments.studies,
                "studies_proposed_by_tpe": arguments.searched_studies, "trials": arguments.trials},
        setting={"space": parameters.to_tables(searched)},
    )  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A kind of study."""

    name: str
    truth: Truth
    noise: str
    design: Callable[["Setting", Space, np.random.Generator], list[Row]]  # its trials, as rows of a ranking
    num_studies: int
    num_trials: int
    at_first_stop: bool = True  # all trials as they were then, else those that were not stopped


def _settings(searched: Space, arguments: argparse.Namespace) -> list[Setting]:
    settings = []
    shapes = [(p.name, shape) for p in searched for shape in (["level"] if p.choices else SMOOTH)]
    sharp = [(p.name, shape) for p in searched if not p.choices for shape in SHARP]
    busy = {p.name: "level" if p.choices else "hump" for p in searched}
    for noise in NOISES:
        truths: list[tuple[str, Truth]] = [("random, no effect", {})]
        truths += [("random, one effect", {name: shape}) for name, shape in shapes]
        if noise == "normal":
            truths += [("random, all others", {n: s for n, s in busy.items() if n != p.name}) for p in searched]
            truths += [("random, one sharp", {name: shape}) for name, shape in sharp]
        settings += [Setting(name, truth, noise, random_trials, arguments.studies, arguments.trials)
                     for name, truth in truths]  # fmt: skip
    some: Truth = {"learning_rate": "hump", "dropout": "linear", "sampler": "level"}
    for name, stopping, at_first_stop in [
        ("tpe", "none", True),
        ("tpe and asha, at the first stop", "asha", True),
        ("tpe and asha, the unstopped", "asha", False),
    ]:
        settings.append(Setting(name, some, "normal", _searched("tpe", stopping), arguments.searched_studies,
                                arguments.trials, at_first_stop))  # fmt: skip
    return settings


def score(values: Mapping[str, Any], searched: Space, truth: Truth) -> float:
    """The true mean of a recipe."""
    active = active_values(searched, values.__getitem__)
    total = CENTRE
    for parameter in searched:
        if parameter.name in truth and parameter.name in active:
            total += EFFECT * _shape(parameter, truth[parameter.name], active[parameter.name])
    return total


def _shape(parameter: Parameter, shape: str, value: Any) -> float:
    if shape == "level":
        return float(value == parameter.choices[-1])
    assert parameter.low is not None
    assert parameter.high is not None
    low, high, at = (math.log(x) if parameter.log else x for x in (parameter.low, parameter.high, value))
    function = (SMOOTH | SHARP)[shape]
    return function((at - low) / (high - low)) - _mean(function)


@functools.cache
def _mean(function: Callable[[float], float]) -> float:
    """Taken off, so that an effect of the weighted sampler's power is none of the sampler's."""
    return float(np.mean([function((index + 0.5) / 1000) for index in range(1000)]))


def random_trials(setting: Setting, searched: Space, rng: np.random.Generator) -> list[Row]:
    """Trials drawn from the space, all of full length but one that failed."""
    rows = []
    for number in range(setting.num_trials + 1):
        values = {parameter.name: _drawn(parameter, rng) for parameter in searched}
        value = score(values, searched, setting.truth) + NOISES[setting.noise](rng)
        rows.append({"trial": number, "status": "complete", "minority_f1": value, **values})
    rows[-1] |= {"status": "failed", "minority_f1": None}
    return rows


def _drawn(parameter: Parameter, rng: np.random.Generator) -> Any:
    if parameter.choices:
        return parameter.choices[rng.integers(len(parameter.choices))]
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.log:
        return math.exp(rng.uniform(math.log(parameter.low), math.log(parameter.high)))
    return rng.uniform(parameter.low, parameter.high)


def _searched(algorithm: str, stopping: str) -> Callable[[Setting, Space, np.random.Generator], list[Row]]:
    """A study's own searcher and scheduler at work on made-up learning curves, some trials at a time."""

    def design(setting: Setting, searched: Space, rng: np.random.Generator) -> list[Row]:
        from study.record.ledger import Ledger
        from study.strategy.searcher import Searcher

        book, base = Ledger(None), TrialConfig(epochs=EPOCHS, seed=int(rng.integers(2**31)))
        source = Searcher(book, searched, base, algorithm, setting.num_trials)
        rule, curves, running = scheduler.make(stopping, EPOCHS), dict[int, list[float]](), list[int]()
        while True:
            while len(running) < NUM_SLOTS and (trial := source.next()) is not None:
                final = score(trial.config.to_dict(), searched, setting.truth) + NOISES[setting.noise](rng)
                curves[trial.number] = _curve(final, rng)
                running.append(trial.number)
            if not running:
                break
            for number in tuple(running):
                trial = book.trials[number]
                epoch = len(trial.best) + 1
                book.record(number, {"epoch": epoch, "best_minority_f1": curves[number][epoch - 1]})
                if epoch == EPOCHS:
                    book.complete(number, "epochs")
                elif why := scheduler.why_stopped(rule, trial, book):
                    book.stop(number, why)
                if trial.status != "running":
                    running.remove(number)
        return [{"trial": n, "status": t.status, "minority_f1": t.best[-1], "curve": t.best, **t.config.to_dict()}
                for n, t in book.trials.items()]  # fmt: skip

    return design


def _curve(final: float, rng: np.random.Generator) -> list[float]:
    """A running best that ends at ``final``; trials differ in how fast they get there."""
    pace = 3 * math.exp(0.2 * rng.normal())  # epochs
    gaps = np.exp(-np.arange(1, EPOCHS + 1) / pace)
    return list((final - 0.3 * (gaps - gaps[-1])).tolist())


def _study_rows(setting: Setting, searched: Space, rng: np.random.Generator) -> list[Row]:
    """What the model says about each knob of one study."""
    import pandas as pd

    trials = setting.design(setting, searched, rng)
    rows = {trial["trial"]: _epochs(trial["curve"]) for trial in trials if "curve" in trial}
    found = effects.fit(pd.DataFrame.from_records(trials), searched, rows=rows if setting.at_first_stop else None)
    said = []
    for knob in found.knobs:
        true = EFFECT if knob.name in setting.truth else 0.0
        said.append(
            {
                "knob": knob.name,
                "verdict": knob.judgement,
                "num_trials": len(found.trials.numbers),
                "estimate": knob.effect.estimate,
                "low": knob.effect.low,
                "high": knob.effect.high,
                "true": true,
                "denied": knob.judgement == "no effect" and knob.effect.high < true,
                "covered": bool(knob.effect.low <= true <= knob.effect.high) if math.isfinite(knob.p) else None,
            }
        )
    return said


def _epochs(curve: Sequence[float]) -> list[Row]:
    return [{"best_epoch": epoch, "minority_f1": best} for epoch, best in enumerate(curve, 1)]


def _summary(setting: Setting, studies: Sequence[Sequence[Row]]) -> list[Row]:
    """A row for each knob of a setting, in shares of its studies."""
    rows = []
    for index, knob in enumerate(row["knob"] for row in studies[0]):
        found = [study[index] for study in studies]
        fitted = [row for row in found if row["covered"] is not None]
        rows.append(
            {
                "setting": setting.name,
                "truth": dict(setting.truth),
                "noise": setting.noise,
                "knob": knob,
                "shape": setting.truth.get(knob),
                "studies": len(found),
                "trials_compared": float(np.median([row["num_trials"] for row in found])),
                "matters": _share(row["verdict"] == "matters" for row in found),
                "no_effect": _share(row["verdict"] == "no effect" for row in found),
                "not_enough": _share(row["verdict"] == "not enough trials" for row in found),
                "denied": _share(row["denied"] for row in found),
                "covered": _share(row["covered"] for row in fitted),
                "estimate": float(np.median([row["estimate"] for row in fitted])) if fitted else None,
                "high": float(np.median([row["high"] for row in fitted])) if fitted else None,
                "any_false": _share(
                    any(row["verdict"] == "matters" and row["true"] == 0 for row in study) for study in studies
                ),
            }
        )
    return rows


def _share(events: Any) -> float | None:
    """In percent."""
    events = list(events)
    return 100 * sum(events) / len(events) if events else None


def _figures(rows: Sequence[Row]) -> list[Figure]:
    figures = []
    for name, noise in dict.fromkeys((row["setting"], row["noise"]) for row in rows):
        mine = [row for row in rows if (row["setting"], row["noise"]) == (name, noise)]
        without, having = ([row for row in mine if (row["shape"] is not None) is has] for has in (False, True))
        for kind, some in [("0", without), (f"{EFFECT:g}", having)]:
            label = f"{name}, {noise}, effect {kind}"
            for what, key, unit in [("matters", "matters", "%"), ("not enough", "not_enough", "%"),
                                    ("denied", "denied", "%"), ("covered", "covered", "%"),
                                    ("estimate", "estimate", "F1"), ("upper end", "high", "F1")]:  # fmt: skip
                values = [row[key] for row in some if row[key] is not None]
                if values:
                    figures.append(Figure(f"{label}: {what}", unit, values))
        figures.append(Figure(f"{name}, {noise}: any effect of 0 matters", "%", [row["any_false"] for row in mine]))
        figures.append(Figure(f"{name}, {noise}: trials compared", "", [r["trials_compared"] for r in mine]))
    return figures
