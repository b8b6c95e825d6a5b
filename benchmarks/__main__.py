"""python -m benchmarks NAME: runs a benchmark, prints its table, and leaves a folder under benchmarks/records/."""

import importlib
import os
import sys

from trainable.cli import EXIT_INTERRUPTED, Parser, UsageError, fail

BENCHMARKS = {
    "epoch": "images per second of training and validation, the course's loop against the project's",
    "pipeline": "the input pipeline alone on one CPU thread, and its share of the step",
    "learning": "whether both loops learn the same: losses in float64, and the minority F1 of paired seeds",
    "precision": "whether a recipe learns the same in bfloat16: minority F1 of paired seeds, both samplers",
    "checkpoint": "what a checkpoint every epoch costs",
    "beds": "whether the made-up trainings of study.simulate are like the recorded ones",
    "regret": "what searches are worth on a test bed, over the epochs they spend",
    "slots": "what the driver keeps at work: one-epoch trials that only wait, on faked GPUs, through Ray Tune",
    "scaling": "time per proposal and per result, and memory, of studies of thousands of trials",
    "effects": "how often study.effects is right about knobs, on simulated studies of known effects",
    "study": "a finished study's wall time against its training and validation",
    "inference": "images per second of a study's winner, plainly called and by study.predict's path",
    "gpu": "all that is not known yet of a GPU, with torch, numpy and Pillow alone; --pack makes its archive",
    "longtail": "methods for rare classes on long-tailed images, by the papers' protocol, beside published figures",
    "finetune": "what weights of other classes' images are worth: fine-tuned against from scratch at equal epochs",
    "calibration": "coverage of the intervals, the tied group and the bias of the confirmed score, by simulation",
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] in (["-h"], ["--help"]):
        print("usage: python -m benchmarks NAME [--help]\n")
        print("\n".join(f"  {name:<12}{text}" for name, text in BENCHMARKS.items()))
        return 0
    if not argv or argv[0] not in BENCHMARKS:
        fail("benchmarks", [f"NAME must be one of {', '.join(BENCHMARKS)}, not {argv[0] if argv else 'left out'}"])
    name = argv[0]
    benchmark = importlib.import_module(f"benchmarks.{name}")
    parser = Parser(f"benchmarks {name}", BENCHMARKS[name])
    benchmark.add_flags(parser)
    arguments = parser.parse(argv[1:])
    if parser.problems:
        fail(parser.prog, parser.problems)

    try:
        if name == "gpu":  # prints and records by itself, step by step, and runs without what the harness needs
            return int(benchmark.main(arguments))
        from benchmarks import harness

        outcome = benchmark.run(arguments)
    except UsageError as error:
        fail(parser.prog, error.problems)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(harness.table(outcome))
    print(f"record: {os.path.relpath(harness.write_record(name, arguments, outcome))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
