"""A pull from start to end: grant, ticket, fetch, verify, acknowledge; and digests of files afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from contracts import aggregate_plan, certificate
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.receipt import Bounds, Receipt
from exchange import evidence, signing, views

# What moves rows is imported by who moves some: a command that only asks the exchange starts in half the time.
if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from connectors.consumer import pull as gate
    from connectors.consumer import sinks
    from exchange.client import Exchange

Progress = Callable[[int, int, int], None]  # rows, bytes, total rows


@dataclass(frozen=True)
class Pulled:
    """One release, verified and acknowledged.

    `path` is the file, or None when it was kept in memory: then `frame()` is a Polars frame,
    `reader()` an Arrow record batch reader. `receipt` is the gateway's signed receipt. `formulas` counts
    the cells of a CSV that a spreadsheet would run; `csv_safe` leaves none, and `defused` says how many it changed.
    """

    transfer: str
    rows: int
    content_digest: str
    receipt: Envelope = field(repr=False)
    path: Path | None
    _memory: sinks.MemorySink | None = field(repr=False)
    formulas: int = 0
    defused: int = 0

    def frame(self) -> pl.DataFrame:
        """The rows as a Polars frame. Those of a CSV in the types that the receipt names."""
        if self._memory is not None:
            return self._memory.frame()
        import polars as pl
        import pyarrow as pa

        assert self.path is not None  # noqa: S101 - either memory or path
        with self.path.open("rb") as file:
            begins = file.read(6)
        # By what the file is: its name need not tell.
        if begins[:4] == b"PAR1":
            return pl.read_parquet(self.path)
        if begins == b"ARROW1":
            return pl.read_ipc(self.path)
        from connectors import digest as digests
        from connectors import writers

        types = msgspec.convert(self.receipt.payload, Receipt).schema
        schema = pa.schema([(name, digests.arrow_type(spelling)) for name, spelling in types])
        return pl.DataFrame(pl.from_arrow(pa.Table.from_batches(writers.read_csv(self.path, schema))))

    def reader(self) -> pa.RecordBatchReader:
        """The rows as an Arrow reader."""
        if self._memory is not None:
            return self._memory.reader()
        return self.frame().to_arrow().to_reader()

    def summary(self) -> dict[str, Any]:
        """Rows, bounds and digests, for programs. `k` and the `l` of each sensitive column are what was met
        and what was required, with `atLeast` where counting stopped there; `effectiveness` is the receipt's
        certificate. `k` and the certificate are None for data about no person and for
        aggregates; `aggregate` is what the receipt says of one."""
        paper = msgspec.convert(self.receipt.payload, Receipt)
        bounds = paper.bounds
        return {
            "transfer": self.transfer,
            "rows": self.rows,
            "suppressed": paper.rows_suppressed,
            "k": _bound(bounds, bounds.k_met, bounds.k_required) if bounds else None,
            "l": {name: _bound(bounds, met, bounds.l_required[name]) for name, met in bounds.l_met.items()}
            if bounds
            else {},
            "effectiveness": msgspec.to_builtins(bounds.certificate) if bounds else None,
            "aggregate": msgspec.to_builtins(paper.aggregate),
            "contentDigest": self.content_digest,
            "receipt": f"{self.path}.receipt.json" if self.path else "",
        }

    @property
    def judgement(self) -> str:
        """The receipt's certificate of effectiveness, for people."""
        paper = msgspec.convert(self.receipt.payload, Receipt)
        if paper.aggregate is not None:
            return aggregate_plan.text(paper.aggregate)
        bounds = paper.bounds
        return certificate.text(bounds.certificate, at_least=bounds.at_least) if bounds else certificate.NOBODY


def _bound(bounds: Bounds, met: int, required: int) -> dict[str, Any]:
    return {"met": met, "required": required, "atLeast": bounds.at_least}


class _Grants:
    """Tickets for one agreement, as `connectors.consumer.pull` asks for them."""

    def __init__(self, exchange: Exchange, agreed: views.Agreement) -> None:
        self._exchange, self._agreed = exchange, agreed
        self._pair = signing.gateway_pair(exchange.profile)
        self.verified = exchange.verified(agreed.name)
        self.last: Envelope | None = None

    def grant(self, resume: str, parts: tuple[int, ...] = ()) -> gate.Granted:
        """A granted transfer with its ticket, signed by the holder key. Where the receipt of an earlier
        pull waits, the missing parts of that one: it broke off before it could be acknowledged."""
        from connectors.consumer import pull as gate

        try:
            granted = self._exchange.create_transfer(self._agreed.name, resume=resume, parts=parts)
        except SluicegateError as error:
            waiting = error.metadata.get("transfer", "")
            if error.reason is not Reason.RECEIPT_OUTSTANDING or not waiting or resume:
                raise
            granted, resume = self._continued(waiting)
        # Kept for the evidence: the exchange shows a grant only while it is good.
        self.last = granted.grant
        return gate.Granted(
            transfer=granted.name,
            address=granted.gateway_address,
            ca=granted.gateway_ca_certificate.encode() or None,
            ticket=signing.ticket(self._exchange.profile, granted, self.verified),
            agreement=self.verified,
            resumes=resume,
            pair=self._pair,
        )

    def _continued(self, waiting: str) -> tuple[views.Transfer, str]:
        found = self._exchange.transfer(waiting)
        if found.receipt is not None and found.receipt.payload.get("complete"):
            # Everything left the gateway, but this side never said that it arrived, and cannot tell
            # any more: the receipt is accepted as it stands and the release fetched again.
            self._exchange.acknowledge(waiting, content_digest=None)
            return self._exchange.create_transfer(self._agreed.name), ""
        return self._exchange.create_transfer(self._agreed.name, resume=waiting), waiting

    def end(self, transfer: str) -> None:
        """End an earlier pull of ours that broke off without a receipt: then only what is missing of it
        is granted. Where that cannot be done, everything comes again."""
        from connectors.consumer import pull as gate

        try:
            found = self._exchange.transfer(transfer)
            if found.state == "SERVING" and found.agreement == self._agreed.name and found.grant is not None:
                ca = found.gateway_ca_certificate.encode() or None
                ticket = signing.ticket(self._exchange.profile, found, self.verified)
                gate.end(found.gateway_address, ca, ticket, self._pair)
        except SluicegateError:
            return

    def abandon(self, transfer: str) -> None:
        """Accept the partial receipt of a release that is gone."""
        found = self._exchange.transfer(transfer)
        if found.receipt is not None and found.acknowledgement is None:
            self._exchange.acknowledge(transfer, content_digest=None)


def pull(
    exchange: Exchange,
    agreement: str,
    *,
    to: Path | None,
    format: Literal["parquet", "csv", "arrow"] | None,
    overwrite: bool,
    csv_safe: bool,
    progress: Progress | None,
) -> Pulled:
    """See `exchange.client.Exchange.pull`.

    1. The agreement is signed by both sides, ours now if only that is missing, and verifies under the
       profile's trust file.
    2. The exchange grants a transfer; the holder key signs the ticket.
    3. Parts are fetched, hashed as they arrive, and resumed where they break off.
    4. Intent and receipt verify and attest what was received; only then does the file appear.
    5. The receipt is acknowledged, and written with all evidence beside the file.
    6. The ledger extends what this profile saw before, and holds receipt and acknowledgement. Else
       LEDGER_INVALID: the file stays, and says nothing of the ledger.
    """
    from connectors.consumer import partial, sinks
    from connectors.consumer import pull as gate

    sink = sinks.open(to, format, overwrite=overwrite, csv_safe=csv_safe)
    grants = _Grants(exchange, exchange.ready(agreement))
    if to is not None and (broken := partial.interrupted(to)):
        grants.end(broken)
    result = gate.pull(grants, sink, clock=lambda: int(time.time()), progress=progress, parallel=gate.PARALLEL)
    fetched = result.fetched
    _acknowledge(exchange, result.transfer, fetched)
    out = to.with_name(to.name + ".receipt.json") if to is not None else None
    evidence.witness(exchange, result.transfer, out=out, grant=grants.last, receipt=fetched.receipt)
    memory = sink if isinstance(sink, sinks.MemorySink) else None
    formulas, defused = (sink.formulas, sink.defused) if isinstance(sink, sinks.FileSink) else (0, 0)
    # Not what came under the last ticket: what the whole release has, which is what was verified.
    rows = fetched.receipt.payload["rowsOut"]
    return Pulled(result.transfer, rows, fetched.content_digest, fetched.receipt, to, memory, formulas, defused)


def _acknowledge(exchange: Exchange, transfer: str, fetched: gate.Fetched) -> None:
    """Acknowledge, once the gateway's report has reached the exchange, which may take a moment."""
    for attempt in range(40):
        if exchange.transfer(transfer).receipt is not None:
            break
        time.sleep(min(0.05 * 2**attempt, 1.0))
    exchange.acknowledge(transfer, content_digest=fetched.content_digest)


def digest_of(path: Path, transfer: views.Transfer) -> str:
    """The content digest of a pulled file, recomputed the way the transfer's receipt says."""
    return digest_by_receipt(path, transfer.receipt)


def digest_by_receipt(path: Path, receipt: Envelope | None) -> str:
    """The content digest of a file, in the parts, types and hash that a receipt names. The receipt is
    not verified here, and need not be: a wrong one gives another digest."""
    from connectors import digest as digests

    if receipt is None:
        raise SluicegateError(Reason.RECEIPT_INVALID, "there is no receipt that says how to hash the data")
    try:
        paper = msgspec.convert(receipt.payload, Receipt)
    except msgspec.ValidationError as error:
        raise SluicegateError(Reason.RECEIPT_INVALID, f"not a receipt: {error}") from None
    return digests.of_file(path, paper.schema, paper.parts, paper.hash)
