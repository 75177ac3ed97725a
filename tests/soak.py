"""How long the long tests run: a few examples in `make test`, thousands in `make soak`."""

from __future__ import annotations

import os

EXAMPLES = int(os.environ.get("EDGEMARL_FUZZ_EXAMPLES", "100"))
"""Inputs that a fuzz test tries on one loader."""
LONG = EXAMPLES >= 1000
"""Whether what takes minutes runs too."""
