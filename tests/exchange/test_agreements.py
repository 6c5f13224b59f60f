"""Agreements: signed by both sides, stopped, resumed, ended; and what the clock does to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts.agreement import Agreement as Paper
from contracts.agreement import verify_bundle, verify_draft
from contracts.envelope import Envelope, Kind, sign
from contracts.errors import Reason, SluicegateError
from contracts.trust import Use
from exchange import agreements, records, suspending
from tests.exchange.town import GATEWAY_NAME, Town
from tests.papers import COMPANY, PROVIDER, STEWARD, key

DAY = 86_400


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def refused(expected: Reason, deed: Any, /, *arguments: Any, **named: Any) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        deed(*arguments, **named)
    assert caught.value.reason is expected, caught.value
    return caught.value


def drafted(town: Town, consumer: str = "analyst", **wished: Any) -> records.Agreement:
    wish = town.request(consumer, **wished)
    for approver in ("steward", "dpo")[: wish.approvals_needed]:
        wish = town.approve(approver, wish.name)
    return agreements.get(town.hall, town.principal(consumer), wish.agreement)


def offer(town: Town, actor: str, name: str, statement: Envelope) -> records.Agreement:
    call = town.call(actor, "SignAgreement", statement.digest)
    return agreements.sign(town.hall, town.principal(actor), call, name, statement)


# --- drafting and signing


def test_the_draft_binds_what_was_asked_and_approved(town: Town) -> None:
    record = drafted(town)
    statement = Envelope.from_bytes(record.statement)
    paper = msgspec.convert(statement.payload, Paper)
    assert statement.signatures == ()
    assert (paper.id, record.digest) == (record.name, statement.digest)
    assert (paper.gateway, record.gateway) == ("health-bureau-1", GATEWAY_NAME)
    assert paper.holder == key(f"holder:{COMPANY}").public
    assert paper.policy_digest == town.engine.bundle_digest
    assert record.not_after - record.not_before == 90 * DAY
    assert record.live_key == f"{PROVIDER}/hospital-visits/{COMPANY}/transport-planning"


def test_the_bundle_verifies_before_and_after_signing(town: Town) -> None:
    record = drafted(town, "epidemiologist", purpose="outbreak-monitoring")
    who = town.principal("epidemiologist")
    draft = agreements.bundle(town.hall, who, record.name)
    assert verify_draft(draft, town.trust, at=town.now).agreement.id == record.name
    with pytest.raises(SluicegateError):
        verify_bundle(draft, town.trust, at=town.now)
    town.sign("dpo", record.name)
    town.sign("epidemiologist", record.name)
    for reader in ("epidemiologist", "gateway", "steward", "auditor"):
        whole = agreements.bundle(town.hall, town.principal(reader), record.name)
        assert verify_bundle(whole, town.trust, at=town.now).digest == record.digest
    assert len(whole.approvals) == 2
    refused(Reason.NOT_FOUND, agreements.bundle, town.hall, town.principal("rival"), record.name)


def test_the_bundle_shows_no_keys_that_have_no_part_in_it(town: Town) -> None:
    name = town.agreement()
    found = agreements.bundle(town.hall, town.principal("analyst"), name)
    shown = {(one.payload["party"], one.payload["subject"], one.payload["use"]) for one in found.statements}
    assert (PROVIDER, "clerk@health.example", "requester") not in shown
    assert (PROVIDER, "health-bureau-2", "gateway") not in shown
    assert {party for party, _, _ in shown} == {PROVIDER, COMPANY}


def test_a_signature_may_come_alone_or_beside_the_others(town: Town) -> None:
    record = drafted(town)
    statement = Envelope.from_bytes(record.statement)
    first = sign(Kind.AGREEMENT, statement.payload, town.key("steward"))
    assert offer(town, "steward", record.name, first).state == "PENDING"
    alone = sign(Kind.AGREEMENT, statement.payload, town.key("analyst"))
    active = offer(town, "analyst", record.name, alone)
    assert active.state == "ACTIVE"
    assert Envelope.from_bytes(active.statement).signatures == (*first.signatures, *alone.signatures)


def test_only_the_drafted_document_is_signed(town: Town) -> None:
    record = drafted(town)
    payload = Envelope.from_bytes(record.statement).payload
    longer = sign(Kind.AGREEMENT, {**payload, "notAfter": "2031-01-01T00:00:00Z"}, town.key("steward"))
    refused(Reason.DIGEST_MISMATCH, offer, town, "steward", record.name, longer)


def test_signatures_that_do_not_count(town: Town) -> None:
    record = drafted(town)
    payload = Envelope.from_bytes(record.statement).payload
    for actor, keys, reason in (
        ("steward", (key("nobody"),), Reason.KEY_UNTRUSTED),
        ("steward", (town.key("dpo"),), Reason.KEY_UNTRUSTED),
        ("steward", (town.key("steward"), town.key("analyst")), Reason.SIGNATURE_INVALID),
        ("steward", (), Reason.SIGNATURE_INVALID),
        ("dpo", (town.key("dpo"),), Reason.ROLE_MISSING),  # an approver, but not of this purpose
        ("clerk", (town.key("clerk"),), Reason.ROLE_MISSING),
        ("gateway", (town.key("gateway"),), Reason.ROLE_MISSING),
        ("rival", (town.key("rival"),), Reason.NOT_FOUND),
    ):
        statement = sign(Kind.AGREEMENT, payload, *keys) if keys else Envelope(payload, ())
        refused(reason, offer, town, actor, record.name, statement)
    request_kind = sign(Kind.REQUEST, payload, town.key("steward"))
    refused(Reason.SIGNATURE_INVALID, offer, town, "steward", record.name, request_kind)
    town.sign("steward", record.name)
    refused(Reason.ROLE_MISSING, town.sign, "visitor", record.name)
    assert town.sign("colleague", record.name).state == "ACTIVE"


def test_nothing_becomes_active_that_no_gateway_would_serve(town: Town) -> None:
    record = drafted(town)
    town.sign("steward", record.name)
    town.revoke("steward")
    before = town.events()
    refused(Reason.KEY_UNTRUSTED, town.sign, "analyst", record.name)
    assert agreements.get(town.hall, town.principal("analyst"), record.name).state == "PENDING"
    assert town.events() == before


def test_a_draft_that_waited_too_long_is_not_signed(town: Town) -> None:
    record = drafted(town, duration="P1D")
    town.wait(DAY)
    assert "EXPIRED" in refused(Reason.STATE_WRONG, town.sign, "steward", record.name).message


# --- replays, etags, roles


@pytest.mark.parametrize("verb", ["suspend", "resume", "terminate"])
def test_replays_change_nothing(town: Town, verb: str) -> None:
    name = town.agreement()
    if verb == "resume":
        town.suspend("steward", name)
    act: Callable[..., records.Agreement] = getattr(suspending, verb)
    call = town.call("steward", verb, name)
    arguments: dict[str, Any] = {"reason": "because"} | ({"until": town.now + 60} if verb == "suspend" else {})
    first = act(town.hall, town.principal("steward"), call, name, **arguments)
    before = town.events()
    assert act(town.hall, town.principal("steward"), call, name, **arguments) == first
    assert town.events() == before
    reused = replace(call, body_digest="sha256:other")
    refused(Reason.REQUEST_ID_REUSED, act, town.hall, town.principal("steward"), reused, name, **arguments)
    stolen = replace(call, principal=town.principal("deputy").name)
    # The same id by somebody else is another call.
    if verb == "suspend":
        act(town.hall, town.principal("deputy"), stolen, name, **arguments)
        assert len(town.events()) == len(before) + 1
    else:
        refused(Reason.STATE_WRONG, act, town.hall, town.principal("deputy"), stolen, name, **arguments)


def test_a_replayed_signature(town: Town) -> None:
    record = drafted(town)
    statement = sign(Kind.AGREEMENT, Envelope.from_bytes(record.statement).payload, town.key("steward"))
    call = town.call("steward", "SignAgreement", statement.digest)
    first = agreements.sign(town.hall, town.principal("steward"), call, record.name, statement)
    before = town.events()
    assert agreements.sign(town.hall, town.principal("steward"), call, record.name, statement) == first
    assert town.events() == before


@pytest.mark.parametrize("verb", ["suspend", "resume", "terminate"])
def test_a_stale_etag_changes_nothing(town: Town, verb: str) -> None:
    name = town.agreement()
    stale = agreements.get(town.hall, town.principal("steward"), name).etag
    town.suspend("steward", name, etag=stale)
    before = town.events()
    refused(Reason.ETAG_MISMATCH, getattr(town, verb), "steward", name, etag=stale)
    assert town.events() == before
    fresh = agreements.get(town.hall, town.principal("steward"), name).etag
    getattr(town, verb)("steward", name, etag=fresh)
    assert len(town.events()) == len(before) + 1


@pytest.mark.parametrize("verb", ["suspend", "resume", "terminate"])
def test_what_one_may_not_see_cannot_be_changed(town: Town, verb: str) -> None:
    name = town.agreement()
    hidden = refused(Reason.NOT_FOUND, getattr(town, verb), "centre-steward", name)
    absent = refused(Reason.NOT_FOUND, getattr(town, verb), "centre-steward", "agreements/a-zzzzzzzzzz")
    assert hidden.message.replace(name, "") == absent.message.replace("agreements/a-zzzzzzzzzz", "")
    assert (hidden.metadata, hidden.violations) == (absent.metadata, absent.violations)
    for actor in ("auditor", "visitor", "gateway"):
        refused(Reason.ROLE_MISSING, getattr(town, verb), actor, name)


def test_a_mediator_is_one_of_the_coordination_party(town: Town) -> None:
    name = town.agreement()
    impostor = replace(town.principal("visitor"), roles=("mediator",))
    refused(Reason.ROLE_MISSING, suspending.suspend, town.hall, impostor, None, name, reason="x", until=town.now + 60)
    provider = replace(town.principal("clerk"), roles=("mediator",))
    refused(Reason.ROLE_MISSING, suspending.suspend, town.hall, provider, None, name, reason="x", until=town.now + 60)


def test_the_end_of_a_suspension_lies_ahead(town: Town) -> None:
    name = town.agreement()
    for seconds in (0, -1):
        refused(Reason.INVALID_ARGUMENT, town.suspend, "steward", name, seconds=seconds)
    assert town.suspend("steward", name, seconds=400 * DAY).state == "SUSPENDED"


def test_a_side_may_change_its_own_suspension(town: Town) -> None:
    name = town.agreement()
    town.suspend("steward", name, seconds=60)
    longer = town.suspend("dpo", name, seconds=3600, reason="still looking")
    assert (longer.suspended_until, longer.state_reason) == (town.now + 3600, "still looking")


def test_a_lapsed_suspension_is_nobodys_any_more(town: Town) -> None:
    name = town.agreement()
    town.suspend("mediator", name, seconds=60)
    town.wait(60)
    assert town.suspend("steward", name).suspended_by == PROVIDER


def test_the_ledger_says_who_stopped_it_why_and_until_when(town: Town) -> None:
    name = town.agreement()
    town.suspend("mediator", name, seconds=60, reason="  a complaint  ")
    entry = town.last_entry()
    assert (entry["event"], entry["actor"]) == ("agreement.suspended", town.principal("mediator").name)
    assert entry["detail"]["reason"] == "a complaint"
    assert entry["detail"]["by"] == "city-data-office"
    assert entry["detail"]["until"] > entry["at"]


# --- the clock

RECORD = records.Agreement(
    name="agreements/a-aaaaaaaaaa",
    created=0,
    updated=0,
    provider=PROVIDER,
    consumer=COMPANY,
    dataset="hospital-visits",
    contract="c",
    request="r",
    purpose="p",
    fields=("f",),
    state="ACTIVE",
    statement=b"",
    digest="sha256:0",
    unsigned_parties=(),
    not_before=100,
    not_after=1000,
    gateway="g",
    live_key="k",
)


@given(
    state=st.sampled_from(["PENDING", "ACTIVE", "SUSPENDED", "TERMINATED", "EXPIRED"]),
    until=st.integers(0, 1200),
    now=st.integers(0, 1200),
    later=st.integers(0, 1200),
)
def test_what_the_clock_does(state: Any, until: int, now: int, later: int) -> None:
    suspended = {"suspended_until": until, "suspended_by": PROVIDER} if state == "SUSPENDED" else {}
    record = replace(RECORD, state=state, **suspended)
    seen = agreements.as_of(record, now)
    # Looking changes nothing, and looking twice is looking once.
    assert agreements.as_of(seen, now) == seen
    assert agreements.as_of(agreements.as_of(record, min(now, later)), max(now, later)) == agreements.as_of(
        record, max(now, later)
    )
    # Nothing ended comes to life again, nothing past its end is alive.
    if state in ("TERMINATED", "EXPIRED"):
        assert seen == record
    elif now >= 1000:
        assert (seen.state, seen.live_key) == ("EXPIRED", None)
    elif state == "SUSPENDED":
        assert (seen.state == "ACTIVE") == (now >= until)
    assert agreements.live(record, now) == (seen.state == "ACTIVE" and 100 <= now < 1000)
    if agreements.live(record, now):
        assert state in ("ACTIVE", "SUSPENDED")


# --- listing and watching


def test_listing_goes_by_the_state_as_of_now(town: Town) -> None:
    short = town.agreement("analyst", duration="P1D")
    other = town.agreement("epidemiologist", purpose="outbreak-monitoring")
    town.suspend("steward", other, seconds=2 * DAY)

    def listed(actor: str, state: str = "") -> list[str]:
        return [item.name for item in agreements.list_(town.hall, town.principal(actor), state=state).items]

    assert listed("steward") == [other, short]
    assert (listed("analyst"), listed("rival")) == ([short], [])
    assert (listed("steward", "ACTIVE"), listed("steward", "SUSPENDED")) == ([short], [other])
    town.wait(2 * DAY)
    assert (listed("steward", "ACTIVE"), listed("steward", "SUSPENDED")) == ([other], [])
    assert (listed("steward", "EXPIRED"), listed("steward", "PENDING"), listed("auditor")) == (
        [short],
        [],
        [other, short],
    )
    refused(Reason.INVALID_ARGUMENT, agreements.list_, town.hall, town.principal("steward"), state="active")
    page = agreements.list_(town.hall, town.principal("steward"), page_size=1)
    asked = (town.hall, town.principal("steward"))
    assert [item.name for item in agreements.list_(*asked, page_size=1, page_token=page.next_token).items] == [short]
    refused(Reason.PAGE_TOKEN_INVALID, agreements.list_, *asked, state="ACTIVE", page_token=page.next_token)


def test_a_gateway_is_told_of_its_own_stopped_agreements_only(town: Town) -> None:
    name = town.agreement()
    town.suspend("steward", name)
    assert agreements.stopped(town.hall, GATEWAY_NAME) == {name}
    assert agreements.stopped(town.hall, f"parties/{PROVIDER}/gateways/health-bureau-2") == frozenset()


def test_only_the_gateway_itself_watches(town: Town) -> None:
    agreements.may_watch(town.principal("gateway"), GATEWAY_NAME)
    for actor, reason in (
        ("other-gateway", Reason.NOT_FOUND),
        ("foreign-gateway", Reason.NOT_FOUND),
        ("steward", Reason.ROLE_MISSING),
        ("auditor", Reason.ROLE_MISSING),
    ):
        refused(reason, agreements.may_watch, town.principal(actor), GATEWAY_NAME)


def test_a_verified_agreement_follows_the_keys(town: Town) -> None:
    """What is remembered of an agreement is what cannot change: its keys are read anew."""
    name = town.agreement()
    with town.store.read() as tx:
        record = tx.get(records.Agreement, name)
        assert record is not None
        known = agreements.verified(tx, town.hall, record)
        assert known.keys.certified(PROVIDER, Use.GATEWAY, town.now)
    town.revoke("gateway")
    town.revoke("steward")
    with town.store.read() as tx:
        again = agreements.verified(tx, town.hall, record)
    assert again.agreement == known.agreement
    assert again.keys.certified(PROVIDER, Use.GATEWAY, town.now) == ()
    assert STEWARD in {one.payload["subject"] for one in again.keys.statements}
