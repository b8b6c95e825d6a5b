"""Randomness as a pure function of (seed, epoch, purpose): no generator's state is ever saved or carried over."""

import numpy as np

# A number each, never reused: adding a purpose leaves every other stream as it is.
PURPOSES = {
    "test_split": 1,
    "validation_split": 2,
    "cut": 3,
    "initialisation": 4,
    "order": 5,
    "augmentation": 6,
    "dropout": 7,
    "trial_seed": 8,
    "sampler": 9,
    "sobol": 10,
    "grid": 11,
    "simulation": 12,
    "head": 13,
    "design": 14,
    "resampling": 20,
    "halves": 21,
    "confirmation": 22,
    "calibration": 23,
    "choice": 24,
    "importance_resamples": 30,
    "benchmark_effects": 31,
    "confirmation_seed": 40,
    "learning_curve": 41,
    "folds": 42,
    "fold_seed": 43,
}


def derive(purpose: str, *numbers: int) -> int:
    """A seed in [0, 2^63) for ``purpose`` and ``numbers`` (each a whole number of at least 0)."""
    state = np.random.SeedSequence([PURPOSES[purpose], *numbers]).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))
