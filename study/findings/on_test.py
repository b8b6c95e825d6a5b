"""What the test images say of the winner, class by class, in words."""

from study.record.confirmation import ClassOnTest, Estimate, RecipeOnTest
from study.words import end
from trainable.cli import printable

MAX_NAME = 24


def lines(tested: RecipeOnTest) -> list[str]:
    """The rare classes, and the false alarms among the others, as lines of at most 100 columns; the page has all."""
    rare = [found for found in tested.classes if found.rare]
    if not rare:  # of an earlier version
        return []
    names = [printable(of_class.name) for of_class in rare]
    names = [name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…" for name in names]
    width = max(len("rare class"), *map(len, names))
    found = [
        f"{model(tested)} on test images of the rare classes, mean of the seeds (95 %):",
        f"{'rare class':<{width}}  images  recall               precision            F1",
    ]
    for name, of_class in zip(names, rare, strict=True):
        cells = "  ".join(f"{_shown(value):<19}" for value in scores(of_class))
        found.append(f"{name:<{width}}  {of_class.images:6d}  {cells}".rstrip())
    alarms = false_alarm_words(tested)
    return found + ([alarms] if alarms else [])


def model(tested: RecipeOnTest) -> str:
    """Of what the scores of classes, the confusions and the false alarms are."""
    return f"the winner{', with its decision offsets,' if tested.as_in_winner else ''}"


def scores(found: ClassOnTest) -> tuple[Estimate, Estimate, Estimate]:
    return found.recall, found.precision, found.f1


def false_alarm_words(tested: RecipeOnTest) -> str:
    """How often an image of a common class is taken for a rare one; empty where that is not known."""
    found = tested.false_alarms
    if found is None:
        return ""
    low, high = (end(100 * value, 1, "") for value in (found.low, found.high))
    share = f"{100 * found.estimate:.1f} % ({low} to {high} %)"
    return f"false alarms: {share} of the other classes' images are taken for a rare class"


def _shown(found: Estimate) -> str:
    return f"{found.estimate:.3f} ({found.low:.2f} to {found.high:.2f})"
