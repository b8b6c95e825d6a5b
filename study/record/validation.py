"""validation.npz of a trial or run: the labels of its validation images, and what it said of them."""

import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainable import sealed
from trainable.cli import UsageError
from trainable.objectives import Objective

LABELS, LOGITS, GROUPS = "labels", "logits", "groups"
PREDICTIONS, ADJUSTED = "predictions", "predictions_adjusted"
LIKELIHOODS, LIKELIHOODS_ADJUSTED = "likelihoods", "likelihoods_adjusted"
LAYOUT: dict[str, tuple[type[np.generic], tuple[str, ...]]] = {
    LABELS: (np.integer, ("images",)),
    LOGITS: (np.floating, ("images", "classes")),  # of the best epoch
    PREDICTIONS: (np.integer, ("epochs", "images")),
    ADJUSTED: (np.integer, ("epochs", "images")),  # after logit adjustment
    GROUPS: (np.integer, ("images",)),  # equal for images of one group, from 0; not there: each is one of its own
}
# where the objective looks at them: log odds of each minority class
OF_LIKELIHOODS: dict[str, tuple[type[np.generic], tuple[str, ...]]] = {
    LIKELIHOODS: (np.floating, ("epochs", "images", "minority")),
    LIKELIHOODS_ADJUSTED: (np.floating, ("epochs", "images", "minority")),
}
EVERYTHING = LAYOUT | OF_LIKELIHOODS
BEFORE_GROUPS = EVERYTHING.keys() - {GROUPS}


def judged(objective: Objective) -> tuple[str, str]:
    """The arrays of each epoch that the objective looks at: as it is, and after logit adjustment."""
    if objective.of_scores:
        return LIKELIHOODS, LIKELIHOODS_ADJUSTED
    return ADJUSTED if objective.is_adjusted else PREDICTIONS, ADJUSTED


def read(path: Path, names: Sequence[str], num_classes: int, max_images: int, max_epochs: int = 0) -> list[np.ndarray]:
    """The arrays ``names`` of a validation.npz, as they are stored and not to be written to; GROUPS never first.

    Types and shapes are checked before any array is read, and nothing in the file may be compressed: so a small file
    never grows to a large array.

    Raises:
        UsageError: the file is missing, damaged, or its arrays are not of such images, classes or epochs.
    """
    sizes = {"classes": num_classes}
    most = {"classes": num_classes, "minority": num_classes, "images": max_images, "epochs": max_epochs}
    found = []
    try:
        with zipfile.ZipFile(io.BytesIO(sealed.read(path))) as archive:
            for name in names:
                # a file of before there were groups, and not one in which their name is damaged
                if name == GROUPS and {member.removesuffix(".npy") for member in archive.namelist()} <= BEFORE_GROUPS:
                    found.append(np.arange(sizes["images"]))
                    continue
                array = _read_array(archive, name, sizes, most)
                limit, what = (sizes["images"], "groups") if name == GROUPS else (num_classes, "classes")
                is_whole = EVERYTHING[name][0] is np.integer
                if is_whole and array.size and not 0 <= int(array.min()) <= int(array.max()) < limit:
                    raise ValueError(f"{name} has values that are none of the {limit} {what}")
                found.append(array)
    except Exception as error:  # what a damaged archive or header raises is not documented and varies
        raise UsageError([f"{path}: damaged, cannot be read ({error})"]) from error
    return found


def _read_array(archive: zipfile.ZipFile, name: str, sizes: dict[str, int], most: dict[str, int]) -> np.ndarray:
    kind, axes = EVERYTHING[name]
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} has an unknown format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if not np.issubdtype(dtype, kind) or len(shape) != len(axes):
            raise ValueError(f"{name} is {dtype} {shape}")
        for axis, size in zip(axes, shape, strict=True):
            if not 0 < size <= most[axis] or sizes.setdefault(axis, size) != size:
                raise ValueError(f"{name} is {shape}, which are not the study's {axis}")
        num_bytes = math.prod(shape) * dtype.itemsize
        if member.file_size != file.tell() + num_bytes:
            raise ValueError(f"{name} has {member.file_size} bytes, which its shape {shape} does not fill")
        return np.frombuffer(file.read(num_bytes), dtype).reshape(shape, order="F" if is_fortran else "C")
