"""What a user runs: the command line, presets, reports and cluster files."""
