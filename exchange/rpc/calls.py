"""What servicers share: who calls, and the identity of a mutating call for replay."""

from __future__ import annotations

import hashlib
import uuid

from google.protobuf.message import Message

from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError, Violation
from exchange.records import Call
from exchange.rpc.interceptors import caller


def replayable(method: str, message: Message) -> Call:
    """The call's identity: caller, method, request id, digest of the whole message."""
    request_id: str = message.request_id  # type: ignore[attr-defined]
    try:
        if uuid.UUID(request_id).version != 4:
            raise ValueError
    except ValueError:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT,
            "every change carries a request id",
            violations=(Violation("request_id", "not a UUID4", "for example from uuid.uuid4()"),),
        ) from None
    body = hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()
    return Call(caller().name, method, str(uuid.UUID(request_id)), body)


def signed(raw: bytes, field: str) -> Envelope:
    """A signed document of the message. Raises INVALID_ARGUMENT naming the field when it is missing."""
    if not raw:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT,
            f"{field} is required",
            violations=(Violation(field, "empty; expected a signed document"),),
        )
    return Envelope.from_bytes(raw)
