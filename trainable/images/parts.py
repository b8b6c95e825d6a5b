"""What the parts of a data set are called."""

PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid", "dev"),
    "test": ("test", "testing"),
}
USES = {"train": "for training", "val": "for validation", "test": "as the test images"}


def part_of(name: str) -> str | None:
    """The part that goes by this name, in any capitals: "train", "val" or "test"."""
    return next((part for part, names in PART_NAMES.items() if name.casefold() in names), None)
