"""What a scenario's agents are called in PettingZoo environments.

Ledgers, vectors and tables name agents after their role (`device_0`). TorchRL groups PettingZoo's agents by the part of
their name before the number and keeps a group's tensors under it, where `device` means something else; BenchMARL stands
on TorchRL. A device is therefore a wireless device here, `wd_0`, as in the main paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edgemarl.envs.config import quoted, unknown_name
from edgemarl.envs.scenario import Role

AgentNames = Mapping[str, str | Sequence[str]] | Callable[[str, int], str]
"""Role -> word before the number, or -> all its agents' names; or a function of role and index."""
WORDS = {"device": "wd"}
"""Role -> word before the number, where it is not the role's name."""

LEGAL = "must be role -> word or list of names, or a function of role and index"


def agent_groups(roles: Mapping[str, Role], names: AgentNames | None = None) -> dict[str, tuple[str, ...]]:
    """Role -> names of its agents in order; a server, of which there is one, has no number.

    Args:
        roles: the roles whose agents are named.
        names: other names than the default ones, for all roles or some.

    Raises:
        ValueError: an unknown role, too few or too many names, two agents of one name.
    """
    if names is not None and not isinstance(names, Mapping) and not callable(names):
        raise ValueError(f"agent_names = {quoted(names)} is not legal: {LEGAL}")
    if isinstance(names, Mapping):
        for role in names:
            if role not in roles:
                raise ValueError(unknown_name("role of agent_names", role, roles))
    groups = {name: _names_of(name, role, names) for name, role in roles.items()}
    every = [name for group in groups.values() for name in group]
    twice = next((name for name in every if every.count(name) > 1), None) if len(set(every)) < len(every) else None
    if twice is not None:
        raise ValueError(f"agent_names gives two agents the name '{twice}': names must differ")
    return groups


def _names_of(name: str, role: Role, names: AgentNames | None) -> tuple[str, ...]:
    if callable(names):
        return tuple(str(names(name, i)) for i in range(role.count))
    given = (names or {}).get(name, WORDS.get(name, name))
    if isinstance(given, str):
        alone = role.agent_ids == (name,)
        return (given,) if alone else tuple(f"{given}_{i}" for i in range(role.count))
    if not isinstance(given, Sequence):
        raise ValueError(f"agent_names of role '{name}' = {quoted(given)} is not legal: {LEGAL}")
    if len(given) != role.count:
        raise ValueError(f"agent_names of role '{name}' has {len(given)} names, must have {role.count}")
    return tuple(str(agent) for agent in given)


def group_map(groups: Mapping[str, Sequence[str]], names: AgentNames | None = None) -> dict[str, list[str]]:
    """Word of a role -> its agents, as TorchRL and BenchMARL take groups (`group_map=`)."""
    words = {role: WORDS.get(role, role) for role in groups}
    if isinstance(names, Mapping):
        words.update({role: word for role, word in names.items() if isinstance(word, str)})
    return {words[role]: list(agents) for role, agents in groups.items()}
