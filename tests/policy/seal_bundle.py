"""After a change of a policy: write the input's JSON Schema and the bundle's digest into the bundle.

python tests/policy/seal_bundle.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from contracts.policy.shipped import DIGEST_DOCUMENT, belongs, digest_of

ROOT = Path(__file__).parents[2] / "contracts" / "policy" / "bundle"
SCHEMA = ROOT / "schemas" / "input.json"
SHAPES = ROOT / "sluicegate" / "shapes" / "data.json"

_WORDS = {"type": "array", "items": {"type": "string"}}
_NAMES = {"type": "object", "additionalProperties": {"type": "boolean"}}
# What the tables say more generally: members of lists and objects.
_MEMBERS: dict[str, dict[str, Any]] = {
    "together": {"type": "array", "items": _WORDS},
    "l": {"type": "object", "additionalProperties": {"type": "number"}},
}


def files() -> dict[str, bytes]:
    """The bundle's files as they lie in the source tree."""
    found = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if belongs(name)}


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the policy's input, out of the table that the policy itself checks by."""
    shapes = json.loads(SHAPES.read_text())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Input of data.sluicegate.decision",
        "description": "Every key is required; null only where a type allows it. Instants are epoch seconds.",
        "oneOf": [_action(action, keys, shapes) for action, keys in shapes["actions"].items()],
    }


def _action(action: str, keys: dict[str, str], shapes: dict[str, Any]) -> dict[str, Any]:
    parts = {tuple(path): name for name, path in shapes["parts"][action].items()}
    whole = {("plan", "sample"): "sample", ("plan", "suppress_small"): "small", ("plan", "bounds"): "bounds"}
    offered = {tuple(path): name for name, path in shapes["offer_parts"].items()} | whole

    def shape(forms: list[dict[str, str]], at: tuple[str, ...], known: dict[tuple[str, ...], str]) -> dict[str, Any]:
        properties = {key: member(key, {form[key] for form in forms}, (*at, key), known) for key in forms[0]}
        return _closed(properties)

    def member(key: str, types: set[str], at: tuple[str, ...], known: dict[tuple[str, ...], str]) -> dict[str, Any]:
        if at in known:
            inner = shape(shapes["tables"][known[at]], at, known)
            others = [shape(shapes["tables"]["noise"], at, known)] if known[at] == "bounds" else []
            return {"anyOf": [inner, *others, {"type": "null"}]} if "null" in types else inner
        if key == "groups":
            return {"type": "array", "items": shape(shapes["tables"]["group"], (), {})}
        if key == "purpose" and types == {"object"}:
            return shape(shapes["tables"]["purpose"], (), offered)
        if key == "purposes":
            return {"type": "array", "items": shape(shapes["tables"]["purpose"], (), offered)}
        if types == {"array"}:
            return _MEMBERS.get(key, _WORDS)
        if types == {"object"}:
            return _MEMBERS.get(key, _NAMES)
        return {"type": types.pop() if len(types) == 1 else sorted(types)}

    properties = {key: member(key, {type_}, (key,), parts) for key, type_ in keys.items()}
    return _closed({**properties, "action": {"const": action}})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False}


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(), indent=1) + "\n")
    (ROOT / DIGEST_DOCUMENT).write_text(json.dumps({"digest": digest_of(files())}) + "\n")
