"""Equations of one paper per file."""
