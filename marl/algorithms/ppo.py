"""PPO on the batched runner: RLlib's algorithm, Learner and loss; only the hand-over of whole arrays is ours.

Source of the loss: Schulman et al., arXiv:1707.06347, as RLlib implements it (`PPOTorchLearner`).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
import pydantic
import torch
from ray.rllib.algorithms import ppo as rllib
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from edgemarl.agents.pooling import pool_size
from edgemarl.agents.trained.spec import NetworkSpec
from edgemarl.envs.capabilities import Foreseeing, Grouped, foreseen_roles
from edgemarl.envs.config import config_class, quantity, unknown_name
from edgemarl.marl.algorithms.base import Algorithm, Needs, Run, on_policy_training
from edgemarl.marl.algorithms.settings import OnPolicySettings, Settings, Width
from edgemarl.marl.rllib.ahead import SamplesAhead
from edgemarl.marl.rllib.config import BatchedConfig
from edgemarl.marl.rllib.learner import (
    IndependentNetworks,
    MiniBatches,
    batch_moments,
    joined,
    level_critics,
    merge_moments,
    standardised,
)
from edgemarl.marl.rllib.learners import learn
from edgemarl.marl.rllib.modules import ActorCriticModule
from edgemarl.marl.rllib.recovery import PatientRecovery
from edgemarl.marl.rllib.runner_states import RunnerStates


@config_class
class PPOSettings(OnPolicySettings):
    """Settings of PPO and MAPPO."""

    gae_lambda: float = quantity(0.9, "-", "weight of longer returns", ge=0, le=1)
    clip: float = quantity(0.2, "-", "clip range of the probability ratio", gt=0, le=1e6)
    value_weight: float = quantity(0.5, "-", "weight of the value loss", ge=0, le=1e6)
    critic_hidden: tuple[Width, ...] | None = quantity(
        None, "-", "widths of the critic's layers; default as the policy"
    )
    critic_start: Literal["rewards", "zero"] = quantity(
        "rewards", "-", "value of a fresh critic: the one that the first rewards amount to for ever, or 0"
    )
    log_std: float = quantity(-0.7, "-", "start of the log standard deviation of a Box action", ge=-3, le=1)
    squash: Literal["clip", "tanh"] = quantity(
        "clip", "-", "how the Gaussian draw of a Box action is kept within bounds: cut there, or by tanh"
    )
    first_action: dict[str, tuple[float, ...]] = pydantic.Field(
        default_factory=dict, description="role -> raw Box action that its policy starts from, whatever the row"
    )
    grid: dict[str, int | tuple[int, ...]] = pydantic.Field(
        default_factory=dict, description="role -> points per entry of its Box action, then one discrete choice"
    )
    foresight: int = quantity(
        0, "-", "slots ahead whose arrivals and channels the critic sees in training, the present one first", ge=0
    )


class PPO(Algorithm):
    """Proximal policy optimisation, with a critic of an agent's own row."""

    name = "ppo"
    meaning = "proximal policy optimisation; critics see what the policy sees, in training also the slots to come"
    Settings: ClassVar[type[Settings]] = PPOSettings
    needs = Needs(sets=True)
    output = "advantages"
    shares_minibatches = True

    def check(self, run: Run) -> None:
        super().check(run)
        self._check_foresight(run)
        self._check_first_action(run)

    def build(self, run: Run) -> BatchedPPOConfig:
        s = run.settings
        return BatchedPPOConfig().training(
            **on_policy_training(run),
            lambda_=s.gae_lambda,
            clip_param=s.clip,
            vf_clip_param=float("inf"),
            vf_loss_coeff=s.value_weight,
            use_kl_loss=False,
        )

    def module_class(self) -> type:
        return ActorCriticModule

    def spec(self, run: Run, role: str, **kind: Any) -> NetworkSpec:
        s = run.settings
        squash = "tanh_late" if s.squash == "tanh" else "clip"  # the loss needs the density of the draw itself
        return super().spec(run, role, normalise=s.normalise, log_std=s.log_std, squash=squash, **kind)

    def module_config(self, run: Run, role: str) -> dict[str, Any]:
        scenario, mode = run.scenario, run.config.reward_mode
        return {
            **super().module_config(run, role),
            "critic_hidden": tuple(run.settings.critic_hidden or run.hidden),
            "critic_start": run.settings.critic_start,
            "pool": pool_size(scenario) if self.critic_pool else 0,
            "first_action": run.settings.first_action.get(role, ()),
            "foreseen": self._foreseen_entries(run, role),
            "group_size": scenario.group_sizes.get(role, 0) if mode == "group" and isinstance(scenario, Grouped) else 0,
        }

    def foresight(self, run: Run) -> int:
        """Slots ahead that the critic sees."""
        return int(run.settings.foresight)

    def _foreseen_entries(self, run: Run, role: str) -> int:
        """Entries beside a role's row that tell its critic what the next slots bring."""
        ahead = self.foresight(run)
        if not ahead or role not in foreseen_roles(run.scenario):
            return 0
        assert isinstance(run.scenario, Foreseeing)
        trace = run.scenario.sample_trace(np.random.default_rng(0), cells=1, slots=1)
        return ahead * int(run.scenario.outlook(trace)[role].shape[-1])

    def _check_foresight(self, run: Run) -> None:
        """Whether there is a critic of rows, and something that it can foresee."""
        if not self.foresight(run):
            return
        if run.config.joint:
            raise ValueError("foresight is for critics of an agent's own row, not of a joint action")
        known = foreseen_roles(run.scenario)
        if not set(run.roles) & set(known):
            raise ValueError(
                f"foresight = {self.foresight(run)} is not legal: {run.scenario.name} tells what a slot brings for "
                f"{', '.join(known) or 'no role'}, and {', '.join(run.roles)} learns"
            )

    def _check_first_action(self, run: Run) -> None:
        """Whether a Gaussian policy of the role can start from the action."""
        given = run.settings.first_action
        if given and (run.settings.network == "parts" or run.settings.imitate):
            raise ValueError("first_action is for policies without network = 'parts' or imitate")
        learned = () if run.config.joint else run.roles
        for role, action in given.items():
            if role not in learned:
                raise ValueError(unknown_name("learned role", role, learned))
            space = run.scenario.roles[role].action_space
            if not isinstance(space, gymnasium.spaces.Box) or run.grid_of(role):
                raise ValueError(f"first_action is for Box actions without a grid; role '{role}' has {space}")
            values = np.asarray(action, float)
            if values.shape != space.shape or not ((values >= space.low) & (values <= space.high)).all():
                raise ValueError(f"first_action = {action} of role '{role}' is not legal: must lie in {space}")


class BatchedPPOConfig(BatchedConfig, rllib.PPOConfig):
    """PPO's config; the batch is what the runners return, so `train_batch_size_per_learner` has no effect."""

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class or BatchedPPO)

    def get_default_learner_class(self) -> Any:
        return BatchedPPOLearner

    def validate_train_batch_size_vs_rollout_fragment_length(self) -> None:
        """The runner's window decides."""


class BatchedPPO(SamplesAhead, RunnerStates, PatientRecovery, rllib.PPO):
    """PPO whose runners return `MultiAgentBatch`es with advantages."""

    @classmethod
    def get_default_config(cls) -> BatchedPPOConfig:
        return BatchedPPOConfig()

    def training_step(self) -> None:
        fresh = self.iteration == 0
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            batches = self.sampled(fresh=fresh)
        if not batches:
            return  # every runner failed; RLlib restarts them before the next step
        self.sample_ahead()
        batch = joined(batches)
        specs = self.config.rl_module_spec.rl_module_specs
        moments = {
            module: batch_moments(rows)
            for module, rows in batch.policy_batches.items()
            if specs[module].model_config["spec"]["normalise"]
        }
        if fresh:
            level_critics(self, batch)
        self.prepare(batch)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = learn(
                self,
                batch,
                timesteps=self._timesteps(),
                num_epochs=self.config.num_epochs,
                minibatch_size=self.config.minibatch_size,
                shuffle_batch_per_epoch=True,
            )
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
            if moments:
                merge_moments(self, moments)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            self.hand_on(list(batch.policy_batches))

    def prepare(self, batch: MultiAgentBatch) -> None:
        """Standardise advantages, module by module, over the batch of all runners."""
        for module, rows in batch.policy_batches.items():
            per_agent = bool(self.config.rl_module_spec.rl_module_specs[module].model_config["spec"]["agents"])
            rows[Postprocessing.ADVANTAGES] = standardised(rows[Postprocessing.ADVANTAGES], per_agent)

    def _timesteps(self) -> dict[str, Any]:
        sampled = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        trained = (LEARNER_RESULTS, ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME)
        return {
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek(sampled, default=0),
            NUM_MODULE_STEPS_TRAINED_LIFETIME: self.metrics.peek(trained, default=0),
        }


class BatchedPPOLearner(IndependentNetworks, PPOTorchLearner):
    """RLlib's PPO loss on whole arrays, with as many minibatches for every module."""

    def _create_iterator_if_necessary(
        self, *, training_data: Any, num_epochs: int = 1, minibatch_size: int | None = None, **kwargs: Any
    ) -> Any:
        batch = self._make_batch_if_necessary(training_data=training_data)
        seed = [int(self.config.seed or 0), int(self._weights_seq_no)]
        made = MiniBatches(batch, num_epochs, int(minibatch_size or 0), np.random.default_rng(seed), self.share)
        self.share_weights = made.weights
        return made

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """RLlib's Adam in its fused form: one kernel for all parameters, which counts with networks this small."""
        parameters = self.get_parameters(self._module[module_id])
        optimizer = torch.optim.Adam(parameters, fused=True)
        self.register_optimizer(
            module_id=module_id, optimizer=optimizer, params=parameters, lr_or_lr_schedule=config.lr
        )
