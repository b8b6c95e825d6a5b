"""python -m study.simulate: studies on a test bed, for anyone choosing an algorithm or a scheduler."""

import sys

from study.space.parameters import ALGORITHMS
from study.strategy.scheduler import SCHEDULERS
from trainable.cli import Parser, attempt, fail, file_path, positive_int, seed
from trainable.command import command, output_is_essential


@command("study.simulate")
def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse(argv)
    problems = list(parser.problems)
    for flag, known in (("algorithms", ALGORITHMS), ("schedulers", SCHEDULERS)):
        names = getattr(arguments, flag).split(",")
        problems += [f"--{flag}: {name!r} is none of {', '.join(known)}" for name in names if name not in known]
        setattr(arguments, flag, names)

    from study.execution import simulated
    from study.execution.surrogate import DIGITS_CURVES

    bed = attempt(problems, simulated.bed, arguments.curves or DIGITS_CURVES)
    if bed is None or problems:
        fail(parser.prog, problems)
    output_is_essential()
    lines = simulated.compare(
        bed,
        arguments.algorithms,
        arguments.schedulers,
        arguments.workers,
        arguments.budget,
        arguments.repeats,
        arguments.seed,
    )
    print("\n".join(lines))
    return 0


def _parser() -> Parser:
    parser = Parser(
        "study.simulate", "Plays made-up trainings whose truth is known through the study's searcher and scheduler."
    )
    curves = "recorded curves that the trainings are to be like (default: 200 recipes on digits), or formula"
    parser.add_argument("--curves", type=file_path, default=None, metavar="FILE", help=curves)
    parser.add_argument("--algorithms", default="tpe,random", metavar="LIST", help=f"of {', '.join(ALGORITHMS)}")
    parser.add_argument(
        "--schedulers", default=",".join(SCHEDULERS), metavar="LIST", help=f"of {', '.join(SCHEDULERS)}"
    )
    parser.add_argument("--workers", type=positive_int, default=4, help="trials at a time")
    parser.add_argument("--budget", type=positive_int, default=600, metavar="EPOCHS", help="of all trials together")
    parser.add_argument("--repeats", type=positive_int, default=20, help="studies with seeds of their own")
    parser.add_argument("--seed", type=seed, default=0, help="of the first repeat")
    return parser


if __name__ == "__main__":
    sys.exit(main())
