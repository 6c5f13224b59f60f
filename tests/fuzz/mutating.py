"""Spoils good inputs: bytes anywhere, and values inside JSON, where random bytes would only break the form."""

from __future__ import annotations

import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**53 + 1,
    2**64,
    10**400,
    -0.0,
    1e308,
    "",
    "\x00",
    "\x1b]8;;x\x1b\\",
    "\u202e",
    "é" * 70,
    "sha256:" + "0" * 64,
    "2026-02-30T25:61:61Z",
    "9999-12-31T23:59:59Z",
    "P9999999999Y",
    "../../etc",
    [],
    {},
    [[]],
    {"": {}},
)
PIECES = (b"\x00", b"\xff\xfe", b"'", b'"', b"\n", b"- ", b": ", b"[" * 99, b"&a ", b"*a ", b"!!x ")


def spoilt(data: bytes, chance: random.Random) -> bytes:
    """Another input, near this one."""
    if chance.random() < 0.6:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            pass
        else:
            for _ in range(chance.choice((1, 1, 2, 5))):
                value = _value(value, chance)
            return json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    raw = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        _bytes(raw, chance)
    return bytes(raw)


def _bytes(raw: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(raw) + 1)
    match chance.randrange(5):
        case 0 if raw:
            raw[at % len(raw)] ^= 1 << chance.randrange(8)
        case 1:
            raw[at:at] = chance.choice(
                (b"\x00", b"\xff\xfe", b"'", b'"', b"\n", b"- ", b": ", b"[" * 99, b"&a ", b"*a ", b"!!x ")
            )
        case 2:
            del raw[at : at + chance.choice((1, 2, 16, 4096))]
        case 3:
            raw[at:at] = raw[at : at + chance.choice((1, 8, 64, 1024))]
        case _:
            raw[at : at + 4] = chance.randbytes(4)


def _value(value: Any, chance: random.Random) -> Any:
    """The same with one place in it changed."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        rest = dict(value)
        match chance.randrange(8):
            case 0:
                del rest[name]
            case 1:
                rest[f"{name}x"] = rest.pop(name)
            case 2:
                rest[chance.choice(("extra", "version", "payload", "__class__"))] = chance.choice(ODD)
            case _:
                rest[name] = _value(rest[name], chance)
        return rest
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        match chance.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value, value[at]]
            case 2:
                return value * 50
            case _:
                return [*value[:at], _value(value[at], chance), *value[at + 1 :]]
    if isinstance(value, str) and value and chance.random() < 0.5:
        at = chance.randrange(len(value))
        return value[:at] + chance.choice(("", "A", "\x1b", "é", value[at:])) + value[at + 1 :]
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        return value + chance.choice((-1, 1, 2**31, -(2**63), 600))
    return chance.choice(ODD)
