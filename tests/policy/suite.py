"""Scenario files as data: base inputs, one change each, and what must follow."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from contracts.policy.engine import Action

FOLDER = Path(__file__).parent / "scenarios"
_BASE = yaml.safe_load((FOLDER / "base.yaml").read_text())


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a scenario file."""

    name: str
    file: str
    action: Action
    set: dict[str, Any] = {}
    unset: list[str] = []
    allow: bool = False
    codes: list[str] = []
    fields: list[str] | None = None
    obligations: list[str] | None = None

    def input(self) -> dict[str, Any]:
        """The base input with this scenario's change."""
        value = base(self.action)
        for path, new in self.set.items():
            parent, key = locate(value, path)
            parent[key] = copy.deepcopy(new)
        for path in self.unset:
            parent, key = locate(value, path)
            del parent[key]
        return value


def base(action: Action) -> dict[str, Any]:
    """A fresh copy of the whole, allowed input of that action, no part shared with another."""
    return _unshared(_BASE["inputs"][action])


def optional(path: tuple[str, ...]) -> bool:
    """Whether null is allowed at that path."""
    return any(
        len(listed) == len(path) and all(one in ("*", other) for one, other in zip(listed, path, strict=True))
        for listed in (entry.split("/") for entry in _BASE["optional"])
    )


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def locate(value: Any, path: str) -> tuple[Any, Any]:
    """The container that holds the last step of a path, and its key or index there."""
    steps = path.split("/")
    for step in steps[:-1]:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value, int(steps[-1]) if isinstance(value, list) else steps[-1]


def paths(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key and every list position below a value, outermost first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, str(key))
        yield from paths(item, (*at, str(key)))


def scenarios() -> list[Scenario]:
    """Every scenario of every file."""
    found: list[Scenario] = []
    for path in sorted(FOLDER.glob("*.yaml")):
        document = yaml.safe_load(path.read_text())
        if "scenarios" in document:
            found += [
                Scenario(file=path.stem, action=Action(document["action"]), **entry) for entry in document["scenarios"]
            ]
    return found
