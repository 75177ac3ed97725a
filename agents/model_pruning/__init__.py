"""Who plays `model_pruning`: rules, gateways that plan exactly, Q-learners, the near-optimal joint plan."""
