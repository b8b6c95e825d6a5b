"""The choice of a precision: from steps that take as long as they are told, and on this machine."""

import pytest
import torch

from trainable.config import PRECISIONS, TrialConfig
from trainable.probe import BUDGET_SECONDS, NUM_ROUNDS, compare, probe


class Clock:
    """Time that passes only where a step takes it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def step(self, *seconds):
        """A step that takes each of ``seconds`` in turn, and from then on the last of them."""
        left = list(seconds)

        def run():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen", "reason"),
    [
        ([0.03], [0.02], "bfloat16", "1.5 × as fast as float32 here"),
        ([0.0231], [0.02], "bfloat16", "1.2 × as fast as float32 here"),
        ([0.0229], [0.02], "float32", "bfloat16 is 1.1 × as fast here, not 1.15 ×"),
        ([0.02], [0.02], "float32", "bfloat16 is 1 × as fast here, not 1.15 ×"),
        ([0.02], [0.2], "float32", "bfloat16 is 0.1 × as fast here, not 1.15 ×"),
        ([0.03], [0.2, 0.02], "bfloat16", "1.5 × as fast as float32 here"),  # the first call chooses kernels
        ([0.2, 0.02], [0.02], "float32", "bfloat16 is 1 × as fast here, not 1.15 ×"),
        ([2.0, 0.02], [0.03], "float32", "bfloat16 is 0.67 × as fast here, not 1.15 ×"),  # libraries loaded from disk
        ([0.03, 0.03, 0.01, 0.03], [0.02], "float32", "bfloat16 is 0.5 × as fast here, not 1.15 ×"),  # a busy machine
    ],
)
def test_the_fastest_step_of_each_decides(float32, bfloat16, chosen, reason):
    clock = Clock()
    found = compare({"float32": clock.step(*float32), "bfloat16": clock.step(*bfloat16)}, clock)
    assert (found.precision, found.reason) == (chosen, reason)


@pytest.mark.parametrize(("seconds", "num_rounds"), [(0.001, NUM_ROUNDS), (BUDGET_SECONDS / 4 + 0.01, 2), (2.0, 2)])
def test_both_run_in_turn_twice_and_no_further_round_begins_after_the_budget(seconds, num_rounds):
    clock, calls = Clock(), []

    def step(name):
        def run():
            calls.append(name)
            clock.now += seconds

        return run

    compare({name: step(name) for name in PRECISIONS}, clock)
    assert calls == ["float32", "bfloat16"] * num_rounds


@pytest.mark.parametrize("broken", PRECISIONS)
def test_where_a_step_fails_it_is_float32_and_the_first_line_of_the_error_is_told(broken):
    def fail():
        raise RuntimeError("could not create a primitive\nat somewhere.cpp:12")

    clock = Clock()
    steps = {name: fail if name == broken else clock.step(0.02) for name in PRECISIONS}
    found = compare(steps, clock)
    assert found.precision == "float32"
    assert found.reason == f"{broken} cannot be tried here (could not create a primitive)"


@pytest.mark.parametrize(("image_size", "batch_size"), [(16, 128), (32, 2)])
def test_a_real_probe_leaves_torch_as_it_was(image_size, batch_size):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    num_threads = torch.get_num_threads()
    config = TrialConfig(num_threads=num_threads + 1, batch_size=batch_size)
    found = probe(config, 3, image_size, torch.device("cpu"))
    assert found.precision in PRECISIONS
    assert "here" in found.reason
    assert "cannot" not in found.reason
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == num_threads
