"""Our own training, as `edgemarl train` does it."""

from __future__ import annotations

from edgemarl.marl.scratch import scratch
from edgemarl.marl.studies.clients.job import ClientJob, Looks
from edgemarl.marl.training.config import TrainConfig
from edgemarl.marl.training.quality import live_policy
from edgemarl.marl.training.run import Training


def learn(job: ClientJob, at: Looks) -> None:
    """Train to the budget; the settings are the fields of `TrainConfig`."""
    config = TrainConfig(**{**job.settings, "scenario": job.scenario, "seed": job.seed, "agent_steps": job.budget})
    with scratch() as folder, Training(config, folder / "run") as training:
        algorithm = training.algorithm
        at.begin()
        while not training.finished:
            row = training.step()
            at(int(row["agent_steps"]), lambda: live_policy(algorithm, training.run))
        training.save()
