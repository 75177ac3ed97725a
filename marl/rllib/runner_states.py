"""Remote runners in a checkpoint: RLlib saves the local runner alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ray.rllib.core import COMPONENT_RL_MODULE

logger = logging.getLogger(__name__)

RUNNERS = "remote_env_runners"
ANSWER_S = 5.0
"""Time in s that a save waits for the runners' states; who does not answer is left out."""


class RunnerStates:
    """Before RLlib's `Algorithm`: a checkpoint holds cells and random streams of every remote runner, by its index.

    RLlib's own does so for the local runner. Without it a resumed run samples other traces and draws other actions than
    the run that was not stopped.
    """

    config: Any
    env_runner_group: Any

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the remote runners', index -> state, without the networks: those are the Learner's."""
        state: dict[str, Any] = super().get_state(*args, **kwargs)  # type: ignore[misc]
        return {**state, RUNNERS: self._runner_states()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """RLlib's state, then each remote runner's own; one that the checkpoint does not know starts anew."""
        super().set_state(state)  # type: ignore[misc]
        known = state.get(RUNNERS, {})
        runners = range(1, self.config.num_env_runners + 1)
        for index in runners:
            if index in known:
                self.env_runner_group.foreach_env_runner(
                    "set_state", kwargs={"state": known[index]}, remote_worker_ids=[index], local_env_runner=False
                )
        if {*runners} != {*known}:
            logger.warning(
                "the checkpoint holds %d remote runners, %d sample now: the run does not go on bit by bit as if it had "
                "not been stopped",
                len(known),
                len(runners),
            )

    def _runner_states(self) -> dict[int, dict[str, Any]]:
        if not self.env_runner_group.num_healthy_remote_workers():
            return {}
        states: list[tuple[int, dict[str, Any]]] = self.env_runner_group.foreach_env_runner(
            lambda runner: (int(runner.worker_index), runner.get_state(not_components=[COMPONENT_RL_MODULE])),
            local_env_runner=False,
            timeout_seconds=ANSWER_S,
        )
        return dict(states)
