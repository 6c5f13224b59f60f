"""The ledger in a database: what is written together, what can be proved, who sees what."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from contracts import merkle
from contracts.canonical import canonical
from contracts.envelope import Envelope, Kind, countersign, sign
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.trust import Use
from exchange import ledger, rechecking, tables
from exchange.databases import empty_log
from exchange.erasing import erase
from exchange.identity import Principal
from exchange.records import Person
from exchange.session import Rows
from exchange.store import Store
from tests.halls import COORDINATION, SUPERVISION, City, refused
from tests.papers import COMPANY, GATEWAY, NOW, PROVIDER, STEWARD, Cast, key

ACTOR = f"parties/{PROVIDER}/principals/{STEWARD}"


def write(
    city: City, number: int = 0, parties: tuple[str, ...] = (PROVIDER,), detail: dict[str, object] | None = None
) -> int:
    with city.store.transaction() as tx:
        return ledger.append(
            tx,
            city.hall,
            event="request.approved",
            resource=f"requests/r-{number}",
            actor=ACTOR,
            parties=parties,
            detail=detail or {},
        )


@pytest.fixture
def auditor() -> Principal:
    return City.who(SUPERVISION, "auditor@audit.example", "auditor")


@pytest.fixture
def steward() -> Principal:
    return City.who(PROVIDER, STEWARD, "steward")


# --- writing


def test_an_entry_says_what_happened_and_hashes_with_its_salt(city: City, auditor: Principal) -> None:
    assert write(city, 7, (PROVIDER, COMPANY, PROVIDER), {"decision": "d-1"}) == 0
    (entry,) = ledger.entries(city.hall, auditor).items
    assert entry.entry is not None
    assert entry.salt is not None
    assert json.loads(entry.entry) == {
        "event": "request.approved",
        "resource": "requests/r-7",
        "actor": ACTOR,
        "parties": [PROVIDER, COMPANY],
        "at": rfc3339(NOW),
        "detail": {"decision": "d-1"},
    }
    assert entry.entry == canonical(json.loads(entry.entry))
    assert len(entry.salt) == 16
    assert entry.leaf_hash == merkle.leaf_hash(entry.salt, entry.entry)
    assert (entry.name, entry.event, entry.resource, entry.created) == (
        "ledger/entries/0",
        "request.approved",
        "requests/r-7",
        NOW,
    )


def test_every_entry_has_its_own_salt(city: City, auditor: Principal) -> None:
    for _ in range(5):
        write(city)
    assert len({entry.salt for entry in ledger.entries(city.hall, auditor).items}) == 5


def test_entry_and_change_stand_or_fall_together(city: City) -> None:
    person = Person(name=ACTOR, party=PROVIDER, subject=STEWARD, roles=("steward",), created=1, updated=1)
    with pytest.raises(RuntimeError), city.store.transaction() as tx:  # noqa: PT012 - the body is what is taken back
        tx.insert(person)
        ledger.append(tx, city.hall, event="e", resource="r", actor=ACTOR, parties=(), detail={})
        raise RuntimeError
    with city.store.read() as tx:
        assert (ledger.size(tx), tx.count(Person)) == (0, 0)
        assert rechecking.recheck(tx) == 0
    write(city)
    with city.store.read() as tx:
        assert rechecking.recheck(tx) == 1


def test_a_refusal_is_recorded_although_nothing_else_is(city: City, auditor: Principal) -> None:
    who = City.who(COMPANY, "a@metro.example", "requester")
    index = ledger.refused(
        city.hall, who, "request", "requests/r-\x00\ud800" + "x" * 1000, {"allow": False}, parties=(PROVIDER,)
    )
    (entry,) = ledger.entries(city.hall, auditor).items
    assert (entry.index, entry.event) == (index, "request.refused")
    assert entry.resource == "requests/r-??" + "x" * (300 - 13)
    assert entry.entry is not None
    assert json.loads(entry.entry)["parties"] == [PROVIDER, COMPANY]


def test_a_party_that_was_founded_is_in_it(store: Store) -> None:
    with store.transaction() as tx:
        assert ledger.found(tx, entropy=os.urandom, now=NOW, party=PROVIDER, keys=["kid"]) == 0
        assert rechecking.recheck(tx) == 1


def test_threads_append_one_after_another(city: City) -> None:
    hall, errors = city.hall, []

    def work(number: int) -> None:
        try:
            for _ in range(6):
                write(city, number)
        except SluicegateError as error:  # pragma: no cover - would fail the test below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with hall.store.read() as tx:
        assert rechecking.recheck(tx) == 36


def test_an_entry_concerns_as_many_as_there_are(city: City) -> None:
    """More than go into one statement."""
    many = [f"party-{number:03}" for number in range(2 * Rows.AT_ONCE + 3)]
    with city.store.transaction() as tx:
        for count in (0, 1, Rows.AT_ONCE, Rows.AT_ONCE + 1, len(many)):
            index = ledger.append(tx, city.hall, event="e", resource="r", actor="a", parties=many[:count], detail={})
            assert sorted(ledger.concerned(tx, index)) == many[:count]


# --- nothing without the ledger


def _fill_disk(store: Store) -> None:
    """From now on the database refuses writes: SQLite as when read-only, PostgreSQL as when full."""
    if store.engine.dialect.name == "sqlite":

        @sa.event.listens_for(store.writers, "checkout")
        def _(raw: object, *_: object) -> None:
            raw.execute("PRAGMA query_only=ON").close()  # type: ignore[attr-defined]

        return
    with store.transaction() as tx:
        full = "BEGIN RAISE EXCEPTION 'disk full' USING ERRCODE = '53100'; END"
        tx.connection.exec_driver_sql(f"CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ {full} $$")
        for table in tables.metadata.tables:
            each = "FOR EACH STATEMENT EXECUTE FUNCTION full_disk()"
            tx.connection.exec_driver_sql(f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} {each}")


def test_a_database_that_cannot_be_written_grants_nothing(city: City) -> None:
    hall = city.hall
    _fill_disk(city.store)
    with refused(Reason.LEDGER_UNAVAILABLE) as caught:
        write(city)
    assert caught.value.traits.retryable
    with refused(Reason.LEDGER_UNAVAILABLE):
        ledger.checkpoint(hall)
    with city.store.read() as tx:
        assert ledger.size(tx) == 0


def test_a_ledger_that_cannot_be_appended_to_takes_the_change_with_it(city: City) -> None:
    """The change is written first; the entry fails; neither is there."""
    with city.store.transaction() as tx:
        tx.connection.execute(sa.text("ALTER TABLE ledger_entries RENAME TO elsewhere"))
    person = Person(name=ACTOR, party=PROVIDER, subject=STEWARD, roles=("steward",), created=1, updated=1)
    with pytest.raises(SluicegateError), city.store.transaction() as tx:  # noqa: PT012
        tx.insert(person)
        ledger.append(tx, city.hall, event="e", resource="r", actor=ACTOR, parties=(), detail={})
    with city.store.read() as tx:
        assert tx.count(Person) == 0


# --- proofs


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13])
def test_every_entry_is_proved_in_every_later_tree(city: City, auditor: Principal, size: int) -> None:
    roots = {}
    for number in range(size):
        write(city, number)
        head = msgspec.convert(ledger.checkpoint(city.hall).payload, merkle.Checkpoint)
        roots[head.tree_size] = head.root_bytes
    leaves = {entry.index: entry.leaf_hash for entry in ledger.entries(city.hall, auditor).items}
    for index in range(size):
        proof = ledger.inclusion(city.hall, auditor, index, size)
        merkle.verify_inclusion(leaves[index], index, size, proof.path, roots[size])
    for first in range(1, size + 1):
        path = ledger.consistency(city.hall, first, size)
        merkle.verify_consistency(first, size, roots[first], roots[size], path)


def test_a_proof_reads_a_logarithm_of_the_tree(
    city: City, auditor: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    total = 200
    with city.store.transaction() as tx:
        for number in range(total):
            ledger.append(tx, city.hall, event="e", resource=f"r/{number}", actor=ACTOR, parties=(PROVIDER,), detail={})
    caplog.set_level(logging.DEBUG, "sluicegate.store")
    caplog.clear()  # another test may have set it before

    def asked() -> int:
        return sum("ledger_nodes" in message for message in caplog.messages)

    ledger.inclusion(city.hall, auditor, 77, total)
    assert 1 <= asked() <= 16
    caplog.clear()
    write(city)
    assert 1 <= asked() <= 9


@pytest.mark.parametrize(
    ("index", "size", "reason"),
    [
        (0, 99, Reason.INVALID_ARGUMENT),
        (2, 2, Reason.INVALID_ARGUMENT),
        (0, -1, Reason.INVALID_ARGUMENT),
        (3, 3, Reason.NOT_FOUND),
        (-1, 3, Reason.NOT_FOUND),
        (2**60, 3, Reason.NOT_FOUND),
    ],
)
def test_no_proof_of_what_is_not_there(city: City, auditor: Principal, index: int, size: int, reason: Reason) -> None:
    for number in range(3):
        write(city, number)
    with refused(reason):
        ledger.inclusion(city.hall, auditor, index, size)


@pytest.mark.parametrize(("first", "second"), [(2, 1), (0, 99), (-1, 1), (4, 4)])
def test_no_consistency_of_sizes_that_never_were(city: City, first: int, second: int) -> None:
    for number in range(3):
        write(city, number)
    with refused(Reason.INVALID_ARGUMENT):
        ledger.consistency(city.hall, first, second)


# --- checkpoints


def test_a_checkpoint_is_signed_and_stays_while_nothing_happens(city: City) -> None:
    empty = merkle.verify_checkpoint(ledger.checkpoint(city.hall), city.cast.trust)
    assert (empty.tree_size, empty.root_bytes) == (0, merkle.EMPTY_ROOT)
    write(city)
    first = ledger.checkpoint(city.hall)
    city.clock.now += ledger.SIGNED_ANEW
    assert ledger.checkpoint(city.hall) == first
    city.clock.now += 60 - ledger.SIGNED_ANEW
    anew = merkle.verify_checkpoint(ledger.checkpoint(city.hall), city.cast.trust)
    assert anew == msgspec.structs.replace(merkle.verify_checkpoint(first, city.cast.trust), time=rfc3339(NOW + 60))
    write(city)
    second = merkle.verify_checkpoint(ledger.checkpoint(city.hall), city.cast.trust)
    assert (second.tree_size, second.time, second.origin) == (2, rfc3339(NOW + 60), empty.origin)


@pytest.fixture
def gate(city: City) -> Principal:
    city.register_keys()
    return city.who(PROVIDER, GATEWAY, "gateway")


def test_a_gateway_countersigns(city: City, gate: Principal) -> None:
    write(city)
    head = ledger.checkpoint(city.hall)
    seen = countersign(Kind.CHECKPOINT, head, key(GATEWAY))
    call = city.call(gate, "Countersign", 1)
    stored = ledger.countersign(city.hall, gate, call, seen)
    assert stored == seen
    merkle.verify_checkpoint(stored, city.cast.trust, [key(GATEWAY).public])
    assert ledger.checkpoint(city.hall) == seen
    assert ledger.countersign(city.hall, gate, call, seen) == seen
    assert ledger.countersign(city.hall, gate, city.call(gate, "Countersign", 2), seen) == seen
    with refused(Reason.REQUEST_ID_REUSED):
        ledger.countersign(city.hall, gate, msgspec.structs.replace(call, body_digest="sha256:other"), seen)


def test_a_gateway_countersigns_what_was_signed_anew(city: City, gate: Principal) -> None:
    write(city)
    first = countersign(Kind.CHECKPOINT, ledger.checkpoint(city.hall), key(GATEWAY))
    city.clock.now += 60
    anew = countersign(Kind.CHECKPOINT, ledger.checkpoint(city.hall), key(GATEWAY))
    assert anew.payload != first.payload
    assert ledger.countersign(city.hall, gate, None, anew) == anew
    assert ledger.checkpoint(city.hall) == anew
    forged = sign(Kind.CHECKPOINT, {**anew.payload, "time": rfc3339(NOW + 90)}, key(GATEWAY))
    for other in (first, forged):
        with refused(Reason.NOT_FOUND):
            ledger.countersign(city.hall, gate, None, other)
    assert ledger.checkpoint(city.hall) == anew


@pytest.mark.parametrize("size", [-1, 2**63, 10**400])
def test_no_checkpoint_has_a_size_that_no_database_holds(city: City, gate: Principal, size: int) -> None:
    write(city)
    odd = Envelope({**ledger.checkpoint(city.hall).payload, "treeSize": size}, ())
    with refused(Reason.INVALID_ARGUMENT):
        ledger.countersign(city.hall, gate, None, odd)


def test_only_its_own_gateway_signs_for_it(city: City, gate: Principal) -> None:
    write(city)
    head = ledger.checkpoint(city.hall)
    with refused(Reason.ROLE_MISSING):
        ledger.countersign(city.hall, city.who(PROVIDER, STEWARD, "steward"), None, head)
    for stranger in ("root:health-bureau", STEWARD, "nobody"):
        with refused(Reason.KEY_UNTRUSTED):
            ledger.countersign(city.hall, gate, None, countersign(Kind.CHECKPOINT, head, key(stranger)))
    forged = Envelope(head.payload, (*head.signatures, countersign(Kind.RECEIPT, head, key(GATEWAY)).signatures[-1]))
    with refused(Reason.SIGNATURE_INVALID):
        ledger.countersign(city.hall, gate, None, forged)
    assert ledger.checkpoint(city.hall) == head


def test_a_checkpoint_that_is_not_ours_is_not_countersigned(city: City, gate: Principal) -> None:
    write(city)
    head = ledger.checkpoint(city.hall)
    for changed in ({"root": "00" * 32}, {"treeSize": 7}, {"origin": "elsewhere"}):
        other = sign(Kind.CHECKPOINT, {**head.payload, **changed}, key(GATEWAY))
        with refused(Reason.NOT_FOUND):
            ledger.countersign(city.hall, gate, None, other)
    with refused(Reason.INVALID_ARGUMENT):
        ledger.countersign(city.hall, gate, None, sign(Kind.CHECKPOINT, {"root": 1}, key(GATEWAY)))


def test_signatures_are_bounded(store: Store) -> None:
    people = tuple((PROVIDER, f"gate-{number}", Use.GATEWAY) for number in range(10))
    city = City(store, cast=Cast(people=people))
    city.register_keys()
    write(city)
    head = ledger.checkpoint(city.hall)
    for _, gateway, _ in people:
        who = city.who(PROVIDER, gateway, "gateway")
        ledger.countersign(city.hall, who, None, countersign(Kind.CHECKPOINT, head, key(gateway)))
    assert len(ledger.checkpoint(city.hall).signatures) == 8


# --- who sees what


def test_a_party_sees_what_concerns_it(city: City, auditor: Principal, steward: Principal) -> None:
    write(city, 0, (PROVIDER,))
    write(city, 1, (COMPANY,))
    write(city, 2, (PROVIDER, COMPANY))
    write(city, 3, ())
    analyst = city.who(COMPANY, "a@metro.example", "requester")

    def seen(who: Principal) -> list[int]:
        return [entry.index for entry in ledger.entries(city.hall, who).items]

    assert seen(auditor) == seen(city.who(COORDINATION, "a@cdo.example", "auditor")) == [3, 2, 1, 0]
    assert seen(steward) == [2, 0]
    assert seen(analyst) == [2, 1]
    # An auditor of a department is none of ours, and a mediator is no auditor.
    assert seen(city.who(PROVIDER, STEWARD, "auditor")) == [2, 0]
    assert seen(city.who(COORDINATION, "m@cdo.example", "mediator")) == []
    hidden = _error(lambda: ledger.inclusion(city.hall, steward, 1, 4))
    absent = _error(lambda: ledger.inclusion(city.hall, steward, 9, 4))
    assert hidden.reason is absent.reason is Reason.NOT_FOUND
    assert hidden.message.replace("/1", "/N") == absent.message.replace("/9", "/N")


def _error(action: Callable[[], object]) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        action()
    return caught.value


def test_who_has_no_role_is_refused_on_record(city: City, auditor: Principal) -> None:
    with refused(Reason.POLICY_REFUSED):
        ledger.entries(city.hall, city.who(COMPANY, "a@metro.example"))
    (entry,) = ledger.entries(city.hall, auditor).items
    assert entry.event == "ledger.read.refused"


def test_entries_come_in_pages_and_by_resource(city: City, auditor: Principal, steward: Principal) -> None:
    for number in range(7):
        write(city, number % 3)
    first = ledger.entries(city.hall, auditor, page_size=3)
    second = ledger.entries(city.hall, auditor, page_size=3, page_token=first.next_token)
    third = ledger.entries(city.hall, auditor, page_size=3, page_token=second.next_token)
    assert [entry.index for page in (first, second, third) for entry in page.items] == [6, 5, 4, 3, 2, 1, 0]
    assert third.next_token == ""
    of_one = ledger.entries(city.hall, auditor, resource="requests/r-1", page_size=1)
    assert [entry.index for entry in of_one.items] == [4]
    for arguments in ({}, {"resource": "requests/r-0"}):
        with refused(Reason.PAGE_TOKEN_INVALID):
            ledger.entries(city.hall, auditor, page_token=of_one.next_token, **arguments)
    with refused(Reason.PAGE_TOKEN_INVALID):
        ledger.entries(city.hall, steward, page_token=first.next_token)
    for size in (-1, 1001, 2**31 - 1):
        with refused(Reason.INVALID_ARGUMENT):
            ledger.entries(city.hall, auditor, page_size=size)


# --- erasing


@pytest.fixture
def dpo() -> Principal:
    return City.who(COORDINATION, "dpo@cdo.example", "dpo")


def test_erasing_leaves_the_tree(city: City, auditor: Principal, dpo: Principal) -> None:
    for number in range(5):
        write(city, number)
    before = merkle.verify_checkpoint(ledger.checkpoint(city.hall), city.cast.trust)
    call = city.call(dpo, "Erase", 2)
    etag = ledger.entry(city.hall, auditor, "ledger/entries/2").etag
    left = erase(city.hall, dpo, call, "ledger/entries/2", reason="court order", etag=etag)
    assert erase(city.hall, dpo, call, "ledger/entries/2", reason="court order", etag=etag) == left
    after = merkle.verify_checkpoint(ledger.checkpoint(city.hall), city.cast.trust)
    merkle.verify_consistency(5, 6, before.root_bytes, after.root_bytes, ledger.consistency(city.hall, 5, 6))
    erased = next(entry for entry in ledger.entries(city.hall, auditor).items if entry.index == 2)
    assert erased == left
    assert (erased.entry, erased.salt, erased.resource) == (None, None, "")
    assert erased.etag != etag
    proof = ledger.inclusion(city.hall, auditor, 2, 6)
    merkle.verify_inclusion(erased.leaf_hash, 2, 6, proof.path, after.root_bytes)
    record = ledger.entries(city.hall, auditor, resource="ledger/entries/2").items[0]
    assert record.entry is not None
    assert json.loads(record.entry)["detail"] == {"reason": "court order"}
    with city.store.read() as tx:
        assert rechecking.recheck(tx) == 6


def test_erasing_is_for_few_and_once(city: City, auditor: Principal, steward: Principal, dpo: Principal) -> None:
    write(city)
    name = "ledger/entries/0"
    for who in (auditor, steward, city.who(PROVIDER, "dpo@health.example", "dpo")):
        for named in (name, "ledger/entries/7"):  # a role is asked for before existence
            with refused(Reason.ROLE_MISSING):
                erase(city.hall, who, None, named, reason="because")
    for reason in ("", "  ", "x" * 2001):
        with refused(Reason.INVALID_ARGUMENT):
            erase(city.hall, dpo, None, name, reason=reason)
    for absent in ("ledger/entries/7", "0", "ledger/entries/00", "ledger/entries/-1", "ledger/entries/" + "9" * 19):
        with refused(Reason.NOT_FOUND):
            erase(city.hall, dpo, None, absent, reason="because")
    with refused(Reason.ETAG_MISMATCH):
        erase(city.hall, dpo, None, name, reason="because", etag="another")
    assert ledger.entry(city.hall, auditor, name).entry is not None
    erase(city.hall, dpo, None, name, reason="because")
    with refused(Reason.STATE_WRONG):
        erase(city.hall, dpo, None, name, reason="because")
    with refused(Reason.STATE_WRONG):
        erase(city.hall, dpo, None, "ledger/entries/1", reason="because")


def test_what_was_erased_is_not_in_the_database_s_files(city: City, dpo: Principal) -> None:
    """SQLite leaves deleted bytes where they were, and a copy in its log, unless it is told otherwise.
    PostgreSQL keeps old rows until it is vacuumed; that is its operator's."""
    file = city.store.engine.url.database
    if city.store.engine.dialect.name != "sqlite":
        with city.store.transaction() as tx:
            assert not empty_log(city.store.engine), "there is no log of ours"
            assert ledger.size(tx) == 0
        return
    assert file is not None
    secret = "someone-" + "x" * 5000  # longer than a page
    for number in range(3):
        with city.store.transaction() as tx:
            ledger.append(
                tx,
                city.hall,
                event="request.approved",
                resource=f"requests/{secret[:200]}{number}",
                actor=ACTOR,
                parties=(PROVIDER,),
                detail={"told": f"{secret}{number}"},
            )
    held = [
        path for path in Path(file).parent.glob(f"{Path(file).name}*") if secret[:100].encode() in path.read_bytes()
    ]
    assert held, "the probe finds what is there"
    for number in range(3):
        erase(city.hall, dpo, None, f"ledger/entries/{number}", reason="because")
    for path in Path(file).parent.glob(f"{Path(file).name}*"):
        assert b"someone-" not in path.read_bytes(), path.name
        assert b"x" * 100 not in path.read_bytes(), path.name


def test_one_entry_is_read_by_those_it_concerns(city: City, auditor: Principal, steward: Principal) -> None:
    write(city)
    name = "ledger/entries/0"
    assert ledger.entry(city.hall, steward, name) == ledger.entry(city.hall, auditor, name)
    with refused(Reason.NOT_FOUND) as hidden:
        ledger.entry(city.hall, City.who("elsewhere", "a@elsewhere.example", "requester"), name)
    with refused(Reason.NOT_FOUND) as absent:
        ledger.entry(city.hall, auditor, "ledger/entries/7")
    assert str(hidden.value).replace("/0", "/7") == str(absent.value)


# --- tampering


TAMPERINGS = {
    "an entry is rewritten": "UPDATE ledger_entries SET entry = :bytes WHERE position = 1",
    "a leaf is rewritten": "UPDATE ledger_entries SET leaf = :bytes WHERE position = 1",
    "a salt is rewritten": "UPDATE ledger_entries SET salt = :bytes WHERE position = 1",
    "a node is rewritten": "UPDATE ledger_nodes SET hash = :bytes WHERE level = 1 AND position = 0",
    "a node is gone": "DELETE FROM ledger_nodes WHERE level = 2 AND position = 0",
    "the end is cut off": "DELETE FROM ledger_entries WHERE position = 4",
    "a gap": "DELETE FROM ledger_entries WHERE position = 2",
}


@pytest.mark.parametrize("statement", TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_a_tampered_ledger_does_not_pass(city: City, statement: str) -> None:
    for number in range(5):
        write(city, number, parties=())
    ledger.checkpoint(city.hall)
    with city.store.transaction() as tx:
        assert rechecking.recheck(tx) == 5
        tx.connection.execute(sa.text(statement), {"bytes": b"\x07" * 32} if ":bytes" in statement else {})
    with refused(Reason.LEDGER_INVALID), city.store.read() as tx:
        rechecking.recheck(tx)


def test_the_whole_tree_rebuilt_by_an_attacker_does_not_match_the_checkpoint(city: City) -> None:
    write(city)
    ledger.checkpoint(city.hall)
    with city.store.transaction() as tx:
        raw, salt = b'{"event":"other"}', b"0" * 16
        leaf = merkle.leaf_hash(salt, raw)
        tx.connection.execute(sa.update(tables.ledger_entries).values(entry=raw, salt=salt, leaf=leaf))
        tx.connection.execute(sa.update(tables.ledger_nodes).values(hash=leaf))
    with refused(Reason.LEDGER_INVALID), city.store.read() as tx:
        rechecking.recheck(tx)
