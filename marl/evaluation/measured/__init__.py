"""Measurements as people have them (drive tests, throughput traces, positions, task lists) become trace files."""
