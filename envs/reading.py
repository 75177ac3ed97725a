"""YAML of the user's own, read in bounded time and memory: whatever it holds is plain values or one readable line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from edgemarl.envs.config import cut

BYTES_MAX = 1_000_000
"""Largest YAML file that is read."""
DEPTH_MAX = 50
"""Brackets within brackets."""
NODES_MAX = 100_000
"""Values that a file may hold once aliases are written out."""


def read_yaml(path: Path | str, what: str) -> Any:
    """The plain values of a YAML file.

    Args:
        path: the file.
        what: names it in messages, such as "preset mine.yaml".

    Raises:
        ValueError: it cannot be read, is too large, is not UTF-8, is not YAML or stands for too many values.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a null character in the name
        raise ValueError(f"{what} cannot be read: {error}") from None
    if len(content) > BYTES_MAX:
        raise ValueError(f"{what} has more than {BYTES_MAX:,} bytes: no such file is that large")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} is not UTF-8 at byte {error.start}: save it as UTF-8") from None
    return parse_yaml(text, what)


def read_mapping(path: Path | str, what: str) -> dict[str, Any]:
    """A YAML file that maps texts to values.

    Raises:
        ValueError: as `read_yaml`, or it holds something else.
    """
    content = read_yaml(path, what)
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{what} must map names to values, one `name: value` per line")
    return content


def parse_yaml(text: str, what: str) -> Any:
    """The plain values of YAML text.

    Raises:
        ValueError: not YAML, nested too deeply, or aliases that stand for too many values.
    """
    try:
        return yaml.load(text, Loader=_BoundedLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise ValueError(
            f"{what} is not YAML{where}: {cut(error.problem or error.context or 'not readable')}"
        ) from None
    except _CONVERSION as error:  # the parser lets those of its conversions through: a month of 13, `!!int x`
        raise ValueError(f"{what} is not YAML: {cut(str(error)) or type(error).__name__}") from None


_CONVERSION = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class _BoundedLoader(yaml.SafeLoader):
    """Plain YAML whose nesting and written-out size are bounded before any value is made."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise yaml.YAMLError(f"more than {DEPTH_MAX} brackets within each other")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _written_out(node, {}, set())
        return node


def _written_out(node: yaml.Node, known: dict[int, int], open_nodes: set[int]) -> int:
    """Nodes of a node once every alias in it is written out.

    Raises:
        yaml.YAMLError: more than `NODES_MAX`, or a node that holds itself.
    """
    if id(node) in open_nodes:
        raise yaml.YAMLError("an alias within what it stands for")
    if id(node) not in known:
        open_nodes.add(id(node))
        known[id(node)] = 1 + sum(_written_out(child, known, open_nodes) for child in _children(node))
        open_nodes.remove(id(node))
    if known[id(node)] > NODES_MAX:
        raise yaml.YAMLError(f"it stands for more than {NODES_MAX:,} values")
    return known[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def is_file(name: str) -> bool:
    """Whether a text names a file; no text that cannot be a path does."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def exists(name: str) -> bool:
    """Whether a text names a file or folder; no text that cannot be a path does."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False
