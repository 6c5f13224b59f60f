"""The consumer's side: fetch a release, recompute its digest while reading, verify its papers, keep it.

    fetched = fetch(address, ca, ticket, sink, agreement=verified, clock=clock)   one ticket, one attempt
    result = pull(grants, sink, clock=clock)                                      with resumes

Nothing appears under its name before everything verified: intent, every part, content digest, receipt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.flight as fl

from connectors import calling
from connectors.consumer.reading import Progress, Reading
from connectors.consumer.sinks import Sink
from connectors.digest import ContentDigest, arrow_type, demand_sound
from connectors.tls import ClientPair
from contracts import receipt as receipts
from contracts.agreement import VerifiedAgreement
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.receipt import Intent, PartDigest, Receipt

# Worth asking for the missing parts again.
RESUMABLE = frozenset(
    {
        Reason.UNAVAILABLE,
        Reason.TRANSFER_STOPPED,
        Reason.DEADLINE_EXCEEDED,
        Reason.CANCELLED,
        Reason.GRANT_EXPIRED,
        Reason.GRANT_USED,
        Reason.TOO_MANY_TRANSFERS,
        Reason.CONTROL_PLANE_SILENT,
    }
)
# What the department alone can mend, and is told in full.
OF_THE_DEPARTMENT = frozenset(
    {
        Reason.PLAN_REFUSED,
        Reason.DATA_INVALID,
        Reason.BOUNDS_NOT_MET,
        Reason.RESIDUAL_IDENTIFIERS,
        Reason.SOURCE_UNAVAILABLE,
        Reason.CONTRACT_INVALID,
    }
)
MAX_PARTS = 100_000
PARALLEL = 2  # streams at once that pay: one reader alone leaves the gateway waiting


@dataclass(frozen=True, slots=True)
class Fetched:
    """A release that arrived whole and verified. `bytes` is the size of the batches in memory; `parts`
    the indexes that came under this ticket, the others were held already."""

    content_digest: str
    rows: int
    bytes: int
    intent: Envelope
    receipt: Envelope
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Granted:
    """A transfer that was granted: where to fetch, with what, and the verified agreement behind it.
    `resumes` names the transfer whose release it continues, also where nobody asked for that; `pair` is
    what is shown to a gateway that demands certificates."""

    transfer: str
    address: str
    ca: bytes | None
    ticket: bytes
    agreement: VerifiedAgreement
    resumes: str = ""
    pair: ClientPair | None = None


class Grants(Protocol):
    """How `pull` gets tickets: the client of the exchange."""

    def grant(self, resume: str, parts: tuple[int, ...] = ()) -> Granted:
        """A new transfer, or, with `resume`, one for the missing parts of an earlier one's release: those
        that `parts` names, else those that the gateway did not send."""
        ...

    def abandon(self, transfer: str) -> None:
        """Settle a transfer whose release is gone, so that a new one can be granted."""
        ...


@dataclass(frozen=True, slots=True)
class PullResult:
    """What came of a pull: the last transfer, what it brought, and how many tickets it took."""

    transfer: str
    fetched: Fetched
    attempts: int


class Incomplete(SluicegateError):
    """A fetch that broke off after it had begun. `transfer` can be resumed; `partial` is the receipt of
    what left, where the gateway could still give it; `missing` are the parts that did not arrive."""

    __slots__ = ("missing", "partial", "transfer")

    def __init__(
        self, error: SluicegateError, transfer: str, partial: Envelope | None, missing: tuple[int, ...] = ()
    ) -> None:
        super().__init__(error.reason, error.message, error.violations, error.metadata, error.remedy)
        self.transfer, self.partial, self.missing = transfer, partial, missing


def pull(
    grants: Grants,
    sink: Sink,
    *,
    clock: Callable[[], int],
    progress: Progress | None = None,
    resume: str = "",
    attempts: int = 4,
    parallel: int = 1,
    unsafe_plaintext: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> PullResult:
    """Fetch one release, resuming with the missing parts when the connection, the gateway or the grant
    breaks off. `resume` names an earlier transfer to begin with.

    A resume whose release is gone is settled and begun anew. Raises the last error when `attempts`
    tickets were not enough, and at once what asking again cannot mend.
    """
    tried = 0
    parts: tuple[int, ...] = ()
    while True:
        tried += 1
        granted = grants.grant(resume, parts)
        try:
            fetched = fetch(
                granted.address,
                granted.ca,
                granted.ticket,
                sink,
                agreement=granted.agreement,
                clock=clock,
                progress=progress,
                parallel=parallel,
                pair=granted.pair,
                unsafe_plaintext=unsafe_plaintext,
            )
            return PullResult(granted.transfer, fetched, tried)
        except SluicegateError as error:
            resumed = granted.resumes or resume
            gone = bool(resumed) and error.reason is Reason.NOT_FOUND
            if tried >= attempts or not (gone or error.reason in RESUMABLE):
                if error.reason in OF_THE_DEPARTMENT:
                    error.remedy = _asking(granted.transfer)
                raise
            if gone:
                grants.abandon(resumed)
                resume, parts = "", ()
            elif isinstance(error, Incomplete):
                resume, parts = granted.transfer, error.missing
        pause(min(0.2 * 2**tried, 5.0))


def _asking(transfer: str) -> str:
    return f"ask the department, and name {transfer}: sluicegate receipts {transfer} shows its people why"


def fetch(
    address: str,
    ca: bytes | None,
    ticket: bytes,
    sink: Sink,
    *,
    agreement: VerifiedAgreement,
    clock: Callable[[], int],
    progress: Progress | None = None,
    parallel: int = 1,
    start_timeout: float = 600.0,
    part_timeout: float = 3600.0,
    pair: ClientPair | None = None,
    unsafe_plaintext: bool = False,
) -> Fetched:
    """Present a ticket and bring the release home.

    1. The gateway makes the release and shows its signed intent, which verifies under the agreement, is
       of this very transfer, and announces the columns that the stream has.
    2. Parts held from an earlier attempt are verified again; those that fail are thrown away.
    3. Each part is read, hashed and kept; a part whose digest is not the announced one is thrown away.
    4. All parts are here, and the content digest over them is the announced one.
    5. The gateway's receipt verifies, keeps to the intent, and attests that digest; it is complete.
    6. Only now the sink lets the output appear.

    `address` is `grpc+tls://host:port`, `ca` the PEM that its certificate must be issued by, `pair` what is
    shown to a gateway that demands certificates. `parallel` streams at once, fewer where the gateway has no
    slots. Timeouts in seconds. Raises the gateway's
    reason, UNAVAILABLE, DIGEST_MISMATCH, RECEIPT_INVALID, SIGNATURE_INVALID, KEY_UNTRUSTED or SINK_FAILED.
    What broke off after it began is an `Incomplete`, and what arrived whole stays in the sink.
    """
    with calling.connected(address, ca, pair, unsafe_plaintext=unsafe_plaintext) as client:
        # 1
        wanted = fl.FlightDescriptor.for_command(ticket)
        info = calling.call(lambda: client.get_flight_info(wanted, calling.within(start_timeout)), address)
        transfer = receipts.claimed_grant(ticket).transfer
        envelope, intent = _announced(info, agreement, transfer, clock())
        try:
            sink.begin(intent, info.schema)
            digest = ContentDigest(intent.schema, intent.hash)
            reading = Reading(client, sink, intent, digest, progress, part_timeout)
            # 2
            offered = dict(_endpoints(info, len(intent.parts)))
            held = {part: intent.parts[part] for part in _verified(sink, intent, offered)}
            # 3
            reading.all(offered, parallel)
            # 4
            content = _content(digest, intent, held, offered)
            # 5
            receipt = _receipt(client, ticket, start_timeout)
            attested = receipts.verify_receipt(receipt, agreement, at=clock(), intent=envelope, content_digest=content)
            _complete(attested)
            # 6
            sink.commit()
        except SluicegateError as error:
            # Sent is not arrived: what was in the network when it broke has to come again.
            missing = tuple(sorted(set(range(len(intent.parts))) - sink.held()))
            sink.close()
            raise Incomplete(error, transfer, _partial_receipt(client, ticket), missing) from None
        except BaseException:
            sink.close()
            raise
    return Fetched(content, reading.rows, reading.bytes, envelope, receipt, tuple(sorted(offered)))


def end(
    address: str, ca: bytes | None, ticket: bytes, pair: ClientPair | None = None, *, unsafe_plaintext: bool = False
) -> Envelope:
    """End a transfer that broke off before its receipt, so that its missing parts can be granted; the
    receipt of what left. Raises what the gateway answers, or UNAVAILABLE."""
    with calling.connected(address, ca, pair, unsafe_plaintext=unsafe_plaintext) as client:
        return _receipt(client, ticket, 10.0)


def _announced(info: fl.FlightInfo, agreement: VerifiedAgreement, transfer: str, now: int) -> tuple[Envelope, Intent]:
    """The intent that came with the flight info, verified."""
    try:
        shown = msgspec.json.decode(info.app_metadata, type=dict[str, Any])
        envelope = msgspec.convert(shown["intent"], Envelope, strict=True)
    except (msgspec.MsgspecError, KeyError):
        raise SluicegateError(Reason.RECEIPT_INVALID, "the gateway showed no signed intent") from None
    intent = receipts.verify_intent(envelope, agreement, at=now)
    if intent.transfer != transfer:
        raise SluicegateError(Reason.RECEIPT_INVALID, f"the intent is of {intent.transfer}, not of {transfer}")
    if len(intent.parts) > MAX_PARTS:
        raise SluicegateError(Reason.TOO_LARGE, f"a release has at most {MAX_PARTS} parts")
    announced = [(name, _wide(arrow_type(spelling))) for name, spelling in intent.schema]
    if [(field.name, _wide(field.type)) for field in info.schema] != announced:
        raise SluicegateError(Reason.DIGEST_MISMATCH, "the stream has other columns than the intent announces")
    return envelope, intent


def _wide(kind: pa.DataType) -> pa.DataType:
    wide = {
        pa.string(): pa.large_string(),
        pa.binary(): pa.large_binary(),
        pa.list_(pa.string()): pa.large_list(pa.large_string()),
    }
    return wide.get(kind, kind)


def _endpoints(info: fl.FlightInfo, total: int) -> Iterator[tuple[int, fl.FlightEndpoint]]:
    """Part -> endpoint. The part stands in the endpoint's ticket."""
    for endpoint in info.endpoints:
        try:
            part = json.loads(endpoint.ticket.ticket)["part"]
        except (ValueError, KeyError, TypeError):
            part = None
        if type(part) is not int or not 0 <= part < total:
            raise SluicegateError(Reason.RECEIPT_INVALID, "the gateway offers parts that its intent does not announce")
        yield part, endpoint


def _verified(sink: Sink, intent: Intent, offered: Collection[int]) -> list[int]:
    """The held parts that still have the announced digest; others are thrown away. What is offered comes
    again whatever is held: a receipt is complete only when everything that it covers was served."""
    good = []
    for part in sorted(sink.held() - set(offered)):
        again = ContentDigest(intent.schema, intent.hash)
        again.open_part(0)
        try:
            for batch in sink.read(part):
                demand_sound(batch)
                again.update(0, batch)
            if again.part(0) == intent.parts[part]:
                good.append(part)
                continue
        except SluicegateError:
            pass
        sink.forget(part)
    return good


def _content(digest: ContentDigest, intent: Intent, held: dict[int, PartDigest], came: Collection[int]) -> str:
    """The content digest over the parts that are here. Each was compared with the intent before."""
    missing = [part for part in range(len(intent.parts)) if part not in held and part not in came]
    if missing:
        raise SluicegateError(
            Reason.TRANSFER_STOPPED,
            f"{len(missing)} parts are neither held here nor covered by this grant: resume again",
        )
    found = digest.over([held[part] if part in held else digest.part(part) for part in range(len(intent.parts))])
    if found != intent.content_digest:
        raise SluicegateError(Reason.DIGEST_MISMATCH, "the data has another digest than the gateway announced")
    return found


def _complete(receipt: Receipt) -> None:
    if not receipt.complete:
        raise SluicegateError(Reason.RECEIPT_INVALID, "everything arrived, but the receipt attests only a part of it")


def _receipt(client: fl.FlightClient, ticket: bytes, timeout: float) -> Envelope:
    """End the transfer; its signed receipt."""

    def ask() -> bytes:
        (result,) = client.do_action(fl.Action("receipt", ticket), calling.within(timeout))
        return bytes(result.body.to_pybytes())

    return Envelope.from_bytes(calling.call(ask))


def _partial_receipt(client: fl.FlightClient, ticket: bytes) -> Envelope | None:
    """The receipt of a transfer that broke off, where it can still be had: it also tells the exchange
    at once that the transfer ended, so that it can be resumed."""
    try:
        return _receipt(client, ticket, 10.0)
    except SluicegateError:
        return None
