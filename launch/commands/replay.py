"""`replay`: from the command line's words to a moving picture of an episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemarl.agents.registry import is_controller, make_policy, playbook_of, targets_in
from edgemarl.envs.config import names_of_part, unknown_name
from edgemarl.envs.registry import make_scenario, scenario_class
from edgemarl.envs.scenario import Scenario
from edgemarl.launch.experiment.plan import parse_overrides
from edgemarl.launch.experiment.played import TraceFile, check_apart, file_network, file_scenario, played_trace
from edgemarl.launch.experiment.trained import loaded_policy
from edgemarl.launch.progress import Bars

if TYPE_CHECKING:
    from edgemarl.marl.algorithms.settings import RunFields


def replay_command(
    controllers: Sequence[str], scenario: str | None, out: Path, slots: int, first: int | None, trace: Path | None,
    settings: Sequence[str], seed: int, fps: float,
) -> None:  # fmt: skip
    """Play one controller or two and write the file.

    Raises:
        ValueError: no scenario, an unknown controller, anything that `edgemarl.launch.replay.replay` rejects.
    """
    from edgemarl.launch.replay.writers import check_form, first_shown, replay

    check_form(out)
    name = scenario or _scenario_of(controllers, trace)
    played = make_scenario(name, **{**_network_of(controllers, trace, name), **parse_overrides(settings)})
    policies = [_policy(played, controller) for controller in controllers]
    given = None if trace is None else _trace(trace, played, controllers, seed)
    begin = first_shown(first, slots, given)
    with Bars() as bars:
        replay(
            played, policies, out, slots=slots, first=begin, trace=given, seed=seed, fps=fps,
            progress=lambda done, total: bars("pictures", done, total),
        )  # fmt: skip
    print(f"{out}: slots {begin} to {begin + slots - 1}, {out.stat().st_size / 1e6:.2f} MB")


def _runs(controllers: Sequence[str]) -> list[RunFields]:
    """Settings of those controllers that are folders of runs."""
    from edgemarl.marl.training.folder import RunFolder
    from edgemarl.marl.training.trained import run_fields

    runs = [RunFolder(Path(name)) for name in controllers]
    return [run_fields(run.settings(), run.config) for run in runs if run.config.is_file()]


def _scenario_of(controllers: Sequence[str], trace: Path | None) -> str:
    """The scenario that a run or a trace file is of."""
    named = [run.scenario for run in _runs(controllers)]
    name = named[0] if named else None if trace is None else file_scenario(trace)
    if name is None:
        raise ValueError("replay needs --scenario NAME, a training run or a trace file that says of which it is")
    return str(name)


def _network_of(controllers: Sequence[str], trace: Path | None, scenario: str) -> dict[str, Any]:
    """The network's config fields: those of the trace file, else those in which the first run was trained.

    Beside a class of the user's own the forms of rows and actions are the scenario's, which it is written for; a run
    is translated, as in a comparison.
    """
    if trace is not None:
        return file_network(trace, scenario)
    name = scenario_class(scenario).name
    fields = next((dict(run.set) for run in _runs(controllers) if run.scenario in (scenario, name)), {})
    if not any(targets_in(controller) for controller in controllers):
        return fields
    forms = names_of_part(scenario_class(scenario).config_type, "interface")
    return {field: value for field, value in fields.items() if field not in forms}


def _policy(scenario: Scenario, name: str) -> Any:
    if is_controller(scenario, name):
        return make_policy(scenario, name)
    if not Path(name).exists():
        raise ValueError(
            unknown_name("controller", name, playbook_of(scenario).controllers, f"edgemarl scenarios {scenario.name}")
        )
    policy = loaded_policy(Path(name), scenario).policy
    policy.name = Path(name).name
    return policy


def _trace(path: Path, scenario: Scenario, controllers: Sequence[str], seed: int) -> Any:
    """The first cell of a trace file."""
    file = TraceFile(path)
    played = played_trace(file, {"": scenario}, seed, None, None)
    check_apart(file, played.file_slots, [Path(name) for name in controllers if Path(name).is_dir()])
    return played.loaded.trace
