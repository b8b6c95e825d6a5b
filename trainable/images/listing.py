"""What lies in a folder of classes: found by names, without opening a file."""

import os
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainable.cli import UsageError, os_sentence
from trainable.images.decoding import image_endings

MAX_TOLD = 20


@dataclass(frozen=True)
class Listing:
    """The images in a folder of classes."""

    class_names: tuple[str, ...]
    names: list[str]  # "class/file", sorted
    labels: np.ndarray  # int64 (n,)
    stamps: list[tuple[str, int, int]]  # (name, bytes, modification time in ns)
    notes: list[str]  # what is there and not used, a sentence each

    @property
    def counts(self) -> list[int]:
        return np.bincount(self.labels, minlength=len(self.class_names)).tolist()

    def aligned(self, root: Path, class_names: Sequence[str]) -> "Listing":
        """The same with the labels of a training folder that has ``class_names``.

        A letter with an accent may be stored as one character or as two, and looks the same: such names are equal.

        Raises:
            UsageError: the classes are others.
        """
        place = {normal(name): label for label, name in enumerate(class_names)}
        difference = sorted(place.keys() ^ set(map(normal, self.class_names)))
        if difference:
            raise UsageError([f"{root}: its classes are not those of train/ (they differ in {', '.join(difference)})"])
        labels = np.array([place[normal(name)] for name in self.class_names], np.int64)[self.labels]
        return replace(self, class_names=tuple(class_names), labels=labels)


def normal(name: str) -> str:
    """The name in the one form (NFC) in which two that look alike are equal."""
    return unicodedata.normalize("NFC", name)


def list_folder(root: Path) -> Listing:
    """All images under ``root/<class>/``, by their names' endings; hidden files are passed over.

    Raises:
        UsageError: no sub-folder, a class without images, what is neither file nor folder or cannot be read, names
            that are no UTF-8, or two classes whose names look the same; every problem.
    """
    endings = image_endings()
    problems: list[str] = []
    folders, loose = _sorted_entries(root, problems)
    class_names = [os.path.basename(folder) for folder in folders]
    if not class_names and not problems:
        problems.append(f"{root}: must hold one folder for each class, but has none")
    alike: dict[str, str] = {}
    for name in class_names:
        if alike.setdefault(normal(name), name) != name:
            problems.append(f"{root}: has two classes {name}; their names differ only in how an accent is stored")
    stamps: list[tuple[str, int, int]] = []
    labels: list[int] = []
    left_out: list[str] = []
    for label, class_name in enumerate(class_names):
        before, problems_before = len(stamps), len(problems)
        inside, files = _sorted_entries(root / class_name, problems)
        problems += [
            f"{folder}: is a folder, but images must lie directly in their class's folder" for folder in inside
        ]
        for path, found in files.items():
            name = f"{class_name}/{os.path.basename(path)}"
            if os.path.splitext(name)[1].lower() in endings:
                stamps.append((name, found.st_size, found.st_mtime_ns))
                labels.append(label)
            else:
                left_out.append(name)
        if len(stamps) == before and len(problems) == problems_before:
            problems.append(f"{root / class_name}: no images in this class's folder")
    if problems:
        more = [f"{root}: {len(problems) - MAX_TOLD} more problems like these"] if len(problems) > MAX_TOLD else []
        raise UsageError(problems[:MAX_TOLD] + more)
    in_no_class = [os.path.basename(path) for path in loose if os.path.splitext(path)[1].lower() in endings]
    notes = [
        f"{root}: {len(names)} file(s) left out, {why} ({shortened(names)})"
        for names, why in [(left_out, "not images by their names"), (in_no_class, "images in no class's folder")]
        if names
    ]
    return Listing(tuple(class_names), [name for name, _, _ in stamps], np.array(labels, np.int64), stamps, notes)


def shortened(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _sorted_entries(folder: Path, problems: list[str]) -> tuple[list[str], dict[str, os.stat_result]]:
    """The paths of the folders and of the files in ``folder``, those with their stat; what is neither is a problem."""
    folders: list[str] = []
    files: dict[str, os.stat_result] = {}
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        problems.append(os_sentence(error))
        return folders, files
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            entry.name.encode()
            found = entry.stat()
        except UnicodeEncodeError:
            problems.append(f"{entry.path}: its name is not in UTF-8, so it cannot be written into tables; rename it")
        except FileNotFoundError:
            problems.append(f"{entry.path}: is a link to nowhere")
        except OSError as error:  # a link to itself
            problems.append(os_sentence(error))
        else:
            if stat.S_ISDIR(found.st_mode):
                folders.append(entry.path)
            elif stat.S_ISREG(found.st_mode):
                files[entry.path] = found
            else:
                problems.append(f"{entry.path}: is neither a file nor a folder")
    return folders, files
