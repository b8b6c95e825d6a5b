"""What a confirmation found: confirm.json, for those who only read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainable.config import UsageError

FORMAT = 1


@dataclass(frozen=True)
class Verdict:
    """The content of confirm.json: recipes on fresh seeds, the winner among them, the test set if it was opened."""

    content: dict[str, Any]

    @property
    def winner(self) -> str:
        return str(self.content["winner"])

    @property
    def recipes(self) -> list[dict[str, Any]]:
        return list(self.content["recipes"])

    @property
    def test(self) -> dict[str, Any] | None:
        return self.content["test"]

    def recipe(self, name: str) -> dict[str, Any] | None:
        return next((recipe for recipe in self.recipes if recipe["name"] == name), None)

    def difference(self, first: str, second: str) -> dict[str, Any] | None:
        for found in self.content["differences"]:
            if (found["first"], found["second"]) == (first, second):
                return dict(found)
        return None

    def rows(self) -> list[dict[str, Any]]:
        """A row a recipe, the best confirmed first: its score in the search, confirmed, and on the test set."""
        rows = []
        for recipe in sorted(self.recipes, key=lambda recipe: -recipe["mean"]):
            tested = (self.test or {"recipes": {}})["recipes"].get(recipe["name"])
            rows.append(
                {
                    "recipe": shown(recipe["name"]),
                    "search": recipe["search_score"],
                    "confirmed": recipe["mean"],
                    "low": recipe["low"],
                    "high": recipe["high"],
                    "luck": recipe["search_score"] - recipe["mean"],
                    "test": tested and tested["mean"],
                    "test_low": tested and tested["low"],
                    "test_high": tested and tested["high"],
                }
            )
        return rows

    def notes(self, num_trials: int) -> list[str]:
        """What to keep in mind, a sentence each; ``num_trials`` the study has now."""
        notes = []
        if self.content["num_trials"] != num_trials:
            notes.append(f"confirmed when the study had {self.content['num_trials']} trials; it has {num_trials} now")
        if self.content["optimistic"]:
            notes.append(f"optimistic: {self.content['optimistic_reason']}")
        if self.test is None:
            notes.append("the test set is sealed")
        else:
            notes.append(f"the test set was opened at {self.test['opened']}")
            for again in self.test["reopened"]:
                notes.append(f"and again at {again['time']}: {again['reason']}")
        return notes

    def lines(self, num_trials: int) -> list[str]:
        """Search, confirmed and test scores side by side, as lines of at most 100 columns."""
        content = self.content
        lines = [
            f"confirmed on {len(content['seeds'])} fresh seeds, at most {content['epochs']} epochs each",
            f"  {'':<18} {'search':>7}  {'confirmed (95 %)':<22}  {'luck':>7}  test (95 %)",
        ]
        for row in self.rows():
            confirmed, test = (_interval(row[name], row[low], row[high]) for name, low, high in
                               [("confirmed", "low", "high"), ("test", "test_low", "test_high")])  # fmt: skip
            lines.append(f"  {row['recipe']:<18} {row['search']:>7.4f}  {confirmed:<22}  {row['luck']:>+7.4f}  {test}")
        expected = content["confirmed"]
        chosen = _interval(expected["estimate"], expected["low"], expected["high"])
        lines.append(f"  winner: {shown(self.winner)}; to expect of a recipe chosen like this: {chosen}")
        for found in content["differences"]:
            if found["first"] == self.winner:
                lines.append(
                    f"  beyond {shown(found['second'])}: {signed(found)}, adjusted {signed(found['adjusted'])}"
                )
        lines.append("  luck: search score less confirmed score, what choosing the best of many has flattered")
        return lines + [f"  {note}" for note in self.notes(num_trials)]


def read(folder: Path) -> Verdict | None:
    """What the confirmation of the study in ``folder`` found; None if there was none.

    Raises:
        UsageError: confirm.json cannot be read, or its format is unknown.
    """
    path = folder / "confirm.json"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError([f"{path}: damaged, cannot be read ({error})"]) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UsageError([f"{path}: has format {found!r}, and this version reads {FORMAT}"])
    return Verdict(content)


def shown(name: str) -> str:
    """ "trial 7" of "trial-7", "course, weighted" of "course-weighted"."""
    return name.replace("trial-", "trial ").replace("course-", "course, ")


def signed(interval: dict[str, Any]) -> str:
    text = f"{interval['estimate']:+.4f}"
    return text if interval["low"] is None else f"{text} ({interval['low']:+.3f} to {interval['high']:+.3f})"


def _interval(estimate: float | None, low: float | None, high: float | None) -> str:
    if estimate is None:
        return "sealed"
    return f"{estimate:.4f}" if low is None else f"{estimate:.4f} ({low:.3f} to {high:.3f})"
