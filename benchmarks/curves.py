"""python -m benchmarks.curves FILE: records the learning curves that the test bed of study.simulate is fitted to.

Trains the course's recipes and random ones of the default space, each with several seeds, every epoch of them (no
early stopping), a trial on each core.
"""

import dataclasses
import multiprocessing
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import harness
from study.record import environment
from study.record.ledger import Ledger
from study.space import parameters
from study.strategy.searcher import Searcher
from trainable import objectives
from trainable.arguments import add_data_flags, add_precision_flag, data_spec, default_config, num_cores
from trainable.cli import Parser, UsageError, fail, one_of, positive_int, seed
from trainable.config import OBJECTIVES, TrialConfig
from trainable.images import loading
from trainable.images.pool import DataSpec
from trainable.streams import derive

_pool: Any = None  # of a worker process: its images


def main() -> int:
    parser = Parser("benchmarks.curves", "Records learning curves for the test bed of study.simulate.")
    add_data_flags(parser)
    parser.add_argument("file", type=Path, help="the table to write")
    parser.add_argument("--configs", type=positive_int, default=200, help="the course's two recipes among them")
    parser.add_argument("--epochs", type=positive_int, default=20)
    parser.add_argument("--seeds", type=positive_int, default=2, help="trainings of each config")
    parser.add_argument("--objective", type=one_of(OBJECTIVES), default=TrialConfig.objective, help="its curves")
    parser.add_argument("--seed", type=seed, default=0, help="draws the splits, the cut and the configs")
    add_precision_flag(parser.add_argument_group("precision"), "auto")
    arguments = parser.parse(None)
    try:
        spec = data_spec(arguments)
    except UsageError as error:
        parser.problems.extend(error.problems)
    if parser.problems:
        fail(parser.prog, parser.problems)
    base = default_config(
        spec.data, arguments.seed, epochs=arguments.epochs, patience=arguments.epochs, objective=arguments.objective
    )
    try:
        base = harness.settled(base, arguments.precision, loading.load(spec))
    except UsageError as error:  # of the images themselves, which are looked at last
        fail(parser.prog, error.problems)
    configs = _configs(base, arguments.configs)
    jobs = [
        (number, index, dataclasses.replace(config, seed=derive("trial_seed", config.seed, index)))
        for number, config in enumerate(configs)
        for index in range(arguments.seeds)
    ]
    lines = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(num_cores(), _open, (spec,)) as workers, tqdm(total=len(jobs), unit=" trainings") as progress:
        for line in workers.imap_unordered(_train, jobs):
            lines.append(line)
            progress.update()
    names = [parameter.name for parameter in parameters.load(parameters.COURSE_SPACE)]
    epochs = [f"{name}_{epoch}" for name in _measured(base) for epoch in range(1, arguments.epochs + 1)]
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions().items())
    head = [
        "# the objective on validation after each epoch, for study.simulate, the same adjusted, and the loss; made by",
        f"# python -m benchmarks.curves {shlex.join(sys.argv[1:])}",
        f"# commit {environment.commit()}; {versions}",
        ",".join(["config", "seed", "objective", *names, "epoch_seconds", *epochs]),
    ]
    arguments.file.write_text("\n".join([*head, *(text for _, text in sorted(lines))]) + "\n")
    return 0


def _measured(config: TrialConfig) -> dict[str, str]:
    """The columns' names, before the epoch's number, and those of a row."""
    objective = objectives.named(config.objective)
    return {"epoch": objective.name, "adjusted": objective.adjusted, "loss": "val_loss"}


def _configs(base: TrialConfig, number: int) -> list[TrialConfig]:
    searcher = Searcher(Ledger(None), parameters.load(parameters.COURSE_SPACE), base, "random", number)
    return [trial.config for _ in range(number) if (trial := searcher.next()) is not None]


def _open(spec: DataSpec) -> None:
    global _pool
    _pool = loading.load(spec, say=lambda text: None)


def _train(job: tuple[int, int, TrialConfig]) -> tuple[tuple[int, int], str]:
    import torch

    from trainable import loop
    from trainable.images.trial import trial_images

    number, index, config = job
    images = trial_images(_pool, config.split_seed, config.cut_seed, torch.device("cpu"))
    measured = _measured(config)
    curves: dict[str, list[float]] = {name: [] for name in measured}
    seconds: list[float] = []
    try:
        for row in loop.run(loop.new_state(config, images), images):
            for name, column in measured.items():
                curves[name].append(row[column])
            seconds.append(row["train_seconds"] + row["val_seconds"])
    except loop.DivergedError:  # it stays where it was
        for values in curves.values():
            values += [values[-1] if values else 0.0] * (config.epochs - len(values))
    fields = config.to_dict()
    searched = [fields[parameter.name] for parameter in parameters.load(parameters.COURSE_SPACE)]
    values_of_all = [f"{value:.4g}" for values in curves.values() for value in values]
    cells = [number, index, config.objective, *searched, f"{statistics.median(seconds or [0.0]):.4f}", *values_of_all]
    return (number, index), ",".join(f"{c:.6g}" if isinstance(c, float) else str(c) for c in cells)


if __name__ == "__main__":
    sys.exit(main())
