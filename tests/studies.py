"""Studies without Ray: made-up ones, as a finished search leaves them, begun ones, and such as run in this process."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from study import confirm as confirm_command
from study import search
from study.confirmation import afterwards
from study.confirmation.plan import preflight as confirmation_preflight
from study.confirmation.runs import Runs
from study.execution import inline
from study.execution.plan import preflight
from study.execution.runner import Pause, Runner
from study.record import files
from study.record.entries import STATE, STUDY_NAME
from study.record.ledger import Ledger
from study.record.recipes import COURSE
from study.space import parameters
from study.strategy import scheduler
from study.strategy.searcher import Searcher
from trainable import metrics
from trainable.arguments import default_config
from trainable.config import TrialConfig

EVIL = "<img src=x onerror=alert(1)>"
CLASS_NAMES = [EVIL, "$\\alpha_{%{y}}", "cat", "dog"]
MINORITY = [0, 1]


def write(folder: Path, num_trials=12, num_epochs=6, num_images=300, class_names=tuple(CLASS_NAMES), seed=0):
    """A study with the course's two recipes, complete and stopped trials, and at the end a failed and a running one."""
    rng = np.random.default_rng(seed)
    searched = parameters.load(parameters.COURSE_SPACE)
    num_classes = len(class_names)
    labels = rng.integers(num_classes, size=num_images)
    counts = np.bincount(labels, minlength=num_classes)
    train_counts = [20 if index in MINORITY else 800 for index in range(num_classes)]
    folder.mkdir()
    counts = {"train": train_counts, "val": counts.tolist(), "test": None, "audit": [180] * 2 + [0] * (num_classes - 2)}
    minority = [class_names[index] for index in MINORITY]
    files.write_study(folder, asked(class_names, minority, counts, seed, num_epochs, num_trials))
    journal = [{"op_code": 0, "worker_id": "w", "study_name": STUDY_NAME, "directions": [2]}]
    for number in range(num_trials):
        status, reason = (
            ("complete", "epochs") if number < 2 or number % 3 else ("stopped", "stopped at 2: 7 of 21 were better")
        )
        if number >= num_trials - 2 and num_trials > 4:
            status, reason = [("failed", EVIL), ("running", "")][number - num_trials]
        values, recipe = _values(searched, rng), "searched"
        if number < 2:
            recipe, values = COURSE[number].name, COURSE[number].values
        config = TrialConfig(epochs=num_epochs, seed=number, **values)
        trial = folder / "trials" / str(number)
        trial.mkdir(parents=True)
        (trial / "config.json").write_text(json.dumps(config.to_dict()))
        length = {"complete": num_epochs, "stopped": max(1, num_epochs // 3), "failed": 0, "running": 2}[status]
        logits, f1 = _predict(labels, config, num_classes, rng)
        rows = _rows(length, f1, rng)
        (trial / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if status in ("complete", "stopped"):
            np.savez(trial / "validation.npz", labels=labels, logits=logits)
        journal += _entries(number, recipe, status, reason, rows)
    (folder / "study.journal").write_text("".join(json.dumps(entry) + "\n" for entry in journal))
    return folder


def asked(class_names, minority, counts=None, seed=0, epochs=6, trials=12):
    """The content of a study.json; ``counts`` are the images of each class in each part."""
    counts = counts or {part: [9] * len(class_names) for part in ("train", "val", "audit")} | {"test": None}
    return {
        "name": EVIL,
        "data": {"data": "digits", "data_dir": "data", "cache_dir": "cache", "image_size": 16, "minority": minority,
                 "keep": 0.1, "val_fraction": 0.2, "seed": seed, "own_test": False},
        "fingerprint": "0" * 64, "class_names": list(class_names), "minority": minority, "class_counts": counts,
        "config": default_config("digits", seed, epochs=epochs).to_dict(), "seed": seed, "epochs": epochs,
        "trials": trials,
        "space": parameters.to_tables(parameters.load(parameters.COURSE_SPACE)), "algorithm": "random",
        "scheduler": "asha", "gpus": 0, "gpus_per_trial": 0.0, "cpus_per_trial": 1,
        "invocations": [{"time": "2026-01-01T00:00:00", "command": f"python -m study.search --name '{EVIL}'"}],
    }  # fmt: skip


def _values(searched, rng):
    values = {}
    for parameter in searched:
        if parameter.active(values):
            values[parameter.name] = parameter.at(float(rng.random()))
    return values


def _predict(labels, config, num_classes, rng):
    """float16 logits (n, num_classes) that are better with less dropout and the weighted sampler, and their F1s."""
    logits = rng.standard_normal((len(labels), num_classes)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 2.2 - 1.5 * config.dropout + 0.2 * rng.standard_normal()
    logits[:, MINORITY] -= 0.2 if config.sampler == "weighted" else 0.9
    logits = logits.astype(np.float16)
    predictions = logits.astype(np.float32).argmax(axis=1)
    return logits, metrics.f1_per_class(metrics.confusion_matrix(labels, predictions, num_classes))


def _rows(length, f1, rng):
    """The epoch before the last is the best, of ``f1``."""
    best_epoch, score = max(1, length - 1), float(f1[MINORITY].mean())
    rows = []
    for epoch in range(1, length + 1):
        share = 1.0 if epoch == best_epoch else 0.5 + 0.4 * epoch / length
        done = min(epoch, best_epoch)
        rows.append(
            {
                "epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 0.6,
                "val_loss": 1.2 / epoch + 0.1 * rng.random(), "val_accuracy": 0.5 * share,
                "minority_f1": score * share, "macro_f1": float(f1.mean()) * share,
                "f1": (f1 * share).tolist(), "minority_f1_adjusted": min(1.0, score * share * 1.05),
                "best_minority_f1": score * (1.0 if done == best_epoch else 0.5 + 0.4 * done / length),
                "best_epoch": done, "learning_rate": 1e-3, "num_train_images": 1640, "train_seconds": 2.0,
                "val_seconds": 0.5,
            }
        )  # fmt: skip
    return rows


def row(epoch, best, **more):
    """An epoch's row of a trial with two classes, of which only the scores matter."""
    return {
        "epoch": epoch, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5,
        "minority_f1": best, "macro_f1": best, "f1": [best, 0.9], "minority_f1_adjusted": best,
        "best_minority_f1": best, "best_epoch": epoch, "learning_rate": 1e-3, "num_train_images": 100,
        "train_seconds": 1.0, "val_seconds": 0.5, **more,
    }  # fmt: skip


def _entries(number, recipe, status, reason, rows):
    """A trial's lines in Optuna's journal."""
    time = "2026-01-01T00:00:00.000000+00:00"
    entries = [{"op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": time, "state": 0, "value": None,
                "values": None, "distributions": {}, "params": {}, "user_attrs": {"recipe": recipe},
                "system_attrs": {}, "intermediate_values": {}}]  # fmt: skip
    entries += [{"op_code": 7, "worker_id": "w", "trial_id": number, "step": row["epoch"],
                 "intermediate_value": row["best_minority_f1"]} for row in rows]  # fmt: skip
    if status != "running":
        values = [rows[-1]["best_minority_f1"]] if status == "complete" else None
        entries.append({"op_code": 8, "worker_id": "w", "trial_id": number, "user_attr": {"reason": reason}})
        entries.append({"op_code": 6, "worker_id": "w", "trial_id": number, "state": STATE[status].value,
                        "values": values, "datetime_complete": time})  # fmt: skip
    return entries


def confirm(folder: Path, num_trials=11, opened=True, low=0.05, on_test=None):
    """A confirm.json beside it: trial 2 and the course's recipes on three seeds."""
    scores = {
        "trial-2": [0.70, 0.72, 0.71],
        "course-shuffled": [0.50, 0.51, 0.49],
        "course-weighted": [0.6, 0.63, 0.62],
    }
    interval = {"estimate": 0.1, "low": low, "high": 0.15}
    test = {"opened": "2026-02-02T00:00:00", "reopened": [{"time": "2026-02-03", "reason": EVIL}], "recipes": {
        name: {"scores": own, "scores_adjusted": own, "scores_offsets": own,
               "mean": own[0], "low": own[0] - 0.02, "high": own[0] + 0.02,
               "confusion": [[1]]} | (on_test or {}) for name, own in scores.items()},
        "differences": [{"first": "trial-2", "second": other, "estimate": 0.2, "low": -0.01, "high": 0.4,
                         "adjusted": interval} for other in ("course-shuffled", "course-weighted")]}  # fmt: skip
    content = {
        "format": 1, "study": "x", "time": "2026-02-02T00:00:00", "top": 1, "epochs": 6, "seeds": [1, 2, 3],
        "optimistic": True, "optimistic_reason": "the search chose by the same val/", "num_trials": num_trials,
        "recipes": [
            {"name": name, "trial": number, "config": {}, "search_score": own[0] + 0.05, "scores": own,
             "scores_adjusted": own, "mean": sum(own) / 3, "low": min(own), "high": max(own), "val_recall": own,
             "audit_recall": None}
            for number, (name, own) in zip([2, 0, 1], scores.items(), strict=True)
        ],
        "differences": [{"first": first, "second": second, **interval, "adjusted": interval}
                        for first, second in [("trial-2", "course-shuffled"), ("trial-2", "course-weighted"),
                                              ("course-weighted", "course-shuffled")]],
        "winner": "trial-2",
        "confirmed": {"chosen": ["trial-2"] * 3, "scores": scores["trial-2"], "estimate": 0.71, "low": 0.69,
                      "high": 0.73},
        "test": test if opened else None,
    }  # fmt: skip
    (folder / "confirm.json").write_text(json.dumps(content))


def begin(*arguments):
    """The study that the command's arguments ask for, as an interruption before its first trial leaves it: its plan."""
    parser = search._parser()
    plan = preflight(parser.parse([str(argument) for argument in arguments]), parser.problems, "python -m study.search")
    plan.folder.mkdir(parents=True, exist_ok=True)
    Ledger(plan.folder, plan.record()).close()
    return plan


def finish(plan):
    """Runs it to its end in this process, one trial after the other, wherever Ray is not the point."""
    num_threads = torch.get_num_threads()
    ledger = Ledger(plan.folder, keeps_last=plan.keeps_last)
    source = Searcher(ledger, plan.space, plan.base, plan.algorithm, plan.num_trials, plan.known.recipes)
    inline.run(Runner(ledger, source, scheduler.make(plan.scheduler, plan.epochs_of_scheduler), Pause(None)), plan.pool)
    ledger.close()
    torch.set_num_threads(num_threads)


def begin_confirmation(folder, *arguments):
    """The confirmation of a study that the command's arguments ask for, before its first run: its plan."""
    parser = confirm_command._parser()
    given = parser.parse([str(folder), *map(str, arguments)])
    return confirmation_preflight(given, parser.problems, "python -m study.confirm")


def begin_afterwards(folder, flag, *more):
    """What ``study.confirm`` with ``flag`` does once a winner is there, before it does it: its plan."""
    parser = confirm_command._parser()
    given = parser.parse([str(folder), flag, *more])
    return afterwards.preflight(given, flag, parser.problems, "python -m study.confirm")


def train(plan, num_epochs=None):
    """Runs what is missing in this process, one run after the other; interrupted once there are ``num_epochs``."""
    num_threads = torch.get_num_threads()
    plan.runs_folder.mkdir(exist_ok=True)
    ledger, pause = Ledger(plan.runs_folder, plan.record()), Pause(None)

    def on_change(trial):
        pause.interrupted = sum(len(run.best) for run in ledger.trials.values()) == num_epochs

    runner = Runner(ledger, Runs(ledger, plan.recipes, plan.seeds, 1), scheduler.Never(), pause, on_change)
    inline.run(runner, plan.pool)
    ledger.close()
    torch.set_num_threads(num_threads)


def write_photos(folder, counts):
    """Pictures of 16×16 that are all different, so many in a sub-folder for each class."""
    rng = np.random.default_rng(0)
    for name, number in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(number):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / name / f"{index:02d}.png")


def model(config, class_names, image_size, **more):
    """The content of a model.json of a winner that needs no normalisation and no offsets."""
    return {
        "format": 1, "study": "made up", "rule": "none", "recipe": "course-shuffled", "seed": 0,
        "config": config.to_dict(), "class_names": class_names, "minority": class_names[:1], "image_size": image_size,
        "mean": [0.0] * 3, "std": [1.0] * 3, "offsets": [0.0] * len(class_names), "offsets_tau": 0.0,
        "offsets_gain": 0.0, "validation": {"minority_f1": 0.5, "minority_f1_with_offsets": 0.5}, **more,
    }  # fmt: skip
