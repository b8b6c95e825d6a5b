"""From a source of images to what a trial may see: test images sealed off, validation drawn, minority cut."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainable.cli import UsageError, attempt, printable
from trainable.images import cache, memory, notes, sources
from trainable.images.listing import MAX_TOLD, Listing, list_folder, normal, shortened
from trainable.images.origins import FOLDER, origin
from trainable.images.pool import DataSpec, Pool, pack
from trainable.images.sources import Source
from trainable.images.splits import _set_aside


def load(spec: DataSpec, say: Callable[[str], None] = print, look: Callable[[Pool], None] = lambda pool: None) -> Pool:
    """Loads all images but the test images; ``say`` gets notes meant for the user, safe for a terminal.

    ``look`` gets the pool without pixels, scale and fingerprint, before anything is decoded, downloaded or written;
    what it raises ends the loading.

    Raises:
        UsageError: something about the images or the spec is wrong; every problem that could be found.
    """
    if spec.data == "digits":
        pool = _pool(replace(spec, own_test=False), sources.digits(spec.image_size), None, None)
        look(pool)
        return pool
    if spec.data == "cifar10":
        spec, data_dir = replace(spec, own_test=True), Path(spec.data_dir)
        look(_pool(spec, _outline(sources.CIFAR10_LABELS, sources.CIFAR10_NAMES), None, None))
        source = sources.cifar10(spec.image_size, data_dir)
        return _pool(spec, source, None, sources.cifar10_test_counts(data_dir))
    return _load_folder(spec, lambda text: say(printable(text)), look)


def _outline(labels: np.ndarray, class_names: tuple[str, ...]) -> Source:
    """Images without a pixel."""
    return Source(np.zeros((len(labels), 0, 0, 3), np.uint8), labels, class_names, "", {})


def _load_folder(spec: DataSpec, say: Callable[[str], None], look: Callable[[Pool], None]) -> Pool:
    root, cache_dir = Path(spec.data), Path(spec.cache_dir)
    listings = _listings(root)
    train_listing, val_listing, test_listing = (listings.get(part) for part in notes.PARTS)
    assert train_listing is not None
    own_test = test_listing is not None if spec.own_test is None else spec.own_test
    test_counts = tuple(test_listing.counts) if test_listing else None
    parts = [_outline(found.labels, found.class_names) if found else None for found in (train_listing, val_listing)]
    assert parts[0] is not None
    outline = _pool(replace(spec, own_test=own_test), parts[0], parts[1], test_counts)
    for note in [*notes.unused_folders(root), *train_listing.notes, *(val_listing.notes if val_listing else [])]:
        say(note)
    if val_listing and spec.val_fraction not in (None, FOLDER.val_fraction):
        say(f"--val-fraction {spec.val_fraction:g}: has no effect, as {root} has a val/ of its own")
    look(outline)
    for note in memory.notes(len(outline.labels), spec.image_size):
        say(note)
    train = sources.folder(root / "train", train_listing, spec.image_size, cache_dir, say)
    val = None
    if val_listing is not None:
        val = sources.folder(root / "val", val_listing, spec.image_size, cache_dir, say, train.scale)
    stamps = [[part, listing.stamps] for part, listing in listings.items()]
    seen = [sources.CACHE_FORMAT, spec.image_size, str(root), own_test, stamps]
    for note in cache.remembered(cache_dir, seen, lambda: _notes(root, listings, train, val, own_test)):
        say(note)
    return _pool(outline.spec, train, val, test_counts)


def _listings(root: Path) -> dict[str, Listing]:
    """Those of train/, val/ and test/, as far as they are there: they are quick, and show every mistake of layout
    before hours of decoding.

    Raises:
        UsageError: the mistakes.
    """
    if not root.is_dir():
        raise UsageError([f"--data must be cifar10, digits or a folder, but {root} is no folder"])
    if not (root / "train").is_dir():
        there = notes.unused_folders(root)
        raise UsageError([f"--data {root}: has no folder train/ (images are looked for in train/<class>/)", *there])
    listings: dict[str, Listing] = {}
    problems: list[str] = []
    for part in notes.PARTS:
        if (root / part).is_dir():
            found = attempt(problems, list_folder, root / part)
            if found and "train" in listings:
                found = attempt(problems, found.aligned, root / part, listings["train"].class_names)
            listings |= {part: found} if found else {}
    if problems:
        raise UsageError(problems)
    return listings


def _notes(root: Path, listings: dict[str, Listing], train: Source, val: Source | None, own_test: bool) -> list[str]:
    """What the images themselves make worth saying."""
    listing = listings["train"]
    found = notes.faint(root / "train", listing, train.images)
    is_split = val is None or not own_test
    found += notes.copies_inside(root / "train", listing, train.images, is_split)
    if val is not None:
        found += notes.faint(root / "val", listings["val"], val.images)
        found += notes.copies_between(listing, train.images, listings["val"], val.images)
    if own_test and "test" in listings:
        for part in listings.keys() - {"test"}:
            found += notes.copies_of_files(root, listings["test"], part, listings[part])
    return found


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
        scale=train.scale,
    )


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
        listing = list_folder(root).aligned(root, pool.class_names)
        for note in listing.notes:
            say(printable(note))
        source = sources.folder(root, listing, spec.image_size, cache_dir, say, pool.scale)
        return pack(source.images), source.labels
    if spec.data == "digits":
        source = sources.digits(spec.image_size)
    else:
        root = Path(spec.data) / "train"
        source = sources.folder(root, list_folder(root), spec.image_size, cache_dir, say)
    test = _set_aside(source.labels, spec.seed)
    return pack(source.images[test]), source.labels[test]


def _settled(spec: DataSpec, class_names: Sequence[str], counts: Sequence[int]) -> DataSpec:
    """The spec with its open fields filled in from the data."""
    if len(class_names) < 2:
        raise UsageError([f"--data {spec.data}: has only the class {class_names[0]}; a study needs at least 2"])
    if len(class_names) > 1000:
        raise UsageError([f"--data {spec.data}: has {len(class_names)} classes; at most 1000 can be studied"])
    problems = []
    usual, minority = origin(spec.data), spec.minority
    if minority is None:
        if usual.num_minority is not None:
            minority = tuple(class_names[: usual.num_minority])
        else:
            half = float(np.median(counts)) / 2
            minority = tuple(name for name, count in zip(class_names, counts, strict=True) if count < half)
            if not minority:
                each = [f"{name} {count}" for name, count in zip(class_names, counts, strict=True)]
                problems.append(
                    f"--minority: no class has fewer than half the median class's images "
                    f"({shortened(each, MAX_TOLD)}); name the classes that matter, separated by commas"
                )
    else:
        minority, unknown = _named(minority, class_names)
        if unknown:
            problems.append(
                f"--minority: no class {', '.join(unknown)}; the classes are {shortened(class_names, MAX_TOLD)}"
            )
        elif not minority:
            problems.append("--minority must name at least one class")
        elif len(minority) >= len(class_names):
            problems.append("--minority names every class; at least one must be left out")
    if problems:
        raise UsageError(problems)
    return replace(
        spec,
        minority=minority,
        keep=usual.keep if spec.keep is None else spec.keep,
        val_fraction=usual.val_fraction if spec.val_fraction is None else spec.val_fraction,
    )


def _named(texts: Sequence[str], class_names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The classes that the texts name, each once, and what in them names none. Commas part names, but a name may hold
    some: the longest that there is counts.
    """
    known = {normal(name).strip(): name for name in class_names} | {normal(name): name for name in class_names}
    found: list[str] = []
    unknown: list[str] = []
    for text in texts:
        parts = text.split(",")
        while parts:
            for length in range(len(parts), 0, -1):
                name = normal(",".join(parts[:length]))
                if match := known.get(name, known.get(name.strip())):
                    found.append(match)
                    break
            else:
                unknown += [name.strip()] if name.strip() else []
            del parts[:length]
    return tuple(dict.fromkeys(found)), unknown
