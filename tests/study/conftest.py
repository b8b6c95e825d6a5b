import signal
from pathlib import Path

import pytest

from trainable.command import SIGNALS


def pytest_collection_modifyitems(items):
    """Everything here is marked e2e."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("e2e")


@pytest.fixture(autouse=True, scope="session")
def _signals_end_what_is_started():
    """A process inherits which signals are ignored; nohup and a shell's background have some of them ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
