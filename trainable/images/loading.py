"""From a source of images to what a trial may see: test images sealed off, validation drawn, minority cut."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainable.cli import UsageError, attempt, printable
from trainable.images import leaks, notes, sources
from trainable.images.drawing import num_groups, numbered
from trainable.images.groups import of_parts
from trainable.images.listing import Listing, list_folder, normal
from trainable.images.origins import FOLDER, NAMED, origin
from trainable.images.pool import DataSpec, Pool, SealedImages, pack
from trainable.images.sources import Source
from trainable.images.splits import _set_aside


def load(spec: DataSpec, say: Callable[[str], None] = print) -> Pool:
    """Loads all images but the test images; ``say`` gets notes meant for the user, safe for a terminal.

    Raises:
        UsageError: something about the images or the spec is wrong; every problem that could be found.
    """
    if spec.group is not None and spec.data in NAMED:
        raise UsageError([f"--group: must be left out with --data {spec.data}, whose images have no paths"])
    if spec.data == "digits":
        return _pool(replace(spec, own_test=False), sources.digits(spec.image_size), None, None, None)
    if spec.data == "cifar10":
        source = sources.cifar10(spec.image_size, Path(spec.data_dir))
        test_counts = sources.cifar10_test_counts(Path(spec.data_dir))
        return _pool(replace(spec, own_test=True), source, None, test_counts, None)
    return _load_folder(spec, lambda text: say(printable(text)))


def _load_folder(spec: DataSpec, say: Callable[[str], None]) -> Pool:
    root, cache_dir = Path(spec.data), Path(spec.cache_dir)
    listings = _listings(root)
    train_listing, val_listing, test_listing = (listings.get(part) for part in notes.PARTS)
    assert train_listing is not None
    own_test = test_listing is not None if spec.own_test is None else spec.own_test
    spec = replace(spec, own_test=own_test)
    problems: list[str] = []
    groups = attempt(problems, _groups, spec, listings, say)
    settled = attempt(problems, _settled, spec, train_listing.class_names, train_listing.counts)
    if problems:
        raise UsageError(problems)
    for note in notes.unused_folders(root):
        say(note)
    if val_listing and spec.val_fraction not in (None, FOLDER.val_fraction):
        say(f"--val-fraction {spec.val_fraction:g}: has no effect, as {root} has a val/ of its own")
    train = sources.folder(root / "train", train_listing, spec.image_size, cache_dir, say)
    val = None
    if val_listing is not None:
        val = sources.folder(root / "val", val_listing, spec.image_size, cache_dir, say, train.scale)
    for note in _notes(root, listings, train, val, own_test):
        say(note)
    pool = _pool(settled, train, val, tuple(test_listing.counts) if test_listing else None, groups)
    found = _leaks(listings, train, val, own_test, groups)
    if found:
        say(found)
    return replace(pool, leaks=found)


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


def _pool(
    spec: DataSpec,
    train: Source,
    val: Source | None,
    test_counts: tuple[int, ...] | None,
    groups: dict[str, list[str]] | None,
) -> Pool:
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    spec = _settled(spec, train.class_names, counts.tolist())
    images, labels = train.images, train.labels
    numbers = numbered([*groups["train"], *groups.get("val", [])]) if groups else None
    test_groups = num_groups(numbered(groups["test"])) if groups and "test" in groups else None
    contents = [train.content_hash, val.content_hash if val else ""]
    if numbers is not None:
        contents.append(hashlib.sha256(numbers.tobytes()).hexdigest())
    if not spec.own_test:
        of_train = None if numbers is None else numbers[: len(labels)]
        test = _set_aside(labels, spec.seed, of_train)
        test_counts = tuple(np.bincount(labels[test], minlength=len(counts)).tolist())
        kept = np.setdiff1d(np.arange(len(labels)), test)
        if numbers is not None:
            test_groups, numbers = num_groups(numbers[test]), np.delete(numbers, test)
        images, labels = images[kept], labels[kept]
    if val is not None:
        images, labels = np.concatenate([images, val.images]), np.concatenate([labels, val.labels])
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
        groups=numbers,
        test_groups=test_groups,
    )


def load_test(pool: Pool, say: Callable[[str], None] = print) -> SealedImages:
    """The test images that ``load`` left out of ``pool``.

    The one way to them, and for ``study.confirm`` alone. No seed of a trial has a say in which they are.

    Raises:
        UsageError: they are not there, or are damaged.
    """
    spec, cache_dir = pool.spec, Path(pool.spec.cache_dir)
    if spec.data == "cifar10":
        source = sources.cifar10_test(spec.image_size, Path(spec.data_dir))
        return SealedImages(pack(source.images), source.labels)
    if spec.data == "digits":
        source = sources.digits(spec.image_size)
        test = _set_aside(source.labels, spec.seed, None)
        return SealedImages(pack(source.images[test]), source.labels[test])
    part = "test" if spec.own_test else "train"
    root = Path(spec.data) / part
    if not root.is_dir():
        raise UsageError([f"{root}: not found, so there are no test images"])
    listing = list_folder(root)
    groups = _groups(spec, {part: listing}, lambda text: None)
    numbers = numbered(groups[part]) if groups else None
    if spec.own_test:
        listing = listing.aligned(root, pool.class_names)
        source = sources.folder(root, listing, spec.image_size, cache_dir, say, pool.scale)
        return SealedImages(pack(source.images), source.labels, numbers)
    source = sources.folder(root, listing, spec.image_size, cache_dir, say)
    test = _set_aside(source.labels, spec.seed, numbers)
    return SealedImages(pack(source.images[test]), source.labels[test], None if numbers is None else numbers[test])


def _groups(spec: DataSpec, listings: dict[str, Listing], say: Callable[[str], None]) -> dict[str, list[str]] | None:
    """The group of each image in each part that is used; None where each image is one of its own."""
    if spec.group is None:
        return None
    used = {part: listing.names for part, listing in listings.items() if part != "test" or spec.own_test}
    return of_parts(used, spec.group, say)


def _leaks(
    listings: dict[str, Listing],
    train: Source,
    val: Source | None,
    own_test: bool,
    groups: dict[str, list[str]] | None,
) -> str:
    """What could stand on two sides of a split, beyond exact copies, in a sentence; empty if nothing was found."""
    sources_of = {"train": train} | ({"val": val} if val is not None else {})
    paths = [f"{part}/{name}" for part in sources_of for name in listings[part].names]
    together: np.ndarray | None = None
    if val is not None and own_test:  # nothing is drawn: each part is a side
        together = numbered([part for part in sources_of for _ in listings[part].names])
    elif groups:
        together = numbered([name for part in sources_of for name in groups[part]])
    return leaks.sentence(paths, [source.images for source in sources_of.values()], together)


def _settled(spec: DataSpec, class_names: Sequence[str], counts: Sequence[int]) -> DataSpec:
    """The spec with its open fields filled in from the data."""
    problems = []
    usual, minority = origin(spec.data), spec.minority
    if len(class_names) < 2:
        problems.append(f"--data {spec.data}: has only the class {class_names[0]}; a study needs at least 2")
    elif len(class_names) > 1000:
        problems.append(f"--data {spec.data}: has {len(class_names)} classes; at most 1000 can be studied")
    if minority is None:
        if usual.num_minority is not None:
            minority = tuple(class_names[: usual.num_minority])
        else:
            half = float(np.median(counts)) / 2
            minority = tuple(name for name, count in zip(class_names, counts, strict=True) if count < half)
            if not minority:
                shown = ", ".join(f"{name} {count}" for name, count in zip(class_names, counts, strict=True))
                problems.append(
                    f"--minority: no class has fewer than half the median class's images ({shown}); "
                    "name the classes that matter, separated by commas"
                )
    else:
        minority, unknown = _named(minority, class_names)
        if unknown:
            problems.append(f"--minority: no class {', '.join(unknown)}; the classes are {', '.join(class_names)}")
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
