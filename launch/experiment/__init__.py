"""An experiment: its plan, its runs, its results on disk."""
