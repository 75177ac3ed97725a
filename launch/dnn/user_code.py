"""Running code that is not ours: whatever goes wrong in it becomes one line that names the place."""

from __future__ import annotations

import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from edgemarl.envs.targets import load_target

if TYPE_CHECKING:
    from torch import nn

LONGEST = 300
"""Characters of somebody else's message that are shown."""
_HERE = Path(__file__).parent
_OURS = (
    "user_code", "tape", "recording", "state", "trace", "work", "profiler", "pruning", "profile_command",
    "prune_command",
)  # fmt: skip
_MACHINERY = {str(_HERE / f"{name}.py") for name in _OURS}
_LIBRARIES = re.compile(r"-packages.(torch|numpy|edgemarl|pandas)\b")
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Refused(ValueError):
    """What we say about a network; it passes through `user_code` as it is."""


@contextmanager
def user_code(doing: str) -> Iterator[None]:
    """Run somebody else's code inside; its warnings are left out.

    Args:
        doing: what failed, such as "factory 'nets:make' fails".

    Raises:
        Refused: the code raised anything, or left the program.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (Refused, KeyboardInterrupt):
            raise
        except BaseException as error:  # also one that leaves the program
            raise Refused(f"{doing}: {summary(error)}") from error


def summary(error: BaseException) -> str:
    """Kind, message and place of an error, in one line."""
    lines = [line.strip() for line in _text(error).splitlines() if line.strip()]
    message = lines[0] if lines else ""
    if isinstance(error, SystemExit):
        message = f"the code left the program ({' '.join(str(error.code).split())})"
    if len(message) > LONGEST:
        message = message[:LONGEST] + " ..."
    kind = "" if isinstance(error, SystemExit) else type(error).__name__
    where = script_place(error) or place(_frames_of(error))
    said = ": ".join(part for part in (kind, message) if part)
    return f"{said} ({where})" if where else said


def _frames_of(error: BaseException) -> list[tuple[FrameType, int]]:
    """Frames and lines of an error, innermost first."""
    frames, at = [], error.__traceback__
    while at is not None:
        frames.append((at.tb_frame, at.tb_lineno))
        at = at.tb_next
    return frames[::-1]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the user's own error may not be printable
        return ""


def script_place(error: BaseException | None) -> str:
    """File and line of an error in TorchScript, which has no frames of Python."""
    text = "" if error is None else _text(error)
    lines = re.findall(r'File "([^"]+)", line (\d+), in', text) if "TorchScript" in text else []
    return f"{lines[-1][0]}, line {lines[-1][1]}" if lines else ""


def network_name(module: nn.Module) -> str:
    """Class of a module, for messages; TorchScript has its own."""
    return str(getattr(module, "original_name", None) or type(module).__name__)


def current_frames() -> list[tuple[FrameType, int]]:
    """Frames and lines of what runs now, innermost first, down to the code that began to run the user's."""
    frames = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    begin = [i for i, (frame, _) in enumerate(frames) if frame.f_code.co_name == "_call_module"]
    return frames[: begin[0]] if begin else frames


def place(frames: list[tuple[FrameType, int]]) -> str:
    """The user's file and line among frames, and the innermost module of a network."""
    parts = []
    all_files = [(f.f_code.co_filename, line) for f, line in frames]
    others = [(file, line) for file, line in all_files if file not in _MACHINERY and not file.startswith("<")]
    own = [(file, line) for file, line in others if not file.startswith(_INSTALLED)]
    packages = [(file, line) for file, line in others if "-packages" in file and not _LIBRARIES.search(file)]
    files = own or packages
    if files:
        parts.append(f"{files[0][0]}, line {files[0][1]}")
    name = _innermost_module(frames)
    if name:
        parts.append(f"in module {name}")
    return ", ".join(parts)


def _innermost_module(frames: list[tuple[FrameType, int]]) -> str:
    """Path and class of the innermost module whose `forward` is on the way."""
    if "torch" not in sys.modules:
        return ""
    from torch import nn

    called = [
        f.f_locals["self"] for f, _ in frames if f.f_code.co_name in ("forward", "_call_impl") and "self" in f.f_locals
    ]
    modules = [module for module in called if isinstance(module, nn.Module)]
    if len(modules) < 2 or modules[0] is modules[-1]:
        return ""
    paths = {id(part): path for path, part in modules[-1].named_modules()}
    inner = next((part for part in modules if paths.get(id(part))), None)
    return "" if inner is None else f"'{paths[id(inner)]}' ({type(inner).__name__})"


def load_factory(target: str, what: str) -> Callable[[], Any]:
    """A function without arguments that a target names.

    Args:
        target: "module:Name" or "path/to/file.py:Name".
        what: what it is to be, for messages.

    Raises:
        ValueError: a target that is none or does not load, something that cannot be called.
    """
    with user_code(f"{what} '{target}' does not load"):
        try:
            loaded = load_target(target, what)
        except ValueError as error:
            raise Refused(_short(str(error))) from error
    if not callable(loaded):
        raise ValueError(
            f"{what} '{target}' is a {type(loaded).__name__}, must be a function or class without arguments"
        )
    factory: Callable[[], Any] = loaded
    return factory


def load_module(target: str) -> nn.Module:
    """The module that a target names or makes.

    Raises:
        ValueError: nothing there, code that fails, or no `torch.nn.Module`.
    """
    import torch

    factory = load_factory(target, "network")
    if isinstance(factory, torch.nn.Module):
        return factory
    return made_module(factory, target)


def made_module(factory: Callable[[], Any], target: str) -> nn.Module:
    """What a factory makes.

    Raises:
        ValueError: the factory fails, or makes no `torch.nn.Module`.
    """
    import torch

    with user_code(f"network '{target}' cannot be made"):
        made = factory()
    if not isinstance(made, torch.nn.Module):
        raise ValueError(f"network '{target}' gives a {type(made).__name__}, must be or make a torch.nn.Module")
    return made


def _short(message: str) -> str:
    """A message in one line of bearable length: beginning and end, where the place is."""
    line = " ".join(message.split())
    return line if len(line) <= 2 * LONGEST else f"{line[:LONGEST]} ... {line[-LONGEST:]}"
