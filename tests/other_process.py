"""What another process may do in place of its job; a module of its own, so that the process loads nothing else."""

from __future__ import annotations

import os
import time
from typing import Any


def dies(*arguments: Any) -> None:
    os._exit(3)


def complains(*arguments: Any) -> None:
    arguments[-1].send(("error", "bandwidth_hz = 0 Hz is not legal"))


def sleeps(*arguments: Any) -> None:
    time.sleep(120)  # nobody waits for it to end
