"""Transfers: what is granted, to whom, and what is kept of each. Whole days stand in tests/scenarios."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from contracts import receipt as law
from contracts.destruction import Destruction
from contracts.envelope import Envelope, Kind, sign, verify
from contracts.errors import Reason, SluicegateError
from contracts.instants import epoch, rfc3339
from contracts.receipt import Grant, Receipt
from exchange import ledger, rechecking, records, reports, transfers
from exchange.grants import RESUMES
from exchange.store import Store
from tests.exchange.town import GATEWAY_NAME, Town
from tests.papers import key


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


@pytest.fixture
def deal(town: Town) -> str:
    return town.agreement()


def refused(expected: Reason, deed: Any, /, *arguments: Any, **named: Any) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        deed(*arguments, **named)
    assert caught.value.reason is expected, caught.value
    return caught.value


def same_refusal(town: Town, deed: Any, there: str, absent: str) -> None:
    """What is hidden and what is not there are told apart by nothing."""
    first, second = refused(Reason.NOT_FOUND, deed, there), refused(Reason.NOT_FOUND, deed, absent)
    assert first.message.replace(there, "") == second.message.replace(absent, "")
    assert (first.metadata, first.violations) == (second.metadata, second.violations)


def grant_of(record: records.Transfer) -> Grant:
    return msgspec.convert(Envelope.from_bytes(record.grant).payload, Grant)


def finished(town: Town, deal: str, **delivered: Any) -> records.Transfer:
    run = town.pull("analyst", deal)
    town.announce("gateway", run.name)
    return town.deliver("gateway", run.name, **delivered)


def count(town: Town) -> int:
    with town.store.read() as tx:
        return tx.count(records.Transfer)


# --- granting


def test_a_grant_is_for_one_gateway_and_ten_minutes(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    grant = grant_of(run)
    verify(Kind.GRANT, Envelope.from_bytes(run.grant), [town.trust.grant_key])
    assert (grant.transfer, grant.agreement, grant.gateway) == (run.name, deal, "health-bureau-1")
    assert epoch(grant.expires) - epoch(grant.issued) == 600 == run.grant_expires - town.now
    assert (grant.release, grant.parts) == (None, None)
    where = transfers.gateway_of(town.hall, run)
    assert where is not None
    assert (where.name, where.address) == (GATEWAY_NAME, "grpc+tls://localhost:7460")
    entry = town.last_entry()
    assert (entry["event"], entry["resource"]) == ("transfer.granted", run.name)
    assert entry["detail"]["decision"] == run.decision
    assert entry["detail"]["agreementDigest"] == grant.agreement_digest


def test_the_ticket_of_a_grant_opens_the_gate(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    factory = town.papers(run.name)
    ticket = factory.ticket_of(Envelope.from_bytes(run.grant))
    found = law.verify_ticket(
        ticket, trust=town.trust, agreement=factory.agreed, gateway="health-bureau-1", now=town.now
    )
    assert found.transfer == run.name


def test_who_may_pull(town: Town, deal: str) -> None:
    assert town.pull("colleague", deal).state == "GRANTED"
    before = count(town)
    for actor in ("steward", "gateway", "visitor", "mediator", "auditor"):
        refused(Reason.ROLE_MISSING, town.pull, actor, deal)
    # The provider's own requester sees the agreement, and still is not its consumer.
    assert "only metro-planning may pull" in refused(Reason.ROLE_MISSING, town.pull, "clerk", deal).message
    for actor in ("rival", "epidemiologist"):
        same_refusal(town, lambda name, actor=actor: town.pull(actor, name), deal, "agreements/a-zzzzzzzzzz")
    assert count(town) == before


def test_a_refusal_by_policy_is_recorded_with_its_reasons(town: Town, deal: str) -> None:
    """The record says ACTIVE; the policy, which is asked, says no: this mediator's party pulls nothing."""
    with town.store.transaction() as tx:
        record = tx.get(records.Agreement, deal)
        assert record is not None
        tx.replace(replace(record, consumer="city-data-office"), expected_version=record.version)
    asker = replace(town.principal("mediator"), roles=("requester",))
    error = refused(Reason.POLICY_REFUSED, transfers.create, town.hall, asker, None, deal)
    assert {found.code for found in error.violations} >= {"PARTY_NOT_CONSUMER"}
    entry = town.last_entry()
    assert (entry["event"], entry["resource"], entry["detail"]["allow"]) == ("transfer.refused", deal, False)
    assert entry["detail"]["decision"] == error.metadata["decision"]
    assert "PARTY_NOT_CONSUMER" in entry["detail"]["reasons"]
    assert count(town) == 0


def test_a_replay_gives_the_same_transfer_once(town: Town, deal: str) -> None:
    call = town.call("analyst", "CreateTransfer", deal)
    analyst = town.principal("analyst")
    first = transfers.create(town.hall, analyst, call, deal)
    before = town.events()
    town.wait(599)
    assert transfers.create(town.hall, analyst, call, deal) == first
    town.wait(1)
    late = transfers.create(town.hall, analyst, call, deal)
    assert (late.name, late.state, late.grant) == (first.name, "EXPIRED", b"")
    assert town.events() == before
    other = replace(call, body_digest="sha256:other")
    refused(Reason.REQUEST_ID_REUSED, transfers.create, town.hall, analyst, other, deal)


@pytest.mark.parametrize("deed", ["suspend", "terminate"])
def test_a_replay_after_the_end_gives_no_grant(town: Town, deal: str, deed: str) -> None:
    call = town.call("analyst", "CreateTransfer", deal)
    first = transfers.create(town.hall, town.principal("analyst"), call, deal)
    assert first.grant
    getattr(town, deed)("steward", deal)
    again = transfers.create(town.hall, town.principal("analyst"), call, deal)
    assert (again.name, again.grant) == (first.name, b"")
    assert transfers.get(town.hall, town.principal("analyst"), first.name).grant == b""
    refused(Reason.AGREEMENT_NOT_LIVE, town.pull, "analyst", deal)


def test_a_grant_is_shown_to_who_may_use_it(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    for actor, shown in (
        ("analyst", True),
        ("colleague", True),
        ("visitor", False),
        ("steward", False),
        ("gateway", False),
        ("auditor", False),
    ):
        found = transfers.get(town.hall, town.principal(actor), run.name)
        assert bool(found.grant) == shown, actor
        (listed,) = transfers.list_(town.hall, town.principal(actor)).items
        assert listed == found
    same_refusal(
        town,
        lambda name: transfers.get(town.hall, town.principal("rival"), name),
        run.name,
        "transfers/t-zzzzzzzzzz",
    )


def test_listing(town: Town, deal: str) -> None:
    other = town.agreement("epidemiologist", purpose="outbreak-monitoring")
    mine = [town.pull("analyst", deal).name for _ in range(3)]
    theirs = town.pull("epidemiologist", other).name

    def listed(actor: str, **asked: Any) -> list[str]:
        return [item.name for item in transfers.list_(town.hall, town.principal(actor), **asked).items]

    assert listed("analyst") == mine[::-1]
    assert listed("steward") == [theirs, *mine[::-1]]
    assert listed("steward", agreement=other) == [theirs]
    assert listed("analyst", agreement=other) == listed("rival") == []
    page = transfers.list_(town.hall, town.principal("analyst"), page_size=2)
    assert listed("analyst", page_size=2, page_token=page.next_token) == mine[:1]
    refused(Reason.PAGE_TOKEN_INVALID, listed, "analyst", agreement=deal, page_token=page.next_token)


# --- nothing is granted that the ledger cannot hold


def sabotage(path: Path, *statements: str) -> None:
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


@pytest.mark.parametrize("table", ["ledger_entries", "ledger_nodes", "ledger_parties", "calls"])
def test_nothing_is_granted_when_the_ledger_is_broken(town: Town, deal: str, tmp_path: Path, table: str) -> None:
    assert town.pull("analyst", deal).grant
    town.store.close()
    sabotage(tmp_path / "exchange.db", f"ALTER TABLE {table} RENAME TO lost")
    before = count(town)
    error = refused_anyhow(town.pull, "analyst", deal)
    assert error.reason in (Reason.LEDGER_UNAVAILABLE, Reason.UNAVAILABLE, Reason.INTERNAL)
    assert count(town) == before
    sabotage(tmp_path / "exchange.db", f"ALTER TABLE lost RENAME TO {table}")
    assert town.pull("analyst", deal).grant
    with town.store.read() as tx:
        assert rechecking.recheck(tx) == len(town.events())


def refused_anyhow(deed: Any, *arguments: Any) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        deed(*arguments)
    return caught.value


def test_nothing_is_granted_when_the_ledger_refuses_the_row(town: Town, deal: str, tmp_path: Path) -> None:
    """The disk is full exactly when the entry is to be written."""
    sabotage(
        tmp_path / "exchange.db",
        "CREATE TRIGGER full BEFORE INSERT ON ledger_nodes BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    )
    before = (count(town), town.events())
    refused_anyhow(town.pull, "analyst", deal)
    refused_anyhow(town.suspend, "steward", deal)
    assert (count(town), town.events()) == before
    sabotage(tmp_path / "exchange.db", "DROP TRIGGER full")
    assert town.pull("analyst", deal).grant


def test_nothing_is_granted_on_a_database_that_is_only_readable(town: Town, deal: str) -> None:
    """A real read-only database, as on a full or protected disk."""
    before = (count(town), town.events())
    protected = Store(str(town.store.engine.url.render_as_string(hide_password=False)).replace("+pysqlite", ""))

    @sa.event.listens_for(protected.writers, "connect")
    def protect(raw: Any, _: object) -> None:
        raw.execute("PRAGMA query_only = ON").close()

    town.hall = replace_store(town, protected)
    error = refused(Reason.LEDGER_UNAVAILABLE, town.pull, "analyst", deal)
    assert "nothing was changed or granted" in error.message
    refused(Reason.LEDGER_UNAVAILABLE, town.terminate, "analyst", deal)
    town.hall = replace_store(town, town.store)
    assert (count(town), town.events()) == before
    assert town.pull("analyst", deal).grant


def replace_store(town: Town, store: Store) -> Any:
    return dataclasses.replace(town.hall, store=store)


def test_a_writer_that_does_not_let_go_is_not_waited_for(town: Town, deal: str, tmp_path: Path) -> None:
    before = count(town)
    town.store.close()
    impatient = Store(f"sqlite:///{tmp_path / 'exchange.db'}", patience=0.2)
    town.hall = replace_store(town, impatient)
    holder = sqlite3.connect(tmp_path / "exchange.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    refused(Reason.LEDGER_UNAVAILABLE, town.pull, "analyst", deal)
    holder.execute("ROLLBACK")
    holder.close()
    assert count(town) == before
    assert town.pull("analyst", deal).grant


# --- races


def test_many_at_once_leave_a_whole_ledger(town: Town, deal: str) -> None:
    def one(number: int) -> str:
        return town.pull("analyst" if number % 2 else "colleague", deal).name

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(one, range(40)))
    assert len(set(names)) == 40
    with town.store.read() as tx:
        assert rechecking.recheck(tx) == len(town.events())
    assert town.events().count("transfer.granted") == 40


def test_the_same_call_at_once_is_granted_once(town: Town, deal: str) -> None:
    call = town.call("analyst", "CreateTransfer", deal)
    start = threading.Barrier(8)

    def one(_: int) -> str:
        start.wait()
        return transfers.create(town.hall, town.principal("analyst"), call, deal).name

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(one, range(8)))) == 1
    assert town.events().count("transfer.granted") == 1


def test_a_suspension_between_question_and_grant_wins(town: Town, deal: str) -> None:
    """The policy said yes about an agreement that is another by the time the grant is written."""

    class Slow:
        bundle_digest = town.engine.bundle_digest

        def decide(self, action: Any, question: Any) -> Any:
            decision = town.engine.decide(action, question)
            if question.get("agreement", {}).get("state") == "ACTIVE":
                town.suspend("steward", deal)
            return decision

    town.hall = dataclasses.replace(town.hall, policy=Slow())
    refused(Reason.AGREEMENT_NOT_LIVE, town.pull, "analyst", deal)
    assert town.events()[-2:] == ["agreement.suspended", "transfer.refused"]
    assert count(town) == 0


def test_a_backlog_of_unused_grants_does_not_hold_the_writer(town: Town, deal: str) -> None:
    names = [town.pull("analyst", deal).name for _ in range(25)]
    town.wait(600)
    town.pull("analyst", deal)
    assert town.events().count("transfer.expired") == 20
    states = {transfers.get(town.hall, town.principal("analyst"), name).state for name in names}
    assert states == {"EXPIRED"}
    town.pull("analyst", deal)
    assert town.events().count("transfer.expired") == 25


# --- resuming


def test_a_resumed_grant_names_what_is_missing(town: Town, deal: str) -> None:
    run = finished(town, deal, sent=(1,))
    rest = town.pull("analyst", deal, resume=run.name)
    assert (grant_of(rest).release, grant_of(rest).parts) == ("release-1", (0,))
    assert rest.resumes == run.name
    again = town.pull("analyst", deal, resume=rest.name)
    assert (again.resumes, grant_of(again).parts) == (run.name, (0,))


def test_what_the_consumer_lost_is_served_again(town: Town, deal: str) -> None:
    """Everything left the gate, and the consumer was killed before its file was whole."""
    run = finished(town, deal)
    refused(Reason.RECEIPT_OUTSTANDING, town.pull, "analyst", deal)
    again = town.pull("analyst", deal, resume=run.name)
    assert (grant_of(again).release, grant_of(again).parts) == ("release-1", None)


def test_what_was_sent_but_lost_on_its_way_is_named_by_the_consumer(town: Town, deal: str) -> None:
    run = finished(town, deal, sent=(1,))
    rest = town.pull("analyst", deal, resume=run.name, parts=(1, 0, 1))
    assert (grant_of(rest).release, grant_of(rest).parts) == ("release-1", (0, 1))
    again = town.pull("analyst", deal, resume=run.name, parts=(1,))
    assert grant_of(again).parts == (1,)


def test_parts_that_are_named_are_parts_of_what_is_resumed(town: Town, deal: str) -> None:
    run = finished(town, deal, sent=(1,))
    for wrong in ((2,), (-1,), (0, 99)):
        error = refused(Reason.INVALID_ARGUMENT, town.pull, "analyst", deal, resume=run.name, parts=wrong)
        assert [found.path for found in error.violations] == ["parts"]
    refused(Reason.INVALID_ARGUMENT, town.pull, "analyst", deal, parts=(0,))


def test_a_stream_that_broke_off_is_resumed_whole(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    town.announce("gateway", run.name)
    rest = town.pull("analyst", deal, resume=run.name)
    assert (grant_of(rest).release, grant_of(rest).parts) == ("release-1", None)


def test_a_release_is_resumed_so_often_and_no_more(town: Town, deal: str) -> None:
    run = finished(town, deal, sent=(1,))
    for _ in range(RESUMES):
        town.pull("analyst", deal, resume=run.name)
    error = refused(Reason.STATE_WRONG, town.pull, "analyst", deal, resume=run.name)
    assert "new transfer" in error.message


def test_only_the_own_agreements_transfers_are_resumed(town: Town, deal: str) -> None:
    other = town.agreement("epidemiologist", purpose="outbreak-monitoring")
    theirs = town.pull("epidemiologist", other)
    same_refusal(town, lambda name: town.pull("analyst", deal, resume=name), theirs.name, "transfers/t-zzzzzzzzzz")


def test_a_second_partial_receipt_speaks_for_the_first(town: Town, deal: str) -> None:
    first = finished(town, deal, sent=())
    rest = town.pull("analyst", deal, resume=first.name)
    town.announce("gateway", rest.name)
    town.deliver("gateway", rest.name, sent=(0,))
    assert refused(Reason.RECEIPT_OUTSTANDING, town.pull, "analyst", deal).metadata["transfer"] == rest.name
    town.acknowledge("analyst", rest.name)
    assert town.pull("analyst", deal).state == "GRANTED"


# --- reports


@pytest.mark.parametrize("paper", ["announce", "deliver"])
def test_only_the_gateway_of_the_grant_reports(town: Town, deal: str, paper: str) -> None:
    run = town.pull("analyst", deal)
    before = town.events()
    for actor in ("other-gateway", "foreign-gateway"):
        refused(Reason.NOT_FOUND, getattr(town, paper), actor, run.name)
    for actor in ("steward", "analyst", "auditor"):
        refused(Reason.ROLE_MISSING, getattr(town, paper), actor, run.name)
    assert town.events() == before


def test_a_report_on_what_is_not_there(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    intent = town.papers(run.name).intent_of(created=rfc3339(town.now))
    receipt = town.receipt(run.name)
    hall, other = town.hall, town.principal("other-gateway")
    same_refusal(town, lambda n: transfers.report_intent(hall, other, None, n, intent), run.name, "transfers/t-z")
    same_refusal(town, lambda n: transfers.report_receipt(hall, other, None, n, receipt), run.name, "transfers/t-z")
    same_refusal(town, lambda n: transfers.report_refusal(hall, other, None, n, "INTERNAL"), run.name, "transfers/t-z")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"transfer": "transfers/t-zzzzzzzzzz"}, Reason.RECEIPT_INVALID),
        ({"agreement": "agreements/a-zzzzzzzzzz"}, Reason.RECEIPT_INVALID),
        ({"agreement_digest": "sha256:" + "0" * 64}, Reason.RECEIPT_INVALID),
        ({"gateway": "health-bureau-2"}, Reason.SIGNATURE_INVALID),
        ({"rows_out": 999}, Reason.RECEIPT_INVALID),
        ({"content_digest": "sha256:" + "0" * 64}, Reason.DIGEST_MISMATCH),
        ({"bounds": None}, Reason.RECEIPT_INVALID),
    ],
)
def test_intents_that_do_not_fit(town: Town, deal: str, changed: dict[str, Any], reason: Reason) -> None:
    run = town.pull("analyst", deal)
    before = town.events()
    refused(reason, town.announce, "gateway", run.name, **changed)
    assert town.events() == before


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"transfer": "transfers/t-zzzzzzzzzz"}, Reason.RECEIPT_INVALID),
        ({"agreement_digest": "sha256:" + "0" * 64}, Reason.RECEIPT_INVALID),
        ({"release": "release-2"}, Reason.RECEIPT_INVALID),
        ({"plan_digest": "sha256:" + "0" * 64}, Reason.RECEIPT_INVALID),
        ({"rows_in": 2000}, Reason.RECEIPT_INVALID),
        ({"consumer": "rival-maps"}, Reason.RECEIPT_INVALID),
        ({"complete": False}, Reason.RECEIPT_INVALID),
        ({"intent_digest": "sha256:" + "0" * 64}, Reason.RECEIPT_INVALID),
    ],
)
def test_receipts_that_do_not_fit(town: Town, deal: str, changed: dict[str, Any], reason: Reason) -> None:
    run = town.pull("analyst", deal)
    town.announce("gateway", run.name)
    before = town.events()
    refused(reason, town.deliver, "gateway", run.name, **changed)
    assert town.events() == before
    assert town.deliver("gateway", run.name).state == "COMPLETED"


def test_papers_signed_by_another_key(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    hall, gateway, analyst = town.hall, town.principal("gateway"), town.principal("analyst")
    intent = town.papers(run.name).intent_of(created=rfc3339(town.now))
    for owner in ("nobody", "health-bureau-2", "steward@health.example"):
        forged = sign(Kind.INTENT, intent.payload, key(owner))
        assert refused_anyhow(transfers.report_intent, hall, gateway, None, run.name, forged).reason in (
            Reason.KEY_UNTRUSTED,
            Reason.SIGNATURE_INVALID,
        )
        forged = sign(Kind.RECEIPT, town.receipt(run.name).payload, key(owner))
        assert refused_anyhow(transfers.report_receipt, hall, gateway, None, run.name, forged).reason in (
            Reason.KEY_UNTRUSTED,
            Reason.SIGNATURE_INVALID,
        )
    town.announce("gateway", run.name)
    town.deliver("gateway", run.name)
    for owner in ("nobody", "steward@health.example", "health-bureau-1", "holder:metro-planning"):
        forged = sign(Kind.ACKNOWLEDGEMENT, town.acknowledgement("analyst", run.name).payload, key(owner))
        refused(Reason.KEY_UNTRUSTED, transfers.acknowledge, hall, analyst, None, run.name, forged)
    assert town.acknowledge("colleague", run.name).state == "ACKNOWLEDGED"


def test_a_revoked_gateway_key_reports_nothing(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    town.revoke("gateway")
    refused(Reason.KEY_UNTRUSTED, town.announce, "gateway", run.name)


@pytest.mark.parametrize("paper", ["intent", "receipt", "acknowledgement"])
def test_a_paper_is_kept_exactly_once(town: Town, deal: str, paper: str) -> None:
    run = town.pull("analyst", deal)
    town.announce("gateway", run.name)
    if paper != "intent":
        town.deliver("gateway", run.name)
    if paper == "acknowledgement":
        town.acknowledge("analyst", run.name)
    before = town.events()
    again = {"intent": town.announce, "receipt": town.deliver, "acknowledgement": town.acknowledge}[paper]
    actor = "analyst" if paper == "acknowledgement" else "gateway"
    same = again(actor, run.name)
    assert town.events() == before
    town.wait(1)
    other = (
        {"created": rfc3339(town.now)} if paper == "acknowledgement" else {"sent": (0,)} if paper == "receipt" else {}
    )
    error = refused(Reason.RECEIPT_INVALID, again, actor, run.name, **other)
    assert f"another {paper}" in error.message
    entry = town.last_entry()
    assert (entry["event"], entry["detail"]["paper"]) == ("transfer.contradicted", paper)
    assert entry["detail"]["kept"] == error.metadata["kept"] != entry["detail"]["offered"]
    kept = transfers.get(town.hall, town.principal("steward"), run.name)
    assert getattr(kept, paper) == getattr(same, paper)


def test_replays_of_reports(town: Town, deal: str) -> None:
    hall, gateway, analyst = town.hall, town.principal("gateway"), town.principal("analyst")
    run = town.pull("analyst", deal)
    intent = town.papers(run.name).intent_of(created=rfc3339(town.now))
    call = town.call("gateway", "ReportIntent", intent.digest)
    transfers.report_intent(hall, gateway, call, run.name, intent)
    receipt = town.receipt(run.name)
    sent = town.call("gateway", "ReportReceipt", receipt.digest)
    transfers.report_receipt(hall, gateway, sent, run.name, receipt)
    paper = town.acknowledgement("analyst", run.name)
    received = town.call("analyst", "AcknowledgeTransfer", paper.digest)
    transfers.acknowledge(hall, analyst, received, run.name, paper)
    before = town.events()
    assert transfers.report_intent(hall, gateway, call, run.name, intent).state == "ACKNOWLEDGED"
    assert transfers.report_receipt(hall, gateway, sent, run.name, receipt).state == "ACKNOWLEDGED"
    assert transfers.acknowledge(hall, analyst, received, run.name, paper).state == "ACKNOWLEDGED"
    reused = replace(sent, body_digest="sha256:other")
    refused(Reason.REQUEST_ID_REUSED, transfers.report_receipt, hall, gateway, reused, run.name, receipt)
    other = town.pull("analyst", deal)
    refusal = town.call("gateway", "ReportRefusal", other.name)
    told = transfers.report_refusal(hall, gateway, refusal, other.name, "PLAN_REFUSED", "{}")
    assert transfers.report_refusal(hall, gateway, refusal, other.name, "PLAN_REFUSED", "{}") == told
    assert town.events() == [*before, "transfer.granted", "transfer.refused"]


def test_a_receipt_finds_its_place_in_the_ledger(town: Town, deal: str) -> None:
    run = finished(town, deal)
    auditor = town.principal("auditor")
    (entry,) = [
        one for one in ledger.entries(town.hall, auditor, resource=run.name).items if one.event == "transfer.completed"
    ]
    assert entry.index == run.ledger_index
    assert entry.entry is not None
    assert Envelope.from_bytes(run.receipt).digest in entry.entry.decode()


def test_a_receipt_counts_whatever_was_concluded_from_silence(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    intent = town.papers(run.name).intent_of(created=rfc3339(town.now))
    town.wait(600)
    town.pull("analyst", deal)  # settles the unused grant
    assert transfers.get(town.hall, town.principal("analyst"), run.name).state == "EXPIRED"
    told = transfers.report_intent(town.hall, town.principal("gateway"), None, run.name, intent)
    assert (told.state, told.intent) == ("EXPIRED", intent.to_bytes())
    town.terminate("steward", deal)
    assert town.deliver("gateway", run.name).state == "COMPLETED"
    assert town.acknowledge("analyst", run.name).state == "ACKNOWLEDGED"


@pytest.mark.parametrize("stop", ["suspend", "terminate"])
def test_an_intent_after_the_stop_is_kept_and_stops_the_gateway(town: Town, deal: str, stop: str) -> None:
    """However often it is told, by whichever call: the gateway may not have heard."""
    run = town.pull("analyst", deal)
    intent = town.papers(run.name).intent_of(created=rfc3339(town.now))
    getattr(town, stop)("steward", deal)
    hall, gateway, call = town.hall, town.principal("gateway"), town.call("gateway", "ReportIntent", intent.digest)
    for told in (call, call, None):
        error = refused(Reason.AGREEMENT_NOT_LIVE, transfers.report_intent, hall, gateway, told, run.name, intent)
        assert deal in error.message
    assert town.events().count("transfer.announced") == 1
    kept = transfers.get(hall, gateway, run.name)
    assert (kept.state, kept.intent) == ("SERVING", intent.to_bytes())
    assert town.deliver("gateway", run.name, sent=()).state == "PARTIAL"


def test_a_receipt_may_overtake_its_intent(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    intent = town.papers(run.name).intent_of(created=rfc3339(town.now))
    assert town.deliver("gateway", run.name, intent_digest=intent.digest).state == "COMPLETED"
    other = town.papers(run.name).intent_of(created=rfc3339(town.now), release="release-9")
    hall, gateway = town.hall, town.principal("gateway")
    refused(Reason.RECEIPT_INVALID, transfers.report_intent, hall, gateway, None, run.name, other)
    assert transfers.report_intent(hall, gateway, None, run.name, intent).state == "COMPLETED"


def test_a_resumed_run_keeps_to_its_release(town: Town, deal: str) -> None:
    run = finished(town, deal, sent=(0,))
    rest = town.pull("analyst", deal, resume=run.name)
    error = refused(Reason.RECEIPT_INVALID, town.announce, "gateway", rest.name, release="release-2")
    assert [found.path for found in error.violations] == ["release"]


def test_acknowledgements_that_do_not_fit(town: Town, deal: str) -> None:
    run = finished(town, deal)
    for changed in (
        {"receiptDigest": "sha256:" + "0" * 64},
        {"contentDigest": "sha256:" + "0" * 64},
        {"transfer": "transfers/t-zzzzzzzzzz"},
    ):
        refused(Reason.RECEIPT_INVALID, town.acknowledge, "analyst", run.name, **changed)
    assert transfers.get(town.hall, town.principal("analyst"), run.name).state == "COMPLETED"


def test_who_acknowledges_and_when(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    paper = finished_paper(town, deal)
    hall = town.hall
    analyst = town.principal("analyst")
    refused(Reason.STATE_WRONG, transfers.acknowledge, hall, analyst, None, run.name, paper)
    for actor, reason in (
        ("visitor", Reason.ROLE_MISSING),
        ("steward", Reason.ROLE_MISSING),
        ("clerk", Reason.ROLE_MISSING),
        ("rival", Reason.NOT_FOUND),
    ):
        refused(reason, transfers.acknowledge, hall, town.principal(actor), None, run.name, paper)


def finished_paper(town: Town, deal: str) -> Envelope:
    done = finished(town, deal)
    return town.acknowledgement("analyst", done.name)


def test_figures_are_bounded(town: Town, deal: str) -> None:
    run = town.pull("analyst", deal)
    for detail in ("{", "null", '{"k": NaN}', '{"a": "' + "x" * 17_000 + '"}', "[" * 9000):
        refused(Reason.INVALID_ARGUMENT, town.refuse, "gateway", run.name, reason="BOUNDS_NOT_MET", detail=detail)
    assert town.refuse("gateway", run.name, reason="BOUNDS_NOT_MET").state == "REFUSED"


def test_the_receipt_shown_is_the_receipt_signed(town: Town, deal: str) -> None:
    run = finished(town, deal)
    shown = transfers.get(town.hall, town.principal("analyst"), run.name)
    assert msgspec.convert(Envelope.from_bytes(shown.receipt).payload, Receipt).transfer == run.name


# --- the destruction of keys


def destroyed(town: Town, deal: str, signer: str = "", **changed: Any) -> Envelope:
    """A gateway's statement about an agreement's keys; `changed` replaces fields of its payload."""
    with town.store.read() as tx:
        record = tx.get(records.Agreement, deal)
    assert record is not None
    gateway = record.gateway.rpartition("/")[2]
    stated = Destruction(
        agreement=deal,
        agreement_digest=record.digest,
        gateway=gateway,
        order_digest="sha256:" + "5" * 64,
        at=rfc3339(town.now),
    )
    return sign(Kind.DESTRUCTION, msgspec.structs.replace(stated, **changed), key(signer or gateway))


def test_destroyed_keys_are_recorded_once(town: Town, deal: str) -> None:
    stated, gateway = destroyed(town, deal), town.principal("gateway")
    call = town.call("gateway", "ReportKeyDestruction", deal, stated.digest)
    for again in (call, call, town.call("gateway", "ReportKeyDestruction", deal, "again")):
        found = reports.report_destruction(town.hall, gateway, again, deal, stated)
        assert found.key_destruction == stated.to_bytes()
        assert found.state == "ACTIVE", "what the department's order ends, the exchange hears from its people"
    assert town.events().count("agreement.keys-destroyed") == 1
    later = destroyed(town, deal, at=rfc3339(town.now + 1))
    refused(Reason.RECEIPT_INVALID, reports.report_destruction, town.hall, gateway, None, deal, later)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"agreement": "agreements/a-zzzzzzzzzz"}, Reason.RECEIPT_INVALID),
        ({"agreement_digest": "sha256:" + "0" * 64}, Reason.RECEIPT_INVALID),
        ({"gateway": "other"}, Reason.SIGNATURE_INVALID),
        ({"signer": "steward@health.example"}, Reason.KEY_UNTRUSTED),
        ({"at": "2999-01-01T00:00:00Z"}, Reason.KEY_UNTRUSTED),
    ],
    ids=["other agreement", "other digest", "other gateway", "other key", "future"],
)
def test_a_statement_about_keys_that_does_not_fit(
    town: Town, deal: str, changed: dict[str, Any], reason: Reason
) -> None:
    stated = destroyed(town, deal, **changed)
    before = town.events()
    refused(reason, reports.report_destruction, town.hall, town.principal("gateway"), None, deal, stated)
    assert town.events() == before


def test_only_the_agreements_own_gateway_speaks_of_its_keys(town: Town, deal: str) -> None:
    stated, hall, other = destroyed(town, deal), town.hall, town.principal("other-gateway")
    same_refusal(town, lambda n: reports.report_destruction(hall, other, None, n, stated), deal, "agreements/a-z")
    for actor in ("steward", "analyst", "auditor"):
        refused(Reason.ROLE_MISSING, reports.report_destruction, hall, town.principal(actor), None, deal, stated)
