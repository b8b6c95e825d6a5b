"""The images that training and validation may use, packed for many trials to share."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from trainable.images.decoding import Scale
from trainable.images.origins import origin
from trainable.progress import counted

CHUNK_PIXELS = 2**22


@dataclass(frozen=True)
class DataSpec:
    """Which images a study is about. Fields that are None are settled when the images are loaded."""

    data: str  # "cifar10", "digits" or an absolute path
    data_dir: str  # where CIFAR-10 lies or is downloaded to
    cache_dir: str
    image_size: int = 32
    minority: tuple[str, ...] | None = None  # class names; until they are settled, as typed: also "cat, dog"
    keep: float | None = None  # fraction of the minority's training images that is kept
    val_fraction: float | None = None
    seed: int = 0  # draws the test images, where the source brings none
    own_test: bool | None = None  # the source brings test images of its own
    split_names: bool = True  # also validation/, Dev/ and the like are parts, and not val/ alone; see layout
    labels: str | None = None  # absolute path of a table of images, see table; None: classes are folders
    include: tuple[str, ...] = ()  # globs of paths relative to the folder, see globs
    exclude: tuple[str, ...] = ()
    skip_bad_files: bool = False  # files that cannot be read are left out
    squash: bool = False  # what is not square is stretched until it is
    group: str | None = None  # a regular expression: what it finds in an image's path is the image's group
    # other imbalances than that by ``keep``, which is 1 then; at most one of the two
    longtail_ratio: float | None = None  # of the most frequent class's training images to the rarest's
    train_counts: tuple[tuple[str, int], ...] = ()  # (class, training images), sorted; of others all are kept
    folds: int = 0  # parts of the images that are each validation once, see splits; 0: validation is drawn once

    @property
    def imbalance(self) -> str:
        """Which imbalance is made, in words."""
        if self.train_counts:
            return ", ".join(f"{name} {number}" for name, number in self.train_counts)
        return "step" if self.longtail_ratio is None else f"longtail {self.longtail_ratio:g}"

    @property
    def is_cut(self) -> bool:
        """Whether training images are left out to make an imbalance."""
        return self.imbalance != "step" or (self.keep is not None and self.keep < 1)

    @property
    def val_share(self) -> float:
        """The share of the images that a network is judged by, and not trained on; where it is settled."""
        assert self.val_fraction is not None
        return 1 / self.folds if self.folds else self.val_fraction

    def with_usual_fractions(self) -> "DataSpec":
        """``keep`` and ``val_fraction`` as they are usual for images of this origin, where nobody gave them."""
        usual = origin(self.data)
        keep = usual.keep if self.imbalance == "step" else 1.0
        return replace(
            self,
            keep=keep if self.keep is None else self.keep,
            val_fraction=usual.val_fraction if self.val_fraction is None else self.val_fraction,
        )

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
    scale: Scale = field(default_factory=dict)  # of files with more than 8 bits, see decoding
    skipped: tuple[str, ...] = ()  # paths of files that could not be read, relative to the data folder
    minority_line: str = ""  # which classes it is, how many images they have and why it is they, for people
    groups: np.ndarray | None = None  # int64 (n,): equal for images of one group; None: each is a group of its own
    test_groups: int | None = None  # how many the test images are of, where there are groups and it is known
    leaks: str = ""  # what in these images could stand on two sides of a split, in a sentence

    def __getstate__(self) -> dict[str, Any]:
        """What trials in other processes are given: of pixels that are mapped from a file only where that lies."""
        state = dict(vars(self))
        if isinstance(self.pixels, np.memmap):
            state["pixels"] = self.pixels.filename, self.pixels.shape
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(place := state["pixels"], tuple):
            state = {**state, "pixels": np.memmap(place[0], np.int32, "r", 0, place[1])}
        vars(self).update(state)

    @property
    def minority(self) -> tuple[int, ...]:
        assert self.spec.minority is not None
        return tuple(self.class_names.index(name) for name in self.spec.minority)


class SealedImages(NamedTuple):
    """The test images."""

    pixels: np.ndarray  # int32 (n, S * S + 1), see pack
    labels: np.ndarray  # int64 (n,)
    groups: np.ndarray | None = None  # int64 (n,), as in a pool


def pack(images: np.ndarray) -> np.ndarray:
    """uint8 (n, S, S, 3) as int32 (n, S * S + 1): a pixel's three channels in one word, a black one appended.

    The form that trials share and gather from: one word moves a whole pixel, and the last is what a rotation
    brings in from outside.
    """
    packed = np.zeros((len(images), images.shape[1] ** 2 + 1), np.int32)
    pack_into(packed, images, np.arange(len(images)))
    return packed


def pack_into(packed: np.ndarray, images: np.ndarray, positions: np.ndarray) -> None:
    """Writes the images at ``positions`` into ``packed``, int32 zeros (len(positions), S * S + 1), part by part.

    Either may lie in a file and be larger than the memory.
    """
    size = images.shape[1]
    step = chunk_length(size)
    starts = range(0, len(positions), step)
    for start in counted(starts, "packing images", len(starts), "parts"):
        chunk = images[positions[start : start + step]]
        rows = packed[start : start + step, :-1, None].view(np.uint8)
        rows[:, :, :3] = chunk.reshape(len(chunk), size * size, 3)


def chunk_length(image_size: int) -> int:
    """How many images are taken into memory at a time."""
    return max(1, CHUNK_PIXELS // max(1, image_size**2))


def unpack(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """What was packed: uint8 (n, S, S, 3), a view."""
    return pixels[:, :-1, None].view(np.uint8)[:, :, :3].reshape(len(pixels), image_size, image_size, 3)


def channel_statistics(pool: Pool, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float64 (3,), in units of [0, 1] pixels; exact sums."""
    total, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for chunk in np.array_split(positions, -(-len(positions) // chunk_length(pool.spec.image_size))):
        values = unpack(pool.pixels[chunk], pool.spec.image_size).reshape(-1, 3).astype(np.int32)
        total += values.sum(axis=0, dtype=np.int64)
        squares += (values * values).sum(axis=0, dtype=np.int64)
    count = len(positions) * pool.spec.image_size**2
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    # images of one flat colour have no deviation; they are left unscaled
    return mean / 255, np.where(variance > 0, np.sqrt(variance), 255.0) / 255


def class_counts(pool: Pool, positions: np.ndarray) -> list[int]:
    """How many of ``positions`` are of each class."""
    return np.bincount(pool.labels[positions], minlength=len(pool.class_names)).tolist()
