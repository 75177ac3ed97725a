"""`module:Name` and `path/to/file.py:Name`: how something that is not ours is named, and how it is loaded."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import traceback
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

_TARGET = re.compile(r"(?P<file>[^:]+\.py)?(?(file)|(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)):(?P<name>[A-Za-z_]\w*)")


def is_target(text: str) -> bool:
    """Whether a text has one of the two forms."""
    return _TARGET.fullmatch(text) is not None


def load_target(text: str, what: str) -> Any:
    """What a target names.

    A module is looked for among installed packages, then in the working folder; a file is read from its path, so that
    its name meets no package's. Folders of files are searched for what these import.

    Args:
        text: "module:Name" or "path/to/file.py:Name".
        what: what it is to be, for messages, such as "controller".

    Raises:
        ValueError: another form, a module or file that is not there or does not load, a name that it does not have.
    """
    target = _TARGET.fullmatch(text)
    if target is None:
        raise ValueError(f"{what} '{text}' is not legal: must be module:Name or path/to/file.py:Name")
    file, name = target["file"], target["name"]
    module = _file_module(Path(file), text, what) if file else _module(target["module"], text, what)
    if not hasattr(module, name):
        public = ", ".join(n for n in vars(module) if not n.startswith("_"))[:300]
        raise ValueError(f"{what} '{text}': {file or target['module']} has no '{name}'; it has {public or 'no names'}")
    return getattr(module, name)


def _module(name: str, text: str, what: str) -> ModuleType:
    _search(os.getcwd())
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(
                f"{what} '{text}': no module '{error.name}' is installed or in the working folder {os.getcwd()}"
            ) from None
        raise ValueError(_failure(error, text, what)) from error
    except Exception as error:
        raise ValueError(_failure(error, text, what)) from error


def _file_module(path: Path, text: str, what: str) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"{what} '{text}': file {path} does not exist")
    whole = path.resolve()
    name = f"edgemarl_file_{hashlib.sha256(str(whole).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, whole)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    _search(str(whole.parent))
    sys.modules[name] = module  # dataclasses look their module up while it loads
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(_failure(error, text, what)) from error
    return module


def _search(folder: str) -> None:
    """Search a folder after all others: it must not take the place of installed packages."""
    if folder not in sys.path:
        sys.path.append(folder)


def _failure(error: BaseException, text: str, what: str) -> str:
    """One line that says what went wrong while a user's module loaded, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{last.filename}, line {last.lineno}"
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    return f"{what} '{text}' does not load: {type(error).__name__}: {error} ({where})"
