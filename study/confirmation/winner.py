"""winner/: the model of the winner's first fresh seed, to use here or elsewhere. Uses torch."""

import io
import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from study.confirmation import looks
from study.confirmation.trained import TrainedRun
from study.record.files import read_model, write_atomically
from study.record.formats import Model, Validation
from study.statistics.offsets import NONE, PER_CLASS, Offsets, spread
from study.statistics.temperature import UNSCALED, Temperature
from trainable import checkpoint, objectives
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.decoding import read_file, to_json
from trainable.evaluation import evaluation_batch
from trainable.files import PARTIAL, check_folder, naming
from trainable.images import loading
from trainable.images.decoding import Scale
from trainable.images.pool import Pool, unpack
from trainable.images.trial import TrialImages
from trainable.metrics import confusion_matrix, minority_f1
from trainable.objectives import Objective
from trainable.parts.averaging import networks_of
from trainable.parts.folding import without_batch_norm
from trainable.records import config_from, read_config

RULE = "the model of the confirmed winner's first fresh seed, whatever it scored"


class Classifier(nn.Module):
    """A trained network with all that is around it: from pixels to probabilities."""

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        offsets: Sequence[float],
        temperature: float = 1.0,
    ) -> None:
        """``mean`` and ``std`` of each channel in units of [0, 1] pixels; ``offsets`` are added to the logits, and the
        sum is divided by ``temperature``."""
        super().__init__()
        self.network = without_batch_norm(network).to(memory_format=torch.channels_last)
        self.mean, self.std, self.offsets, self.temperature = (
            nn.Buffer(torch.tensor(values, dtype=torch.float32)) for values in (mean, std, offsets, temperature)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (batch, 3, S, S), RGB, to probabilities, float32 (batch, num_classes)."""
        return torch.softmax((self.network(self.scaled(images)) + self.offsets) / self.temperature, dim=1)

    def scaled(self, images: torch.Tensor) -> torch.Tensor:
        """The images as the network takes them, float32 of the same shape."""
        return (images.float() - 255 * self.mean[:, None, None]) / (255 * self.std[:, None, None])


@dataclass(frozen=True)
class Winner:
    """What lies in winner/."""

    model: Model
    classifier: Classifier

    @property
    def class_names(self) -> list[str]:
        return self.model.class_names

    @property
    def image_size(self) -> int:
        return self.model.image_size

    @property
    def objective(self) -> Objective:
        """What decides by its probabilities."""
        return objectives.named(config_from(self.model.config).objective)

    @property
    def scale(self) -> Scale:
        """Of files with more than 8 bits; earlier versions had none."""
        return dict(self.model.scale)


def read(folder: Path) -> Winner:
    """The winner of the study in ``folder``: its network built from the config, and its weights loaded into it.

    The exported programs beside them are for use elsewhere and are not opened: loading one can run its code.

    Raises:
        UsageError: there is none, its files are damaged or of an unknown format, or the folder holds links.
    """
    path = folder / "winner" / "model.json"
    try:
        path.lstat()  # a folder that holds no winner may be huge, and is not looked through
        check_folder(folder)
    except OSError as error:
        raise UsageError([f"{path}: not found; python -m study.confirm {folder} makes it"]) from error
    model, weights = read_model(folder), path.with_name("weights.pt")
    config, num_classes, size = config_from(model.config), len(model.class_names), model.image_size
    try:
        network = checkpoint.best_model(weights, config, num_classes, size, torch.device("cpu"))
        winner = Winner(model, Classifier(network, model.mean, model.std, model.offsets, model.temperature))
        classify(winner.classifier, np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8))
        return winner
    except UsageError as error:
        raise UsageError([f"{path}: damaged, cannot be used ({problem})" for problem in error.problems]) from error
    except checkpoint.CheckpointError as error:
        raise UsageError([str(error)]) from error


def write(folder: Path, study_name: str, runs: Sequence[TrainedRun], pool: Pool) -> None:
    """Writes winner/ in the study's ``folder`` anew, whole or not at all: the model of the first of ``runs``, which are
    all of one recipe, and its offsets.

    Raises:
        UsageError: the run's files are damaged.
        OSError: winner/ cannot be written, for instance because the disk is full.
    """
    run = runs[0]
    images, fitted, minority = run.images, run.offsets, pool.minority
    plain, shifted = (
        minority_f1(confusion_matrix(run.labels, run.objective.decide(logits), images.num_classes), minority)
        for logits in (run.logits, run.as_in_winner(run.logits))
    )
    validation = Validation(minority_f1=plain, minority_f1_with_offsets=shifted)
    config = read_config(run.folder)
    varies, scaling = spread(run.decided, fitted.rule, run.seed).tolist(), run.temperature
    made = Made(study_name, RULE, run.recipe.name, run.seed, config, images, fitted, validation, varies, scaling)
    write_model(folder, made, read_file(run.folder / "best.pt"), pool, runs)


@dataclass(frozen=True)
class Made:
    """How a model for winner/ was made."""

    study: str
    rule: str
    recipe: str
    seed: int
    config: TrialConfig
    images: TrialImages
    offsets: Offsets
    validation: Validation | None
    offsets_spread: Sequence[float] = ()  # of each class, over resamples of the images
    temperature: Temperature = UNSCALED


def write_model(folder: Path, made: Made, weights: bytes, pool: Pool, runs: Sequence[TrainedRun]) -> None:
    """Writes winner/ as above: ``weights`` as of a best.pt, and pictures by the validation images of ``runs``."""
    model = Model(
        study=made.study,
        rule=made.rule,
        recipe=made.recipe,
        seed=made.seed,
        config=made.config.to_dict(),
        class_names=list(pool.class_names),
        minority=[pool.class_names[index] for index in pool.minority],
        image_size=made.images.image_size,
        scale=dict(pool.scale),
        squash=pool.spec.squash,
        mean=made.images.mean.tolist(),
        std=made.images.std.tolist(),
        offsets=made.offsets.values.tolist(),
        offsets_tau=made.offsets.tau,
        offsets_gain=made.offsets.gain,
        offsets_rule=made.offsets.rule,
        offsets_spread=list(made.offsets_spread),
        temperature=made.temperature.value,
        calibration_error_before=made.temperature.error_before,
        calibration_error_after=made.temperature.error_after,
        validation=made.validation,
    )
    final = folder / "winner"
    with naming(final), tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=PARTIAL) as name:
        partial = Path(name) / "winner"
        partial.mkdir()
        write_atomically(partial / "weights.pt", weights)
        write_atomically(partial / "model.json", to_json(model))
        winner = read(partial.parent)
        if runs:
            _write_pictures(winner, runs, pool, partial)
        write_atomically(partial / "README.md", _how_to(winner))
        _export(winner, partial)
        if final.exists():
            final.rename(partial.with_name("before"))
        partial.rename(final)


def _write_pictures(winner: Winner, runs: Sequence[TrainedRun], pool: Pool, folder: Path) -> None:
    """mistakes.json and looks.json: the first run's validation, each judged by a network that had not seen it."""
    positions, model = runs[0].images.val.numpy(), winner.model
    pixels = unpack(pool.pixels[positions], winner.image_size)
    around = model.mean, model.std, model.offsets, model.temperature
    classifiers = [Classifier(network, *around) for network in networks_of(winner.classifier.network)]
    ends = np.cumsum([len(part.val) for part in runs[0].images.parts])[:-1]
    shown = zip(classifiers, np.split(pixels, ends), strict=True)
    probabilities = np.concatenate([classify(*pair) for pair in shown])
    files = loading.paths(pool)
    of_these = None if files is None else [files[position] for position in positions]
    predicted = winner.objective.decide_by(probabilities)
    mistakes = looks.mistakes(winner.class_names, pixels, pool.labels[positions], predicted, probabilities, of_these)
    write_atomically(folder / "mistakes.json", json.dumps([asdict(mistake) for mistake in mistakes]))
    found = looks.find(classifiers, predicted, probabilities, runs, pool, files)
    write_atomically(folder / "looks.json", to_json(found))


@torch.inference_mode()
def classify(classifier: Classifier, images: np.ndarray, batch_size: int | None = None) -> np.ndarray:
    """Probabilities, float32 (n, num_classes), of images uint8 (n, S, S, 3).

    Raises:
        UsageError: the numbers in the classifier are so large that no probabilities come of them.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    batches = pixels.split(batch_size or evaluation_batch(images.shape[1]))
    probabilities = torch.cat([classifier(batch) for batch in batches]).numpy()
    if not np.isfinite(probabilities).all():
        raise UsageError(["its weights are too large to give probabilities"])
    return probabilities


def _export(winner: Winner, folder: Path) -> None:
    """model.pt2 (torch.export) and model.onnx: pixels in, probabilities out, any batch size.

    Both are made in memory: where its file cannot be written, torch ends the process.
    """
    program, archive = exported(winner.classifier, winner.image_size)
    made = torch.onnx.export(
        program, dynamo=True, input_names=["images"], output_names=["probabilities"], verbose=False
    )
    assert made is not None
    write_atomically(folder / "model.pt2", archive)
    write_atomically(folder / "model.onnx", made.model_proto.SerializeToString())


def exported(classifier: Classifier, image_size: int) -> tuple[torch.export.ExportedProgram, bytes]:
    """The classifier as a program, and that as the bytes of a .pt2."""
    example = torch.zeros(2, 3, image_size, image_size, dtype=torch.uint8)
    archive = io.BytesIO()
    program = torch.export.export(classifier, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    with warnings.catch_warnings():  # folded weights share no storage with others, and torch wonders
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(program, archive)
    return program, archive.getvalue()


def _how_to(winner: Winner) -> str:
    model, size = winner.model, winner.image_size
    objective = winner.objective.of_decisions
    not_helpful = "they did not help on validation images that had not chosen them"
    why_none = not_helpful if model.validation else "no image is left that could choose them"
    rule = "one for each class" if model.offsets_rule == PER_CLASS else f"tau {model.offsets_tau:.2f}"
    shift = (
        f"Decision offsets ({rule}) are part of it: they raised {objective.words} by "
        f"{model.offsets_gain:+.4f} on validation images that had not chosen them."
        if model.offsets_rule != NONE
        else f"No decision offsets: {why_none}."
    )
    scaled = (
        f"Its logits are divided by {model.temperature:.2f} (temperature scaling), by which the calibration error went "
        f"from {model.calibration_error_before:.4f} to {model.calibration_error_after:.4f} on other validation images."
        if model.temperature != 1
        else "No temperature scaling: nothing has shown that its probabilities would be better with it."
    )
    costs = [list(row) for row in winner.objective.costs]
    decides = (
        "that of the least expected cost, `(probabilities @ costs).argmin()`, with a row for each true class in\n"
        f"`costs = {costs}`"
        if costs
        else "the likeliest"
    )
    shape = (
        "stretched where it is not square"
        if model.squash
        else "its shape kept, in the middle, edge pixels repeated to fill the square"
    )
    return f"""# The winner of a study

Recipe {model.recipe}, seed {model.seed}: {model.rule}. {shift}
{scaled}

    python -m study.predict results/NAME IMAGES... [--json]

`model.json` holds config, class names, normalisation, offsets and temperature, `weights.pt` the weights (a file for
`torch.load(..., weights_only=True)`), `mistakes.json` and `looks.json` the pictures of the report. `model.pt2`
(`torch.export`) and `model.onnx` are the whole classifier for use elsewhere. Its input: uint8 (batch, 3, {size},
{size}), RGB, EXIF orientation applied, resized bilinearly with antialiasing, {shape}. Its output: float32 probabilities
(batch, {len(winner.class_names)}) in the order of `class_names`. Load a `.pt2` only if you trust whoever wrote it:
torch's loader can run its code. The class of an image is {decides}.
"""
