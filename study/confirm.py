"""python -m study.confirm: the best recipes and the course's on fresh seeds, then, once, on the test images."""

import shlex
import sys
from pathlib import Path

from study.execution.machine import add_machine_flags
from trainable.arguments import add_place_flags
from trainable.cli import Parser, UsageError, fail, file_path, positive_int, whole
from trainable.command import command


@command("study.confirm", resumable=True)
def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse(argv)
    again = "python -m study.confirm " + shlex.join(sys.argv[1:] if argv is None else argv)

    from study.confirmation.plan import preflight

    try:
        if arguments.refit or arguments.learning_curve:
            from study.confirmation import afterwards, learning_curve, refit

            flag = "--refit" if arguments.refit else "--learning-curve"
            if arguments.refit and arguments.learning_curve:
                parser.problems.append("--learning-curve: must be left out with --refit; one after the other")
            winners = afterwards.preflight(arguments, flag, parser.problems, again)
            return afterwards.carry_out(winners, (refit if arguments.refit else learning_curve).make, _page)
        plan = preflight(arguments, parser.problems, again)

        from study.confirmation import stages  # Ray, which a refusal need not wait for

        return stages.carry_out(plan, _page)
    except UsageError as error:
        fail(parser.prog, error.problems)


def _parser() -> Parser:
    parser = Parser(
        "study.confirm",
        "Runs a study's best recipes and the course's on fresh seeds, then scores the winner and the course's on the "
        "test images, once. The same command goes on after an interruption. The seal on the test images is a record "
        "in confirm.json, not a lock.",
    )
    parser.add_argument("folder", type=file_path, metavar="results/NAME", help="the study's folder")
    group = parser.add_argument_group("confirmation")
    group.add_argument("--top", type=positive_int, default=3, help="trials of the ranking that are confirmed")
    group.add_argument(
        "--seeds",
        type=whole(2, 1000),
        default=5,
        help="fresh seeds that each recipe is run on",
    )
    group.add_argument(
        "--reopen-test",
        default=None,
        metavar="REASON",
        help="score on the test images again, after they have been opened; the reason is recorded for every reader",
    )
    group.add_argument(
        "--refit",
        action="store_true",
        help="once all that is done: train the winner once more, on training and validation images together, for as "
        "many epochs as validation chose, and put that model into winner/; no validation image then judges it",
    )
    group.add_argument(
        "--learning-curve",
        action="store_true",
        help="once all that is done: train the winner on a quarter and on half of the training images, on each seed, "
        "to see which class would gain from more images",
    )
    add_place_flags(parser)
    add_machine_flags(parser)
    return parser


def _page(folder: Path) -> str:
    from study.findings import advice, ranking, summary
    from study.report import page
    from trainable.progress import stage

    with stage("writing report.html"):
        found = ranking.rank(folder)
        head = advice.lines(found, summary.verdict_of(folder), summary.more_images_of(folder, found.study))
        return "\n".join([*head, "", page.write_if_quick(found, folder)])


if __name__ == "__main__":
    sys.exit(main())
