"""Bad input to every command: told in a sentence each, with the flag or file and the value; nothing else happens.

A case is a command line and what must be told, in so many lines. It runs in this process, in a folder of its own with
images, a whole study and whatever the case has put there, and leaves that as it was.
"""

import errno
import json
import os
import shlex
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ray  # noqa: F401  # which makes a class of subprocess.Popen while it is still one
from PIL import Image

from study import analyze, confirm, predict, search, simulate
from study.confirmation import stages
from study.execution import cluster, servers, simulated
from study.report import pictures
from tests import tampered
from tests.tampered import everything
from trainable import __main__ as trainable
from trainable.cli import MAX_PATH, shown
from trainable.config import FIELDS
from trainable.images import cache
from trainable.options import Choices, Range

WRITE = cache.Entry.write
COMMANDS = {
    "search": (search.main, "--data {images} --results {there}/new"),
    "again": (search.main, "--data digits --image-size 16 --algorithm random --results {there} --name study"),
    "confirm": (confirm.main, "{study} --top 1 --seeds 2 --reopen-test why"),
    "analyze": (analyze.main, "{study}"),
    "predict": (predict.main, "{study} {images}/train/fox"),
    "simulate": (simulate.main, ""),
    "trainable": (trainable.main, "--data {images} --epochs 1"),
    "replay": (trainable.main, "--replay {study}/trials/2"),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory, digits_pool):
    """A folder with images/ (enough of three classes) and study/."""
    folder = tmp_path_factory.mktemp("originals")
    rng = np.random.default_rng(0)
    for name, number in [("cat", 70), ("dog", 70), ("fox", 30)]:
        (folder / "images/train" / name).mkdir(parents=True)
        for index in range(number):
            image = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
            image.save(folder / f"images/train/{name}/{index}.png")
    tampered.write(folder / "study", digits_pool)
    return folder


@pytest.fixture
def there(originals, tmp_path, monkeypatch):
    """The folder of a case; the current one lies in it, and so does the cache of decoded images."""
    shutil.copytree(originals / "images", tmp_path / "images", copy_function=os.link)
    tampered.copied(originals / "study", tmp_path / "study")
    (tmp_path / "counts.csv").write_text("class,count\nemu,5\ncat,900\ngnu,5\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    def begun(*arguments, **more):
        raise AssertionError("the work has begun")

    for module, name in [(search, "run"), (stages, "carry_out"), (predict, "run"), (simulated, "compare"),
                         (trainable, "_run"), (cache.Entry, "write"), (pictures, "write")]:  # fmt: skip
        monkeypatch.setattr(module, name, begun)
    return tmp_path


def told(there, capsys, command, more, status=2):
    """The problems that are told, a line each; the command ends with ``status`` and leaves everything as it was."""
    main, usual = COMMANDS[command]
    places = {"there": there, "images": there / "images", "study": there / "study"}
    arguments = shlex.split(usual.format(**places))
    arguments += [text.format(**places) for text in ([more] if isinstance(more, str) else more)]
    before = everything(there)
    try:
        found = main(arguments)
    except SystemExit as end:
        found = end.code
    out, err = capsys.readouterr()
    assert found == status, (out, err)
    assert "Traceback" not in out + err
    assert everything(there) == before
    program = "trainable" if main is trainable.main else main.__module__
    lines = [line for line in err.splitlines() if not line.startswith(f"{there}/")]  # notes on images
    assert all(line.startswith(f"{program}: ") for line in lines), err
    return [line.removeprefix(f"{program}: ") for line in lines]


def check(problems, *parts):
    """One problem for each of ``parts`` and no other; a part is a text or several that stand in one problem."""
    several = [(part,) if isinstance(part, str) else part for part in parts]
    assert len(problems) == len(several), problems
    for texts in several:
        assert any(all(text in problem for text in texts) for problem in problems), (texts, problems)


# --- flags and their values

DIGITS_400, DIGITS_5000 = "1" * 400, "9" * 5000
COUNT = "a whole number from 1 to 1000000", ["0", "-3", "x", "2.5", "", "1e3", str(2**70), DIGITS_400, DIGITS_5000]
SEED = "a whole number from 0 to 2^32 - 1", ["-1", str(2**32), "0.5", DIGITS_400, "٣x"]
SHARE = "in (0, 1]", ["0", "1.01", "nan", "inf", "-inf", "x", "1e-400", DIGITS_400]
DATA_FLAGS = {
    "--keep": SHARE,
    "--imbalance-ratio": ("at least 1 and at most 1000000", ["0.5", "nan", "inf", "x", "1e7", DIGITS_400]),
    "--val-fraction": ("in (0, 1)", ["0", "1", "nan", "half", DIGITS_400]),
    "--image-size": ("a whole number from 16 to 320", ["15", "321", "32.0", "-32", DIGITS_5000]),
    "--precision": ("one of auto, float32, bfloat16", ["float64", "", "FLOAT32"]),
}
MACHINE_FLAGS = {
    "--gpus": ("a whole number from 0 to 1000000", ["-1", "all", "0.5", DIGITS_400]),
    "--gpus-per-trial": ("from 0.01 to 1", ["0", "2", "nan", "1e-300", "x"]),
    "--cpus-per-trial": COUNT,
    "--address": ("auto or HOST:PORT", ["ray://x:1", "localhost", "x:123456", "", "a/b:1"]),
}
FLAGS = {
    "search": {
        **DATA_FLAGS,
        **MACHINE_FLAGS,
        "--trials": COUNT,
        "--epochs": COUNT,
        "--seed": SEED,
        "--algorithm": ("one of tpe, random, sobol, grid", ["magic", "", "TPE"]),
        "--scheduler": ("one of asha, median, none", ["luck", "\x1b[2J"]),
        "--time-budget": ("above 0 and at most 1000000000", ["0", "-1", "nan", "inf", "1h", DIGITS_400]),
        "--name": (
            "a plain folder name of at most 255 bytes",
            ["", "..", "a/b", ".x", "\x1b[2J", "x" * 256, "ü" * 128],
        ),
    },
    "confirm": {
        **MACHINE_FLAGS,
        "--top": COUNT,
        "--seeds": ("a whole number from 2 to 1000", ["1", "0", "x", "1001", str(10**12), DIGITS_400, DIGITS_5000]),
    },
    "predict": {"--batch-size": COUNT},
    "simulate": {"--workers": COUNT, "--budget": COUNT, "--repeats": COUNT, "--seed": SEED},
    "trainable": {**DATA_FLAGS, "--epochs": COUNT, "--seed": SEED},
}


@pytest.mark.parametrize(("command", "flag"), [(command, flag) for command, flags in FLAGS.items() for flag in flags])
def test_a_value_that_breaks_its_flags_rule_is_told_with_flag_rule_and_value(there, capsys, monkeypatch, command, flag):
    rule, values = FLAGS[command][flag]
    monkeypatch.setattr(simulated, "bed", lambda curves: object())  # which takes longest
    for value in values:
        escaped = f"{flag}={value}".replace("{", "{{")
        (problem,) = told(there, capsys, command, [escaped])
        written = shown(value).replace("\\\\", "\\")
        assert problem == f"{flag} must be {rule}, not {written}"
        assert len(problem) < 300


LONG = "x" * 256
PATHS = {
    "search": ("--data", "--data-dir", "--cache-dir", "--results", "--space"),
    "confirm": ("--data", "--data-dir", "--cache-dir"),
    "simulate": ("--curves",),
    "trainable": ("--data", "--data-dir", "--cache-dir"),
    "replay": ("--replay", "--cache-dir"),
}


NO_PATHS = {
    "no user": "~nosuchuser/x",
    "no UTF-8": "caf\udce9",
    "NUL": "a\0b",
    "empty": "",
    "long name": LONG,
    "long folder": f"ü{LONG}/x",
    "long path": "/".join(["x" * 250] * 16),
}


@pytest.mark.parametrize("path", NO_PATHS.values(), ids=NO_PATHS)
@pytest.mark.parametrize(
    ("command", "arguments", "name"),
    [
        ("confirm", [], "folder"),
        ("analyze", [], "folder"),
        ("predict", ["x.png"], "folder"),
        ("predict", ["results"], "images"),
    ],
)
def test_a_folder_or_image_that_is_no_path_is_told(there, capsys, monkeypatch, command, arguments, name, path):
    monkeypatch.setitem(COMMANDS, "bare", (COMMANDS[command][0], ""))
    given = [path, *arguments] if name == "folder" else [*arguments, path]
    check(told(there, capsys, "bare", given), f"{name} must be a path")


@pytest.mark.parametrize(("command", "flag"), [(command, flag) for command, flags in PATHS.items() for flag in flags])
@pytest.mark.parametrize("path", NO_PATHS.values(), ids=NO_PATHS)
def test_a_path_that_is_none_or_too_long_is_told_with_its_flag(there, capsys, command, flag, path):
    problems = told(there, capsys, command, [f"{flag}={path}", *(["--name", "x"] if command == "search" else [])])
    expected = f"{flag} must be a path"
    assert any(expected in problem for problem in problems), problems
    if len(path) > 255:
        assert any(f"at most {MAX_PATH} bytes, each of its names of at most 255, not '" in p for p in problems)
    if command != "replay":  # which cannot look at the study then
        assert len(problems) == 1


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_that_breaks_a_fields_rule_is_told_with_field_rule_and_value(there, capsys, monkeypatch, name):
    found = FIELDS[name]
    values = ["", "x", "nan", "inf", "-1e300", "1e300", DIGITS_400, DIGITS_5000]
    if isinstance(found.rule, Choices):
        values = ["", "x", found.rule.names[0].upper()]
    elif not isinstance(found.rule, Range):
        values = ["", "2", "maybe"]
    elif found.kind is int:
        values += ["0.5", "1e-3", str(2**70), str(found.rule.low - 1), str(int(found.rule.high) + 1)]
    if name == "weights":  # anything else may be the path of a file
        values = [""]
    monkeypatch.setitem(COMMANDS, "plain", (trainable.main, "--data {images}"))
    flags = [text for value in values for text in ("--set", f"{name}={value}")]
    problems = told(there, capsys, "plain", flags)
    assert problems == [f"--set {name} must be {found.words}, not {shown(value)}" for value in values]
    assert "inf" not in found.words  # nothing is allowed for ever, and the sentence says how far


CASES = [
    ("search", "--trails=3", ["--trails=3: no such argument"]),
    ("search", "--trials", ["--trials: expected one argument"]),
    ("search", "words", ["words: no such argument"]),
    ("search", ["--minority", "cat,dog,fox"], ["--minority names every class"]),
    ("search", ["--minority", "zebra,\x1b[2J"], [("--minority: no class zebra, \\x1b[2J", "cat, dog, fox")]),
    ("search", ["--minority", " , "], ["--minority must name at least one class"]),
    ("search", ["--keep", "0.01"], ["class fox: 0 training image(s) left, at least 2"]),
    ("search", ["--imbalance", "longtail", "--imbalance-ratio", "40"], ["class fox: 1 training image(s) left"]),
    ("search", ["--imbalance", "none.csv", "--keep", "0.5"], ["none.csv: cannot be read", "--keep 0.5: only for"]),
    ("search", ["--imbalance", "", "--imbalance-ratio", "9"], ["--imbalance-ratio 9: only for", "must be a path, not"]),
    ("search", ["--imbalance", "step"], ["--imbalance step: cuts nothing without --keep"]),
    (
        "trainable",
        ["--imbalance", "{there}/counts.csv", "--minority", "zebra"],
        [("--imbalance: no class emu, gnu; the classes are", "fox"), "class cat: 900 training images", "class zebra"],
    ),
    (
        "search",
        ["--val-fraction", "0.05"],
        ["class cat: 3 valid", "class dog: 3 valid", "class fox: 1 valid", "a class with too few images can be left"],
    ),
    ("search", ["--cpus-per-trial", "1000000"], [("--cpus-per-trial 1000000", "more than this machine's")]),
    ("search", ["--gpus", "1000"], [("--gpus 1000", "more GPUs than there are")]),
    ("search", ["--address", "127.0.0.1:99999"], [("--address 127.0.0.1:99999", "nothing answers there")]),
    ("search", ["--data", "photos"], [("--data must be", "photos is no folder")]),
    ("search", ["--data", "{study}", "--name", "x"], [f"{{study}}/{name}: no images" for name in ("trials", "winner")]),
    (
        "search",
        ["--data", "photos", "--trials", "0", "--gpus", "99", "--space", "none", "--minority", "x", "--sneed", "1"],
        ["photos is no folder", "--trials must", "--gpus 99", "--space none", "--sneed: no such", "1: no such"],
    ),
    ("trainable", "--set", ["--set: expected one argument"]),
    ("trainable", ["--set", "dropout"], ["--set takes KEY=VALUE, not 'dropout'"]),
    ("trainable", ["--set", "dropuot=0.1"], ["--set dropuot: no such field"]),
    ("trainable", ["--set", "=3"], ["--set : no such field"]),
    ("trainable", ["--set", "sampler_power=0.5"], ["sampler_power has no effect unless sampler is 'weighted'"]),
    ("trainable", ["--set", "head_epochs=1"], ["head_epochs must be below epochs, 1, not 1"]),
    ("trainable", ["--set", "epochs=3"], ["--epochs and --set epochs say the same"]),
    (
        "trainable",
        ["--precision", "float32", "--set", "precision=float32"],
        ["--precision and --set precision say the same"],
    ),
    (
        "trainable",
        ["--set", "dropout=2", "--set", "tau=1", "--keep", "0", "--val-fraction", "0.01"],
        ["--set dropout must be in [0, 1), not '2'", "--keep must be in (0, 1]", "cat: 1", "dog: 1", "fox: 0",
         "a class with too few images can be left out"],
    ),
    ("replay", ["--keep", "0.5", "--set", "dropout=0.1"], ["everything from the study, so --keep, --set"]),
    ("replay", ["--replay", "{there}/none/trials/0"], [("{there}/none: holds no study", "No such file")]),
    ("replay", ["--replay", "{study}/trials/99"], ["{study}/trials/99/config.json: cannot be read"]),
    ("replay", ["--replay", "{study}/trials/4"], ["--replay {study}/trials/4: the trial has no epoch to compare with"]),
    ("replay", ["--data", "{images}"], ["no class 0, 1, 2; the classes are cat, dog, fox"]),
    ("confirm", ["--top", "40"], ["--top 40 is more than the"]),
    ("confirm", ["--reopen-test", "  "], ["--reopen-test must give a reason, in UTF-8, not '  '"]),
    ("confirm", ["--reopen-test", "caf\udce9"], ["--reopen-test must give a reason, in UTF-8, not 'caf\\udce9'"]),
    ("confirm", ["--data", "photos"], ["photos is no folder"]),
    ("confirm", ["--data", "{images}"], ["class"]),
    ("confirm", ["--gpus", "99", "--top", "40", "--seeds", "1"], ["--gpus 99", "--top 40", "--seeds must be"]),
    ("analyze", "--top=3", ["--top=3: no such argument"]),
    ("analyze", ["more", "--less"], ["more: no such argument", "--less: no such argument"]),
    ("predict", "{there}/none.png", ["{there}/none.png: cannot be read as an image (No such file"]),
    ("predict", "{study}/winner", ["{study}/winner: holds no image"]),
    ("predict", "{study}/study.json", ["{study}/study.json: cannot be read as an image (of no known kind"]),
    ("predict", "/dev/zero", ["/dev/zero: cannot be read as an image (it is no plain file)"]),
    ("simulate", ["--algorithms", "tpe,magic"], ["--algorithms: 'magic' is none of tpe, random"]),
    ("simulate", ["--schedulers", ""], ["--schedulers: '' is none of asha"]),
    ("simulate", ["--curves", "none.csv", "--algorithms", "x", "--seed", "-1"], ["none.csv", "'x' is", "--seed must"]),
    # an existing study: all that would mix two protocols, and all else that is wrong
    ("again", ["--epochs", "7"], [("--epochs 7 instead of 4: trials 0, 1, 2 cannot go on", "use another --name")]),
    ("again", ["--epochs", "2"], [("was started with --epochs 4, now 2", "use another --name")]),
    ("again", ["--keep", "0.5", "--val-fraction", "0.3"], ["--keep 0.03, now 0.5", "--val-fraction 0.2, now 0.3"]),
    ("again", ["--imbalance", "longtail"], ["--imbalance step, now longtail 100", "class 8", "class 9"]),
    ("again", ["--minority", "7"], ["--minority ['0', '1', '2'], now ['7']"]),
    ("again", ["--precision", "bfloat16"], ["--precision float32, now bfloat16"]),
    ("again", ["--data", "cifar10"], ["--data digits, now cifar10", "--keep 0.03", "--val-fraction", "--minority"]),
    (
        "again",
        ["--seed", "5", "--scheduler", "none", "--algorithm", "tpe", "--space", "imbalance", "--image-size", "32",
         "--epochs", "9", "--gpus", "99", "--minority", "x", "--cpus-per-trial", "0", "--keep", "0.9"],
        ["--seed 0, now 5", "--scheduler asha, now none", "--algorithm random, now tpe", "--space {", "--keep 0.03",
         "--image-size 16, now 32", "--epochs 9 instead of 4", "--gpus 99", "no class x", "--cpus-per-trial must be"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("command", "more", "parts"), CASES)
def test_what_makes_no_sense_is_told_all_at_once(there, capsys, command, more, parts):
    places = {"there": there, "images": there / "images", "study": there / "study"}

    def written(text):
        return text if text == "--space {" else text.format(**places)

    problems = told(there, capsys, command, more)
    check(problems, *[tuple(map(written, [part] if isinstance(part, str) else part)) for part in parts])


@pytest.mark.parametrize("command", ["confirm", "analyze", "predict"])
@pytest.mark.parametrize("arguments", [[], ["--nonsense"]])
def test_what_a_command_cannot_do_without_is_named(tmp_path, capsys, command, arguments):
    with pytest.raises(SystemExit) as end:
        COMMANDS[command][0](arguments)
    assert end.value.code == 2
    assert "the following arguments are required: results/NAME" in capsys.readouterr().err


# --- search spaces

SPACES = [
    ("[dropout]\nlow = 0\nhigh = 2024-01-01", ["low and high must be numbers, not 0 and datetime.date(2024, 1, 1)"]),
    ("[dropout]\nlow = nan\nhigh = 0.5", ["low and high must be numbers, not nan and 0.5"]),
    ("[dropout]\nlow = 0\nhigh = inf", ["low and high must be numbers, not 0 and inf"]),
    ("[dropout]\nlow = false\nhigh = true", ["low and high must be numbers, not False and True"]),
    ("dropout = 0.5", ["[dropout] must be a table with low and high, or choices, not 0.5"]),
    ("dropout = 2024-01-01", ["[dropout] must be a table"]),
    ("[[dropout]]\nlow = 0\nhigh = 0.5", ["[dropout] must be a table"]),
    ("[dropout]\nchoices = [2024-01-01]", ["dropout must be in [0, 1), not datetime.date(2024, 1, 1)"]),
    ("[dropout]\nchoices = [[0.1]]", ["dropout must be in [0, 1), not [0.1]"]),
    ("[dropout]\nchoices = 0.1", ["choices must be a list with at least one value"]),
    ("[dropout]\nchoices = [0, 0.0]", ["choices must differ from each other, not [0, 0.0]"]),
    ("[accumulation_steps]\nchoices = [1, 1.0]", ["choices must differ from each other, not [1, 1.0]"]),
    ("[accumulation_steps]\nchoices = [1, 1.5]", ["must be a whole number from 1 to 1000000, not 1.5"]),
    (f"[accumulation_steps]\nchoices = [{2**63 - 1}]", ["must be a whole number from 1 to 1000000, not 9223372"]),
    (f"[accumulation_steps]\nlow = 1\nhigh = {DIGITS_400}", ["accumulation_steps must be a whole number"]),
    (f"[dropout]\nlow = {DIGITS_400}\nhigh = {DIGITS_400}", ["in [0, 1)", "in [0, 1)", "range is empty"]),
    (f"[dropout]\nlow = 0\nhigh = {DIGITS_5000}", ["is no valid TOML"]),
    (f"[dropout]\nlow = 0\nhigh = 0x{'f' * 5000}", ["dropout must be in [0, 1), not a number of more"]),
    (f"[batch_size]\nchoices = {'[' * 3000}{']' * 3000}", ["is no valid TOML"]),
    ("[learning_rate]\nlow = 1e-3\nhigh = 1e300", ["learning_rate must be in (0, 1e+30], not 1e+300"]),
    ("[dropout]\nlow = 0\nhigh = 0.5\nlog = 1", ["log must be true or false, not 1"]),
    ("[dropout]\nlow = 0\nhigh = 0.5\nwhen = 2024-01-01", ["when must name fields searched before it (none)"]),
    ("[dropout]\nlow = 0\nhigh = 0.5\nwhen = 'sampler'", ["when must name fields searched before it (none)"]),
    ("[dropout]\nlow = 0\nhigh = 0.5\nwhen = { dropout = 0.1 }", ["when must name fields searched before it (none)"]),
    ("[sampler]\nchoices = ['shuffle']\n[dropout]\nlow = 0\nhigh = 0.5\nwhen = { sampler = 2024-01-01 }",
     ["when must name values that sampler can take, not datetime.date(2024, 1, 1)"]),
    ("[sampler]\nchoices = ['shuffle']\n[dropout]\nlow = 0\nhigh = 0.5\nwhen = { sampler = 'shufle' }",
     ["when must name values that sampler can take, not 'shufle'"]),
    ("[sampler]\nchoices = ['shuffle']\n[dropout]\nlow = 0\nhigh = 0.5\nwhen = { sampler = [] }",
     ["when must name at least one value of sampler"]),
    ("[batch_size]\nchoices = [32]\n[dropout]\nlow = 0\nhigh = 0.5\nwhen = { batch_size = [[32]] }",
     ["when must name values that batch_size can take, not [32]"]),
    ("[batch_size]\nlow = 8\nhigh = 64\n[dropout]\nlow = 0\nhigh = 0.5\nwhen = { batch_size = 1979-05-27T07:32:00Z }",
     ["when must name values that batch_size can take"]),
    ('[dropout]\nlow = 0\nhigh = 0.5\n"lo\\nw" = 3', ["has an unknown key lo\\nw; known are low"]),
    ('["\\u001b[2J"]\nlow = 0', ["[\\x1b[2J] is no field of a trial's config"]),
    ("[epochs]\nchoices = [3]", ["is the study's to set and cannot be searched"]),
    ("[flip]\nlow = 0\nhigh = 1", ["needs choices: it is no number"]),
    ("[flip]\nchoices = [1, 0]", ["flip must be true or false, not 1", "flip must be true or false, not 0"]),
    ("[dropout]\nlow = 0\nhigh = 0.5\n[dropout]\nlow = 0\nhigh = 0.5", ["is no valid TOML"]),
    ("\0", ["is no valid TOML"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), SPACES)
def test_a_space_that_makes_no_sense_is_told_with_its_file_and_line(there, capsys, text, parts):
    (there / "space.toml").write_text(text)
    problems = told(there, capsys, "search", ["--space", "{there}/space.toml"])
    check(problems, *parts)
    assert all(problem.startswith(f"--space {there}/space.toml") for problem in problems)


HUNDREDS = "".join(
    f"[{name}]\nchoices = [{', '.join(str((index + 1) / 1000) for index in range(100))}]\n"
    for name in ("dropout", "weight_decay", "learning_rate", "label_smoothing", "color_jitter", "min_delta")
)


@pytest.mark.parametrize("space", [HUNDREDS, None])
def test_a_grid_of_more_points_than_anybody_can_count_is_refused_at_once(there, capsys, space):
    if space:
        (there / "space.toml").write_text(space)
    start = time.monotonic()
    asked = ["--algorithm", "grid", "--space", "{there}/space.toml" if space else "imbalance"]
    check(told(there, capsys, "search", asked), "--algorithm grid: a grid can have at most 100000 points")
    assert time.monotonic() - start < 10


# --- files that are no such files

KINDS = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a named pipe": os.mkfifo,
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x80"),
    "empty": lambda path: path.touch(),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 20),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flag", ["--space", "--curves"])
def test_what_is_no_such_file_is_told_and_nobody_waits_for_it(there, capsys, monkeypatch, kind, flag):
    KINDS[kind](Path("file"))  # a socket's path is short
    command = "search" if flag == "--space" else "simulate"
    check(told(there, capsys, command, [flag, "file"]), f"{flag} file")


CURVES = {
    "other columns": ("config,seed\n0,0\n", "has no column sampler"),
    "no epochs": ("config,seed,{names},epoch_seconds\n0,0,{values},1\n", "has no column epoch_1"),
    "no rows": ("config,seed,{names},epoch_seconds,epoch_1\n", "must have rows"),
    "a text for a score": ("config,seed,{names},epoch_seconds,epoch_1\n0,0,{values},1,x\n", "could not convert"),
    "a score above 1": ("config,seed,{names},epoch_seconds,epoch_1\n0,0,{values},1,7\n", "scores from 0 to 1"),
    "no score": ("config,seed,{names},epoch_seconds,epoch_1\n0,0,{values},1,\n", "scores from 0 to 1"),
    "no seconds": ("config,seed,{names},epoch_seconds,epoch_1\n0,0,{values},-1,0.5\n", "seconds of at least 0"),
    "a seed too many": (
        "config,seed,{names},epoch_seconds,epoch_1\n0,0,{values},1,1\n0,1,{values},1,1\n1,0,{values},1,1\n",
        "as many seeds",
    ),
    "one recipe alone": (
        "config,seed,{names},epoch_seconds,epoch_1\n0,0,{values},1,1\n0,1,{values},1,1\n",
        "at least 12 configs",
    ),
    "another version's sampler": ("config,seed,{names},epoch_seconds,epoch_1\n0,0,{other},1,1\n", "sampler must be"),
    "JSON": ('{{"curves": [1, 2]}}', "has no column"),
    "rows of several lengths": ("config,seed\n1,2,3,4\n1\n", "--curves"),
}
NAMES = "sampler,sampler_power,dropout,weight_decay,learning_rate,accumulation_steps"
VALUES = "shuffle,1,0.3,1e-4,1e-3,2"


@pytest.mark.parametrize("kind", CURVES)
def test_a_table_that_holds_no_curves_is_told(there, capsys, kind):
    text, part = CURVES[kind]
    (there / "curves.csv").write_text(
        text.format(names=NAMES, values=VALUES, other=VALUES.replace("shuffle", "progressive"))
    )
    check(told(there, capsys, "simulate", ["--curves", "{there}/curves.csv"]), (f"--curves {there}/curves.csv", part))


def no_train(there):
    (there / "images/train").rename(there / "images/elsewhere")


def damage(name, content=b"no image"):
    def make(there):
        path = there / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it is a link to the original
        path.write_bytes(content)

    return make


def planted(make, name="cat/x.png"):
    return lambda there: make(there / "images/train" / name)


def emptied(there):
    shutil.rmtree(there / "images/train/fox")
    (there / "images/train/fox").mkdir()


def only_one_class(there):
    for name in ("cat", "dog"):
        shutil.rmtree(there / "images/train" / name)


def other_classes(there):
    (there / "images/test/wolf").mkdir(parents=True)
    os.link(there / "images/train/cat/0.png", there / "images/test/wolf/0.png")


def two_accents(there):
    for name in ("caf\u00e9", "cafe\u0301"):
        shutil.copytree(there / "images/train/cat", there / "images/train" / name)


IMAGES = {
    "no train/": (no_train, ["{images}: has only the class elsewhere; a study needs at least 2"]),
    "an empty class": (emptied, ["{images}/train/fox: no images in this class's folder"]),
    "one class": (only_one_class, [("has only the class fox", "at least 2")]),
    "other classes in test/": (other_classes, ["{images}/test: its classes are not those of train/"]),
    "a pipe for an image": (planted(os.mkfifo), ["{images}/train/cat/x.png: is neither a file nor a folder"]),
    "a pipe for a class": (planted(os.mkfifo, "wolf"), ["{images}/train/wolf: is neither a file nor a folder"]),
    "a link to nowhere": (planted(lambda path: path.symlink_to("no")), ["x.png: is a link to nowhere"]),
    "a link to itself": (planted(lambda path: path.symlink_to("x.png")), ["x.png: cannot be used"]),
    "a name in Latin-1": (planted(Path.mkdir, "caf\udce9"), ["its name is not in UTF-8"]),
    "two forms of an accent": (two_accents, ["their names differ only in how an accent is stored"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("command", ["search", "trainable"])
def test_a_folder_of_images_that_makes_no_sense_is_told_before_anything_is_decoded(there, capsys, command, kind):
    make, parts = IMAGES[kind]
    make(there)
    problems = told(there, capsys, command, ["--val-fraction", "0.3"])
    check(problems, *[
        tuple(text.format(images=there / "images") for text in ([part] if isinstance(part, str) else part))
        for part in parts
    ])  # fmt: skip


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "postscript"])
def test_files_that_are_no_images_are_all_told_and_the_cache_stays_empty(there, capsys, monkeypatch, kind):
    whole = (there / "images/train/cat/0.png").read_bytes()
    content = {"text": b"text", "empty": b"", "cut": whole[: len(whole) // 2], "postscript": b"%!PS-Adobe-3.0 EPSF\n"}
    for name in ("train/cat/0.png", "train/fox/3.png"):
        damage(name, content[kind])(there)
    monkeypatch.setattr(cache.Entry, "write", WRITE)
    (there / "cache").mkdir()
    problems = told(there, capsys, "trainable", ["--cache-dir", "{there}/cache"])
    names = [f"{there}/images/train/{name}: cannot be read as an image" for name in ("cat/0.png", "fox/3.png")]
    check(problems, *names)


# --- places that cannot be written to

ASKED = {"search": ("--results", ["--results"]), "again": ("--results", []), "confirm": ("folder", [])}


@pytest.mark.parametrize("place", ["{study}/study.json/x", "/proc/nowhere/x", "/dev/null"])
def test_results_that_cannot_be_written_are_told_with_all_else_and_before_an_image_is_decoded(there, capsys, place):
    problems = told(there, capsys, "search", ["--results", place, "--epochs", "0"])
    check(problems, "--epochs must be", (f"--results {place.format(study=there / 'study')}", "cannot be written"))


@pytest.mark.parametrize("command", ASKED)
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_to_is_told_before_an_image_is_decoded(
    there, capsys, monkeypatch, command, number
):
    tried = []

    def refuses(dir, really=tempfile.TemporaryFile):
        if there not in (Path(dir), *Path(dir).parents):  # Ray's own place
            return really(dir=dir)
        tried.append(Path(dir))
        raise OSError(number, os.strerror(number), str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuses)
    flag, words = ASKED[command][0], os.strerror(number)
    check(
        told(there, capsys, command, ["--gpus", "99"]), "--gpus 99", (f"{flag} {there}", f"cannot be written ({words})")
    )
    assert tried == [there if command == "search" else there / "study"]  # the nearest that there is


def test_looking_whether_a_folder_can_be_written_to_leaves_nothing_behind(there):
    from trainable.files import check_writable

    before = everything(there)
    for folder in (there, there / "study", there / "a/b/c"):
        check_writable(folder, "--results")
    assert everything(there) == before


@pytest.mark.parametrize("place", ["{study}/study.json", "{study}/study.json/x", "/proc/nowhere"])
def test_a_cache_that_cannot_be_written_is_told_before_an_image_is_decoded(there, capsys, monkeypatch, place):
    monkeypatch.setattr(cache.Entry, "write", WRITE)
    monkeypatch.setattr("trainable.images.sources._decode", lambda *_: pytest.fail("an image has been decoded"))
    problems = told(there, capsys, "search", ["--cache-dir", place])
    check(problems, (f"--cache-dir {place.format(study=there / 'study')}", "cannot be written"))


# --- what surrounds a command


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "again"])
def test_a_current_folder_that_is_gone_is_told(there, capsys, monkeypatch, command):
    (there / "gone").mkdir()
    monkeypatch.chdir(there / "gone")
    (there / "gone").rmdir()
    try:
        check(told(there, capsys, command, []), "the current folder is gone")
    finally:
        monkeypatch.chdir(there)


def test_a_cache_folder_of_the_environment_that_cannot_be_written_is_told(there, capsys, monkeypatch):
    monkeypatch.setattr(cache.Entry, "write", WRITE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(there / "study/study.json"))
    check(told(there, capsys, "trainable", []), (f"--cache-dir {there}/study/study.json", "cannot be written"))


def test_a_current_folder_whose_name_is_no_utf_8_is_told_before_it_is_written_down(there, capsys, monkeypatch):
    (there / "caf\udce9").mkdir()
    monkeypatch.chdir(there / "caf\udce9")
    for command in ("search", "again", "trainable"):
        check(told(there, capsys, command, []), ("--data-dir must be a path in UTF-8, not '", "caf\\udce9"))
    check(told(there, capsys, "confirm", ["--cache-dir", "x"]), "--cache-dir must be a path in UTF-8")


@pytest.mark.parametrize("folder", ["caf\udce9", "x" * 300])
def test_a_cache_folder_of_the_environment_that_is_none_is_told(there, capsys, monkeypatch, folder):
    monkeypatch.setenv("XDG_CACHE_HOME", str(there / folder))
    check(told(there, capsys, "trainable", []), "--cache-dir must be a path")


def silent(server):
    """Accepts, as the system does for it, and says nothing."""


def hangs_up(server):
    server.settimeout(20)
    server.accept()[0].close()


def speaks_otherwise(server):
    server.settimeout(20)
    connection = server.accept()[0]
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.close()


@pytest.mark.parametrize("behaves", [silent, hangs_up, speaks_otherwise])
def test_an_address_at_which_no_cluster_speaks_is_told_within_half_a_minute(there, capsys, monkeypatch, behaves):
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(servers, "start", lambda **_: pytest.fail("Ray itself would wait for ever"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=behaves, args=[server])
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        check(
            told(there, capsys, "search", ["--address", address]), (f"--address {address}", "nothing answers there (")
        )
        thread.join()
    assert time.monotonic() - start < 20


# --- files of a study that somebody has changed


def edited(name, **values):
    def make(there):
        path = there / "study" / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return make


def replaced(name, content):
    def make(there):
        path = there / "study" / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if callable(content):
            content(path)
        elif content is not None:
            path.write_bytes(content)

    return make


STUDY, JOURNAL, CONFIG = "study.json", "study.journal", "trials/2/config.json"
ROWS, MODEL, DONE = "trials/2/epochs.jsonl", "winner/model.json", "confirm.json"
TAMPERED = {
    "no study.json": (replaced(STUDY, None), "again confirm analyze replay", "holds no study"),
    "study.json, a pipe": (replaced(STUDY, os.mkfifo), "again confirm analyze replay", "study.json: is a named pipe"),
    "study.json, a folder": (replaced(STUDY, Path.mkdir), "again confirm analyze replay", "study.json: cannot be read"),
    "study.json, null": (replaced(STUDY, b"null"), "again confirm analyze replay", "study.json: has format None"),
    "study.json, cut": (replaced(STUDY, b'{"format": 1'), "again confirm analyze replay", "study.json: damaged"),
    "study.json, another format": (edited(STUDY, format=99), "again confirm analyze replay", "has format 99"),
    "study.json, epochs a text": (edited(STUDY, epochs="7"), "again confirm analyze", "epochs must be a whole number"),
    "study.json, epochs 10^12": (edited(STUDY, epochs=10**12), "again", "epochs must be a whole number from 1 to 1"),
    "study.json, a precision": (edited(STUDY, precision="float8"), "again", "precision must be 'float32' or"),
    "study.json, a space": (edited(STUDY, space={"x": {}}), "again confirm analyze", "[x] is no field"),
    "study.json, one class": (edited(STUDY, class_names=["0"]), "again confirm analyze replay", "class_names"),
    "study.json, another's images": (edited(STUDY, fingerprint="1" * 64), "again confirm replay", "images"),
    "no journal": (replaced(JOURNAL, None), "confirm analyze", "study.journal: knows of 0 trials"),
    "journal, a folder": (replaced(JOURNAL, Path.mkdir), "confirm analyze", "study.journal"),
    "journal, no JSON": (replaced(JOURNAL, b"text\n"), "confirm analyze", "study.journal: damaged"),
    "no config.json": (replaced(CONFIG, None), "confirm analyze replay", "config.json: cannot be read"),
    "config.json, {}": (replaced(CONFIG, b"{}"), "confirm analyze replay", "config.json: damaged"),
    "config.json, 2^70 steps": (edited(CONFIG, accumulation_steps=2**70), "confirm analyze replay", "1 to 1000000"),
    "config.json, 10^12 threads": (edited(CONFIG, num_threads=10**12), "confirm analyze replay", "from 1 to 4096"),
    "config.json, nested": (replaced(CONFIG, b"[" * 10**5), "confirm analyze replay", "config.json: damaged"),
    "rows, no JSON": (replaced(ROWS, b"}\n"), "confirm analyze replay", "epochs.jsonl: damaged"),
    "rows, a pipe": (replaced(ROWS, os.mkfifo), "again confirm analyze replay predict", "jsonl: is a named pipe"),
    "no trials/": (replaced("trials", None), "confirm analyze", "trials/0"),
    "trials/, a link": (replaced("trials", lambda path: path.symlink_to("/etc")),
                        "again confirm analyze replay predict", "trials: is a symbolic link"),
    "no winner/": (replaced("winner", None), "predict", "model.json: not found"),
    "model.json, []": (replaced(MODEL, b"[]"), "predict", "model.json: has format None"),
    "model.json, a size": (edited(MODEL, image_size=10**6), "predict", "image_size must be at most 320, not 1000000"),
    "weights.pt, empty": (replaced("winner/weights.pt", b""), "predict", "weights.pt: damaged"),
    "confirm.json, null": (replaced(DONE, b"null"), "confirm analyze", "confirm.json: has format None"),
    "confirm.json, a key less": (replaced(DONE, b'{"format": 1}'), "confirm analyze", "confirm.json: damaged"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "command"), [(kind, name) for kind in TAMPERED for name in TAMPERED[kind][1].split()])
def test_a_file_of_a_study_that_somebody_has_changed_is_named(there, capsys, kind, command):
    make, _, part = TAMPERED[kind]
    make(there)
    problems = told(there, capsys, command, [])
    assert any(part in problem for problem in problems), problems
    assert all(len(problem) < 1000 for problem in problems)
