"""RLlib on batched cells: environment runner, modules, algorithms that RLlib lacks."""
