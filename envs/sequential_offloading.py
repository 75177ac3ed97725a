"""Sequential offloading of partly computed DNN tasks, in PettingZoo's form.

F. Wang, S. Cai, V. K. N. Lau, arXiv:2203.01005, 2022. `parallel_env(max_cycles=100, num_devices=8)`: all agents act
at once; `env(..)`: one after another. Arguments are those of `edgemarl.envs.ScenarioParallelEnv`: `reward`,
`render_mode`, `max_cycles`, `agent_names`, `actions`, `reward_scale`, and every config field by its name. At the
defaults (every entry is explained in docs/sequential_offloading.md):

| agents | number | observation | action |
|---|---|---|---|
| `wd_0`, .. | 20 | Box (7,): queue, channel, arrivals | Box (2,): work that leaves, what of it is sent |
| `server` | 1 | Box (4,): its queue, the devices' load | Box (1,): CPU rate |

Version history: v0 (EdgeMARL 0.2): the first with a version. A device gives two numbers; in 0.1, without a version, it
gave one, a CPU rate (`device_action="cpu"`).
"""

from functools import partial

from pettingzoo.utils.conversions import aec_wrapper_fn

from edgemarl.envs.parallel import ScenarioParallelEnv

__all__ = ["env", "parallel_env"]

parallel_env = partial(ScenarioParallelEnv, "sequential_offloading")
env = aec_wrapper_fn(parallel_env)
