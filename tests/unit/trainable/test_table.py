"""Images by a table: what a good one gives, and all that a bad one is told."""

import itertools
import os
import sys
import time
from dataclasses import replace
from importlib import util

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from study import confirm, search
from study.record import files
from tests import studies
from trainable import __main__ as trainable
from trainable.arguments import moved
from trainable.cli import UsageError, attempt
from trainable.images import loading
from trainable.images.globs import Globs
from trainable.images.pool import DataSpec
from trainable.images.table import read_table

COUNTS = {"cat": 30, "dog": 30, "fox": 10}


@pytest.fixture
def photos(tmp_path):
    """A folder of train/<class>/ and val/<class>/ with pictures that are all different."""
    rng = np.random.default_rng(0)
    for part, share in (("train", 1), ("val", 2)):
        for name, number in COUNTS.items():
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for index in range(number // share):
                image = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
                image.save(tmp_path / "set" / part / name / f"{index:02d}.png")
    return tmp_path / "set"


def rows_of(photos):
    """A row for each picture: path, label, split."""
    paths = sorted(path.relative_to(photos) for path in photos.rglob("*.png"))
    return [{"path": str(path), "label": path.parts[1], "split": path.parts[0]} for path in paths]


def write(photos, rows, name="table.csv"):
    table = photos.parent / name
    frame = pd.DataFrame(rows)
    frame.to_parquet(table) if name.endswith("parquet") else frame.to_csv(table, index=False)
    return table


def load(photos, table, **fields):
    spec = DataSpec(
        str(photos), "", str(photos.parent / "cache"), image_size=16, labels=str(table) if table else None, **fields
    )
    return loading.load(spec, [].append)


def told(photos, content, **fields):
    """What a table of that text is refused for."""
    table = photos.parent / "bad.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as refusal:
        load(photos, table, **fields)
    assert all(text.startswith(f"--labels {table}: ") for text in refusal.value.problems)
    return [text.removeprefix(f"--labels {table}: ").replace(str(photos), "SET") for text in refusal.value.problems]


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "table.csv.gz"])
def test_a_table_of_what_lies_in_folders_gives_the_same_study_in_whatever_order(photos, name):
    by_folders, rows = load(photos, None), rows_of(photos)
    for order in (rows, rows[::-1], sorted(rows, key=lambda row: row["path"][-6:])):
        pool = load(photos, write(photos, order, name))
        assert pool.fingerprint == by_folders.fingerprint
        assert pool.num_own_val == 35
    unsplit = [{name: value for name, value in row.items() if name != "split"} for row in rows]
    pool = load(photos, write(photos, unsplit, name))
    assert pool.num_own_val == 0
    assert pool.test_counts == (9, 9, 3)  # a fifth of 45, 45 and 15
    assert len(loading.load_test(pool)[1]) == 21


def test_parts_have_many_names_and_labels_need_not_be_folders(photos):
    rows = rows_of(photos)
    for row in rows:
        row["label"] = {"cat": "1", "dog": "NA", "fox": "a/b, c"}[row["label"]]
        row["split"] = {"train": " Training", "val": "TEST"}[row["split"]]
    pool = load(photos, write(photos, rows))
    assert pool.class_names == ("1", "NA", "a/b, c")
    assert pool.spec.minority == ("a/b, c",)
    assert pool.test_counts == (15, 15, 5)
    assert pool.spec.own_test
    pixels, labels, _ = loading.load_test(pool)
    assert np.bincount(labels).tolist() == [15, 15, 5]
    images = np.stack([np.asarray(Image.open(photos / f"val/cat/{index:02d}.png")) for index in range(15)])
    assert np.array_equal(pixels[:15, :-1].copy().view(np.uint8).reshape(15, 16, 16, 4)[..., :3], images)


def test_groups_come_with_their_images(photos):
    rows = [row | {"group": f"part {row['path'][-5]} of {row['label']}"} for row in rows_of(photos)]
    for found in read_table(write(photos, rows[::-1]), photos).values():
        assert found.groups == [f"part {name[-5]} of {name.split('/')[1]}" for name in found.names]
    assert read_table(write(photos, rows_of(photos)), photos)["train"].groups is None


def test_globs_choose_rows_before_their_files_are_looked_for(photos):
    content = "path,label\n" + "".join(f"{row['path']},{row['label']}\n" for row in rows_of(photos))
    table = photos.parent / "table.csv"
    table.write_text(content + "nowhere.png,cat\n")
    listing = read_table(table, photos, Globs(exclude=("nowhere*", "val/*")))["train"]
    assert (listing.counts, listing.num_left_out) == ([30, 30, 10], 36)
    assert told(photos, content, include=("*.jpg",)) == ["holds no row that --include and --exclude leave"]


def test_all_kinds_of_bad_rows_are_told_at_once_a_sentence_each(photos, tmp_path):
    (tmp_path / "outside.png").write_bytes((photos / "train/cat/00.png").read_bytes())
    (photos / "link.png").symlink_to(tmp_path / "outside.png")
    (photos / "away").symlink_to(tmp_path)
    (photos / "inner.png").symlink_to("train/cat/01.png")
    (photos / "loop.png").symlink_to("loop.png")
    rows = [
        "train/cat/00.png,cat,train", "./train//cat/00.png,cat,train", "train/cat/01.png,cat,val", "inner.png,cat,val",
        "train/dog/../dog/02.png,dog,train", "train/dog/02.png,dog,train",
        "../outside.png,cat,train", "link.png,cat,train", "away/outside.png,cat,train", "away/none.png,cat,train",
        f"{photos}/train/cat/03.png,cat,train", "..,cat,train",
        "none.png,cat,train", "train/cat,cat,train", "loop.png,cat,train", "train/cat/00.png/x,dog,train",
        ",cat,train", "train/cat/04.png,,train", "train/cat/05.png,cat,", "train/cat/06.png,  ,train",
        "train/cat/07.png,cat,holdout", "train/cat/08.png,cat,tests",
    ]  # fmt: skip
    assert told(photos, "path,label,split\n" + "\n".join(rows)) == [
        "1 row(s) have no path (row 17, counted below the header)",
        "2 row(s) have no label (row 18, row 20, counted below the header)",
        "1 row(s) have no split (row 19, counted below the header)",
        "2 row(s) have an unknown split (row 21: holdout, row 22: tests); known are train, training, val, validation, "
        "valid, dev, test, testing",
        "4 row(s) name files that are not in SET (none.png, train/cat, loop.png, …)",
        "6 row(s) have a path that leads out of SET or is not relative to it (../outside.png, link.png, "
        "away/outside.png, …)",
        "3 row(s) name a file that another row names (./train//cat/00.png is train/cat/00.png, inner.png is "
        "train/cat/01.png, train/dog/02.png is train/dog/../dog/02.png)",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("path,label,age,sex\ntrain/cat/00.png,cat,3,m\n", ["has 2 unknown column(s): age, sex; the columns are"]),
        ("file,class\nx,y\n", ["has no column path and no column label;", "has 2 unknown column(s): file, class"]),
        ("path\nnone.png\n", ["has no column label", "1 row(s) name files that are not in SET (none.png)"]),
        ("path,label,label\na,b,c\n", ["has 1 unknown column(s): label.1", "1 row(s) name files"]),
        ("path,label, label\na,b,c\n", ["has 1 unknown column(s): label.1", "1 row(s) name files"]),
        ("path,label\n", ["holds no row"]),
        ("", ["cannot be read as a table (No columns to parse"]),
        ("path,label\nx.png,cat,more\n", ["cannot be read as a table (Length of header"]),
        ("path,label\nx.png,cat\ny.png,dog,more\n", ["cannot be read as a table (Error tokenizing data"]),
        ("path;label\nx.png;cat\n", ["has no column path and no column label", "unknown column(s): path;label"]),
        (b"path,label\ncaf\xe9.png,cat\n", ["is not in UTF-8 (byte"]),
        (b"PK\x03\x04\x00\x00", ["has no column path and no column label", "1 unknown"]),
        ("path,label,split\ntrain/cat/00.png,cat,val\n", ["no row's split is train, so there is nothing to train on"]),
        ("path,label,group\ntrain/cat/00.png,cat,\n", ["1 row(s) have no group (row 1,"]),
    ],
)
def test_a_table_that_is_none_is_told(photos, content, expected):
    found = told(photos, content)
    assert len(found) == len(expected), found
    for text, words in zip(found, expected, strict=True):
        assert words in text


@pytest.mark.parametrize("what", ["nothing", "folder", "pipe", "text.parquet"])
def test_what_is_no_file_is_told(photos, what):
    table = photos.parent / what
    if what == "folder":
        table.mkdir()
    elif what == "pipe":
        os.mkfifo(table)
    elif what == "text.parquet":
        table.write_text("path,label\n")
    with pytest.raises(UsageError, match=f"--labels {table}: cannot be read as a table"):
        load(photos, table)


def test_a_parquet_file_without_pyarrow_is_told(photos, monkeypatch):
    found = util.find_spec
    monkeypatch.setattr("trainable.images.table.find_spec", lambda name: None if name == "pyarrow" else found(name))
    with pytest.raises(UsageError, match="a Parquet file needs pyarrow, which is not installed; a CSV does not"):
        load(photos, write(photos, rows_of(photos), "table.parquet"))


def test_a_validation_part_with_other_classes_than_training_is_told(photos):
    rows = [row for row in rows_of(photos) if (row["split"], row["label"]) != ("val", "fox")]
    with pytest.raises(UsageError, match="set, val: its classes are not those of train/ \\(they differ in fox\\)"):
        load(photos, write(photos, rows))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.booleans())
@settings(max_examples=150)
def test_no_text_makes_a_table_fail_otherwise_than_in_a_sentence(tmp_path_factory, text, with_header):
    folder = tmp_path_factory.mktemp("any")
    (folder / "t.csv").write_bytes((("path,label\n" if with_header else "") + text).encode())
    problems = []
    if (found := attempt(problems, read_table, folder / "t.csv", folder)) is None:
        assert all(problem.startswith("--labels ") for problem in problems)
    else:
        assert {name for listing in found.values() for name in listing.names} == {"t.csv"}


def test_a_hundred_thousand_rows_are_read_in_seconds(tmp_path):
    """20,000 here, in a fifth of the time that 100,000 may take; on an idle machine they need a twentieth of it."""
    rows = []
    for folder in range(20):
        (tmp_path / f"photos/{folder}").mkdir(parents=True)
        for index in range(1000):
            path = f"photos/{folder}/{index}.png"
            os.close(os.open(tmp_path / path, os.O_CREAT | os.O_WRONLY))
            rows.append(f"{path},class {index % 7},{'val' if index % 5 == 0 else 'train'}\n")
    (tmp_path / "t.csv").write_text("path,label,split\n" + "".join(rows))
    start = time.process_time()
    listings = read_table(tmp_path / "t.csv", tmp_path)
    assert time.process_time() - start < 10 / 5
    assert sum(len(found.names) for found in listings.values()) == 20000


ASKED = ["--image-size", "16", "--epochs", "1", "--trials", "3", "--gpus", "0", "--precision", "float32",
         "--space", "course"]  # fmt: skip


def begin(photos, *flags):
    return studies.begin("--data", photos, "--cache-dir", photos.parent / "cache", "--name", "mine", "--results",
                         photos.parent / "results", *ASKED, *flags)  # fmt: skip


def test_a_study_keeps_its_table_and_globs_and_takes_no_others(photos):
    table = write(photos, rows_of(photos))
    first = begin(photos, "--labels", table, "--exclude", "train/*/00.png")
    before = files.read_study(photos.parent / "results/mine")
    assert (before.data.labels, before.data.exclude) == (str(table), ("train/*/00.png",))
    assert begin(photos).pool.fingerprint == first.pool.fingerprint
    elsewhere = table.rename(table.with_name("moved.csv"))
    with pytest.raises(UsageError, match=r"table.csv: cannot be read as a table \(No such file"):
        begin(photos)
    assert begin(photos, "--labels", elsewhere).pool.spec.labels == str(elsewhere)
    with pytest.raises(UsageError, match="was started with --exclude"):
        begin(photos, "--labels", elsewhere, "--exclude", "train/*/01.png")
    elsewhere.write_text(elsewhere.read_text().replace("train/dog/01.png,dog,train", "train/dog/01.png,cat,train"))
    with pytest.raises(UsageError, match="the images have changed since the study mine began"):
        begin(photos, "--labels", elsewhere)


@pytest.mark.parametrize("main", [search.main, trainable.main])
@pytest.mark.parametrize(
    "flags", [p for n in (1, 3) for p in itertools.combinations(["labels", "include", "exclude"], n)]
)
def test_the_flags_of_folders_are_for_folders(capsys, main, flags):
    with pytest.raises(SystemExit) as stop:
        main(["--data", "digits", *(text for flag in flags for text in (f"--{flag}", "x"))])
    assert stop.value.code == 2
    given = ", ".join(f"--{flag}" for flag in flags)
    assert f"{given}: only for --data FOLDER, not for digits" in capsys.readouterr().err
    assert "pandas" in sys.modules


def test_a_table_is_no_new_place_for_images_that_came_without_one(photos):
    arguments = confirm._parser().parse(["results/mine", "--labels", "t.csv"])
    without = DataSpec(str(photos), "", "")
    with pytest.raises(UsageError, match="--labels: the study's images came without a table"):
        moved(without, arguments)
    spec = moved(replace(without, labels="/old/t.csv"), arguments)
    assert (spec.labels, spec.data) == (os.path.abspath("t.csv"), str(photos))
