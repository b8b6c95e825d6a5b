"""A confirmation that may start: everything is checked here, and nothing written."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.confirmation.runs import Recipe, choose, fresh_seeds, mixed_runs
from study.execution.cluster import room_problems
from study.execution.machine import Resources, machine_resources
from study.record import environment, files
from study.record.confirmation import Confirmation
from study.record.formats import Study
from study.record.lock import check_unlocked
from trainable.arguments import moved
from trainable.cli import UsageError, attempt, shown
from trainable.files import check_writable
from trainable.images import loading
from trainable.images.pool import Pool, SealedImages
from trainable.learner import check_network


@dataclass(frozen=True)
class ConfirmationPlan:
    """A confirmation that may start: everything checked, nothing written yet."""

    folder: Path  # the study's
    study: Study
    pool: Pool
    test: SealedImages
    recipes: list[Recipe]  # the best first, then those of the course that are not among them
    seeds: list[int]
    top: int
    num_trials: int  # of the study, that have ended
    resources: Resources
    reopen_reason: str | None
    command: str
    before: Confirmation | None  # confirm.json

    @property
    def runs_folder(self) -> Path:
        return self.folder / "confirm"

    @property
    def is_trained(self) -> bool:
        """Whether all runs have left what they leave at their end."""
        folders = [self.runs_folder / recipe.run_folder(seed) for recipe in self.recipes for seed in self.seeds]
        return all((folder / name).exists() for folder in folders for name in ("best.pt", "validation.npz"))

    def check_again(self) -> None:
        """What was found in the folder must still be there: to be called under the study's lock.

        Raises:
            UsageError: another command was at the study meanwhile.
        """
        study = files.read_study(self.folder)
        trials = files.read_trials(self.folder, study)
        found = (study, files.read_confirmation(self.folder), choose(trials, self.top), files.num_ended(trials))
        if found != (self.study, self.before, self.recipes, self.num_trials):
            raise UsageError(
                [f"{self.folder}: another command was at this study meanwhile; the same command checks it anew"]
            )

    def record(self) -> dict[str, Any]:
        """What goes into confirm/study.json: what was asked last, and of what machine."""
        return {
            "name": self.folder.name,
            "time": now(),
            "command": self.command,
            "recipes": [recipe.name for recipe in self.recipes],
            "seeds": self.seeds,
            **self.resources.to_dict(),
            **environment.record(),
        }


def now() -> str:
    """The time in ISO format, with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def open_study(arguments: argparse.Namespace, problems: list[str]) -> tuple[Path, Study]:
    """The study's folder, and its study.json; a process that is at it is added to ``problems``.

    Raises:
        UsageError: there is no study that could be looked at any further, ``problems`` first.
    """
    folder = arguments.folder.absolute()
    study = attempt(problems, files.read_study, folder)
    if study is None:
        raise UsageError(problems)
    attempt(problems, check_unlocked, folder)
    return folder, study


def preflight(arguments: argparse.Namespace, problems: list[str], command: str) -> ConfirmationPlan:
    """Checks everything before anything starts; loads the test images, too, as hours later is late to miss them.

    Raises:
        UsageError: everything that is wrong, ``problems`` first.
    """
    problems = list(problems)
    folder, study = open_study(arguments, problems)
    before = attempt(problems, files.read_confirmation, folder)
    problems += _seal_problems(before, arguments.reopen_test)
    trials = attempt(problems, files.read_trials, folder, study)
    recipes = attempt(problems, choose, trials, arguments.top) if trials is not None else None
    if recipes is not None:
        seeds = fresh_seeds(study.seed, arguments.seeds, trials)
        problems += mixed_runs(folder / "confirm", recipes, seeds)
    attempt(problems, check_writable, folder, "folder")
    resources = attempt(problems, machine_resources, arguments, folder)
    pool = attempt(problems, load_pool, study, arguments, problems, recipes or (), resources)
    if pool is None or recipes is None:
        raise UsageError(problems)
    test = _load_test(pool)
    return ConfirmationPlan(
        folder=folder,
        study=study,
        pool=pool,
        test=test,
        recipes=recipes,
        seeds=seeds,
        top=arguments.top,
        num_trials=files.num_ended(trials),
        resources=resources,
        reopen_reason=arguments.reopen_test,
        command=command,
        before=before,
    )


def _seal_problems(before: Confirmation | None, reopen_reason: str | None) -> list[str]:
    opened = before.test.opened if before and before.test else None
    if opened is None:
        return [] if reopen_reason is None else ["--reopen-test: the test images have not been opened yet"]
    if reopen_reason is None:
        looked = f"the test images were opened on {opened}, and every further look makes their score less honest"
        return [f"{looked}; --reopen-test REASON opens them again, and the reason is recorded"]
    is_text = reopen_reason.strip() and reopen_reason.encode(errors="replace").decode() == reopen_reason
    return [] if is_text else [f"--reopen-test must give a reason, in UTF-8, not {shown(reopen_reason)}"]


def load_pool(
    study: Study,
    arguments: argparse.Namespace,
    known: Sequence[str],
    recipes: Sequence[Recipe] = (),
    resources: Resources | None = None,
) -> Pool:
    """The study's images; they are not decoded where there are problems already, those ``known`` or in their numbers.

    Raises:
        UsageError: they are not those of the study, or there are problems already.
    """

    def look(pool: Pool) -> None:
        before, now = study.class_counts.test, pool.test_counts
        found = []
        if before and now and list(now) != before:
            numbers = f"{sum(now)}, {sum(before)} when it began"
            found = [f"the test images of {pool.spec.data} are no longer those of the study: {numbers}"]
        found += room_problems(resources.nodes if resources else (), len(pool.labels), pool.spec.image_size)
        for recipe in recipes:  # the weights that they start from may be gone
            attempt(found, check_network, recipe.config, len(pool.class_names), pool.spec.image_size)
        if known or found:
            raise UsageError(found)

    pool = loading.load(moved(study.data.spec, arguments), print, look)
    if pool.fingerprint != study.fingerprint:
        raise UsageError([f"the images of {pool.spec.data} are no longer those of the study"])
    return pool


def _load_test(pool: Pool) -> SealedImages:
    test = loading.load_test(pool)
    missing = [pool.class_names[name] for name in pool.minority if not (test.labels == name).any()]
    if missing:
        raise UsageError([f"class {name}: no test image, so its F1 on them cannot be told" for name in missing])
    return test
