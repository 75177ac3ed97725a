"""The wheel beside a user's repository that has `envs`, `agents`, `marl` and `launch` of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgemarl.envs import scenario_names
from tests.commands import one_after_another

ROOT = Path(__file__).parent.parent
MINE = ("envs", "agents", "marl", "launch")
SMALL = "--set num_devices=3 --set episode_blocks=60"
BUDGET = "--agent-steps 320 --train cells=4 --train slots=10 --train minibatch=40"


def tracked_files(*folders: str) -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in found if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves files in its folder
    for name in tracked_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the wheel, and this environment's packages in place of downloads of its own."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    packages = Path(np.__file__).parent.parent
    (site / "others.pth").write_text(f"{packages}\n")  # the folder alone: the .pth files in it are not read
    return folder / "bin" / "python"


@pytest.fixture(params=["plain folders", "packages on PYTHONPATH"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A user's repository and the environment variables of commands in it."""
    for name in MINE:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text("raise RuntimeError('the user`s own module was imported')\n")
        if request.param != "plain folders":
            (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the user`s own package was imported')\n")
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RAY_"))}
    return tmp_path, {**outside, **({"PYTHONPATH": "."} if request.param != "plain folders" else {})}


def test_the_wheel_holds_one_package_and_its_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} - {"edgemarl"} == {
        name.split("/")[0] for name in names if ".dist-info" in name
    }
    shipped = {f"edgemarl/{name}" for name in tracked_files(*MINE) if not name.startswith("launch/cluster/")}
    assert shipped - set(names) == set()


def test_commands_and_scripts_run_there(python: Path, repository: tuple[Path, dict[str, str]]) -> None:
    folder, variables = repository

    def run(*words: str) -> str:
        found = subprocess.run(
            [str(python), *words], cwd=folder, env=variables, capture_output=True, text=True, timeout=300
        )
        assert found.returncode == 0, found.stderr[-3000:]
        return found.stdout

    assert re.fullmatch(r"edgemarl \d+\.\d+\.\d+\n", run("-m", "edgemarl", "--version"))
    where = run("-c", "import edgemarl.envs as e; print(e.__file__)")
    assert str(python.parent.parent) in where
    commands = (
        f"train {SMALL} {BUDGET} --train num_env_runners=1 --out runs/a",
        "export runs/a",
        f"compare --scenario sequential_offloading --controllers random,runs/a --networks 2 {SMALL} --out results/a",
    )
    one_after_another(str(python), commands, folder, variables)
    assert (folder / "results/a/report.html").is_file()
    assert list((folder / "runs/a/export").glob("*.onnx"))
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    script = "\n".join(examples)
    small = script.replace("num_devices=50", "num_devices=3").replace("cells=5", "cells=2")  # whole: `test_readme`
    assert small != script
    (folder / "example.py").write_text(small)
    assert "parametric_q" in run("example.py")


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "ray", "fsspec", "onnx", "onnxruntime", "optuna", "cvxpy"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Missing())
from edgemarl.launch.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("scenario", scenario_names())
def test_rules_are_compared_without_ray_and_torch(scenario: str, tmp_path: Path) -> None:
    """The plain installation: environments, rules, references, reports; training says what it needs."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", WITHOUT, *words], cwd=tmp_path, capture_output=True, text=True)

    found = run("compare", "--scenario", scenario, "--networks", "1", "--controllers", "random", "--out", "out")
    assert found.returncode == 0, found.stderr[-3000:]
    assert (tmp_path / "out" / "report.html").is_file()
    found = run("train", "--scenario", scenario, "--out", "run")
    assert (found.returncode, found.stderr) == (2, "edgemarl: this needs torch: pip install 'edgemarl[train]'\n")
