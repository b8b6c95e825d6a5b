"""How much memory the images of a study take, told before it is taken, and whether that is too much."""

from collections.abc import Iterator
from pathlib import Path

GIB = 2**30


def notes(num_images: int, image_size: int, cache_dir: str) -> Iterator[str]:
    """A sentence where images of ``image_size`` pixels on a side take more memory than there should be taken."""
    free = free_bytes()
    if free is not None and are_too_many(num_images, image_size, free):
        taken = f"{needed_bytes(num_images, image_size) / GIB:.1f} GiB of memory"
        yield (
            f"--image-size {image_size}: {num_images} images take {taken}, of {free / GIB:.1f} GiB that are free; "
            f"so they stay in a file in {cache_dir} and are read as they are needed, which is slower; a smaller size "
            "takes less"
        )


def are_too_many(num_images: int, image_size: int, free: int | None) -> bool:
    """Whether they take more than half of the ``free`` bytes: a study holds them twice, here and for its trials."""
    return free is not None and needed_bytes(num_images, image_size) > free / 2


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
