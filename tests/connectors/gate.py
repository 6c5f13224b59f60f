"""A gateway with everything real but the exchange: keys, papers, policy, source, masks, Flight over TLS.

The exchange is a small fake in memory: it keeps what is reported and says what it is told to say.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.flight as fl
import pytest

from connectors import tls
from connectors.gateway.control_plane import Heartbeat
from connectors.gateway.flight import FlightGateway
from connectors.gateway.gateway import Gateway, GatewaySettings
from connectors.gateway.state import GatewayState
from connectors.keys import KeyRing, MasterKey
from connectors.sources import SourceSettings
from contracts import standard
from contracts.agreement import AgreementBundle, Suspension
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.evidence import LedgerProof
from contracts.instants import rfc3339
from contracts.receipt import Intent, Receipt
from tests import papers
from tests.engines import shared_engine
from tests.papers import Papers

POLICY = shared_engine()
CERT, KEY = tls.self_signed(now=int(time.time()))
HOSPITALS = ("H01", "H02", "H03")


class Clock:
    """Epoch seconds, moved by hand."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Ticks:
    """Monotonic seconds: real ones, and a leap by hand."""

    def __init__(self) -> None:
        self.leap = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.leap


class Entropy:
    """Random enough for names and salts, the same in each run."""

    def __init__(self, seed: str = "") -> None:
        self._seed, self._calls = seed, itertools.count()

    def __call__(self, count: int) -> bytes:
        block = f"{self._seed}{next(self._calls)}".encode()
        return b"".join(hashlib.sha256(block + bytes([n])).digest() for n in range(count // 32 + 1))[:count]


class FakeExchange:
    """The control plane in memory. `away` makes every call fail as if nobody were there; `answers` makes
    one method fail in a chosen way; heartbeats are put into `beats` (None ends the stream)."""

    def __init__(self, bundles: Mapping[str, AgreementBundle]) -> None:
        self.bundles = dict(bundles)
        self.intents: dict[str, Envelope] = {}
        self.receipts: dict[str, Envelope] = {}
        self.refusals: dict[str, tuple[str, dict[str, str]]] = {}
        self.countersigned: list[Envelope] = []
        self.calls: list[str] = []
        self.away = False
        self.answers: dict[str, SluicegateError] = {}
        self.grown: dict[tuple[int, int], list[bytes]] = {}
        self.entries: list[LedgerProof] = []
        self.destructions: dict[str, Envelope] = {}
        self.revealed: list[Envelope] = []
        self.beats: queue.Queue[Heartbeat | None] = queue.Queue()

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.away:
            raise SluicegateError(Reason.UNAVAILABLE, "the exchange cannot be reached")
        if name in self.answers:
            raise self.answers[name]

    def agreement_bundle(self, name: str) -> AgreementBundle:
        self._called("agreement_bundle")
        try:
            return self.bundles[name]
        except KeyError:
            raise SluicegateError(Reason.NOT_FOUND, "no such agreement") from None

    def report_intent(self, transfer: str, intent: Envelope) -> None:
        self._called("report_intent")
        assert self.intents.setdefault(transfer, intent) == intent
        assert transfer not in self.receipts, "an intent came after its receipt"

    def report_receipt(self, transfer: str, receipt: Envelope) -> None:
        self._called("report_receipt")
        assert self.receipts.setdefault(transfer, receipt) == receipt

    def report_refusal(self, transfer: str, reason: str, detail: Mapping[str, str]) -> None:
        self._called("report_refusal")
        self.refusals[transfer] = (reason, dict(detail))

    def report_destruction(self, agreement: str, destruction: Envelope) -> None:
        self._called("report_destruction")
        assert self.destructions.setdefault(agreement, destruction) == destruction

    def report_reveal(self, agreement: str, revealed: Envelope) -> None:
        self._called("report_reveal")
        self.revealed.append(revealed)

    def watch(self) -> Iterator[Heartbeat]:
        self._called("watch")
        while (beat := self.beats.get()) is not None:
            yield beat

    def consistency(self, first: int, second: int) -> list[bytes]:
        self._called("consistency")
        return self.grown[first, second]

    def proofs(self, transfer: str, mark: str, checkpoint: Envelope) -> list[LedgerProof]:
        self._called("proofs")
        return [proof for proof in self.entries if transfer in proof.entry and mark in proof.entry]

    def countersign(self, checkpoint: Envelope) -> None:
        self._called("countersign")
        self.countersigned.append(checkpoint)


def visits(path: Path, people: int = 400, visits_each: int = 12) -> pl.DataFrame:
    """A table of visits that meets the bounds of the test contract: three hospitals, two districts,
    four days; every name, id and diagnosis tells one person."""
    rows = people * visits_each
    person = pl.int_range(rows, eager=True) % people
    frame = pl.DataFrame(
        {
            "citizen_id": person.map_elements(lambda n: f"CID{n:06d}", pl.String),
            "patient_name": person.map_elements(lambda n: f"NAME{n:06d}", pl.String),
            "birth_date": person.map_elements(
                lambda n: dt.date(1950, 1, 1) + dt.timedelta(days=(n % 40) * 365), pl.Date
            ),
            "home_postcode": person.map_elements(lambda n: f"{10 + n % 2}K{n:04d}", pl.String),
            "visit_ts": (pl.int_range(rows, eager=True) // people % 4).map_elements(
                lambda n: dt.datetime(2026, 2, 2) + dt.timedelta(days=n, seconds=123), pl.Datetime("us")
            ),
            "hospital_code": (pl.int_range(rows, eager=True) % 3).map_elements(lambda n: HOSPITALS[n], pl.String),
            "diagnosis_icd10": person.map_elements(lambda n: f"J{n % 50:02d}.{n % 9}", pl.String),
        }
    )
    frame.write_parquet(path)
    return frame


@dataclass
class Gate:
    """One gateway in a folder. `start` it, stop or `kill` it, start it again."""

    folder: Path
    papers: Papers
    exchange: FakeExchange
    clock: Clock
    ticks: Ticks = field(default_factory=Ticks)
    settings: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    runs: int = 0
    transfers: Iterator[int] = field(default_factory=itertools.count)

    def start(self, *, heard: bool = True) -> None:
        """Open the state, make the gateway and its server, let it hear the exchange once."""
        self.runs += 1
        entropy = Entropy(f"run {self.runs} ")
        self.state = GatewayState(self.folder / "state" / "state.db", clock=self.clock, entropy=entropy)
        path = self.folder / "keys" / "master.key"
        master = MasterKey.load(path) if path.exists() else MasterKey.create(path, entropy)
        source = SourceSettings(path=str(self.folder / "visits.parquet"), format="parquet")
        settings = {
            "party": papers.PROVIDER,
            "gateway": papers.GATEWAY,
            "spool": self.folder / "spool",
            "datasets": {"hospital-visits": source},
            **self.settings,
        }
        self.gateway = Gateway(
            GatewaySettings(**settings),
            trust=lambda: self.extra.get("trust", self.papers.trust),
            standard=standard.load("desensitisation/1"),
            policy=self.extra.get("policy", POLICY),
            control_plane=self.exchange,
            keyring=KeyRing(master, self.state.salt),
            signing_key=papers.key(papers.GATEWAY),
            state=self.state,
            clock=self.clock,
            entropy=entropy,
            ticks=self.ticks,
        )
        self.gateway.start()
        self.server = FlightGateway(self.gateway, "127.0.0.1", 0, tls=(CERT, KEY), entropy=entropy)
        if heard:
            self.hear()

    def hear(self, *stopped: str, checkpoint: Envelope | None = None) -> None:
        """One heartbeat, and wait until it was taken."""
        heard = self.gateway._watch._heard
        self.exchange.beats.put(Heartbeat(self.clock(), frozenset(stopped), checkpoint))
        until(lambda: self.gateway._watch._heard != heard)

    def stop(self) -> None:
        """Stop in order."""
        self.exchange.beats.put(None)
        self.gateway.close()
        self.server.shutdown()
        self.state.close()

    @property
    def address(self) -> str:
        return f"grpc+tls://127.0.0.1:{self.server.port}"

    def client(self) -> fl.FlightClient:
        """A stock Flight client, on a connection of its own."""
        return fl.FlightClient(
            self.address, tls_root_certs=CERT, generic_options=[("grpc.use_local_subchannel_pool", 1)]
        )

    def grant(self, **changed: Any) -> Envelope:
        """A fresh grant of the agreement."""
        number = next(self.transfers)
        now = self.clock()
        return self.papers.grant_of(
            **{
                "id": f"g-{number:010d}",
                "transfer": f"transfers/t-{number:010d}",
                "issued": rfc3339(now),
                "expires": rfc3339(now + 600),
                **changed,
            }
        )

    def ticket(self, **changed: Any) -> bytes:
        """A fresh ticket of the agreement's holder."""
        return self.papers.ticket_of(self.grant(**changed))

    def order(
        self, *, until: int | None, lifted: bool = False, by: str = papers.STEWARD, at: int | None = None
    ) -> bytes:
        """A signed order of the department's approver."""
        order = Suspension(
            agreement=self.papers.agreed.id,
            reason="an incident",
            at=rfc3339(self.clock() if at is None else at),
            until=None if until is None else rfc3339(until),
            lifted=lifted,
        )
        return papers.Cast.sign(Kind.REVOCATION, order, by).to_bytes()


def make_gate(
    folder: Path,
    *,
    purpose: str = "transport-planning",
    rows: dict[str, int] | None = None,
    document: dict[str, Any] | None = None,
    **settings: Any,
) -> Gate:
    """A gateway that is not started yet, over a table of visits."""
    made = papers.make(purpose=purpose, document=document, cast=papers.Cast(policy_digest=POLICY.bundle_digest))
    visits(folder / "visits.parquet", **(rows or {}))
    exchange = FakeExchange({made.agreed.id: made.bundle})
    return Gate(folder, made, exchange, Clock(papers.NOW), settings=settings)


def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def reason(error: BaseException) -> str:
    """The first word of a Flight error."""
    return str(error).split(":")[0]


def refused(call: Callable[[], object]) -> str:
    """Demand that a call of a Flight client is refused; the reason."""
    with pytest.raises((fl.FlightError, pa.ArrowException)) as caught:
        call()
    return reason(caught.value)


def fetch_all(client: fl.FlightClient, info: fl.FlightInfo) -> list[pa.Table]:
    """Every part that is offered."""
    return [client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]


def info_of(client: fl.FlightClient, ticket: bytes) -> fl.FlightInfo:
    return client.get_flight_info(fl.FlightDescriptor.for_command(ticket))


def act(client: fl.FlightClient, kind: str, body: bytes = b"") -> bytes:
    (result,) = client.do_action(fl.Action(kind, body))
    return result.body.to_pybytes()


def receipt_of(raw: bytes) -> Receipt:
    return msgspec.convert(Envelope.from_bytes(raw).payload, Receipt)


def intent_of(info: fl.FlightInfo) -> Intent:
    return msgspec.convert(msgspec.json.decode(info.app_metadata)["intent"]["payload"], Intent)
