"""The example package beside EdgeMARL is listed, compared, trained, scaled and exported without an edit here."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest

from edgemarl.launch.cli import main
from tests.commands import one_after_another

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


COMMANDS = (
    "scenarios",
    "scenarios corridor",
    "compare --scenario corridor --networks 3 --out out",
    "train --scenario corridor --algorithm timid_ppo --train timidity=2 --agent-steps 600 --train cells=2"
    " --train slots=25 --out run",
    "compare --scenario corridor --controllers optimum,run --networks 2",
    "export run",
    "compare --scenario sequential_offloading --controllers random,half_speed --networks 2 --set num_devices=3",
    "scale --scenario corridor --devices 3,12 --controllers optimum,backlog --networks 2",
)


def test_the_package_is_used_as_if_it_were_ours(python: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    program, variables = python
    one_after_another(program, COMMANDS, tmp_path, variables)
    told = [(tmp_path / f"{i}.txt").read_text() for i in range(len(COMMANDS))]
    expected = [
        ("corridor",), ("optimum",), ("all_send", "backlog", "optimum"), (), ("run",), ("device.onnx",),
        ("half_speed",), ("devices",),
    ]  # fmt: skip
    for text, words, command in zip(told, expected, COMMANDS, strict=True):
        assert all(word in text for word in words), f"{command}\n{text}"


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
def test_what_is_not_there_is_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
