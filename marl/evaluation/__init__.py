"""Rollouts over batches of cells, paired comparison, trace files."""
