"""A training run: its config, its folder, imitation, storage, sweeps."""
