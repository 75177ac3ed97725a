"""Near-optimal controllers of each scenario."""
