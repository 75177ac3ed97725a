"""Who plays `sequential_offloading`: rules, per-agent parametric Q-learners, value iteration.

The paper's Algorithms 1 and 2 as printed are in `paper_gradient`; `q_device` and `q_server` learn only the value of
what is left behind and compute the rest of the Q-function from what an agent knows about itself.
"""
