"""The files of launch/cluster: Ray accepts them, their versions are the pinned ones, their commands are ours."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv

from edgemarl.launch.cli import app

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "launch" / "cluster"


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


def pins(lines: list[str]) -> dict[str, str]:
    return dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)


def test_runtime_env_is_accepted_and_limits_threads() -> None:
    accepted = RuntimeEnv(**load("runtime_env.yaml"))
    assert accepted["env_vars"]["OMP_NUM_THREADS"] == "1"
    assert accepted["pip"]["packages"]


def test_runtime_env_pins_the_constraints_versions_of_every_dependency() -> None:
    pinned = pins(load("runtime_env.yaml")["pip"]["packages"])
    constraints = pins((ROOT / "constraints.txt").read_text().splitlines())
    assert {name: constraints[name] for name in pinned} == pinned
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    names = {re.split(r"[\[<>=]", line)[0].lower() for line in needed} - {"ray"}
    assert names <= set(pinned)


def test_cluster_file_is_a_legal_ray_cluster_with_authentication() -> None:
    config = load("cluster.yaml")
    validate_config(prepare_config(dict(config)))
    for command in [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]:
        assert "ray start" not in command or "RAY_AUTH_MODE=token" in command
    assert any(target.endswith("/.ray/auth_token") for target in config["file_mounts"])


def test_images_and_manifests_name_the_pinned_ray() -> None:
    ray = version("ray")
    assert pins((ROOT / "constraints.txt").read_text().splitlines())["ray"] == ray
    assert f"rayproject/ray:{ray}-" in load("cluster.yaml")["docker"]["image"]
    assert f"FROM rayproject/ray:{ray}-" in (FOLDER / "Dockerfile").read_text()
    assert load("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == ray


def test_rayjob_has_what_kuberay_requires() -> None:
    job = load("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["metadata"]["name"]
    spec = job["spec"]
    assert spec["entrypointNumCpus"] >= 1  # not on the head
    assert spec["backoffLimit"] >= 1  # a job that failed is submitted again and resumes
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert group["template"]["spec"]["containers"][0]["resources"]["limits"]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    accepted = RuntimeEnv(**yaml.safe_load(spec["runtimeEnvYAML"]))
    assert accepted["env_vars"] == load("runtime_env.yaml")["env_vars"]


@pytest.mark.parametrize("name", ["rayjob.yaml", "README.md", "../../docs/cluster.md"])
def test_commands_of_files_and_pages_exist_with_their_options(name: str) -> None:
    """Every `python -m launch COMMAND --option` of the page is one that the command line knows."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = (FOLDER / name).read_text().replace("\\\n", " ")
    if name.endswith(".yaml"):
        text = yaml.safe_load(text)["spec"]["entrypoint"]
    found = re.findall(r"python -m launch (\w+)([^`\n]*)", text)
    assert found
    for command, rest in found:
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert set(re.findall(r"(?<=\s)--[\w-]+", rest)) <= known, command
