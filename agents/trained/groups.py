"""Networks of a joint action whose groups are alike, such as gateways with their devices, and whose reward is a sum.

One network decides for every member and one for every group, so that what is learned of one holds for all (Deep Sets,
Zaheer et al., arXiv:1703.06114); members that are alike are told apart by how many of their equals stand before them. A
critic judges group by group and its values are summed (value decomposition, Sunehag et al., arXiv:1706.05296): a
group's part of the reward teaches it about the group's part of the action.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from edgemarl.agents.trained.hybrid import ActionPart, HybridAction
from edgemarl.agents.trained.layers import Perceptron
from edgemarl.agents.trained.spec import Activation, NetworkSpec
from edgemarl.envs.capabilities import ActionGroups

SHARE_MIN = 1e-8
"""Least share whose logarithm a critic sees."""


def groups_of(values: Mapping[str, Any]) -> ActionGroups:
    """From the plain values of a spec."""
    plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return ActionGroups(**plain)


class GroupRows(nn.Module):
    """The global state (..., D) as rows of groups (..., G, a) and of members (..., G, M, b)."""

    def __init__(self, groups: ActionGroups) -> None:
        super().__init__()
        self.groups = groups
        self.member_size = groups.member_entries + sum(groups.levels)

    def forward(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Entries of groups; of members, with indicators of their levels; (..., G, M) share of equals before each."""
        g, lead = self.groups, state.shape[:-1]
        own, members = state[..., : g.group_entries * g.count], state[..., g.group_entries * g.count :]
        own = own.reshape(*lead, g.group_entries, g.count).transpose(-1, -2)
        members = members.reshape(*lead, g.member_entries, g.count, g.members).movedim(-3, -1)
        marks = [
            nn.functional.one_hot(torch.clamp(torch.round(members[..., i] * (n - 1)), 0, n - 1).long(), n)
            for i, n in enumerate(g.levels)
            if n
        ]
        seen = torch.cat([members, *(mark.to(members.dtype) for mark in marks)], dim=-1)
        apart = (members[..., :, None, :] - members[..., None, :, :]).abs().sum(-1)
        equal = (apart < 1e-6).to(members.dtype)
        return own, seen, torch.tril(equal, -1).sum(-1) / g.members


class GroupsBody(nn.Module):
    """A joint policy's body: (..., D) -> parameters of a `HybridAction`, in its layout.

    A member's network sees its own entries, their mean over its group, its place among its equals and in the group, and
    the group's entries; a group's network its entries and its members' mean, the mean of those over all groups, and
    which group it is.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        assert spec.groups is not None and spec.hybrid is not None
        self.groups, self.action = groups_of(spec.groups), HybridAction.from_dict(spec.hybrid)
        self.rows = GroupRows(self.groups)
        of_group = self.groups.group_entries + self.rows.member_size
        sizes = {True: of_group + self.rows.member_size + 2, False: 2 * of_group + self.groups.count}
        self.networks = nn.ModuleDict()
        for of_members, inputs in sizes.items():
            outputs = sum(a + 2 * b for a, b in map(self.action.per_entry, self._parts(of_members)))
            if outputs:
                self.networks[_name(of_members)] = Perceptron(
                    inputs, spec.hidden, outputs, 0, spec.output_gain, spec.activation
                )

    def _parts(self, of_members: bool) -> list[ActionPart]:
        return [p for p in self.action.parts if (p.name in self.groups.member_parts) == of_members]

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        own, members, rank = self.rows(state)
        g = self.groups
        mean = torch.cat([own, members.mean(dim=-2)], dim=-1)
        place = (torch.arange(g.members, device=state.device) / g.members).to(state.dtype).expand(rank.shape)
        scaled = rank * math.sqrt(g.members)
        each = torch.cat(
            [members, mean[..., None, :].expand(*rank.shape, -1), torch.stack([scaled, place], dim=-1)], dim=-1
        )
        which = torch.eye(g.count, dtype=state.dtype, device=state.device).expand(*mean.shape[:-1], g.count)
        group = torch.cat([mean, mean.mean(dim=-2, keepdim=True).expand_as(mean), which], dim=-1)
        given = {True: each, False: group}
        out = {m: self.networks[_name(m)](given[m]) for m in given if _name(m) in self.networks}
        return self._arranged(out, state.shape[:-1])

    def _arranged(self, out: Mapping[bool, torch.Tensor], lead: torch.Size) -> torch.Tensor:
        """Logits of all parts, then means, then log standard deviations."""
        sections: list[list[torch.Tensor]] = [[], [], []]
        start = {True: 0, False: 0}
        for part in self.action.parts:
            of_members = part.name in self.groups.member_parts
            logits, gaussians = self.action.per_entry(part)
            for section, width in zip(sections, (logits, gaussians, gaussians), strict=True):
                if width:
                    piece = out[of_members][..., start[of_members] : start[of_members] + width]
                    start[of_members] += width
                    section.append(piece.reshape(*lead, -1))
        return torch.cat([piece for section in sections for piece in section], dim=-1)


class GroupsCritic(nn.Module):
    """Values (..., G) of the groups' parts of a global state and a relaxed joint action, one beside the other.

    Members enter by the sum over the group of the products of their entries and their part of the action, which counts
    who of each level was given what; shares enter by their logarithm.
    """

    def __init__(
        self, groups: ActionGroups, action: HybridAction, hidden: Sequence[int], activation: Activation
    ) -> None:
        super().__init__()
        self.groups, self.action, self.rows = groups, action, GroupRows(groups)
        self.state_size = groups.count * (groups.group_entries + groups.members * groups.member_entries)
        inputs, of_members = groups.group_entries, 0
        for part in action.parts:
            width = sum(action.per_entry(part))
            if part.name in groups.member_parts:
                of_members += self.rows.member_size * (2 if width == 1 else width)
            else:
                inputs += width
        self.network = Perceptron(inputs + (of_members or self.rows.member_size), hidden, 1, activation=activation)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        state, relaxed = inputs[..., : self.state_size], inputs[..., self.state_size :]
        own, members, _ = self.rows(state)
        g, lead, start = self.groups, state.shape[:-1], 0
        columns, counts = [own], []
        for part in self.action.parts:
            width = sum(self.action.per_entry(part))
            piece = relaxed[..., start : start + part.entries * width]
            start += part.entries * width
            if part.name in g.member_parts and width:
                chosen = piece.reshape(*lead, g.count, g.members, width)
                chosen = torch.cat([chosen, 1.0 - chosen], dim=-1) if width == 1 else chosen
                counts.append((members.transpose(-1, -2) @ chosen).flatten(-2))
            elif width:
                shown = torch.log(piece.clamp(min=SHARE_MIN)) if part.kind == "simplex" else piece
                columns.append(shown.reshape(*lead, g.count, width))
        counts = counts or [members.sum(dim=-2)]
        values: torch.Tensor = self.network(torch.cat([*columns, *(c / math.sqrt(g.members) for c in counts)], dim=-1))
        return values[..., 0]


def _name(of_members: bool) -> str:
    return "member" if of_members else "group"
