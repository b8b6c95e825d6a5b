"""Two sentences that need no statistics: what to use and how good it is; and what would make it better."""

import math
import statistics
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from study.findings.more_images import MoreImages
from study.findings.ranking import Ranking
from study.findings.verdict import Verdict
from study.record.files import TrialRecord
from study.record.recipes import SEARCHED, is_course, shown, trial_name
from trainable.cli import printable
from trainable.metrics import f1_per_class

if TYPE_CHECKING:
    import pandas as pd

LATE = 0.75  # of the trials: where the best is among those after them, the search was still getting better
MAX_NAME = 40
LAST = 0.25  # of the epochs: whether scores still rise in them
MANY = 0.1  # of the common classes' images called rare: so many false alarms are told at the head
RISE = 0.01  # of a score; less may be the luck of the best of some epochs more


def leader(ranking: Ranking, verdict: Verdict | None) -> "pd.Series | None":
    """The trial that all words are about, as its row of the ranking: the confirmed winner, else the first."""
    scored = ranking.scored
    if scored.empty:
        return None
    if verdict is not None:
        rows = scored[scored["trial"] == verdict.winner.trial]
        if len(rows):
            return rows.iloc[0]
    return scored.iloc[0]


def lines(ranking: Ranking, verdict: Verdict | None, more: MoreImages | None) -> list[str]:
    """Both, as lines of at most 100 columns; none before there is a score."""
    return [line for text in sentences(ranking, verdict, more) for line in textwrap.wrap(printable(text), 100)]


def sentences(ranking: Ranking, verdict: Verdict | None, more: MoreImages | None) -> list[str]:
    """What to use, and what would make it better; ``more`` is the learning curve, if there is one."""
    best = leader(ranking, verdict)
    if best is None:
        return []
    trial = next(trial for trial in ranking.trials if trial.number == best["trial"])
    confusion = confusion_of(ranking, verdict, trial.number)
    return [" ".join(_use(ranking, verdict, best, trial, confusion)), _better(ranking, trial, confusion, more)]


def confusion_of(ranking: Ranking, verdict: Verdict | None, number: int) -> np.ndarray | None:
    """On the test images if they are opened, else of trial ``number`` on the validation images; None if unknown."""
    tested = verdict.tested(verdict.winner.name) if verdict else None
    if tested and tested.classes:
        return np.array(tested.confusion)
    evidence = ranking.evidence
    return evidence.confusion(number) if evidence is not None and number in evidence else None


def weakest_class(ranking: Ranking, confusion: np.ndarray) -> str:
    """The rare class with the lowest F1, the first of several: more images of it would help most, for all we know."""
    f1 = f1_per_class(confusion)
    return ranking.study.class_names[min(ranking.study.minority_indices, key=lambda index: f1[index])]


def _use(
    ranking: Ranking, verdict: Verdict | None, best: "pd.Series", trial: TrialRecord, confusion: np.ndarray | None
) -> list[str]:
    if verdict is None:
        what = f"Use trial {trial_name(trial.number, trial.recipe)} for now"
        low, high, estimate = best.get(ranking.objective.low), best.get(ranking.objective.high), trial.score
        images = "the validation images that chose it, so expect a little less"
    else:
        what = f"Use the model in winner/, {shown(verdict.winner.name)}"
        tested = verdict.tested(verdict.winner.name)
        found = tested or verdict.content.confirmed
        low, high = found.low, found.high
        estimate = tested.mean if tested else verdict.content.confirmed.estimate
        images = "the sealed test images" if tested and tested.classes else "validation images of the search"
    words = [what + (f": {_counts(ranking, confusion, verdict)} (on {images})." if confusion is not None else ".")]
    if estimate is not None and low is not None and low == low:
        off = 100 * max(high - estimate, estimate - low)
        words.append(f"On other images like these its score may be off by {off:.0f} points of 100.")
    return [*words, _doubt(verdict, trial)]


def _counts(ranking: Ranking, confusion: np.ndarray, verdict: Verdict | None) -> str:
    rare = ranking.study.minority_indices
    hits, there, named = (
        float(np.diagonal(confusion)[rare].sum()),
        float(confusion[rare].sum()),
        float(confusion[:, rare].sum()),
    )
    # a confirmation has measured models of its recipe, and the one in winner/ may be yet another, see ``refit``
    who, finds, calls = ("it", "finds", "calls") if verdict is None else ("models made like it", "find", "call")
    found = f"of 100 images of the rare classes {who} {finds} {100 * hits / there:.0f}"
    if not named:
        return found
    found += f", and of 100 that {who} {calls} rare {100 * hits / named:.0f} are right"
    common = np.setdiff1d(np.arange(len(confusion)), rare)
    if (others := confusion[common].sum()) and (wrong := confusion[common][:, rare].sum() / others) >= MANY:
        found += f"; of 100 other images {who} {calls} {100 * wrong:.0f} rare"
    return found


def _doubt(verdict: Verdict | None, trial: TrialRecord) -> str:
    """What is known of the winner, or of the leading ``trial``, against the course's recipes."""
    if verdict is None and trial.recipe == SEARCHED:
        return "Whether it is better than the course's recipes, study.confirm tells."
    if verdict is None:
        return "It is one of the course's own recipes; whether another one is better, study.confirm tells."
    beaten = [shown(found.second) for found in verdict.gains() if found.low > 0]
    better = f"It is better than {' and '.join(beaten)}" if beaten else ""
    if is_course(verdict.winner.name):
        own = better or "It is one of the course's own recipes, not known to be better than the other"
        return f"{own}; the search has found none that is surely better."
    return f"{better}." if better else "It is not known to be better than the course's."


def _better(ranking: Ranking, trial: TrialRecord, confusion: np.ndarray | None, more: MoreImages | None) -> str:
    reasons = []
    if ranking.study.leaks:
        reasons.append("--group, if images show the same thing: until then the score may be memory")
    if trial.reason == "epochs" and trial.rows[-1]["best_epoch"] == len(trial.rows):
        reasons.append(f"more --epochs than {len(trial.rows)}: its best epoch was the last")
    elif (rise := _rise(ranking)) >= RISE:
        reasons.append(
            f"more --epochs than {ranking.study.epochs}: scores still rose by {rise:.2f} in the last quarter"
        )
    if (steps := ranking.few_steps) is not None:
        how = "fewer images to a step (batch_size, accumulation_steps)"
        reasons.append(f"more optimizer steps in an epoch than {steps}: {how}")
    searched = [other for other in ranking.trials if other.recipe == SEARCHED and other.score is not None]
    if searched:
        first = max(searched, key=lambda other: (other.score or 0, -other.number))
        if len(searched) >= 8 and searched.index(first) >= LATE * len(searched):
            reasons.append("more --trials: the best of the search came late")
    if more is not None and more.is_known:
        reasons.append(f"more images of {_short(more.gain.name)}, which gains most from them")
    elif more is None and confusion is not None:
        reasons.append(
            f"more images of {_short(weakest_class(ranking, confusion))}, the rare class it knows least well"
        )
    return f"To make it better: {'; '.join(reasons)}." if reasons else "Nothing here says what would make it better."


def _rise(ranking: Ranking) -> float:
    """By how much the best scores of complete trials rose in the last of their epochs, the median.

    Those that had ended before for want of progress count as well: they had no rise to come.
    """
    best, most = ranking.objective.best, ranking.study.epochs
    first = math.ceil((1 - LAST) * most)
    curves = [[row[best] for row in trial.rows] for trial in ranking.trials if trial.status == "complete"]
    return statistics.median(scores[-1] - scores[:first][-1] for scores in curves) if curves else 0.0


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
