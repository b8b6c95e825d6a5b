"""What a confirmation found, in words: the content of confirm.json, for those who print it or put it on the page."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study.findings import on_test
from study.record.confirmation import Confirmation, ConfirmedRecipe, Difference, OnTestImages, RecipeOnTest
from study.record.recipes import is_course, shown
from study.words import signed

if TYPE_CHECKING:
    from trainable.objectives import Objective


@dataclass(frozen=True)
class Luck:
    """What became of the search's promise on fresh seeds, in units of the objective."""

    recipe: str  # the search's first
    base: str  # the better of the course's recipes, by search score
    promised: float  # the gain by search scores
    kept: float  # the gain on fresh seeds
    margin: float  # half the width of the 95 % interval of a difference on these seeds

    @property
    def share(self) -> float | None:
        """How much of the promised gain was luck, in [0, 1]; None where nothing was promised."""
        return min(max(1 - self.kept / self.promised, 0.0), 1.0) if self.promised > 0 else None

    @property
    def words(self) -> str:
        if self.share is None:
            return f"luck: the search promised no gain over {shown(self.base)}"
        words = (
            f"luck: the search promised {shown(self.recipe)} a gain of {self.promised:+.4f} over {shown(self.base)}; "
            f"on fresh seeds it is {self.kept:+.4f} (±{self.margin:.4f})"
        )
        if self.margin >= self.promised:
            return f"{words}, so these seeds cannot tell how much of it was luck"
        return f"{words}, so {100 * self.share:.0f} % of it was luck"


@dataclass(frozen=True)
class Verdict:
    """Recipes on fresh seeds, the winner among them, and the test images if they were opened."""

    content: Confirmation

    @property
    def objective(self) -> "Objective":
        """What all scores are."""
        from trainable import objectives  # numpy with it

        return objectives.named(self.content.objective)

    @property
    def winner(self) -> ConfirmedRecipe:
        return next(recipe for recipe in self.recipes if recipe.name == self.content.winner)

    @property
    def recipes(self) -> list[ConfirmedRecipe]:
        return self.content.recipes

    @property
    def test(self) -> OnTestImages | None:
        return self.content.test

    def tested(self, name: str) -> RecipeOnTest | None:
        """A recipe's scores on the test images; None if they are sealed, or for recipes never tested on them."""
        return self.test.recipes.get(name) if self.test else None

    def gains(self) -> list[Difference]:
        """The winner less each of the course's other recipes."""
        return [found for found in self._leads() if is_course(found.second)]

    @property
    def equals(self) -> list[str]:
        """The recipes that the winner cannot be told from on these seeds."""
        return [found.second for found in self._leads() if found.low <= 0]

    @property
    def winner_words(self) -> str:
        """What the seeds say of the winner, to be read after its name."""
        ahead = [shown(recipe.name) for recipe in self.recipes if recipe.mean > self.winner.mean]
        if ahead:
            words = f"is enough: {' and '.join(ahead)} did better, but not beyond doubt"
            return words if len(self.content.seeds) > 2 else f"{words}, which two seeds can hardly show"
        if self.equals:
            return f"did best, but is tied with {' and '.join(map(shown, self.equals))}"
        return "serves the rare classes best"

    @property
    def ensemble_words(self) -> str:
        """What averaging several runs would bring, in a sentence; empty where an earlier version did not look."""
        found = self.content.ensemble
        if found is None:
            return ""
        if found.is_one:
            return f"an ensemble of these recipes: {shown(next(iter(found.members)))} alone was chosen"
        total = sum(found.members.values())
        members = " and ".join(f"{shown(member)} ({times} of {total})" for member, times in found.members.items())
        seen = "" if found.gain.low > 0 or found.gain.high < 0 else ", no difference can be seen"
        return (
            f"an ensemble, the mean of {members}: {signed(found.gain)} beyond the winner alone, on images that did not "
            f"choose it{seen}; study.predict --ensemble uses it"
        )

    def _leads(self) -> list[Difference]:
        return [found for found in self.content.differences if found.first == self.content.winner]

    @property
    def test_differences(self) -> list[Difference]:
        """The winner less each of the course's recipes on the test images; none while they are sealed."""
        return self.test.differences if self.test else []

    @property
    def luck(self) -> Luck:
        course = [recipe for recipe in self.recipes if is_course(recipe.name)]
        best, base = (max(found, key=lambda recipe: recipe.search_score) for found in (self.recipes, course))
        # the deviation is pooled over the recipes, so that all differences are known equally well
        margin = max(max(pair.high - pair.estimate, pair.estimate - pair.low) for pair in self.content.differences)
        promised = best.search_score - base.search_score
        return Luck(best.name, base.name, promised, best.mean - base.mean, margin)

    def rows(self) -> list[dict[str, Any]]:
        """A row a recipe, the best confirmed first: its score in the search, confirmed, and on the test images."""
        rows = []
        for recipe in sorted(self.recipes, key=lambda recipe: -recipe.mean):
            tested = self.tested(recipe.name)
            rows.append(
                {
                    "recipe": shown(recipe.name),
                    "search": recipe.search_score,
                    "confirmed": recipe.mean,
                    "low": recipe.low,
                    "high": recipe.high,
                    "adjusted": _mean(recipe.scores_adjusted),
                    "luck": None if recipe.stopped_at else recipe.search_score - recipe.mean,
                    "val_recall": _mean(recipe.val_recall),
                    "audit_recall": _mean(recipe.audit_recall),
                    "test": tested and tested.mean,
                    "test_low": tested and tested.low,
                    "test_high": tested and tested.high,
                    "test_adjusted": tested and _mean(tested.scores_adjusted),
                    "test_offsets": tested and _mean(tested.scores_offsets),
                }
            )
        return rows

    def confirmation_lines(self) -> list[str]:
        """What fresh seeds say, as lines of at most 100 columns."""
        content, confirmed = self.content, self.content.confirmed
        lines = [
            f"{self.objective.words} on {len(content.seeds)} fresh seeds, mean and 95 % interval:",
            f"{'recipe':<17}  search  fresh seeds                  adj.     luck  val recall  audit recall",
        ]
        for row in self.rows():
            audit = "-" if row["audit_recall"] is None else f"{row['audit_recall']:.4f}"
            lines.append(
                f"{row['recipe']:<17}  {row['search']:.4f}  {_interval(row['confirmed'], row['low'], row['high'])}  "
                f"{row['adjusted']:.4f}  {_luck(row['luck'])}  {row['val_recall']:10.4f}  {audit:>12}"
            )
        drawn = "order and the cut" if content.optimistic else "order, the validation images and the cut"
        audited = any(recipe.audit_recall is not None for recipe in self.recipes)
        lines += [
            f"each seed redraws the start, the {drawn};",
            "epochs chosen on one half of validation, scored on the other; adj.: after logit adjustment;",
            "luck: search score minus fresh-seed score; recall: mean of the minority classes, best epoch",
            *(["audit: on the images that the cut removed"] if audited else []),
            *self.stopped_notes(),
            "",
        ]
        lines += [
            *_difference_lines(content.differences),
            "",
            f"winner: {shown(content.winner)}",
            *textwrap.wrap(self.winner_words, 100, initial_indent="  ", subsequent_indent="  "),
            f"confirmed score: {_interval(confirmed.estimate, confirmed.low, confirmed.high)}",
            "  on each seed, the recipe that the other seeds choose",
        ]
        lines += textwrap.wrap(self.ensemble_words, 100, subsequent_indent="  ")
        if content.optimistic:
            lines += ["this score is optimistic:", f"  {content.optimistic_reason}"]
        return lines

    def test_lines(self) -> list[str]:
        """What the test images say, and how much was luck, as lines of at most 100 columns."""
        if self.test is None:
            return ["the test images are sealed"]
        over = f"mean of {len(self.content.seeds)} seeds and 95 % interval over seeds and images"
        lines = [
            f"{self.objective.words} on the test images, {over}:",
            f"{'recipe':<17}  search  fresh seeds  test                         adj.    offsets",
        ]
        for row in self.rows():
            if row["test"] is None:
                continue
            offsets = "-" if row["test_offsets"] is None else f"{row['test_offsets']:.4f}"
            interval = _interval(row["test"], row["test_low"], row["test_high"])
            test = f"{interval}  {row['test_adjusted']:.4f}"
            lines.append(f"{row['recipe']:<17}  {row['search']:.4f}  {row['confirmed']:11.4f}  {test}  {offsets:>7}")
        lines += [
            "fresh seeds: the same means as above; test: each run's best epoch;",
            "offsets: after adding decision offsets fitted on that run's validation images only",
        ]
        lines += _difference_lines(self.test_differences)
        lines += on_test.lines(self.test.recipes[self.winner.name])
        lines += [*self.opening_notes(), ""]
        return lines + textwrap.wrap(self.luck.words, 100, subsequent_indent="  ")

    def opening_notes(self) -> list[str]:
        """When the test images were opened, and opened again, a sentence each."""
        if self.test is None:
            return ["the test images are sealed"]
        return [f"the test images were opened on {self.test.opened}"] + [
            f"opened again on {again.time}: {again.reason}" for again in self.test.reopened
        ]

    def notes(self, num_trials: int, epochs: int) -> list[str]:
        """What to keep in mind, a sentence each; ``num_trials`` of the study, each of ``epochs``, have ended by now."""
        optimistic = [f"optimistic: {self.content.optimistic_reason}"] if self.content.optimistic else []
        return [*self.extension_notes(num_trials, epochs), *self.stopped_notes(), *optimistic, *self.opening_notes()]

    def stopped_notes(self) -> list[str]:
        """Which recipes have a search score of fewer epochs than they were now trained for, a sentence each."""
        return [
            f"{shown(recipe.name)}: the search gave it up after {recipe.stopped_at} epochs; its score there is of those"
            for recipe in self.recipes
            if recipe.stopped_at
        ]

    def extension_notes(self, num_trials: int, epochs: int) -> list[str]:
        """Whether the study got more trials or epochs afterwards, a sentence each."""
        day, notes = self.content.time[:10], list[str]()
        if self.content.num_trials != num_trials:
            now = f"the study has {num_trials} now; the new ones are not confirmed"
            notes.append(f"confirmed on {day} with {self.content.num_trials} trials; {now}")
        if self.content.epochs != epochs:
            now = f"the study's trials have {epochs} now, and none of so many is confirmed"
            notes.append(f"confirmed on {day} with {self.content.epochs} epochs; {now}")
        return notes

    def lines(self, num_trials: int, epochs: int) -> list[str]:
        """All of it, for a study of which ``num_trials`` of ``epochs`` have ended by now, in lines of 100 columns."""
        return [*self.confirmation_lines(), "", *self.test_lines(), *self.extension_notes(num_trials, epochs)]


def _difference_lines(differences: list[Difference]) -> list[str]:
    lines = []
    for found in differences:
        lines += [
            f"{shown(found.first)} minus {shown(found.second)}: {signed(found)}",
            f"    after logit adjustment: {signed(found.adjusted)}",
        ]
    return lines


def _luck(value: float | None) -> str:
    return "      -" if value is None else f"{value:+.4f}"


def _interval(estimate: float, low: float, high: float) -> str:
    return f"{estimate:.4f} ({low:.4f} to {high:.4f})"


def _mean(values: list[float] | None) -> float | None:
    return sum(values) / len(values) if values else None
