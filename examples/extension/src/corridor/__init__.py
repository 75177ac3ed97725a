"""Sensors along a corridor share one access point: a scenario, a controller and a learner outside EdgeMARL."""
