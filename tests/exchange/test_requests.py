"""Requests: who may ask, for what, and who decides. Whole days stand in tests/scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.envelope import Envelope, Kind, sign
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.trust import Use
from exchange import records, requests
from tests import papers
from tests.exchange.town import ACTORS, Town
from tests.papers import DPO, PROVIDER, STEWARD, key


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def refused(expected: Reason, deed: Any, /, *arguments: Any, **named: Any) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        deed(*arguments, **named)
    assert caught.value.reason is expected, caught.value
    return caught.value


def hand_in(town: Town, actor: str, statement: Envelope) -> records.Request:
    call = town.call(actor, "CreateRequest", statement.digest)
    return requests.create(town.hall, town.principal(actor), call, statement)


def snapshot(town: Town) -> tuple[list[str], int]:
    with town.store.read() as tx:
        return town.events(), tx.count(records.Request)


# --- asking


def test_a_request_is_recorded_as_it_was_signed(town: Town) -> None:
    statement = sign(Kind.REQUEST, town.wish("analyst"), town.key("analyst"))
    record = hand_in(town, "analyst", statement)
    assert record.statement == statement.to_bytes()
    assert record.name == statement.payload["id"]
    assert (record.provider, record.consumer, record.purpose) == (PROVIDER, "metro-planning", "transport-planning")
    assert record.contract == town.current().name
    entry = town.last_entry()
    assert entry["event"] == "request.submitted"
    assert entry["parties"] == sorted(["metro-planning", PROVIDER])
    assert entry["detail"]["digest"] == statement.digest
    assert entry["detail"]["allow"] is True
    assert entry["detail"]["policy"] == town.engine.bundle_digest


def test_the_ledger_keeps_no_free_text_of_the_caller(town: Town) -> None:
    refused(Reason.REQUEST_OUTSIDE_CONTRACT, town.request, "analyst", reason="x" * 3000, fields=("citizen 4711",))
    assert "xxx" not in str(town.last_entry())
    assert "4711" not in str(town.last_entry())
    assert town.last_entry()["detail"]["findings"] == ["fields: FIELD_NOT_OFFERED", "reason: REASON_MISSING"]


@pytest.mark.parametrize("actor", ["steward", "gateway", "visitor", "auditor", "mediator"])
def test_only_requesters_ask(town: Town, actor: str) -> None:
    before = snapshot(town)
    statement = sign(Kind.REQUEST, town.wish("analyst"), town.key("analyst"))
    refused(Reason.ROLE_MISSING, hand_in, town, actor, statement)
    assert snapshot(town) == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"consumer": "disease-control-centre"}, "must name its caller"),
        ({"requester": "colleague@metro.example"}, "must name its caller"),
        ({"id": "requests/r-short"}, "ten characters"),
        ({"id": "requests/r-AAAAAAAAAA"}, "ten characters"),
        ({"id": "agreements/a-aaaaaaaaaa"}, "ten characters"),
        ({"id": "requests/r-aaaaaaaaaa/x"}, "ten characters"),
        ({"id": "requests/r-aaaaaaaaaa\n"}, "ten characters"),
        ({"created": "yesterday"}, "not an instant"),
    ],
)
def test_a_request_must_speak_for_its_caller(town: Town, changed: dict[str, Any], words: str) -> None:
    assert words in refused(Reason.INVALID_ARGUMENT, town.request, "analyst", **changed).message


def test_a_request_has_its_day(town: Town) -> None:
    created = rfc3339(town.now)
    town.wait(24 * 3600 + 1)
    assert "more than a day ago" in refused(Reason.INVALID_ARGUMENT, town.request, "analyst", created=created).message
    ahead = rfc3339(town.now + 61)
    assert "in the future" in refused(Reason.INVALID_ARGUMENT, town.request, "analyst", created=ahead).message
    assert town.request("analyst", created=rfc3339(town.now + 60)).state == "SUBMITTED"


def test_a_department_does_not_ask_itself(town: Town) -> None:
    assert "own dataset" in refused(Reason.INVALID_ARGUMENT, town.request, "clerk").message


def test_what_is_no_request_is_refused(town: Town) -> None:
    wish = msgspec.to_builtins(town.wish("analyst"))
    for broken in ({**wish, "extra": 1}, {name: value for name, value in wish.items() if name != "holder"}, {}):
        statement = sign(Kind.REQUEST, broken, town.key("analyst"))
        refused(Reason.INVALID_ARGUMENT, hand_in, town, "analyst", statement)


def test_the_signature_is_the_callers_own_certified_requester_key(town: Town) -> None:
    wish = town.wish("analyst")
    good = sign(Kind.REQUEST, wish, town.key("analyst"))
    other_kind = sign(Kind.APPROVAL, wish, town.key("analyst"))
    changed = Envelope({**good.payload, "duration": "P300D"}, good.signatures)
    unknown = sign(Kind.REQUEST, wish, key("nobody"))
    colleague = sign(Kind.REQUEST, wish, town.key("colleague"))
    both = sign(Kind.REQUEST, wish, town.key("analyst"), town.key("colleague"))
    none = Envelope(good.payload, ())
    for statement, reason in (
        (other_kind, Reason.SIGNATURE_INVALID),
        (changed, Reason.SIGNATURE_INVALID),
        (unknown, Reason.KEY_UNTRUSTED),
        (colleague, Reason.KEY_UNTRUSTED),
        (both, Reason.SIGNATURE_INVALID),
        (none, Reason.SIGNATURE_INVALID),
    ):
        refused(reason, hand_in, town, "analyst", statement)
    assert hand_in(town, "analyst", good).state == "SUBMITTED"


def test_a_key_for_another_use_or_taken_back_does_not_ask(town: Town) -> None:
    town.certify("metro-planning", "visitor@metro.example", Use.APPROVER)
    wish = town.wish("analyst", requester="visitor@metro.example")
    statement = sign(Kind.REQUEST, wish, key("visitor@metro.example"))
    person = msgspec.structs.replace(town.principal("visitor"), roles=("requester",))
    error = refused(Reason.KEY_UNTRUSTED, requests.create, town.hall, person, None, statement)
    assert "approver key of visitor@metro.example" in error.message
    town.revoke("analyst")
    assert "revoked" in refused(Reason.KEY_UNTRUSTED, town.request, "analyst").message


def test_a_dataset_that_one_may_not_see_is_not_there(town: Town) -> None:
    document = papers.document(name="secret-visits")
    purposes = next(part["value"] for part in document["customProperties"] if part["property"] == "purposes")
    purposes["transport-planning"]["consumers"] = ["disease-control-centre"]
    town.publish(document)
    terms = {"document_digest": town.current("secret-visits").document_digest}
    hidden = refused(Reason.NOT_FOUND, town.request, "analyst", dataset="secret-visits", **terms)
    absent = refused(Reason.NOT_FOUND, town.request, "analyst", dataset="secret-visitz", **terms)
    assert hidden.message.replace("visits", "visitz") == absent.message
    assert (hidden.metadata, hidden.violations) == (absent.metadata, absent.violations)
    foreign = refused(Reason.NOT_FOUND, town.request, "analyst", provider="no-such-bureau")
    assert "parties/no-such-bureau" in foreign.message


def test_a_request_is_for_the_current_terms(town: Town) -> None:
    old = town.wish("analyst")
    town.publish(papers.document(version="2.0.0", domain="public health"))
    statement = sign(Kind.REQUEST, old, town.key("analyst"))
    error = refused(Reason.ETAG_MISMATCH, hand_in, town, "analyst", statement)
    assert error.metadata["contract"].endswith("/contracts/2.0.0")


def test_an_id_is_used_once(town: Town) -> None:
    first = town.request("analyst")
    refused(Reason.ALREADY_EXISTS, town.request, "epidemiologist", purpose="outbreak-monitoring", id=first.name)


def test_too_few_others_to_approve_is_said_at_once(town: Town) -> None:
    # The twin is the contract's only approver, asking for the company where she works as well.
    error = refused(Reason.REQUEST_OUTSIDE_CONTRACT, town.request, "twin")
    assert "names 0 approvers besides the requester" in error.message
    assert town.events()[-1] == "request.refused"


def test_a_replay_gives_the_resource_as_it_is_now(town: Town) -> None:
    statement = sign(Kind.REQUEST, town.wish("analyst"), town.key("analyst"))
    call = town.call("analyst", "CreateRequest", statement.digest)
    first = requests.create(town.hall, town.principal("analyst"), call, statement)
    town.approve("steward", first.name)
    before = snapshot(town)
    town.wait(10 * 24 * 3600)
    again = requests.create(town.hall, town.principal("analyst"), call, statement)
    assert (again.name, again.state) == (first.name, "APPROVED")
    assert snapshot(town) == before
    other = sign(Kind.REQUEST, town.wish("analyst"), town.key("analyst"))
    reused = msgspec.structs.replace(call, body_digest=other.digest)
    refused(Reason.REQUEST_ID_REUSED, requests.create, town.hall, town.principal("analyst"), reused, other)


# --- seeing


def test_a_request_is_seen_by_both_sides_and_the_overseers(town: Town) -> None:
    wish = town.request("analyst")
    for actor in ("analyst", "visitor", "steward", "gateway", "mediator", "auditor"):
        assert requests.get(town.hall, town.principal(actor), wish.name) == wish
    hidden = refused(Reason.NOT_FOUND, requests.get, town.hall, town.principal("rival"), wish.name)
    absent = refused(Reason.NOT_FOUND, requests.get, town.hall, town.principal("rival"), "requests/r-zzzzzzzzzz")
    assert hidden.message.replace(wish.name, "") == absent.message.replace("requests/r-zzzzzzzzzz", "")
    assert (hidden.metadata, hidden.violations) == (absent.metadata, absent.violations)


def test_listing(town: Town) -> None:
    names = []
    for _ in range(3):
        names.append(town.request("analyst").name)
        town.cancel("analyst", names[-1])
    other = town.request("epidemiologist", purpose="outbreak-monitoring").name
    mine = requests.list_(town.hall, town.principal("analyst"))
    assert [item.name for item in mine.items] == names[::-1]
    assert [item.name for item in requests.list_(town.hall, town.principal("steward")).items] == [other, *names[::-1]]
    assert requests.list_(town.hall, town.principal("rival")).items == ()
    page = requests.list_(town.hall, town.principal("analyst"), state="CANCELLED", page_size=2)
    assert [item.name for item in page.items] == names[:0:-1]
    rest = requests.list_(
        town.hall, town.principal("analyst"), state="CANCELLED", page_size=2, page_token=page.next_token
    )
    assert ([item.name for item in rest.items], rest.next_token) == (names[:1], "")
    asked = (town.hall, town.principal("analyst"))
    refused(Reason.PAGE_TOKEN_INVALID, requests.list_, *asked, state="REJECTED", page_token=page.next_token)
    refused(Reason.INVALID_ARGUMENT, requests.list_, *asked, state="MAYBE")


# --- deciding


def test_an_approval_binds_the_digest_of_the_signed_request(town: Town) -> None:
    wish = town.request("analyst")
    other = town.request("epidemiologist", purpose="outbreak-monitoring")
    steward = town.principal("steward")
    for approval in (
        town.approval("steward", wish.name, request_digest="sha256:" + "0" * 64),
        town.approval("steward", wish.name, request=other.name),
        town.approval("steward", other.name),
    ):
        refused(Reason.DIGEST_MISMATCH, requests.approve, town.hall, steward, None, wish.name, approval, wish.etag)
    named = town.approval("steward", wish.name, approver=DPO)
    refused(Reason.INVALID_ARGUMENT, requests.approve, town.hall, steward, None, wish.name, named, wish.etag)
    forged = sign(Kind.APPROVAL, named.payload, key("nobody"))
    dpo = town.principal("dpo")
    refused(Reason.KEY_UNTRUSTED, requests.approve, town.hall, dpo, None, wish.name, forged, wish.etag)
    assert town.approve("steward", wish.name).state == "APPROVED"


def test_a_requester_key_does_not_approve(town: Town) -> None:
    town.certify(PROVIDER, "deputy@health.example", Use.REQUESTER, owner="deputy's other key")
    wish = town.request("analyst")
    paper = town.approval("deputy", wish.name)
    approval = sign(Kind.APPROVAL, paper.payload, key("deputy's other key"))
    error = refused(
        Reason.KEY_UNTRUSTED,
        requests.approve,
        town.hall,
        town.principal("deputy"),
        None,
        wish.name,
        approval,
        wish.etag,
    )
    assert "requester key of deputy@health.example" in error.message


def test_the_requester_does_not_approve_under_another_party(town: Town) -> None:
    document = papers.document(
        roles=[{"role": "transport-planning", "access": "read", "firstLevelApprovers": f"{STEWARD}, {DPO}"}]
    )
    town.publish({**document, "version": "2.0.0"})
    wish = town.request("twin")
    assert wish.approvers == (DPO,)
    error = refused(Reason.POLICY_REFUSED, town.approve, "steward", wish.name)
    assert {found.code for found in error.violations} == {"SELF_APPROVAL"}
    assert town.events()[-1] == "approval.refused"
    assert town.approve("dpo", wish.name).state == "APPROVED"


@pytest.mark.parametrize("owner", ["analyst@metro.example", "holder:metro-planning"])
def test_a_key_is_a_person_whatever_it_is_called(town: Town, owner: str) -> None:
    """The department certified the requester's own key, or the holder key, as an approver's."""
    town.certify(PROVIDER, STEWARD, Use.APPROVER, owner=owner)
    wish = town.request("analyst")
    approval = sign(Kind.APPROVAL, town.approval("steward", wish.name).payload, key(owner))
    error = refused(
        Reason.POLICY_REFUSED,
        requests.approve,
        town.hall,
        town.principal("steward"),
        None,
        wish.name,
        approval,
        wish.etag,
    )
    assert "distinct others" in error.message
    assert town.last_entry()["detail"]["reason"] == "POLICY_REFUSED"


def test_two_approvers_with_one_key_are_one(town: Town) -> None:
    town.certify(PROVIDER, DPO, Use.APPROVER, owner="shared")
    town.certify(PROVIDER, STEWARD, Use.APPROVER, owner="shared")
    wish = town.request("epidemiologist", purpose="outbreak-monitoring")
    first = sign(Kind.APPROVAL, town.approval("steward", wish.name).payload, key("shared"))
    wish = requests.approve(town.hall, town.principal("steward"), None, wish.name, first, wish.etag)
    second = sign(Kind.APPROVAL, town.approval("dpo", wish.name).payload, key("shared"))
    refused(
        Reason.POLICY_REFUSED, requests.approve, town.hall, town.principal("dpo"), None, wish.name, second, wish.etag
    )


def test_deciding_needs_the_etag_of_what_was_read(town: Town) -> None:
    wish = town.request("epidemiologist", purpose="outbreak-monitoring")
    read = wish.etag
    town.approve("steward", wish.name)
    before = snapshot(town)
    refused(Reason.ETAG_MISMATCH, town.approve, "dpo", wish.name, etag=read)
    refused(Reason.ETAG_MISMATCH, town.reject, "dpo", wish.name, etag=read)
    refused(Reason.ETAG_MISMATCH, town.cancel, "epidemiologist", wish.name, etag=read)
    refused(Reason.INVALID_ARGUMENT, town.approve, "dpo", wish.name, etag="")
    assert snapshot(town) == before


def test_deciding_on_what_one_may_not_see(town: Town) -> None:
    wish = town.request("analyst")
    stranger = town.principal("centre-steward")
    hidden = refused(Reason.NOT_FOUND, requests.reject, town.hall, stranger, None, wish.name, "because", wish.etag)
    absent = refused(
        Reason.NOT_FOUND, requests.reject, town.hall, stranger, None, "requests/r-zzzzzzzzzz", "because", wish.etag
    )
    assert hidden.message.replace(wish.name, "") == absent.message.replace("requests/r-zzzzzzzzzz", "")


def test_replays_of_decisions(town: Town) -> None:
    wish = town.request("epidemiologist", purpose="outbreak-monitoring")
    approval = town.approval("steward", wish.name)
    call = town.call("steward", "ApproveRequest", wish.name, approval.digest)
    steward = town.principal("steward")
    first = requests.approve(town.hall, steward, call, wish.name, approval, wish.etag)
    before = snapshot(town)
    # The etag is stale by now; the call was answered, so it is answered again.
    assert requests.approve(town.hall, steward, call, wish.name, approval, wish.etag) == first
    assert snapshot(town) == before
    call = town.call("dpo", "RejectRequest", wish.name, "no")
    dpo = town.principal("dpo")
    rejected = requests.reject(town.hall, dpo, call, wish.name, "no", first.etag)
    assert requests.reject(town.hall, dpo, call, wish.name, "no", first.etag) == rejected
    other = town.request("analyst")
    call = town.call("analyst", "CancelRequest", other.name)
    analyst = town.principal("analyst")
    cancelled = requests.cancel(town.hall, analyst, call, other.name, other.etag)
    assert requests.cancel(town.hall, analyst, call, other.name, other.etag) == cancelled
    assert town.events()[-3:] == ["request.rejected", "request.submitted", "request.cancelled"]


def test_an_approver_may_think_again_and_reject(town: Town) -> None:
    wish = town.request("epidemiologist", purpose="outbreak-monitoring")
    town.approve("steward", wish.name)
    assert town.reject("steward", wish.name).state == "REJECTED"


def test_an_approval_lost_its_key_before_the_last_one_came(town: Town) -> None:
    wish = town.request("epidemiologist", purpose="outbreak-monitoring")
    town.approve("steward", wish.name)
    town.revoke("steward")
    before = snapshot(town)
    refused(Reason.KEY_UNTRUSTED, town.approve, "dpo", wish.name)
    assert snapshot(town) == before


def test_two_requests_at_once_make_one_agreement(town: Town) -> None:
    first, second = town.request("analyst"), town.request("colleague")
    town.approve("steward", first.name)
    error = refused(Reason.ALREADY_EXISTS, town.approve, "steward", second.name)
    assert error.metadata["agreement"].startswith("agreements/a-")
    assert requests.get(town.hall, town.principal("analyst"), second.name).state == "SUBMITTED"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    deciders=st.lists(
        st.tuples(st.sampled_from(sorted(ACTORS)), st.sampled_from(["approve", "reject", "cancel"])), max_size=8
    )
)
def test_whoever_decides_in_whatever_order(town: Town, deciders: list[tuple[str, str]]) -> None:
    """An agreement exists exactly when both named approvers, and nobody else, said yes before any no."""
    wish = town.request("epidemiologist", purpose="outbreak-monitoring")
    said_yes: set[str] = set()
    reasons: set[Reason] = set()
    state = "SUBMITTED"
    for actor, verb in deciders:
        try:
            state = getattr(town, verb)(actor, wish.name).state
        except SluicegateError as error:
            reasons.add(error.reason)
            continue
        if verb == "approve":
            said_yes.add(actor)
    record = requests.get(town.hall, town.principal("epidemiologist"), wish.name)
    assert record.state == state
    assert said_yes <= {"steward", "dpo"}
    assert reasons <= {Reason.ROLE_MISSING, Reason.NOT_FOUND, Reason.POLICY_REFUSED, Reason.STATE_WRONG}
    assert bool(record.agreement) == (record.state == "APPROVED") == (said_yes == {"steward", "dpo"})
    if record.agreement:
        town.terminate("epidemiologist", record.agreement)
    elif record.state == "SUBMITTED":
        town.cancel("epidemiologist", record.name)
