"""Named controllers of each scenario: who plays which role."""
