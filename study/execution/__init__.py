"""Running trials: through Ray Tune, one after the other here, or simulated."""
