"""Change values of a contract in place: its comments, its order and its layout stay.

    amend(raw, [(("version",), "2.0.0"), ...]) -> bytes

The text of a value is replaced where it stands; what comes out is read again and must say what was meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from contracts import publishing, yaml12
from contracts.errors import Reason, SluicegateError
from contracts.yaml12 import Json, Path


def amend(raw: bytes, changes: Sequence[tuple[Path, Json]], *, name: str = "contract") -> bytes:
    """The document with other values at some paths. A last key that is not there yet is added to its map.

    Raises what `yaml12.load` raises of the document, INVALID_ARGUMENT for a path that leads nowhere.
    """
    meant = yaml12.load(raw, name=name).value
    text = raw.decode("utf-8")
    for path, value in changes:
        text = _set(text, path, value)
        meant = _with(meant, path, value)
    written = text.encode()
    if yaml12.load(written, name=name).value != meant:
        raise SluicegateError(Reason.INTERNAL, f"{name}: the amended copy does not read back as it was meant")
    return written


def _set(text: str, path: Path, value: Json) -> str:
    parent = _find(yaml.compose(text, Loader=yaml.SafeLoader), path[:-1])
    written = publishing.inline(value)
    child = _child(parent, path[-1])
    if child is not None:
        return _replaced(text, child, written)
    if not isinstance(parent, yaml.MappingNode) or not parent.value:
        raise _nowhere(path)
    last_key, last = parent.value[-1]
    end = _end(last)
    if parent.flow_style:
        return f"{text[:end]}, {path[-1]}: {written}{text[end:]}"
    return f"{text[:end]}\n{' ' * last_key.start_mark.column}{path[-1]}: {written}{text[end:]}"


def _replaced(text: str, node: yaml.Node, written: str) -> str:
    before = text[: node.start_mark.index]
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and before.rstrip(" \n").endswith(":"):
        before = before.rstrip(" \n") + " "  # a block began on a line of its own
    return before + written + text[_end(node) :]


def _end(node: yaml.Node) -> int:
    """Where the text of a node ends: a block's, with that of its last part."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    end: int = node.end_mark.index
    return end


def _find(node: yaml.Node | None, path: Path) -> yaml.Node:
    for key in path:
        node = _child(node, key)
    if node is None:
        raise _nowhere(path)
    return node


def _child(node: yaml.Node | None, key: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        found: yaml.Node = node.value[key]
        return found
    return None


def _with(value: Any, path: Path, new: Json) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        return {**value, path[0]: _with(value.get(str(path[0])), path[1:], new)}
    return [_with(item, path[1:], new) if index == path[0] else item for index, item in enumerate(value)]


def _nowhere(path: Path) -> SluicegateError:
    return SluicegateError(Reason.INVALID_ARGUMENT, f"the contract has nothing at {'.'.join(map(str, path))}")
