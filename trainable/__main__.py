"""python -m trainable: one trial, here, without Ray; also replays a study's trial and compares it row by row."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from trainable import options
from trainable.arguments import PLACES, add_data_flags, add_precision_flag, data_spec, default_config, moved, num_cores
from trainable.cli import EXIT_FAILED, Parser, UsageError, attempt, fail, file_path, positive_int, seed
from trainable.command import command, output_is_essential
from trainable.config import FIELDS, TrialConfig, parse_assignments
from trainable.images import origins
from trainable.replay import _Comparison, _read_trial

if TYPE_CHECKING:
    from trainable.images.pool import DataSpec, Pool
    from trainable.objectives import Objective
    from trainable.report import Row


@command("trainable")
def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse(argv)
    problems = parser.problems
    stored: list[Row] | None = None
    fingerprint: str | None = None
    precision = ""
    study_on_gpu: bool | None = None
    if arguments.replay is not None:
        if asked := parser.given - {"replay", "json", *PLACES}:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(asked))
            problems.append(f"--replay takes everything from the study, so {flags} cannot be given with it")
        found = attempt(problems, _read_trial, arguments.replay)
        if found is None:
            fail(parser.prog, problems)
        recorded, config, stored, fingerprint, study_on_gpu = found
        for name in set(PLACES) - parser.given:
            setattr(arguments, name, None)
        spec = attempt(problems, moved, recorded, arguments)
    else:
        spec = attempt(problems, data_spec, arguments)
        given = attempt(problems, parse_assignments, arguments.set) or {}
        problems += [
            f"--{name} and --set {name} say the same; one of them is enough"
            for name in ("precision", "epochs")
            if name in given and name in parser.given
        ]
        precision = given.get("precision", arguments.precision or "auto")
        base = {"num_threads": num_cores(), "epochs": arguments.epochs or origins.origin(arguments.data).epochs}
        if precision != "auto":
            base["precision"] = precision
        config = attempt(problems, lambda: default_config(arguments.data, arguments.seed, **{**base, **given}))

    pool = _load(spec, config, problems) if spec else None
    if pool is None or config is None:
        fail(parser.prog, problems)

    from trainable.images.splits import check_split, count_lines, split  # numpy: not for --help

    drawn = split(pool, config.split_seed, config.cut_seed)
    problems, warnings = check_split(pool, drawn)
    if fingerprint not in (None, pool.fingerprint):
        problems.append(f"--replay: the images of {spec.data} are no longer those of the study")
    if problems:
        fail(parser.prog, problems)

    if stored is None:  # a replay's verdict is its exit status
        output_is_essential()
    say = (lambda text: print(text, file=sys.stderr)) if arguments.json else print
    say("\n".join([*count_lines(pool, drawn), pool.minority_line, *warnings]))
    has_gpu = _has_gpu(study_on_gpu)
    if precision == "auto":
        config = _settled(pool, config, has_gpu, say)
    return _run(pool, config, stored, has_gpu, arguments.json)


def _parser() -> Parser:
    fields = "the fields of a trial's config, for --set:\n" + options.describe(FIELDS)
    parser = Parser("trainable", "Trains one trial here, without Ray, and prints a row for each epoch.", fields)
    add_data_flags(parser)
    group = parser.add_argument_group("trial")
    epochs = f"epochs at most (default: {origins.words('epochs')})"
    group.add_argument("--epochs", type=positive_int, default=None, help=epochs)
    add_precision_flag(group, "auto")
    group.add_argument("--seed", type=seed, default=0, help="draws everything: test, validation, cut, the training")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a field of the trial's config, repeatable; the fields are listed below",
    )
    group.add_argument(
        "--replay",
        type=file_path,
        default=None,
        metavar="results/NAME/trials/N",
        help="run a study's trial again and compare: exit 0 if nothing differs, else 1; --data says where its images "
        "lie, if they have moved",
    )
    group.add_argument(
        "--json", action="store_true", help="one JSON object for each epoch on standard output and nothing else"
    )
    return parser


def _load(spec: "DataSpec", config: TrialConfig | None, problems: list[str]) -> "Pool | None":
    """The images; None where there are ``problems`` already, or some are found and added to them.

    Before anything is decoded, or downloaded, all else has been looked at.
    """
    from trainable import objectives
    from trainable.images import loading
    from trainable.images.splits import check_split, split

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    def look(pool: "Pool") -> None:
        found = check_split(pool, split(pool, config.split_seed, config.cut_seed))[0] if config else []
        found += objectives.problems(config.objective, len(pool.class_names)) if config else []
        if config and not problems and not found:
            from trainable.learner import check_network  # torch: not for what is refused without

            for note in check_network(config, len(pool.class_names), pool.spec.image_size):
                say(note)
        if problems or found:
            raise UsageError(found)

    pool: Pool | None = attempt(problems, loading.load, spec, say, look)
    return pool


def _has_gpu(study_on_gpu: bool | None) -> bool:
    """Whether to run on a GPU: where there is one, but a study's trial only where the study did."""
    import torch

    if study_on_gpu and not torch.cuda.is_available():
        print("note: the study ran on a GPU and this machine has none: rows will differ", file=sys.stderr)
    return torch.cuda.is_available() and study_on_gpu is not False


def _settled(pool: "Pool", config: TrialConfig, has_gpu: bool, say: Callable[[str], None]) -> TrialConfig:
    """``config`` in the precision that is the faster one here."""
    import torch

    from trainable.probe import probe

    choice = probe(config, len(pool.class_names), pool.spec.image_size, torch.device("cuda" if has_gpu else "cpu"))
    say(f"{choice.precision}: {choice.reason}")
    return replace(config, precision=choice.precision)


def _run(pool: "Pool", config: TrialConfig, stored: "list[Row] | None", has_gpu: bool, as_json: bool) -> int:
    import torch
    from tqdm import tqdm

    from trainable import loop, objectives
    from trainable.images.trial import trial_images
    from trainable.metrics import class_report, confusion_matrix

    device = torch.device("cuda" if has_gpu else "cpu")
    images = trial_images(pool, config.split_seed, config.cut_seed, device)
    objective = objectives.named(config.objective)
    state = loop.new_state(config, images)
    rows = loop.run(state, images)
    total = config.epochs if stored is None else len(stored)
    compare = _Comparison(stored, exact=device.type == "cpu")
    with tqdm(total=total, unit=" epoch", disable=None, leave=False) as progress:
        try:
            for row in rows:
                progress.update()
                if as_json:
                    print(json.dumps(row), flush=True)
                else:
                    tqdm.write(_line(row, config.epochs, objective))
                if not compare.same(row) or row["epoch"] == len(stored or []):
                    break
        except loop.DivergedError as error:
            print(f"the trial failed: {error}", file=sys.stderr)
            return EXIT_FAILED
    if not as_json:
        labels = images.labels[images.val].numpy()
        predictions = objective.decide(state.best["logits"].float().numpy())
        confusion = confusion_matrix(labels, predictions, images.num_classes)
        print(f"\nepoch {state.rows[-1]['best_epoch']}, the best by {objective.words} on validation (* minority):")
        print(class_report(confusion, pool.class_names, pool.minority))
    return compare.verdict(len(state.rows))


def _line(row: "Row", epochs: int, objective: "Objective") -> str:
    return (
        f"epoch {row['epoch']:3d}/{epochs}  "
        f"train loss {row['train_loss']:.4f} acc {row['train_accuracy']:.3f}  "
        f"val loss {row['val_loss']:.4f} acc {row['val_accuracy']:.3f}  "
        f"{objective.words} {row[objective.name]:.4f} (best {row[objective.best]:.4f})  "
        f"{row['train_seconds'] + row['val_seconds']:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
