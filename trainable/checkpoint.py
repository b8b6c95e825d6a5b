"""A trial on disk: last.pt holds everything to go on with; best.pt and validation.npz are cut from it."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trainable import objectives, sealed
from trainable.arguments import MAX_FOLDS
from trainable.cli import UsageError
from trainable.config import FIELDS, TrialConfig
from trainable.images.trial import TrialImages
from trainable.learner import Learner, network
from trainable.loop import TrialState, bound_to_length, empty_state
from trainable.parts.averaging import as_one
from trainable.parts.optimizers import MOMENTS, load_moments

FORMAT = 2  # of last.pt; format 1 was without the predictions of every epoch
BEST_FORMAT = 1


class CheckpointError(Exception):
    """A checkpoint cannot be used: damaged, of another format, or of another network."""


def save(state: TrialState, images: TrialImages, path: Path) -> None:
    """Writes ``last.pt``: the state, all rows, labels and groups of the validation images; the old file or the new one.

    Raises:
        OSError: it cannot be written, for instance because the disk is full; the old file is still there.
    """
    first, *others = (learner.state_dict() for learner in state.learners)
    content = {
        "format": FORMAT,
        "config": state.config.to_dict(),
        "rows": state.rows,
        **first,
        "best": state.best,
        "predictions": state.predictions,
        "val_labels": images.labels[images.val],
    }
    if others:
        content["other_folds"] = others
    if state.likelihoods:
        content["likelihoods"] = state.likelihoods
    if images.val_groups is not None:
        content["val_groups"] = images.val_groups
    _write(path, content)


def read(path: Path) -> dict[str, Any]:
    """The content of a ``last.pt``, on the CPU, as ``save`` wrote it; runs none of its code.

    Of the networks' weights and the optimizer's state, ``restore`` knows how they must be.

    Raises:
        CheckpointError: the file is damaged or of a format that this version does not know.
    """
    content = _read(path, FORMAT)
    try:
        _check(content)
    except (ValueError, KeyError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path}: damaged, cannot be used ({missing})") from error
    return content


def _check(content: dict[str, Any]) -> None:
    """ValueError or KeyError where ``content`` is not that of a last.pt in itself."""
    # a training needs no more than torch, numpy and Pillow; what is read is checked by more
    from trainable.records import checked_rows

    others = content.setdefault("other_folds", [])
    if not isinstance(others, list) or not all(isinstance(part, dict) for part in others):
        raise ValueError("other_folds is no list of tables")
    for name in ("config", "model", "optimizer", "best"):
        if not isinstance(content[name], dict):
            raise ValueError(f"{name} is no table")
    text = content["config"].get("objective", TrialConfig.objective)
    objective = objectives.named(str(FIELDS["objective"].checked(text)))
    content["rows"] = rows = checked_rows(content["rows"], objective)
    if not rows:
        raise ValueError("it has no epoch")
    num_classes = len(rows[0]["f1"])
    labels, predictions = content["val_labels"], content["predictions"]
    num_images = labels.shape[0] if isinstance(labels, torch.Tensor) and labels.dim() else 0
    _check_tensor("val_labels", labels, (num_images,), (torch.int64,))
    if not isinstance(predictions, list) or len(predictions) != len(rows):
        raise ValueError(f"predictions must be of each of the {len(rows)} epochs")
    for part in predictions:
        _check_tensor("predictions", part, (2, num_images), (torch.uint8, torch.int16))
    likelihoods = content.setdefault("likelihoods", [])
    if not isinstance(likelihoods, list) or len(likelihoods) != (len(rows) if objective.of_scores else 0):
        raise ValueError(f"likelihoods must be of each epoch where the objective is {objective.words}")
    for part in likelihoods:
        num_minority = part.shape[-1] if isinstance(part, torch.Tensor) and 0 < part.shape[-1] <= num_classes else 1
        _check_tensor("likelihoods", part, (2, num_images, num_minority), (torch.float16,))
    for name, values in [("val_labels", labels), *(("predictions", part) for part in predictions)]:
        if not 0 <= int(values.min()) <= int(values.max()) < num_classes:
            raise ValueError(f"{name} has values that are none of the {num_classes} classes")
    if content.setdefault("val_groups", None) is not None:
        _check_tensor("val_groups", content["val_groups"], (num_images,), (torch.int64,))
        if not 0 <= int(content["val_groups"].min()) <= int(content["val_groups"].max()) < num_images:
            raise ValueError(f"val_groups has values that are not from 0 to {num_images - 1}")
    _check_tensor("best.logits", content["best"]["logits"], (num_images, num_classes), (torch.float16,))
    if not isinstance(content["best"]["model"], dict):
        raise ValueError("best.model is no table")


def _check_tensor(name: str, found: Any, shape: tuple[int, ...], kinds: tuple[torch.dtype, ...]) -> None:
    """ValueError where ``found`` is no tensor of that shape, or of a type not in ``kinds``, or says more than it has.

    A few bytes can stand for a tensor of any size, if all of it is said to be in the same place.
    """
    if not isinstance(found, torch.Tensor) or found.layout != torch.strided:
        raise ValueError(f"{name} is no tensor")
    if tuple(found.shape) != shape or 0 in shape:
        raise ValueError(f"{name} must be {shape}, but the file has {tuple(found.shape)}")
    if found.dtype not in kinds:
        raise ValueError(f"{name} must be {' or '.join(map(str, kinds))}, but the file has {found.dtype}")
    if found.numel() * found.element_size() > found.untyped_storage().nbytes():
        raise ValueError(f"{name} has fewer values than its shape {shape} says")


def _read(path: Path, known_format: int) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(sealed.read(path)), map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises on a damaged file is not documented and varies
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: damaged, cannot be read ({reason})") from error
    if not isinstance(content, dict) or content.get("format") != known_format:
        raise CheckpointError(f"{path}: not a checkpoint of format {known_format}")
    return content


def stored_config(content: dict[str, Any], path: Path) -> TrialConfig:
    """The config in ``content`` (from ``read``); fields that are younger than the file have their defaults.

    Raises:
        CheckpointError: it is no config, has a field that this version does not know, or a value breaks a rule.
    """
    try:
        return TrialConfig.from_record(content["config"])
    except UsageError as error:
        raise CheckpointError(f"{path}: its config cannot be used ({'; '.join(error.problems)})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged, has no config") from error


def restore(content: dict[str, Any], config: TrialConfig, images: TrialImages, path: Path) -> TrialState:
    """The state in ``content`` (from ``read``), checked against a new one.

    Raises:
        CheckpointError: it is of another config or network; names the field or tensor and both values or shapes.
    """
    stored = stored_config(content, path)
    made_with, may_grow = stored.to_dict(), {"num_micro_batches"}  # nothing that is stored depends on it
    if stored.epochs < config.epochs and not bound_to_length(stored, config.epochs):
        may_grow.add("epochs")
    for name, value in config.to_dict().items():
        if name not in may_grow and made_with[name] != value:
            raise CheckpointError(f"{path}: made with {name}={made_with[name]!r}, not {value!r}")
    state = empty_state(config, images)
    parts = [content, *content["other_folds"]]
    if len(parts) != len(state.learners):
        raise CheckpointError(f"{path}: made with {len(parts)} network(s), and the study has {len(state.learners)}")
    for learner, part in zip(state.learners, parts, strict=True):
        _load_weights(learner.model, part.get("model"), path)
        if learner.average is not None:
            _load_weights(learner.average.model, part.get("average"), path)
    try:
        num_val, num_classes = content["best"]["logits"].shape
        if (num_val, num_classes) != (len(images.val), images.num_classes):
            raise ValueError(
                f"it is of {num_val} validation images in {num_classes} classes, and the study has "
                f"{len(images.val)} in {images.num_classes}"
            )
        if any(part.shape[-1] != len(images.minority) for part in content["likelihoods"]):
            raise ValueError(f"its likelihoods are not of {len(images.minority)} minority classes")
        for learner, part in zip(state.learners, parts, strict=True):
            _load_optimizer(learner, part.get("optimizer"))
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: does not fit this trial ({str(error).splitlines()[0]})") from error
    state.rows, state.best, state.predictions = content["rows"], content["best"], content["predictions"]
    state.likelihoods = content["likelihoods"]
    return state


def _load_optimizer(learner: Learner, stored: Any) -> None:
    """The optimizer's moments; its settings are the config's and this device's, whatever the file says.

    Raises:
        ValueError: they are not of these parameters.
    """
    parameters = [parameter for group in learner.optimizer.param_groups for parameter in group["params"]]
    moments = stored["state"]
    if not isinstance(moments, dict) or not all(type(index) is int for index in moments):
        raise ValueError("the optimizer's state is no table of parameters")
    if moments.keys() - set(range(len(parameters))):
        raise ValueError(f"the optimizer's state is not of {len(parameters)} parameters")
    for index, entry in moments.items():
        if not isinstance(entry, dict) or entry.keys() != MOMENTS[learner.config.optimizer]:
            name = learner.config.optimizer
            raise ValueError(f"the optimizer's state of parameter {index} is not that of {name}")
        for name, value in entry.items():
            shape = () if name == "step" else tuple(parameters[index].shape)
            _check_tensor(f"the optimizer's {name} of parameter {index}", value, shape, (torch.float32,))
    load_moments(learner.optimizer, moments)


def _load_weights(model: nn.Module, weights: Any, path: Path) -> None:
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path}: damaged, has no weights")
    for name, tensor in model.state_dict().items():
        found = weights.get(name)
        if not isinstance(found, torch.Tensor) or found.shape != tensor.shape:
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else "nothing"
            raise CheckpointError(f"{path}: the network's {name} is {tuple(tensor.shape)}, but the file has {shape}")
        try:
            _check_tensor(f"the network's {name}", found, tuple(tensor.shape), (tensor.dtype,))
        except ValueError as error:
            raise CheckpointError(f"{path}: damaged, cannot be used ({error})") from error
        if not torch.isfinite(found).all():
            raise CheckpointError(f"{path}: damaged, the network's {name} holds values that are no finite numbers")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit this trial ({str(error).splitlines()[0]})") from error


def best_model(path: Path, config: TrialConfig, num_classes: int, image_size: int, device: torch.device) -> nn.Module:
    """The network of the best epoch, from a trial's ``best.pt``, with folds the mean of all; runs none of its code.

    Raises:
        CheckpointError: the file is damaged, of another format, or of another network.
    """
    content = _read(path, BEST_FORMAT)
    number = content.get("num_networks", 1)
    if type(number) is not int or not 1 <= number <= MAX_FOLDS:
        raise CheckpointError(f"{path}: damaged, num_networks must be from 1 to {MAX_FOLDS}, not {number!r:.40}")
    model = as_one([network(config, num_classes, image_size, device) for _ in range(number)])
    _load_weights(model, content.get("model"), path)
    return model


def finish(folder: Path) -> None:
    """Cuts ``best.pt`` and ``validation.npz`` from the trial's ``last.pt``; nothing happens where they are there."""
    best_path, validation_path = folder / "best.pt", folder / "validation.npz"
    if (best_path.exists() and validation_path.exists()) or not (folder / "last.pt").exists():
        return
    content = read(folder / "last.pt")
    best, groups = content["best"], content["val_groups"]
    predictions = torch.stack(content["predictions"]).numpy()  # (num_epochs, 2, num_val)
    arrays = io.BytesIO()
    np.savez(
        arrays,
        labels=content["val_labels"].numpy(),
        logits=best["logits"].numpy(),
        predictions=predictions[:, 0],
        predictions_adjusted=predictions[:, 1],
        **_likelihoods(content["likelihoods"]),
        **({} if groups is None else {"groups": groups.numpy()}),
    )
    sealed.write(validation_path, arrays)
    row = content["rows"][content["rows"][-1]["best_epoch"] - 1]
    write_model(best_path, content["config"], row, best["model"], 1 + len(content["other_folds"]))


def write_model(
    path: Path, config: dict[str, Any], row: dict[str, Any], weights: dict[str, Any], num_networks: int = 1
) -> None:
    """Writes a ``best.pt``: a network's weights, and the config and the row of the epoch that they are of.

    Raises:
        OSError: it cannot be written.
    """
    content = {"format": BEST_FORMAT, "config": config, "row": row, "model": weights}
    _write(path, content | ({"num_networks": num_networks} if num_networks > 1 else {}))


def _likelihoods(parts: list[torch.Tensor]) -> dict[str, Any]:
    if not parts:
        return {}
    found = torch.stack(parts).numpy()  # (num_epochs, 2, num_val, num_minority)
    return {"likelihoods": found[:, 0], "likelihoods_adjusted": found[:, 1]}


def _write(path: Path, content: dict[str, Any]) -> None:
    torch.serialization.set_crc32_options(False)  # a quarter of the time, and torch.load never looks at them
    archive = io.BytesIO()
    torch.save(content, archive)
    sealed.write(path, archive)
