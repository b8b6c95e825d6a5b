"""Where images come from: CIFAR-10, scikit-learn's digits, or a folder; all become uint8 arrays of one size.

A folder's images are decoded once and kept as an array under the cache directory.
"""

import contextlib
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from trainable.cli import UsageError, attempt
from trainable.files import replacing
from trainable.images import cache
from trainable.images.decoding import Scale, decoded, decoding_threads, deep_range, opened, resized, scale_of, upright
from trainable.images.listing import MAX_TOLD, Listing, shortened
from trainable.images.pool import DataSpec
from trainable.progress import counted

CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_LABELS = np.repeat(np.arange(10), 5000)  # of the training images, but for their order
CACHE_FORMAT = 2  # raised whenever files are decoded in another way


@dataclass(frozen=True)
class Source:
    """Labelled images as they lie at their origin, before any split is drawn."""

    images: np.ndarray  # uint8 (n, S, S, 3)
    labels: np.ndarray  # int64 (n,)
    class_names: tuple[str, ...]
    content_hash: str  # of images, labels and scale, hexadecimal
    scale: Scale  # of those with more than 8 bits
    listing: Listing | None = None  # the files that they come from, if each has one
    skipped: tuple[str, ...] = ()  # paths of files that could not be read, relative to the data folder


def digits(image_size: int) -> Source:
    """scikit-learn's 1,797 scans of handwritten digits, 8×8 with 17 grey levels, resized."""
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    grey = (scans.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    images = np.stack([resized(Image.fromarray(scan), image_size, {}) for scan in grey])
    return _source(images, labels.astype(np.int64), tuple(map(str, range(10))))


def cifar10(image_size: int, data_dir: Path) -> Source:
    """CIFAR-10's 50,000 training images; downloaded into ``data_dir`` where they are not there already.

    The test images' file is neither opened nor asked for.

    Raises:
        UsageError: the files are not there and cannot be downloaded, or a file's MD5 is wrong.
    """
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    folder = data_dir / CIFAR10.base_folder
    batches = [(folder / name, md5) for name, md5 in CIFAR10.train_list]
    if not all(path.exists() for path, _ in batches):
        was_there = data_dir.exists()
        try:
            with contextlib.redirect_stdout(None):
                download_and_extract_archive(CIFAR10.url, str(data_dir), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
        except (OSError, RuntimeError) as error:
            if not was_there:
                shutil.rmtree(data_dir, ignore_errors=True)
            raise UsageError(
                [
                    f"--data cifar10: not found in {folder} and not downloaded ({error}); put cifar-10-python.tar.gz, "
                    f"unpacked, into {data_dir}, or use --data digits or --data FOLDER"
                ]
            ) from error
    return _cifar10_batches(batches, image_size)


def cifar10_test(image_size: int, data_dir: Path) -> Source:
    """CIFAR-10's 10,000 test images.

    Raises:
        UsageError: the file is not there, or its MD5 is wrong.
    """
    from torchvision.datasets import CIFAR10

    batches = [(data_dir / CIFAR10.base_folder / name, md5) for name, md5 in CIFAR10.test_list]
    missing = [path for path, _ in batches if not path.exists()]
    if missing:
        raise UsageError([f"{path}: not found, so there are no test images" for path in missing])
    return _cifar10_batches(batches, image_size)


def _cifar10_batches(batches: list[tuple[Path, str]], image_size: int) -> Source:
    """The images in files of which (path, MD5) is given."""
    from torchvision.datasets.utils import check_integrity

    damaged = [str(path) for path, md5 in batches if not check_integrity(str(path), md5)]
    if damaged:
        raise UsageError(
            [f"{path}: damaged (its MD5 is not CIFAR-10's); delete it to download it again" for path in damaged]
        )
    # unpickling is safe here: the MD5 says that these are the published files
    loaded = [pickle.loads(path.read_bytes(), encoding="latin1") for path, _ in batches]
    pixels = np.concatenate([batch["data"] for batch in loaded]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    images = np.ascontiguousarray(pixels)
    if image_size != 32:
        images = np.stack([resized(Image.fromarray(image), image_size, {}) for image in images])
    labels = np.concatenate([batch["labels"] for batch in loaded]).astype(np.int64)
    return _source(images, labels, CIFAR10_NAMES)


def cifar10_test_counts(data_dir: Path) -> tuple[int, ...] | None:
    """Test images of each class, by the data set's description; None where their file is not there."""
    return (1000,) * 10 if (data_dir / "cifar-10-batches-py" / "test_batch").exists() else None


def folder(listing: Listing, spec: DataSpec, say: Callable[[str], None], scale: Scale | None = None) -> Source:
    """The images of ``listing``, as ``spec`` wants them.

    Decoded in parallel the first time; later found in the cache by the files' paths, sizes and times, and taken from
    there if they are undamaged. ``say`` gets what is noticed while they are decoded. ``scale`` is that of the training
    images; if these are they, it is None, and found.

    Raises:
        UsageError: files that are no images, unless they are to be skipped, or the cache cannot be written.
    """
    bad = (
        _BadFiles(Path(spec.cache_dir) / f"{_key(listing, spec, scale)}.bad", listing) if spec.skip_bad_files else None
    )
    used = bad.left() if bad else listing
    try:
        source = _decoded(used, spec, say, scale)
    except UnreadableError as error:
        if bad is None or len(error.names) == len(used.names):
            raise
        bad.add(error.names)
        source = _decoded(bad.left(), spec, say, scale)
    if bad is None or not bad.names:
        return source
    paths = tuple(listing.path(index) for index, name in enumerate(listing.names) if name in bad.names)
    say(f"{len(paths)} of {len(listing.names)} images cannot be read and are left out ({shortened(paths)})")
    return replace(source, skipped=paths)


def _key(listing: Listing, spec: DataSpec, scale: Scale | None) -> str:
    told = [CACHE_FORMAT, spec.image_size, str(listing.root), listing.stamps, scale]
    told += [] if spec.squash else ["edges continued"]
    told += [listing.labels.tolist()] if spec.labels else []  # which the names do not tell
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _decoded(listing: Listing, spec: DataSpec, say: Callable[[str], None], scale: Scale | None) -> Source:
    entry = cache.Entry(Path(spec.cache_dir), _key(listing, spec, scale), listing.labels, spec.image_size)
    found = entry.read()
    if found is None:
        if os.path.lexists(entry.array_path):
            say(f"{entry.array_path}: damaged or never finished, so the images of {listing.root} are decoded anew")
        found = entry.write(lambda images: _decode(listing, images, scale, spec.squash, say))
    images, content_hash, scale = found
    return Source(images, listing.labels, listing.class_names, content_hash, scale, listing)


class UnreadableError(UsageError):
    """Some files are no images; ``names`` are all of theirs in the listing."""

    def __init__(self, problems: list[str], names: list[str]) -> None:
        super().__init__(problems)
        self.names = names


class _BadFiles:
    """Those of a listing that cannot be read, by a file in the cache; it spares decoding all the others for nothing."""

    def __init__(self, path: Path, listing: Listing) -> None:
        self._path, self._listing = path, listing
        known: object = None
        with contextlib.suppress(OSError, ValueError, RecursionError):
            known = json.loads(path.read_bytes())
        told = set(listing.names) & {name for name in known if isinstance(name, str)} if isinstance(known, list) else ()
        self.names = {name for name in told if not _is_readable(listing.root / name)}  # not believed, but tried

    def left(self) -> Listing:
        return (
            self._listing.only([name not in self.names for name in self._listing.names])
            if self.names
            else self._listing
        )

    def add(self, names: Sequence[str]) -> None:
        self.names |= set(names)
        with replacing(self._path) as file:
            file.write(json.dumps(sorted(self.names)).encode())


def _is_readable(path: Path) -> bool:
    try:
        with opened(path) as image:
            image.load()
    except UsageError:
        return False
    return True


def _decode(
    listing: Listing, images: np.ndarray, scale: Scale | None, squash: bool, say: Callable[[str], None]
) -> Scale:
    """Decodes all files into ``images``, uint8 (n, S, S, 3); where no scale is given it is found first, and returned.

    Raises:
        UnreadableError: files that are no images.
    """
    root, names, size = listing.root, listing.names, images.shape[1]
    deep: dict[int, tuple[str, float, float]] = {}
    broken_exif: list[str] = []

    def first(index: int) -> None:
        with opened(root / names[index]) as image:
            if scale is None and (found := deep_range(image)) is not None:
                deep[index] = found  # until the scale is known
            else:
                turned = upright(image, lambda: broken_exif.append(names[index]))
                images[index] = resized(turned, size, scale or {}, squash)

    def second(index: int) -> None:
        images[index] = decoded(root / names[index], size, scale or {}, squash)

    _for_all(listing, first, range(len(names)))
    if scale is None:
        scale = scale_of(deep.values())
        _for_all(listing, second, sorted(deep))
    if broken_exif:
        say(
            f"{root}: the EXIF of {len(broken_exif)} image(s) cannot be read, so they are not turned "
            f"({shortened(sorted(broken_exif))})"
        )
    return scale


def _for_all(listing: Listing, part: Callable[[int], None], indices: Sequence[int]) -> None:
    """Calls ``part`` in threads.

    Raises:
        UnreadableError: the problems of all calls, the first of them in words.
    """

    def attempted(index: int) -> list[str]:
        problems: list[str] = []
        attempt(problems, part, index)
        return problems

    root = listing.root
    with decoding_threads() as threads:
        outcomes = threads.map(attempted, indices)
        shown = counted(outcomes, f"decoding {root.name}", len(indices), "images")
        found = {index: problems for index, problems in zip(indices, shown, strict=True) if problems}
    if found:
        problems = [problem for told in found.values() for problem in told]
        more = [f"{root}: {len(problems) - MAX_TOLD} more files cannot be read"] if len(problems) > MAX_TOLD else []
        raise UnreadableError(problems[:MAX_TOLD] + more, [listing.names[index] for index in found])


def _source(images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> Source:
    return Source(images, labels, class_names, cache.content_hash(images, labels, {}), {})
