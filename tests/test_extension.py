"""The example package beside EdgeMARL is listed, compared, trained, scaled and exported without an edit here."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "examples" / "extension"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """Python of an environment in which the package is installed beside this checkout, and its variables."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    packages = Path(np.__file__).parent.parent
    (site / "others.pth").write_text(f"{packages}\n{ROOT}\n{PACKAGE / 'src'}\n")
    info = site / "edgemarl_corridor-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edgemarl-corridor\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(entry_points())
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RAY_"))}
    return str(folder / "bin" / "python"), {**variables, "OMP_NUM_THREADS": "1"}


def entry_points() -> str:
    """The package's entry points as an installation writes them."""
    import tomllib

    groups = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["entry-points"]
    return "\n".join(
        line for group, names in groups.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in names.items()), "")
    )  # fmt: skip


def test_the_package_is_used_as_if_it_were_ours(python: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    program, variables = python

    def run(*words: str) -> str:
        done = subprocess.run(
            [program, "-m", "edgemarl", *words],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert "corridor" in run("scenarios")
    assert "optimum" in run("scenarios", "corridor")
    table = run("compare", "--scenario", "corridor", "--networks", "3", "--out", "out")
    assert "all_send" in table and "backlog" in table and "optimum" in table
    small = ("--agent-steps", "600", "--train", "cells=2", "--train", "slots=25")
    run("train", "--scenario", "corridor", "--algorithm", "timid_ppo", "--train", "timidity=2", *small, "--out", "run")
    assert "run" in run("compare", "--scenario", "corridor", "--controllers", "optimum,run", "--networks", "2")
    assert "device.onnx" in run("export", "run")
    mixed = ("--controllers", "random,half_speed", "--networks", "2", "--set", "num_devices=3")
    assert "half_speed" in run("compare", "--scenario", "sequential_offloading", *mixed)
    scaled = ("--controllers", "optimum,backlog", "--networks", "2")
    assert "devices" in run("scale", "--scenario", "corridor", "--devices", "3,12", *scaled)


def test_its_own_tests_pass(python: tuple[str, dict[str, str]]) -> None:
    program, variables = python
    command = [program, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE / "tests")]
    done = subprocess.run(command, cwd=PACKAGE, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compare", "--scenario", "nothing.here:Corridor"), "no module 'nothing'"),
        (("compare", "--scenario", "pathlib:Path"), "is no subclass of edgemarl.envs.Scenario"),
        (("train", "--algorithm", "pathlib:Path"), "is no subclass of edgemarl.marl.Algorithm"),
        (("compare", "--scenario", "corridor"), "unknown scenario 'corridor'"),
        (("compare", "--scenario", "sampling_rate", "--controllers", "pathlib:Path"), "must be a Controller"),
    ],
)
def test_what_is_not_there_is_one_line(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgemarl", *words],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1
