import os
import signal
import time

from trainable.command import SIGNALS, on_signals


def test_signals_within_a_second_count_as_one():
    calls = []
    with on_signals(lambda: calls.append("called")):
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        assert len(calls) == 1
        time.sleep(1.1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(calls) == 2
