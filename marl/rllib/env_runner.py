"""An RLlib EnvRunner that steps B cells of a scenario at once and hands over whole arrays.

RLlib's own multi-agent runner steps a dictionary per agent and grows an episode object per agent; here a slot is one
forward pass per role and one step of all cells. RLlib keeps the Learner, the distribution over actors, restarts of
failed runners, weight synchronisation and checkpoints. Used as `config.env_runners(env_runner_cls=BatchedEnvRunner)`
with `RunnerSettings.to_dict()` as `env_config`; `edgemarl.marl.training.setup` does so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
import ray
import torch
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils import force_list
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MEAN,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    SAMPLE_TIMER,
    WEIGHTS_SEQ_NO,
)

from edgemarl.agents.api import Controller
from edgemarl.agents.pooling import row_size
from edgemarl.agents.registry import make_controller, message_entries
from edgemarl.agents.trained.policy import CENTRAL
from edgemarl.envs.arrays import Array
from edgemarl.envs.capabilities import GroupedActions
from edgemarl.envs.scenario import joint_reward
from edgemarl.marl.rllib.advantages import advantages_and_targets, shortfall
from edgemarl.marl.rllib.cells import Cells, Slot
from edgemarl.marl.rllib.evaluation import SCENARIO_METRICS, PlayedEpisodes, evaluate
from edgemarl.marl.rllib.measured import trace_source
from edgemarl.marl.rllib.modules import (
    ACTION_MASK,
    CHOICE_REWARDS,
    FORESEEN,
    NEXT_ACTION_MASK,
    POOL,
    ActorCriticModule,
)
from edgemarl.marl.rllib.settings import RunnerSettings

CELLS_STATE = "cells"


@dataclass
class ModuleSamples:
    """T slots of B cells of one module, slot first: what a forward pass needs and what it chose."""

    observations: list[Array] = field(default_factory=list)  # (B, n, d), T+1 entries
    masks: list[Array] = field(default_factory=list)  # (B, n, choices), T+1 entries
    parameters: list[Array] = field(default_factory=list)  # (B, n, p)
    actions: list[Array] = field(default_factory=list)  # (B, n, ...) as the network puts them out
    rewards: list[Array] = field(default_factory=list)  # (B, n)
    choice_rewards: list[Array] = field(default_factory=list)  # (B, n, choices)
    fresh: bool = False
    """Whether its critic has not learned yet."""
    beside: dict[str, list[Array]] = field(default_factory=dict)
    """What critics see beside the rows: column -> (B, n, ..), T+1 entries."""

    def see(self, role: str, slot: Slot) -> None:
        """Take in what a slot shows."""
        self.observations.append(slot.observations[role])
        if role in slot.masks:
            self.masks.append(np.array(slot.masks[role]))  # a copy: a scenario may hand out a read-only view
        for column, values in _beside(role, slot).items():
            self.beside.setdefault(column, []).append(values)


class BatchedEnvRunner(EnvRunner, Checkpointable):
    """Samples B cells at once; see the module's docstring. `sample` returns a `MultiAgentBatch`, a module per role."""

    make_trace: Callable[[np.random.Generator], Any] | None = None
    """Replaces the scenario's own draw of an episode's trace (one cell); tests replay given traces through it."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        with mock.patch.object(torch, "use_deterministic_algorithms", _deterministic):  # RLlib's seeding
            super().__init__(config=config, **kwargs)
        self.settings = RunnerSettings.from_dict(self.config.env_config)
        self.scenario = self.settings.make()
        self.module: Any = None
        self.cells: Cells | None = None
        self._weights_seq_no = 0
        self._pending_cells: Mapping[str, Any] | None = None
        self._callbacks = [made() for made in force_list(self.config.callbacks_class)]
        if self.worker_index:
            torch.set_num_threads(1)  # runners share the cores of a node
        self.make_module()

    # --- construction ------------------------------------------------------------------------------------------------

    def make_module(self) -> None:
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=False)
        self.module = spec.build()

    def make_env(self) -> None:
        """Start the cells from the runner's own random stream (or on from a restored state)."""
        seed = 0 if self.config.seed is None else int(self.config.seed)
        index, evaluation = int(self.worker_index or 0), int(self.config.in_evaluation)
        stream = [seed, index, evaluation, self.num_env_steps_sampled_lifetime]
        if self._pending_cells is not None:
            stream = list(self._pending_cells["stream"])
        self._stream = stream
        traces, noise = (np.random.default_rng(s) for s in np.random.SeedSequence(stream).spawn(2))
        self._noise = noise
        self.cells = self.new_cells(self.settings, traces)
        self._returns = np.zeros(self.settings.cells)
        self._whole = self.cells.clock == 0
        if self._pending_cells is not None:
            self.cells.set_state(self._pending_cells["cells"])
            self._noise.bit_generator.state = self._pending_cells["noise"]
            self._returns = np.array(self._pending_cells["returns"])
            self._whole = np.array(self._pending_cells["whole"])
            self._pending_cells = None
        self._call_back("on_environment_created", env=self.cells, env_context=self.config.env_config)

    def new_cells(self, settings: RunnerSettings, traces: np.random.Generator) -> Cells:
        """Cells at their start, with fixed controllers of their own."""
        source = self.make_trace or trace_source(settings, self.scenario)
        return Cells(self.scenario, settings, self._fixed_controllers(), traces, source)

    def _call_back(self, name: str, **what: Any) -> None:
        """RLlib's callbacks of runners: methods of the configured classes, and functions."""
        functions = getattr(self.config, f"callbacks_{name}")
        make_callback(
            name, self._callbacks, functions, kwargs={"env_runner": self, "metrics_logger": self.metrics, **what}
        )

    def _fixed_controllers(self) -> dict[str, Controller]:
        return {role: make_controller(self.scenario, role, name) for role, name in self.settings.fixed.items()}

    def get_spaces(self) -> dict[str, Any]:
        spaces: dict[str, Any] = {}
        entries = message_entries(self.scenario, self.settings.fixed)
        for name in self.settings.roles:
            if name == CENTRAL:
                spaces[name] = (self.scenario.global_state_space, self.scenario.central_space)
            else:
                role, size = self.scenario.roles[name], row_size(self.scenario, name, self.settings.pooled)
                rows, heard = role.observation_space, entries[name]
                if self.settings.pooled or heard:
                    low = [float(rows.low.min())] * size + [-np.inf] * heard
                    high = [float(rows.high.max())] * size + [np.inf] * heard
                    rows = gymnasium.spaces.Box(np.array(low, np.float32), np.array(high, np.float32))
                spaces[name] = (rows, role.action_space)
        observed, acted = ({role: pair[i] for role, pair in spaces.items()} for i in (0, 1))
        return {INPUT_ENV_SPACES: (observed, acted), **spaces}

    def assert_healthy(self) -> None:
        assert self.module is not None

    # --- sampling ----------------------------------------------------------------------------------------------------

    def sample(
        self, *, num_timesteps: int | None = None, explore: bool | None = None, fresh: bool = False, **asked: Any
    ) -> MultiAgentBatch | list[PlayedEpisodes]:
        """Play T slots of all cells; an evaluation runner plays episodes from their start and hands over counts.

        Args:
            num_timesteps: env steps (cell-slots) to play, rounded up to whole slots; default `settings.slots` slots.
            explore: draw actions from the policy's distribution (default: as configured) or take the most likely.
            fresh: critics have not learned yet: values are taken at the level of the rewards (`critic_start`).
            **asked: RLlib's evaluation asks for `num_episodes`.

        Raises:
            ValueError: evaluation without evaluation runners.
        """
        explore = self.config.explore if explore is None else explore
        samples: Any
        if self.config.in_evaluation:
            samples = evaluate(self, num_timesteps, asked.get("num_episodes"), explore)
        elif "num_episodes" in asked:
            raise ValueError(
                "evaluate() needs runners of its own: config.evaluation(evaluation_interval=N) before build"
            )
        else:
            samples = self._sample(num_timesteps, explore, fresh)
        self._call_back("on_sample_end", samples=samples)
        return samples

    def _sample(self, num_timesteps: int | None, explore: bool, fresh: bool) -> MultiAgentBatch:
        if self.cells is None:
            self.make_env()
        assert self.cells is not None
        slots = self.settings.slots if num_timesteps is None else -(-num_timesteps // self.settings.cells)
        self.metrics.log_value(WEIGHTS_SEQ_NO, self._weights_seq_no, window=1)
        with self.metrics.log_time(SAMPLE_TIMER):
            return self._play(self.cells, slots, explore, fresh)

    def _play(self, cells: Cells, slots: int, explore: bool, fresh: bool) -> MultiAgentBatch:
        rollouts = {role: ModuleSamples(fresh=fresh) for role in self.settings.roles}
        last_rows: dict[int, Slot] = {}
        ends = np.zeros((slots, cells.count), bool)
        totals: dict[str, Array] = {}
        rows = cells.slot()
        for t in range(slots):
            actions = {role: self._act(role, rows, rollout, explore) for role, rollout in rollouts.items()}
            step, last, ends[t] = cells.step(actions)
            rewards = self.rewards(step, cells)
            for role, rollout in rollouts.items():
                rollout.rewards.append(rewards[role])
                if role in cells.choice_rewards:
                    rollout.choice_rewards.append(cells.choice_rewards[role] * self.settings.scales[role])
            for name, values in step.metrics.items():
                totals[name] = totals.get(name, 0.0) + values
            self._count_episodes(sum(r.reshape(len(r), -1).sum(axis=1) for r in rewards.values()), ends[t], cells)
            if last is not None:
                last_rows[t] = last
            rows = cells.slot()
        for role, rollout in rollouts.items():
            rollout.see(role, rows)
        self._log(slots * cells.count, {name: float(total.mean()) / slots for name, total in totals.items()})
        finish = {"advantages": self._on_policy, "transitions": self._transitions, "choices": self._choices}[
            self.settings.output
        ]
        batches = {r: SampleBatch(finish(r, rollout, ends, last_rows)) for r, rollout in rollouts.items()}
        return MultiAgentBatch(batches, slots * cells.count)

    @torch.no_grad()
    def _act(self, role: str, rows: Slot, rollout: ModuleSamples, explore: bool) -> Array:
        """Raw actions (B, n, ...) of a role: one forward pass for all its agents in all cells."""
        module = self.module[role]
        rollout.see(role, rows)
        batch = {Columns.OBS: torch.from_numpy(rows.observations[role])}
        if role in rows.masks:
            batch[ACTION_MASK] = torch.from_numpy(rollout.masks[-1])
        # not `forward_exploration`, which sets the mode of every layer in every slot: 15% of sampling at 20 devices
        parameters = module._forward_exploration(batch)[Columns.ACTION_DIST_INPUTS].numpy()
        head = module.policy.head
        draw = getattr(module, "explored", None)  # a module of a deterministic policy brings its own noise
        if not explore:
            chosen = head.greedy(parameters)
        else:
            chosen = head.sample(parameters, self._noise) if draw is None else draw(parameters, self._noise)
        rollout.parameters.append(parameters)
        rollout.actions.append(chosen)
        return np.asarray(head.to_env(chosen))

    def rewards(self, step: Any, cells: Cells) -> dict[str, Array]:
        """Learned role -> (B, n) of the slot that the cells just played, charges and factors included.

        A joint action whose groups are judged each (`GroupedActions`) has (B, 1, G).
        """
        scales, offset = self.settings.scales, self.settings.offset
        if self.settings.roles == (CENTRAL,):
            if self.settings.reward == "group" and isinstance(self.scenario, GroupedActions):
                judged = self.scenario.group_rewards(step)  # (B, G): critics learn each group's part
            else:
                judged = joint_reward(self.scenario, step, self.settings.reward)
            return {CENTRAL: scales[CENTRAL] * (offset + judged[:, None])}
        per_role = self.scenario.rewards(step, self.settings.reward)
        if self.settings.reward == "local":  # a price is there to tell what a selfish learner does not see
            per_role = {r: reward - cells.charges.get(r, 0.0) for r, reward in per_role.items()}
        return {role: scales[role] * (per_role[role] + offset) for role in self.settings.roles}

    # --- batches -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _on_policy(
        self, role: str, rollout: ModuleSamples, ends: Array, last_rows: Mapping[int, Slot]
    ) -> dict[str, Array]:
        """Columns for PPO's loss; advantages are not standardised here, since other runners' batches join."""
        module = self.module[role]
        values, next_values = self._values(module, role, rollout, ends, last_rows)
        rewards = np.stack(rollout.rewards)
        if rollout.fresh and getattr(module, "levelled", False):
            short = shortfall(rewards, values, self.config.gamma, per_agent=module.critic.per_agent)
            values, next_values = values + short, next_values + short
        advantages, targets = advantages_and_targets(
            rewards, values, next_values, ends, self.config.gamma, self.config.lambda_
        )
        parameters, actions = np.stack(rollout.parameters), np.stack(rollout.actions)
        distribution = module.get_exploration_action_dist_cls().from_logits(torch.from_numpy(parameters))
        columns = {
            Columns.OBS: np.stack(rollout.observations[:-1]),
            Columns.ACTIONS: actions,
            Columns.ACTION_DIST_INPUTS: parameters,
            Columns.ACTION_LOGP: distribution.logp(torch.from_numpy(actions)).numpy(),
            Postprocessing.ADVANTAGES: advantages,
            Postprocessing.VALUE_TARGETS: targets,
        }
        if rollout.masks:
            columns[ACTION_MASK] = np.stack(rollout.masks[:-1])
        columns.update({column: np.stack(values[:-1]) for column, values in rollout.beside.items()})
        return _rows(columns, module.has_agent_axis)

    def _values(
        self, module: ActorCriticModule, role: str, rollout: ModuleSamples, ends: Array, last_rows: Mapping[int, Slot]
    ) -> tuple[Array, Array]:
        """Values (T, B, n) of the rows acted on and of the rows that followed, before any reset."""
        seen = {Columns.OBS: rollout.observations, **rollout.beside}
        values = self._value_of(module, {column: np.stack(each) for column, each in seen.items()})
        next_values = values[1:].copy()
        for t, rows in last_rows.items():
            last = {Columns.OBS: rows.observations[role], **_beside(role, rows)}
            last_values = self._value_of(module, {column: array[None] for column, array in last.items()})
            next_values[t, ends[t]] = last_values[0, ends[t]]
        return values[:-1], next_values

    @staticmethod
    def _value_of(module: ActorCriticModule, seen: Mapping[str, Array]) -> Array:
        """(T, B, n) values of columns (T, B, n, ..)."""
        steps, cells = seen[Columns.OBS].shape[:2]
        batch = {name: torch.from_numpy(a.reshape(steps * cells, *a.shape[2:])) for name, a in seen.items()}
        values: Array = module.compute_values(batch).numpy()
        return values.reshape(steps, cells, -1)

    def _choices(
        self, role: str, rollout: ModuleSamples, ends: Array, last_rows: Mapping[int, Slot]
    ) -> dict[str, Array]:
        """Columns for the all-action gradient: row and what every choice would have paid; else those of PPO."""
        if not rollout.choice_rewards:
            return self._on_policy(role, rollout, ends, last_rows)
        columns = {
            Columns.OBS: np.stack(rollout.observations[:-1]),
            CHOICE_REWARDS: np.stack(rollout.choice_rewards),
        }
        if rollout.masks:
            columns[ACTION_MASK] = np.stack(rollout.masks[:-1])
        return _rows(columns, self.module[role].has_agent_axis)

    def _transitions(
        self, role: str, rollout: ModuleSamples, ends: Array, last_rows: Mapping[int, Slot]
    ) -> dict[str, Array]:
        """Columns for a replay buffer: row, action, reward, next row (of the old episode where one ended)."""
        observations = np.stack(rollout.observations)
        following = observations[1:].copy()
        for t, rows in last_rows.items():
            following[t, ends[t]] = rows.observations[role][ends[t]]
        rewards = np.stack(rollout.rewards).astype(np.float32)
        columns = {
            Columns.OBS: observations[:-1],
            Columns.NEXT_OBS: following,
            Columns.ACTIONS: np.stack(rollout.actions),
            Columns.REWARDS: rewards,
            Columns.TERMINATEDS: np.zeros(rewards.shape, bool),
        }
        if rollout.masks:
            masks = np.stack(rollout.masks)
            next_masks = masks[1:].copy()
            for t, rows in last_rows.items():
                next_masks[t, ends[t]] = rows.masks[role][ends[t]]
            columns[NEXT_ACTION_MASK] = next_masks
        return _rows(columns, self.module[role].has_agent_axis)

    # --- metrics -----------------------------------------------------------------------------------------------------

    def _count_episodes(self, rewards: Array, ended: Array, cells: Cells) -> None:
        self._returns += rewards
        if not ended.any():
            return
        window = max(1, self.config.metrics_num_episodes_for_smoothing // (self.config.num_env_runners or 1))
        for b in np.flatnonzero(ended & self._whole):
            self.metrics.log_value(EPISODE_RETURN_MEAN, float(self._returns[b]), window=window)
            self.metrics.log_value(EPISODE_LEN_MEAN, self.scenario.horizon, window=window)
        self.metrics.log_value(NUM_EPISODES, int(ended.sum()), reduce="sum")
        self._returns[ended] = 0.0
        self._whole |= ended

    @property
    def learning_agents(self) -> int:
        """Learning agents of a cell; a joint action has one."""
        return sum(1 if r == CENTRAL else self.scenario.roles[r].count for r in self.settings.roles)

    def _log(self, env_steps: int, metrics: Mapping[str, float]) -> None:
        agents = self.learning_agents
        self.num_env_steps_sampled_lifetime += env_steps
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED, env_steps, reduce="sum")
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, env_steps, reduce="lifetime_sum", with_throughput=True)
        self.metrics.log_value(
            (NUM_AGENT_STEPS_SAMPLED_LIFETIME, "all"), env_steps * agents, reduce="lifetime_sum", with_throughput=True
        )
        for name, value in metrics.items():
            self.metrics.log_value((SCENARIO_METRICS, name), value, window=1)

    def get_metrics(self) -> Any:
        return self.metrics.reduce()

    # --- state -------------------------------------------------------------------------------------------------------

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        state: dict[str, Any] = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(
                components=self._get_subcomponents(COMPONENT_RL_MODULE, components),
                not_components=self._get_subcomponents(COMPONENT_RL_MODULE, not_components),
                **kwargs,
            )
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        if self.cells is not None and self._check_component(CELLS_STATE, components, not_components):
            state[CELLS_STATE] = {
                "cells": self.cells.get_state(),
                "noise": self._noise.bit_generator.state,
                "stream": self._stream,
                "returns": self._returns.copy(),
                "whole": self._whole.copy(),
            }
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        if COMPONENT_RL_MODULE in state:
            number = state.get(WEIGHTS_SEQ_NO, 0)
            if number == 0 or self._weights_seq_no < number:
                weights = state[COMPONENT_RL_MODULE]
                self.module.set_state(ray.get(weights) if isinstance(weights, ray.ObjectRef) else weights)
            if number > 0:
                self._weights_seq_no = number
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = int(state[NUM_ENV_STEPS_SAMPLED_LIFETIME])
        if CELLS_STATE in state:
            self._pending_cells = state[CELLS_STATE]
            self.cells = None

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        return [(COMPONENT_RL_MODULE, self.module)]


def _deterministic(mode: bool, *, warn_only: bool = False) -> None:
    """`torch.use_deterministic_algorithms` without PyTorch's compiler, which takes a second to load and is not used."""
    torch.set_deterministic_debug_mode("default" if not mode else "warn" if warn_only else "error")


def _beside(role: str, slot: Slot) -> dict[str, Array]:
    """Column -> (B, n, ..) what a critic of the role sees beside the rows."""
    return {column: of[role] for column, of in ((POOL, slot.pools), (FORESEEN, slot.foreseen)) if role in of}


def _rows(columns: Mapping[str, Array], agent_axis: bool) -> dict[str, Array]:
    """(T, B, n, ...) -> rows (T B, n, ...) with an agent axis, else (T B n, ...); floats become float32."""
    rows = {}
    for name, values in columns.items():
        lead = 2 if agent_axis else 3
        flat = values.reshape(-1, *values.shape[lead:])
        rows[name] = flat.astype(np.float32) if flat.dtype == np.float64 else flat
    return rows
