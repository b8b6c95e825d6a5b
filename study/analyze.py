"""python -m study.analyze results/NAME: ranking, intervals, effects, pictures, page. Needs neither Ray nor torch."""

import os
import shlex
import sys
import time
from pathlib import Path

from study.findings.ranking import Ranking, rank, write
from trainable.cli import EXIT_FAILED, Parser, UsageError, fail, file_path
from trainable.command import command

MAX_TRIALS_REPORTED = 200  # the page of so many takes a few seconds, and the importances of more take longer


@command("study.analyze")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        "study.analyze",
        "Ranks a study's trials and writes ranking.csv, report.html and figures/; changes nothing else.",
    )
    parser.add_argument("folder", type=file_path, metavar="results/NAME", help="the study's folder")
    arguments = parser.parse(argv)
    if parser.problems:
        fail(parser.prog, parser.problems)
    folder = arguments.folder
    start = time.monotonic()

    from study.findings import summary
    from study.report import page, pictures

    try:
        ranking = rank(folder)
        found = summary.find(ranking, folder)
    except UsageError as error:
        fail(parser.prog, error.problems)
    print("\n".join(ranking.lines() + found.lines()))
    try:
        write(ranking, folder)
        page.write(found, folder)
        num_pictures = len(pictures.write(found, folder / "figures"))
    except OSError as error:
        print(f"study.analyze: {error.filename}: cannot be written ({error.strerror})", file=sys.stderr)
        return EXIT_FAILED
    written = f"ranking.csv, report.html and {num_pictures} pictures in figures/"
    print(f"\n{folder}: {written}, in {time.monotonic() - start:.1f} s")
    return 0


def page(folder: Path, ranking: Ranking, in_a_hurry: bool = False) -> str:
    """Writes report.html if that takes a few seconds only; where it is, or how to make it."""
    from study.findings import summary
    from study.report import page

    where = os.path.relpath(folder)
    how = f"python -m study.analyze {shlex.quote(where)}"
    if in_a_hurry or len(ranking.trials) > MAX_TRIALS_REPORTED:
        return f"effects, pictures and report.html: {how}"
    try:
        path = page.write(summary.find(ranking, folder), folder)
    except (OSError, UsageError) as error:  # the study itself is whole
        return f"report.html could not be written ({error}); {how}"
    return f"{os.path.relpath(path)}: the page of this study; effects in words and pictures: {how}"


if __name__ == "__main__":
    sys.exit(main())
