"""Who plays `model_placement`: rules, planning gateways, a server that learns prices, bandits, the joint plan."""
