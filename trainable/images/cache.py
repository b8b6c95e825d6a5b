"""Decoded images on disk: an array in a .npy file, believed only where the hash beside it is that of its content."""

import contextlib
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from trainable.cli import UsageError
from trainable.files import replacing
from trainable.images.decoding import Scale
from trainable.progress import stage

HASH_LENGTH = 64
PARTIAL_SECONDS = 86400  # whoever has not written for so long was killed
_PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial|[0-9a-f]{32}\.\d+\.partial")  # the latter by earlier versions


@dataclass(frozen=True)
class Entry:
    """The place of a folder's images in the cache."""

    cache_dir: Path
    key: str
    labels: np.ndarray  # int64 (n,); the hash is of them, too
    image_size: int

    @property
    def array_path(self) -> Path:
        return self.cache_dir / f"{self.key}.npy"

    @property
    def _hash_path(self) -> Path:
        return self.cache_dir / f"{self.key}.sha256"

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        return len(self.labels), self.image_size, self.image_size, 3

    @property
    def _header(self) -> bytes:
        """How the .npy file begins."""
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": self._shape})
        return header.getvalue()

    @property
    def _num_bytes(self) -> int:
        return len(self._header) + int(np.prod(self._shape))

    @stage("checking the decoded images")
    def read(self) -> tuple[np.ndarray, str, Scale] | None:
        """The images, uint8 (n, S, S, 3), mapped, their hash and scale; None where they are damaged or not there."""
        try:
            if not (self.array_path.is_file() and self._hash_path.is_file()):
                return None
            with self.array_path.open("rb") as file:
                header = file.read(len(self._header))
                if header != self._header or os.stat(file.fileno()).st_size != self._num_bytes:
                    return None
                images = self._mapped(file, "r")
            told = self._hash_path.read_bytes()
            scale = json.loads(told[HASH_LENGTH:] or b"{}")
            found = content_hash(images, self.labels, scale)
            return (images, found, scale) if told == _hash_text(found, scale) else None
        except (OSError, ValueError, RecursionError):  # a disk that cannot be read, a scale that is none
            return None

    def write(self, decode: Callable[[np.ndarray], Scale]) -> tuple[np.ndarray, str, Scale]:
        """What ``read`` gives, after ``decode`` has filled the array and told the scale; whole or not at all.

        Raises:
            UsageError: the cache cannot be written.
        """
        try:
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            self._remove_old_partials()
            with replacing(self.array_path) as file:
                _reserve(file, self._num_bytes)
                file.write(self._header)
                images = self._mapped(file, "r+")
                scale = decode(images)
                found = content_hash(images, self.labels, scale)
                images.flush()
            with replacing(self._hash_path) as file:
                file.write(_hash_text(found, scale))
            images.flags.writeable = False
            return images, found, scale
        except OSError as error:
            raise UsageError([_unwritable(self.cache_dir, error)]) from error

    def _mapped(self, file: BinaryIO, mode: Literal["r", "r+"]) -> np.memmap:
        file.flush()
        return np.memmap(file, np.uint8, mode, len(self._header), self._shape)

    def _remove_old_partials(self) -> None:
        """Removes what killed processes have left; another process may be writing the younger ones."""
        for path in self.cache_dir.iterdir():
            if _PARTIAL.fullmatch(path.name) and path.lstat().st_mtime < time.time() - PARTIAL_SECONDS:
                path.unlink(missing_ok=True)


def mapped(path: Path, shape: tuple[int, int], fill: Callable[[np.ndarray], None]) -> np.memmap:
    """An int32 array of zeros in a new file at ``path``, after ``fill`` has written into it; mapped, for reading.

    Raises:
        UsageError: the cache cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            _reserve(file, 4 * shape[0] * shape[1])
            array = np.memmap(file, np.int32, "r+", 0, shape)
            fill(array)
            array.flush()
        return np.memmap(path, np.int32, "r", 0, shape)
    except OSError as error:
        raise UsageError([_unwritable(path.parent, error)]) from error


def _reserve(file: BinaryIO, num_bytes: int) -> None:
    """A full disk is told here: found while writing to mapped memory, it would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, num_bytes)


def remembered(cache_dir: Path, seen: object, find: Callable[[], list[str]]) -> list[str]:
    """What ``find`` says of images, a list of sentences; found once, and then in the cache for as long as all that it
    has ``seen``, as JSON, is the same.

    Raises:
        UsageError: the cache cannot be written.
    """
    path = cache_dir / f"{hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:32]}.notes"
    with contextlib.suppress(OSError):
        told = path.read_bytes() if path.is_file() else b""
        if told[HASH_LENGTH:] and told[:HASH_LENGTH] == _digest(told[HASH_LENGTH:]):
            sentences: list[str] = json.loads(told[HASH_LENGTH:])
            return sentences
    with stage("looking for copies among the images"):
        sentences = find()
    text = json.dumps(sentences).encode()
    try:
        with replacing(path) as file:
            file.write(_digest(text) + text)
    except OSError as error:
        raise UsageError([_unwritable(cache_dir, error)]) from error
    return sentences


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def _unwritable(cache_dir: Path, error: OSError) -> str:
    return f"--cache-dir {cache_dir}: cannot be written ({error.strerror or error})"


def content_hash(images: np.ndarray, labels: np.ndarray, scale: Scale) -> str:
    """SHA-256 of uint8 images, int64 labels and the scale of deep images, if any: 64 hexadecimal digits."""
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(labels.tobytes())
    digest.update(json.dumps(scale).encode() if scale else b"")
    return digest.hexdigest()


def _hash_text(found: str, scale: Scale) -> bytes:
    return (found + (json.dumps(scale) if scale else "")).encode()
