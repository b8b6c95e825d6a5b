"""Where images come from: CIFAR-10, scikit-learn's digits, or a folder; all become uint8 arrays of one size.

A folder's images are decoded once and kept as an array under the cache directory.
"""

import contextlib
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from trainable.cli import UsageError
from trainable.images import cache

CACHE_FORMAT = 1


@dataclass(frozen=True)
class Source:
    """Labelled images as they lie at their origin, before any split is drawn."""

    images: np.ndarray  # uint8 (n, S, S, 3)
    labels: np.ndarray  # int64 (n,)
    class_names: tuple[str, ...]
    content_hash: str  # of images and labels, hexadecimal


def digits(image_size: int) -> Source:
    """scikit-learn's 1,797 scans of handwritten digits, 8×8 with 17 grey levels, resized."""
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    grey = (scans.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    images = np.stack([_resized(Image.fromarray(scan), image_size) for scan in grey])
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
        raise UsageError([f"{path}: damaged (its MD5 is not CIFAR-10's); delete it to download it again"
                          for path in damaged])  # fmt: skip
    # unpickling is safe here: the MD5 says that these are the published files
    loaded = [pickle.loads(path.read_bytes(), encoding="latin1") for path, _ in batches]
    pixels = np.concatenate([batch["data"] for batch in loaded]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    images = np.ascontiguousarray(pixels)
    if image_size != 32:
        images = np.stack([_resized(Image.fromarray(image), image_size) for image in images])
    labels = np.concatenate([batch["labels"] for batch in loaded]).astype(np.int64)
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return _source(images, labels, names)


def cifar10_test_counts(data_dir: Path) -> tuple[int, ...] | None:
    """Test images of each class, by the data set's description; None where their file is not there."""
    return (1000,) * 10 if (data_dir / "cifar-10-batches-py" / "test_batch").exists() else None


def folder(root: Path, listing: "Listing", image_size: int, cache_dir: Path, say: Callable[[str], None]) -> Source:
    """The images of ``listing``, which is ``list_folder(root)``.

    Decoded in parallel the first time; later found in ``cache_dir`` by the files' paths, sizes and times, and taken
    from there if they are undamaged. ``say`` gets notes meant for the user.

    Raises:
        UsageError: files that are no images, or the cache cannot be written.
    """
    if listing.left_out:
        say(f"{root}: {len(listing.left_out)} file(s) left out, not images by their names "
            f"({', '.join(listing.left_out[:3])}{', …' if len(listing.left_out) > 3 else ''})")  # fmt: skip
    key = hashlib.sha256(json.dumps([CACHE_FORMAT, image_size, str(root), listing.stamps]).encode()).hexdigest()[:32]
    entry = cache.Entry(cache_dir, key, listing.labels, image_size)
    found = entry.read()
    if found is None:
        if os.path.lexists(entry.array_path):
            say(f"{entry.array_path}: damaged or never finished, so the images of {root} are decoded anew")
        found = entry.write(lambda images: _decode(root, listing.names, images))
    images, content_hash = found
    return Source(images, listing.labels, listing.class_names, content_hash)


@dataclass(frozen=True)
class Listing:
    """What lies in a folder of classes, without opening a file."""

    class_names: tuple[str, ...]
    names: list[str]  # "class/file", sorted
    labels: np.ndarray  # int64 (n,)
    stamps: list[tuple[str, int, int]]  # (name, bytes, modification time in ns)
    left_out: list[str]

    @property
    def counts(self) -> list[int]:
        return np.bincount(self.labels, minlength=len(self.class_names)).tolist()


def list_folder(root: Path) -> Listing:
    """All images under ``root/<class>/``, by their names' endings; hidden files are passed over.

    Raises:
        UsageError: no sub-folder, a class without images, or a folder inside a class.
    """
    endings = image_endings()
    class_names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not class_names:
        raise UsageError([f"{root}: must hold one folder for each class, but has none"])
    stamps: list[tuple[str, int, int]] = []
    labels: list[int] = []
    left_out: list[str] = []
    problems: list[str] = []
    for label, class_name in enumerate(class_names):
        before = len(stamps)
        for entry in sorted(os.scandir(root / class_name), key=lambda entry: entry.name):
            name = f"{class_name}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                problems.append(f"{root / name}: is a folder, but images must lie directly in their class's folder")
            elif not entry.is_file():
                problems.append(f"{root / name}: is no file (a link to nowhere?)")
            elif os.path.splitext(entry.name)[1].lower() in endings:
                stat = entry.stat()
                stamps.append((name, stat.st_size, stat.st_mtime_ns))
                labels.append(label)
            else:
                left_out.append(name)
        if len(stamps) == before:
            problems.append(f"{root / class_name}: no images in this class's folder")
    if problems:
        raise UsageError(problems)
    names = [name for name, _, _ in stamps]
    return Listing(tuple(class_names), names, np.array(labels, np.int64), stamps, left_out)


def _decode(root: Path, names: list[str], images: np.ndarray) -> None:
    """Decodes all files into ``images``, uint8 (n, S, S, 3).

    Raises:
        UsageError: files that are no images.
    """

    def decode(index: int) -> str | None:
        path = root / names[index]
        try:
            images[index] = decoded(path, images.shape[1])
        except UsageError as error:
            return error.problems[0]
        return None

    with decoding_threads() as threads:
        outcomes = threads.map(decode, range(len(names)))
        shown = tqdm(outcomes, f"decoding {root.name}", len(names), unit=" images", disable=None, leave=False)
        problems = [problem for problem in shown if problem]
    if problems:
        more = [f"{root}: {len(problems) - 20} more files cannot be read"] if len(problems) > 20 else []
        raise UsageError(problems[:20] + more)


@contextlib.contextmanager
def decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as there are cores: Pillow's decoders release the GIL. What waits when the block ends is dropped.

    Without that an interruption would wait until every image has been decoded.
    """
    threads = ThreadPoolExecutor(os.cpu_count())
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def decoded(path: Path, image_size: int) -> np.ndarray:
    """The image in a file with its EXIF orientation, as RGB, uint8 (S, S, 3).

    Raises:
        UsageError: it cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            return _resized(ImageOps.exif_transpose(image), image_size)
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        raise UsageError([f"{path}: cannot be read as an image ({error})"]) from error


def image_endings() -> set[str]:
    """How the names of files end that Pillow may read, in lower case, with the dot."""
    Image.init()
    return {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def _resized(image: Image.Image, image_size: int) -> np.ndarray:
    """Any image as RGB, uint8 (S, S, 3); bilinear, antialiased."""
    if image.mode.startswith("I"):  # 16-bit grey, also where Pillow holds it in 32 bits: it would clip, not scale
        image = Image.fromarray((np.asarray(image).astype(np.int32).clip(0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("pixels are floating-point numbers, of no known range")
    rgb = image.convert("RGB")
    if rgb.size != (image_size, image_size):
        rgb = rgb.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def _source(images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> Source:
    return Source(images, labels, class_names, cache.content_hash(images, labels))
