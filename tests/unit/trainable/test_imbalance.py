"""The imbalances that are made of training images: a step, a long tail, counts from a file."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import studies
from trainable.cli import UsageError
from trainable.images import loading
from trainable.images.imbalance import kept, long_tail, read_counts
from trainable.images.pool import DataSpec, class_counts
from trainable.images.splits import split
from trainable.records import StoredData

DIGITS = ["--data", "digits", "--image-size", "16", "--precision", "float32", "--epochs", "2", "--name", "mine"]


def test_a_long_tail_at_ratio_100_has_the_counts_of_cao_et_al():
    assert long_tail(5000, 10, 100) == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    # and what the authors' code gives for CIFAR-100, whose last class has 5
    assert long_tail(500, 100, 100)[::33] == [500, 107, 23, 5]


@given(st.lists(st.integers(2, 5000), min_size=2, max_size=40), st.floats(1, 1000))
def test_no_class_is_given_more_than_it_has_and_at_ratio_1_the_largest_bounds_all(counts, ratio):
    names = [f"c{label}" for label in range(len(counts))]
    found = kept(DataSpec("x", "", "", longtail_ratio=ratio, keep=1.0), names, counts)
    assert all(0 <= number <= there for number, there in zip(found, counts, strict=True))
    assert kept(DataSpec("x", "", "", longtail_ratio=1.0, keep=1.0), names, counts) == counts
    tail = long_tail(max(counts), len(counts), ratio)
    assert tail == sorted(tail, reverse=True)
    assert tail[0] == max(counts)


def test_a_long_tail_is_cut_from_what_is_left_for_training_and_its_rare_end_is_the_minority():
    pool = loading.load(DataSpec("digits", "", "", image_size=16, longtail_ratio=20.0))
    drawn = split(pool, 0, 0)
    before = [
        train + cut for train, cut in zip(class_counts(pool, drawn.train), class_counts(pool, drawn.audit), strict=True)
    ]
    tail = [max(before) * 20 ** (-label / 9) for label in range(10)]
    assert class_counts(pool, drawn.train) == [min(n, int(t)) for n, t in zip(before, tail, strict=True)]
    # half of an equal share of the 373 images is 18.6
    assert pool.spec.minority == ("6", "7", "8", "9")
    assert pool.minority_line.startswith("minority, with its training images: 6 15, 7 11, 8 8, 9 5 (at most half of an")
    named = loading.load(DataSpec("digits", "", "", image_size=16, longtail_ratio=20.0, minority=("0",)))
    assert named.spec.minority == ("0",)
    assert np.array_equal(split(named, 0, 0).train, drawn.train)


def test_counts_are_kept_exactly_and_classes_that_they_leave_out_whole(image_folder, tmp_path):
    spec = DataSpec(str(image_folder), "", str(tmp_path), image_size=16, train_counts=(("dog", 4),))
    pool = loading.load(spec, lambda text: None)
    # of 20, 20 and 8 images a fifth is for test, and of the rest a fifth for validation
    assert class_counts(pool, split(pool, 0, 0).train) == [13, 4, 5]
    assert class_counts(pool, split(pool, 1, 1).train) == [13, 4, 5]
    assert not np.array_equal(split(pool, 0, 0).train, split(pool, 0, 1).train)
    assert StoredData(**pool.spec.to_dict()).spec == pool.spec


def test_a_file_of_counts_is_read_whatever_its_order(tmp_path):
    (tmp_path / "a.csv").write_text("class,count\nfox,12\n cat , 100\n")
    (tmp_path / "b.csv").write_text("count,class\n100,cat\n12,fox\n")
    assert read_counts(tmp_path / "a.csv") == read_counts(tmp_path / "b.csv") == (("cat", 100), ("fox", 12))


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "class,count\ncat,many\ndog,5\ndog,6\n,7\nfox,1\nelk,2.5\nfly,٣\n",
            ["row 4 names no class", "class dog: has 2 rows", "cat: count must be a whole number from 2 to 1000000, "
             "not 'many'", "fox: count must be", "elk: count must be", "fly: count must be"],
        ),
        ("class,number\ncat,5\n", ["its columns must be class and count, not class, number"]),
        ("class,count\n", ["holds no row"]),
        ("", ["cannot be read as a table"]),
    ],
)  # fmt: skip
def test_every_mistake_in_a_file_of_counts_is_told_at_once(tmp_path, text, problems):
    path = tmp_path / "counts.csv"
    path.write_text(text)
    with pytest.raises(UsageError) as refusal:
        read_counts(path)
    assert len(refusal.value.problems) == len(problems)
    for problem, part in zip(refusal.value.problems, problems, strict=True):
        assert problem.startswith(f"--imbalance {path}: ")
        assert part in problem


def test_a_study_keeps_its_imbalance_and_the_same_command_goes_on(tmp_path):
    asked = [*DIGITS, "--results", tmp_path, "--imbalance", "longtail", "--imbalance-ratio", "20"]
    plan = studies.begin(*asked)
    written = json.loads((plan.folder / "study.json").read_text())
    assert written["data"]["longtail_ratio"] == 20
    assert written["class_counts"]["train"][0] == 114
    assert studies.begin(*asked).before.data.spec.minority == ("6", "7", "8", "9")
    with pytest.raises(UsageError) as refusal:
        studies.begin(*asked[:-1], "30")
    assert [problem.split(";")[0] for problem in refusal.value.problems] == [
        "the study mine was started with --imbalance longtail 20, now longtail 30"
    ]


def test_a_file_of_counts_is_part_of_a_study_so_another_content_is_refused(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("class,count\n7,20\n")
    asked = [*DIGITS, "--results", tmp_path, "--imbalance", path]
    plan = studies.begin(*asked)
    assert json.loads((plan.folder / "study.json").read_text())["minority"] == ["7"]
    assert studies.begin(*asked).drawn.train.tolist() == plan.drawn.train.tolist()
    path.write_text("class,count\n7,20\n8,20\n")
    with pytest.raises(UsageError, match="was started with --imbalance 7 20, now 7 20, 8 20; use another --name"):
        studies.begin(*asked)
