"""The study as it runs: a live table in a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.execution.pace import epochs_left
from study.record.design import is_protected
from study.record.ledger import Ledger
from study.record.recipes import recipe_table, trial_name
from study.record.trial import Trial
from study.space.parameters import Space
from study.words import count, duration
from trainable.cli import printable
from trainable.objectives import Objective

MAX_FINISHED_SHOWN = 8
SCORES_WIDTH = 52  # of the columns before the recipe's


class Display:
    """Shows a ledger's progress; ``on_change`` is called after each entry.

    ``are_named``: the trials go by their folders' names, and which of them is best says nothing.
    """

    def __init__(
        self,
        ledger: Ledger,
        space: Space,
        num_trials: int,
        epochs: int,
        num_slots: int,
        objective: Objective,
        are_named: bool = False,
    ) -> None:
        self.space, self.objective, self.are_named = space, objective, are_named
        self.ledger, self.num_trials, self.epochs, self.num_slots = ledger, num_trials, epochs, num_slots
        self.console = Console(highlight=False)
        self._start = time.monotonic()
        self._num_epochs_before = self._num_epochs()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While this is open, a terminal shows the live table."""
        if not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=self._table, console=self.console, refresh_per_second=4):
            yield

    def say(self, text: str) -> None:
        """A line of its own, above the live table."""
        self.console.print("\n".join(map(printable, text.split("\n"))), markup=False, soft_wrap=True)

    def on_change(self, trial: Trial) -> None:
        if self.console.is_terminal:
            return  # the live table redraws itself
        if trial.status != "running":
            best = f"best {self.objective.words} {trial.best[-1]:.4f}" if trial.best else "no epoch"
            length = count(len(trial.best), "epoch")
            self.say(f"{self._name(trial)}: {trial.status} after {length} ({trial.reason}), {best}")
            self.say(self._progress())
        elif trial.row is not None:
            own = f"{self.objective.words} {trial.row[self.objective.name]:.4f}"
            scores = f"val loss {trial.row['val_loss']:.4f} {own}"
            self.say(f"{self._name(trial)}: epoch {trial.row['epoch']}/{trial.config.epochs} {scores}")

    def _name(self, trial: Trial) -> str:
        return trial.folder if self.are_named else f"trial {trial.number}"

    def _table(self) -> RenderableType:
        trials = list(self.ledger.trials.values())
        running = [trial for trial in trials if trial.status == "running"]
        ended = sorted((t for t in trials if t.status != "running"), key=lambda t: -(t.best[-1] if t.best else -1))
        table = Table(box=None, pad_edge=False, expand=False)
        shown = running + ended[:MAX_FINISHED_SHOWN]
        recipes = recipe_table(
            [trial.config.to_dict() for trial in shown], self.space, self.console.width - SCORES_WIDTH, 2
        )
        for name in ("trial", "status", "epoch", self.objective.head, "best", "val loss", *recipes):
            table.add_column(name, justify="left" if name in ("status", "sampler") else "right", no_wrap=True)
        for index, trial in enumerate(shown):
            row = trial.row or {}
            table.add_row(
                trial.folder if self.are_named else trial_name(trial.number, trial.recipe),
                trial.status,
                f"{len(trial.best)}/{trial.config.epochs}",
                f"{row[self.objective.name]:.4f}" if row else "",
                f"{trial.best[-1]:.4f}" if trial.best else "",
                f"{row['val_loss']:.4f}" if row else "",
                *(column[index] for column in recipes.values()),
            )
        return Group(Text(self._progress(), style="bold"), table)

    def _progress(self) -> str:
        trials = self.ledger.trials.values()
        num_ended = sum(trial.status != "running" for trial in trials)
        best = max((trial.best[-1] for trial in trials if trial.best), default=None)
        parts = [
            f"{num_ended} of {self.num_trials} {'runs' if self.are_named else 'trials'}",
            f"{self._num_epochs()} epochs",
            f"{duration(time.monotonic() - self._start)} so far",
        ]
        if best is not None and not self.are_named:
            parts.append(f"best {self.objective.words} {best:.4f} (search score)")
        left = self._seconds_left()
        if left:  # None: not known yet
            parts.append(f"about {duration(left)} left")
        return " · ".join(parts)

    @property
    def num_new_epochs(self) -> int:
        """How many epochs have ended since this was made."""
        return self._num_epochs() - self._num_epochs_before

    def _num_epochs(self) -> int:
        return sum(len(trial.best) for trial in self.ledger.trials.values())

    def _seconds_left(self) -> float | None:
        """From the mean pace so far and what is known of the trials' lengths."""
        num_new = self.num_new_epochs
        if num_new < 3:
            return None
        trials = self.ledger.trials.values()
        in_full = (lambda number: True) if self.are_named else is_protected
        left = epochs_left(trials, self.num_trials, self.epochs, self.num_slots, in_full)
        return left * self.num_slots * (time.monotonic() - self._start) / num_new
