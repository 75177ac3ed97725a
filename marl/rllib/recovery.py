"""Asking after lost runners without holding up those that are left."""

from __future__ import annotations

import time
from typing import Any

WAITS = 4.0
"""A runner that did not answer is left alone for this many times the time that asking took."""


class PatientRecovery:
    """Before RLlib's `Algorithm`: lost runners are asked less often while they do not answer.

    RLlib asks in every iteration and waits `env_runner_health_probe_timeout_s` for the answer. A runner whose node is
    gone for good would make every iteration that much longer; here asking takes a fifth of the time at most. With no
    runner left at all there is nothing to hold up, and RLlib's way is kept.
    """

    _silent_until_s = 0.0

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Indices of the runners that came back."""
        started_s = time.monotonic()
        healthy = env_runner_group.num_healthy_remote_workers()
        if healthy and started_s < self._silent_until_s:
            return []
        restored: list[int] = super().restore_env_runners(env_runner_group)  # type: ignore[misc]
        missing = env_runner_group.num_remote_workers() > env_runner_group.num_healthy_remote_workers()
        ended_s = time.monotonic()
        self._silent_until_s = ended_s + WAITS * (ended_s - started_s) if missing else 0.0
        return restored
