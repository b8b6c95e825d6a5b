"""What ``benchmarks gpu`` measures, a function for each step; torch and numpy are all they need."""

import dataclasses
import multiprocessing
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import packed as packs
from trainable import checkpoint, learner, loop
from trainable.arguments import default_config, num_cores
from trainable.config import PRECISIONS, TrialConfig
from trainable.images.pool import Pool
from trainable.images.trial import TrialImages, trial_images
from trainable.parts.losses import LOSSES
from trainable.parts.networks import NETWORKS, ConvNet
from trainable.parts.optimizers import adam
from trainable.probe import probe
from trainable.step import Step, repeated

IMAGE_SIZE = 32


@dataclass(frozen=True)
class Size:
    """How much is trained; ``accuracy`` is (training images, epochs, seeds)."""

    train: int
    val: int
    rounds: int
    accuracy: tuple[int, int, int]
    together: tuple[int, ...]
    packed: tuple[int, ...]
    networks: int  # training images for each network
    num_threads: int  # on the CPU


FULL = Size(40_000, 5_000, 5, (12_000, 8, 3), (1, 2, 4, 8), (1, 2, 4, 8, 16, 32), 8_192, num_cores())
SHORT = Size(256, 8, 1, (256, 1, 1), (2,), (1, 2), 2, 1)


@dataclass(frozen=True)
class Bench:
    """What the steps work on."""

    pool: Pool
    device: torch.device
    size: Size

    def config(self, **values: Any) -> TrialConfig:
        threads = self.size.num_threads if self.device.type == "cpu" else 1
        settings = {"num_threads": threads, "precision": "bfloat16", "epochs": 10**6, "patience": 10**6, **values}
        return default_config("archive", 0, **settings)

    def images(self, num_train: int | None = None) -> TrialImages:
        """The same images at each call, no more than the size says."""
        images = trial_images(self.pool, 0, 0, self.device)
        order = torch.randperm(len(images.train), generator=torch.Generator().manual_seed(0))
        train = images.train[order[: num_train or self.size.train]]
        return dataclasses.replace(images, train=train, val=images.val[: self.size.val])

    def rates(self, config: TrialConfig, images: TrialImages) -> dict[str, float]:
        """Medians of images per second, the first epoch left out: its steps are captured in it."""
        rows = loop.run(loop.new_state(config, images), images)
        next(rows)
        measured = [next(rows) for _ in range(self.size.rounds)]
        return {
            "train": len(images.train) / statistics.median(row["train_seconds"] for row in measured),
            "val": len(images.val) / statistics.median(row["val_seconds"] for row in measured),
        }


def machine(bench: Bench) -> dict[str, Any]:
    is_gpu = bench.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if is_gpu else platform.processor(),
        "cores": num_cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "num_images": len(bench.pool.labels),
    }


def choice(bench: Bench) -> dict[str, Any]:
    start = time.perf_counter()
    found = probe(bench.config(), len(bench.pool.class_names), IMAGE_SIZE, bench.device)
    return {"precision": found.precision, "reason": found.reason, "seconds": time.perf_counter() - start}


def captured(bench: Bench) -> dict[str, Any]:
    """The losses of two epochs without dropout, of the captured step and of the eager one."""
    found = {"captured": _losses(bench), "eager": []}
    with _eager():
        found["eager"] = _losses(bench)
    return found | {"largest_difference": _largest(found["captured"], found["eager"])}


def replay(bench: Bench) -> dict[str, Any]:
    """The losses of the same config twice."""
    first, second = _losses(bench), _losses(bench)
    return {"first": first, "second": second, "largest_difference": _largest(first, second)}


def _losses(bench: Bench) -> list[float]:
    images = bench.images(min(bench.size.train, 4_096))
    state = loop.new_state(bench.config(dropout=0.0), images)
    return [learner.train_epoch(state.learner, images, epoch)[0] for epoch in (1, 2)]


def _largest(first: list[float], second: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(first, second, strict=True))


@contextmanager
def _eager() -> Iterator[None]:
    repeated = Step._repeated
    Step._repeated = lambda self, work: work  # type: ignore[method-assign]
    try:
        yield
    finally:
        Step._repeated = repeated  # type: ignore[method-assign]


def epoch(bench: Bench) -> dict[str, Any]:
    """Images per second, captured in both precisions, and eager."""
    images = bench.images()
    found = {precision: bench.rates(bench.config(precision=precision), images) for precision in PRECISIONS}
    with _eager():
        found["bfloat16, eager"] = bench.rates(bench.config(), images)
    return found


def networks(bench: Bench) -> dict[str, dict[str, dict[str, float]]]:
    """Images per second of each of the project's own networks, in both precisions."""
    images = bench.images(bench.size.networks)
    return {
        name: {p: bench.rates(bench.config(precision=p, network=name), images) for p in PRECISIONS} for name in NETWORKS
    }


def floor(bench: Bench) -> dict[str, float]:
    """Images per second of the network and its updates alone, on one batch that lies ready: no epoch is faster."""
    config, images = bench.config(), bench.images(min(bench.size.train, 4_096))
    state = loop.new_state(config, images)
    shape = (config.batch_size, 3, IMAGE_SIZE, IMAGE_SIZE)
    batch = torch.randn(shape, device=bench.device).contiguous(memory_format=torch.channels_last)
    loss = LOSSES[config.loss](config, images.train_counts).to(bench.device)
    ready: Any = lambda pixels, dice: batch  # noqa: E731
    step = Step(config, state.learner.model, state.learner.optimizer, ready, None, loss, images.pixels)
    step.start_epoch(1)
    positions = images.train[: config.batch_size].to(bench.device)
    labels = images.labels[images.train[: config.batch_size]].to(bench.device)

    def group() -> None:
        for _ in range(config.accumulation_steps):
            step.accumulate(positions, positions, labels, config.batch_size * config.accumulation_steps)
        step.update()

    seconds = _seconds(group, 100 if bench.device.type == "cuda" else 1, bench.device)
    return {"train": config.accumulation_steps * config.batch_size / seconds}


def reference(bench: Bench) -> dict[str, float]:
    """Images per second of the course's loop, which loads in the main process, and with 4 loaders; torchvision's."""
    from benchmarks import reference as course

    images = bench.images(min(bench.size.train, 8_192))
    found = {}
    for num_workers in (0, 4):
        trainer = course.new_trainer(bench.config(), images)
        dataset = course.train_images(bench.pool, images, bench.config())
        start = time.perf_counter()
        course.train_epoch(trainer, course.train_loader(dataset, bench.config(), num_workers))
        found[f"{num_workers} loaders"] = len(images.train) / (time.perf_counter() - start)
    return found


def profile(bench: Bench) -> list[dict[str, Any]]:
    """The operations of an epoch that take longest by themselves."""
    images = bench.images(min(bench.size.train, 4_096))
    state = loop.new_state(bench.config(), images)
    learner.train_epoch(state.learner, images, 1)
    with torch.profiler.profile() as found:
        learner.train_epoch(state.learner, images, 2)
    name = "self_device_time_total" if bench.device.type == "cuda" else "self_cpu_time_total"
    events = sorted(found.key_averages(), key=lambda event: -getattr(event, name))[:25]
    return [{"name": e.key, "milliseconds": getattr(e, name) / 1000, "calls": e.count} for e in events]


def together(bench: Bench) -> dict[str, float]:
    """Training images per second of several trials at once, a process each, all together."""
    found = {}
    context = multiprocessing.get_context("spawn")
    for number in bench.size.together:
        barrier, results = context.Barrier(number), context.Queue()
        processes = [context.Process(target=_train_beside, args=(bench, barrier, results)) for _ in range(number)]
        for process in processes:
            process.start()
        seconds = [results.get(timeout=240) for _ in processes]
        for process in processes:
            process.join()
        found[str(number)] = number * len(bench.images().train) / max(seconds)
    return found


def _train_beside(bench: Bench, barrier: Any, results: Any) -> None:
    images = bench.images()
    rows = loop.run(loop.new_state(bench.config(num_threads=1), images), images)
    next(rows)
    barrier.wait(timeout=240)
    results.put(next(rows)["train_seconds"])


def packed(bench: Bench) -> dict[str, dict[str, float]]:
    """Images per second of steps without augmentation: k trials one after the other, and as one program.

    On a GPU each trial's step is a graph of its own, and so is the pack's.
    """
    return {str(k): _packed(bench, k) for k in bench.size.packed}


def _packed(bench: Bench, k: int) -> dict[str, float]:
    torch.manual_seed(0)
    images = torch.randn(k, 128, 3, IMAGE_SIZE, IMAGE_SIZE, device=bench.device)
    labels = torch.randint(10, (k, 128), device=bench.device)
    networks = [ConvNet(10, IMAGE_SIZE, 0.3).to(memory_format=torch.channels_last).to(bench.device) for _ in range(k)]
    pack, optimizer = packs.pack_of(networks, [0.3] * k, [1e-3] * k)
    optimizers = [adam(network, 1e-3, 1e-4) for network in networks]

    steps = [
        repeated(partial(_discard, packs.train_single, *trial, precision="bfloat16"), bench.device)
        for trial in zip(networks, optimizers, strict=True)
    ]
    whole = repeated(partial(_discard, packs.train_packed, pack, optimizer, precision="bfloat16"), bench.device)

    def singles() -> None:
        for step, *batch in zip(steps, images, labels, strict=True):
            step(*batch)

    num_calls = 100 if bench.device.type == "cuda" else 1
    works: dict[str, Callable[[], None]] = {"one after the other": singles, "packed": partial(whole, images, labels)}
    return {name: labels.numel() / _seconds(work, num_calls, bench.device) for name, work in works.items()}


def _discard(work: Callable[..., object], *inputs: Any, precision: str) -> None:
    work(*inputs, precision)


def _seconds(work: Callable[[], None], num_calls: int, device: torch.device) -> float:
    """Median over three blocks of calls, per call."""

    def block() -> float:
        start = time.perf_counter()
        for _ in range(num_calls):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / num_calls

    block()
    return statistics.median(block() for _ in range(3))


def accuracy(bench: Bench) -> dict[str, list[float]]:
    """The best minority F1 of each seed in float32, in TF32 (on a GPU) and in bfloat16."""
    num_train, epochs, num_seeds = bench.size.accuracy
    images, found = bench.images(num_train), {}
    ways = [("float32", "float32", False), ("tf32", "float32", True), ("bfloat16", "bfloat16", True)]
    for name, precision, tf32 in ways if bench.device.type == "cuda" else [ways[0], ways[2]]:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        configs = [bench.config(seed=seed, epochs=epochs, precision=precision, sampler="weighted")
                   for seed in range(num_seeds)]  # fmt: skip
        found[name] = [list(loop.run(loop.new_state(c, images), images))[-1]["best_minority_f1"] for c in configs]
    return found


def memory(bench: Bench) -> dict[str, float]:
    """MB at the most: of each precision's trial on a GPU, elsewhere of this process so far."""
    if bench.device.type != "cuda":
        return {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}
    found, images = {}, bench.images(4_096)
    for precision in PRECISIONS:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        learner.train_epoch(loop.new_state(bench.config(precision=precision), images).learner, images, 1)
        found[precision] = torch.cuda.max_memory_allocated() / 1e6
    return found


def checkpoints(bench: Bench) -> dict[str, float]:
    """Seconds and MB of a last.pt."""
    images = bench.images(min(bench.size.train, 1_024))
    state = loop.new_state(bench.config(), images)
    next(loop.run(state, images))
    with tempfile.TemporaryDirectory() as folder:
        path, measured = Path(folder) / "last.pt", []
        for _ in range(5):
            start = time.perf_counter()
            checkpoint.save(state, images, path)
            measured.append(time.perf_counter() - start)
        return {"seconds": statistics.median(measured), "megabytes": path.stat().st_size / 1e6}


STEPS: dict[str, Callable[[Bench], Any]] = {
    step.__name__: step
    for step in (
        machine,
        choice,
        captured,
        epoch,
        networks,
        floor,
        profile,
        together,
        packed,
        memory,
        checkpoints,
        replay,
        accuracy,
        reference,
    )
}
