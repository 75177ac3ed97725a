"""DNN task assignment, model placement and three-resource sharing, in PettingZoo's form.

W. Zhang et al., IEEE TVT, 2021. `parallel_env(max_cycles=100, num_gateways=2)`: all agents act at once; `env(..)`:
one after another. Arguments are those of `edgemarl.envs.ScenarioParallelEnv`: `reward`, `render_mode`, `max_cycles`,
`agent_names`, `actions`, `reward_scale`, and every config field by its name. At the defaults (every entry is
explained in docs/model_placement.md):

| agents | number | observation | action |
|---|---|---|---|
| `wd_0`, .. | 350 | Box (17,): its task and link | MultiDiscrete([2, 2]): which model, and where |
| `gateway_0`, .. | 10 | Box (423,): its devices' tasks, its cache | Box (140,): logits of band and CPU |
| `server` | 1 | Box (2811,): all tasks, its cache | Box (1400,): logits of band and CPU |

Version history: v0 (EdgeMARL 0.2): the first with a version.
"""

from functools import partial

from pettingzoo.utils.conversions import aec_wrapper_fn

from edgemarl.envs.parallel import ScenarioParallelEnv

__all__ = ["env", "parallel_env"]

parallel_env = partial(ScenarioParallelEnv, "model_placement")
env = aec_wrapper_fn(parallel_env)
