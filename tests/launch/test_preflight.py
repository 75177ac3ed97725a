"""The check before `ray job submit`: the same files and the same size as the package that Ray makes."""

from __future__ import annotations

import os
from pathlib import Path
from zipfile import ZipFile

import pytest
from ray._private.ray_constants import get_runtime_env_default_excludes
from ray._private.runtime_env.packaging import create_package

from edgemarl.launch.cli import main
from edgemarl.launch.commands.preflight import planned_upload, read_runtime_env

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with ignore files at two levels, an empty folder, a virtual environment and a name beyond ASCII."""
    root = tmp_path / "project"
    files = {
        "keep.py": "x" * 100, "deep/er/keep.txt": "y" * 7, "ignored.log": "z", "data/big.bin": "b" * 5000,
        "data/kept.bin": "k", "deep/local.tmp": "t", ".gitignore": "*.log\n", "deep/.rayignore": "*.tmp\n",
        ".rayignore": "/data/*\n!/data/kept.bin\n", ".venv/lib.py": "v", ".git/HEAD": "h", "docs/straße.md": "d",
        "secret/a": "a",
    }  # fmt: skip
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "empty").mkdir()
    return root


def packaged(root: Path, target: Path, excludes: list[str]) -> dict[str, int]:
    """What Ray itself packs."""
    everything = [*get_runtime_env_default_excludes(), *excludes]
    create_package(str(root), target, include_gitignore=True, excludes=everything)
    with ZipFile(target) as package:
        return {entry.filename: entry.file_size for entry in package.infolist()}


def test_files_and_size_are_those_of_rays_package(project: Path, tmp_path: Path) -> None:
    upload = planned_upload(project, {"excludes": ["/secret/"]})
    target = tmp_path / "package.zip"
    assert upload.files == packaged(project, target, ["/secret/"])
    assert upload.package_bytes == target.stat().st_size
    assert set(upload.files) == {
        "keep.py", "deep/er/keep.txt", "data/kept.bin", ".gitignore", ".rayignore", "deep/.rayignore",
        "docs/straße.md", "empty/",
    }  # fmt: skip


def test_this_repository_is_uploaded_without_tests_and_docs() -> None:
    upload = planned_upload(ROOT, read_runtime_env(ROOT / "launch/cluster/runtime_env.yaml"))
    assert {"envs", "agents", "marl", "launch"} <= set(upload.folders())
    assert not {"tests", "docs", ".git", ".venv", "results", "runs"} & set(upload.folders())
    assert "launch/__main__.py" in upload.files
    assert upload.package_bytes < 10 * 1024**2


def test_too_large_a_package_is_one_line_and_exit_code_2(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = planned_upload(project, {}).package_bytes
    for limit, code in ((size, 2), (size + 1, 0)):  # Ray refuses what reaches its limit
        monkeypatch.setattr("ray._private.runtime_env.packaging.GCS_STORAGE_MAX_SIZE", limit)
        with pytest.raises(SystemExit) as ended:
            main(["preflight", "--working-dir", str(project)])
        said = capsys.readouterr()
        assert ended.value.code == code
        assert said.err.count("\n") == (code == 2)
    assert "keep.py" in said.out


def test_a_sparse_file_above_rays_limit_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (project / "model.pt").open("wb") as file:
        os.truncate(file.fileno(), 513 * 1024**2)
    with pytest.raises(SystemExit) as ended:
        main(["preflight", "--working-dir", str(project)])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.count("\n") == 1
    assert "model.pt" in error and "512.00 MiB" in error


@pytest.mark.parametrize(
    ("text", "message"),
    [("excludes: x", "not legal"), ("env_vars: {A: 1}", "not legal"), ("pip: [", "not YAML"), (None, "cannot be read")],
)
def test_bad_runtime_environments_are_named(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "env.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["preflight", "--working-dir", str(tmp_path), "--runtime-env", str(file)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
