"""Questions that a command answers: a function each, named by a preset's `calculations` or run as a module."""
