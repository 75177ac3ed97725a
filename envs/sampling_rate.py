"""Accuracy-guaranteed inference with adaptive sampling rates, in PettingZoo's form.

W. Wu, P. Yang, W. Zhang, C. Zhou, X. Shen, IEEE TII, 2021. `parallel_env(max_cycles=100, num_devices=6)`: all agents
act at once; `env(..)`: one after another. Arguments are those of `edgemarl.envs.ScenarioParallelEnv`: `reward`,
`render_mode`, `max_cycles`, `agent_names`, `actions`, `reward_scale`, and every config field by its name. At the
defaults (every entry is explained in docs/sampling_rate.md):

| agents | number | observation | action |
|---|---|---|---|
| `wd_0`, .. | 10 | Box (9,): backlog, channel, deficit, load | Discrete(8): sampling rate, and device or server |

Version history: v0 (EdgeMARL 0.2): the first with a version.
"""

from functools import partial

from pettingzoo.utils.conversions import aec_wrapper_fn

from edgemarl.envs.parallel import ScenarioParallelEnv

__all__ = ["env", "parallel_env"]

parallel_env = partial(ScenarioParallelEnv, "sampling_rate")
env = aec_wrapper_fn(parallel_env)
