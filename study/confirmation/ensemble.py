"""winner/ensemble/: the mean of several confirmed runs' logits, for whoever asks for it. Uses torch."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from study.confirmation.trained import TrainedRun, TrainedRuns
from study.confirmation.winner import Classifier, Winner, classify, exported
from study.confirmation.winner import read as read_winner
from study.record.confirmation import Ensemble, Estimate
from study.record.files import read_ensemble, write_atomically
from study.record.formats import EnsembleModel, Member
from study.statistics import ensembles, seeds
from trainable import checkpoint
from trainable.cli import UsageError
from trainable.decoding import read_file, to_json
from trainable.files import PARTIAL, naming
from trainable.parts.averaging import MeanLogits
from trainable.records import config_from


def choose(runs: TrainedRuns, winner: str) -> Ensemble:
    """Which recipes' runs on the first seed to average, and what an ensemble chosen so gains over the winner.

    Runs on one seed have the same validation images, which none was trained on; those on two seeds have not. So each
    seed has an ensemble of its own, chosen and judged on halves of its images, and the interval is over the seeds.

    Raises:
        UsageError: a run's files are damaged.
    """
    names = list(runs)
    gains = []
    for of_seed in zip(*runs.values(), strict=True):
        run = of_seed[0]
        second = seeds.second_half(run.labels, run.images.num_classes, run.seed, run.groups)
        logits = np.stack([other.decided.logits for other in of_seed])
        gains.append(ensembles.cross_fitted_gain(logits, run.labels, second, names.index(winner), _score(run)))
    mean = seeds.recipe_means(np.array([gains]))
    low, estimate, high = (float(np.clip(values[0], -1, 1)) for values in (mean.low, mean.estimate, mean.high))
    first = [of_recipe[0] for of_recipe in runs.values()]
    times = ensembles.select(np.stack([run.decided.logits for run in first]), first[0].labels, _score(first[0]))
    members = {name: number for name, number in zip(names, times.tolist(), strict=True) if number}
    return Ensemble(members=members, gain=Estimate(estimate=estimate, low=low, high=high))


def _score(run: TrainedRun) -> ensembles.Score:
    objective, num_classes, minority = run.objective, run.images.num_classes, run.images.minority
    return lambda labels, logits: objective.score(labels, objective.judged(logits, minority), num_classes, minority)


def write(folder: Path, runs: TrainedRuns, chosen: Ensemble) -> None:
    """Writes winner/ensemble/ into the study's ``folder``, beside a winner that is new.

    Raises:
        UsageError: a run's files are damaged.
        OSError: it cannot be written.
    """
    members = [(runs[name][0], times) for name, times in chosen.members.items()]
    content = EnsembleModel(
        members=[
            Member(recipe=run.recipe.name, times=times, config=run.recipe.config.to_dict()) for run, times in members
        ],
        offsets=np.average(
            [run.before for run, _ in members], axis=0, weights=[times for _, times in members]
        ).tolist(),
    )
    final = folder / "winner" / "ensemble"
    with naming(final), tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=PARTIAL) as name:
        partial = Path(name) / "ensemble"
        partial.mkdir()
        for index, (run, _) in enumerate(members):
            write_atomically(partial / _weights(index), read_file(run.folder / "best.pt"))
        write_atomically(partial / "ensemble.json", to_json(content))
        partial.rename(final)
    found = read(folder)
    write_atomically(final / "model.pt2", exported(found.classifier, found.image_size)[1])


def read(folder: Path) -> Winner:
    """The ensemble of the study in ``folder`` as one classifier of the winner's images; no offsets are fitted to it.

    Raises:
        UsageError: there is none, or its files are damaged or of an unknown format.
    """
    model, content = read_winner(folder).model, read_ensemble(folder)
    path, num_classes = folder / "winner" / "ensemble", len(model.class_names)
    try:
        networks = [
            checkpoint.best_model(
                path / _weights(index), config_from(member.config), num_classes, model.image_size, torch.device("cpu")
            )
            for index, member in enumerate(content.members)
        ]
    except checkpoint.CheckpointError as error:
        raise UsageError([str(error)]) from error
    network = MeanLogits(networks, [member.times for member in content.members])
    offsets = content.offsets or [0.0] * num_classes
    if len(offsets) != num_classes:
        raise UsageError([f"{path / 'ensemble.json'}: offsets must be {num_classes} numbers, not {len(offsets)}"])
    classifier = Classifier(network, model.mean, model.std, offsets)
    size = model.image_size
    try:
        classify(classifier, np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8))
    except UsageError as error:
        raise UsageError([f"{path}: damaged, cannot be used ({error})"]) from error
    return Winner(model, classifier)


def _weights(index: int) -> str:
    return f"weights-{index}.pt"
