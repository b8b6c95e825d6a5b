"""python -m study.predict results/NAME IMAGES...: classify images with the study's winner."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.cli import EXIT_FAILED, Parser, UsageError, attempt, fail, file_path, positive_int, printable
from trainable.command import command, output_is_essential

if TYPE_CHECKING:
    import numpy as np

    from study.confirmation.winner import Winner


@command("study.predict")
def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse(argv)
    problems = list(parser.problems)
    files = attempt(problems, image_files, arguments.images, lambda text: print(text, file=sys.stderr))

    from study.confirmation import ensemble, winner

    found = attempt(problems, ensemble.read if arguments.ensemble else winner.read, arguments.folder)
    if problems or files is None or found is None:
        fail(parser.prog, problems)
    output_is_essential()
    try:
        return run(found, files, arguments.batch_size, arguments.json)
    except UsageError as error:
        print(f"{parser.prog}: {arguments.folder / 'winner'}: {error}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> Parser:
    parser = Parser("study.predict", "Classifies images with the model that study.confirm has left in winner/.")
    parser.add_argument("folder", type=file_path, metavar="results/NAME", help="the study's folder")
    parser.add_argument(
        "images",
        type=file_path,
        nargs="+",
        metavar="IMAGES",
        help="files, or folders of them at any depth (without links to folders)",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object for each image on standard output and nothing else"
    )
    parser.add_argument(
        "--ensemble", action="store_true", help="by the ensemble that study.confirm has left beside the winner"
    )
    parser.add_argument("--batch-size", type=positive_int, default=256, help="images at a time")
    return parser


def image_files(paths: list[Path], say: Callable[[str], None]) -> list[Path]:
    """The images at ``paths``: files as given, of folders all that are images by their names, sorted.

    Each is opened as far as its header. ``say`` gets a note on what a folder holds besides.

    Raises:
        UsageError: what is not there or no image, and folders without any; all of them.
    """
    from trainable.images.decoding import image_endings, opened
    from trainable.progress import counted

    def header(file: Path) -> None:
        with opened(file):
            pass

    endings = image_endings()
    problems: list[str] = []
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        there = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        images = [file for file in there if file.suffix.lower() in endings]
        if len(images) < len(there):
            say(f"{printable(path)}: {len(there) - len(images)} file(s) left out, not images by their names")
        if not images:
            problems.append(f"{printable(path)}: holds no image")
        files += images
    for file in counted(files, "looking at the files", len(files), "files"):
        attempt(problems, header, file)
    if problems:
        raise UsageError(problems)
    return files


def run(winner: "Winner", files: list[Path], batch_size: int, as_json: bool) -> int:
    """Prints the class of each image, in the order of ``files``; one that cannot be decoded is told and passed over."""
    import numpy as np

    from study.confirmation.winner import classify
    from trainable.images.decoding import decoded, decoding_threads
    from trainable.progress import counted

    def decode(path: Path) -> "np.ndarray | str":
        try:
            return decoded(path, winner.image_size, winner.scale, winner.model.squash)
        except UsageError as error:
            return error.problems[0]

    widths = _width("image", files, 48), _width("class", winner.class_names, 24)
    if not as_json:
        print(_line(("image", "class", "probability", "next"), widths))
    num_failed = 0
    batches = [files[start : start + batch_size] for start in range(0, len(files), batch_size)]
    # on a terminal the lines themselves are the progress
    shown = batches if sys.stdout.isatty() else counted(batches, "classifying", len(batches), "batches")
    with decoding_threads() as threads:
        for batch in shown:
            images = list(threads.map(decode, batch))
            readable = [image for image in images if not isinstance(image, str)]
            rows = iter(classify(winner.classifier, np.stack(readable), batch_size)) if readable else iter(())
            for file, image in zip(batch, images, strict=True):
                if isinstance(image, str):
                    print(f"study.predict: {printable(image)}", file=sys.stderr)
                    num_failed += 1
                else:
                    row = next(rows)
                    found = int(winner.objective.decide_by(row[None])[0])
                    print(_as_json(winner, file, found, row) if as_json else _as_line(winner, file, found, row, widths))
    return EXIT_FAILED if num_failed else 0


def _as_json(winner: "Winner", file: Path, found: int, probabilities: "np.ndarray") -> str:
    return json.dumps(
        {
            "image": str(file),
            "class": winner.class_names[found],
            "probability": float(probabilities[found]),
            "probabilities": dict(zip(winner.class_names, probabilities.tolist(), strict=True)),
        }
    )


def _as_line(winner: "Winner", file: Path, found: int, probabilities: "np.ndarray", widths: tuple[int, int]) -> str:
    other = next(index for index in probabilities.argsort(kind="stable")[::-1] if index != found)
    names = winner.class_names
    likeliest_other = f"{printable(names[other])} {probabilities[other]:.4f}"
    return _line((printable(file), printable(names[found]), f"{probabilities[found]:.4f}", likeliest_other), widths)


def _line(cells: tuple[str, str, str, str], widths: tuple[int, int]) -> str:
    """The cells of a row; of a file's name that is too long the end is shown, of a class's the beginning."""
    file, name = (
        cells[0] if len(cells[0]) <= widths[0] else "…" + cells[0][1 - widths[0] :],
        cells[1] if len(cells[1]) <= widths[1] else cells[1][: widths[1] - 1] + "…",
    )
    return f"{file:<{widths[0]}}  {name:<{widths[1]}}  {cells[2]:>11}  {cells[3]}"


def _width(head: str, names: Iterable[object], most: int) -> int:
    return min(max(len(head), *(len(printable(name)) for name in names)), most)


if __name__ == "__main__":
    sys.exit(main())
