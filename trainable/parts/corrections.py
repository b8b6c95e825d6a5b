"""Where a recipe makes up for classes of unequal size, in words. Imports nothing: the ranking asks, too."""

from collections.abc import Mapping
from typing import Any

# The values of a field that give rare classes more say than their share of the images. Not here: focal loss, which
# looks at how hard an image is and not at its class, and LDAM, whose paper adds class weights to its margins.
PLACES: dict[str, dict[str, str]] = {
    "sampler": {
        "weighted": "weighted sampler",
        "progressive": "progressive sampler",
        "undersample": "undersampling",
    },
    "class_weights": {
        "inverse": "inverse class weights",
        "effective": "effective-number class weights",
    },
    "loss": {
        "balanced_softmax": "balanced softmax",
        "logit_adjusted": "logit-adjusted loss",
    },
}


def corrects_twice(values: Mapping[str, Any]) -> list[str]:
    """The places in which a recipe corrects class imbalance, where there is more than one; else an empty list.

    ``values`` are the active fields of a config. Each place alone can make the classes count equally; two together
    overshoot (Ren et al. 2020, "Balanced Meta-Softmax", section 3.2: "over-balance"), unless each does a part.

    A head that is trained anew (``head_epochs``) forgets the sampler before it, and is drawn for by its own.
    """
    found = [words[values[field]] for field, words in PLACES.items() if values.get(field) in words]
    if values.get("head_epochs"):
        found = ["balanced head", *(words for words in found if words not in PLACES["sampler"].values())]
    return found if len(found) > 1 else []
