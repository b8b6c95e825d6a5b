from trainable import config
from trainable.objectives import OBJECTIVES


def test_a_config_names_the_objectives_that_there_are():
    assert tuple(OBJECTIVES) == config.OBJECTIVES
    assert all(name == objective.name for name, objective in OBJECTIVES.items())
