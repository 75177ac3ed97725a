"""Where to cut deep networks between devices and an edge server, in PettingZoo's form.

X. Ye, Y. Sun, D. Wen, G. Pan, S. Zhang, cooperative edge inference. `parallel_env(max_cycles=100, num_devices=8)`:
all agents act at once; `env(..)`: one after another. Arguments are those of `edgemarl.envs.ScenarioParallelEnv`:
`reward`, `render_mode`, `max_cycles`, `agent_names`, `actions`, `reward_scale`, and every config field by its name.
At the defaults (every entry is explained in docs/model_partitioning.md):

| agents | number | observation | action |
|---|---|---|---|
| `wd_0`, .. | 5 | Box (7,): channel, load, queues, prices | Discrete(11): the cut; `action_mask` in the infos |

Version history: v0 (EdgeMARL 0.2): the first with a version.
"""

from functools import partial

from pettingzoo.utils.conversions import aec_wrapper_fn

from edgemarl.envs.parallel import ScenarioParallelEnv

__all__ = ["env", "parallel_env"]

parallel_env = partial(ScenarioParallelEnv, "model_partitioning")
env = aec_wrapper_fn(parallel_env)
