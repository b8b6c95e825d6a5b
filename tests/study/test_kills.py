import pytest

from tests import kills


def test_a_driver_and_a_worker_killed_lose_and_repeat_nothing():
    # with this seed both are killed in one study; with folds, each trial goes on with two networks from its one file
    found = kills.run(num_drivers=1, num_workers=1, per_study=1, num_trials=3, seed=0, more=("--folds", "2"))
    assert found.startswith("1 kills of a driver")
    assert found.endswith("1 of a worker: nothing lost, nothing trained twice")


@pytest.mark.slow
def test_twenty_five_drivers_and_ten_workers_killed_lose_and_repeat_nothing():
    found = kills.run(num_drivers=25, num_workers=10, per_study=3, num_trials=6, seed=0)
    assert "25 kills of a driver" in found
