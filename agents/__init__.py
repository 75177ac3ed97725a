"""Who decides: controllers of devices, gateways and servers, and the near-optimal references."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgemarl.agents.api import Act, Announcement, CentralController, Controller, Policy, Team
from edgemarl.agents.playbook import Entry, Playbook
from edgemarl.agents.registry import make_controller, make_policy, playbook_of, policy_of

if TYPE_CHECKING:
    from edgemarl.agents.environment import PartneredParallelEnv
    from edgemarl.agents.trained.export import export_policy
    from edgemarl.agents.trained.policy import TrainedPolicy

_WHEN_ASKED_FOR = {
    "PartneredParallelEnv": "edgemarl.agents.environment",
    "TrainedPolicy": "edgemarl.agents.trained.policy",
    "export_policy": "edgemarl.agents.trained.export",
}
"""What needs heavy packages: name -> module."""

__all__ = [
    "Act",
    "Announcement",
    "CentralController",
    "Controller",
    "Entry",
    "PartneredParallelEnv",
    "Playbook",
    "Policy",
    "Team",
    "TrainedPolicy",
    "export_policy",
    "make_controller",
    "make_policy",
    "playbook_of",
    "policy_of",
]


def __getattr__(name: str) -> Any:
    if name not in _WHEN_ASKED_FOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHEN_ASKED_FOR[name]), name)
