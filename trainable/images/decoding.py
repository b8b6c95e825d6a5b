"""From an image's file to pixels: upright, opaque, in 8 bits, of one size."""

import contextlib
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from trainable.cli import UsageError

GREY = (128, 128, 128, 255)  # behind what is transparent: black and white shapes both stand out from it
MAX_PIXELS = 180_000_000  # of a file; beyond it some compressed bytes could fill the memory
# Pillow knows these by their first bytes and needs other programs for their pixels; Ghostscript is even called at once
NEED_OTHER_PROGRAMS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The numbers that become black to white, (lowest, how many or how far), for pixels with more than 8 bits: "I" for whole
# numbers, "F" for floating point. One for all of a data set, as it would hide differences between images.
Scale = Mapping[str, tuple[float, float]]
SIXTEEN_BITS = (0.0, 65536.0)  # what whole numbers have where nothing is said


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image in a file, its pixels not read yet.

    Raises:
        UsageError: it cannot be read as an image, also where that is found inside the block.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a named pipe would let us wait for ever
            raise ValueError("it is no plain file")
        with Image.open(path, formats=_formats()) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"it has {width} × {height} pixels; at most {MAX_PIXELS // 10**6} million are read")
            yield image
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        reason: object = error
        if isinstance(error, UnidentifiedImageError):
            reason = "of no known kind, or damaged"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise UsageError([f"{path}: cannot be read as an image ({reason})"]) from error


def decoded(path: Path, image_size: int, scale: Scale, squash: bool) -> np.ndarray:
    """The image in a file with its EXIF orientation, as RGB, uint8 (S, S, 3); see ``resized``.

    Raises:
        UsageError: it cannot be read as an image.
    """
    with opened(path) as image:
        return resized(upright(image), image_size, scale, squash)


def deep_range(image: Image.Image) -> tuple[str, float, float] | None:
    """The kind of an image's pixels (see ``Scale``) and their lowest and highest number; None if they have 8 bits."""
    if (kind := _deep(image)) is None:
        return None
    values = np.asarray(image, np.float64)
    finite = values[np.isfinite(values)]
    return (kind, float(finite.min()), float(finite.max())) if finite.size else (kind, 0.0, 0.0)


def scale_of(ranges: Iterable[tuple[str, float, float]]) -> Scale:
    """The one scale for images of which ``deep_range`` has told the ranges; empty where it is what is taken anyway.

    Whole numbers: as many bits as the highest needs, or from the lowest to the highest where one is negative.
    Floating point: from the lowest to the highest.
    """
    found: dict[str, tuple[float, float]] = {}
    for kind, low, high in ranges:
        before = found.get(kind, (low, high))
        found[kind] = min(low, before[0]), max(high, before[1])
    scale: dict[str, tuple[float, float]] = {}
    for kind, (low, high) in sorted(found.items()):
        if kind == "I" and low >= 0:
            scale[kind] = 0.0, 2.0 ** max(int(high).bit_length(), 1)
        else:
            scale[kind] = low, (high - low + (kind == "I")) or 1.0
    return {kind: values for kind, values in scale.items() if (kind, values) != ("I", SIXTEEN_BITS)}


def upright(image: Image.Image, on_broken_exif: Callable[[], None] = lambda: None) -> Image.Image:
    """The image turned as its EXIF says; as it lies where that cannot be read.

    ImageOps.exif_transpose would also write all EXIF anew, and fail at odd tags that do not matter here.
    """
    image.load()
    orientation: Any = None
    try:
        tags = image.getexif()
        is_broken = not tags and bool(image.info.get("exif"))  # Pillow has met it before, and kept it to itself
        orientation = tags.get(ExifTags.Base.Orientation)
    except Exception:  # nearly anything, as for the pixels
        is_broken = True
    if is_broken:
        on_broken_exif()
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def resized(image: Image.Image, image_size: int, scale: Scale, squash: bool = False) -> np.ndarray:
    """Any image as RGB, uint8 (S, S, 3), in front of grey; bilinear, antialiased.

    What is not square keeps its shape, in the middle, and its edges are continued to fill the rest: so nothing is cut
    away, and no border is drawn that was not there. ``squash`` stretches it instead.
    """
    if (kind := _deep(image)) is not None:
        image = Image.fromarray(_in_8_bits(np.asarray(image, np.float64), kind, scale))
    elif image.has_transparency_data:
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, GREY), layer)
    rgb = image.convert("RGB")
    longest = max(rgb.size)
    width, height = (image_size if squash else max(1, round(side * image_size / longest)) for side in rgb.size)
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    left, above = (image_size - width) // 2, (image_size - height) // 2
    edges = (above, image_size - height - above), (left, image_size - width - left), (0, 0)
    return np.pad(np.asarray(rgb), edges, "edge") if width != height else np.asarray(rgb)


def image_endings() -> set[str]:
    """How the names of files end that may be read, in lower case, with the dot."""
    formats = set(_formats())
    return {ending for ending, kind in Image.registered_extensions().items() if kind in formats}


@contextlib.contextmanager
def decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as there are cores: Pillow's decoders release the GIL. What waits when the block ends is dropped.

    Without that an interruption would wait until every image has been decoded.
    """
    threads = ThreadPoolExecutor(os.cpu_count())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd files: what matters of them is told in our words
            yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def _formats() -> list[str]:
    Image.init()
    Image.MAX_IMAGE_PIXELS = None  # ``opened`` has a limit of its own, and says so in fewer words
    return [name for name in Image.OPEN if name not in NEED_OTHER_PROGRAMS]


def _deep(image: Image.Image) -> str | None:
    return image.mode[0] if image.mode[0] in "IF" else None


def _in_8_bits(values: np.ndarray, kind: str, scale: Scale) -> np.ndarray:
    known: dict[str, tuple[float, float]] = {"I": SIXTEEN_BITS, **scale}
    if kind not in known:
        raise ValueError("pixels are floating-point numbers, of no known range")
    low, width = known[kind]
    shares = (np.nan_to_num(values, nan=low, posinf=np.inf, neginf=-np.inf) - low) / width
    return np.clip(np.floor(shares * 256), 0, 255).astype(np.uint8)
