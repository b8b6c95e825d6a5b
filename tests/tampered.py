"""A small study with all the files that commands leave, ways to damage them, and the commands that read them."""

import copy
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import torch

from study import confirm, search
from study.confirmation import plan as confirmation_plan
from study.execution import plan as study_plan
from study.execution.machine import Resources
from study.record.ledger import Ledger
from study.space import parameters
from study.statistics import importance
from study.strategy.searcher import Searcher
from tests import studies
from trainable import checkpoint, loop, replay
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.images import loading
from trainable.images.pool import SealedImages
from trainable.images.trial import trial_images

NAMES = [str(digit) for digit in range(10)]
RESOURCES = Resources(num_slots=1, cpus_per_trial=1, gpus_per_trial=0.0, gpus=0)
RUNNING = 5  # a trial that goes on from its last.pt
JSON_FILES = (
    "study.json",
    "confirm.json",
    "winner/model.json",
    "winner/mistakes.json",
    "winner/looks.json",
    "trials/2/config.json",
)
LINE_FILES = ("study.journal", "trials/2/epochs.jsonl", "trials/5/epochs.jsonl")
ARCHIVES = ("trials/2/validation.npz", "trials/5/last.pt", "winner/weights.pt", "trials/5/best.pt")
FILES = (*JSON_FILES, *LINE_FILES, *ARCHIVES)
SUFFIXES = (".npz", ".pt")


def write(folder, pool):
    """The study, of the digits in ``pool``; its trials were never trained."""
    studies.write(folder, num_trials=6, num_epochs=4, num_images=60, class_names=NAMES)
    studies.confirm(folder, num_trials=6)
    asked = json.loads((folder / "study.json").read_text())
    asked |= {"data": pool.spec.to_dict(), "fingerprint": pool.fingerprint, "minority": list(pool.spec.minority)}
    asked["class_counts"]["test"] = list(pool.test_counts)
    (folder / "study.json").write_text(json.dumps(asked))
    trial = folder / f"trials/{RUNNING}"
    config = TrialConfig.from_dict(json.loads((trial / "config.json").read_text()))
    images = trial_images(pool, config.split_seed, config.cut_seed, torch.device("cpu"))
    state = loop.new_state(config, images)
    state.rows = [json.loads(line) for line in (trial / "epochs.jsonl").read_text().splitlines()]
    labels = images.labels[images.val]
    state.predictions = [torch.stack([labels, labels]).to(torch.uint8)] * len(state.rows)
    state.best = {"model": state.learner.model.state_dict(), "logits": torch.zeros(len(labels), 10).half()}
    parameters_of = state.learner.optimizer.param_groups[0]["params"]
    state.learner.optimizer.state |= {
        parameter: {"step": torch.tensor(1.0), "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter)} for parameter in parameters_of}  # fmt: skip
    checkpoint.save(state, images, trial / "last.pt")
    checkpoint.finish(trial)
    (trial / "validation.npz").unlink()  # else it would look as if it had ended
    winner = folder / "winner"
    winner.mkdir()
    shutil.copy(trial / "best.pt", winner / "weights.pt")
    (winner / "model.json").write_text(json.dumps(studies.model(config, NAMES, 16)))
    mistakes = [{"label": "0", "predicted": "1", "probability": 0.9, "png": "aGFsbG8="}]
    (winner / "mistakes.json").write_text(json.dumps(mistakes))
    looks = {"activations": [mistakes[0] | {"heat": "aGFsbG8="}], "filters": "", "suspects": mistakes}
    (winner / "looks.json").write_text(json.dumps(looks))
    return folder


class Commands:
    """What each command does with a study before it writes, trains or asks Ray; each refuses with sentences or works.

    The images are those of ``pool``, whichever a study asks for.
    """

    def __init__(self, pool, monkeypatch):
        self.pool, self.with_page = pool, True
        # they take as long as everything else, and see nothing but the ranking's table
        monkeypatch.setattr(importance, "importances", lambda *arguments, **more: {})
        monkeypatch.setattr(loading, "load", self._load)
        monkeypatch.setattr(loading, "load_test", lambda pool: SealedImages(None, pool.labels))
        for plan in (study_plan, confirmation_plan):
            monkeypatch.setattr(plan, "machine_resources", lambda *given: RESOURCES)

    def _load(self, spec, say=print, look=lambda pool: None):
        look(self.pool)
        return self.pool

    def analyze(self, folder):
        from study.findings import ranking, summary
        from study.report import page

        ranked = ranking.rank(folder)
        found = summary.find(ranked, folder)
        assert ranked.lines() + found.lines()
        if self.with_page:
            assert page.page(found)

    def confirm(self, folder):
        parser = confirm._parser()
        arguments = parser.parse([str(folder), "--top", "1", "--seeds", "2", "--reopen-test", "why not"])
        confirmation_plan.preflight(arguments, parser.problems, "command")

    def search(self, folder):
        parser = search._parser()
        given = ["--data", "digits", "--results", str(folder.parent), "--name", folder.name, "--image-size", "16",
                 "--algorithm", "random"]  # fmt: skip
        study_plan.preflight(parser.parse(given), parser.problems, "command")

    def resume(self, folder):
        """The search, once it has begun, up to the first trial; then the worker that goes on with one."""
        ledger = Ledger(folder)
        try:
            space = parameters.load(parameters.COURSE_SPACE)
            Searcher(ledger, space, TrialConfig(epochs=4), "random", 6)
            for trial in ledger.running()[:1]:
                last = folder / trial.folder / "last.pt"
                if last.exists():
                    images = trial_images(
                        self.pool, trial.config.split_seed, trial.config.cut_seed, torch.device("cpu")
                    )
                    checkpoint.restore(checkpoint.read(last), trial.config, images, last)
                    checkpoint.finish(folder / trial.folder)
        except checkpoint.CheckpointError as error:
            raise UsageError([str(error)]) from error
        finally:
            ledger.close()

    def predict(self, folder):
        from study.confirmation import winner

        winner.read(folder)

    def replay(self, folder):
        replay._read_trial(folder / "trials/2")


ALL = ("analyze", "confirm", "search", "resume", "predict", "replay")
READS = ("analyze", "confirm", "search", "predict", "replay")  # and change nothing


def refusal(commands, name, folder):
    """The sentences with which the command refuses; none where it works."""
    try:
        getattr(commands, name)(folder)
        return []
    except UsageError as error:
        problems = error.problems
    assert problems
    for problem in problems:
        assert isinstance(problem, str)
        assert "\n" not in problem
        assert len(problem) < 1000
    return problems


TYPES = (None, "x", 3, 0.5, True, [], {})
ODD = ("", -1, [None], {"a": {"b": []}}, float("nan"), float("inf"), 10**400, "\ud800")
WRONG = (*TYPES, *ODD)


def places(content, path=()):
    """The path to each value in it: keys and positions; of a list, the first and the last."""
    if path:
        yield path
    if isinstance(content, dict):
        for key in content:
            yield from places(content[key], (*path, key))
    elif isinstance(content, list):
        for index in sorted({0, len(content) - 1} & set(range(len(content)))):
            yield from places(content[index], (*path, index))


def without(content, path):
    changed = copy.deepcopy(content)
    del _parent(changed, path)[path[-1]]
    return changed


def replaced(content, path, value):
    changed = copy.deepcopy(content)
    _parent(changed, path)[path[-1]] = value
    return changed


def _parent(content, path):
    for key in path[:-1]:
        content = content[key]
    return content


def everything(folder):
    """All paths in it, with what says whether somebody has written there; nothing is opened, no link followed."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = os.path.join(place, name)
            status = os.lstat(path)
            is_folder = stat.S_ISDIR(status.st_mode)
            found[path] = status.st_mode if is_folder else (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def copied(original, folder):
    """A copy to be damaged. Archives are links: no command writes into one that is there, and nobody else may."""
    return Path(shutil.copytree(original, folder, copy_function=_copy))


def _copy(source, target):
    if source.endswith(SUFFIXES):
        os.link(source, target)
    else:
        shutil.copyfile(source, target)


class Payload:
    """Pickled, it makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def plant(path: Path, trace: Path, how):
    """Puts a pickle that runs code where the file was."""
    if how == "torch":
        torch.save({"format": 2, "model": Payload(trace), "rows": Payload(trace)}, path)
    elif how == "numpy":
        with path.open("wb") as file:
            np.savez(file, labels=np.array([Payload(trace)], dtype=object), logits=np.zeros((1, 10)))
    else:
        import pickle

        path.write_bytes(pickle.dumps(Payload(trace)))
