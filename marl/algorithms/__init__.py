"""Learning algorithms, a file each: its settings, what it needs, and RLlib's classes that run it."""
