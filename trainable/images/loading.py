"""From a source of images to what a trial may see: test images sealed off, validation drawn, minority cut."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainable.cli import UsageError
from trainable.images import sources
from trainable.images.origins import origin
from trainable.images.pool import DataSpec, Pool, pack
from trainable.images.sources import Source
from trainable.images.splits import _set_aside


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
        keep=usual.keep if spec.keep is None else spec.keep,
        val_fraction=usual.val_fraction if spec.val_fraction is None else spec.val_fraction,
    )
