"""What surrounds a program and must not spoil its work: the terminal's encoding, a notebook's drawing backend."""

from __future__ import annotations

import os
import sys


def in_notebook() -> bool:
    """Whether a notebook's cell runs this program: it has a terminal there, of which no line can be drawn anew."""
    return "JPY_PARENT_PID" in os.environ or "COLAB_RELEASE_TAG" in os.environ


def harmless_surroundings() -> None:
    """Print `?` for what the terminal's encoding lacks, and draw to files whatever a notebook asks for."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    os.environ["MPLBACKEND"] = "agg"  # a notebook's own backend may not be installed here
