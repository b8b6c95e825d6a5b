"""From a source of images to what a trial may see: test images sealed off, classes and counts settled."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainable.cli import UsageError, attempt, printable
from trainable.images import cache, imbalance, leaks, memory, minority, notes, sources
from trainable.images.drawing import num_groups, numbered
from trainable.images.groups import by_regex, by_table
from trainable.images.layout import list_parts
from trainable.images.listing import MAX_TOLD, Listing, shortened
from trainable.images.origins import FOLDER, NAMED, origin
from trainable.images.parts import PART_NAMES
from trainable.images.pool import DataSpec, Pool, SealedImages, pack, pack_into
from trainable.images.sources import Source
from trainable.images.splits import TEST_FRACTION, _set_aside, num_left


def load(spec: DataSpec, say: Callable[[str], None] = print, look: Callable[[Pool], None] = lambda pool: None) -> Pool:
    """Loads all images but the test images; ``say`` gets notes meant for the user, safe for a terminal.

    ``look`` gets the pool without pixels, scale and fingerprint, before anything is decoded, downloaded or written;
    what it raises ends the loading.

    Raises:
        UsageError: something about the images or the spec is wrong; every problem that could be found.
    """
    if spec.data == "digits":
        pool = _pool(replace(spec, own_test=False), sources.digits(spec.image_size), None, None, None)
        look(pool)
        return pool
    if spec.data == "cifar10":
        spec, data_dir = replace(spec, own_test=True), Path(spec.data_dir)
        look(_pool(spec, _outline(sources.CIFAR10_LABELS, sources.CIFAR10_NAMES), None, None, None))
        source = sources.cifar10(spec.image_size, data_dir)
        return _pool(spec, source, None, sources.cifar10_test_counts(data_dir), None)
    return _load_folder(spec, lambda text: say(printable(text)), look)


def _outline(labels: np.ndarray, class_names: tuple[str, ...]) -> Source:
    """Images without a pixel."""
    return Source(np.zeros((len(labels), 0, 0, 3), np.uint8), labels, class_names, "", {})


def _load_folder(spec: DataSpec, say: Callable[[str], None], look: Callable[[Pool], None]) -> Pool:
    listings, layout_notes = list_parts(spec)
    train_listing, val_listing, test_listing = listings["train"], listings.get("val"), listings.get("test")
    own_test = test_listing is not None if spec.own_test is None else spec.own_test
    test_counts = tuple(test_listing.counts) if test_listing else None
    spec = replace(spec, own_test=own_test)
    outline = _outline(train_listing.labels, train_listing.class_names)
    val_outline = _outline(val_listing.labels, val_listing.class_names) if val_listing else None
    for note in [*layout_notes, *train_listing.notes, *(val_listing.notes if val_listing else [])]:
        say(note)
    if val_listing and spec.val_fraction not in (None, FOLDER.val_fraction):
        say(f"--val-fraction {spec.val_fraction:g}: has no effect, as {spec.data} has a val/ of its own")
    problems: list[str] = []
    groups = attempt(problems, _groups, spec, listings, say)
    outlined = attempt(problems, _pool, spec, outline, val_outline, test_counts, groups)
    if outlined is None or problems:
        raise UsageError(problems)
    look(outlined)
    for note in memory.notes(len(outlined.labels), spec.image_size, spec.cache_dir):
        say(note)
    train = sources.folder(train_listing, spec, say)
    val = None
    if val_listing is not None:
        val = sources.folder(val_listing, spec, say, train.scale)
    listings |= {part: source.listing for part, source in [("train", train), ("val", val)] if source and source.listing}
    told = [[part, found.stamps, found.labels.tolist() if spec.labels else None] for part, found in listings.items()]
    seen = [sources.CACHE_FORMAT, spec.image_size, spec.squash, spec.data, own_test, told]
    for note in cache.remembered(Path(spec.cache_dir), seen, lambda: _notes(listings, train, val, own_test)):
        say(note)
    groups = _groups(spec, listings, lambda text: None)  # files that cannot be read may be gone
    found = cache.remembered(
        Path(spec.cache_dir), [leaks.VERSION, seen, groups], lambda: _leaks(listings, train, val, own_test, groups)
    )
    for note in found:
        say(note)
    return replace(_pool(spec, train, val, test_counts, groups), leaks="; ".join(found))


def _notes(listings: dict[str, Listing], train: Source, val: Source | None, own_test: bool) -> list[str]:
    """What the images themselves make worth saying."""
    listing = listings["train"]
    found = [sentence for part in PART_NAMES if part in listings for sentence in notes.twins(listings[part])]
    found += notes.faint(listing, train.images)
    is_split = val is None or not own_test
    found += notes.copies_inside(listing, train.images, is_split)
    if val is not None:
        found += notes.faint(listings["val"], val.images)
        found += notes.copies_between(listing, train.images, listings["val"], val.images)
    if own_test and "test" in listings:
        for part in listings.keys() - {"test"}:
            found += notes.copies_of_files(listings["test"], part, listings[part])
    return found


def _pool(
    spec: DataSpec,
    train: Source,
    val: Source | None,
    test_counts: tuple[int, ...] | None,
    groups: dict[str, list[str]] | None,
) -> Pool:
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    spec, minority_line = _settled(spec, train.class_names, counts.tolist(), has_own_val=val is not None)
    labels, parts = train.labels, [(train.images, np.arange(len(train.labels)))]
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
        labels, parts = labels[kept], [(train.images, kept)]
    if val is not None:
        labels = np.concatenate([labels, val.labels])
        parts.append((val.images, np.arange(len(val.labels))))
    fingerprint = hashlib.sha256(
        json.dumps([*contents, spec.own_test, spec.seed, train.class_names]).encode()
    ).hexdigest()
    return Pool(
        spec=spec,
        pixels=_packed(parts, Path(spec.cache_dir) / f"{fingerprint[:32]}.pixels" if train.listing else None),
        labels=labels,
        class_names=train.class_names,
        num_own_val=len(val.labels) if val else 0,
        test_counts=test_counts,
        fingerprint=fingerprint,
        scale=train.scale,
        skipped=train.skipped + (val.skipped if val else ()),
        minority_line=minority_line,
        groups=numbers,
        test_groups=test_groups,
    )


def _packed(parts: Sequence[tuple[np.ndarray, np.ndarray]], path: Path | None) -> np.ndarray:
    """The pixels of (images, positions in them), one part after the other, as ``pack`` makes them.

    In a file at ``path``, if there may be one, where the memory should not hold them.
    """
    image_size, num_images = parts[0][0].shape[1], sum(len(positions) for _, positions in parts)
    shape = num_images, image_size**2 + 1

    def fill(packed: np.ndarray) -> None:
        start = 0
        for images, positions in parts:
            pack_into(packed[start : start + len(positions)], images, positions)
            start += len(positions)

    if path is not None and memory.are_too_many(num_images, image_size, memory.free_bytes()):
        return cache.mapped(path, shape, fill)
    packed = np.zeros(shape, np.int32)
    fill(packed)
    return packed


def paths(pool: Pool) -> list[str] | None:
    """The path of each of the pool's images, relative to the data folder; None where they are no files of their own.

    Raises:
        UsageError: the files can no longer be listed.
    """
    spec, skipped = pool.spec, set(pool.skipped)
    if spec.data in NAMED:
        return None
    left = dict[str, Listing]()
    for part, listing in list_parts(spec)[0].items():
        left[part] = listing.only([path not in skipped for path in listing.paths])
    found = {part: listing.paths for part, listing in left.items()}
    if not spec.own_test:
        groups = _groups(spec, left, lambda text: None)
        test = _set_aside(left["train"].labels, spec.seed, numbered(groups["train"]) if groups else None)
        found["train"] = np.delete(np.array(found["train"], object), test).tolist()
    return [*found["train"], *found.get("val", [])]


def load_test(pool: Pool, say: Callable[[str], None] = print) -> SealedImages:
    """The test images that ``load`` left out of ``pool``.

    The one way to them: for ``study.confirm``, and for a benchmark beside published test scores. No seed of a trial has
    a say in which they are.

    Raises:
        UsageError: they are not there, or are damaged.
    """
    spec = pool.spec
    if spec.data == "cifar10":
        source = sources.cifar10_test(spec.image_size, Path(spec.data_dir))
        return SealedImages(pack(source.images), source.labels)
    if spec.data == "digits":
        source = sources.digits(spec.image_size)
        test = _set_aside(source.labels, spec.seed, None)
        return SealedImages(pack(source.images[test]), source.labels[test])
    listings, _ = list_parts(spec)
    part = "test" if spec.own_test else "train"
    if part not in listings:
        raise UsageError([f"{Path(spec.data) / part}: not found, so there are no test images"])

    def safely(text: str) -> None:
        say(printable(text))

    if spec.own_test:
        for note in listings[part].notes:
            safely(note)
    source = sources.folder(listings[part], spec, safely, pool.scale if spec.own_test else None)
    groups = _groups(spec, {part: source.listing or listings[part]}, lambda text: None)
    numbers = numbered(groups[part]) if groups else None
    if spec.own_test:
        return SealedImages(pack(source.images), source.labels, numbers)
    test = _set_aside(source.labels, spec.seed, numbers)
    return SealedImages(pack(source.images[test]), source.labels[test], None if numbers is None else numbers[test])


def _groups(spec: DataSpec, listings: Mapping[str, Listing], say: Callable[[str], None]) -> dict[str, list[str]] | None:
    """The group of each image in each part that is used; None where each image is one of its own."""
    used = {part: listing for part, listing in listings.items() if part != "test" or spec.own_test}
    paths = {part: listing.paths for part, listing in used.items()}
    told = {part: listing.groups for part, listing in used.items() if listing.groups is not None}
    if told and spec.group is not None:
        raise UsageError([f"--group {spec.group}: must be left out where the table has a column group"])
    if told:
        return by_table(paths, told, say)
    return None if spec.group is None else by_regex(paths, spec.group, say)


def _leaks(
    listings: Mapping[str, Listing],
    train: Source,
    val: Source | None,
    own_test: bool,
    groups: dict[str, list[str]] | None,
) -> list[str]:
    """What could stand on two sides of a split, beyond exact copies: a sentence, or none."""
    sources_of = {"train": train} | ({"val": val} if val is not None else {})
    paths = [path for part in sources_of for path in listings[part].paths]
    together: np.ndarray | None = None
    if val is not None and own_test:  # nothing is drawn: each part is a side
        together = numbered([part for part in sources_of for _ in listings[part].names])
    elif groups:
        together = numbered([name for part in sources_of for name in groups[part]])
    found = leaks.sentence(paths, [source.images for source in sources_of.values()], together)
    return [found] if found else []


def _settled(
    spec: DataSpec, class_names: Sequence[str], counts: Sequence[int], has_own_val: bool
) -> tuple[DataSpec, str]:
    """The spec with its open fields filled in from the data, and a line on the minority for people."""
    if len(class_names) < 2:
        raise UsageError([f"--data {spec.data}: has only the class {class_names[0]}; a study needs at least 2"])
    if len(class_names) > 1000:
        raise UsageError([f"--data {spec.data}: has {len(class_names)} classes; at most 1000 can be studied"])
    spec = spec.with_usual_fractions()
    assert spec.val_fraction is not None
    what, num_first, chosen, rule = "images before any split", origin(spec.data).num_minority, spec.minority, ""
    problems = []
    if spec.imbalance != "step":  # which classes are rare it says, and not the images as they come
        what, num_first = "training images", None
        counts = counts if spec.own_test else num_left(counts, TEST_FRACTION)
        counts = counts if has_own_val else num_left(counts, spec.val_share)
        problems += imbalance.count_problems(spec, class_names, counts)
        counts = imbalance.kept(spec, class_names, counts)
    if chosen is None:
        if num_first is not None:
            chosen = tuple(class_names[:num_first])
        else:
            chosen, rule = minority.usual(class_names, counts)
            if not chosen:
                each = [f"{name} {count}" for name, count in zip(class_names, counts, strict=True)]
                problems.append(
                    f"--minority: no class has {rule} ({shortened(each, MAX_TOLD)}); "
                    "name the classes that matter, separated by commas"
                )
    else:
        chosen, unknown = minority.named(chosen, class_names)
        if unknown:
            problems.append(
                f"--minority: no class {', '.join(unknown)}; the classes are {shortened(class_names, MAX_TOLD)}"
            )
        elif not chosen:
            problems.append("--minority must name at least one class")
        elif len(chosen) >= len(class_names):
            problems.append("--minority names every class; at least one must be left out")
    if problems:
        raise UsageError(problems)
    return replace(spec, minority=chosen), minority.line(chosen, class_names, counts, what, rule)
