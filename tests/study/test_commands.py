"""Signals and failing output, on real processes; those in the midst of a study are in test_search."""

import errno
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.execution.display import Display
from study.record.ledger import Ledger
from tests import studies
from trainable.command import SIGNALS, command
from trainable.objectives import MINORITY_F1

ROOT = Path(__file__).parents[2]
COMMANDS = ["study.search", "study.confirm", "study.analyze", "study.predict", "study.simulate", "trainable.__main__"]

# calls the command's main with an argument parser that runs the code given
MAIN = """
import gc, importlib, os, sys, time, weakref
from trainable.cli import Parser
def parse(self, argv):
    print("begun", flush=True)
    exec(sys.argv[2])
Parser.parse = parse
sys.exit(importlib.import_module(sys.argv[1]).main())
"""


def start(*arguments, **options):
    return subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **options)  # fmt: skip


def once(condition, process):
    """Waits until something is so while the process runs."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def interrupted(process, number, seconds=10):
    """What a process says when the signal ends it: with 130, soon, and without a traceback."""
    before = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert time.monotonic() - before < seconds
    assert "Traceback" not in err
    assert "KeyboardInterrupt" not in err
    return out, err


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_ends_every_command_with_130_and_a_sentence_also_where_it_comes_twice(name, number):
    process = start("-c", MAIN, name, "time.sleep(60)")
    process.stdout.readline()
    process.send_signal(number)  # as timeout does: to the process, and again with its group
    _, err = interrupted(process, number)
    program = name.removesuffix(".__main__")
    resumable = program in ("study.search", "study.confirm")
    again = f"; to go on: python -m {program} {name} 'time.sleep(60)'"
    assert err == f"{program}: interrupted{again if resumable else ''}\n"


@pytest.mark.parametrize(
    "code",
    [
        # libraries turn the interruption into an error of their own, or it is raised where Python drops exceptions
        "try:\n time.sleep(60)\nexcept BaseException as error:\n raise ImportError('no') from error",
        "try:\n time.sleep(60)\nexcept BaseException:\n sys.exit(2)",
        "class A: pass\na = A(); r = weakref.ref(a, lambda _: time.sleep(60)); del a; time.sleep(60)",
        "import threading; threading.Thread(target=time.sleep, args=[60]).start(); time.sleep(60)",
    ],
)
def test_an_interruption_is_one_whatever_becomes_of_it(code):
    process = start("-c", MAIN, "study.analyze", code)
    process.stdout.readline()
    time.sleep(0.2)
    assert interrupted(process, signal.SIGTERM)[1] == "study.analyze: interrupted\n"


def test_an_error_that_no_signal_has_caused_stays_an_error():
    process = start("-c", MAIN, "study.analyze", "1 / 0")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ZeroDivisionError" in err


def test_a_closed_terminal_does_not_end_what_nohup_has_started():
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    process = start("-c", MAIN, "study.analyze", "time.sleep(1.5); sys.exit(7)", preexec_fn=ignore)
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 7


def test_a_signal_after_the_work_is_done_changes_no_exit_status():
    code = "import atexit; atexit.register(lambda: (print('over', flush=True), time.sleep(60))); sys.exit(7)"
    process = start("-c", MAIN, "study.analyze", code)
    assert [process.stdout.readline() for _ in range(2)] == ["begun\n", "over\n"]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (7, "")


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc for what is imported")
@pytest.mark.parametrize("wait", [0, 0.4])
def test_a_signal_during_the_imports(wait):
    process = start("-m", "trainable", "--data", "digits", "--epochs", "500", "--set", "patience=500")
    once(lambda: "_multiarray" in Path(f"/proc/{process.pid}/maps").read_text(), process)
    time.sleep(wait)
    assert interrupted(process, signal.SIGTERM)[1].splitlines()[-1] == "trainable: interrupted"


@pytest.fixture
def many_images(tmp_path):
    """A folder of images that take a while to decode."""
    pixels = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png", compress_level=1)
    for name in ("cat", "dog"):
        folder = tmp_path / "images/train" / name
        folder.mkdir(parents=True)
        for index in range(600):
            os.link(tmp_path / "one.png", folder / f"{index}.png")
    return tmp_path / "images"


def test_a_signal_while_images_are_decoded_leaves_nothing_behind(many_images, tmp_path):
    cache, results = tmp_path / "cache", tmp_path / "results"
    process = start("-m", "study.search", "--data", many_images, "--minority", "cat", "--cache-dir", cache,
                    "--results", results)  # fmt: skip
    once(lambda: cache.exists() and list(cache.iterdir()), process)
    time.sleep(0.5)
    _, err = interrupted(process, signal.SIGHUP)
    assert "study.search: interrupted; to go on: python -m study.search --data " in err
    assert not list(cache.iterdir())
    assert not results.exists()


def test_a_signal_during_an_analysis(tmp_path):
    folder = studies.write(tmp_path / "study", num_trials=30)
    process = start("-m", "study.analyze", folder)
    once((folder / "ranking.csv").exists, process)
    assert interrupted(process, signal.SIGTERM)[1] == "study.analyze: interrupted\n"


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc for what is imported")
def test_a_signal_during_a_simulation():
    process = start("-m", "study.simulate", "--repeats", "500")
    once(lambda: "sklearn" in Path(f"/proc/{process.pid}/maps").read_text(), process)
    time.sleep(0.5)
    assert interrupted(process, signal.SIGHUP)[1] == "study.simulate: interrupted\n"


def shell(command, **environment):
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=os.environ | environment,
                          timeout=120)  # fmt: skip


FULL = "standard output cannot be written (No space left on device)"
BROKEN = "standard output cannot be written (Broken pipe)"
ON = "; going on without it"


@pytest.mark.parametrize(
    ("redirected", "told"),
    [
        (" >/dev/full", f"study.analyze: {FULL}{ON}\n"),
        (" | true; exit ${PIPESTATUS[0]}", f"study.analyze: {BROKEN}{ON}\n"),
        (" >&-", ""),
        (" >&- 2>&- <&-", ""),
        (" >/dev/full 2>&1", ""),
        (" 2>/dev/full | true; exit ${PIPESTATUS[0]}", ""),
    ],
)
def test_where_nothing_can_be_printed_the_work_goes_on_to_its_own_status(tmp_path, redirected, told):
    code = (
        "for _ in range(3): time.sleep(0.1); print(10_000 * 'x', flush=True)\n"
        "file = open('done', 'w')\nfor n in (0, 1, 2):\n try: os.write(n, b'x')\n except OSError: pass\nsys.exit(7)"
    )
    done = shell(f"cd {tmp_path}; {sys.executable} -c '{MAIN}' study.analyze {shlex.quote(code)}{redirected}",
                 PYTHONPATH=str(ROOT))  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert done.stderr.removesuffix("x") == told
    assert (tmp_path / "done").read_bytes() == b""  # nor has it got what goes to a descriptor that was closed


def test_an_analysis_without_a_reader_is_written_all_the_same(tmp_path):
    folder = studies.write(tmp_path / "study", num_trials=4)
    done = shell(f"{sys.executable} -m study.analyze {folder} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, f"study.analyze: {BROKEN}{ON}\n")
    assert (folder / "report.html").stat().st_size > 10_000
    assert list((folder / "figures").iterdir())


@pytest.mark.parametrize("name", ["Füchse", "狐", "caf\udce9"])
def test_names_that_the_terminal_has_no_letters_for_are_written_out(tmp_path, name):
    code = f"print({name!r}); print({name!r}, file=sys.stderr); sys.exit(0)"
    done = subprocess.run([sys.executable, "-c", MAIN, "study.analyze", code], capture_output=True, text=True,
                          env=os.environ | {"PYTHONIOENCODING": "ascii"})  # fmt: skip
    written = name.encode("ascii", "backslashreplace").decode()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"begun\n{written}\n", f"{written}\n")


@pytest.mark.parametrize(
    ("more", "redirected", "status", "told"),
    [
        ("--epochs 300 --set patience=300 --json", " | head -1; exit ${PIPESTATUS[0]}", 0, ""),
        ("--epochs 300 --set patience=300", " >/dev/full", 1, f"trainable: {FULL}\n"),
    ],
)
def test_a_trial_without_a_reader_ends_as_its_output_is_all_there_is(more, redirected, status, told):
    asked = f"--data digits --image-size 16 --set num_threads=1 {more}"
    done = shell(f"{sys.executable} -m trainable {asked}{redirected}")
    assert done.returncode == status, done.stderr
    notes = [line for line in done.stderr.splitlines(keepends=True) if line.startswith("trainable: ")]
    assert "".join(notes) == told
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("script") is None, reason="needs a pseudo-terminal")
def test_on_a_terminal_it_is_still_a_terminal():
    code = "print(sys.stdout.isatty(), sys.stderr.isatty(), sys.stdout.fileno()); sys.exit(0)"
    done = subprocess.run(
        ["script", "-qec", f"{sys.executable} -c '{MAIN}' study.analyze '{code}'", os.devnull],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "True True 1"


@pytest.mark.parametrize("name", ["\x1b[2J", "a\x07b", "\u202e", "caf\udce9"])
def test_the_display_drives_no_terminal_with_names(tmp_path, capsys, name):
    display = Display(Ledger(tmp_path), (), 1, 1, 1, MINORITY_F1)
    display.say(f"study {name}:\n1 trial")
    assert capsys.readouterr().out == f"study {ascii(name)[1:-1]}:\n1 trial\n"


@pytest.mark.parametrize("path", [None, "/a/file"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.ELOOP, errno.EIO, errno.ESTALE, errno.ENOSPC])
def test_a_file_that_cannot_be_used_ends_a_command_in_a_sentence_and_other_faults_stay_faults(capsys, number, path):
    @command("x")
    def main(argv=None):
        raise OSError(number, os.strerror(number), path)

    if path is None:
        with pytest.raises(OSError, match=os.strerror(number)):
            main([])
    else:
        assert main([]) == 1
        assert capsys.readouterr().err == f"x: {path}: cannot be used ({os.strerror(number)})\n"
