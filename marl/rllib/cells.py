"""B cells of a scenario that run through episode after episode, all stepped at once; NumPy only, no learning.

Cells start at different slots of their first episode, so that a batch mixes young and old episodes. Every episode
draws a new trace, hence a new topology.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgemarl.agents.api import Act, Controller, Supplied, Team
from edgemarl.agents.pooling import pool_of_each
from edgemarl.agents.registry import acting_order, announcements
from edgemarl.agents.trained.policy import CENTRAL
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import Counterfactual, Foreseeing, decode_hybrid, hybrid_space, masks_of
from edgemarl.envs.scenario import Scenario, Step
from edgemarl.envs.spaces import split_action
from edgemarl.envs.trace import trace_fields
from edgemarl.marl.rllib.settings import RunnerSettings


@dataclass(frozen=True)
class Slot:
    """What a learner sees before it decides in a slot."""

    observations: Mapping[str, Array]  # role -> (B, n, d); for central control CENTRAL -> (B, 1, D)
    masks: Mapping[str, Array]  # role -> (B, n, choices) bool
    pools: Mapping[str, Array] = field(default_factory=dict)  # role -> (B, n, p) pooled rows of all, if asked for
    foreseen: Mapping[str, Array] = field(default_factory=dict)  # role -> (B, n, foresight e) if asked for


class Cells:
    """Cells, their clocks and traces.

    Messages that fixed controllers send to learned roles are appended to their rows, as `Team` does when it plays: in
    the same slot from roles that act before every learned one (`agents.registry.acting_order`), from others one later.

    Args:
        scenario: the scenario.
        settings: how many cells, the roles whose actions are supplied to `step`, what is computed for learners.
        fixed: role -> controller that plays it; one that learns keeps learning over the episodes.
        rng: draws traces and the fixed controllers' randomness.
        make_trace: replaces `scenario.sample_trace(rng, cells=1)`, for replaying traces.

    After a step `charges` holds what fixed controllers charge for it: role -> (B, n) (`agents.api.Controller.charges`),
    and `choice_rewards` what every choice would have paid, where the settings ask for it.
    """

    def __init__(
        self,
        scenario: Scenario,
        settings: RunnerSettings,
        fixed: Mapping[str, Controller],
        rng: np.random.Generator,
        make_trace: Callable[[np.random.Generator], Any] | None = None,
    ) -> None:
        self.scenario, self.settings, self.rng = scenario, settings, rng
        self.count, self.learned, self.foresight = settings.cells, settings.roles, settings.foresight
        self.central = self.learned == (CENTRAL,)
        self.counterfactual = settings.output == "choices"
        self.choice_rewards: Mapping[str, Array] = {}
        self._make_trace = make_trace or (lambda generator: scenario.sample_trace(generator, cells=1))
        self.team = None if self.central else self._team(fixed)
        self.traces: list[Any] = [self._make_trace(rng) for _ in range(self.count)]
        self._outlooks: list[Mapping[str, Array]] = [{}] * self.count
        self._look_out(range(self.count))
        self.clock = self._first_clock()
        self.state = scenario.initial_state(self._merged())
        self.charges: Mapping[str, Array] = {}
        self._seen: tuple[Any, Mapping[str, Array]] | None = None
        """A state and its rows; a new state is a new object."""
        self._acted: dict[str, Act] | None = None
        """What fixed roles that act before the learned ones do in the present slot, once its rows were asked for."""
        self._start_team()
        self._align()

    def _team(self, fixed: Mapping[str, Controller]) -> Team:
        """All roles: the learned ones, whose acts are supplied, and the fixed ones."""
        told = announcements(self.scenario, self.learned, fixed)
        self._supplied = {role: Supplied(told.get(role)) for role in self.learned}
        members: dict[str, Controller] = {**self._supplied, **fixed}
        order = acting_order(self.scenario, self.learned, fixed)
        pooled = self.learned if self.settings.pooled else ()
        return Team("training", {role: members[role] for role in self.scenario.roles}, order, pooled=pooled)

    def _first_clock(self) -> Array:
        """(B,) slots at which the cells start: 0, or spread over their first episode.

        Spread cells start at multiples of a sample's slots if that fits.
        """
        clock = np.zeros(self.count, np.int64)
        if self.settings.stagger:
            offsets = np.arange(self.count) * self.scenario.horizon // self.count
            window = self.settings.slots
            clock = offsets // window * window if window < self.scenario.horizon else offsets
        return clock

    # --- stepping ----------------------------------------------------------------------------------------------------

    def slot(self) -> Slot:
        """Rows of the present slot; fixed roles that act before the learned ones have acted."""
        observations = self._observed()
        self._act_before(observations)
        return self._rows(observations)

    def step(self, actions: Mapping[str, Array]) -> tuple[Step, Slot | None, Array]:
        """Play one slot.

        Args:
            actions: learned role -> raw actions (B, n, ...).

        Returns:
            the step, the rows after it before any reset (None if no episode ended), and ended (B,) bool.
        """
        exogenous = self.exogenous
        if self.central and self.settings.hybrid:
            parts = split_action(hybrid_space(self.scenario), actions[CENTRAL][:, 0])
            decisions = decode_hybrid(self.scenario, self.state, parts, exogenous)
        elif self.central:
            decisions = self.scenario.decode_central(self.state, actions[CENTRAL][:, 0], exogenous)
        else:
            assert self.team is not None
            observations = self._observed()
            self._act_before(observations)
            shown = {role: dict(senders) for role, senders in self.team.inbox.items()}
            given = {role: self._supplied[role].acts(actions[role]) for role in self.learned}
            masks = self.team.masks(self.state, exogenous)
            acts = self.team.act(observations, self.rng, self._acted, given, masks)
            decisions = self.team.decisions(acts, observations, self.state, exogenous)
        if self.counterfactual:
            assert isinstance(self.scenario, Counterfactual)
            self.choice_rewards = self.scenario.choice_rewards(self.state, decisions, exogenous)
        step = self.scenario.step(self.state, decisions, exogenous)
        if self.team is not None:
            self.charges = self.team.charges(shown, step)
            self.team.feedback(step.costs)
        self.state = step.state
        self.clock = self.clock + 1
        self._offset += 1
        self._acted = None
        ended = self.clock >= [trace.slots for trace in self.traces]
        if not ended.any():
            return step, None, ended
        last = self.slot()
        self._restart(np.flatnonzero(ended))
        self._acted = None
        return step, last, ended

    @property
    def exogenous(self) -> Any:
        """Of the present slot."""
        return self.scenario.exogenous(self._aligned, self._offset)

    def _act_before(self, observations: Mapping[str, Array]) -> None:
        """Let fixed roles act that do so before the learned ones, once per slot."""
        if self.team is not None and self._acted is None:
            self._rng_before = self.rng.bit_generator.state
            masks = self.team.masks(self.state, self.exogenous) if self.team.masked else {}
            self._acted = self.team.act_before(self.learned, observations, self.rng, masks)

    def _observed(self) -> Mapping[str, Array]:
        """Role -> rows of the present slot without messages, once per state; nothing for central control."""
        if self._seen is None or self._seen[0] is not self.state:
            rows = {} if self.central else self.scenario.observe(self.state, self.exogenous)
            self._seen = self.state, rows
        return self._seen[1]

    def _rows(self, rows: Mapping[str, Array]) -> Slot:
        """A slot's rows from what is observed, messages appended."""
        state, exogenous = self.state, self.exogenous
        if self.central:
            return Slot({CENTRAL: self.scenario.global_state(state, exogenous)[:, None, :]}, {})
        assert self.team is not None
        pools = {}
        if self.settings.critic_pool:
            pool = self.team.pool(rows)
            pools = {r: np.array(pool_of_each(pool, self.scenario.roles[r].count)) for r in self.learned}
        masks = masks_of(self.scenario, state, exogenous)
        masks = {r: masks[r] for r in self.learned if r in masks}
        return Slot({r: self.team.row(r, rows) for r in self.learned}, masks, pools, self._foreseen())

    def _foreseen(self) -> dict[str, Array]:
        """Role -> what the next slots bring each agent.

        Beyond its end a trace goes on with its first slots: a draw of the same process, as the critic knows it.
        """
        if not self.foresight:
            return {}
        slots = (self.clock[:, None] + np.arange(self.foresight)) % (self._last_slot[:, None] + 1)  # (B, L)
        cells = np.arange(self.count)[:, None]
        ahead = {role: outlook[cells, slots] for role, outlook in self._outlook.items()}  # (B, L, n, e)
        return {role: a.transpose(0, 2, 1, 3).reshape(self.count, a.shape[2], -1) for role, a in ahead.items()}

    # --- episodes ----------------------------------------------------------------------------------------------------

    def _restart(self, cells: Array) -> None:
        """New traces, first states and clocks for the cells whose episode ended."""
        for b in cells:
            self.traces[b] = self._make_trace(self.rng)
            self.clock[b] = 0
        self._look_out(cells)
        fresh = self.scenario.initial_state(self._merged())
        self.state = _where(cells, fresh, self.state)
        self._start_team(know_only=True)
        self._align()

    def _look_out(self, cells: Iterable[int]) -> None:
        """Keep what every slot brings, role -> (B, T+1, n, e) padded to the longest trace; `cells` have new traces."""
        if not self.foresight:
            return
        self._last_slot = np.array([trace.slots for trace in self.traces])
        self._outlook: dict[str, Array] = {}
        assert isinstance(self.scenario, Foreseeing)
        for b in cells:
            self._outlooks[b] = self.scenario.outlook(self.traces[b])
        for role in (r for r in self.learned if r in self.scenario.foreseen_roles):
            seen = [outlook[role][:, 0] for outlook in self._outlooks]
            longest = int(self._last_slot.max()) + 1
            self._outlook[role] = np.stack([np.pad(a, ((0, longest - len(a)), *[(0, 0)] * (a.ndim - 1))) for a in seen])

    def _start_team(self, know_only: bool = False) -> None:
        """Fixed controllers start with the cells; later episodes only tell them the new topology."""
        if self.team is None:
            return
        trace = self._merged()
        if not know_only:
            self.team.reset(self.scenario, trace)
            return
        self.team.next_episode(trace)

    def _merged(self) -> Any:
        """One trace of all cells, their first slots only: what initial states and topologies depend on."""
        return self._gathered(np.zeros(self.count, np.int64), 1)

    def _align(self) -> None:
        """Line up the cells' traces from their clocks to the next end of an episode, so that one index serves all."""
        left = min(trace.slots - t for trace, t in zip(self.traces, self.clock, strict=True))
        self._aligned, self._offset = self._gathered(self.clock, int(left)), 0

    def _gathered(self, first: Array, slots: int) -> Any:
        parts = {}
        for name, meta in trace_fields(self.scenario.trace_type).items():
            values = [getattr(trace, name) for trace in self.traces]
            if meta["kind"] == "slot":
                rows = [v[t : t + slots + 1] for v, t in zip(values, first, strict=True)]
                parts[name] = np.concatenate(rows, axis=1)
            else:
                parts[name] = np.concatenate(values, axis=0)
        return self.scenario.trace_type(**parts)

    # --- state -------------------------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Everything that makes the next slot: arrays and plain values; who has acted in it acts again."""
        return {
            "rng": self.rng.bit_generator.state if self._acted is None else self._rng_before,
            "spawned": _seed_sequence(self.rng).n_children_spawned,
            "clock": self.clock.copy(),
            "traces": [_arrays(trace) for trace in self.traces],
            "state": _arrays(self.state),
            "team": {} if self.team is None else self.team.state_dict(),
            "inbox": {} if self.team is None else {role: dict(messages) for role, messages in self.team.inbox.items()},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `get_state`; the generator must stem from the same seed."""
        sequence = _seed_sequence(self.rng)
        if state["spawned"] > sequence.n_children_spawned:
            sequence.spawn(state["spawned"] - sequence.n_children_spawned)
        self.rng.bit_generator.state = state["rng"]
        self.traces = [self.scenario.trace_type(**arrays) for arrays in state["traces"]]
        self.state = self.scenario.state_type(**state["state"])
        self.clock = np.array(state["clock"])
        self._look_out(range(self.count))
        self._start_team()
        if self.team is not None:
            self.team.load_state_dict(state["team"])
            self.team.inbox = {role: dict(messages) for role, messages in state["inbox"].items()}
        self._acted = None
        self._align()


def _seed_sequence(rng: np.random.Generator) -> np.random.SeedSequence:
    """The sequence that the generator spawns children from; it counts them."""
    sequence = rng.bit_generator.seed_seq
    assert isinstance(sequence, np.random.SeedSequence)
    return sequence


def _arrays(values: Any) -> dict[str, Any]:
    return {f.name: getattr(values, f.name) for f in dataclasses.fields(values)}


def _where(cells: Array, fresh: Any, old: Any) -> Any:
    """The state `old` with some cells replaced by those of `fresh`."""
    parts = {}
    for f in dataclasses.fields(old):
        values = getattr(old, f.name)
        if isinstance(values, np.ndarray):
            values = values.copy()
            values[cells] = getattr(fresh, f.name)[cells]
        parts[f.name] = values
    return type(old)(**parts)
