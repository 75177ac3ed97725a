"""`check clients` compares like with like, and trains nothing twice; the libraries themselves: tests/clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgemarl.launch.commands.clients import ClientsOptions, check_clients, clients_options, jobs_of
from edgemarl.launch.report.clients import at_budget, client_rows, client_table
from edgemarl.marl.benchmarks.quality import Clock
from edgemarl.marl.studies.clients import CLIENTS, OURS, measure
from edgemarl.marl.studies.clients.job import ClientJob, LearnedRole, Looks, cost_of, reference_cost

SMALL = ClientsOptions(devices=(3,), clients=("ours", "rllib"), training_seeds=1, agent_steps=(100, 300))


def test_every_client_meets_the_same_network() -> None:
    options = ClientsOptions(devices=(10, 50), training_seeds=2)
    jobs = list(jobs_of(options))
    for size in (10, 50):
        of_size = [job for devices, job in jobs if devices == size]
        assert len({str(job.config) for job in of_size}) == 1
        assert of_size[0].make().roles["device"].count == size
        for job in of_size:  # the price is part of our recipe; nobody charges the others' devices one
            assert job.fixed == {"server": "parametric_q_priced" if job.client in OURS else "parametric_q"}
    assert {job.client for _, job in jobs} == set(CLIENTS)


def test_what_anneals_is_trained_for_every_budget() -> None:
    budgets = {(job.client, job.budgets) for _, job in jobs_of(SMALL)}
    assert budgets == {("ours", (100,)), ("ours", (300,)), ("rllib", (100, 300))}


def test_looks_cost_nothing_and_stand_at_the_points() -> None:
    (_, job), *_ = jobs_of(ClientsOptions(devices=(3,), clients=("rllib",), training_seeds=1, agent_steps=(100, 300)))
    assert job.points == [30, 60, 100, 105, 150, 225, 300]
    clock = Clock()
    looks = Looks(job, clock)
    scenario = job.make()

    def policy() -> Any:
        from edgemarl.agents.registry import make_policy

        return make_policy(scenario, "random")

    before_s = clock.now_s()
    for decisions in (20, 110, 120, 160, 300, 310):
        looks(decisions, policy)
    assert [row["decisions"] for row in looks.rows] == [110, 160, 300]
    assert looks.rows[0]["cost"] == cost_of(policy(), scenario)
    assert looks.rows[-1]["processor_s"] - before_s < 0.2  # three looks take longer than that together


def test_the_cost_is_that_of_the_comparison() -> None:
    from edgemarl.marl import compare_controllers

    (_, job), *_ = jobs_of(SMALL)
    name, cost = reference_cost(job)
    table = compare_controllers(job.make(), [name], networks=20)
    assert table.row(name).cost.value == pytest.approx(cost, rel=1e-12)


def test_two_learning_roles_are_refused() -> None:
    job = ClientJob("sb3", "sequential_offloading", {}, {}, (100,), 0)
    with pytest.raises(ValueError, match="device, server: name the others in fixed"):
        LearnedRole.of(job)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clients": "sb4"}, "unknown client 'sb4'"),
        ({"agent_steps": "300,100"}, "integers >= 1 that rise"),
        ({"agent_steps": "many"}, "--agent-steps = 'many'"),
        ({"devices": "0"}, "--devices"),
    ],
)
def test_illegal_options_are_named(given: dict[str, str], message: str) -> None:
    words: dict[str, Any] = {
        "scenario": "sequential_offloading", "devices": None, "clients": None, "training_seeds": 1,
        "agent_steps": "100", "quick": False, **given,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        clients_options(**words)


def _looks(job: ClientJob) -> list[dict[str, float]]:
    """A client that is 10% above 2.0 at its first budget and 5% at its last, in a second per 100 decisions."""
    shares = {100: 0.1, 300: 0.05}
    return [
        {"decisions": steps, "cost": 2.0 * (1.0 + shares[steps]), "processor_s": 5.0 + steps / 100, "start_s": 5.0,
         "wall_s": 9.0}
        for steps in job.budgets
    ]  # fmt: skip


def test_a_table_has_the_end_of_ours_and_looks_at_others() -> None:
    trained = [(size, job, _looks(job)) for size, job in jobs_of(SMALL)]
    rows = client_rows(trained, {3: ("vi", 2.0)})
    found = at_budget(rows, 100).set_index("client")
    assert found.loc["ours", "budget"] == 100 and found.loc["rllib", "budget"] == 300
    assert list(at_budget(rows, 300)["above"]) == pytest.approx([0.05, 0.05])
    table = client_table(rows, SMALL.agent_steps)
    assert "| 100 | RLlib PPO, its own runner | 2.2 | +10.0% (+10.0%) | 1.0 (1.0 x) | 6.0 (1.0 x) |" in table


def test_a_finished_training_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def fake(job: ClientJob) -> list[dict[str, float]]:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(job.client)
        return _looks(job)

    monkeypatch.setattr(measure, "in_process_of_its_own", fake)
    options = ClientsOptions(devices=(3,), clients=OURS, training_seeds=1, agent_steps=(100, 300))
    with pytest.raises(KeyboardInterrupt):
        check_clients(options, tmp_path)
    check_clients(options, tmp_path, finished=True)
    assert "EdgeMARL MAPPO" not in (tmp_path / "clients.md").read_text()
    trained.clear()
    monkeypatch.setattr(measure, "in_process_of_its_own", lambda job: trained.append(job.client) or _looks(job))
    check_clients(options, tmp_path)
    assert trained == ["ours_mappo", "ours_mappo"]
    assert (tmp_path / "clients.png").stat().st_size > 1000 and (tmp_path / "clients.parquet").is_file()
