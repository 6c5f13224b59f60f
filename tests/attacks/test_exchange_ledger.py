"""The exchange's operator, and its ledger: edited, cut, forked, rewound, frozen, kept from somebody.

It holds the database and the checkpoint key, so whatever it shows is in itself a perfect ledger, signed.
What it cannot change is what others saw before, and what they know that they reported.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.flight as fl
import pytest
import sqlalchemy as sa

from connectors.gateway.control_plane import Heartbeat
from connectors.gateway.state import GatewayState
from connectors.gateway.watch import Watch
from contracts import merkle
from contracts.canonical import canonical
from contracts.envelope import Envelope, Kind, sign
from contracts.errors import Reason, SluicegateError
from contracts.evidence import LedgerProof
from contracts.instants import SKEW, rfc3339
from exchange import config, evidence, keyfiles, rechecking, tables
from exchange.client import Exchange
from exchange.config import GatewaySettings
from exchange.connection import Connection, TokenSource
from exchange.control_plane import GrpcControlPlane
from exchange.evidence import Look, look, watch_ledger
from exchange.home import Home
from exchange.store import Store
from tests import papers
from tests.attacks.conftest import Attacked
from tests.connectors.gate import Gate, act, info_of, make_gate, reason, until
from tests.e2e.steps import refused
from tests.rpc.served import Exchanges, Served, founded_city

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

GATEWAY = "health-bureau-1"
Entries = list[dict[str, Any]]


# --- what others saw before


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example city, as it was founded."""
    return founded_city(tmp_path_factory.mktemp("operated") / "home")


@pytest.fixture
def operate(founded: Path, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Serve a copy of the city, from a database that is the operator's to change."""
    exchanges = Exchanges(tmp_path)
    yield lambda source=founded: exchanges.start(source)
    exchanges.close()


def live(served: Served, people: int, name: str = "clerk") -> None:
    """Let something happen: each person that is registered is an entry."""
    for number in range(people):
        served.client("dpo").register_principal(f"{name}{number}@health.example", ("steward",))


class Witnesses:
    """A consumer with a profile, and a gateway with its state. Both look at what they are shown."""

    def __init__(self, served: Served, folder: Path) -> None:
        settings = config.load(served.home.gateway(GATEWAY), GatewaySettings)
        connection = Connection(
            served.endpoint, ca=settings.exchange_ca, token=TokenSource(settings.token, settings.subject), timeout=10
        )
        served._open.append(connection)
        self._plane = GrpcControlPlane(connection, f"parties/health-bureau/gateways/{GATEWAY}", patience=60)
        self._consumer = served.client("planner")
        self._state = GatewayState(folder / "state.db", clock=_now, entropy=os.urandom)
        self._watch = Watch(
            self._plane,
            self._state,
            lambda: evidence.read_trust(served.home.trust),
            keyfiles.read_key(settings.signing_key),
            max_silence=30,
            clock=_now,
            ticks=time.monotonic,
            changed=lambda: None,
        )

    def fault(self) -> SluicegateError | None:
        """What the gateway says after the next heartbeat."""
        beats = self._plane.watch()
        self._watch.take(next(beats))
        beats.close()  # type: ignore[attr-defined]
        return self._watch.fault()

    def content(self) -> None:
        """Both follow."""
        assert self.fault() is None
        watch_ledger(self._consumer)

    def refuse(self) -> None:
        """Neither does: the gateway serves nothing, the consumer says so."""
        fault = self.fault()
        assert fault is not None
        assert fault.reason is Reason.LEDGER_INVALID
        refused(lambda: watch_ledger(self._consumer), Reason.LEDGER_INVALID)
        self._state.close()


def _now() -> int:
    return int(time.time())


def rewrite(home: Home, change: Callable[[Entries], Entries]) -> None:
    """Write the ledger anew: other entries, and the whole tree over them. Nothing in it is out of order."""
    store = Store(f"sqlite:///{home.exchange.parent / 'exchange.db'}")
    with store.transaction() as tx:
        query = sa.select(tables.ledger_entries).order_by(tables.ledger_entries.c.position)
        entries = change([dict(row) for row in tx.connection.execute(query).mappings()])
        for table in (tables.checkpoints, tables.ledger_nodes, tables.ledger_parties, tables.ledger_entries):
            tx.connection.execute(sa.delete(table))
        tree = papers.Tree()
        for position, entry in enumerate(entries):
            leaf = merkle.leaf_hash(entry["salt"], entry["entry"])
            tx.connection.execute(
                sa.insert(tables.ledger_entries).values({**entry, "position": position, "leaf": leaf})
            )
            for level, index, value in merkle.append(tree.read, tree.size, leaf):
                row = {"level": level, "position": index, "hash": value}
                tx.connection.execute(sa.insert(tables.ledger_nodes).values(row))
            tree.append(leaf)
        assert rechecking.recheck(tx) == len(entries), "in itself it is perfect"
    store.close()


def edited(entries: Entries) -> Entries:
    """Another word in an old entry."""
    changed = json.loads(entries[2]["entry"])
    return [*entries[:2], {**entries[2], "entry": canonical({**changed, "actor": "nobody"})}, *entries[3:]]


def dropped(entries: Entries) -> Entries:
    """One entry less, and others after it, so that it is no shorter."""
    return [*entries[:2], *entries[3:], *entries[-2:]]


def reordered(entries: Entries) -> Entries:
    """Two entries change places."""
    return [*entries[:2], entries[3], entries[2], *entries[4:]]


def forked(entries: Entries) -> Entries:
    """The last two never happened; three others did."""
    return [*entries[:-2], *entries[:3]]


def cut(entries: Entries) -> Entries:
    """The last two never happened."""
    return entries[:-2]


@pytest.mark.parametrize("change", [edited, dropped, reordered, forked, cut], ids=lambda each: each.__name__)
def test_it_rewrites_the_ledger(
    operate: Callable[..., Served], tmp_path: Path, change: Callable[[Entries], Entries]
) -> None:
    """Gateways and clients keep the last checkpoint and demand a consistency proof for the next."""
    served = operate()
    live(served, 3)
    witnesses = Witnesses(served, tmp_path)
    witnesses.content()
    live(served, 1, "later")
    witnesses.content()
    rewrite(served.home, change)
    witnesses.refuse()


def test_it_rewinds_the_ledger_to_a_backup(operate: Callable[..., Served], tmp_path: Path) -> None:
    """A restored backup cannot pass for the ledger that others saw, not even once it has grown again."""
    served = operate()
    database = served.home.exchange.parent / "exchange.db"
    witnesses = Witnesses(served, tmp_path)
    backup, now = sqlite3.connect(tmp_path / "backup.db"), sqlite3.connect(database)
    now.backup(backup)
    live(served, 2)
    witnesses.content()
    backup.backup(now)
    live(served, 4, "instead")
    witnesses.refuse()
    backup.close()
    now.close()


def test_it_shows_two_parties_two_histories(operate: Callable[..., Served]) -> None:
    """Whoever saw one refuses the other; and the two checkpoints, side by side, convict the operator."""
    one = operate()
    live(one, 2)
    other = operate(one.home.root)
    live(one, 1, "planner")
    live(other, 1, "steward")
    watch_ledger(one.client("planner"))
    watch_ledger(other.client("steward"))
    moved = Exchange(msgspec.structs.replace(one.profile("planner"), endpoint=other.endpoint))
    with moved:
        refused(lambda: watch_ledger(moved), Reason.LEDGER_INVALID)
    seen = [config_file(each, name) for each, name in ((one, "planner"), (other, "steward"))]
    trust = evidence.read_trust(one.home.trust)
    first, second = (merkle.verify_checkpoint(Envelope.from_bytes(raw), trust) for raw in seen)
    assert (first.origin, first.tree_size) == (second.origin, second.tree_size)
    assert first.root != second.root


def config_file(served: Served, name: str) -> bytes:
    """The checkpoint that a profile keeps."""
    path = served.home.profile(name).checkpoint
    assert path is not None
    return path.read_bytes()


def test_it_shows_a_consumer_a_ledger_of_long_ago(operate: Callable[..., Served]) -> None:
    """The time in a checkpoint is signed anew while nothing happens: an old one withholds something."""
    served = operate()
    consumer = served.client("planner")
    shown = look(consumer).shown
    key = keyfiles.read_key(served.settings.checkpoint_key)
    for age, honest in ((0, True), (3600, False), (-3600, False)):
        dated = sign(Kind.CHECKPOINT, {**shown.payload, "time": rfc3339(_now() - age)}, key)
        if honest:
            watch_ledger(consumer, Look(None, dated))
        else:
            refused(lambda dated=dated: watch_ledger(consumer, Look(None, dated)), Reason.LEDGER_INVALID)


# --- what others know that they reported


def test_it_pulls_a_consumer_into_another_history(attacked: Attacked, tmp_path: Path) -> None:
    """Whoever pulls is a witness: a finished pull says so, and loses nothing."""
    city = attacked.city
    key = keyfiles.read_key(city.home.exchange.parent / "keys" / "checkpoint.jwk")
    honest = city.exchange("analyst").checkpoint().payload
    shown_before = sign(Kind.CHECKPOINT, {**honest, "root": "5" * 64}, key)
    (tmp_path / "seen.json").write_bytes(shown_before.to_bytes())
    profile = msgspec.structs.replace(city.home.profile("analyst"), checkpoint=tmp_path / "seen.json")
    with Exchange(profile) as consumer:
        refused(lambda: consumer.pull(attacked.analysts, to=tmp_path / "people.parquet"), Reason.LEDGER_INVALID)
    assert (tmp_path / "people.parquet").is_file()
    assert (tmp_path / "people.parquet.receipt.json").is_file()
    assert (tmp_path / "seen.json").read_bytes() == shown_before.to_bytes(), "the evidence of what was seen stays"


def test_it_leaves_an_acknowledgement_out_of_what_it_shows(attacked: Attacked, tmp_path: Path) -> None:
    """After a pull the consumer finds receipt and acknowledgement in the ledger, or says so."""
    city, out = attacked.city, tmp_path / "people.parquet"
    db = sqlite3.connect(city.home.exchange.parent / "exchange.db", timeout=10, isolation_level=None)
    db.execute(
        "CREATE TRIGGER swallow AFTER INSERT ON ledger_entries WHEN NEW.event = 'transfer.acknowledged' BEGIN "
        "UPDATE ledger_entries SET resource = 'elsewhere' WHERE position = NEW.position; END"
    )
    try:
        refused(lambda: city.exchange("analyst").pull(attacked.analysts, to=out), Reason.LEDGER_INVALID)
    finally:
        db.execute("DROP TRIGGER swallow")
        told = "json_extract(CAST(entry AS TEXT), '$.resource')"
        db.execute(f"UPDATE ledger_entries SET resource = {told} WHERE resource = 'elsewhere'")
        db.close()
    assert out.is_file()
    city.exchange("analyst").pull(attacked.analysts, to=tmp_path / "honest.parquet")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A department's gateway. The exchange that it listens to is the operator's to play."""
    made = make_gate(tmp_path)
    made.start()
    yield made
    made.stop()


class Books:
    """The ledger that the operator shows to the gateway: what was reported, but for what `hides` says."""

    def __init__(self, gate: Gate, hides: Callable[[str], bool] = lambda kind: False) -> None:
        self.gate, self.hides = gate, hides
        self.tree = papers.Tree([b"founded"])
        self.written: dict[int, tuple[int, bytes]] = {}
        self.show()

    def write(self) -> None:
        """An entry for each report that the gateway does not know to be in the ledger yet."""
        for report in self.gate.state.unproved():
            if report.id not in self.written and not self.hides(report.kind):
                entry = {"event": "transfer.told", "resource": report.transfer, "detail": {"what": report.mark}}
                raw = canonical(entry)
                self.written[report.id] = (self.tree.append(merkle.leaf_hash(b"salt", raw)), raw)

    def show(self, tree: papers.Tree | None = None, at: int | None = None) -> None:
        """A heartbeat, and answers to whoever asks for proofs. `tree` is where these come from."""
        exchange, size, clock = self.gate.exchange, self.tree.size, self.gate.clock
        head = papers.checkpoint(self.tree, clock() if at is None else at)
        for known in range(1, size):
            exchange.grown[known, size] = merkle.consistency(self.tree.read, known, size)
        exchange.entries = [
            LedgerProof(
                index=index,
                salt=b"salt".hex(),
                entry=raw.decode(),
                path=tuple(item.hex() for item in merkle.inclusion((tree or self.tree).read, index, size)),
                checkpoint=head,
            )
            for index, raw in self.written.values()
        ]
        self.gate.gateway._watch.take(Heartbeat(clock(), frozenset(), head))
        self.gate.gateway._audit.look()

    def later(self, seconds: int) -> None:
        """Time passes, for everybody."""
        self.gate.clock.now += seconds
        self.gate.ticks.leap += seconds


def told(gate: Gate) -> str:
    """What the gateway says to a fresh ticket."""
    try:
        info_of(gate.client(), gate.ticket())
    except (fl.FlightError, pa.ArrowException) as error:
        return reason(error)
    return "served"


@pytest.mark.parametrize("kind", ["intent", "receipt", "refusal"])
def test_it_takes_a_report_and_swallows_it(gate: Gate, kind: str) -> None:
    """What a gateway reported stands in the ledger within a minute and a half, or it serves no more."""
    books = Books(gate, hides=lambda each: each == kind)
    source = gate.folder / "visits.parquet"
    away = source.rename(gate.folder / "away")
    assert told(gate) == "SOURCE_UNAVAILABLE"
    away.rename(source)
    ticket = gate.ticket()
    info_of(gate.client(), ticket)
    act(gate.client(), "receipt", ticket)
    until(lambda: not gate.state.reports())
    assert {report.kind for report in gate.state.unproved()} == {"intent", "receipt", "refusal"}
    books.write()
    books.later(20)
    books.show()
    assert {report.kind for report in gate.state.unproved()} == {kind}, "the others are proved"
    books.later(30 + SKEW)
    books.show()
    assert told(gate) == "LEDGER_INVALID"
    books.hides = lambda each: False
    books.write()
    books.show()
    assert told(gate) == "served", "what is shown late is shown all the same"


def test_it_proves_a_report_with_something_else(gate: Gate) -> None:
    """The proof must lead to the checkpoint that the gateway verified, and speak of its very report."""
    books = Books(gate, hides=lambda each: True)
    info_of(gate.client(), gate.ticket())
    (report,) = gate.state.unproved()
    true = {"event": "transfer.told", "resource": report.transfer, "detail": {"what": report.mark}}
    elsewhere = papers.Tree([b"founded"])
    books.written[0] = (elsewhere.append(_leaf(true)), canonical(true))
    books.tree.append(b"7" * 32)
    books.show(tree=elsewhere)
    assert gate.state.unproved() == [report], "that entry is in another tree"
    for said in (
        {**true, "resource": "transfers/t-another", "detail": {report.transfer: report.mark}},
        {**true, "event": "transfer.contradicted"},
        {**true, "detail": {}, "note": report.mark},
    ):
        books.written[0] = (books.tree.append(_leaf(said)), canonical(said))
        books.show()
        assert gate.state.unproved() == [report], said
    gate.exchange.answers["proofs"] = ValueError("an answer that breaks the reader")  # type: ignore[assignment]
    books.later(31 + SKEW)
    books.show()
    assert told(gate) == "LEDGER_INVALID"
    del gate.exchange.answers["proofs"]
    books.written[0] = (books.tree.append(_leaf(true)), canonical(true))
    books.show()
    assert gate.state.unproved() == []


def _leaf(entry: dict[str, Any]) -> bytes:
    return merkle.leaf_hash(b"salt", canonical(entry))


def test_it_freezes_the_ledger_while_heartbeats_go_on(gate: Gate) -> None:
    """A heartbeat counts only with a checkpoint that was signed just now, not long ago and not ahead."""
    books = Books(gate)
    signed = gate.clock()
    assert told(gate) == "served"
    books.later(20)
    books.show(at=signed)
    assert told(gate) == "served"
    for date in (signed, gate.clock() + 365 * papers.DAY):
        for _ in range(6):
            books.later(20)
            books.show(at=date)
        assert told(gate) == "CONTROL_PLANE_SILENT"
    books.write()
    books.show()
    assert told(gate) == "served"
