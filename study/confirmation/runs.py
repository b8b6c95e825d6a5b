"""What is confirmed: the recipes, the fresh seeds, and the runs of the one on the other that are not there yet."""

from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from study.record.files import TrialRecord
from study.record.ledger import Ledger
from study.record.recipes import COURSE, is_course, run_name
from study.record.trial import Trial
from trainable.cli import UsageError, attempt
from trainable.config import TrialConfig
from trainable.options import Role
from trainable.records import read_config
from trainable.streams import derive

# the roles of the fields that make a run what it is; the machine may change
KEPT: tuple[Role, ...] = ("recipe", "protocol", "seed")


@dataclass(frozen=True)
class Recipe:
    """A trial of the search whose recipe is run again."""

    name: str  # "trial-N", "course-shuffled" or "course-weighted"
    trial: int
    config: TrialConfig  # the trial's, with its seeds
    search_score: float
    stopped_at: int | None = None  # epochs after which the search gave the trial up

    @property
    def is_course(self) -> bool:
        return is_course(self.name)

    def run_folder(self, seed: int) -> str:
        """Where its run on ``seed`` lies, under confirm/."""
        return f"{self.name}-{seed}"

    def run_config(self, seed: int, num_threads: int) -> TrialConfig:
        """The recipe with everything that is random drawn anew."""
        return replace(self.config, seed=seed, split_seed=seed, cut_seed=seed, num_threads=num_threads)


def choose(trials: list[TrialRecord], top: int) -> list[Recipe]:
    """The recipes to confirm: the ``top`` of the ranking, best first, then the course's that are not among them.

    A trial that repeats an earlier one's recipe takes no place.

    Raises:
        UsageError: too few trials, or one of the course's, have ended well.
    """
    ended = [trial for trial in trials if trial.status in ("complete", "stopped") and trial.rows]
    ended.sort(key=lambda trial: (-(trial.score or 0.0), trial.number))
    names = [recipe.name for recipe in COURSE]
    course = [trial for trial in ended if trial.recipe in names]
    problems = [
        f"{name}: this trial of the study is unfinished or failed, so there is nothing to compare with; "
        "finish the study first"
        for name in names
        if name not in [trial.recipe for trial in course]
    ]
    ranked: list[TrialRecord] = []
    for trial in ended:
        if trial in course or not any(_same_recipe(trial, other) for other in [*course, *ranked]):
            ranked.append(trial)
    if len(ranked) < top:
        problems.append(f"--top {top} is more than the {len(ranked)} recipes whose trials have ended well")
    if problems:
        raise UsageError(problems)
    chosen = ranked[:top]
    chosen += sorted((trial for trial in course if trial not in chosen), key=lambda trial: trial.number)
    return [
        Recipe(
            run_name(trial.number, trial.recipe),
            trial.number,
            trial.config,
            trial.score or 0.0,
            len(trial.rows) if trial.status == "stopped" else None,
        )
        for trial in chosen
    ]


def _same_recipe(first: TrialRecord, second: TrialRecord) -> bool:
    one, other = (trial.config.of_roles("recipe", "protocol") for trial in (first, second))
    return one == other


def fresh_seeds(study_seed: int, num_seeds: int, trials: list[TrialRecord]) -> list[int]:
    """Seeds in [0, 2^32), none of them one of ``trials``; where more are asked for, the first stay the same."""
    configs = [trial.config for trial in trials]
    used = {seed for config in configs for seed in (config.seed, config.split_seed, config.cut_seed)}
    seeds: list[int] = []
    for index in count():
        seed = derive("confirmation_seed", study_seed, index) % 2**32  # ten digits: it stands in folders' names
        if seed not in used and seed not in seeds:
            seeds.append(seed)
        if len(seeds) == num_seeds:
            break
    return seeds


def mixed_runs(folder: Path, recipes: list[Recipe], seeds: list[int]) -> list[str]:
    """Runs on disk that are not of this study's recipes, a sentence each."""
    problems: list[str] = []
    for recipe, seed in ((recipe, seed) for seed in seeds for recipe in recipes):
        path = folder / recipe.run_folder(seed)
        found = attempt(problems, read_config, path) if (path / "config.json").exists() else None
        wanted = recipe.run_config(seed, 1)
        if found and found.of_roles(*KEPT) != wanted.of_roles(*KEPT):
            same_but_for_length = replace(found, epochs=wanted.epochs).of_roles(*KEPT) == wanted.of_roles(*KEPT)
            lengths = f"of {found.epochs} epochs at most, and the study's trials now have {wanted.epochs}"
            what = lengths if same_but_for_length else "of another recipe"
            problems.append(f"{path}: is a run {what}; move it away")
    return problems


class Runs:
    """Hands out the runs that are not complete, seed by seed, so that whatever is there is paired."""

    def __init__(self, ledger: Ledger, recipes: list[Recipe], seeds: list[int], num_threads: int) -> None:
        self.ledger, self.num_threads = ledger, num_threads
        self.latest = {trial.folder: trial for trial in ledger.trials.values()}
        self._wanted = [(recipe, seed) for seed in seeds for recipe in recipes]
        self._take_up_lost()
        self.left = [pair for pair in self._wanted if self._status(pair[0].run_folder(pair[1])) != "complete"]

    def _take_up_lost(self) -> None:
        """Enters the runs again that have results on disk and no entry in the journal, because it got lost."""
        folders = {pair: pair[0].run_folder(pair[1]) for pair in self._wanted}
        lost = [
            pair for pair, folder in folders.items() if self._status(folder) is None and self.ledger.has_rows(folder)
        ]
        for recipe, seed in lost:
            self.ledger.take_end(self._enter(recipe, seed).number)
        if lost:
            self.ledger.say(f"the journal of the runs lacked {len(lost)}; they are entered again from their folders")

    def _enter(self, recipe: Recipe, seed: int) -> Trial:
        folder = recipe.run_folder(seed)
        config = self.ledger.left_behind(folder) or recipe.run_config(seed, self.num_threads)
        self.latest[folder] = self.ledger.add(config, recipe.name, {}, {}, folder)
        return self.latest[folder]

    @property
    def num_new(self) -> int:
        """How many trials the ledger will get."""
        return sum(self._status(recipe.run_folder(seed)) != "running" for recipe, seed in self.left)

    @property
    def failures(self) -> list[str]:
        """A sentence for each run that has come to nothing."""
        latest = [self.latest.get(recipe.run_folder(seed)) for recipe, seed in self._wanted]
        return [f"{trial.folder} failed: {trial.reason}" for trial in latest if trial and trial.status == "failed"]

    def _status(self, folder: str) -> str | None:
        return self.latest[folder].status if folder in self.latest else None

    def next(self) -> Trial | None:
        """The next run; one that was interrupted, or failed the last time, goes on where it stopped."""
        if not self.left:
            return None
        recipe, seed = self.left[0]
        folder = recipe.run_folder(seed)
        if self._status(folder) != "running":
            self._enter(recipe, seed)
        del self.left[0]
        return self.latest[folder]
