"""`check clients`: our training and that of other libraries, cost against decisions and against seconds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemarl.envs.config import unknown_name
from edgemarl.envs.files import write_text
from edgemarl.launch.progress import Bars
from edgemarl.marl.studies.clients import CLIENTS, LIBRARIES, OURS, SETTINGS, TOLD

if TYPE_CHECKING:
    from edgemarl.marl.studies.clients.job import ClientJob

ALGORITHMS = {"ours": "ppo", "ours_mappo": "mappo"}
QUICK_STEPS = (2000, 4000)


@dataclass(frozen=True)
class ClientsOptions:
    """What is trained.

    Attributes:
        scenario: its name.
        devices: sizes of the network; none: the scenario's own.
        clients: names of `CLIENTS`.
        training_seeds: trainings of each.
        agent_steps: budgets in decisions, ascending.

    Raises:
        ValueError: an unknown client, no seed, budgets that do not rise.
    """

    scenario: str = "sequential_offloading"
    devices: tuple[int, ...] = ()
    clients: tuple[str, ...] = tuple(CLIENTS)
    training_seeds: int = 3
    agent_steps: tuple[int, ...] = (100_000, 300_000)

    def __post_init__(self) -> None:
        for name in self.clients:
            if name not in CLIENTS:
                raise ValueError(unknown_name("client", name, tuple(CLIENTS)))
        if self.training_seeds < 1:
            raise ValueError(f"training_seeds = {self.training_seeds} is not legal: must be >= 1")
        if not self.agent_steps or list(self.agent_steps) != sorted(set(self.agent_steps)) or self.agent_steps[0] < 1:
            raise ValueError(f"--agent-steps = {self.agent_steps} is not legal: must be integers >= 1 that rise")
        if any(size < 1 for size in self.devices):
            raise ValueError(f"--devices = {self.devices} is not legal: must be integers >= 1")


def clients_options(
    scenario: str, devices: str | None, clients: str | None, training_seeds: int, agent_steps: str, quick: bool
) -> ClientsOptions:
    """The options of the command line."""
    return ClientsOptions(
        scenario,
        () if devices is None else integers(devices, "--devices"),
        tuple(CLIENTS) if clients is None else tuple(name.strip() for name in clients.split(",")),
        1 if quick else training_seeds,
        QUICK_STEPS if quick else integers(agent_steps, "--agent-steps"),
    )


def integers(text: str, option: str) -> tuple[int, ...]:
    """The whole numbers of "10,50" or "1e5,3e5".

    Raises:
        ValueError: something else.
    """
    from edgemarl.envs.config import quoted, whole

    numbers = tuple(whole(part.strip()) for part in text.split(","))
    if not all(isinstance(value, int) for value in numbers):
        raise ValueError(f"{option} = {quoted(text)} is not legal: must be whole numbers with commas")
    return numbers


def jobs_of(options: ClientsOptions) -> Iterator[tuple[int | None, ClientJob]]:
    """Size of the network, or None, and job; seed by seed, so that what is finished early is of all clients.

    What is told its budget, over which its learning rate falls, is trained for every budget; of others the longest
    training holds the shorter ones.
    """
    from edgemarl.marl.studies.clients.job import ClientJob

    for seed in range(options.training_seeds):
        for size in options.devices or (None,):
            for client in options.clients:
                algorithm = ALGORITHMS.get(client, "ppo")
                for budgets in [(steps,) for steps in options.agent_steps] if client in TOLD else [options.agent_steps]:
                    settings = _settings(options.scenario, algorithm, size, budgets[-1])
                    network, fixed = settings["set"], settings.get("fixed", {})
                    own = settings if client in OURS else SETTINGS[client]
                    if client not in OURS:  # nobody charges their devices a price, so their server sends none
                        fixed = {role: name.removesuffix("_priced") for role, name in fixed.items()}
                    reward = settings.get("reward", "local")
                    yield size, ClientJob(client, options.scenario, network, fixed, budgets, seed, own, reward)


def _settings(scenario: str, algorithm: str, devices: int | None, agent_steps: int) -> dict[str, Any]:
    """What `edgemarl train --algorithm ..` takes as it comes, as plain values; `set` holds the network's size."""
    from edgemarl.launch.experiment.plan import fields_at_size
    from edgemarl.launch.recipes import resolved, with_default

    size = {} if devices is None else fields_at_size(scenario, {}, devices)
    given = {"algorithm": algorithm, "agent_steps": agent_steps, "set": size}
    fields = resolved(scenario, with_default(scenario, given))
    plain: dict[str, Any] = json.loads(json.dumps(fields))
    return {"set": {}, **plain}


def check_clients(options: ClientsOptions, out: Path, finished: bool = False) -> None:
    """Train what the folder does not hold (with `finished` nothing); write table, figure and the numbers into it.

    Raises:
        ValueError: illegal options, a library that is not installed.
    """
    from edgemarl.launch.console import plain_console
    from edgemarl.launch.experiment.store import working_in

    if not finished:
        _check_installed(options.clients)
    jobs = [] if finished else list(jobs_of(options))
    with working_in(out), Bars() as bars:
        trained = _finished(options, out / "runs") if finished else []
        for done, (size, job) in enumerate(jobs):
            bars("training", done, len(jobs), f"{job.client}, seed {job.seed}")
            trained.append((size, job, _rows(size, job, _file(job, out / "runs"))))
        if jobs:
            bars("training", len(jobs), len(jobs))
        if not trained:
            raise ValueError(f"{out} holds no finished training of these")
        from edgemarl.launch.report.clients import client_rows, client_table, draw_clients
        from edgemarl.marl.evaluation.traces import write_table

        rows = client_rows(trained, _references([(size, job) for size, job, _ in trained], out / "runs"))
        write_table(out / "clients.parquet", rows, {"versions": versions(), "command": _command(options, out)})
        table = client_table(rows, options.agent_steps)
        write_text(out / "clients.md", f"`{_command(options, out)}`\n\n{table}\n")
        draw_clients(rows, out / "clients")
    plain_console().print(table, soft_wrap=True, markup=False)
    plain_console().print(f"{out}/clients.parquet, clients.md, clients.png, clients.svg", soft_wrap=True)


def _check_installed(clients: Sequence[str]) -> None:
    from importlib.util import find_spec

    for client in clients:
        missing = [module for module in LIBRARIES.get(client, ()) if find_spec(module) is None]
        if missing:
            raise ValueError(f"client {client} needs {', '.join(missing)}: pip install 'edgemarl[clients]'")


def versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    installed = {}
    for name in ("edgemarl", "ray", "torch", "benchmarl", "torchrl", "stable_baselines3", "supersuit"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def _file(job: ClientJob, folder: Path) -> Path:
    """Where a job's rows are kept; another setting is another file."""
    from edgemarl.launch.experiment.store import digest_of

    told = json.loads(json.dumps(job.to_dict()))
    return folder / f"{job.client}-{job.scenario}-{job.budget}-{job.seed}-{digest_of(told)[:8]}.json"


def _kept(file: Path) -> Any:
    """What a file holds; None if it is not there, or damaged, which is said."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        print(f"result {file} is damaged: it is made again", file=sys.stderr)
        return None


def _rows(size: int | None, job: ClientJob, file: Path) -> list[dict[str, float]]:
    """The rows of a job, from its file, or trained now."""
    from edgemarl.marl.studies.clients.measure import in_process_of_its_own

    kept = _kept(file)
    if kept is not None:
        rows: list[dict[str, float]] = kept["rows"]
        return rows
    rows = in_process_of_its_own(job)
    kept = {"devices": size, "job": job.to_dict(), "versions": versions(), "rows": rows}
    write_text(file, json.dumps(kept, indent=1) + "\n")
    return rows


def _finished(options: ClientsOptions, folder: Path) -> list[tuple[int | None, ClientJob, list[dict[str, float]]]]:
    """Every training of these clients in this scenario that is kept, of whatever size, seed and budget.

    Of clients that are not told their budget the longest of a size and seed.
    """
    from edgemarl.marl.studies.clients.job import ClientJob

    trained: dict[Any, tuple[int | None, ClientJob, list[dict[str, float]]]] = {}
    for file in sorted(folder.glob("[!.]*.json")):
        kept = None if file.name.startswith("reference-") else _kept(file)
        if kept is None:
            continue
        job = ClientJob.from_dict(kept["job"])
        key = (job.client, kept["devices"], job.seed, job.budget if job.client in TOLD else None)
        wanted = job.scenario == options.scenario and job.client in options.clients
        if wanted and (key not in trained or trained[key][1].budget < job.budget):
            trained[key] = (kept["devices"], job, kept["rows"])
    return sorted(trained.values(), key=lambda one: (one[0] or 0, one[1].seed))


def _references(jobs: Sequence[tuple[int | None, ClientJob]], folder: Path) -> Mapping[int | None, tuple[str, float]]:
    """Size -> the reference's name and what it costs on the same traces."""
    from edgemarl.launch.experiment.store import digest_of
    from edgemarl.marl.studies.clients.job import reference_cost

    references: dict[int | None, tuple[str, float]] = {}
    for size, job in jobs:
        if size in references:
            continue
        file = folder / f"reference-{job.scenario}-{digest_of([job.scenario, dict(job.config)])[:8]}.json"
        kept = _kept(file)
        if kept is None:
            kept = reference_cost(job)
            write_text(file, json.dumps(kept))
        references[size] = (kept[0], kept[1])
    return references


def _command(options: ClientsOptions, out: Path) -> str:
    words = ["edgemarl check clients", f"--scenario {options.scenario}"]
    if options.devices:
        words.append(f"--devices {','.join(map(str, options.devices))}")
    if options.clients != tuple(CLIENTS):
        words.append(f"--clients {','.join(options.clients)}")
    words += [f"--training-seeds {options.training_seeds}", f"--agent-steps {','.join(map(str, options.agent_steps))}"]
    return " ".join([*words, f"--out {out}"])
