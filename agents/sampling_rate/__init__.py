"""Who plays `sampling_rate`: rules, Q-learners of devices, prices for learning, exact minimisers of a slot."""
