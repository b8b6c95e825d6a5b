"""What surrounds the work of every command: a signal ends it in a sentence, and output that fails does not end it."""

import functools
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, Protocol, TextIO

from trainable.cli import EXIT_FAILED, EXIT_INTERRUPTED, FailedError, os_sentence, printable

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_OF_ONE = 1.0  # a closed terminal, timeout and uv reach a process twice: itself, and again with its group


class Main(Protocol):
    def __call__(self, argv: list[str] | None = None) -> int: ...


class OutputLostError(Exception):
    """Standard output cannot be written, and it is all that the command is for; the cause says why."""


def command(program: str, resumable: bool = False) -> Callable[[Main], Main]:
    """Makes a ``main`` out of a function from arguments to an exit status.

    SIGINT, SIGTERM and SIGHUP end it with 130 and a sentence; with the command that goes on, if it is ``resumable``.
    Where standard output cannot be written, that is said once and the work goes on; see ``output_is_essential``.
    Arguments of None are those of the process, which is then ended here if it is interrupted.
    """

    def decorate(work: Main) -> Main:
        @functools.wraps(work)
        def main(argv: list[str] | None = None) -> int:
            sentence = f"{program}: interrupted"
            if resumable:
                again = shlex.join(sys.argv[1:] if argv is None else argv)
                sentence += f"; to go on: python -m {program} {again}"
            with _guarded_output(program):
                status = EXIT_FAILED
                try:
                    with _interruptible(sentence, is_process=argv is None):
                        status = work(argv)
                        sys.stdout.flush()
                except OutputLostError as error:
                    reader_has_enough = isinstance(error.__cause__, BrokenPipeError)
                    if not reader_has_enough:
                        print(f"{program}: {error}", file=sys.stderr)
                    status = 0 if reader_has_enough else EXIT_FAILED
                except FailedError as error:
                    print(f"{program}: {printable(error)}", file=sys.stderr)
                    status = EXIT_FAILED
                except OSError as error:
                    if error.filename is None:  # no file, but a fault of ours
                        raise
                    print(f"{program}: {printable(os_sentence(error))}", file=sys.stderr)
                    status = EXIT_FAILED
                except KeyboardInterrupt:
                    print(sentence, file=sys.stderr)
                    status = EXIT_INTERRUPTED
                except SystemExit as end:  # usage, help
                    status = end.code if isinstance(end.code, int) else EXIT_FAILED
                    raise
                finally:
                    if argv is None:
                        _end_quietly(status)
                return status

        return main

    return decorate


@contextmanager
def on_signals(handle: Callable[[], None]) -> Iterator[None]:
    """While this is open, SIGINT, SIGTERM and SIGHUP call ``handle``, in the main thread; those within a second once.

    A SIGHUP that nohup has made the process ignore stays ignored. In another thread than the main one nothing happens.
    """
    last = -math.inf

    def arrived(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > SECONDS_OF_ONE:
            last = now
            handle()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, arrived) for number in _heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once(status: int = EXIT_INTERRUPTED, sentence: str = "") -> NoReturn:
    """Ends the process, whatever it is doing; everything on disk is safe from that at any moment.

    By default as interrupted; ``sentence`` goes to standard error.
    """
    if os.isatty(1):
        os.write(1, b"\x1b[?25h")  # a live table has hidden the cursor
    with suppress(OSError):
        os.write(2, sentence.encode())
    os._exit(status)


def output_is_essential() -> None:
    """From now on the command ends where standard output cannot be written: quietly if nobody reads on, else with 1."""
    if isinstance(sys.stdout, _Output):
        sys.stdout.is_essential = True


def _heeded() -> list[signal.Signals]:
    return [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]


@contextmanager
def _interruptible(sentence: str, is_process: bool) -> Iterator[None]:
    """A signal raises KeyboardInterrupt, and nothing else comes of one; if it ``is_process``, that ends here."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    def unraisable(args: Any) -> None:  # in a weak reference's callback, say: Python would print it and forget it
        if not isinstance(args.exc_value, KeyboardInterrupt):
            return before(args)
        end()

    def end() -> NoReturn:
        print(sentence, file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        end_at_once()  # Python's own way out would wait for threads, and show what they raise

    before = sys.unraisablehook
    if is_process:
        sys.unraisablehook = unraisable
    with on_signals(interrupt):
        try:
            yield
        except BaseException as error:
            if not _is_interruption(error):
                raise
            if is_process:
                end()
            raise KeyboardInterrupt from error
        finally:
            sys.unraisablehook = before


def _is_interruption(error: BaseException | None) -> bool:
    """Whether it is a KeyboardInterrupt or has come of one: libraries turn it into errors of their own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _end_quietly(status: int) -> None:
    """The work is done: a signal that comes while Python ends does not show a traceback or change the status."""
    for number in _heeded():
        signal.signal(number, lambda number, frame: os._exit(status))


class _Output:
    """Standard output or error, which may fail: on a full disk, a closed pipe or terminal. It then goes nowhere."""

    def __init__(self, stream: TextIO, complain: Callable[[str], None]) -> None:
        self._stream, self._complain = stream, complain
        self.is_essential = False

    def write(self, text: str) -> int:
        with self._guarded():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._guarded():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # also for what is still in the stream's buffer, which Python would try to write as it ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            what = f"standard output cannot be written ({error.strerror or error})"
            if self.is_essential:
                raise OutputLostError(what) from error
            self._complain(f"{what}; going on without it")


@contextmanager
def _guarded_output(program: str) -> Iterator[None]:
    """While this is open, writing to standard output and error raises nothing, but for an essential output."""
    before = sys.stdout, sys.stderr
    _fill_closed_descriptors()
    streams = [stream or open(os.devnull, "w") for stream in before]  # noqa: SIM115
    for stream in streams:
        if hasattr(stream, "reconfigure"):  # a test's need not have it
            stream.reconfigure(errors="backslashreplace")
    error = _Output(streams[1], lambda text: None)
    output = _Output(streams[0], lambda text: print(f"{program}: {text}", file=error))
    sys.stdout, sys.stderr = output, error
    try:
        yield
    finally:
        output.is_essential = False
        output.flush()
        error.flush()
        sys.stdout, sys.stderr = before


def _fill_closed_descriptors() -> None:
    """What a shell has closed (``>&-``) goes nowhere; else the next file that is opened would get the output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
