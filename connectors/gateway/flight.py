"""The gateway on the wire: Arrow Flight over TLS, for any stock Flight client with a ticket.

    GetFlightInfo(command = ticket)   schema, one endpoint a part, app_metadata {release, intent}
    DoGet(ticket of an endpoint)      the part's record batches; with dictionaries for clients that say they take them
    DoAction receipt | suspend | reveal | health

Flight sends an exception's text and traceback to the client, and the text of a data error can quote a
cell. So nothing but `REASON: fixed sentence [request id]` leaves here: every handler and every step of
a stream goes through `_told`.
"""

# ruff: noqa: ARG002 - the Flight server calls every handler with its context

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import msgspec
import pyarrow as pa
import pyarrow.flight as fl

from connectors import dictionaries
from connectors.dictionaries import written_out
from connectors.digest import arrow_type
from connectors.gateway.admission import part_ticket
from connectors.gateway.gateway import Gateway
from connectors.gateway.streams import PartStream, cut_connection
from connectors.releases.release import Release, part_schema
from contracts.errors import TRAITS, Reason, SluicegateError

log = logging.getLogger("sluicegate.gateway")

MAX_BODY = 256 * 1024
MAX_ORDER = 32 * 1024  # an order is small, and anybody may send one
ACTIONS = {
    "receipt": "body: a ticket; ends its transfer and returns the signed receipt",
    "suspend": "body: a signed order of the department's approver; stops an agreement",
    "reveal": "body: an order signed by two of the department's approvers; what values stand for, sealed",
    "health": "no body; how the gateway stands, JSON",
}
# Nothing is said here that the status codes of gRPC could not say; the reason is in the text.
_ERRORS: dict[str, type[fl.FlightError]] = {
    "UNAUTHENTICATED": fl.FlightUnauthenticatedError,
    "PERMISSION_DENIED": fl.FlightUnauthorizedError,
    "UNAVAILABLE": fl.FlightUnavailableError,
    "RESOURCE_EXHAUSTED": fl.FlightUnavailableError,
    "DEADLINE_EXCEEDED": fl.FlightTimedOutError,
    "ABORTED": fl.FlightCancelledError,
    "CANCELLED": fl.FlightCancelledError,
    "INTERNAL": fl.FlightInternalError,
}


def _told(reason: Reason, request_id: str) -> fl.FlightError:
    """All that a client learns of an error: its reason, the reason's fixed sentence, the request id."""
    traits = TRAITS[reason]
    return _ERRORS.get(traits.code, fl.FlightServerError)(f"{reason}: {traits.meaning} [{request_id}]")


class _Call(fl.ServerMiddleware):  # type: ignore[misc]
    """What a client said it takes, and when its call is over, however it ended: the Flight server drops a stream
    without a word."""

    def __init__(self, accepted: Sequence[str]) -> None:
        self.takes_dictionaries = dictionaries.ACCEPT[1] in accepted
        self.closers: list[Callable[[], None]] = []

    def call_completed(self, exception: BaseException | None) -> None:
        for close in self.closers:
            close()


class _Calls(fl.ServerMiddlewareFactory):  # type: ignore[misc]
    """Begins every call. GetSchema ends here: of what its handler raises, the library sends the traceback."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy

    def start_call(self, info: Any, headers: Any) -> _Call:
        if info.method == fl.FlightMethod.GET_SCHEMA:
            raise _told(Reason.INVALID_ARGUMENT, self._entropy(6).hex())
        return _Call(headers.get(dictionaries.ACCEPT[0], ()))


class _Wire:
    """A part's batches, written out or with their dictionaries, and with errors in our own words. Dropped by the
    server, it closes its stream."""

    def __init__(self, stream: PartStream, request_id: str, *, packed: bool) -> None:
        self._stream, self._request_id, self._packed = stream, request_id, packed

    def __iter__(self) -> _Wire:
        return self

    def __next__(self) -> pa.RecordBatch | pa.Table:
        try:
            batch = next(self._stream)
            # The library sends the dictionaries of tables, not of batches.
            return pa.Table.from_batches([batch]) if self._packed else written_out(batch)
        except StopIteration:
            raise
        except BaseException as error:  # noqa: BLE001 - nothing else may leave
            _tell(error, self._request_id, "stream")

    def __del__(self) -> None:
        self._stream.close()


def _tell(error: BaseException, request_id: str, call: str) -> NoReturn:
    """Log an error under the request id, and raise what the client may see of it."""
    if isinstance(error, SluicegateError):
        reason = error.reason
        log.warning("refused: call=%s request=%s reason=%s %s", call, request_id, reason, error.message)
    else:
        # Its text may quote a cell, so not even the log gets it.
        reason = Reason.INTERNAL
        log.error("failed: call=%s request=%s error=%s", call, request_id, type(error).__name__)
    raise _told(reason, request_id) from None


class FlightGateway(fl.FlightServerBase):  # type: ignore[misc]
    """The Flight server of one gateway. It listens as soon as it is made; `shutdown` ends it.

    `location` is `grpc+tls://host:port` (port 0 for any free one; see `port`). Without `tls`, it is
    `grpc://`, for tests on loopback only: `unsafe_plaintext` has to say so.
    """

    def __init__(
        self,
        gateway: Gateway,
        host: str,
        port: int,
        *,
        tls: tuple[bytes, bytes] | None,
        entropy: Callable[[int], bytes],
        client_ca: bytes | None = None,
        unsafe_plaintext: bool = False,
        compression: str | None = None,
    ) -> None:
        """`tls` is (certificate PEM, key PEM). `client_ca` demands certificates of clients, issued by it.
        `compression` of batches on the wire: None, "lz4" or "zstd"; worth it on slow networks only."""
        if tls is None and not (unsafe_plaintext and host in ("127.0.0.1", "localhost", "::1")):
            raise SluicegateError(
                Reason.CONFIG_UNSAFE, "a gateway needs TLS; plaintext only on loopback, with --unsafe-plaintext"
            )
        self._gateway, self._entropy = gateway, entropy
        self._options = pa.ipc.IpcWriteOptions(compression=compression)
        shown = f"[{host}]" if ":" in host else host
        super().__init__(
            f"{'grpc' if tls is None else 'grpc+tls'}://{shown}:{port}",
            tls_certificates=None if tls is None else [tls],
            verify_client=client_ca is not None,
            root_certificates=client_ca,
            middleware={"call": _Calls(entropy)},
        )
        gateway.cut = self._cut

    def _cut(self, peer: str) -> bool:
        return cut_connection(peer, self.port)

    @contextmanager
    def _call(self, name: str) -> Iterator[str]:
        """One call: its request id, and nothing but our own words when it fails."""
        request_id = self._entropy(6).hex()
        try:
            yield request_id
        except BaseException as error:  # noqa: BLE001 - nothing else may leave
            _tell(error, request_id, name)

    def get_flight_info(self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:
        """Begin the transfer of the ticket that is the descriptor's command."""
        with self._call("GetFlightInfo"):
            opened = self._gateway.open(_command(descriptor))
            release = opened.release
            endpoints = [fl.FlightEndpoint(part_ticket(opened.ticket, part), []) for part in opened.parts]
            metadata = json.dumps({"release": release.id, "intent": msgspec.to_builtins(opened.intent)}).encode()
            return fl.FlightInfo(
                _arrow_schema(release),
                fl.FlightDescriptor.for_command(b"release"),
                endpoints,
                total_records=sum(release.parts[part].rows for part in opened.parts),
                ordered=True,
                app_metadata=metadata,
            )

    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.FlightDataStream:
        """Serve one part."""
        with self._call("DoGet") as request_id:
            release, stream = self._gateway.stream(ticket.ticket, peer=context.peer())
            asked = context.get_middleware("call")
            asked.closers.append(stream.close)
            schema = part_schema(release, stream.key.part) if asked.takes_dictionaries else _arrow_schema(release)
            wire = _Wire(stream, request_id, packed=asked.takes_dictionaries)
            return fl.GeneratorStream(schema, wire, options=self._options)

    def list_actions(self, context: fl.ServerCallContext) -> list[tuple[str, str]]:
        """The actions there are."""
        return list(ACTIONS.items())

    def do_action(self, context: fl.ServerCallContext, action: fl.Action) -> Iterator[fl.Result]:
        """`receipt`, `suspend`, `reveal` or `health`."""
        with self._call(f"DoAction {action.type if action.type in ACTIONS else '?'}"):
            most = MAX_ORDER if action.type in ("suspend", "reveal") else MAX_BODY
            if action.body is not None and action.body.size > most:
                raise SluicegateError(Reason.TOO_LARGE, f"the body of this action has at most {most} bytes")
            body = action.body.to_pybytes() if action.body is not None else b""
            return iter([fl.Result(pa.py_buffer(self._act(action.type, body)))])

    def _act(self, kind: str, body: bytes) -> bytes:
        if kind == "receipt":
            return self._gateway.receipt(body).to_bytes()
        if kind == "suspend":
            return json.dumps(self._gateway.suspend(body)).encode()
        if kind == "reveal":
            return self._gateway.reveal(body)
        if kind == "health":
            return json.dumps(self._gateway.health()).encode()
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"no such action; there are {', '.join(ACTIONS)}")

    def list_flights(self, context: fl.ServerCallContext, criteria: bytes) -> Iterator[fl.FlightInfo]:
        """Refused: what there is to see is seen at the exchange."""
        with self._call("ListFlights"):
            raise SluicegateError(Reason.INVALID_ARGUMENT, "a gateway lists nothing")

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Refused: nothing comes in this way."""
        with self._call("DoPut"):
            raise SluicegateError(Reason.INVALID_ARGUMENT, "a gateway takes nothing in")

    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Refused: nothing comes in this way."""
        with self._call("DoExchange"):
            raise SluicegateError(Reason.INVALID_ARGUMENT, "a gateway takes nothing in")


def _arrow_schema(release: Release) -> pa.Schema:
    return pa.schema([(name, arrow_type(str(dtype))) for name, dtype in release.schema.items()])


def _command(descriptor: fl.FlightDescriptor) -> bytes:
    if descriptor.descriptor_type != fl.DescriptorType.CMD or not descriptor.command:
        raise SluicegateError(Reason.GRANT_INVALID, "the descriptor's command must be a ticket")
    return bytes(descriptor.command)
