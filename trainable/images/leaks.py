"""What could stand on two sides of a split and show the same thing: near copies, and files that count up in series.

Exact copies are told by ``notes``. Nothing here refuses.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from trainable.images.listing import shortened

VERSION = "leaks 2"  # of what is looked for, and of its words
SIDE = 16  # images are compared at this many pixels a side, in grey
ALIKE = 0.96  # correlation of two images' details; below it lie digits of the same shape by other hands
MIN_DETAIL = 2.0  # standard deviation of an image's details in levels of 256; a smooth image is like many others
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # what JPEG and grey copies keep best of red, green and blue
NUM_BITS, NUM_KEYS, REACH = 24, 16, 8  # bits of a key, keys of an image, images beside it in a key's order
CHUNK = 4096  # images
FEW = 0.02  # so small a share of the images moves no score that could be told from chance
MAX_SERIES = 50  # files; a longer one is how a camera counts, and not photographs of one thing
MIN_SERIES = 5
MOST = 0.8  # of a folder's files: so many have stems that come several times, where their numbers do not count up
# regular expressions for --group: a path up to what counts in it
STEMS = (r".*\D(?=\d+\W*\.\w+$)", r".*(?=[a-zA-Z]\W*\.\w+$)")

# the stem and what counts: "part_17_3.jpg" is 3 of "part_17", "part17b.jpg" is b of "part17"
_COUNTED = re.compile(r"(?P<stem>.*?)[ _.(-]*(?:(?P<number>\d{1,9})|(?<=[\d_. -])(?P<letter>[a-zA-Z]))\)?(?:\.[^./]*)?")


def sentence(paths: Sequence[str], images: Sequence[np.ndarray], sides: np.ndarray | None) -> str:
    """What was found, in a sentence; empty if that is nothing, or so few that no score depends on it.

    ``paths`` are those of all images, ``images`` their arrays, uint8 (n, S, S, 3), one after the other. Images of
    which ``sides`` (whole numbers) are equal stand on one side of every split, and cannot leak; None: all others can.
    """
    found = []
    pairs = near_copies(images, sides)
    if (number := len(np.unique(pairs))) > FEW * len(paths):
        found.append(f"{number} of {len(paths)} images have a near copy ({paths[pairs[0, 0]]}, {paths[pairs[0, 1]]})")
    series = _series(paths) if sides is None else []
    if told := _series_words(series, len(paths)):
        found.append(told)
    advice = "if these show the same thing, use --group" + (_group_words(series) if told else "")
    return f"{'; '.join(found)}: {advice}" if found else ""


def near_copies(images: Sequence[np.ndarray], sides: np.ndarray | None = None) -> np.ndarray:
    """Pairs of images that are nearly but not quite equal, on two sides: int64 (P, 2), counted over all arrays.

    Copies that were compressed again, made lighter, or made smaller are found; shifted or cropped ones mostly are not.
    Candidates are images with the same bits of a perceptual hash (dHash, both ways: whether a part is lighter than the
    next) in one of several random choices of bits; the pixels' details then decide.
    """
    parts = [_small(array[start : start + CHUNK]) for array in images for start in range(0, len(array), CHUNK)]
    details = np.concatenate([detail for _, detail in parts])
    spread = np.linalg.norm(details, axis=1)
    known = np.flatnonzero(spread > MIN_DETAIL * SIDE)
    details = details[known] / spread[known, None]
    pairs = _candidates(np.concatenate([bits for bits, _ in parts])[known])
    alike = [
        np.einsum("pd,pd->p", details[some[:, 0]], details[some[:, 1]]) > ALIKE
        for some in np.array_split(pairs, 1 + len(pairs) // CHUNK)
    ]
    pairs = known[pairs[np.concatenate(alike)]]
    if sides is not None:
        pairs = pairs[sides[pairs[:, 0]] != sides[pairs[:, 1]]]
    places = [(array, index) for array in images for index in range(len(array))]
    different = [
        not np.array_equal(*(array[index] for array, index in (places[one], places[other]))) for one, other in pairs
    ]
    return pairs[np.array(different, bool)]


def _small(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hash's bits, bool (n, 112), and the details, float32 (n, 256): what a blur takes away, less its mean."""
    num_images, size = images.shape[:2]
    pooling = _pooling(size)
    rows = images.reshape(num_images * size, size * 3).astype(np.float32) @ np.kron(pooling, LUMA[:, None])
    small = pooling.T @ rows.reshape(num_images, size, SIDE)
    blur = np.eye(SIDE) + np.eye(SIDE, k=1) + np.eye(SIDE, k=-1)
    blur[[0, -1], [0, -1]] = 2  # beyond the edge all is as at the edge
    blur = blur.astype(np.float32) / 3
    detail = (small - blur @ small @ blur.T).reshape(num_images, -1)
    parts = small.reshape(num_images, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4))
    steps = [np.diff(parts, axis=axis).reshape(num_images, -1) > 0 for axis in (1, 2)]
    return np.concatenate(steps, axis=1), detail - detail.mean(axis=1, keepdims=True)


def _pooling(size: int) -> np.ndarray:
    """float32 (size, SIDE): what each of ``size`` pixels brings to each of SIDE means."""
    ends = np.arange(SIDE + 1) * size / SIDE
    inside = np.minimum(np.arange(1, size + 1)[:, None], ends[1:]) - np.maximum(np.arange(size)[:, None], ends[:-1])
    return (np.maximum(inside, 0) * SIDE / size).astype(np.float32)


def _candidates(bits: np.ndarray) -> np.ndarray:
    """Pairs of images that share a key, int64 (P, 2), ascending; of many with one key, those next to each other."""
    num_images = len(bits)
    random = np.random.default_rng(0)
    whole = np.packbits(bits, axis=1)
    order_of_hash = np.lexsort(whole.T)  # equal hashes are neighbours wherever keys are equal
    found = [np.array([], np.int64)]
    for _ in range(NUM_KEYS):
        keys = bits[:, random.permutation(bits.shape[1])[:NUM_BITS]] @ (1 << np.arange(NUM_BITS))
        order = order_of_hash[np.argsort(keys[order_of_hash], kind="stable")]
        keys = keys[order]
        for step in range(1, REACH + 1):
            same = keys[:-step] == keys[step:]
            one, other = order[:-step][same], order[step:][same]
            found.append(np.minimum(one, other) * num_images + np.maximum(one, other))
    return np.stack(np.divmod(np.unique(np.concatenate(found)), max(num_images, 1)), axis=1)


def _series_words(series: Sequence[Sequence[str]], num_images: int) -> str:
    """How many file-name stems come with a count behind them, and how often; empty where they do not."""
    if len(series) < MIN_SERIES or sum(map(len, series)) <= FEW * num_images:
        return ""
    lengths = sorted({len(names) for names in series})
    times = f"{lengths[0]} to {lengths[-1]}" if len(lengths) > 1 else str(lengths[0])
    return f"{len(series)} file-name stems come {times} times ({shortened(series[0])})"


def _group_words(series: Sequence[Sequence[str]]) -> str:
    """What to say after --group so that each series is a group; empty where no simple expression does that."""
    for regex in STEMS:
        stems = [{found[0] if (found := re.search(regex, path)) else path for path in files} for files in series]
        if all(len(found) == 1 for found in stems) and len(set.union(*stems)) == len(series):
            return f" '{regex}'"
    return ""


def _series(paths: Sequence[str]) -> list[list[str]]:
    """The files whose names are alike but for the number or letter at the end, where these follow each other.

    Where there are none, those of ``_repeated``.
    """
    counted: dict[tuple[str, bool], dict[int, str]] = {}
    for path in paths:
        match = _COUNTED.fullmatch(path)
        if match and match["stem"] and not match["stem"].endswith("/"):
            number = int(match["number"]) if match["number"] else ord(match["letter"].lower())
            counted.setdefault((match["stem"], bool(match["number"])), {})[number] = path
    series = [
        list(files.values())
        for files in counted.values()
        # the numbers of a series follow each other, but for some that are missing
        if 2 <= len(files) <= MAX_SERIES and max(files) - min(files) < 2 * len(files)
    ]
    in_folder = Counter(names[0].rpartition("/")[0] for names in series)
    # a folder with a single series is one whose files are numbered
    series = [names for names in series if in_folder[names[0].rpartition("/")[0]] > 1]
    return series or _repeated({stem: files for (stem, is_number), files in counted.items() if is_number}, paths)


def _repeated(numbered: Mapping[str, Mapping[int, str]], paths: Sequence[str]) -> list[list[str]]:
    """Files of one stem with any numbers behind it, as augmentation names its copies, where whole folders are so named.

    A stem that stands in several folders says how something was photographed, and not what.
    """
    in_folders = Counter(stem.rpartition("/")[2] for stem in numbered)
    found: dict[str, list[list[str]]] = {}
    for stem, files in numbered.items():
        if 2 <= len(files) <= MAX_SERIES and in_folders[stem.rpartition("/")[2]] == 1:
            found.setdefault(stem.rpartition("/")[0], []).append(sorted(files.values()))
    num_files = Counter(path.rpartition("/")[0] for path in paths)
    return [
        files
        for folder, series in found.items()
        if len(series) > 1 and sum(map(len, series)) >= MOST * num_files[folder]
        for files in series
    ]
