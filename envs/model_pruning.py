"""Offloading, pruned models and edge shares under criticality that varies, in PettingZoo's form.

V. Niazmand, Q. Ye, IEEE TCCN, 2025. `parallel_env(max_cycles=100, num_devices=50)`: all agents act at once;
`env(..)`: one after another. Arguments are those of `edgemarl.envs.ScenarioParallelEnv`: `reward`, `render_mode`,
`max_cycles`, `agent_names`, `actions`, `reward_scale`, and every config field by its name. At the defaults (every
entry is explained in docs/model_pruning.md):

| agents | number | observation | action |
|---|---|---|---|
| `wd_0`, .. | 100 | Box (10,): channel, criticality, what the gateway tells | Discrete(2): gateway or edge |
| `gateway_0`, .. | 5 | Box (8,): its sensors' tasks | Discrete(6): which pruned network |
| `server` | 1 | Box (40,): all gateways | Box (5,): logits of edge shares |

Version history: v0 (EdgeMARL 0.2): the first with a version.
"""

from functools import partial

from pettingzoo.utils.conversions import aec_wrapper_fn

from edgemarl.envs.parallel import ScenarioParallelEnv

__all__ = ["env", "parallel_env"]

parallel_env = partial(ScenarioParallelEnv, "model_pruning")
env = aec_wrapper_fn(parallel_env)
