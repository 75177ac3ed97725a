"""Imports run in one direction, envs <- agents <- marl <- launch, and each package needs what is listed here alone."""

from __future__ import annotations

import ast
import functools
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("envs", "agents", "marl", "launch")
THIRD_PARTY = {
    "envs": {"numpy", "gymnasium", "pettingzoo", "pydantic", "numba", "matplotlib", "yaml", "typing_extensions"},
    "agents": {"numpy", "gymnasium", "numba", "scipy", "torch", "onnx", "onnxruntime"},
    "marl": {
        "numpy", "gymnasium", "pydantic", "scipy", "pandas", "pyarrow", "fsspec", "torch", "ray", "psutil", "yaml",
        "filelock",
    },
    "launch": {
        "numpy", "pandas", "pyarrow", "pydantic", "yaml", "typer", "rich",
        "matplotlib", "jinja2", "PIL", "torch", "ray", "tensorboardX",
    },
}  # fmt: skip
"""What a layer may import beside the standard library and the layers below it."""
FURTHER = {
    "marl/benchmarks/model_partitioning.py": {"cvxpy"},
    "agents/clients/sb3.py": {"stable_baselines3"},
    "agents/clients/benchmarl_task.py": {"benchmarl", "torchrl"},
    "marl/studies/clients/benchmarl_client.py": {"benchmarl"},
    "marl/studies/clients/sb3_client.py": {"stable_baselines3", "supersuit"},
    "agents/clients/torchrl.py": {"tensordict", "torchrl", "benchmarl"},
}
"""Files of a layer that may import more; they load it when they are called."""


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """What a file consists of."""
    return [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere; relative ones with their dots."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def sources(layer: str) -> list[Path]:
    found = sorted((ROOT / layer).rglob("*.py"))
    assert found
    return found


def dotted(path: Path) -> str:
    """`edgemarl.envs.config` of envs/config.py."""
    return ".".join(["edgemarl", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_layers_below_and_listed_packages_alone(layer: str) -> None:
    below = {f"edgemarl.{name}" for name in LAYERS[: LAYERS.index(layer) + 1]}
    for path in sources(layer):
        where = path.relative_to(ROOT).as_posix()
        allowed = THIRD_PARTY[layer] | FURTHER.get(where, set()) | set(sys.stdlib_module_names)
        for name in imports(path):
            if name == "edgemarl":  # the version
                assert layer == "launch", f"{where} imports {name}"
            elif name.startswith("edgemarl."):
                assert ".".join(name.split(".")[:2]) in below, f"{where} imports {name}"
            else:
                assert name.split(".")[0] in allowed, f"{where} imports {name}"


def test_listed_packages_are_installed_by_the_project() -> None:
    """Every package of the lists is a dependency, or comes with one (psutil is Ray's)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["train"], *extras["export"]]
    names = {line.split("[")[0].split(">")[0].split("=")[0].strip().lower() for line in lines}
    called = {
        "yaml": "pyyaml",
        "typing_extensions": "typing-extensions",
        "PIL": "pillow",
        "tensorboardX": "tensorboardx",
    }
    listed = {called.get(name, name) for found in THIRD_PARTY.values() for name in found}
    assert listed - {"psutil"} <= names


def test_no_module_imports_itself_over_others() -> None:
    """No circle of imports, also not of those for types only."""
    modules = {dotted(path): path for layer in LAYERS for path in sources(layer)}
    graph = {
        name: {n for n in imports(path) if n in modules and n != name}
        | {
            f"{node.module}.{alias.name}"
            for node in nodes(path)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
            if f"{node.module}.{alias.name}" in modules
        }
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_build_knows_every_package() -> None:
    """`packages` of pyproject.toml is written by hand: names that are no folders cannot be found by setuptools."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {dotted(path) for layer in LAYERS for path in sources(layer) if path.name == "__init__.py"}
    assert sorted(listed) == listed
    assert set(listed) == folders | {"edgemarl"}
    for layer in LAYERS:
        for path in sources(layer):
            assert (path.parent / "__init__.py").is_file(), f"{path} is in no package"


def test_a_class_name_means_one_class() -> None:
    where: dict[str, str] = {}
    for layer in LAYERS:
        for path in sources(layer):
            for node in nodes(path):
                if isinstance(node, ast.ClassDef):
                    assert node.name not in where, f"{node.name} is in {where[node.name]} and {path.relative_to(ROOT)}"
                    where[node.name] = str(path.relative_to(ROOT))


def test_functions_fit_on_a_screen_and_files_hold_one_concept() -> None:
    for layer in LAYERS:
        for path in sources(layer):
            text = path.read_text(encoding="utf-8")
            assert text.count("\n") <= 600, f"{path.relative_to(ROOT)} has {text.count(chr(10))} lines"
            for node in nodes(path):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = (node.end_lineno or node.lineno) - node.lineno
                    assert lines <= 60, f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines"
