"""What a user should know of a folder's images before a study is built on them. Nothing here refuses."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from trainable.images.listing import Listing, shortened

MANY = 0.1  # of a class's images
SMALL_RANGE = 16  # of 256 levels
SAMPLE = 4096  # bytes
CHUNK = 4096  # images
MASK = re.compile(r"[-_. ](mask|label|seg|segmentation|gt|groundtruth|annotation)s?$", re.IGNORECASE)


def faint(listing: Listing, images: np.ndarray) -> list[str]:
    """Says so where many images of a class, uint8 (n, S, S, 3), are of one colour or nearly so."""
    spans = np.concatenate([_spans(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)])
    sentences = []
    for words, hit in [
        ("of one flat colour", spans == 0),
        (f"of less than {SMALL_RANGE} of 256 levels of brightness", (spans > 0) & (spans < SMALL_RANGE)),
    ]:
        counts = np.bincount(listing.labels[hit], minlength=len(listing.class_names))
        many = [
            f"{name} {count} of {total}"
            for name, count, total in zip(listing.class_names, counts, listing.counts, strict=True)
            if count > MANY * total
        ]
        if many:
            example = listing.names[int(np.flatnonzero(hit)[0])]
            sentences.append(
                f"{listing.root}: many images, as they are read, are {words} ({shortened(many, 5)}; "
                f"{example} is one): little or nothing can be seen in them"
            )
    return sentences


def copies_inside(listing: Listing, images: np.ndarray, is_split: bool) -> list[str]:
    """Says so where a part holds the same image more than once, if it ``is_split`` or the copies' classes differ."""
    first: dict[bytes, int] = {}
    copies = [
        (index, first[digest])
        for index, digest in enumerate(_digests(images))
        if first.setdefault(digest, index) != index
    ]
    contrary = [(index, other) for index, other in copies if listing.labels[index] != listing.labels[other]]
    sentences = []
    if copies and is_split:
        sentences.append(
            f"{listing.root}: {len(copies)} of {len(listing.names)} images are exact copies of others there "
            f"({_pair(listing.names, copies)}): a copy of a training image may be drawn to be judged by"
        )
    if contrary:
        sentences.append(
            f"{listing.root}: {len(contrary)} images are exact copies of images in another class's folder "
            f"({_pair(listing.names, contrary)})"
        )
    return sentences


def twins(listing: Listing) -> list[str]:
    """Says so where a folder holds files that differ in their endings alone, or in a word like mask."""
    place: dict[tuple[str, str], int] = {}
    keys = [_key(name) for name in listing.names]
    for index, key in enumerate(keys):
        place.setdefault(key, index)
    pairs: list[tuple[int, int]] = []
    globs: set[str] = set()
    for index, (folder, stem) in enumerate(keys):
        plain = MASK.sub("", stem)
        other = place.get((folder, plain), index)
        if other != index:
            pairs.append((index, other))
            globs.add(f"'*{stem[len(plain) :]}{os.path.splitext(listing.names[index])[1]}'")
    if not pairs:
        return []
    return [
        f"{listing.root}: {len(pairs)} images lie beside one of the same name but for the ending or a word like mask "
        f"({' and '.join(listing.names[place] for place in reversed(pairs[0]))}): masks? --exclude leaves them out, "
        f"for instance --exclude {shortened(sorted(globs), 1)}"
    ]


def _key(name: str) -> tuple[str, str]:
    """(folder, name without its ending)"""
    folder, file = os.path.split(name)
    return folder, os.path.splitext(file)[0]


def copies_between(train: Listing, train_images: np.ndarray, val: Listing, val_images: np.ndarray) -> list[str]:
    """Says so where val/ holds images of train/."""
    places = {digest: index for index, digest in enumerate(_digests(train_images))}
    pairs = [
        (val.path(index), train.path(places[digest]))
        for index, digest in enumerate(_digests(val_images))
        if digest in places
    ]
    return _shared(pairs, _title(val, "val"), _title(train, "train"), len(val.names))


def copies_of_files(test: Listing, part: str, listing: Listing) -> list[str]:
    """Says so where test/ holds files that ``part`` holds, too, byte for byte; no test image is decoded for that."""
    return _shared(_same_files(test, listing), _title(test, "test"), _title(listing, part), len(test.names))


def _title(listing: Listing, part: str) -> str:
    return f"{listing.folder}/" if listing.folder else part


def _shared(pairs: list[tuple[str, str]], part: str, other: str, total: int) -> list[str]:
    if not pairs:
        return []
    return [
        f"{len(pairs)} of {total} images in {part} are exact copies of images in {other} ({' is '.join(pairs[0])}): "
        f"scores on them tell what a model remembers, not what it recognises"
    ]


def _pair(names: Sequence[str], pairs: list[tuple[int, int]]) -> str:
    index, other = pairs[0]
    return f"{names[index]} is {names[other]}"


def _spans(images: np.ndarray) -> np.ndarray:
    """The largest range of a channel in each image, uint8 (n,)."""
    flat = images.reshape(len(images), -1, 3)
    spans: np.ndarray = (flat.max(axis=1) - flat.min(axis=1)).max(axis=1)
    return spans


def _digests(images: np.ndarray) -> Iterator[bytes]:
    return (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images)


def _same_files(ours: Listing, theirs: Listing) -> list[tuple[str, str]]:
    """The paths of equal files, ours and one of theirs. Few are read: lengths, then some bytes, must agree before."""
    files, others = (
        [(side.root / name, size, side.path(index)) for index, (name, size, _) in enumerate(side.stamps)]
        for side in (ours, theirs)
    )
    keys: list[Callable[[Path, int], object]] = [lambda path, size: size, _middle, _whole]
    for key in keys:
        found, known = (
            [(key(path, size), (path, size, name)) for path, size, name in side] for side in (files, others)
        )
        common = {value for value, _ in found} & {value for value, _ in known} - {None}
        files, others = ([file for value, file in side if value in common] for side in (found, known))
        names = {value: file[2] for value, file in known}
    return [(file[2], names[value]) for value, file in found if value in common]


def _middle(path: Path, size: int) -> bytes | None:
    return _hashed(path, size // 2, SAMPLE)


def _whole(path: Path, size: int) -> bytes | None:
    return _hashed(path, 0, size)


def _hashed(path: Path, start: int, most: int) -> bytes | None:
    """None where the file cannot be read, which is told where it is decoded."""
    digest = hashlib.blake2b()
    try:
        with path.open("rb") as file:
            file.seek(start)
            while most > 0 and (part := file.read(min(most, 1 << 20))):
                digest.update(part)
                most -= len(part)
    except OSError:
        return None
    return digest.digest()
