"""Who plays `model_partitioning`: rules, Q-learners of devices, the slot's optimum, and the playbook of all."""
