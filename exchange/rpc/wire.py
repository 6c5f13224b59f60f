"""Protobuf messages as views: the one place where generated types turn into our own values.

What the exchange answers is not believed to be well formed: anything else is INTERNAL, its own fault.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from contracts.agreement import AgreementBundle
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from exchange import views

V = TypeVar("V", bound=views.View)


def instant(stamp: Timestamp) -> str:
    """RFC 3339 in UTC to the second; empty when unset."""
    return rfc3339(stamp.seconds) if stamp.seconds else ""


def bundle(raw: bytes) -> AgreementBundle:
    """The signed documents behind an agreement; verifies nothing."""
    try:
        return msgspec.json.decode(raw, type=AgreementBundle)
    except (msgspec.DecodeError, RecursionError):
        raise _malformed("the papers of an agreement") from None


def _malformed(what: str) -> SluicegateError:
    return SluicegateError(Reason.INTERNAL, f"the exchange answered something that is not {what}")


def envelope(raw: bytes) -> Envelope | None:
    """A signed document of the wire, or None where the field is empty."""
    return Envelope.from_bytes(raw) if raw else None


def view(message: Message, kind: type[V]) -> V:
    """The message as a view of that kind: same field names, our own types."""
    try:
        return kind(**_values(message, kind))
    except (ValueError, TypeError, RecursionError):
        raise _malformed(f"a {kind.__name__}") from None


def _values(message: Message, kind: type[views.View]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for info in msgspec.structs.fields(kind):
        value = getattr(message, info.name)
        if isinstance(value, Timestamp):
            values[info.name] = instant(value)
        elif info.name == "contract":
            values[info.name] = view(value, views.Contract) if value.name else None
        elif info.name == "document":
            values[info.name] = value.decode()
        elif info.name == "entry":
            values[info.name] = json.loads(value) if value else {}
        elif info.type in (Envelope, Envelope | None):
            values[info.name] = envelope(value)
        elif info.type == tuple[Envelope, ...]:
            values[info.name] = tuple(Envelope.from_bytes(item) for item in value)
        elif isinstance(value, bytes):
            values[info.name] = value.hex()
        elif info.type == tuple[str, ...]:
            values[info.name] = tuple(value)
        else:
            values[info.name] = value
    return values
