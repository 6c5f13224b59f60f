"""Our errors as `google.rpc.Status`, and back: the reason travels in ErrorInfo, each violation as a
field violation (AIP-193).

A status travels in trailing metadata, for which clients accept 8 KiB by default; what does not fit is
left out, and how much that was is said (`violationsOmitted`).
"""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from connectors.reaching import unreachable
from contracts.errors import Reason, SluicegateError, Violation

DOMAIN = "sluicegate"
# Of the encoded status: the rest of the 8 KiB is for other trailing metadata and their names.
MAX_TRAILER = 7 * 1024
MAX_MESSAGE = 600  # bytes of UTF-8, as all of these
MAX_TEXT = 400
MAX_METADATA = 12
OMITTED = "violationsOmitted"


def to_status(error: SluicegateError, request_id: str) -> grpc.Status:
    """The status to abort with. `request_id` lets a person find the log line."""
    message = _cut(error.message, MAX_MESSAGE)
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata={"requestId": request_id})
    for key, value in list(error.metadata.items())[:MAX_METADATA]:
        info.metadata.setdefault(_cut(key, 64), _cut(str(value), 200))
    bad = error_details_pb2.BadRequest()
    room = MAX_TRAILER - _encoded(message, info, bad)
    for number, violation in enumerate(error.violations):
        one = _field_violation(violation)
        # Base64 makes four bytes of three; tag and length take a few more.
        room -= (one.ByteSize() + 6) * 4 // 3 + 1
        if room < 0:
            info.metadata[OMITTED] = str(len(error.violations) - number)
            break
        bad.field_violations.append(one)
    return _status(error.traits.code, message, [info, bad] if bad.field_violations else [info])


def _field_violation(violation: Violation) -> error_details_pb2.BadRequest.FieldViolation:
    line = f"line {violation.line}: " if violation.line is not None else ""
    hint = f" ({_cut(violation.hint, MAX_TEXT)})" if violation.hint else ""
    return error_details_pb2.BadRequest.FieldViolation(
        field=_cut(violation.path, MAX_TEXT),
        description=f"{line}{_cut(violation.message, MAX_TEXT)}{hint}",
        reason=_cut(violation.code, 64),
    )


def _cut(text: str, size: int) -> str:
    """At most that many bytes of the text, and nothing that UTF-8 cannot say."""
    return text.encode(errors="replace")[:size].decode(errors="ignore")


def _status(code: str, message: str, details: list[object]) -> grpc.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)  # type: ignore[arg-type]
    status: grpc.Status = rpc_status.to_status(
        status_pb2.Status(code=code_pb2.Code.Value(code), message=message, details=packed)
    )
    return status


def _encoded(message: str, *details: object) -> int:
    """Bytes of the trailers: the message, percent-encoded at worst, and the status in base64, with room
    for the count of what was left out."""
    binary = sum(len(value) for _, value in _status("INTERNAL", message, list(details)).trailing_metadata)
    return 3 * len(message.encode()) + (binary + 64) * 4 // 3


_TRANSPORT = {
    grpc.StatusCode.DEADLINE_EXCEEDED: (Reason.DEADLINE_EXCEEDED, "the exchange did not answer in time"),
    grpc.StatusCode.CANCELLED: (Reason.CANCELLED, "the call was cancelled"),
    grpc.StatusCode.UNAUTHENTICATED: (Reason.TOKEN_INVALID, "the exchange does not accept the token"),
    grpc.StatusCode.UNIMPLEMENTED: (Reason.INTERNAL, "the exchange does not know this call; is it of another version?"),
}


def from_rpc_error(error: grpc.RpcError, where: str = "the exchange") -> SluicegateError:
    """What a failed call means, in our own words. Transport failures become UNAVAILABLE and the like.
    `where` names the exchange, with the address where it was looked for."""
    try:
        status = rpc_status.from_call(error) if isinstance(error, grpc.Call) else None
    except ValueError:
        status = None
    ours = _ours(status) if status is not None else None
    return ours or _transport(error, where)


def _ours(status: status_pb2.Status) -> SluicegateError | None:
    """The error in a status, if it is one of ours."""
    reason, metadata, violations = None, {}, []
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in Reason.__members__:
            reason, metadata = Reason(info.reason), dict(info.metadata)
        elif detail.Unpack(bad):
            violations = [Violation(one.field, one.description, code=one.reason) for one in bad.field_violations]
    return None if reason is None else SluicegateError(reason, status.message, tuple(violations), metadata)


def _transport(error: grpc.RpcError, where: str) -> SluicegateError:
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # The library's own limits: it tells them apart by their text alone.
        if "larger than max" in (error.details() or ""):
            return SluicegateError(Reason.TOO_LARGE, "the message is larger than the other side accepts")
        return SluicegateError(Reason.RATE_LIMITED, "the exchange has too many calls at once; repeat in a moment")
    if code is grpc.StatusCode.UNAVAILABLE:
        text = (error.details() or "") if isinstance(error, grpc.Call) else ""
        return unreachable(where, text, authority="the certificates in `ca` of the profile")
    reason, text = _TRANSPORT.get(code, (Reason.INTERNAL, f"the call failed with {code.name}"))
    return SluicegateError(reason, text)
