"""`export`: the policies of a training run as files that run without this project and without Ray."""

from __future__ import annotations

from pathlib import Path

from edgemarl.agents.trained.export import FORMATS, export_policy
from edgemarl.agents.trained.policy import TrainedPolicy
from edgemarl.envs.config import unknown_name
from edgemarl.marl.training.trained import named_run, saved_policies


def export(run: Path, form: str, out: Path | None) -> None:
    """Export every role's policy of a run and say what goes in and what comes out.

    Args:
        run: folder of a training run, or one policy file of it.
        form: `onnx` or `torchscript`.
        out: folder of the files; default: `export` in the run's folder.

    Raises:
        ValueError: unknown format, no policy there, a folder that cannot be written.
    """
    suffixes = {name: suffix for suffix, name in FORMATS.items()}
    if form not in suffixes:
        raise ValueError(unknown_name("export format", form, suffixes))
    run = named_run(run)
    policies = {run.stem: TrainedPolicy.load(run)} if run.is_file() else saved_policies(run).policies
    folder = out or (run.parent.parent if run.is_file() else run) / "export"
    for name, policy in policies.items():
        target = folder / (name + suffixes[form])
        try:
            print(f"{target}: {export_policy(policy, target)}")
        except OSError as error:
            raise ValueError(f"output folder {folder} cannot be written: {error.strerror or error}") from None
    print("the file's metadata names every number of a row and of an action, with unit, scale and bounds")
