"""Which files are for training, validation and test: told by folders' names, or by a table.

A folder with a sub-folder by the name of a part is laid out by parts, and needs one for training. Of any other folder
the sub-folders are the classes, as if they lay in train/.
"""

from pathlib import Path

from trainable.cli import UsageError, attempt
from trainable.images.globs import Globs
from trainable.images.listing import Listing, list_folder, shortened
from trainable.images.parts import PART_NAMES, USES, part_of
from trainable.images.pool import DataSpec
from trainable.images.table import read_table
from trainable.progress import stage


@stage("listing the images")
def list_parts(spec: DataSpec) -> tuple[dict[str, Listing], list[str]]:
    """The images of each part that is there, by "train", "val" and "test", the same classes in all; and notes, a
    sentence each. Quick, and shows every mistake of layout before hours of decoding.

    Raises:
        UsageError: the mistakes.
    """
    data, globs = Path(spec.data), Globs(spec.include, spec.exclude)
    if not data.is_dir():
        raise UsageError([f"--data must be cifar10, digits or a folder, but {data} is no folder"])
    listings: dict[str, Listing] = {}
    problems: list[str] = []
    notes: list[str] = []
    if spec.labels is not None:
        listings = read_table(Path(spec.labels), data, globs)
    else:
        folders, notes = _folders(data, globs, spec.split_names)
        for part, folder in folders.items():
            if found := attempt(problems, list_folder, data, folder, globs):
                listings[part] = found
    return _aligned(listings, problems), [*notes, *_about_globs(spec, listings)]


def _aligned(listings: dict[str, Listing], problems: list[str]) -> dict[str, Listing]:
    train = listings.get("train")
    if train is not None:
        for part in listings.keys() - {"train"}:
            where = f"{listings[part].root}" if listings[part].folder else f"{listings[part].root}, {part}"
            listings[part] = attempt(problems, listings[part].aligned, train.class_names, where)
    if problems:
        raise UsageError(problems)
    return listings


def _folders(data: Path, globs: Globs, any_name: bool) -> tuple[dict[str, str], list[str]]:
    """The sub-folder of each part, "" for the folder itself, and notes. Where a part has several, the one by its usual
    name counts; without ``any_name`` no other does.

    Raises:
        UsageError: there is none for training, or it is not clear which folder is meant.
    """
    there = sorted(
        path.name
        for path in data.iterdir()
        if not path.name.startswith(".") and path.is_dir() and not globs.prune(path.name)
    )
    if any_name:
        found = {part: [name for name in there if part_of(name) == part] for part in PART_NAMES}
    else:
        found = {part: [part] for part in PART_NAMES if (data / part).is_dir()}
    found = {part: names for part, names in found.items() if names}
    if not found and any_name:
        return {"train": ""}, _about_classes(data, there)
    folders = {part: part if part in names else names[0] for part, names in found.items()}
    problems = [
        f"--data {data}: {' and '.join(f'{name}/' for name in names)} could all be {USES[part]}; leave one"
        for part, names in found.items()
        if len(names) > 1 and part not in names
    ]
    if "train" not in found:
        problems.append(f"--data {data}: has no folder train/ (images are looked for in train/<class>/)")
        if folders:
            problems[-1] += f"; {', '.join(f'{name}/ is {USES[part]}' for part, name in folders.items())}"
    used = set(folders.values())
    notes = _unused(data, [name for name in there if name not in used], used)
    if problems:
        raise UsageError([*problems, *notes])
    unusual = [f"{name}/ is used {USES[part]}" for part, name in folders.items() if name != part]
    return folders, [*([f"{data}: {', '.join(unusual)}"] if unusual else []), *notes]


def _about_classes(data: Path, names: list[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(f"{name}/" for name in names[:5]) + (", …" if len(names) > 5 else "")
    return [f"{data}: has no train/, so its {len(names)} folders are taken for the classes ({shown})"]


def _unused(data: Path, names: list[str], used: set[str]) -> list[str]:
    """What to say of the folders that are not looked into."""
    # where capitals do not count, Val/ is the val/ that is used
    others = [name for name in names if not any((data / name).samefile(data / other) for other in used)]
    if not others:
        return []
    shown = shortened([f"{name}/" for name in others], 5)
    return [f"{data}: {shown} not used; only the folders train/, val/ and test/ are"]


def _about_globs(spec: DataSpec, listings: dict[str, Listing]) -> list[str]:
    if not spec.include and not spec.exclude:
        return []
    flags = " and ".join(flag for flag, given in [("--include", spec.include), ("--exclude", spec.exclude)] if given)
    number = sum(listing.num_left_out for listing in listings.values())
    if not number:
        return [f"{flags}: every image is taken, nothing matches what should be left out"]
    return [f"{number} image(s) or folders of them are left out by {flags}"]
