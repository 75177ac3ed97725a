"""Every client of `check clients` trains, and its greedy policy is played."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from edgemarl.launch.commands.clients import ClientsOptions, jobs_of
from edgemarl.marl.benchmarks.quality import Clock
from edgemarl.marl.studies.clients import CLIENTS, LIBRARIES, load_client
from edgemarl.marl.studies.clients.job import Looks

TINY = {
    "sb3": {"decisions_per_rollout": 60, "batch_size": 30, "n_epochs": 1},
    "rllib": {"decisions_per_batch": 60, "minibatch_size": 30, "num_epochs": 1},
    "benchmarl_ippo": {"decisions_per_batch": 60, "decisions_per_minibatch": 30, "epochs": 1},
    "benchmarl_mappo": {"decisions_per_batch": 60, "decisions_per_minibatch": 30, "epochs": 1},
}
"""Settings of a client that make its iterations small."""


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("scenario", ["sequential_offloading", "sampling_rate"])
def test_a_client_trains_and_is_looked_at(local_cluster: None, client: str, scenario: str) -> None:
    if any(find_spec(module) is None for module in LIBRARIES.get(client, ())):
        pytest.skip(f"{client} is not installed")
    options = ClientsOptions(scenario, (3,), (client,), training_seeds=1, agent_steps=(120,))
    ((_, job),) = jobs_of(options)
    job = type(job)(**{**job.to_dict(), "settings": {**job.settings, **TINY.get(client, {})}})
    looks = Looks(job, Clock())
    load_client(client)(job, looks)
    decisions = [row["decisions"] for row in looks.rows]
    assert decisions[-1] >= 120 and decisions == sorted(decisions)
    assert np.isfinite([row["cost"] for row in looks.rows]).all()
    assert looks.rows[-1]["start_s"] < looks.rows[-1]["processor_s"]
