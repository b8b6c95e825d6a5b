"""Everything that has not been measured on a GPU, in one command of a few minutes; each step leaves its record.

Needs torch, numpy and Pillow alone, so it runs where nothing else is installed, from an archive that ``--pack`` makes:

    python -m benchmarks gpu --pack gpu.tar --images cifar10_images.tar.xz       # here
    tar xf gpu.tar && python -m benchmarks gpu --images images.tar.xz            # there
"""

import argparse
import io
import json
import tarfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu_steps import FULL, IMAGE_SIZE, SHORT, STEPS, Bench
from trainable.cli import Parser, UsageError, one_of
from trainable.images.pool import DataSpec, Pool, pack

ROOT = Path(__file__).parent.parent
MODULES = ("__init__", "__main__", "gpu", "gpu_steps", "packed", "reference")
CODE = (*(f"benchmarks/{name}.py" for name in MODULES), "trainable")
IMAGES = "images.tar.xz"  # in the archive
NUM_MINORITY = 3


def add_flags(parser: Parser) -> None:
    group = parser.add_argument_group("benchmark")
    group.add_argument("--device", type=one_of(("cuda", "cpu")), default="cuda", help="where to train")
    group.add_argument("--short", action="store_true", help="as little as shows that every step runs")
    group.add_argument(
        "--images", type=Path, metavar="FILE", help="a tar of train/<class>/*.jpg (default: made-up ones)"
    )
    group.add_argument("--out", type=Path, metavar="DIR", help="where the records go (default: benchmarks/records)")
    group.add_argument("--pack", type=Path, metavar="FILE", help="only write a tar of the code and of --images")


def main(arguments: argparse.Namespace) -> int:
    """Runs all steps, or packs; 1 if a step failed.

    Raises:
        UsageError: there is no such device or file.
    """
    if arguments.images is not None and not arguments.images.is_file():
        raise UsageError([f"--images {arguments.images}: is no file"])
    if arguments.pack is not None:
        return write_pack(arguments.pack, arguments.images)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(["--device cuda: torch finds no GPU here; --device cpu runs the same without one"])
    folder = (arguments.out or ROOT / "benchmarks" / "records") / f"gpu-{time.strftime('%Y%m%d-%H%M%S')}"
    folder.mkdir(parents=True)
    bench = Bench(read_images(arguments.images), torch.device(arguments.device), SHORT if arguments.short else FULL)
    return run_steps({name: partial(step, bench) for name, step in STEPS.items()}, folder)


def write_pack(path: Path, images: Path | None) -> int:
    with tarfile.open(path, "w") as archive:
        for name in CODE:
            archive.add(ROOT / name, name, filter=lambda info: None if "__pycache__" in info.name else info)
        if images is not None:
            archive.add(images, IMAGES)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def run_steps(steps: dict[str, Callable[[], Any]], folder: Path) -> int:
    """Runs each, whatever became of those before it, and leaves NAME.json in ``folder``; 1 if one failed."""
    status = 0
    for name, step in steps.items():
        start = time.perf_counter()
        try:
            content: dict[str, Any] = {"found": step()}
        except Exception as error:
            status = 1
            content = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        content = {"step": name, "seconds": time.perf_counter() - start, **content}
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        print(f"{name}: {content.get('error') or json.dumps(content['found'])}", flush=True)
    print(f"records: {folder}")
    return status


def read_images(path: Path | None) -> Pool:
    """The images in train/ of the archive; 10 classes of noise of another colour each where there is none."""
    names: list[str] = []
    labels: list[int] = []
    arrays: list[np.ndarray] = []
    if path is None:
        rng = np.random.default_rng(0)
        names = [f"class-{index}" for index in range(10)]
        labels = [index % 10 for index in range(2_000)]
        colours = rng.integers(64, 192, (10, 1, 1, 3))
        arrays = [np.clip(colours[c] + rng.normal(0, 60, (IMAGE_SIZE, IMAGE_SIZE, 3)), 0, 255).astype(np.uint8)
                  for c in labels]  # fmt: skip
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                folder, _, name = member.name.removeprefix("./").partition("/")
                if folder != "train" or not member.isfile():
                    continue
                class_name = name.partition("/")[0]
                if class_name not in names:
                    names.append(class_name)
                content = archive.extractfile(member)
                assert content is not None
                image = Image.open(io.BytesIO(content.read())).convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE))
                arrays.append(np.asarray(image))
                labels.append(names.index(class_name))
    minority = tuple(sorted(names)[:NUM_MINORITY])
    spec = DataSpec("archive", "", "", IMAGE_SIZE, minority, keep=0.1, val_fraction=0.1, own_test=False)
    return Pool(spec, pack(np.stack(arrays)), np.array(labels), tuple(names), 0, None, "")
