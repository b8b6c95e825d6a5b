"""No two sentences of the terminal and the page contradict each other, whatever the numbers of a study are."""

import dataclasses
import math
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.confirmation import scoring
from study.confirmation.runs import Recipe
from study.findings import ranking, summary
from study.record.confirmation import OnTestImages, RecipeOnTest
from study.record.files import read_study, read_trials
from study.record.recipes import run_name
from study.report import answer, page
from study.words import end
from tests import studies
from trainable.decoding import to_json

BEYOND = re.compile(r"beyond (course, \w+) \(.*?\): ([+-][\d.]+) \(.*?\)(?:, 95 % ([+-][\d.]+) to ([+-][\d.]+))?")
MINUS = re.compile(r"(.+?) minus (.+?): ([+-][\d.]+) \(([+-][\d.]+) to ([+-][\d.]+)\)")
SURE = re.compile(r"(better than|worse than|no visible difference from) (course, \w+) .*?: (\S+) \((\S+) to (\S+)\);")


def confirm(folder, rng, num_seeds, opened):
    """A confirm.json as ``study.confirm`` makes it of random scores: recipes near to and far from each other."""
    study = read_study(folder)
    trials = {trial.number: trial for trial in read_trials(folder, study) if trial.status in ("complete", "stopped")}
    if not {0, 1} <= trials.keys() or len(trials) < 3:
        return
    searched = rng.permutation([number for number in trials if number > 1])[: rng.integers(1, 4)].tolist()
    recipes = []
    for number in rng.permutation([0, 1, *searched]).tolist():
        trial = trials[number]
        stopped_at = len(trial.rows) if trial.status == "stopped" else None
        name = run_name(number, trial.recipe)
        recipes.append(Recipe(name, number, trial.config, trial.rows[-1]["best_minority_f1"], stopped_at))
    noise, spread = 10 ** rng.uniform(-3, -1), 10 ** rng.uniform(-3, -0.7)
    truth = rng.normal(0.6, spread, (len(recipes), 1)) + rng.normal(0, noise, num_seeds)
    scores = np.clip(truth + rng.normal(0, noise, (len(recipes), num_seeds)), 0, 1)
    plan = SimpleNamespace(
        study=study, seeds=list(range(num_seeds)), top=1, num_trials=len(trials), recipes=recipes,
        pool=SimpleNamespace(num_own_val=0, spec=SimpleNamespace(folds=0)),
    )  # fmt: skip
    # numbers of their own, so that those above stay what they were
    own = np.random.default_rng(len(recipes) + int(1e9 * noise))
    adjusted = np.clip(scores + own.normal(0, spread, (len(recipes), 1)) + own.normal(0, noise, scores.shape), 0, 1)
    content = scoring.summary(plan, scoring.Measured(scores, adjusted, scores, None), "2026-02-02T00:00:00")
    if opened:
        tested = {
            recipe.name: RecipeOnTest(
                scores=own.tolist(), scores_adjusted=own.tolist(), mean=float(own.mean()), low=float(own.min()),
                high=float(own.max()), confusion=[[1]],
            )
            for recipe, own in zip(recipes, scores, strict=True) if recipe.is_course or recipe.name == content.winner
        }  # fmt: skip
        content = dataclasses.replace(content, test=OnTestImages(opened="now", reopened=[], recipes=tested))
    (folder / "confirm.json").write_text(to_json(content))


def contradictions(found):
    """Pairs of things said of a study that cannot both be so, and marks that are missing."""
    ranked, verdict = found.ranking, found.verdict
    lines, more = ranked.lines(max_trials=100), found.lines()
    said = answer.answer(found)
    columns = page.ranking_columns(found)
    problems = tied_problems(ranked, lines, columns) + list_problems(ranked, lines, columns)
    problems += advice_problems(found, said)
    for card in answer.cards(found):
        ends = re.search(r"95 % (-?[\d.]+|[+-][\d.]+) to ([+-]?[\d.]+), (\w+)", card["note"])
        if ends and (ends[3] == "better") != (float(ends[1]) > 0):
            problems.append(f"card {card}")
    if found.comparison:
        problems += [
            f"{improvement.words} of {improvement.num_images} images"
            for improvement in found.comparison.classes
            if improvement.num_images < 25 and "%" in improvement.words
        ]
    if verdict is not None:
        problems += verdict_problems(verdict, more, said)
    return problems + balancing_problems("\n".join(more))


def balancing_problems(text):
    """Where a gain after logit adjustment is made something of, though the adjustment does harm itself."""
    harmful = re.search(r"[Ll]ogit adjustment itself: .*?\(-[\d.]+ to -[\d.]+\)[,; \n]", text)
    if harmful is None:
        return []
    claims = ("after logit adjustment it helps", "also after logit adjustment", "adjustment alone may do as much")
    return [f"{claim} beside {harmful[0]}" for claim in claims if claim in text]


def advice_problems(found, said):
    """What the two sentences at the head say, against the headline, the gains, the rows and the table of classes."""
    if found.leader is None:
        return [] if found.advice == [] else found.advice
    problems, (use, better) = [], found.advice
    number = int(found.leader["trial"])
    name = {0: "course, shuffled", 1: "course, weighted"}.get(number, f"trial {number}")
    named = f"winner/, {name}" if found.verdict else f"Use trial {number}{'*' * (number < 2)} for now"
    if (
        named not in use
        or (f"{name[0].upper()}{name[1:]} " if found.verdict else f"Trial {number} ") not in said["headline"]
    ):
        problems.append(f"{use} beside {said['headline']}")
    sure = [match for sentence in said["sure"] if (match := SURE.match(sentence))]
    beaten = {match[2] for match in sure if match[1] == "better than"}
    claimed = set(re.findall(r"course, (?:shuffled|weighted)", use.partition("It is better than")[2]))
    if claimed != beaten or (bool(beaten) == ("not known to be better" in use) and found.verdict):
        problems.append(f"{use} beside {beaten}")
    trial = next(trial for trial in found.ranking.trials if trial.number == number)
    best = [row["best_epoch"] for row in trial.rows][-1]
    most = found.ranking.study.epochs
    ended = [other.rows for other in found.ranking.trials if other.status == "complete"]
    late = [rows[-1]["best_minority_f1"] - rows[int(np.ceil(0.75 * most)) - 1]["best_minority_f1"] for rows in ended]
    is_late = trial.status == "complete" and best == len(trial.rows) == trial.config.epochs
    if ("more --epochs" in better) != (is_late or (len(late) > 0 and np.median(late) >= 0.01)):
        problems.append(f"{better} beside {best} of {len(trial.rows)} epochs")
    if found.confusion is not None:
        rare = [row for row in page._classes(found) if row["rare"]]
        weakest = min(rare, key=lambda row: row["scores"][2])["name"]
        if f"more images of {weakest}," not in better:
            problems.append(f"{better} beside {weakest}")
        finds = re.search(r"rare classes (?:it finds|models made like it find) (\d+)", use)
        recalls = [100 * row["scores"][1] for row in rare]
        if not min(recalls) - 0.5 <= int(finds[1]) <= max(recalls) + 0.5:
            problems.append(f"{use} beside {recalls}")
    return problems


def tied_problems(ranked, lines, columns):
    problems = []
    tied = {int(row["trial"]) for _, row in columns.iterrows() if row.get("tied") == "="}
    marked = {int(line.split()[1].rstrip("*")) for line in lines if re.match(r" *\d+ +\d+\*? +[\d.]+ .* = ", line)}
    if tied != marked:
        problems.append(f"tied on the page {tied}, in the terminal {marked}")
    course = {gain.recipe: gain.trial for gain in ranked.gains()}
    lows = {}
    for line in lines:
        if (match := BEYOND.search(line)) and match[3] is not None:
            lows[course[match[1]]] = float(match[3])
            if float(match[3]) > 0 and course[match[1]] in tied:
                problems.append(f"trial {course[match[1]]} is marked = beside {line}")
            if float(match[3]) < 0 and course[match[1]] not in tied:
                problems.append(f"trial {course[match[1]]} is not marked = beside {line}")
    words = ranked.tied_words()
    if "stands out" in words and (len(tied) != 1 or any(low <= 0 for low in lows.values())):
        problems.append(f"{words} beside {lows} and = for {tied}")
    if (match := re.match(r"(\d+) of \d+ trials are tied", words)) and int(match[1]) != len(tied):
        problems.append(f"{words} beside = for {tied}")
    if (match := re.search(r"=: tied with trial (\d+)", "\n".join(lines))) and int(match[1]) not in tied:
        problems.append(f"{match[0]}, which is not marked")
    return problems


def list_problems(ranked, lines, columns):
    """Trials of unlike length that stand in one list without a mark."""
    problems = []
    for trial in ranked.trials:
        row = columns[columns["trial"] == trial.number].iloc[0]
        shown = next((line for line in lines if re.match(rf" *\d+ +{trial.number}\*? ", line)), "")
        mark = f"{len(trial.rows)}/{trial.config.epochs}"
        for place in (str(row["epochs"]), shown):
            if trial.status == "stopped" and mark not in place:
                problems.append(f"trial {trial.number} had {mark} epochs, and nothing says so in {place!r}")
    return problems


def verdict_problems(verdict, lines, said):
    problems = []
    text = "\n".join(lines)
    gaps = {}
    for line in lines:
        if match := MINUS.fullmatch(line.strip()):
            gaps.setdefault((match[1], match[2]), []).append(tuple(map(float, match.groups()[2:])))
    winner = re.search(r"winner: (.*)", text)[1]
    ours = {pair[1]: found[0] for pair, found in gaps.items() if pair[0] == winner}
    for place in (said["headline"], text):
        if "serves the rare classes best" in place and any(low <= 0 for _, low, _ in ours.values()):
            problems.append(f"{winner} is called best beside {ours}")
        if match := re.search(r"did best, but is tied with (.*?)(?::|\n)", place):
            named = {name for name in ours if name in match[1]}
            if named != {name for name, (_, low, _) in ours.items() if low <= 0}:
                problems.append(f"{match[0]} beside {ours}")
    # a searched recipe replaces the course's beyond doubt only
    if winner.startswith("trial") and any(ours[name][1] < 0 for name in ours if name.startswith("course")):
        problems.append(f"{winner} wins beside {ours}")
    # nobody is beyond doubt better than the winner
    problems += [f"{winner} wins beside {name} {gap}" for name, gap in ours.items() if gap[2] < 0]
    for sentence in said["sure"]:
        if match := SURE.match(sentence):
            sign = (
                "better than"
                if float(match[4]) > 0
                else "worse than"
                if float(match[5]) < 0
                else "no visible difference from"
            )
            if sign != match[1]:
                problems.append(sentence)
    # one column, one kind of number
    columns = re.findall(r"^(trial \d+|course, \w+) +([\d.]+) +([\d.]+) ", text, re.MULTILINE)
    for name in {name for name, _, _ in columns}:
        if len({value for other, _, value in columns if other == name}) > 1:
            problems.append(f"{name} has two scores on fresh seeds: {columns}")
    luck = verdict.luck
    for pair in ((luck.recipe, luck.base), (luck.base, luck.recipe)):
        for found in verdict.content.differences:
            sign = 1 if pair == (luck.recipe, luck.base) else -1
            if (found.first, found.second) == pair and abs(sign * found.estimate - luck.kept) > 1e-9:
                problems.append(f"{luck.words} beside {found}")
    if "% of it was luck" in luck.words and luck.margin >= luck.promised:
        problems.append(luck.words)
    for recipe, row in zip(verdict.recipes, sorted(verdict.rows(), key=lambda row: row["recipe"]), strict=True):
        stopped = [other for other in verdict.recipes if other.stopped_at]
        if recipe in stopped and f"gave it up after {recipe.stopped_at} epochs" not in text:
            problems.append(f"{recipe.name}: stopped after {recipe.stopped_at} epochs, and nothing says so")
        if row["luck"] is not None and row["recipe"] in [f"trial {other.trial}" for other in stopped]:
            problems.append(f"{row}: luck of a search score of fewer epochs")
    return problems


def study_of(folder, seed):
    rng = np.random.default_rng(seed)
    num_epochs = int(rng.integers(2, 21))
    num_images = int(rng.choice([30, 60, 120, 400]))
    num_trials = int(rng.integers(2, 15))
    studies.write(folder, num_trials, num_epochs, num_images, seed=seed % 2**31)
    if rng.random() < 0.5:
        confirm(folder, rng, int(rng.integers(2, 7)), opened=rng.random() < 0.5)
    return summary.find(ranking.rank(folder), folder)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.00003, "+0.00003"), (-2e-7, "-0.0000002"), (9.6e-5, "+0.0001"), (0.0, "+0.0000"), (0.12344, "+0.1234"),
     (-0.00004999, "-0.00005"), (9.99e-7, "+0.0000010"), (math.inf, "+inf"), (math.nan, "+nan")],
)  # fmt: skip
def test_an_end_that_is_not_0_is_never_shown_as_0(value, words):
    assert end(value, 4, "+") == words


@given(st.floats(-1, 1, allow_subnormal=False), st.integers(2, 5))
def test_an_end_keeps_its_sign(value, digits):
    assert np.sign(float(end(value, digits, ""))) == np.sign(value)


@pytest.mark.parametrize("seed", [28263])  # an end of 0.00003 beside "better"
def test_studies_that_once_contradicted_themselves(seed):
    check(seed)


def check(seed):
    with tempfile.TemporaryDirectory() as name:
        assert contradictions(study_of(Path(name) / "study", seed)) == []


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=30)
def test_nothing_that_is_said_of_a_study_contradicts_anything_else(seed):
    check(seed)


@pytest.mark.slow
def test_nothing_that_is_said_of_500_studies_contradicts_anything_else():
    for seed in range(500):
        check(seed)
