"""How much memory the images of a study take, told before it is taken."""

from collections.abc import Iterator
from pathlib import Path

GIB = 2**30


def notes(num_images: int, image_size: int) -> Iterator[str]:
    """A sentence where images of ``image_size`` pixels on a side take more than half of the memory that is free."""
    needed, free = needed_bytes(num_images, image_size), free_bytes()
    if free is not None and needed > free / 2:
        taken, there = f"{needed / GIB:.1f} GiB of memory", f"{free / GIB:.1f} GiB that are free"
        yield f"--image-size {image_size}: {num_images} images take {taken}, of {there}; a smaller size takes less"


def needed_bytes(num_images: int, image_size: int) -> int:
    """What the images of a pool take in memory, see ``pool.pack``."""
    return num_images * (image_size**2 + 1) * 4


def free_bytes(path: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
