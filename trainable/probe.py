"""Whether bfloat16 pays on this machine: with instructions for it a processor is half as fast again as in float32,
without them ten times slower. So both are tried."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from trainable.allocator import keep_freed_memory
from trainable.config import PRECISIONS, TrialConfig
from trainable.learner import network
from trainable.network_fields import TORCHVISION
from trainable.parts.augmentation import augmentation
from trainable.parts.losses import LOSSES
from trainable.parts.mixing import MIXINGS
from trainable.step import Step

MIN_SPEEDUP = 1.15  # below it the rounding would be for nothing
BUDGET_SECONDS = 0.5  # after which no round begins but the second
NUM_ROUNDS = 7
NUM_PIXELS = 32 * 32 * 32  # of a batch on the CPU: so many that the convolutions count; some 30 ms in float32
NUM_BATCHES_ON_A_GPU = 16  # one alone would be over before the next can be launched


@dataclass(frozen=True)
class Choice:
    """A precision, and why, to be read after "bfloat16: "."""

    precision: str
    reason: str


def probe(config: TrialConfig, num_classes: int, image_size: int, device: torch.device) -> Choice:
    """The precision to train in on ``device``: the real step in both, in turn, in less than a second on a CPU.

    Without the optimizer's update, which is float32 in either. ``config`` says with how many threads. torch's random
    numbers and number of threads are left as they were.
    """
    if config.network.startswith(TORCHVISION) and device.type == "cpu":
        return Choice("float32", "in bfloat16 torchvision's networks give other numbers each time on a CPU")
    num_threads = torch.get_num_threads()
    try:
        keep_freed_memory()
        torch.set_num_threads(config.num_threads)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            steps = {
                name: _batches(replace(config, precision=name), num_classes, image_size, device) for name in PRECISIONS
            }
            if device.type == "cuda":
                for step in steps.values():  # captures its graph
                    step()
            return compare(steps)
    finally:
        torch.set_num_threads(num_threads)


def compare(steps: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter) -> Choice:
    """bfloat16 if float32's step takes at least ``MIN_SPEEDUP`` times as long; the fastest of each counts.

    Of two at least: in the very first one libraries are loaded.
    """
    fastest = dict.fromkeys(steps, float("inf"))
    start = clock()
    for number in range(NUM_ROUNDS):
        for name, step in steps.items():
            began = clock()
            try:
                step()
            except RuntimeError as error:  # what torch raises where it has no kernel
                return Choice("float32", f"{name} cannot be tried here ({str(error).splitlines()[0]})")
            fastest[name] = min(fastest[name], clock() - began)
        if number > 0 and clock() - start > BUDGET_SECONDS:
            break
    speedup = fastest["float32"] / fastest["bfloat16"]
    if speedup >= MIN_SPEEDUP:
        return Choice("bfloat16", f"{speedup:.2g} × as fast as float32 here")
    return Choice("float32", f"bfloat16 is {speedup:.2g} × as fast here, not {MIN_SPEEDUP} ×")


def seconds_per_image(config: TrialConfig, num_classes: int, image_size: int, device: torch.device) -> float:
    """What training takes for an image, without the optimizer's update; by the fastest of a few batches of noise."""
    num_threads = torch.get_num_threads()
    try:
        keep_freed_memory()
        torch.set_num_threads(config.num_threads)
        with torch.random.fork_rng():
            step = _batches(config, num_classes, image_size, device)
            fastest, start = float("inf"), time.perf_counter()
            for _ in range(NUM_ROUNDS):
                began = time.perf_counter()
                step()
                fastest = min(fastest, time.perf_counter() - began)
                if time.perf_counter() - start > BUDGET_SECONDS:
                    break
    finally:
        torch.set_num_threads(num_threads)
    is_gpu = device.type == "cuda"
    return fastest / (_batch_size(config, image_size, is_gpu) * (NUM_BATCHES_ON_A_GPU if is_gpu else 1))


def _batch_size(config: TrialConfig, image_size: int, is_gpu: bool) -> int:
    return config.batch_size if is_gpu else min(config.batch_size, max(8, NUM_PIXELS // image_size**2))


def _batches(
    config: TrialConfig, num_classes: int, image_size: int, device: torch.device
) -> Callable[[], tuple[float, int]]:
    """Augmentation, forward and backward of a batch of noise, on a GPU of several, and the wait for the device."""
    area, is_gpu = image_size**2, device.type == "cuda"
    number = _batch_size(config, image_size, is_gpu)
    pixels = torch.randint(2**24, (number, area + 1), dtype=torch.int32).to(device)
    mean, std = torch.full((3,), 0.5, device=device), torch.full((3,), 0.25, device=device)
    augment = augmentation(config, image_size, mean, std)
    counts = torch.ones(num_classes, dtype=torch.int64)
    mixing = MIXINGS[config.mixing](config, counts.to(device), image_size)
    loss = LOSSES[config.loss](config, counts).to(device)
    step = Step(config, network(config, num_classes, image_size, device), None, augment, mixing, loss, pixels)
    positions = torch.arange(number, device=device)
    dice, labels = step.draw(number, torch.Generator().manual_seed(0)).to(device), positions % num_classes

    def run() -> tuple[float, int]:
        step.start_epoch(1)
        for _ in range(NUM_BATCHES_ON_A_GPU if is_gpu else 1):
            step.accumulate(positions, dice, labels, number)
        return step.totals()

    return run
