"""What lies in a folder of classes: found by names, without opening a file."""

import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainable.cli import UsageError, os_sentence
from trainable.images.decoding import image_endings
from trainable.images.globs import ALL, Globs

MAX_TOLD = 20


@dataclass(frozen=True)
class Listing:
    """The images of one part of the data."""

    data: Path  # the folder of --data
    folder: str  # inside it, where the names start: "train"; "" is the data folder itself
    class_names: tuple[str, ...]
    names: list[str]  # of files, relative to ``root``, sorted within each class
    labels: np.ndarray  # int64 (n,)
    stamps: list[tuple[str, int, int]]  # (name, bytes, modification time in ns)
    notes: list[str]  # what is there and not used, or odd, a sentence each
    groups: list[str] | None = None  # what a table says of each image, if it does
    num_left_out: int = 0  # images that --include and --exclude leave out; a folder counts once

    @property
    def root(self) -> Path:
        return self.data / self.folder

    @property
    def counts(self) -> list[int]:
        return np.bincount(self.labels, minlength=len(self.class_names)).tolist()

    def path(self, index: int) -> str:
        """The path of an image relative to the data folder, as globs see it."""
        return f"{self.folder}/{self.names[index]}" if self.folder else self.names[index]

    @property
    def paths(self) -> list[str]:
        """Of all images, in their order."""
        return [self.path(index) for index in range(len(self.names))]

    def only(self, keep: Sequence[bool]) -> "Listing":
        """The same without the images where ``keep`` is False."""
        kept = [index for index, is_kept in enumerate(keep) if is_kept]
        return replace(
            self,
            names=[self.names[index] for index in kept],
            labels=self.labels[kept],
            stamps=[self.stamps[index] for index in kept],
            groups=[self.groups[index] for index in kept] if self.groups is not None else None,
        )

    def aligned(self, class_names: Sequence[str], where: str) -> "Listing":
        """The same with the labels of a training part that has ``class_names``; ``where`` begins a refusal.

        A letter with an accent may be stored as one character or as two, and looks the same: such names are equal.

        Raises:
            UsageError: the classes are others.
        """
        place = {normal(name): label for label, name in enumerate(class_names)}
        difference = sorted(place.keys() ^ set(map(normal, self.class_names)))
        if difference:
            raise UsageError([f"{where}: its classes are not those of train/ (they differ in {', '.join(difference)})"])
        labels = np.array([place[normal(name)] for name in self.class_names], np.int64)[self.labels]
        return replace(self, class_names=tuple(class_names), labels=labels)


def normal(name: str) -> str:
    """The name in the one form (NFC) in which two that look alike are equal."""
    return unicodedata.normalize("NFC", name)


def list_folder(data: Path, folder: str = "", globs: Globs = ALL) -> Listing:
    """All images under ``data/folder/<class>/``, at any depth, by their names' endings; hidden files are passed over.

    A class of which the globs leave no image is none.

    Raises:
        UsageError: no sub-folder, a class without images, what is neither file nor folder or cannot be read, names
            that are no UTF-8, or two classes whose names look the same; every problem.
    """
    root, found = data / folder, _Found(data, globs)
    problems = found.problems
    folders, loose = _sorted_entries(root, problems)
    folders = [path for path in folders if not found.is_pruned(path)]
    if not folders and not problems:
        problems.append(f"{root}: must hold one folder for each class, but has none")
    classes = {os.path.basename(path): found.images_of_class(path, root) for path in folders}
    alike: dict[str, str] = {}
    for name in classes:
        if alike.setdefault(normal(name), name) != name:
            problems.append(f"{root}: has two classes {name}; their names differ only in how an accent is stored")
    classes = {name: stamps for name, stamps in classes.items() if stamps}
    if not classes and not problems:
        problems.append(f"{root}: --include and --exclude leave no image")
    if problems:
        more = [f"{root}: {len(problems) - MAX_TOLD} more problems like these"] if len(problems) > MAX_TOLD else []
        raise UsageError(problems[:MAX_TOLD] + more)
    in_no_class = [os.path.basename(path) for path in loose if found.is_loose_image(path)]
    stamps = [stamp for members in classes.values() for stamp in members]
    return Listing(
        data,
        folder,
        tuple(classes),
        [name for name, _, _ in stamps],
        np.repeat(np.arange(len(classes)), [len(members) for members in classes.values()]).astype(np.int64),
        stamps,
        [*_left_out(root, found.others, in_no_class), *_deeper(root, [name for name, _, _ in stamps])],
        num_left_out=found.num_left_out,
    )


class _Found:
    """What a walk through the folders of a data set comes upon."""

    def __init__(self, data: Path, globs: Globs) -> None:
        self.problems: list[str] = []
        self.others: list[str] = []  # not images by their names
        self.num_left_out = 0
        self.endings = image_endings()
        self._prefix, self._globs = len(str(data)) + 1, globs

    def is_pruned(self, path: str) -> bool:
        pruned = self._globs.prune(path[self._prefix :])
        self.num_left_out += pruned
        return pruned

    def is_loose_image(self, path: str) -> bool:
        return os.path.splitext(path)[1].lower() in self.endings and self._globs.take(path[self._prefix :])

    def images_of_class(self, folder: str, root: Path) -> list[tuple[str, int, int]]:
        """The stamps of a class's images, names relative to ``root``; that there are none is a problem."""
        stamps: list[tuple[str, int, int]] = []
        num_before, problems_before = self.num_left_out, len(self.problems)
        for path, found in self._files(folder, [_identity(root)]):
            is_image = os.path.splitext(path)[1].lower() in self.endings
            if not self._globs.take(path[self._prefix :]):
                self.num_left_out += is_image
            elif is_image:
                stamps.append((path[len(str(root)) + 1 :], found.st_size, found.st_mtime_ns))
            else:
                self.others.append(path[len(str(root)) + 1 :])
        is_chosen = self.num_left_out > num_before or self._globs.include
        if not stamps and not is_chosen and len(self.problems) == problems_before:
            self.problems.append(f"{folder}: no images in this class's folder")
        return stamps

    def _files(self, folder: str, above: list[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result]]:
        """All files in the folder, then those of its sub-folders; ``above`` are the folders that it lies in."""
        here = _identity(folder)
        if here in above:
            self.problems.append(f"{folder}: is a link to a folder that it lies in")
            return
        folders, files = _sorted_entries(folder, self.problems)
        yield from files.items()
        for inside in folders:
            if not self.is_pruned(inside):
                yield from self._files(inside, [*above, here])


def _left_out(root: Path, others: Sequence[str], in_no_class: Sequence[str]) -> list[str]:
    return [
        f"{root}: {len(names)} file(s) left out, {why} ({shortened(names)})"
        for names, why in [(others, "not images by their names"), (in_no_class, "images in no class's folder")]
        if names
    ]


def _deeper(root: Path, names: Sequence[str]) -> list[str]:
    deeper = [name for name in names if name.count("/") > 1]
    if not deeper:
        return []
    what = f"{len(deeper)} of {len(names)} images lie in folders inside their class's folder and are taken, too"
    if len(deeper) == len(names):
        what = f"all {len(names)} images lie in folders inside their class's folder"
    return [f"{root}: {what} ({shortened(deeper, 1)}); --exclude leaves some out"]


def shortened(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _identity(folder: str | Path) -> tuple[int, int]:
    """Which folder it is, by whatever path."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _sorted_entries(folder: str | Path, problems: list[str]) -> tuple[list[str], dict[str, os.stat_result]]:
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
