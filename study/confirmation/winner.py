"""winner/: the model of the winner's first fresh seed, to use here or elsewhere. Uses torch."""

import base64
import io
import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from study.confirmation.trained import TrainedRun
from study.record.files import read_config, write_atomically
from trainable import checkpoint
from trainable.cli import UsageError
from trainable.config import TrialConfig
from trainable.evaluation import EVALUATION_BATCH
from trainable.files import PARTIAL, check_folder
from trainable.images.decoding import Scale
from trainable.images.pool import Pool, unpack
from trainable.metrics import confusion_matrix, minority_f1
from trainable.parts.networks import ConvNet

FORMAT = 1
NUM_MISTAKES = 24
MAX_OFFSET = 100  # those that are fitted are at most 2 × log(share of the rarest class)
RULE = "the model of the confirmed winner's first fresh seed, whatever it scored"


class Classifier(nn.Module):
    """A trained network with all that is around it: from pixels to probabilities."""

    def __init__(self, network: ConvNet, mean: Sequence[float], std: Sequence[float], offsets: Sequence[float]) -> None:
        """``mean`` and ``std`` of each channel in units of [0, 1] pixels; ``offsets`` are added to the logits."""
        super().__init__()
        self.network = network.without_batch_norm().to(memory_format=torch.channels_last)
        self.mean, self.std, self.offsets = (
            nn.Buffer(torch.tensor(values, dtype=torch.float32)) for values in (mean, std, offsets)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (batch, 3, S, S), RGB, to probabilities, float32 (batch, num_classes)."""
        scaled = (images.float() - 255 * self.mean[:, None, None]) / (255 * self.std[:, None, None])
        return torch.softmax(self.network(scaled) + self.offsets, dim=1)


@dataclass(frozen=True)
class Winner:
    """What lies in winner/."""

    content: dict[str, Any]  # of model.json
    classifier: Classifier

    @property
    def class_names(self) -> list[str]:
        return list(self.content["class_names"])

    @property
    def image_size(self) -> int:
        return int(self.content["image_size"])

    @property
    def scale(self) -> Scale:
        """Of files with more than 8 bits; earlier versions had none."""
        return {kind: (low, width) for kind, (low, width) in self.content.get("scale", {}).items()}


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
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UsageError([f"{path}: not found; python -m study.confirm {folder} makes it"]) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError([f"{path}: damaged, cannot be read ({error})"]) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UsageError([f"{path}: has format {found!r}, and this version reads {FORMAT}"])
    try:
        _check(content)
        config, num_classes = TrialConfig.from_record(content["config"]), len(content["class_names"])
        weights = path.with_name("weights.pt")
        network = checkpoint.best_model(weights, config, num_classes, content["image_size"], torch.device("cpu"))
        winner = Winner(content, Classifier(network, content["mean"], content["std"], content["offsets"]))
        if not all(math.isfinite(low) and 0 < width < math.inf for low, width in winner.scale.values()):
            raise ValueError("scale must be a lowest number and a width for each kind of pixels")
        size = winner.image_size
        classify(winner.classifier, np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8))
        return winner
    except UsageError as error:
        raise UsageError([f"{path}: damaged, cannot be used ({problem})" for problem in error.problems]) from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UsageError([f"{path}: damaged, cannot be used ({error})"]) from error
    except checkpoint.CheckpointError as error:
        raise UsageError([str(error)]) from error


def _check(content: dict[str, Any]) -> None:
    """ValueError or KeyError where ``content``, of model.json, does not describe a classifier."""
    names, size = content["class_names"], content["image_size"]
    if not isinstance(names, list) or not 2 <= len(names) <= 1000 or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names must be 2 to 1000 texts")
    if type(size) is not int or not 16 <= size <= 96:
        raise ValueError(f"image_size must be a whole number from 16 to 96, not {size!r}")
    for name, length, allowed, holds in (
        ("mean", 3, "from 0 to 1", lambda value: 0 <= value <= 1),
        ("std", 3, "above 0 and at most 1", lambda value: 0 < value <= 1),
        ("offsets", len(names), f"from -{MAX_OFFSET} to {MAX_OFFSET}", lambda value: abs(value) <= MAX_OFFSET),
    ):
        values = content[name]
        if not isinstance(values, list) or len(values) != length:
            raise ValueError(f"{name} must be {length} numbers")
        if not all(type(value) in (int, float) and holds(value) for value in values):  # NaN holds nothing
            raise ValueError(f"{name} must be numbers {allowed}")


def write(folder: Path, study_name: str, run: TrainedRun, pool: Pool) -> None:
    """Writes winner/ in the study's ``folder`` anew, whole or not at all: the model of ``run`` and its offsets.

    Raises:
        UsageError: the run's files are damaged, or the folder cannot be written.
    """
    images, fitted, minority = run.images, run.offsets, pool.minority
    plain, shifted = (
        minority_f1(confusion_matrix(run.labels, logits.argmax(axis=1), images.num_classes), minority)
        for logits in (run.logits, run.logits + fitted.values)
    )
    content = {
        "format": FORMAT,
        "study": study_name,
        "rule": RULE,
        "recipe": run.recipe.name,
        "seed": run.seed,
        "config": read_config(run.folder).to_dict(),
        "class_names": list(pool.class_names),
        "minority": [pool.class_names[index] for index in minority],
        "image_size": images.image_size,
        "scale": pool.scale,
        "mean": images.mean.tolist(),
        "std": images.std.tolist(),
        "offsets": fitted.values.tolist(),
        "offsets_tau": fitted.tau,
        "offsets_gain": fitted.gain,
        "validation": {"minority_f1": plain, "minority_f1_with_offsets": shifted},
    }
    final = folder / "winner"
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=PARTIAL) as name:
            partial = Path(name) / "winner"
            partial.mkdir()
            shutil.copy(run.folder / "best.pt", partial / "weights.pt")
            write_atomically(partial / "model.json", json.dumps(content, indent=1))
            winner = read(partial.parent)
            write_atomically(partial / "mistakes.json", json.dumps(_mistakes(winner, pool, images.val.numpy())))
            write_atomically(partial / "README.md", _how_to(winner))
            _export(winner, partial)
            if final.exists():
                final.rename(partial.with_name("before"))
            partial.rename(final)
    except OSError as error:
        raise UsageError([f"{error.filename or final}: cannot be written ({error.strerror or error})"]) from error


def _mistakes(winner: Winner, pool: Pool, positions: np.ndarray) -> list[dict[str, Any]]:
    """The images at ``positions`` that the winner gets most wrong: names, probabilities, the image as PNG in base64."""
    pixels, labels = unpack(pool.pixels[positions], winner.image_size), pool.labels[positions]
    probabilities = classify(winner.classifier, pixels)
    of_truth = probabilities[np.arange(len(labels)), labels]
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[of_truth[wrong].argsort(kind="stable")][:NUM_MISTAKES]
    names = winner.class_names
    return [
        {
            "label": names[labels[index]],
            "predicted": names[predicted[index]],
            "probability": float(probabilities[index].max()),
            "png": _png(pixels[index]),
        }
        for index in worst
    ]


@torch.inference_mode()
def classify(classifier: Classifier, images: np.ndarray, batch_size: int = EVALUATION_BATCH) -> np.ndarray:
    """Probabilities, float32 (n, num_classes), of images uint8 (n, S, S, 3).

    Raises:
        UsageError: the numbers in the classifier are so large that no probabilities come of them.
    """
    batches = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).split(batch_size)
    probabilities = torch.cat([classifier(batch) for batch in batches]).numpy()
    if not np.isfinite(probabilities).all():
        raise UsageError(["its weights are too large to give probabilities"])
    return probabilities


def _png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _export(winner: Winner, folder: Path) -> None:
    """model.pt2 (torch.export) and model.onnx: pixels in, probabilities out, any batch size."""
    size = winner.image_size
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(winner.classifier, (example,), dynamic_shapes=({0: batch},))
    with warnings.catch_warnings():  # folded weights share no storage with others, and torch wonders
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(program, folder / "model.pt2")
    exported = torch.onnx.export(
        program, dynamo=True, input_names=["images"], output_names=["probabilities"], verbose=False
    )
    assert exported is not None
    exported.save(str(folder / "model.onnx"))


def _how_to(winner: Winner) -> str:
    content, size = winner.content, winner.image_size
    shift = (
        f"Decision offsets (tau {content['offsets_tau']:.2f}) are part of it: they raised minority F1 by "
        f"{content['offsets_gain']:+.4f} on validation images that had not chosen them."
        if content["offsets_tau"]
        else "No decision offsets: they did not help on validation images that had not chosen them."
    )
    return f"""# The winner of a study

Recipe {content["recipe"]}, seed {content["seed"]}: {content["rule"]}. {shift}

    python -m study.predict results/NAME IMAGES... [--json]

`model.json` holds config, class names, normalisation and offsets, `weights.pt` the weights (a file for
`torch.load(..., weights_only=True)`), `mistakes.json` the validation images it gets most wrong. `model.pt2`
(`torch.export`) and `model.onnx` are the whole classifier for use elsewhere. Its input: uint8 (batch, 3, {size},
{size}), RGB, EXIF orientation applied, resized bilinearly with antialiasing. Its output: float32 probabilities
(batch, {len(winner.class_names)}) in the order of `class_names`. Load a `.pt2` only if you trust whoever wrote it:
torch's loader can run its code.
"""
