"""confirm.json as text: what fresh seeds and the test images say, and how much of the search's gain was luck."""

from typing import Any


def confirmation_lines(content: dict[str, Any]) -> list[str]:
    """What fresh seeds say, as lines of at most 100 columns."""
    found = [
        f"minority F1, mean of {len(content['seeds'])} fresh seeds with 95 % intervals:",
        f"{'recipe':<15}    mean  interval             adj.  search  val recall  audit recall",
    ]
    for recipe in content["recipes"]:
        audit = f"{_mean(recipe['audit_recall']):12.4f}" if recipe["audit_recall"] is not None else f"{'-':>12}"
        found.append(
            f"{recipe['name']:<15}  {recipe['mean']:.4f}  {recipe['low']:.4f} to {recipe['high']:.4f}  "
            f"{_mean(recipe['scores_adjusted']):.4f}  {recipe['search_score']:.4f}  "
            f"{_mean(recipe['val_recall']):10.4f}  {audit}"
        )
    found += [
        "each seed draws start, order, validation and cut anew; epochs chosen on one half of validation,",
        "scored on the other; adj.: after logit adjustment; recall: mean of the minority classes, best epoch;",
        "audit: on the images that the cut removed",
        "",
    ]
    for difference in content["differences"]:
        after = difference["adjusted"]
        found.append(f"{difference['first']} less {difference['second']}: {_signed(difference)}")
        found.append(f"{'':4}after logit adjustment: {_signed(after)}")
    confirmed = content["confirmed"]
    found += [
        "",
        f"winner: {content['winner']}",
        f"confirmed score: {confirmed['estimate']:.4f} ({confirmed['low']:.4f} to {confirmed['high']:.4f}), "
        "each seed with the recipe that the others choose",
    ]
    if content["optimistic"]:
        found += ["this score is optimistic:", f"  {content['optimistic_reason']}"]
    return found


def sealed_lines(content: dict[str, Any]) -> list[str]:
    """What the test images say, as lines of at most 100 columns."""
    test = content["test"]
    found = [f"minority F1 on the test images, opened {test['opened']}:"]
    found += [f"  opened again {again['time']}: {again['reason']}" for again in test["reopened"]]
    for name, recipe in test["recipes"].items():
        found.append(
            f"{name:<15}  {recipe['mean']:.4f} ({recipe['low']:.4f} to {recipe['high']:.4f}), "
            f"after logit adjustment {_mean(recipe['scores_adjusted']):.4f}"
        )
    return found


def luck_lines(content: dict[str, Any]) -> list[str]:
    """Search score, confirmed score and test score side by side, and how much of the search's gain was luck."""
    recipes = {recipe["name"]: recipe for recipe in content["recipes"]}
    best = max(recipes.values(), key=lambda recipe: recipe["search_score"])
    base = max((r for r in recipes.values() if r["name"].startswith("course")), key=lambda r: r["search_score"])
    winner = recipes[content["winner"]]
    found = ["", f"{'':<15}  search  confirmed    test"]
    for name, test in content["test"]["recipes"].items():
        confirmed = content["confirmed"]["estimate"] if name == winner["name"] else recipes[name]["mean"]
        found.append(f"{name:<15}  {recipes[name]['search_score']:.4f}     {confirmed:.4f}  {test['mean']:.4f}")
    promised = best["search_score"] - base["search_score"]
    if promised <= 0:
        return [*found, f"luck: the search promised no gain over {base['name']}"]
    kept = best["mean"] - base["mean"] if best is not winner else content["confirmed"]["estimate"] - base["mean"]
    share = min(max(1 - kept / promised, 0.0), 1.0)
    return [
        *found,
        f"luck: of {best['name']}'s gain over {base['name']}, {promised:+.4f} by its search score, "
        f"{kept:+.4f} is left:",
        f"  {100 * share:.0f} % of it was luck",
    ]


def _signed(difference: dict[str, float]) -> str:
    return f"{difference['estimate']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
