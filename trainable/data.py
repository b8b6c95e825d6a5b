"""From a source of images to what a trial may see: test images sealed off, validation drawn, minority cut."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainable import sources
from trainable.config import UsageError
from trainable.sources import Source
from trainable.streams import derive

DEFAULT_VAL_FRACTION = {"cifar10": 0.1}
DEFAULT_KEEP = {"cifar10": 0.1, "digits": 0.03}
TEST_FRACTION = 0.2


@dataclass(frozen=True)
class DataSpec:
    """Which images a study is about. Fields that are None are settled when the images are loaded."""

    data: str  # "cifar10", "digits" or an absolute path
    data_dir: str  # where CIFAR-10 lies or is downloaded to
    cache_dir: str
    image_size: int = 32
    minority: tuple[str, ...] | None = None  # class names
    keep: float | None = None  # fraction of the minority's training images that is kept
    val_fraction: float | None = None
    seed: int = 0  # draws the test images, where the source brings none
    own_test: bool | None = None  # the source brings test images of its own

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DataSpec":
        return cls(**{**values, "minority": tuple(values["minority"])})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Pool:
    """All images that training and validation may use; the test images are not among them."""

    spec: DataSpec  # settled: no field is None
    pixels: np.ndarray  # int32 (n, S * S + 1), see pack
    labels: np.ndarray  # int64 (n,)
    class_names: tuple[str, ...]
    num_own_val: int  # the last so many images are the source's own validation set; 0: it is drawn
    test_counts: tuple[int, ...] | None  # test images of each class; None: the test files are not there
    fingerprint: str

    @property
    def minority(self) -> tuple[int, ...]:
        assert self.spec.minority is not None
        return tuple(self.class_names.index(name) for name in self.spec.minority)


@dataclass(frozen=True)
class Split:
    """Positions in the pool's images, int64, ascending. ``audit`` is what the cut removed."""

    train: np.ndarray
    val: np.ndarray
    audit: np.ndarray


def load(spec: DataSpec, say: Callable[[str], None] = print) -> Pool:
    """Loads all images but the test images; ``say`` gets notes meant for the user.

    Raises:
        UsageError: something about the images or the spec is wrong; every problem that could be found.
    """
    if spec.data == "digits":
        return _pool(replace(spec, own_test=False), sources.digits(spec.image_size), None, None)
    if spec.data == "cifar10":
        source = sources.cifar10(spec.image_size, Path(spec.data_dir))
        return _pool(replace(spec, own_test=True), source, None, sources.cifar10_test_counts(Path(spec.data_dir)))
    return _load_folder(spec, say)


def _load_folder(spec: DataSpec, say: Callable[[str], None]) -> Pool:
    root, cache_dir = Path(spec.data), Path(spec.cache_dir)
    if not root.is_dir():
        raise UsageError([f"--data must be cifar10, digits or a folder, but {spec.data} is no folder"])
    if not (root / "train").is_dir():
        raise UsageError([f"--data {root}: has no folder train/ (images are looked for in train/<class>/)"])
    # The listings first: they are quick and show every mistake of layout before hours of decoding.
    parts = [part for part in ("train", "val", "test") if (root / part).is_dir()]
    listings, problems = {}, []
    for part in parts:
        try:
            listings[part] = sources.list_folder(root / part)
        except UsageError as error:
            problems += error.problems
    for part in set(listings) - {"train"}:
        if "train" in listings and listings[part].class_names != listings["train"].class_names:
            difference = sorted(set(listings[part].class_names) ^ set(listings["train"].class_names))
            problems.append(f"{root / part}: its classes are not those of train/ (they differ in "
                            f"{', '.join(difference)})")  # fmt: skip
    if problems:
        raise UsageError(problems)
    own_test = "test" in parts if spec.own_test is None else spec.own_test
    test_counts = tuple(listings["test"].counts) if "test" in parts else None
    spec = replace(spec, own_test=own_test)
    _settled(spec, listings["train"].class_names, listings["train"].counts)
    train, val = (
        sources.folder(root / part, listings[part], spec.image_size, cache_dir, say) if part in parts else None
        for part in ("train", "val")
    )
    assert train is not None
    return _pool(spec, train, val, test_counts)


def _pool(spec: DataSpec, train: Source, val: Source | None, test_counts: tuple[int, ...] | None) -> Pool:
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    spec = _settled(spec, train.class_names, counts.tolist())
    images, labels = train.images, train.labels
    if not spec.own_test:
        test = _set_aside(labels, spec.seed)
        test_counts = tuple(np.bincount(labels[test], minlength=len(counts)).tolist())
        kept = np.setdiff1d(np.arange(len(labels)), test)
        images, labels = images[kept], labels[kept]
    if val is not None:
        images, labels = np.concatenate([images, val.images]), np.concatenate([labels, val.labels])
    contents = [train.content_hash, val.content_hash if val else ""]
    return Pool(
        spec=spec,
        pixels=pack(images),
        labels=labels,
        class_names=train.class_names,
        num_own_val=len(val.labels) if val else 0,
        test_counts=test_counts,
        fingerprint=hashlib.sha256(
            json.dumps([*contents, spec.own_test, spec.seed, train.class_names]).encode()
        ).hexdigest(),
    )


def _set_aside(labels: np.ndarray, seed: int) -> np.ndarray:
    """The test images where the source brings none: positions in ``labels``, ascending."""
    return _stratified(labels, [round(TEST_FRACTION * n) for n in np.bincount(labels)], "test_split", seed)


def load_test(pool: Pool, say: Callable[[str], None] = print) -> tuple[np.ndarray, np.ndarray]:
    """The test images that ``load`` left out of ``pool``: int32 (n, S * S + 1), see ``pack``, and labels int64 (n,).

    The one way to them, and for ``study.confirm`` alone. No seed of a trial has a say in which they are.

    Raises:
        UsageError: they are not there, or are damaged.
    """
    spec, cache_dir = pool.spec, Path(pool.spec.cache_dir)
    if spec.data == "cifar10":
        source = sources.cifar10_test(spec.image_size, Path(spec.data_dir))
        return pack(source.images), source.labels
    if spec.own_test:
        root = Path(spec.data) / "test"
        if not root.is_dir():
            raise UsageError([f"{root}: not found, so there are no test images"])
        source = sources.folder(root, sources.list_folder(root), spec.image_size, cache_dir, say)
        return pack(source.images), source.labels
    if spec.data == "digits":
        source = sources.digits(spec.image_size)
    else:
        root = Path(spec.data) / "train"
        source = sources.folder(root, sources.list_folder(root), spec.image_size, cache_dir, say)
    test = _set_aside(source.labels, spec.seed)
    return pack(source.images[test]), source.labels[test]


def pack(images: np.ndarray) -> np.ndarray:
    """uint8 (n, S, S, 3) as int32 (n, S * S + 1): a pixel's three channels in one word, a black one appended.

    The form that trials share and gather from: one word moves a whole pixel, and the last is what a rotation
    brings in from outside.
    """
    num_images, size = images.shape[:2]
    packed = np.zeros((num_images, size * size + 1, 4), np.uint8)
    packed[:, :-1, :3] = images.reshape(num_images, size * size, 3)
    return packed.view(np.int32)[:, :, 0]


def unpack(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """What was packed: uint8 (n, S, S, 3), a view."""
    return pixels[:, :-1, None].view(np.uint8)[:, :, :3].reshape(len(pixels), image_size, image_size, 3)


def channel_statistics(pool: Pool, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float64 (3,), in units of [0, 1] pixels; exact sums."""
    total, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for chunk in np.array_split(positions, -(-len(positions) // 4096)):
        values = unpack(pool.pixels[chunk], pool.spec.image_size).reshape(-1, 3).astype(np.int32)
        total += values.sum(axis=0, dtype=np.int64)
        squares += (values * values).sum(axis=0, dtype=np.int64)
    count = len(positions) * pool.spec.image_size**2
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    # images of one flat colour have no deviation; they are left unscaled
    return mean / 255, np.where(variance > 0, np.sqrt(variance), 255.0) / 255


def _settled(spec: DataSpec, class_names: Sequence[str], counts: Sequence[int]) -> DataSpec:
    """The spec with its open fields filled in from the data."""
    problems = []
    minority = spec.minority
    if len(class_names) < 2:
        problems.append(f"--data {spec.data}: has only the class {class_names[0]}; a study needs at least 2")
    elif len(class_names) > 1000:
        problems.append(f"--data {spec.data}: has {len(class_names)} classes; at most 1000 can be studied")
    if minority is None:
        if spec.data in ("cifar10", "digits"):
            minority = tuple(class_names[:3])
        else:
            half = float(np.median(counts)) / 2
            minority = tuple(name for name, count in zip(class_names, counts, strict=True) if count < half)
            if not minority:
                shown = ", ".join(f"{name} {count}" for name, count in zip(class_names, counts, strict=True))
                problems.append(f"--minority: no class has fewer than half the median class's images ({shown}); "
                                "name the classes that matter, separated by commas")  # fmt: skip
    else:
        unknown = [name for name in minority if name not in class_names]
        if unknown:
            problems.append(f"--minority: no class {', '.join(unknown)}; the classes are {', '.join(class_names)}")
        elif len(minority) >= len(class_names):
            problems.append("--minority names every class; at least one must be left out")
    if problems:
        raise UsageError(problems)
    return replace(
        spec,
        minority=minority,
        keep=DEFAULT_KEEP.get(spec.data, 1.0) if spec.keep is None else spec.keep,
        val_fraction=DEFAULT_VAL_FRACTION.get(spec.data, 0.2) if spec.val_fraction is None else spec.val_fraction,
    )


def split(pool: Pool, split_seed: int, cut_seed: int) -> Split:
    """Draws validation, stratified, from the pool (unless the source brought its own), then cuts the minority."""
    assert pool.spec.val_fraction is not None
    assert pool.spec.keep is not None
    first_own_val = len(pool.labels) - pool.num_own_val
    if pool.num_own_val:
        val = np.arange(first_own_val, len(pool.labels))
    else:
        counts = np.bincount(pool.labels, minlength=len(pool.class_names))
        num_val = [round(pool.spec.val_fraction * n) for n in counts]
        val = _stratified(pool.labels, num_val, "validation_split", split_seed)
    rest = np.setdiff1d(np.arange(first_own_val), val)
    counts = np.bincount(pool.labels[rest], minlength=len(pool.class_names))
    num_removed = [n - round(pool.spec.keep * n) if c in pool.minority else 0 for c, n in enumerate(counts)]
    audit = rest[_stratified(pool.labels[rest], num_removed, "cut", cut_seed)]
    return Split(train=np.setdiff1d(rest, audit), val=val, audit=audit)


def _stratified(labels: np.ndarray, num_drawn: Sequence[int], purpose: str, seed: int) -> np.ndarray:
    """Positions in ``labels``, ascending: ``num_drawn[c]`` of class c, each class from a stream of its own."""
    drawn = []
    for label, number in enumerate(num_drawn):
        members = np.flatnonzero(labels == label)
        generator = np.random.Generator(np.random.PCG64(derive(purpose, seed, label)))
        drawn.append(generator.permutation(members)[:number])
    return np.sort(np.concatenate(drawn))


def class_counts(pool: Pool, positions: np.ndarray) -> list[int]:
    """How many of ``positions`` are of each class."""
    return np.bincount(pool.labels[positions], minlength=len(pool.class_names)).tolist()


def check_split(pool: Pool, drawn: Split) -> tuple[list[str], list[str]]:
    """(problems, warnings): classes with too few images to train on or to be judged by."""
    problems, warnings = [], []
    train, val = class_counts(pool, drawn.train), class_counts(pool, drawn.val)
    for name, num_train, num_val in zip(pool.class_names, train, val, strict=True):
        if num_train < 2:
            problems.append(f"class {name}: {num_train} training image(s) left, at least 2 are needed")
        if num_val < 5:
            problems.append(f"class {name}: {num_val} validation image(s), at least 5 are needed")
    few = [f"{pool.class_names[c]} {val[c]}" for c in pool.minority if 5 <= val[c] < 25]
    if few:
        warnings.append(f"fewer than 25 validation images ({', '.join(few)}): scores of these classes will be rough")
    return problems, warnings


def count_lines(pool: Pool, drawn: Split) -> list[str]:
    """The class counts of every split as lines of a table; minority classes are starred."""
    columns = {
        "train": class_counts(pool, drawn.train),
        "val": class_counts(pool, drawn.val),
        "test": list(pool.test_counts) if pool.test_counts is not None else None,
        "cut off": class_counts(pool, drawn.audit),
    }
    width = max(len("class"), *(len(name) + 1 for name in pool.class_names))
    lines = ["  ".join([f"{'class':<{width}}", *(f"{name:>7}" for name in columns)])]
    for index, name in enumerate(pool.class_names):
        starred = f"{name}*" if index in pool.minority else name
        cells = [f"{column[index]:7d}" if column is not None else f"{'-':>7}" for column in columns.values()]
        lines.append("  ".join([f"{starred:<{width}}", *cells]))
    totals = [f"{sum(column):7d}" if column is not None else f"{'-':>7}" for column in columns.values()]
    return [*lines, "  ".join([f"{'all':<{width}}", *totals])]
