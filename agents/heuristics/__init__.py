"""Baselines of each scenario."""
