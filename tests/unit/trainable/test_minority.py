"""Which classes count as rare where nobody says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainable.images.minority import MAX_SHOWN, line, usual

# counts of real sets, or of the usual ways to make a long tail
HAM10000 = {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
ISIC2019 = {"nv": 12875, "mel": 4522, "bcc": 3323, "bkl": 2624, "ak": 867, "scc": 628, "vasc": 253, "df": 239}
DEFECTS = {"good": 931, "scratch": 120, "dent": 87, "stain": 80, "crack": 51, "hole": 31}


def long_tail(num_classes, largest, ratio):
    """Cui et al. 2019: counts that fall from class to class by the same factor, ``ratio`` in all."""
    return {f"{c:03d}": int(largest * ratio ** (-c / (num_classes - 1))) for c in range(num_classes)}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (HAM10000, ["mel", "bkl", "bcc", "akiec", "vasc", "df"]),
        (ISIC2019, ["mel", "bcc", "bkl", "ak", "scc", "vasc", "df"]),
        (DEFECTS, ["scratch", "dent", "stain", "crack", "hole"]),
        ({"benign": 900, "malignant": 100}, ["malignant"]),
        ({"benign": 60, "malignant": 40}, []),
        (long_tail(10, 5000, 100), ["005", "006", "007", "008", "009"]),
        (long_tail(10, 5000, 10), ["007", "008", "009"]),
        (long_tail(100, 500, 100), [f"{c:03d}" for c in range(48, 100)]),
        (dict.fromkeys("abcdef", 500), []),
        ({"cat": 70, "dog": 70, "fox": 30}, ["fox"]),  # half of an equal share is 28.3
        ({"cat": 70, "dog": 70, "fox": 36}, []),
    ],
)
def test_beside_one_dominant_class_all_others_and_of_a_long_tail_its_rare_end(counts, expected):
    found, _ = usual(list(counts), list(counts.values()))
    assert list(found) == expected


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=30))
def test_the_minority_is_never_every_class_and_no_class_outside_it_is_smaller(counts):
    names = [str(index) for index in range(len(counts))]
    found, _ = usual(names, counts)
    inside = [counts[int(name)] for name in found]
    outside = [count for name, count in zip(names, counts, strict=True) if name not in found]
    assert outside
    assert max(inside, default=0) < min(outside)
    assert usual(names[::-1], counts[::-1])[0] == found[::-1]


def test_a_line_says_which_and_how_many_and_stays_short():
    names, counts = [f"c{index}\n" for index in range(40)], list(range(40))
    assert line(names[2:4], names, counts, "images", "") == "minority, with its images: c2\\n 2, c3\\n 3"
    long = line(names[:30], names, counts, "images", "why")
    assert long.endswith(f"{30 - MAX_SHOWN} more (why)")
    assert long.count("\\n") == MAX_SHOWN
