"""The ranking of a study's trials by its objective, with intervals. Reads the ledger; needs neither Ray nor torch."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from study.findings import evidence
from study.findings.evidence import Evidence
from study.record import files
from study.record.files import TrialRecord
from study.record.formats import Study
from study.record.recipes import SEARCHED, recipe_table, trial_name
from study.space.parameters import Space
from study.statistics.intervals import Interval
from study.words import ends
from trainable.cli import printable
from trainable.config import FEW_STEPS, num_shown, num_steps
from trainable.objectives import Objective
from trainable.parts.corrections import corrects_twice

MIN_BEST_TRIALS = 5
LINE_WIDTH = 100
NEAR = 0.1  # of a range's width, on its own scale

FIXED_COLUMNS = {"f1_reweighted"}  # those that begin like a class's
SCORES = ("minority_f1", "minority_f1_adjusted", "macro_f1", "val_accuracy")  # in each row


@dataclass(frozen=True)
class Gain:
    """How far the leader is beyond one of the course's recipes, in units of F1."""

    recipe: str
    trial: int
    score: float  # the course's
    estimate: float
    interval: Interval | None  # paired on the validation images, the models as they are


@dataclass(frozen=True)
class Ranking:
    """A study's trials, best first, and what was asked."""

    study: Study
    table: pd.DataFrame  # a row a trial
    trials: list[TrialRecord] = field(default_factory=list)  # in the order of their numbers
    evidence: Evidence | None = None  # of those that have a validation.npz
    notes: list[str] = field(default_factory=list)  # what else the reader should know

    def lines(self, max_trials: int = 20) -> list[str]:
        """The ranking and the gain over the course's recipes, as lines of at most 100 columns."""
        if self.table.empty:
            return self.gain_lines()
        objective, shown = self.objective, self.table.head(max_trials)
        table = shown[["rank"]].copy()
        table["trial"] = [trial_name(*pair) for pair in zip(shown["trial"], shown["recipe"], strict=True)]
        table[objective.head] = shown[objective.name]
        if self.evidence is not None:
            ends = zip(shown[objective.low], shown[objective.high], shown["tied"], strict=True)
            table["95 %"] = [
                "-" if low != low else f"{low:.2f}-{high:.2f}{' =' if tied is True else '  '}"
                for low, high, tied in ends
            ]
        table["adj."] = shown[objective.adjusted]
        if self.was_cut and "f1_reweighted" in shown:
            table["rew."] = shown["f1_reweighted"]
        table["ep."], table["status"] = epochs_of(shown), shown["status"]
        width = LINE_WIDTH - len(table.to_string(index=False, float_format="%.4f", na_rep="-").split("\n", 1)[0])
        for name, column in recipe_table(shown.to_dict("records"), self.space, width, 1).items():
            table[name] = column
        lines = table.to_string(index=False, float_format="%.4f", na_rep="-").splitlines()
        if len(self.table) > max_trials:
            lines.append(f"… {len(self.table) - max_trials} more in ranking.csv")
        lines.append(
            f"* the course's recipes; adj.: {objective.words} after post-hoc logit adjustment; scores of the best epoch"
        )
        if self.evidence is not None:
            first = f"tied with trial {self.evidence.best}"
            lines.append(f"95 %: range on other validation images like these, same model; =: {first}")
        if shorter := [text for text in table["ep."] if "/" in text]:
            after = f"the score after {shorter[0].replace('/', ' of ')} epochs"
            lines.append(f"ep.: {shorter[0]}: {after}; with all of them it might have been higher")
        if "rew." in table:
            lines.append("rew.: minority F1 if the classes came as often as in training")
        return [line.rstrip() for line in [*lines, "", *self.gain_lines()]]

    @property
    def objective(self) -> Objective:
        """What the trials are ranked by."""
        return self.study.judged_by

    @property
    def space(self) -> Space:
        return self.study.searched

    @property
    def was_cut(self) -> bool:
        """Whether images were left out of training, so that validation has other frequencies."""
        return self.study.data.spec.is_cut

    @cached_property
    def scored(self) -> pd.DataFrame:
        """The table's rows that have a score: trials with an epoch."""
        return self.table if self.table.empty else self.table.dropna(subset=[self.objective.name])

    def gains(self) -> list[Gain]:
        """How far the leader is beyond each of the course's recipes that has a score."""
        if self.scored.empty:
            return []
        leader, score = self.scored.iloc[0], self.objective.name
        return [
            Gain(
                row["recipe"],
                int(row["trial"]),
                row[score],
                leader[score] - row[score],
                self.evidence.ahead_of(row["trial"])
                if self.evidence
                and leader["trial"] == self.evidence.best != row["trial"]
                and row["trial"] in self.evidence
                else None,
            )
            for _, row in self.scored[self.scored["recipe"] != SEARCHED].sort_values("trial").iterrows()
        ]

    def tied_words(self) -> str:
        """How many trials the validation images cannot tell from the first; empty if nothing is known of it."""
        if self.evidence is None:
            return ""
        best, number, tied = self.evidence.best, len(self.evidence.numbers), int(self.evidence.tied.sum())
        leader, verb = self.scored.iloc[0]["trial"], "is" if tied == 1 else "are"
        if leader != best:
            words = f"trial {leader} leads, but its images cannot be compared yet"
            return f"{words}; of {number} that can, {tied} {verb} first or tied with it"
        if tied > 1:
            return f"{tied} of {number} trials are tied for first on these validation images"
        if number == 1:
            return f"trial {best} is the only one so far whose images can be compared"
        others = "the other one" if number == 2 else f"all {number - 1} others"
        return f"trial {best} stands out: ahead of {others} by more than chance"

    def gain_lines(self) -> list[str]:
        scored = self.scored
        if scored.empty:
            return ["no trial has finished an epoch yet", *self.notes]
        best = scored.iloc[0]
        best_at = f"{self.objective.words} {best[self.objective.name]:.4f} at epoch {best['best_epoch']:.0f}"
        lines = [
            f"minority classes: {', '.join(map(printable, self.study.minority))}",
            f"best: trial {best['trial']}, {best_at} (search score, not confirmed)",
        ]
        for gain in self.gains():
            interval = f", 95 % {ends(gain.interval.low, gain.interval.high, sign='+')}" if gain.interval else ""
            beyond = f"  beyond {gain.recipe} ({gain.score:.4f}): {gain.estimate:+.4f}"
            lines.append(f"{beyond} (search score, not confirmed){interval}")
        lines += [words for words in (self.tied_words(), self.evidence.chosen_words if self.evidence else "") if words]
        if self.was_cut:
            lines.append("validation was drawn before the cut, so F1 is measured at the original class frequencies")
        lines += self.memory_lines() + self.correction_lines() + self.step_lines() + self.boundary_lines() + self.notes
        return lines + (self.evidence.damaged if self.evidence else [])

    def memory_lines(self) -> list[str]:
        """What running out of GPU memory has changed."""
        if self.table.empty:
            return []
        return [
            f"trial {row['trial']}: out of GPU memory, so each batch went through the network in "
            f"{row['num_micro_batches']} parts; batch norm saw smaller batches than in other trials"
            for _, row in self.table[self.table["num_micro_batches"] > 1].iterrows()
        ]

    def correction_lines(self, max_trials: int = 20) -> list[str]:
        """Of the best trials, those that make up for rare classes in more than one place."""
        if self.table.empty:
            return []
        best = self.scored.head(max_trials)
        pairs = zip(best["trial"], best["corrects_twice"], strict=True)
        return [f"trial {number} corrects twice: {places}" for number, places in pairs if places]

    @property
    def few_steps(self) -> int | None:
        """Optimizer steps in an epoch of the best trial, where they are few."""
        number = None if self.scored.empty else self._num_steps(self.scored.iloc[0])
        return number if number and number < FEW_STEPS else None

    def step_lines(self) -> list[str]:
        """That few optimizer steps in an epoch decide, where the best trial or a recipe of the course has few."""
        if self.scored.empty:
            return []
        leader = self.scored.iloc[0]
        if (own := self._num_steps(leader)) < FEW_STEPS:
            few = f"optimizer steps in an epoch of trial {leader['trial']}: {own}, which is few"
            return [f"{few}; fewer images to a step may do better"]
        others = self.scored[self.scored["recipe"] != SEARCHED].sort_values("trial")
        return [
            f"optimizer steps in an epoch: {number} of {row['recipe']}, {own} of trial {leader['trial']}; "
            "that may be part of its gain"
            for _, row in others.iterrows()
            if (number := self._num_steps(row)) < FEW_STEPS
        ]

    def _num_steps(self, row: "pd.Series[Any]") -> int:
        """Optimizer steps in an epoch of the trial in this row of the table, once its sampler is on."""
        shown = num_shown(row["sampler"], self.study.class_counts.train)
        return num_steps(shown, int(row["batch_size"]), int(row["accumulation_steps"]))

    def boundary_lines(self) -> list[str]:
        """The searched ranges whose best trials crowd an end of the range, beyond which better ones may lie."""
        if self.table.empty:
            return []
        searched = self.table[(self.table["recipe"] == SEARCHED) & self.table[self.objective.name].notna()]
        best = searched.head(max(MIN_BEST_TRIALS, len(searched) // 4)).to_dict("records")
        lines = []
        for parameter in self.space:
            active = [values for values in best if parameter.active(values)]
            if parameter.choices or len(active) < MIN_BEST_TRIALS:
                continue
            shares = [parameter.share(values[parameter.name]) for values in active]
            for end, name, bound in ((0.0, "low", parameter.low), (1.0, "high", parameter.high)):
                num_near = sum(abs(share - end) <= NEAR for share in shares)
                # more than would be there by chance, if the field did not matter
                by_chance = binomtest(num_near, len(active), NEAR, alternative="greater").pvalue
                if by_chance < 0.01 and parameter.can_widen(end == 1.0):
                    crowd = f"{num_near} of the {len(active)} best trials crowd the {name} end of its range, {bound:g}"
                    lines.append(f"{parameter.name}: {crowd}; a wider range may hold better ones")
        return lines


def epochs_of(table: pd.DataFrame) -> list[str]:
    """Each trial's epochs; "4/20" of those that could have gone on, which are not to be compared as if they had."""
    return [
        str(epochs) if status == "complete" else f"{epochs}/{most}"
        for epochs, status, most in zip(table["epochs"], table["status"], table["max_epochs"], strict=True)
    ]


def rank(folder: Path) -> Ranking:
    """The ranking of the study in ``folder``: by its objective at the best epoch, ties to the lower number.

    Raises:
        UsageError: the folder holds no study that can be read.
    """
    study = files.read_study(folder)
    notes: list[str] = []
    trials = files.read_trials(folder, study, notes.append)
    names, minority, counts = study.class_names, study.minority_indices, study.class_counts
    objective = study.judged_by
    found = evidence.read(folder, trials, study)
    entries = []
    for trial in trials:
        rows, config = trial.rows, trial.config.to_dict()
        best = rows[rows[-1]["best_epoch"] - 1] if rows else {}
        known = found is not None and trial.number in found
        of_classes = {"f1": best.get("f1", [])}
        if found and known:
            of_classes |= evidence.class_columns(found, trial.number)
        entries.append(
            {
                "trial": trial.number,
                **{name: best.get(name) for name in (objective.name, objective.adjusted, *SCORES)},
                **(evidence.columns(found, trial.number, minority, counts.train, objective) if found and known else {}),
                "best_epoch": best.get("epoch"),
                "epochs": len(rows),
                "status": trial.status,
                "reason": trial.reason,
                "recipe": trial.recipe,
                "corrects_twice": ", ".join(corrects_twice(trial.config.active())),
                "seconds": sum(row["train_seconds"] + row["val_seconds"] for row in rows),
                **{
                    class_column(score, name): value
                    for score, values in of_classes.items()
                    for name, value in zip(names, values, strict=False)
                },
                "max_epochs": config.pop("epochs"),
                **{name: value for name, value in config.items() if name != "objective"},
            }
        )
    table = pd.DataFrame.from_records(entries)
    if not table.empty:
        table = table.sort_values([objective.name, "trial"], ascending=[False, True], na_position="last")
        table.insert(0, "rank", range(1, len(table) + 1))
    return Ranking(study, table, trials, found, notes)


def class_column(score: str, name: str) -> str:
    """The column of a class's ``score``: "f1_cat"; with an underscore more where a column that is always there has it.

    No two classes share one: "reweighted" and "reweighted_" become "f1_reweighted_" and "f1_reweighted__".
    """
    column = f"{score}_{name}"
    return f"{column}_" if column.rstrip("_") in FIXED_COLUMNS else column


def write(ranking: Ranking, folder: Path) -> None:
    """Writes ``ranking.csv``, best first; the old file or the new one."""
    files.write_atomically(folder / "ranking.csv", ranking.table.to_csv(index=False))
