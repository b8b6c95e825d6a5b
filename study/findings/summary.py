"""Everything that an analysis finds in a study's folder, and its words for it."""

import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from study.findings import advice, balancing, course, curves, more_images
from study.findings.balancing import Balancing
from study.findings.course import Comparison
from study.findings.curves import Curves
from study.findings.more_images import MoreImages
from study.findings.ranking import Ranking
from study.findings.verdict import Verdict
from study.record.files import num_ended, read_confirmation, read_learning_curve, read_looks, read_mistakes
from study.record.formats import Looks, Mistake, Study
from study.space.parameters import Space
from study.statistics import effects, importance
from study.statistics.effects import Effects
from study.statistics.importance import Importance
from trainable.cli import printable
from trainable.metrics import class_report

if TYPE_CHECKING:
    import pandas as pd

MAX_CLASSES_PRINTED = 40


@dataclass(frozen=True)
class Findings:
    ranking: Ranking
    space: Space
    verdict: Verdict | None  # None: nothing has been confirmed
    effects: Effects | None  # None: nothing to fit
    importances: dict[str, Importance]
    balancing: Balancing | None
    comparison: Comparison | None  # None until both of the course's recipes have an epoch
    mistakes: list[Mistake]  # images that the confirmed winner gets most wrong
    looks: Looks | None  # what else there is to look at of it; None without a winner
    curves: Curves | None = None  # of the leader's probabilities
    more_images: MoreImages | None = None  # None: there is no learning curve

    @property
    def leader(self) -> "pd.Series | None":
        """The trial that the answer is about, see ``advice.leader``."""
        return advice.leader(self.ranking, self.verdict)

    @property
    def advice(self) -> list[str]:
        """What to use, and what would make it better, a sentence or a few each."""
        return advice.sentences(self.ranking, self.verdict, self.more_images)

    def lines(self) -> list[str]:
        """All but the ranking, as lines of at most 100 columns."""
        parts: list[list[str]] = []
        if self.verdict is not None:
            parts.append(self.verdict.lines(num_ended(self.ranking.trials), self.ranking.study.epochs))
        if self.effects is not None:
            parts.append(self.effects.lines(self.importances))
        if self.balancing is not None:
            parts.append(self.balancing.lines())
        if self.comparison is not None:
            parts.append(self.comparison.lines())
        if self.more_images is not None:
            parts.append(textwrap.wrap(printable(self.more_images.words), 100, subsequent_indent="  "))
        parts.append(self._class_lines())
        return [line for part in parts if part for line in ["", *part]]

    @property
    def confusion(self) -> "np.ndarray | None":
        """The leader's confusion matrix on the validation images, int64 (num_classes, num_classes)."""
        leader, evidence = self.leader, self.ranking.evidence
        if leader is None or evidence is None or leader["trial"] not in evidence:
            return None
        return evidence.confusion(leader["trial"])

    def _class_lines(self) -> list[str]:
        confusion, names = self.confusion, self.ranking.study.class_names
        if confusion is None or self.leader is None or len(names) > MAX_CLASSES_PRINTED:
            return []
        # a class's name may have any length
        short = [name if len(name) <= 40 else name[:39] + "…" for name in map(printable, names)]
        minority = self.ranking.study.minority_indices
        title = f"trial {self.leader['trial']} class by class, best epoch, validation images (* minority):"
        return [title, *class_report(confusion, short, minority).splitlines()]


def find(ranking: Ranking, folder: Path) -> Findings:
    """What the study in ``folder`` says beyond its ranking.

    Raises:
        UsageError: confirm.json, the winner's pictures or the space in study.json cannot be read.
    """
    study, table = ranking.study, ranking.table
    found = verdict_of(folder)
    rows = {trial.number: trial.rows for trial in ranking.trials}
    space = ranking.space
    usable, objective = bool(space) and not ranking.scored.empty, ranking.objective
    findings = Findings(
        ranking,
        space,
        found,
        effects.fit(table, space, objective.name, rows) if usable else None,
        importance.importances(table, space, study.seed, objective.name, rows) if usable else {},
        balancing.from_confirmation(found)
        if found
        else balancing.from_search(table, space, rows, objective)
        if usable
        else None,
        course.compare(ranking.trials, study.class_names, study.minority_indices, study.class_counts.val),
        read_mistakes(folder),
        read_looks(folder),
        more_images=more_images_of(folder, study),
    )
    leader, evidence = findings.leader, ranking.evidence
    if leader is None or evidence is None or leader["trial"] not in evidence:
        return findings
    path = folder / "trials" / str(leader["trial"]) / "validation.npz"
    names, num_images = study.class_names, sum(study.class_counts.val)
    return replace(findings, curves=curves.read(path, names, study.minority_indices, num_images, study.judged_by))


def verdict_of(folder: Path) -> Verdict | None:
    """What a confirmation of the study in ``folder`` has found; None where there was none.

    Raises:
        UsageError: confirm.json cannot be read.
    """
    confirmation = read_confirmation(folder)
    return Verdict(confirmation) if confirmation else None


def more_images_of(folder: Path, study: Study) -> MoreImages | None:
    """What the learning curve of the ``study`` in ``folder`` says; None where there is none.

    Raises:
        UsageError: learning_curve.json cannot be read.
    """
    curve = read_learning_curve(folder, len(study.class_names))
    return more_images.of(curve, study.class_names) if curve else None


def shown_trials(findings: "Findings") -> dict[int, str]:
    """The leader and the course's recipes: their numbers and titles, those with an epoch."""
    leader = findings.leader
    if leader is None:
        return {}
    found = {int(leader["trial"]): f"trial {leader['trial']}"}
    for gain in findings.ranking.gains():
        found[gain.trial] = gain.recipe
    return found
