"""A trained network as a controller: save, load, act, export. Needs torch, not Ray, so it runs on a device.

A policy file holds the weights, the spec that rebuilds the network, the scenario's name and the role. It is what
`torch.save` writes, with the SHA-256 of all of it in the comment that ends a zip archive: PyTorch checks nothing when
it loads, and one flipped bit is another policy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgemarl.agents.api import Act, Announcement, Announcing, CentralController
from edgemarl.agents.pooling import row_size
from edgemarl.agents.trained.earlier import with_earlier_defaults
from edgemarl.agents.trained.learned_state import UNREADABLE, learned_entries, not_a_policy
from edgemarl.agents.trained.networks import PolicyNetwork
from edgemarl.agents.trained.priced_network import PricedQNetwork
from edgemarl.agents.trained.spec import NetworkSpec, network_spec
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import CENTRAL as CENTRAL
from edgemarl.envs.capabilities import decode_hybrid, hybrid_space
from edgemarl.envs.checks import checked_path
from edgemarl.envs.config import cut, quoted
from edgemarl.envs.files import replacing
from edgemarl.envs.scenario import Parts, Scenario
from edgemarl.envs.spaces import split_action

FORMAT = 2
"""Files of format 1, before 0.2, have no checksum."""
CHECKSUM = b"sha256:"

ActingNetwork = PolicyNetwork | PricedQNetwork
"""What a policy file holds: observation rows -> parameters of the action distribution."""


def policy_network(spec: NetworkSpec) -> ActingNetwork:
    """The network of a spec."""
    return PricedQNetwork(spec) if spec.price else PolicyNetwork(spec)


class TrainedPolicy:
    """A policy network with what it was trained for.

    Args:
        network: the network.
        scenario: name of the scenario.
        role: role whose agents it controls, or `CENTRAL`.
        information: further plain values to keep (training settings).
    """

    def __init__(
        self, network: ActingNetwork, scenario: str, role: str, information: dict[str, Any] | None = None
    ) -> None:
        self.network, self.scenario, self.role = network.eval(), scenario, role
        self.information = information or {}

    @property
    def spec(self) -> NetworkSpec:
        return self.network.spec

    @torch.no_grad()
    def act(
        self, observations: Array, rng: np.random.Generator, greedy: bool = True, mask: Array | None = None
    ) -> Array:
        """Raw actions (B, n, ...) for observations (B, n, d) float32; one forward pass for all agents."""
        rows = torch.from_numpy(np.ascontiguousarray(observations, np.float32))
        parameters = self.network(rows, None if mask is None else torch.from_numpy(np.array(mask))).numpy()
        head = self.network.head
        return head.to_env(head.greedy(parameters) if greedy else head.sample(parameters, rng))

    def check(self, scenario: Scenario) -> None:
        """Raise `ValueError` if this policy cannot act in a scenario."""
        if scenario.name != self.scenario:
            raise ValueError(f"the policy was trained for scenario '{self.scenario}', not for '{scenario.name}'")
        if self.role == CENTRAL:
            size, agents = scenario.global_state_space.shape[0], 0
        elif self.role in scenario.roles:
            size = row_size(scenario, self.role, bool(self.information.get("pooled")))
            size += int(self.information.get("message_entries", {}).get(self.role, 0))
            agents = scenario.roles[self.role].count
        else:
            raise ValueError(f"the policy controls role '{self.role}', which decides nothing in this scenario")
        if size != self.spec.observation_size:
            raise ValueError(
                f"the policy of role '{self.role}' was trained on {self.spec.observation_size} observation entries, "
                f"the scenario has {size}: observation settings (or, for central control, the number of agents) differ"
            )
        if self.spec.agents not in (0, agents):
            raise ValueError(
                f"the policy holds one network for each of {self.spec.agents} agents of role '{self.role}', the "
                f"scenario has {agents}: only shared policies carry over to another number of agents"
            )

    def fitted(self, scenario: Scenario) -> TrainedPolicy:
        """The same weights for a scenario in which the row has another number of like parts."""
        role = scenario.roles.get(self.role)
        if not self.spec.parts or role is None or role.parts is None:
            return self
        old, new = Parts(*self.spec.parts), role.parts
        told = self.spec.observation_size - old.size - self.spec.pool
        told = told if told % old.count else told // old.count * new.count
        box = network_spec(new.size + self.spec.pool + told, role.action_space)
        spec = dataclasses.replace(
            self.spec, observation_size=box.observation_size, shape=box.shape, low=box.low, high=box.high,
            parts=dataclasses.astuple(new),
        )  # fmt: skip
        network = policy_network(spec)
        network.load_state_dict(self.network.state_dict())
        heard = {**self.information.get("message_entries", {}), self.role: told}
        return TrainedPolicy(network, self.scenario, self.role, {**self.information, "message_entries": heard})

    def save(self, path: Path | str) -> None:
        """Write one self-contained file, atomically."""
        content = self.to_bytes()
        with replacing(path) as temporary:
            temporary.write_bytes(content)

    def to_bytes(self) -> bytes:
        """The content of a policy file."""
        header = {
            "format": FORMAT, "scenario": self.scenario, "role": self.role, "spec": self.spec.to_dict(),
            "information": self.information,
        }  # fmt: skip
        buffer = io.BytesIO()
        torch.save({"header": json.dumps(header), "weights": self.network.state_dict()}, buffer)
        return _with_checksum(buffer.getvalue())

    @classmethod
    def load(cls, path: Path | str) -> TrainedPolicy:
        """Read a policy file.

        Raises:
            ValueError: no such file, not a policy file, or one that is not as it was written.
        """
        if not checked_path("path", path).is_file():
            raise ValueError(f"policy file {path} does not exist")
        return cls.from_bytes(Path(path).read_bytes(), path)

    @classmethod
    def from_bytes(cls, content: bytes, path: Path | str) -> TrainedPolicy:
        """A policy from its file's content; the path is for messages.

        Raises:
            ValueError: as `load`.
        """
        whole = _checked(content, path)
        try:
            saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            header = json.loads(saved["header"])
            if header["format"] not in (1, FORMAT) or (header["format"] > 1) != whole:
                raise ValueError(f"format {quoted(header['format'])}" + (" without its checksum" if not whole else ""))
            _check_names(header)
            spec = NetworkSpec.from_dict(header["spec"])
            _check_size(spec, len(content))
            network = policy_network(spec)
            network.load_state_dict(saved["weights"])
            return cls(network, header["scenario"], header["role"], _with_its_form(header, spec))
        except UNREADABLE as error:
            if entries := learned_entries(content):
                raise ValueError(not_a_policy(path, entries)) from None
            raise ValueError(f"{path} is not a policy file: {cut(str(error))}") from error


def _check_names(header: Mapping[str, Any]) -> None:
    """Whether a header says whose policy it is, with plain values of the right kinds."""
    for name in ("scenario", "role"):
        if not isinstance(header[name], str):
            raise ValueError(f"{name} = {quoted(header[name])}, must be a name")
    information = header["information"]
    if not isinstance(information, dict):
        raise ValueError(f"information = {quoted(information)}, must map names to values")
    train, entries = information.get("train", {}), information.get("message_entries", {})
    if not (isinstance(train, dict) and isinstance(train.get("set", {}), dict)):
        raise ValueError(f"train = {quoted(train)}, must hold the settings of its training")
    if not (isinstance(entries, dict) and all(isinstance(n, int) and n >= 0 for n in entries.values())):
        raise ValueError(f"message_entries = {quoted(entries)}, must map roles to numbers of entries")
    if not isinstance(steps := information.get("agent_steps", 0), int | float) or not math.isfinite(steps):
        raise ValueError(f"agent_steps = {quoted(steps)}, must be a number of agent-steps")


def _with_its_form(header: Mapping[str, Any], spec: NetworkSpec) -> dict[str, Any]:
    """What a header says of the training, with the form of actions that was the default in its time."""
    information: dict[str, Any] = header["information"]
    train = information.get("train", {})
    given = with_earlier_defaults(train.get("set", {}), header["scenario"], header["role"], spec)
    return {**information, "train": {**train, "set": given}} if given else information


def _check_size(spec: NetworkSpec, content_bytes: int) -> None:
    """Whether the network of a spec is no larger than the file that should hold its weights."""
    largest = max(_whole_numbers(spec.to_dict()), default=0)
    if largest > content_bytes:  # a width or a number of choices takes a weight each, and time to draw it
        raise ValueError(f"its network has a size of {largest}, the file has {content_bytes} B")
    with torch.device("meta"):  # shapes alone, no memory
        network = policy_network(spec)
    weights_bytes = sum(weight.nbytes for weight in network.state_dict().values())
    if weights_bytes > content_bytes:
        raise ValueError(f"its network has weights of {weights_bytes} B, the file has {content_bytes} B")


def _whole_numbers(value: Any) -> Iterator[int]:
    """All whole numbers in plain values."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    if isinstance(value, int):
        yield value
    for part in parts:
        yield from _whole_numbers(part)


def _with_checksum(archive: bytes) -> bytes:
    """A zip archive whose comment is the SHA-256 of all that is before it."""
    end = zipfile.sizeEndCentDir  # type: ignore[attr-defined]
    assert archive[-end : -end + 4] == zipfile.stringEndArchive  # type: ignore[attr-defined]
    size = len(CHECKSUM) + 2 * hashlib.sha256().digest_size
    archive = archive[:-2] + struct.pack("<H", size)
    return archive + CHECKSUM + hashlib.sha256(archive).hexdigest().encode()


def _checked(content: bytes, path: Path | str) -> bool:
    """Whether a policy file has a checksum.

    Raises:
        ValueError: it has another one.
    """
    size = len(CHECKSUM) + 2 * hashlib.sha256().digest_size
    archive, comment = content[:-size], content[-size:]
    if not comment.startswith(CHECKSUM):
        return False
    if comment[len(CHECKSUM) :] != hashlib.sha256(archive).hexdigest().encode():
        raise ValueError(f"policy file {path} is damaged: its SHA-256 is another")
    return True


class NetworkController(Announcing):
    """A trained policy acts for all agents of its role, each from its own row.

    Args:
        policy: the policy.
        greedy: take the most likely action; else draw from the distribution.
        announcement: what its agents tell of their actions.
    """

    masked = True

    def __init__(self, policy: TrainedPolicy, greedy: bool = True, announcement: Announcement | None = None) -> None:
        self.policy, self.greedy = policy, greedy
        self.announce(announcement)

    def reset(self, scenario: Scenario, cells: int) -> None:
        self.policy.check(scenario)
        super().reset(scenario, cells)

    def act(self, observations: Array, rng: np.random.Generator) -> Act:
        self._check_row(observations)
        return self._told(self.policy.act(observations, rng, self.greedy))

    def act_masked(self, observations: Array, mask: Array, rng: np.random.Generator) -> Act:
        self._check_row(observations)
        return self._told(self.policy.act(observations, rng, self.greedy, mask))

    def _check_row(self, observations: Array) -> None:
        """Raise `ValueError` where other roles tell more or less than those did beside which it was trained."""
        size, here = self.policy.spec.observation_size, observations.shape[-1]
        if here != size:
            heard = int(self.policy.information.get("message_entries", {}).get(self.policy.role, 0))
            beside = self.policy.information.get("train", {}).get("fixed", {})
            others = ", ".join(f"{role}={name}" for role, name in beside.items()) or "none"
            raise ValueError(
                f"the policy of role '{self.policy.role}' was trained on rows of {size} entries, {heard} of them "
                f"messages of other roles; here a row has {here}: play it beside the controllers of its training "
                f"({others})"
            )

    def state_dict(self) -> dict[str, Any]:
        return {name: value.numpy().copy() for name, value in self.policy.network.state_dict().items()}

    def load_state_dict(self, state: Any) -> None:
        self.policy.network.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})


class NetworkCentralController(CentralController):
    """A trained policy decides for all agents from the global state."""

    def __init__(self, name: str, policy: TrainedPolicy, greedy: bool = True) -> None:
        self.name, self.policy, self.greedy = name, policy, greedy

    def reset(self, scenario: Scenario, trace: Any) -> None:
        self.policy.check(scenario)
        super().reset(scenario, trace)

    def decide(self, state: Any, exogenous: Any, rng: np.random.Generator) -> Any:
        action = self.policy.act(self.scenario.global_state(state, exogenous), rng, self.greedy)
        if self.policy.spec.hybrid is not None:
            return decode_hybrid(self.scenario, state, split_action(hybrid_space(self.scenario), action), exogenous)
        return self.scenario.decode_central(state, action, exogenous)


class GreedyAction(nn.Module):
    """Observation rows -> raw actions, as one graph to export.

    Args:
        network: of the policy.
        mask: (choices,), or (n, choices) with one network per agent, of the choices that make sense in every slot.
    """

    def __init__(self, network: ActingNetwork, mask: Array | None = None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mask", None if mask is None else torch.from_numpy(np.array(mask, bool)))

    def forward(self, observations: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Raw actions of rows float32 (M, d) or (M, n, d), among the choices of a mask bool (M, c) or (M, n, c)."""
        return self.network.head.graph(self.network(observations, self.mask if mask is None else mask))
