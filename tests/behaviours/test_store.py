"""What every store does, whatever the database."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from contracts.errors import Reason, SluicegateError
from contracts.trust import PartyKind
from exchange import migrations, tables, turns
from exchange.queries import Below
from exchange.records import Agreement, Call, Contract, Dataset, Party, Person, Request
from exchange.session import Session
from exchange.store import Store, Tx, match_etag
from tests.halls import party_record, refused


def person(number: int, party: str = "metro-planning", *, created: int = 1) -> Person:
    subject = f"p{number}@metro.example"
    name = f"parties/{party}/principals/{subject}"
    return Person(name=name, party=party, subject=subject, roles=("admin",), created=created, updated=created)


def request(name: str, provider: str = "a", consumer: str = "b", state: str = "SUBMITTED") -> Request:
    return Request(
        name=f"requests/{name}",
        provider=provider,
        consumer=consumer,
        requester="x@b.example",
        dataset="d",
        contract="c",
        purpose="p",
        fields=("f",),
        state=state,  # type: ignore[arg-type]
        statement=b"\x00\xff",
        approvals_needed=1,
        created=1,
        updated=1,
    )


def agreement(name: str, live_key: str | None, not_after: int = 100) -> Agreement:
    return Agreement(
        name=f"agreements/{name}",
        provider="a",
        consumer="b",
        dataset="d",
        contract="c",
        request="requests/r",
        purpose="p",
        fields=("f",),
        state="ACTIVE",
        statement=b"{}",
        digest="sha256:0",
        unsigned_parties=(),
        not_before=1,
        not_after=not_after,
        gateway="g",
        live_key=live_key,
        created=1,
        updated=1,
    )


@pytest.fixture
def parties(store: Store) -> Store:
    with store.transaction() as tx:
        tx.insert(party_record("metro-planning"))
        tx.insert(party_record("health-bureau", PartyKind.DEPARTMENT))
    return store


# --- records


def test_a_record_comes_back_as_it_was(parties: Store) -> None:
    wish = request("r-1")
    with parties.transaction() as tx:
        assert tx.insert(wish) == wish
    with parties.read() as tx:
        assert tx.get(Request, wish.name) == wish
        assert tx.get(Request, "requests/none") is None
        assert tx.get(Party, wish.name) is None


@pytest.mark.parametrize(
    "name", ["requests/\x00", "requests/\ud800", "", "requests/" + "x" * 10_000, "'; DROP TABLE requests"]
)
def test_a_strange_name_is_just_not_there(store: Store, name: str) -> None:
    with store.read() as tx:
        assert tx.get(Request, name) is None


def test_a_name_is_taken_once(parties: Store) -> None:
    with parties.transaction() as tx:
        tx.insert(person(1))
    with refused(Reason.ALREADY_EXISTS), parties.transaction() as tx:
        tx.insert(person(1))


def test_a_taken_name_does_not_spoil_the_rest_of_the_transaction(parties: Store) -> None:
    with parties.transaction() as tx:
        tx.insert(person(1))
        with refused(Reason.ALREADY_EXISTS):
            tx.insert(person(1))
        tx.insert(person(2))
    with parties.read() as tx:
        assert tx.count(Person) == 2


def test_one_issuer_speaks_for_one_party(parties: Store) -> None:
    impostor = msgspec.structs.replace(party_record("other"), issuer="https://issuer.metro-planning.example")
    with refused(Reason.ALREADY_EXISTS) as caught, parties.transaction() as tx:
        tx.insert(impostor)
    assert "issuer" in caught.value.message


def test_one_live_agreement_per_dataset_consumer_and_purpose(store: Store) -> None:
    with store.transaction() as tx:
        tx.insert(request("r"))
        first = tx.insert(agreement("a-1", "a/d/b"))
        tx.insert(agreement("a-2", None))
        tx.insert(agreement("a-3", None))
    with refused(Reason.ALREADY_EXISTS), store.transaction() as tx:
        tx.insert(agreement("a-4", "a/d/b"))
    with refused(Reason.ALREADY_EXISTS), store.transaction() as tx:
        tx.replace(agreement("a-2", "a/d/b"), expected_version=1)
    with store.transaction() as tx:
        tx.replace(msgspec.structs.replace(first, live_key=None), expected_version=1)
        tx.insert(agreement("a-4", "a/d/b"))


def test_a_record_must_refer_to_what_exists(store: Store) -> None:
    with refused(Reason.INTERNAL), store.transaction() as tx:
        tx.insert(person(1, party="nobody"))


def test_replace_counts_versions(parties: Store) -> None:
    with parties.transaction() as tx:
        before = tx.insert(person(1))
        after = tx.replace(msgspec.structs.replace(before, roles=("dpo",)), expected_version=1)
    assert (after.version, after.roles, after.etag) == (2, ("dpo",), '"2"')
    with parties.read() as tx:
        assert tx.get(Person, before.name) == after


def test_replace_refuses_a_stale_version(parties: Store) -> None:
    with parties.transaction() as tx:
        before = tx.insert(person(1))
        tx.replace(before, expected_version=1)
    with refused(Reason.ETAG_MISMATCH), parties.transaction() as tx:
        tx.replace(before, expected_version=1)
    with refused(Reason.NOT_FOUND), parties.transaction() as tx:
        tx.replace(person(9), expected_version=1)


def test_an_etag_stands_for_a_version() -> None:
    record = msgspec.structs.replace(person(1), version=3)
    assert match_etag(record, '"3"') == 3
    assert match_etag(record, "", required=False) == 3
    with refused(Reason.ETAG_MISMATCH):
        match_etag(record, '"2"')
    with refused(Reason.ETAG_MISMATCH):
        match_etag(record, "3", required=False)
    with refused(Reason.INVALID_ARGUMENT):
        match_etag(record, "")


def test_an_attribute_that_is_not_known_yet_is_read_over(parties: Store) -> None:
    with parties.transaction() as tx:
        stored = tx.insert(person(1))
        table = tables.SHELVES[Person].table
        newer = msgspec.json.encode({**msgspec.to_builtins(stored), "nickname": "x"})
        tx.connection.execute(sa.update(table).values(body=newer))
    with parties.read() as tx:
        assert tx.get(Person, stored.name) == stored


# --- listing


def names(tx: Tx, **arguments: object) -> list[str]:
    return [record.name.rsplit("/", 1)[-1] for record in tx.page(Request, **arguments)]  # type: ignore[arg-type]


@pytest.fixture
def wishes(store: Store) -> Store:
    rows = [
        ("1", "a", "b", "SUBMITTED"),
        ("2", "a", "c", "APPROVED"),
        ("3", "b", "a", "SUBMITTED"),
        ("4", "c", "b", "REJECTED"),
    ]
    with store.transaction() as tx:
        for row in rows:
            tx.insert(request(*row))
    return store


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "4321"),
        ({"limit": 2}, "43"),
        ({"after": "requests/3"}, "21"),
        ({"where": {"provider": "a"}}, "21"),
        ({"where": {"state": ("SUBMITTED", "REJECTED")}}, "431"),
        ({"where": {"state": ()}}, ""),
        ({"where": {"provider": "a", "state": "APPROVED"}}, "2"),
        ({"either": {"provider": "a", "consumer": "a"}}, "321"),
        ({"either": {}}, ""),
        ({"where": {"state": "SUBMITTED"}, "either": {"provider": "a", "consumer": "a"}}, "31"),
        ({"where": {"name": "requests/2"}}, "2"),
        ({"where": {"provider": "a' OR '1'='1"}}, ""),
    ],
)
def test_page(wishes: Store, arguments: dict[str, object], expected: str) -> None:
    with wishes.read() as tx:
        assert "".join(names(tx, **arguments)) == expected
        if not {"after", "limit"} & set(arguments):
            assert tx.count(Request, **arguments) == len(expected)  # type: ignore[arg-type]


def test_page_by_comparison_and_by_emptiness(store: Store) -> None:
    with store.transaction() as tx:
        tx.insert(request("r"))
        tx.insert(agreement("a-1", None, not_after=10))
        tx.insert(agreement("a-2", "k", not_after=11))
        assert [found.name for found in tx.page(Agreement, where={"not_after": Below(11)})] == ["agreements/a-1"]
        assert [found.name for found in tx.page(Agreement, where={"live_key": None})] == ["agreements/a-1"]


def test_page_by_membership_of_a_list(parties: Store) -> None:
    def dataset(name: str, consumers: tuple[str, ...]) -> Dataset:
        contract = f"parties/health-bureau/datasets/{name}/contracts/1.0.0"
        return Dataset(
            name=f"parties/health-bureau/datasets/{name}",
            party="health-bureau",
            dataset=name,
            contract=contract,
            description="",
            sharing_class="conditional",
            purposes=(),
            columns=(),
            consumers=consumers,
            created=1,
            updated=1,
        )

    def version(name: str) -> Contract:
        return Contract(
            name=f"parties/health-bureau/datasets/{name}/contracts/1.0.0",
            party="health-bureau",
            dataset=name,
            document=b"",
            statement=b"",
            document_digest="",
            terms_digest="",
            gateway="",
            created=1,
            updated=1,
        )

    with parties.transaction() as tx:
        for name, consumers in {"all": ("*", "b"), "some": ("a", "b"), "none": ()}.items():
            tx.insert(version(name))
            tx.insert(dataset(name, consumers))
        found = {who: {item.dataset for item in tx.page(Dataset, where={"consumers": ("*", who)})} for who in "abc"}
        assert found == {"a": {"all", "some"}, "b": {"all", "some"}, "c": {"all"}}
        some = tx.get(Dataset, "parties/health-bureau/datasets/some")
        assert some is not None
        tx.replace(msgspec.structs.replace(some, consumers=("c",)), expected_version=1)
        assert [item.dataset for item in tx.page(Dataset, where={"consumers": "c"})] == ["some"]
        assert tx.page(Dataset, where={"consumers": "a"}) == []


def test_page_refuses_what_it_cannot_ask(wishes: Store) -> None:
    with refused(Reason.INTERNAL), wishes.read() as tx:
        tx.page(Request, where={"statement": b""})
    with refused(Reason.PAGE_TOKEN_INVALID), wishes.read() as tx:
        tx.page(Request, after="requests/none")


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(limit=st.integers(1, 7), arrive=st.lists(st.integers(0, 3), max_size=6))
def test_walking_pages_shows_everything_once_though_more_arrives(store: Store, limit: int, arrive: list[int]) -> None:
    """Cursors stay good while rows are added: what was there at the start is seen exactly once."""
    with store.transaction() as tx:
        offset = tx.count(Request)
        for number in range(5):
            tx.insert(request(f"{offset + number}"))
        expected = names(tx, limit=10_000)
    seen: list[str] = []
    arrivals = iter(arrive)
    total = offset + 5
    while True:
        with store.transaction() as tx:
            page = names(tx, after=f"requests/{seen[-1]}" if seen else None, limit=limit)
            for _ in range(next(arrivals, 0)):
                tx.insert(request(f"{total}"))
                total += 1
        if not page:
            break
        seen += page
    assert seen == expected


# --- transactions


def test_an_exception_takes_everything_back(parties: Store) -> None:
    with pytest.raises(RuntimeError), parties.transaction() as tx:  # noqa: PT012 - the body is what is taken back
        tx.insert(person(1))
        tx.remember(Call("me", "m", "1", "b"), "n")
        raise RuntimeError
    with parties.read() as tx:
        assert tx.count(Person) == 0
        assert tx.replay(Call("me", "m", "1", "b")) is None


def test_a_reader_may_not_write(parties: Store) -> None:
    for attempt in (
        lambda tx: tx.insert(person(1)),
        lambda tx: tx.replace(person(1), expected_version=1),
        lambda tx: tx.remember(Call("me", "m", "1", "b"), "n"),
        lambda tx: tx.settle("fact", b"x"),
    ):
        with refused(Reason.INTERNAL), parties.read() as tx:
            attempt(tx)


def test_a_reader_sees_one_state(parties: Store) -> None:
    with parties.read() as reading:
        assert reading.count(Person) == 0
        with parties.transaction() as tx:
            tx.insert(person(1))
        assert reading.count(Person) == 0
    with parties.read() as reading:
        assert reading.count(Person) == 1


def test_a_transaction_inside_another_is_refused_at_once(parties: Store) -> None:
    # INTERNAL, not LEDGER_UNAVAILABLE: it did not wait for itself until the patience ran out.
    with parties.transaction() as tx:
        with refused(Reason.INTERNAL), parties.transaction():
            raise AssertionError("unreachable")
        tx.insert(person(1))
    with parties.read() as tx:
        assert tx.count(Person) == 1


def test_writers_take_turns(parties: Store) -> None:
    """Read, think, write: no update is lost, though every thread does it at the same time."""
    with parties.transaction() as tx:
        tx.insert(person(1))

    def rename(_: int) -> None:
        with parties.transaction() as tx:
            known = tx.get(Person, person(1).name)
            assert known is not None
            tx.replace(msgspec.structs.replace(known, roles=(*known.roles, "dpo")), expected_version=known.version)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(rename, range(24)))
    with parties.read() as tx:
        known = tx.get(Person, person(1).name)
    assert known is not None
    assert (known.version, len(known.roles)) == (25, 25)


def test_writers_are_served_in_the_order_they_came(parties: Store) -> None:
    served: list[int] = []

    def write(number: int) -> None:
        with parties.transaction():
            served.append(number)

    with parties.transaction():
        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
            time.sleep(0.03)
    for thread in threads:
        thread.join()
    assert served == list(range(6))


def test_who_gave_up_waiting_holds_up_nobody(parties: Store) -> None:
    entered, leave = threading.Event(), threading.Event()
    outcomes: list[str] = []

    def hold() -> None:
        with parties.transaction():
            entered.set()
            leave.wait(20)

    def wait() -> None:
        try:
            with parties.transaction():
                outcomes.append("served")
        except SluicegateError as error:
            outcomes.append(error.reason.value)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(5)
    early = [threading.Thread(target=wait) for _ in range(3)]
    for thread in early:
        thread.start()
    for thread in early:
        thread.join()
    late = threading.Thread(target=wait)
    late.start()
    leave.set()
    late.join()
    holder.join()
    assert outcomes == ["LEDGER_UNAVAILABLE"] * 3 + ["served"]


class Crowd:
    """Writers that have all come by the time the first of them goes on, each to insert a person."""

    def __init__(self, store: Store, acts: Sequence[Callable[[Tx], object]]) -> None:
        self.store, self.outcomes, self.over = store, dict[int, str](), threading.Event()
        self._threads = [threading.Thread(target=self._write, args=each) for each in enumerate(acts)]

    def _write(self, number: int, act: Callable[[Tx], object]) -> None:
        try:
            with self.store.transaction() as tx:
                act(tx)
        except (SluicegateError, ValueError) as error:
            self.outcomes[number] = error.reason.value if isinstance(error, SluicegateError) else str(error)
        else:
            self.outcomes[number] = "done"

    def run(self) -> dict[int, str]:
        with suppress(SluicegateError), self.store.transaction():
            for thread in self._threads:
                thread.start()
                time.sleep(0.03)
        for thread in self._threads:
            thread.join()
        return self.outcomes


def inserting(number: int) -> Callable[[Tx], object]:
    return lambda tx: tx.insert(person(number))


def people(store: Store) -> set[str]:
    with store.read() as tx:
        return {one.name for one in tx.page(Person)}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, writers that wait go on together."""
    monkeypatch.setattr(turns, "LONGEST", 60)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    made: list[Session] = []
    commit = Session.commit
    monkeypatch.setattr(Session, "commit", lambda session: (made.append(session), commit(session))[1])
    return made


def test_who_waits_goes_on_in_the_same_transaction(parties: Store, commits: list[Session]) -> None:
    crowd = Crowd(parties, [inserting(number) for number in range(6)])
    assert crowd.run() == dict.fromkeys(range(6), "done")
    assert len(commits) == 1
    assert people(parties) == {person(number).name for number in range(6)}


def test_a_transaction_is_ended_after_some_parts(parties: Store, commits: list[Session]) -> None:
    crowd = Crowd(parties, [inserting(number) for number in range(2 * turns.MOST)])
    assert set(crowd.run().values()) == {"done"}
    assert len(commits) == 3  # with the part before whose end they all came
    assert len(people(parties)) == 2 * turns.MOST


def test_nobody_is_answered_before_the_commit(parties: Store) -> None:
    seen = list[set[str]]()

    def slow(tx: Tx) -> None:
        tx.insert(person(1))
        time.sleep(0.3)
        seen.append(set(map(str, crowd.outcomes)))
        seen.append(people(parties))  # another connection: what is committed

    crowd = Crowd(parties, [inserting(0), slow])
    assert crowd.run() == {0: "done", 1: "done"}
    assert seen == [set(), set()]
    assert people(parties) == {person(0).name, person(1).name}


def test_a_writer_that_fails_takes_back_its_own_part_alone(parties: Store) -> None:
    def fails(tx: Tx) -> None:
        tx.insert(person(1))
        tx.connection.execute(tables.facts.insert().values(name="of the one that fails", value=b""))
        raise ValueError("no")

    crowd = Crowd(parties, [inserting(0), fails, inserting(0), inserting(3)])
    assert crowd.run() == {0: "done", 1: "no", 2: "ALREADY_EXISTS", 3: "done"}
    assert people(parties) == {person(0).name, person(3).name}
    with parties.read() as tx:
        assert tx.fact("of the one that fails") is None


def test_a_commit_that_fails_is_everybodys(parties: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(session: Session) -> None:
        raise OperationalError("COMMIT", {}, Exception("disk full"))

    monkeypatch.setattr(Session, "commit", full)
    assert set(Crowd(parties, [inserting(0), inserting(1)]).run().values()) == {"LEDGER_UNAVAILABLE"}
    monkeypatch.undo()
    assert people(parties) == set()
    assert Crowd(parties, [inserting(0)]).run() == {0: "done"}


def test_a_mark_that_fails_takes_no_earlier_part_back_unseen(parties: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, marks = Session.mark, itertools.count()

    def fails(session: Session) -> None:
        if next(marks) == 2:
            raise OperationalError("SAVEPOINT", {}, Exception("canceled"))
        mark(session)

    monkeypatch.setattr(Session, "mark", fails)
    crowd = Crowd(parties, [inserting(0), inserting(1), inserting(2), inserting(3)])
    outcomes = crowd.run()
    assert {outcomes[number] for number in range(3)} == {"LEDGER_UNAVAILABLE"}
    assert outcomes[3] == "done"
    assert people(parties) == {person(3).name}


def test_a_mark_that_the_database_refuses_takes_no_earlier_part_back_unseen(
    parties: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent with what comes after it, and going back must not end at the mark of an earlier part."""
    mark, marks = Session.mark, itertools.count()

    def refused_later(session: Session) -> None:
        mark(session)
        if next(marks) == 2:
            session._unsent[-1] = ("SAVEPOINT 1",)

    monkeypatch.setattr(Session, "mark", refused_later)
    outcomes = Crowd(parties, [inserting(number) for number in range(4)]).run()
    assert {outcomes[number] for number in range(3)} <= {"LEDGER_UNAVAILABLE", "INTERNAL"}
    assert outcomes[3] == "done"
    assert people(parties) == {person(3).name}


def test_a_writer_that_fails_before_it_did_anything_takes_nobody_with_it(parties: Store) -> None:
    def fails(_: Tx) -> None:
        raise ValueError("no")

    crowd = Crowd(parties, [inserting(0), fails, inserting(2), fails, inserting(4)])
    assert crowd.run() == {0: "done", 1: "no", 2: "done", 3: "no", 4: "done"}
    assert people(parties) == {person(number).name for number in (0, 2, 4)}


def test_a_change_that_waits_and_is_refused_takes_back_its_own_part_alone(parties: Store) -> None:
    """Nothing comes after it in its part, so it is sent at the end of that: before the part counts as kept."""

    def answering(number: int) -> Callable[[Tx], object]:
        def act(tx: Tx) -> None:
            tx.insert(person(number))
            tx.remember(Call("me", "m", "the same id", "b"), person(number).name)

        return act

    outcomes = Crowd(parties, [answering(0), answering(1), inserting(2)]).run()
    assert outcomes == {0: "done", 1: "INTERNAL", 2: "done"}
    assert people(parties) == {person(0).name, person(2).name}


def test_what_waits_is_there_for_whoever_asks(parties: Store) -> None:
    call = Call("me", "m", "1", "b")
    with parties.transaction() as tx:
        tx.remember(call, "made")
        assert tx.replay(call) == "made"
    with parties.transaction() as tx:
        tx.remember(Call("me", "m", "2", "b"), "made")
        counted = tx.connection.execute(sa.select(sa.func.count()).select_from(tables.calls)).scalar_one()
    assert counted == 2


def test_a_look_that_fails_leaves_the_next_one_whole(parties: Store) -> None:
    """Connections are kept for who looks: of those that were lost together none is used again."""
    with parties.look() as one, parties.look() as other:
        lost = [one.session, other.session]
    for session in lost:
        session._raw.close()
    with pytest.raises(SluicegateError), parties.look() as tx:
        tx.get(Person, person(1).name)
    for _ in range(3):
        with parties.look() as tx:
            assert tx.get(Person, person(1).name) is None


def test_who_looks_sees_what_was_committed_since(parties: Store) -> None:
    for number in range(3):
        with parties.look() as tx:
            assert tx.get(Person, person(number).name) is None
        with parties.transaction() as tx:
            tx.insert(person(number))
        with parties.look() as tx:
            assert tx.get(Person, person(number).name) is not None


def test_a_transaction_that_the_database_gave_up_is_no_success(parties: Store) -> None:
    """SQLite does so when it is out of room, PostgreSQL after any error: a commit says nothing of it."""

    def given_up(tx: Tx) -> None:
        tx.insert(person(0))
        if tx.dialect == "sqlite":
            tx.session._raw.execute("ROLLBACK")
        else:
            with suppress(Exception):
                tx.session._cursor.execute("SELECT 1 / 0")

    with refused(Reason.LEDGER_UNAVAILABLE), parties.transaction() as tx:
        given_up(tx)
    assert people(parties) == set()


def test_nobody_goes_on_in_a_transaction_that_takes_long(
    parties: Store, commits: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LONGEST", 0.01)  # less than the others need to come
    crowd = Crowd(parties, [inserting(0)])
    assert set(crowd.run().values()) == {"done"}
    assert len(commits) == 2


def test_who_is_interrupted_while_it_waits_holds_up_nobody(parties: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction was handed to it: who waits for its commit ends it."""
    crowd = Crowd(parties, [inserting(0)])
    line = parties._turns._line
    enter = line.enter

    def interrupted(patience: float) -> bool:
        if enter(patience) and threading.current_thread().name == "interrupted":
            line.leave()
            raise KeyboardInterrupt
        return True

    def wait() -> None:
        with suppress(KeyboardInterrupt), parties.transaction():
            raise AssertionError("unreachable")

    monkeypatch.setattr(line, "enter", interrupted)
    waiter = threading.Thread(target=wait, name="interrupted")
    crowd._threads.append(waiter)
    assert crowd.run() == {0: "done"}
    assert people(parties) == {person(0).name}


def test_a_connection_that_breaks_in_a_part_leaves_nothing_of_any(parties: Store) -> None:
    def breaks(tx: Tx) -> None:
        tx.insert(person(1))
        tx.session._raw.close()
        tx.get(Person, person(1).name)

    outcomes = Crowd(parties, [inserting(0), breaks]).run()
    assert outcomes == {0: "LEDGER_UNAVAILABLE", 1: "LEDGER_UNAVAILABLE"}
    assert people(parties) == set()
    assert Crowd(parties, [inserting(0)]).run() == {0: "done"}


def test_two_stores_on_one_database_take_turns(parties: Store, url: str) -> None:
    """As two exchange processes would: the lock is the database's, not only ours."""
    other = Store(url, patience=5.0)
    with parties.transaction() as tx:
        tx.insert(person(1))

    def rename(store: Store) -> None:
        for _ in range(8):
            with store.transaction() as tx:
                known = tx.get(Person, person(1).name)
                assert known is not None
                tx.replace(known, expected_version=known.version)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(rename, (parties, other)))
    other.close()
    with parties.read() as tx:
        known = tx.get(Person, person(1).name)
    assert known is not None
    assert known.version == 17


@pytest.mark.parametrize("same_process", [True, False])
def test_a_writer_that_waits_too_long_is_told_that_nothing_was_granted(
    url: str, parties: Store, same_process: bool
) -> None:
    holder = parties if same_process else Store(url)
    impatient = parties if same_process else Store(url, patience=0.2)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with holder.transaction():
            entered.set()
            leave.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert entered.wait(5)
        with refused(Reason.LEDGER_UNAVAILABLE), impatient.transaction():
            raise AssertionError("unreachable")
    finally:
        leave.set()
        thread.join()
    with impatient.transaction() as tx:
        tx.insert(person(1))
    holder.close()
    impatient.close()


# --- replays and facts


def test_a_call_is_remembered(parties: Store) -> None:
    call = Call("parties/a/principals/x", "Create", "id-1", "sha256:1")
    with parties.transaction() as tx:
        assert tx.replay(call) is None
        assert tx.replay(None) is None
        tx.remember(call, "requests/1")
        tx.remember(None, "requests/2")
        assert tx.replay(call) == "requests/1"
    with parties.read() as tx:
        assert tx.replay(call) == "requests/1"


@pytest.mark.parametrize("other", [{"body_digest": "sha256:2"}, {"method": "Delete"}])
def test_a_request_id_is_for_one_call(parties: Store, other: dict[str, str]) -> None:
    call = Call("parties/a/principals/x", "Create", "id-1", "sha256:1")
    with parties.transaction() as tx:
        tx.remember(call, "requests/1")
    with refused(Reason.REQUEST_ID_REUSED), parties.read() as tx:
        tx.replay(msgspec.structs.replace(call, **other))


def test_a_request_id_is_the_callers_own(parties: Store) -> None:
    call = Call("parties/a/principals/x", "Create", "id-1", "sha256:1")
    with parties.transaction() as tx:
        tx.remember(call, "requests/1")
        assert tx.replay(msgspec.structs.replace(call, principal="parties/b/principals/x")) is None


def test_a_fact_is_settled_once(store: Store) -> None:
    with store.transaction() as tx:
        assert tx.fact("secret") is None
        assert tx.settle("secret", b"first") == b"first"
        assert tx.settle("secret", b"second") == b"first"
    with store.read() as tx:
        assert tx.fact("secret") == b"first"


# --- migrations


def test_migrating_again_changes_nothing(parties: Store) -> None:
    with parties.transaction() as tx:
        tx.insert(person(1))
    parties.migrate()
    with parties.read() as tx:
        assert tx.count(Person) == 1


def test_migrations_make_exactly_the_tables_of_the_code(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def known(_: object, name: str | None, kind: str, __: bool, ___: object) -> bool:
        return not (kind == "table" and name is not None and name.startswith("dataset_fts"))

    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": known, "compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_live_agreements_of_an_earlier_version_are_live_for_their_purpose(url: str) -> None:
    """Each keeps its place, and makes room for another purpose; one that ended has none."""
    from alembic import command

    from exchange.migrations import _config

    store = Store(url, patience=10)
    with store.engine.begin() as connection:
        command.upgrade(_config(connection), "0001")
    with store.transaction() as tx:
        tx.insert(request("r"))
        live = tx.insert(agreement("a-1", "a/d/b"))
        ended = tx.insert(agreement("a-2", None))
    store.migrate()
    now = msgspec.structs.replace(live, live_key="a/d/b/p")
    with store.transaction() as tx:
        assert [tx.get(Agreement, one.name) for one in (live, ended)] == [now, ended]
        assert list(tx.page(Agreement, where={"live_key": "a/d/b/p"})) == [now]
        tx.insert(agreement("a-3", "a/d/b/q"))
        with refused(Reason.ALREADY_EXISTS):
            tx.insert(agreement("a-4", "a/d/b/p"))
    store.close()


def test_the_newest_revision_is_the_one_that_is_taken_for_it() -> None:
    """A database of that revision is not looked at further: an older one would stay as it is."""
    assert migrations.head() == migrations.NEWEST


def test_several_processes_may_migrate_at_once(url: str) -> None:
    stores = [Store(url, patience=10) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Store.migrate, stores))
    with stores[0].read() as tx:
        assert tx.count(Party) == 0
    for store in stores:
        store.close()


def test_a_newer_database_is_refused(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with refused(Reason.CONFIG_INVALID):
        store.migrate()
