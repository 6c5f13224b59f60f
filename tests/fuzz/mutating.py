"""Spoils good inputs: bytes anywhere, and values inside JSON and messages, where random bytes would only break
the form; and signs what was spoilt again, so that it comes further than the first signature."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from contracts.envelope import Envelope, Kind, SigningKey, claimed_kid, countersign
from contracts.errors import SluicegateError

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
            raw[at:at] = chance.choice(PIECES)
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
                return (value * 50)[:100]
            case _:
                return [*value[:at], _value(value[at], chance), *value[at + 1 :]]
    if isinstance(value, str) and value and chance.random() < 0.5:
        at = chance.randrange(len(value))
        return value[:at] + chance.choice(("", "A", "\x1b", "é", value[at:])) + value[at + 1 :]
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        return value + chance.choice((-1, 1, 2**31, -(2**63), 600))
    return chance.choice(ODD)


KINDS = {kind.typ: kind for kind in Kind}


def signed_anew(envelope: Envelope, keys: Mapping[str, SigningKey]) -> Envelope:
    """The same payload, signed by those of its signers whose keys (by kid) are here, each as the kind that it
    says. The envelope itself when that is nobody, or nothing that can be signed."""
    anew = Envelope(envelope.payload, ())
    for token in envelope.signatures[:8]:
        key, kind = keys.get(claimed_kid(token) or ""), KINDS.get(_typ(token))
        if key is not None and kind is not None:
            try:
                anew = countersign(kind, anew, key)
            except SluicegateError:
                return envelope
    return anew if anew.signatures else envelope


def _typ(token: str) -> str:
    head = token.partition(".")[0]
    try:
        return str(json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["typ"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def spoilt_message(message: Message, chance: random.Random) -> None:
    """Change one field of a message, at any depth."""
    held = [field for field, _ in message.ListFields()]
    field = chance.choice(held if held and chance.random() < 0.8 else list(message.DESCRIPTOR.fields) or [None])
    if field is None:
        return
    if chance.random() < 0.1:
        message.ClearField(field.name)
    elif field.is_repeated:
        _repeated(getattr(message, field.name), field, chance)
    elif field.message_type:
        spoilt_message(getattr(message, field.name), chance)
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, _scalar(field, getattr(message, field.name), chance))


def _repeated(values: Any, field: FieldDescriptor, chance: random.Random) -> None:
    if field.message_type and field.message_type.GetOptions().map_entry:
        return
    if len(values) and chance.random() < 0.3:
        del values[chance.randrange(len(values))]
    elif field.message_type:
        one = message_factory.GetMessageClass(field.message_type)()
        spoilt_message(one, chance)
        values.extend([one] * chance.choice((1, 1, 50)))
    else:
        before = values[0] if len(values) else field.default_value
        values.extend([_scalar(field, before or _EMPTY.get(field.type, 0), chance)] * chance.choice((1, 1, 50)))


_EMPTY: dict[int, Any] = {FieldDescriptor.TYPE_BYTES: b"", FieldDescriptor.TYPE_STRING: ""}
_WHOLE = (0, 1, -1, 50, 2**31 - 1, -(2**31))


def _scalar(field: FieldDescriptor, before: Any, chance: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return spoilt(before, chance)
    if field.type == FieldDescriptor.TYPE_STRING:
        after = _value(before or "a", chance)
        return after if isinstance(after, str) else (str(before) * chance.choice((2, 400)))[:20_000]
    if field.type == FieldDescriptor.TYPE_BOOL:
        return not before
    if field.enum_type:
        return chance.choice(field.enum_type.values).number
    return chance.choice(_WHOLE) if field.cpp_type == FieldDescriptor.CPPTYPE_INT32 else abs(chance.choice(_WHOLE))
