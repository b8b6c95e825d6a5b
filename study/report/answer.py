"""What the page says first: the headline, how sure it is, and the numbers that count."""

from typing import TYPE_CHECKING, Any

from study.record.files import num_ended
from study.record.recipes import shown
from study.space.parameters import active_values
from study.words import ends, f1, f1_with_ends, known, signed

if TYPE_CHECKING:
    from study.findings.summary import Findings

BETTER, WORSE, UNCLEAR = "better", "worse", "no difference can be seen"
SIGNS = {BETTER: "better than", WORSE: "worse than", UNCLEAR: "no visible difference from"}


def answer(findings: "Findings") -> dict[str, Any]:
    """The headline, and how sure it is in words."""
    leader, verdict, objective = findings.leader, findings.verdict, findings.ranking.objective
    ranking = findings.ranking
    if leader is None:
        return {"headline": "No trial has finished an epoch yet", "recipe": "", "sure": []}
    sure = []
    if verdict is not None:
        name, expected = shown(verdict.winner.name), verdict.content.confirmed
        headline = (
            f"{name[0].upper()}{name[1:]} {verdict.winner_words}: {objective.words} "
            f"{f1_with_ends(expected.estimate, expected.low, expected.high)}, confirmed on "
            f"{len(expected.scores)} fresh seeds"
        )
        for found in verdict.gains():
            sign = SIGNS[_sign(found.low, found.high)]
            gain, adjusted = signed(found), signed(found.adjusted)
            sure.append(f"{sign} {shown(found.second)} on fresh seeds: {gain}; after logit adjustment {adjusted}")
        sure += [verdict.luck.words, *verdict.notes(num_ended(ranking.trials), ranking.study.epochs)]
    else:
        low, high = leader.get(objective.low), leader.get(objective.high)
        headline = (
            f"Trial {leader['trial']} leads with {objective.words} "
            f"{f1_with_ends(leader[objective.name], low, high)} on the validation images"
        )
        luck = "the best of many on the same validation images is partly luck"
        sure.append(f"a search score: {luck}; not confirmed on fresh seeds")
    if words := findings.ranking.tied_words():
        sure.append(words if verdict is None else f"in the search, before fresh seeds: {words}")
    if (evidence := ranking.evidence) and evidence.chosen_words:
        sure.append(evidence.chosen_words)
    values = active_values(findings.space, leader.__getitem__)
    recipe = ", ".join(f"{name} {_plain(value)}" for name, value in values.items())
    return {"headline": headline, "recipe": recipe, "sure": sure}


def cards(findings: "Findings") -> list[dict[str, str]]:
    """The numbers that count: a title, the number, and what to know of it."""
    leader, verdict, objective = findings.leader, findings.verdict, findings.ranking.objective
    if leader is None:
        return []
    low, high = leader.get(objective.low), leader.get(objective.high)
    cards = []
    if verdict is not None:
        expected = verdict.content.confirmed
        note = f"{len(expected.scores)} seeds; 95 % {ends(expected.low, expected.high)}"
        cards.append({"title": "confirmed score", "number": f1(expected.estimate), "note": note})
    cards += [
        {
            "title": f"{objective.words} of trial {leader['trial']}",
            "number": f1(leader[objective.name]),
            "note": f"search score, epoch {leader['best_epoch']:.0f}; 95 % {ends(low, high)}",
        }
    ]
    if findings.ranking.was_cut and known(leader.get("f1_reweighted")):
        title, note = "reweighted to the training frequencies", "the classes as rare as in training"
        cards.append({"title": title, "number": f1(leader["f1_reweighted"]), "note": note})
    for found in verdict.gains() if verdict else []:
        note = f"fresh seeds, paired; 95 % {ends(found.low, found.high)}, {_sign(found.low, found.high)}"
        cards.append({"title": f"beyond {shown(found.second)}", "number": f"{found.estimate:+.4f}", "note": note})
    for gain in [] if verdict else findings.ranking.gains():
        number, note = f"{gain.estimate:+.4f}", "search score, not confirmed"
        if gain.trial == leader["trial"]:
            number, note = "±0", "this recipe leads itself"
        elif gain.interval:
            low, high = gain.interval.low, gain.interval.high
            note += f"; 95 % {ends(low, high)}, {_sign(low, high)}"
        cards.append({"title": f"beyond {gain.recipe}", "number": number, "note": note})
    tested = verdict and verdict.tested(verdict.winner.name)
    if tested:
        note = f"{len(tested.scores)} seeds; 95 % {ends(tested.low, tested.high)}"
        cards.append({"title": "on the test set", "number": f1(tested.mean), "note": note})
    else:
        cards.append({"title": "on the test set", "number": "sealed", "note": "study.confirm opens it, once"})
    return cards


def _sign(low: float, high: float) -> str:
    return BETTER if low > 0 else WORSE if high < 0 else UNCLEAR


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
