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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from trainable.cli import UsageError, attempt
from trainable.images import cache
from trainable.images.decoding import Scale, decoded, decoding_threads, deep_range, opened, resized, scale_of, upright
from trainable.images.listing import MAX_TOLD, Listing, shortened

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


def folder(
    root: Path,
    listing: Listing,
    image_size: int,
    cache_dir: Path,
    say: Callable[[str], None],
    scale: Scale | None = None,
) -> Source:
    """The images of ``listing``, which is ``list_folder(root)``.

    Decoded in parallel the first time; later found in ``cache_dir`` by the files' paths, sizes and times, and taken
    from there if they are undamaged. ``say`` gets what is noticed while they are decoded.
    ``scale`` is that of the training images; if these are they, it is None, and found.

    Raises:
        UsageError: files that are no images, or the cache cannot be written.
    """
    told = [CACHE_FORMAT, image_size, str(root), listing.stamps, scale]
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
    entry = cache.Entry(cache_dir, key, listing.labels, image_size)
    found = entry.read()
    if found is None:
        if os.path.lexists(entry.array_path):
            say(f"{entry.array_path}: damaged or never finished, so the images of {root} are decoded anew")
        found = entry.write(lambda images: _decode(root, listing.names, images, scale, say))
    images, content_hash, scale = found
    return Source(images, listing.labels, listing.class_names, content_hash, scale)


def _decode(root: Path, names: list[str], images: np.ndarray, scale: Scale | None, say: Callable[[str], None]) -> Scale:
    """Decodes all files into ``images``, uint8 (n, S, S, 3); where no scale is given it is found first, and returned.

    Raises:
        UsageError: files that are no images.
    """
    deep: dict[int, tuple[str, float, float]] = {}
    broken_exif: list[str] = []

    def first(index: int) -> None:
        with opened(root / names[index]) as image:
            if scale is None and (found := deep_range(image)) is not None:
                deep[index] = found  # until the scale is known
            else:
                turned = upright(image, lambda: broken_exif.append(names[index]))
                images[index] = resized(turned, images.shape[1], scale or {})

    def second(index: int) -> None:
        images[index] = decoded(root / names[index], images.shape[1], scale or {})

    _for_all(root, first, range(len(names)))
    if scale is None:
        scale = scale_of(deep.values())
        _for_all(root, second, sorted(deep))
    if broken_exif:
        say(
            f"{root}: the EXIF of {len(broken_exif)} image(s) cannot be read, so they are not turned "
            f"({shortened(sorted(broken_exif))})"
        )
    return scale


def _for_all(root: Path, part: Callable[[int], None], indices: Sequence[int]) -> None:
    """Calls ``part`` in threads.

    Raises:
        UsageError: the problems of all calls, the first of them.
    """

    def attempted(index: int) -> list[str]:
        problems: list[str] = []
        attempt(problems, part, index)
        return problems

    with decoding_threads() as threads:
        outcomes = threads.map(attempted, indices)
        shown = tqdm(outcomes, f"decoding {root.name}", len(indices), unit=" images", disable=None, leave=False)
        problems = [problem for found in shown for problem in found]
    if problems:
        more = [f"{root}: {len(problems) - MAX_TOLD} more files cannot be read"] if len(problems) > MAX_TOLD else []
        raise UsageError(problems[:MAX_TOLD] + more)


def _source(images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> Source:
    return Source(images, labels, class_names, cache.content_hash(images, labels, {}), {})
