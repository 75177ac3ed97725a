"""Learning and evaluation: rollouts over batches of cells, paired comparison, training with RLlib."""
