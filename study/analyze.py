"""python -m study.analyze results/NAME: the ranking by minority F1. Reads the ledger; needs neither Ray nor torch."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.scheduler import SEARCHED
from trainable.arguments import Parser, fail
from trainable.config import UsageError

if TYPE_CHECKING:
    import pandas as pd


MIN_BEST_TRIALS = 5
NEAR = 0.1  # of a range's width, on its own scale

SCORES = ("minority_f1", "minority_f1_adjusted", "macro_f1", "val_accuracy")


@dataclass(frozen=True)
class Ranking:
    """A study's trials, best first, and what was asked."""

    study: dict[str, Any]
    table: "pd.DataFrame"  # a row a trial

    def lines(self, max_trials: int = 20) -> list[str]:
        """The ranking and the gain over the course's recipes, as lines of at most 100 columns."""
        if self.table.empty:
            return self.gain_lines()
        from study.display import RECIPE_COLUMNS, recipe_cells, trial_name

        shown = self.table.head(max_trials)
        table = shown[["rank"]].copy()
        table["trial"] = [trial_name(*pair) for pair in zip(shown["trial"], shown["recipe"], strict=True)]
        for name, short in [("minority_f1", "min F1"), ("minority_f1_adjusted", "adj."), ("macro_f1", "macro"),
                            ("val_accuracy", "acc."), ("epochs", "epochs"), ("status", "status")]:  # fmt: skip
            table[short] = shown[name]
        cells = [recipe_cells(row.to_dict()) for _, row in shown.iterrows()]
        for index, name in enumerate(RECIPE_COLUMNS):
            table[name] = [row[index] for row in cells]
        lines = table.to_string(index=False, float_format="%.4f", na_rep="-").splitlines()
        if len(self.table) > max_trials:
            lines.append(f"… {len(self.table) - max_trials} more in ranking.csv")
        legend = "* the course's recipes; adj.: minority F1 after post-hoc logit adjustment; scores of the best epoch"
        return [line.rstrip() for line in [*lines, legend, "", *self.gain_lines()]]

    def gain_lines(self) -> list[str]:
        scored = self.table if self.table.empty else self.table.dropna(subset=["minority_f1"])
        if scored.empty:
            return ["no trial has finished an epoch yet"]
        best = scored.iloc[0]
        best_at = f"minority F1 {best['minority_f1']:.4f} at epoch {best['best_epoch']:.0f}"
        lines = [
            f"minority classes: {', '.join(self.study['minority'])}",
            f"best: trial {best['trial']}, {best_at} (search score, not confirmed)",
        ]
        for _, row in scored[scored["recipe"] != SEARCHED].sort_values("trial").iterrows():
            gain = best["minority_f1"] - row["minority_f1"]
            beyond = f"  beyond {row['recipe']} ({row['minority_f1']:.4f}): {gain:+.4f}"
            lines.append(f"{beyond} (search score, not confirmed)")
        if self.study["data"]["keep"] < 1:
            lines.append("F1 is at the original class frequencies: validation was drawn before the cut")
        return lines + self.memory_lines() + self.boundary_lines()

    def memory_lines(self) -> list[str]:
        """What running out of GPU memory has changed."""
        return [
            f"trial {row['trial']}: out of GPU memory, so each batch went through the network in "
            f"{row['num_micro_batches']} parts; batch norm saw smaller batches than in other trials"
            for _, row in self.table[self.table["num_micro_batches"] > 1].iterrows()
        ]

    def boundary_lines(self) -> list[str]:
        """The searched ranges whose best trials crowd an end of the range, beyond which better ones may lie."""
        from scipy.stats import binomtest

        from study import space as spaces

        space = spaces.from_tables(self.study["space"], {}, "study.json")
        searched = self.table[(self.table["recipe"] == SEARCHED) & self.table["minority_f1"].notna()]
        best = searched.head(max(MIN_BEST_TRIALS, len(searched) // 4))
        lines = []
        for parameter in space:
            active = [values for values in best.to_dict("records") if parameter.active(values)]
            if parameter.choices or len(active) < MIN_BEST_TRIALS:
                continue
            shares = [parameter.share(values[parameter.name]) for values in active]
            for end, name, bound in ((0.0, "low", parameter.low), (1.0, "high", parameter.high)):
                num_near = sum(abs(share - end) <= NEAR for share in shares)
                # more than would be there by chance, if the field did not matter
                by_chance = binomtest(num_near, len(active), NEAR, alternative="greater").pvalue
                if by_chance < 0.01 and parameter.can_widen(end == 1.0):
                    lines.append(f"{parameter.name}: {num_near} of the {len(active)} best trials crowd the {name} end "
                                 f"of its range, {bound:g}; a wider range may hold better ones")  # fmt: skip
        return lines


def rank(folder: Path) -> Ranking:
    """The ranking of the study in ``folder``: by minority F1 at the best epoch, ties to the lower number.

    Raises:
        UsageError: the folder holds no study that can be read.
    """
    import pandas as pd

    from study import ledger

    study = ledger.read_study(folder)
    records = []
    for trial in ledger.read_trials(folder):
        rows, config = trial.rows, trial.config.to_dict()
        best = rows[rows[-1]["best_epoch"] - 1] if rows else {}
        records.append(
            {
                "trial": trial.number,
                **{name: best.get(name) for name in SCORES},
                "best_epoch": best.get("epoch"),
                "epochs": len(rows),
                "status": trial.status,
                "reason": trial.reason,
                "recipe": trial.recipe,
                "seconds": sum(row["train_seconds"] + row["val_seconds"] for row in rows),
                **{f"f1_{name}": f1 for name, f1 in zip(study["class_names"], best.get("f1", []), strict=False)},
                "max_epochs": config.pop("epochs"),
                **config,
            }
        )
    table = pd.DataFrame.from_records(records)
    if not table.empty:
        table = table.sort_values(["minority_f1", "trial"], ascending=[False, True], na_position="last")
        table.insert(0, "rank", range(1, len(table) + 1))
    return Ranking(study, table)


def write(ranking: Ranking, folder: Path) -> None:
    """Writes ``ranking.csv``, best first; the old file or the new one."""
    from study.ledger import write_atomically

    write_atomically(folder / "ranking.csv", ranking.table.to_csv(index=False))


def main(argv: list[str] | None = None) -> int:
    parser = Parser("study.analyze", "Ranks a study's trials by minority F1 and writes ranking.csv.")
    parser.add_argument("folder", type=Path, metavar="results/NAME", help="the study's folder")
    arguments = parser.parse(argv)
    if parser.problems:
        fail(parser.prog, parser.problems)
    from study.ledger import read_confirmation

    try:
        ranking = rank(arguments.folder)
        confirmation = read_confirmation(arguments.folder)
    except UsageError as error:
        fail(parser.prog, error.problems)
    write(ranking, arguments.folder)
    print("\n".join(ranking.lines()))
    if confirmation and confirmation["num_trials"] < len(ranking.table):
        print(f"confirmed on {confirmation['time'][:10]} with {confirmation['num_trials']} trials; the study has "
              f"{len(ranking.table)} now, the later ones unconfirmed")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
