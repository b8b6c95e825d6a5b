"""python -m study.analyze results/NAME: ranking, intervals, effects, pictures, page. Needs neither Ray nor torch."""

import sys
import time

from trainable.cli import EXIT_FAILED, Parser, UsageError, fail, file_path, unwritable
from trainable.command import command


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

    from study.findings import advice, ranking, summary
    from study.report import page, pictures
    from trainable.progress import stage

    try:
        with stage("ranking the trials"):
            ranked = ranking.rank(folder)
        with stage("asking which settings matter"):
            found = summary.find(ranked, folder)
    except UsageError as error:
        fail(parser.prog, error.problems)
    head = advice.lines(ranked, found.verdict, found.more_images)
    print("\n".join([*head, *([""] if head else []), *ranked.lines(), *found.lines()]))
    try:
        ranking.write(ranked, folder)
        with stage("writing report.html"):
            page.write(found, folder)
        with stage("drawing the pictures"):
            num_pictures = len(pictures.write(found, folder / "figures", print))
    except OSError as error:
        print(f"study.analyze: {unwritable(error)}", file=sys.stderr)
        return EXIT_FAILED
    written = f"ranking.csv, report.html and {num_pictures} pictures in figures/"
    print(f"\n{folder}: {written}, in {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
