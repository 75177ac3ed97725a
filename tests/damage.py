"""Damage as disks and copies do it."""

from __future__ import annotations

import io
import random
from pathlib import Path


def flip_bit(where: Path | io.BytesIO, rng: random.Random) -> bytes:
    """Flip one bit of a file, or of bytes; returns what there is then."""
    content = bytearray(where.read_bytes() if isinstance(where, Path) else where.getvalue())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    if isinstance(where, Path):
        where.write_bytes(content)
    return bytes(content)
