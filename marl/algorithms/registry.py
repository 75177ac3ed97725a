"""Names of learning algorithms -> classes: the files of this folder, installed packages, targets of the user's own."""

from __future__ import annotations

import dataclasses
import pkgutil
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import edgemarl.marl.algorithms as here
from edgemarl.envs.config import unknown_name
from edgemarl.envs.targets import is_target, load_target
from edgemarl.marl.algorithms.base import Algorithm

GROUP = "edgemarl.algorithms"
"""Entry points of other packages: name of the algorithm = "module:Class"."""
_OTHER = ("base", "registry", "settings")


@cache
def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


@cache
def shipped() -> tuple[str, ...]:
    """The algorithms of this folder, each a file or a folder of its name."""
    return tuple(module.name for module in pkgutil.iter_modules(here.__path__) if module.name not in _OTHER)


def algorithm_names() -> tuple[str, ...]:
    """The algorithms that have a name here."""
    return (*shipped(), *_installed())


def make_algorithm(name: str) -> Algorithm:
    """An algorithm by name, "module:Class" or "path/to/file.py:Class".

    Raises:
        ValueError: unknown name, the message lists the known ones; a target that is no algorithm.
    """
    return _algorithm(name)()


@cache
def _algorithm(name: str) -> type[Algorithm]:
    if name in shipped():
        module = import_module(f"{here.__name__}.{name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Algorithm) and getattr(value, "name", "") == name:
                return value
        raise ValueError(f"{module.__name__} holds no algorithm named '{name}'")
    if name in _installed():
        return _checked(load_target(_installed()[name].value, "algorithm"), name)
    if is_target(name):
        return _checked(load_target(name, "algorithm"), name)
    raise ValueError(unknown_name("algorithm", name, algorithm_names()))


def _checked(candidate: Any, name: str) -> type[Algorithm]:
    if not (isinstance(candidate, type) and issubclass(candidate, Algorithm)):
        raise ValueError(f"algorithm '{name}' is no subclass of edgemarl.marl.Algorithm")
    return candidate


def owners(setting: str) -> list[str]:
    """The algorithms of this folder that have a setting."""
    return [name for name in shipped() if setting in setting_names(make_algorithm(name))]


def setting_names(algorithm: Algorithm) -> tuple[str, ...]:
    """The fields of an algorithm's settings."""
    return tuple(field.name for field in dataclasses.fields(algorithm.Settings))
