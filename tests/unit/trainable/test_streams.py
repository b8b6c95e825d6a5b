import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainable.streams import PURPOSES, derive

keys = st.tuples(st.sampled_from(sorted(PURPOSES)), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))


@given(keys, keys)
def test_equal_keys_give_equal_seeds_and_different_ones_different_seeds(first, second):
    assert (derive(*first) == derive(*second)) == (first == second)


@given(st.sampled_from(sorted(PURPOSES)), st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3))
def test_a_seed_fits_torch_and_another_derivation(purpose, numbers):
    seed = derive(purpose, *numbers)
    assert isinstance(seed, int)
    assert 0 <= seed < 2**63
    assert derive(purpose, seed) != seed


def test_no_number_stands_for_two_purposes():
    assert len(set(PURPOSES.values())) == len(PURPOSES)


def test_neighbouring_seeds_and_epochs_give_unrelated_bits():
    seeds = np.array([derive("order", seed, epoch) for seed in range(64) for epoch in range(1, 65)], np.uint64)
    bits = (seeds[:, None] >> np.arange(63, dtype=np.uint64)) & np.uint64(1)
    # 4096 fair coins: half ± 5 standard deviations of 32
    assert np.abs(bits.sum(axis=0).astype(int) - 2048).max() < 160
    changed = bits[1:] != bits[:-1]
    assert np.abs(changed.sum(axis=0) - 2047.5).max() < 160


@pytest.mark.parametrize(
    ("key", "seed"),
    [
        (("validation_split", 0, 0), 5064105440874769477),
        (("order", 7, 3), 5082523032561304005),
        (("trial_seed", 2**40, 12), 4167860019095856494),
    ],
)
def test_golden_values_because_stored_studies_depend_on_them(key, seed):
    assert derive(*key) == seed
