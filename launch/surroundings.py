"""What surrounds a program and must not spoil its work: the terminal's encoding, a notebook's drawing backend."""

from __future__ import annotations

import os
import sys


def harmless_surroundings() -> None:
    """Print `?` for what the terminal's encoding lacks, and draw to files whatever a notebook asks for."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    os.environ["MPLBACKEND"] = "agg"  # a notebook's own backend may not be installed here
