"""How an agreement is made and verified, and everything that is not one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import agreement as agreements
from contracts import standard, yaml12
from contracts.agreement import Agreement, AgreementBundle, Request, Suspension, draft, verify_bundle, verify_draft
from contracts.agreement_checks import AGREEMENT_CHECKS
from contracts.canonical import digest, terms_digest
from contracts.envelope import Envelope, Kind, countersign
from contracts.errors import Reason, SluicegateError
from contracts.instants import duration, epoch, rfc3339
from contracts.trust import Keys, Use
from tests.papers import (
    ANALYST,
    CENTRE,
    COMPANY,
    DAY,
    DPO,
    EPIDEMIOLOGIST,
    GATEWAY,
    NOW,
    PEOPLE,
    PROVIDER,
    STEWARD,
    Cast,
    Papers,
    document,
    key,
    make,
)

PAPERS = make()
OUTBREAK = make(purpose="outbreak-monitoring")
STANDING = make(document=document(sharing="unconditional"))
OTHER = "sha256:" + "0" * 64


def resigned(papers: Papers, **changed: Any) -> Papers:
    """The papers with an agreement of changed content, that both sides signed nevertheless."""
    payload = {**papers.agreement.payload, **changed}
    signers = (papers.requester,) if not papers.approvers else (papers.approvers[-1], papers.requester)
    return dataclasses.replace(papers, agreement=papers.cast.sign(Kind.AGREEMENT, payload, *signers))


def asked(papers: Papers, *owners: str, **changed: Any) -> Papers:
    """The papers for a request of changed content, approved and agreed to nevertheless."""
    request = papers.cast.sign(Kind.REQUEST, {**papers.request.payload, **changed}, *(owners or (papers.requester,)))
    approvals = tuple(
        papers.cast.sign(Kind.APPROVAL, {**item.payload, "requestDigest": request.digest}, item.payload["approver"])
        for item in papers.approvals
    )
    shared = {name: changed[name] for name in ("fields", "purpose", "consumer", "holder") if name in changed}
    digests = sorted(item.digest for item in approvals)
    return resigned(
        dataclasses.replace(papers, request=request, approvals=approvals),
        requestDigest=request.digest,
        approvals=digests,
        **shared,
    )


def approved(papers: Papers, *approvals: Envelope) -> Papers:
    """The papers with other approvals, and an agreement that names these."""
    return resigned(
        dataclasses.replace(papers, approvals=approvals), approvals=sorted(item.digest for item in approvals)
    )


def approval(papers: Papers, owner: str, **changed: Any) -> Envelope:
    payload = {**OUTBREAK.approvals[0].payload, "requestDigest": papers.request.digest, "approver": owner, **changed}
    return papers.cast.sign(Kind.APPROVAL, payload, owner)


def refused(reason: Reason, step: int, papers: Papers, *, at: int = NOW, trust: Any = None, **kwargs: Any) -> str:
    with pytest.raises(SluicegateError) as caught:
        verify_bundle(papers.bundle, trust or papers.trust, at=at, **kwargs)
    assert caught.value.reason is reason, str(caught.value)
    assert caught.value.message.startswith(f"step {step}, {AGREEMENT_CHECKS[step - 1].what}: ")
    return caught.value.message


# --- what is right


@pytest.mark.parametrize("papers", [PAPERS, OUTBREAK, STANDING], ids=["conditional", "two approvers", "standing offer"])
def test_an_agreement_that_was_properly_made_verifies(papers):
    verified = verify_bundle(papers.bundle, papers.trust, at=NOW)
    assert verified.agreement == papers.agreed
    assert verified.digest == papers.agreement.digest
    assert verified.contract == papers.contract
    assert verified.request.requester == papers.requester
    assert {item.approver for item in verified.approvals} == set(papers.approvers)


def test_the_bundle_survives_the_wire():
    received = msgspec.json.decode(msgspec.json.encode(PAPERS.bundle), type=AgreementBundle)
    assert verify_bundle(received, PAPERS.trust, at=NOW).agreement == PAPERS.agreed


def test_a_subset_of_the_offered_fields_may_be_asked_for():
    papers = make(fields=("visit_ts",))
    assert verify_bundle(papers.bundle, papers.trust, at=NOW).agreement.fields == ("visit_ts",)


def test_open_fields_need_no_approval_only_the_signed_contract():
    """The tier of what is sent decides, not the highest of the dataset."""
    papers = make(fields=("hospital_code",), approvers=())
    assert verify_bundle(papers.bundle, papers.trust, at=NOW).approvals == ()
    assert agreements.approvals_needed(papers.contract, ("hospital_code",), standard.load("desensitisation/1")) == 0


@pytest.mark.parametrize(("papers", "needed"), [(PAPERS, 1), (OUTBREAK, 2), (STANDING, 0)])
def test_the_tier_says_how_many_approve(papers, needed):
    held_to = standard.load("desensitisation/1")
    assert agreements.approvals_needed(papers.contract, papers.agreed.fields, held_to) == needed


# --- draft


def test_the_draft_binds_everything_that_was_signed():
    agreed = OUTBREAK.agreed
    assert agreed.request_digest == OUTBREAK.request.digest
    assert agreed.approvals == tuple(sorted(item.digest for item in OUTBREAK.approvals))
    assert (agreed.document_digest, agreed.terms_digest) == (digest(OUTBREAK.parsed), terms_digest(OUTBREAK.parsed))
    assert agreed.holder == OUTBREAK.holder.public
    assert epoch(agreed.not_after) == duration("P90D").after(epoch(agreed.not_before))


@settings(max_examples=20, deadline=None)
@given(st.permutations(OUTBREAK.approvals), st.integers(NOW, NOW + 10**8))
def test_the_draft_is_the_same_in_whatever_order_approvals_came(approvals, now):
    def of(items):
        return draft(
            id="agreements/a-bbbbbbbbbb",
            request=OUTBREAK.request,
            approvals=items,
            contract=OUTBREAK.contract,
            gateway=GATEWAY,
            standard_digest=OTHER,
            policy_digest=OTHER,
            now=now,
        )

    assert of(approvals) == of(OUTBREAK.approvals)
    assert of(approvals).not_before == rfc3339(now)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"request": STANDING.request}, Reason.REQUEST_OUTSIDE_CONTRACT),
        ({"approvals": OUTBREAK.approvals}, Reason.REQUEST_OUTSIDE_CONTRACT),
        ({"request": PAPERS.approvals[0]}, Reason.SIGNATURE_INVALID),
        ({"approvals": [PAPERS.request]}, Reason.SIGNATURE_INVALID),
    ],
)
def test_no_draft_from_papers_that_do_not_belong_together(changed, reason):
    arguments = {"request": PAPERS.request, "approvals": PAPERS.approvals, "contract": PAPERS.contract} | changed
    with pytest.raises(SluicegateError) as caught:
        draft(id="agreements/a-b", gateway=GATEWAY, standard_digest="", policy_digest="", now=NOW, **arguments)
    assert caught.value.reason is reason


def test_a_draft_is_verified_before_it_is_signed():
    unsigned = dataclasses.replace(PAPERS, agreement=Envelope(PAPERS.agreement.payload, ()))
    assert verify_draft(unsigned.bundle, PAPERS.trust, at=NOW).digest == PAPERS.agreement.digest
    refused(Reason.SIGNATURE_INVALID, 9, unsigned)
    payload = {**PAPERS.agreement.payload, "notAfter": "2099-01-01T00:00:00Z"}
    widened = dataclasses.replace(unsigned, agreement=Envelope(payload, ()))
    with pytest.raises(SluicegateError, match="longer than the P90D requested"):
        verify_draft(widened.bundle, PAPERS.trust, at=NOW)


# --- step 1 and 2: the contract


def test_1_other_bytes_than_the_signed_contract():
    changed = json.loads(PAPERS.document)
    for item in changed["customProperties"]:
        if item["property"] == "purposes":
            item["value"]["transport-planning"]["fields"]["home_postcode"] = {"mask": "prefix", "length": 3}
    raw = json.dumps(changed).encode()
    refused(Reason.SIGNATURE_INVALID, 1, dataclasses.replace(PAPERS, document=raw))


def test_1_a_new_description_changes_the_document_and_so_the_contract():
    changed = {**PAPERS.parsed, "description": {"purpose": "Something else."}}
    refused(Reason.SIGNATURE_INVALID, 1, dataclasses.replace(PAPERS, document=json.dumps(changed).encode()))


def test_1_the_spelling_of_the_bytes_does_not_matter():
    same = dataclasses.replace(PAPERS, document=json.dumps(PAPERS.parsed, indent=7, sort_keys=True).encode())
    assert verify_bundle(same.bundle, same.trust, at=NOW)


@pytest.mark.parametrize("raw", [b"", b"[]", b"a: [", b"kind: DataContract"])
def test_1_bytes_that_are_no_contract(raw):
    refused(Reason.CONTRACT_INVALID, 1, dataclasses.replace(PAPERS, document=raw))


@pytest.mark.parametrize(
    "changed", [{"version": "1.0.1"}, {"provider": CENTRE}, {"dataset": "other"}, {"termsDigest": OTHER}]
)
def test_1_a_statement_about_another_contract(changed):
    statement = PAPERS.cast.sign(Kind.CONTRACT, {**PAPERS.statement.payload, **changed}, STEWARD)
    refused(Reason.SIGNATURE_INVALID, 1, dataclasses.replace(PAPERS, statement=statement))


@pytest.mark.parametrize("owner", [GATEWAY, ANALYST, f"root:{PROVIDER}", "grant", "mallory"])
def test_2_a_contract_that_no_approver_signed(owner):
    statement = PAPERS.cast.sign(Kind.CONTRACT, PAPERS.statement.payload, owner)
    refused(Reason.KEY_UNTRUSTED, 2, dataclasses.replace(PAPERS, statement=statement))


def test_2_a_contract_that_nobody_signed():
    refused(Reason.SIGNATURE_INVALID, 2, dataclasses.replace(PAPERS, statement=Envelope(PAPERS.statement.payload, ())))


def test_2_a_provider_that_the_trust_file_does_not_name():
    trust = PAPERS.trust
    others = {name: party for name, party in trust.parties.items() if name != PROVIDER}
    refused(Reason.KEY_UNTRUSTED, 2, PAPERS, trust=msgspec.structs.replace(trust, parties=others))


# --- step 3 and 10: standard and policy


@pytest.mark.parametrize(("pinned", "step"), [("standards", 3), ("policies", 10)])
def test_3_10_digests_that_the_trust_file_does_not_name(pinned, step):
    trust = msgspec.structs.replace(PAPERS.trust, **{pinned: (OTHER,)})
    refused(Reason.KEY_UNTRUSTED, step, PAPERS, trust=trust)
    refused(Reason.KEY_UNTRUSTED, step, PAPERS, trust=msgspec.structs.replace(PAPERS.trust, **{pinned: ()}))


def test_10_an_agreement_held_to_another_standard():
    refused(Reason.KEY_UNTRUSTED, 10, resigned(PAPERS, standardDigest=OTHER))


# --- step 4 to 6: the request


@pytest.mark.parametrize(
    ("owners", "reason"),
    [
        ((STEWARD,), Reason.KEY_UNTRUSTED),
        ((EPIDEMIOLOGIST,), Reason.KEY_UNTRUSTED),
        ((f"holder:{COMPANY}",), Reason.KEY_UNTRUSTED),
        ((ANALYST, STEWARD), Reason.KEY_UNTRUSTED),
        (("colleague@metro.example",), Reason.SIGNATURE_INVALID),
        ((ANALYST, "colleague@metro.example"), Reason.SIGNATURE_INVALID),
    ],
)
def test_4_a_request_signed_by_somebody_else(owners, reason):
    cast = Cast(people=(*PEOPLE, (COMPANY, "colleague@metro.example", Use.REQUESTER)))
    refused(reason, 4, asked(dataclasses.replace(PAPERS, cast=cast), *owners))


def test_4_a_request_dated_before_its_key():
    message = refused(Reason.KEY_UNTRUSTED, 4, asked(PAPERS, created=rfc3339(NOW - 2 * DAY)))
    assert f"requester key of {ANALYST} from {rfc3339(NOW - DAY)}" in message


@pytest.mark.parametrize(
    "changed",
    [
        {"termsDigest": OTHER},
        {"documentDigest": OTHER},
        {"dataset": "x"},
        {"provider": CENTRE},
    ],
)
def test_5_a_request_for_another_contract(changed):
    refused(Reason.REQUEST_OUTSIDE_CONTRACT, 5, asked(PAPERS, **changed))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"purpose": "transport-plannig"}, "did you mean 'transport-planning'"),
        ({"purpose": "outbreak-monitoring"}, "is for disease-control-centre, not for metro-planning"),
        ({"fields": []}, "at least one field"),
        ({"fields": ["visit_ts", "visit_ts"]}, "none twice"),
        ({"fields": ["visit_ts", "hospital_cod"]}, "did you mean 'hospital_code'"),
        ({"fields": ["visit_ts", "patient_name"]}, "does not offer patient_name"),
        ({"duration": "P366D"}, "P366D is longer than the retention of transport-planning, P365D"),
        ({"duration": "P12M"}, "P12M is longer than the retention of transport-planning, P365D"),
    ],
)
def test_6_a_request_outside_the_contract(changed, says):
    assert says in refused(Reason.REQUEST_OUTSIDE_CONTRACT, 6, asked(PAPERS, **changed))


def test_6_a_dataset_that_is_not_shared():
    papers = make(document=document(sharing="not-shared"))
    assert "dpv:LegalObligation" in refused(Reason.NOT_SHARED, 6, papers)


# --- step 7: the approvals


@pytest.mark.parametrize("kept", [(), (0,), (1,)])
def test_7_too_few_approvers_for_the_tier(kept):
    papers = approved(OUTBREAK, *(OUTBREAK.approvals[number] for number in kept))
    assert f"highly-private fields need 2 approvers; {len(kept)} approved" in refused(Reason.POLICY_REFUSED, 7, papers)


def test_7_one_person_approves_once():
    twice = approved(OUTBREAK, approval(OUTBREAK, STEWARD), approval(OUTBREAK, STEWARD, created="2026-03-02T08:50:00Z"))
    assert "one approver" in refused(Reason.POLICY_REFUSED, 7, twice)


def test_7_one_person_with_two_keys_approves_once():
    cast = Cast()
    second = cast.statement(PROVIDER, STEWARD, Use.APPROVER, owner="second key")
    again = cast.sign(Kind.APPROVAL, approval(OUTBREAK, STEWARD, created="2026-03-02T08:50:00Z").payload, "second key")
    papers = approved(OUTBREAK, approval(OUTBREAK, STEWARD), again)
    bundle = msgspec.structs.replace(papers.bundle, statements=(*cast.statements, second))
    with pytest.raises(SluicegateError, match="one approver, or one key") as caught:
        verify_bundle(bundle, papers.trust, at=NOW)
    assert caught.value.reason is Reason.POLICY_REFUSED


def test_7_one_key_for_two_persons_approves_once():
    cast = Cast()
    lent = cast.statement(PROVIDER, DPO, Use.APPROVER, owner=STEWARD)
    by_lent = cast.sign(Kind.APPROVAL, approval(OUTBREAK, DPO).payload, STEWARD)
    papers = approved(OUTBREAK, approval(OUTBREAK, STEWARD), by_lent)
    bundle = msgspec.structs.replace(papers.bundle, statements=(*cast.statements, lent))
    with pytest.raises(SluicegateError, match=f"signed by {STEWARD} of {PROVIDER}, {DPO} of {PROVIDER}") as caught:
        verify_bundle(bundle, papers.trust, at=NOW)
    assert caught.value.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("extra", [STEWARD, "clerk@health.example"])
def test_7_an_approver_whom_the_contract_does_not_name(extra):
    cast = Cast(people=(*PEOPLE, (PROVIDER, "clerk@health.example", Use.APPROVER)))
    papers = dataclasses.replace(PAPERS, cast=cast)
    person = "clerk@health.example"
    signed = cast.sign(Kind.APPROVAL, approval(PAPERS, person).payload, person)
    both = approved(papers, signed) if extra == person else approved(papers, approval(PAPERS, STEWARD), signed)
    assert "is no approver of transport-planning" in refused(Reason.POLICY_REFUSED, 7, both)


def test_7_an_approval_in_anothers_name():
    forged = PAPERS.cast.sign(Kind.APPROVAL, approval(PAPERS, STEWARD).payload, DPO)
    assert "by steward@health.example alone" in refused(Reason.SIGNATURE_INVALID, 7, approved(PAPERS, forged))


def test_7_an_approval_of_another_request():
    refused(Reason.SIGNATURE_INVALID, 7, approved(PAPERS, approval(OUTBREAK, STEWARD)))
    renamed = approval(PAPERS, STEWARD, request="requests/r-bbbbbbbbbb")
    refused(Reason.SIGNATURE_INVALID, 7, approved(PAPERS, renamed))


def test_7_an_approval_of_the_request_before_it_was_changed():
    """The digest binds what was asked: a field added afterwards voids the approval."""
    papers = make(fields=("hospital_code", "visit_ts"))
    wider = asked(papers, fields=["hospital_code", "visit_ts", "home_postcode"])
    wider = dataclasses.replace(wider, approvals=papers.approvals)
    refused(Reason.SIGNATURE_INVALID, 7, wider)


@pytest.mark.parametrize("owner", [ANALYST, f"holder:{COMPANY}"])
def test_7_nobody_approves_the_own_request(owner):
    """Not under another name with the requester's or the holder's key, either."""
    cast = Cast()
    lent = cast.statement(PROVIDER, STEWARD, Use.APPROVER, owner=owner)
    papers = approved(PAPERS, cast.sign(Kind.APPROVAL, approval(PAPERS, STEWARD).payload, owner))
    bundle = msgspec.structs.replace(papers.bundle, statements=(*cast.statements, lent))
    with pytest.raises(SluicegateError, match=r"step 7.*made the request and cannot approve it"):
        verify_bundle(bundle, papers.trust, at=NOW)


def test_7_a_person_of_both_parties_does_not_approve_the_own_request():
    cast = Cast(people=(*PEOPLE, (COMPANY, STEWARD, Use.REQUESTER)))
    papers = asked(dataclasses.replace(PAPERS, cast=cast), STEWARD, requester=STEWARD)
    refused(Reason.POLICY_REFUSED, 7, papers)


def test_7_a_name_written_in_another_way_is_the_same_person():
    shouted = STEWARD.upper()
    cast = Cast(people=(*PEOPLE, (COMPANY, shouted, Use.REQUESTER), (PROVIDER, shouted, Use.APPROVER)))
    own = asked(dataclasses.replace(PAPERS, cast=cast), shouted, requester=shouted)
    assert "made the request and cannot approve it" in refused(Reason.POLICY_REFUSED, 7, own)
    role = {"role": "outbreak-monitoring", "access": "read", "firstLevelApprovers": STEWARD}
    named = document(roles=[{**role, "secondLevelApprovers": shouted}])
    twice = make(purpose="outbreak-monitoring", document=named, cast=cast, approvers=(STEWARD, shouted))
    assert "one approver" in refused(Reason.POLICY_REFUSED, 7, twice)


def test_7_a_standing_offer_needs_the_signatures_that_approvals_would_have_needed():
    offered = document(sharing="unconditional")
    alone = make(purpose="outbreak-monitoring", document=offered)
    message = refused(Reason.POLICY_REFUSED, 7, alone)
    assert "needs the signatures of 2 approvers that the contract names; it has 1" in message
    both = make(purpose="outbreak-monitoring", document=offered, contract_signers=(STEWARD, DPO))
    assert verify_bundle(both.bundle, both.trust, at=NOW).approvals == ()


def test_7_a_standing_offer_signed_by_an_approver_of_something_else():
    offer = make(document=document(sharing="unconditional"), contract_signers=(DPO,))
    refused(Reason.POLICY_REFUSED, 7, offer)  # the dpo is no approver of transport-planning


def test_7_a_standing_offer_takes_no_approvals():
    refused(Reason.POLICY_REFUSED, 7, approved(STANDING, approval(STANDING, STEWARD)))


# --- step 8: what the agreement says


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("provider", CENTRE),
        ("dataset", "other"),
        ("consumer", CENTRE),
        ("requestDigest", OTHER),
        ("approvals", []),
        ("approvals", [OTHER]),
        ("documentDigest", OTHER),
        ("termsDigest", OTHER),
        ("purpose", "outbreak-monitoring"),
        ("fields", ["hospital_code"]),
        ("fields", ["hospital_code", "home_postcode", "visit_ts", "citizen_id"]),
        ("holder", msgspec.to_builtins(key("mallory").public)),
    ],
)
def test_8_an_agreement_about_something_else(name, value):
    message = refused(Reason.SIGNATURE_INVALID, 8, resigned(PAPERS, **{name: value}))
    snake = {"requestDigest": "request_digest", "documentDigest": "document_digest", "termsDigest": "terms_digest"}
    assert snake.get(name, name) in message


@pytest.mark.parametrize("end", ["2026-06-01T00:00:00Z", "2026-03-02T08:50:00Z", "2020-01-01T00:00:00Z"])
def test_8_an_agreement_of_another_length(end):
    refused(Reason.SIGNATURE_INVALID, 8, resigned(PAPERS, notAfter=end))


@pytest.mark.parametrize("changed", [{"more": 1}, {"fields": "all"}, {"holder": {"x": "AAAA"}}])
def test_8_an_agreement_of_another_form(changed):
    with pytest.raises(SluicegateError, match="step 8"):
        verify_bundle(resigned(PAPERS, **changed).bundle, PAPERS.trust, at=NOW)


# --- step 9: both signatures


@pytest.mark.parametrize(
    ("signers", "reason", "says"),
    [
        ((STEWARD,), Reason.SIGNATURE_INVALID, "the consumer, metro-planning, has not signed"),
        ((ANALYST,), Reason.SIGNATURE_INVALID, "has signed for the provider"),
        ((DPO, ANALYST), Reason.SIGNATURE_INVALID, "no approver of transport-planning"),
        ((STEWARD, EPIDEMIOLOGIST), Reason.KEY_UNTRUSTED, "not accepted here"),
        ((GATEWAY, ANALYST), Reason.KEY_UNTRUSTED, "not accepted here"),
        ((STEWARD, ANALYST, "grant"), Reason.KEY_UNTRUSTED, "not accepted here"),
        ((), Reason.SIGNATURE_INVALID, "needs 1 to"),
    ],
)
def test_9_an_agreement_that_one_side_did_not_sign(signers, reason, says):
    papers = make(agreement_signers=signers)
    assert says in refused(reason, 9, papers)


def test_9_one_key_does_not_sign_for_both_sides():
    cast = Cast()
    lent = cast.statement(COMPANY, "clerk@metro.example", Use.REQUESTER, owner=STEWARD)
    papers = make(agreement_signers=(STEWARD,))
    bundle = msgspec.structs.replace(papers.bundle, statements=(*cast.statements, lent))
    with pytest.raises(SluicegateError, match="one key signed for both sides"):
        verify_bundle(bundle, papers.trust, at=NOW)


def test_9_signatures_of_another_kind_do_not_count():
    other = PAPERS.cast.sign(Kind.REQUEST, PAPERS.agreement.payload, STEWARD, ANALYST)
    refused(Reason.SIGNATURE_INVALID, 9, dataclasses.replace(PAPERS, agreement=other))


def test_9_more_signatures_of_the_right_people_do_no_harm():
    papers = dataclasses.replace(PAPERS, agreement=countersign(Kind.AGREEMENT, PAPERS.agreement, key(DPO)))
    assert verify_bundle(papers.bundle, papers.trust, at=NOW).digest == PAPERS.agreement.digest


def test_9_a_key_certified_while_the_draft_waited_counts():
    late = Cast().statement(COMPANY, "deputy@metro.example", Use.REQUESTER, begin=NOW + 5 * DAY)
    papers = make(agreement_signers=(STEWARD, "deputy@metro.example"))
    bundle = msgspec.structs.replace(papers.bundle, statements=(*papers.cast.statements, late))
    assert verify_bundle(bundle, papers.trust, at=NOW + 6 * DAY)
    with pytest.raises(SluicegateError, match="step 9"):
        verify_bundle(bundle, papers.trust, at=NOW + 4 * DAY)


# --- step 11 and time

LAST = 90 * DAY - 601  # the agreement's last second, from NOW


@pytest.mark.parametrize(("at", "live"), [(-3600, False), (-600, True), (0, True), (LAST, True), (LAST + 1, False)])
def test_11_valid_from_its_begin_until_before_its_end(at, live):
    if live:
        assert verify_bundle(PAPERS.bundle, PAPERS.trust, at=NOW + at)
    else:
        refused(Reason.AGREEMENT_NOT_LIVE, 11, PAPERS, at=NOW + at)


def test_11_the_error_names_the_time():
    message = refused(Reason.AGREEMENT_NOT_LIVE, 11, PAPERS, at=NOW + 90 * DAY)
    assert "valid from 2026-03-02T08:50:00Z to 2026-05-31T08:50:00Z" in message


def test_keys_may_expire_under_a_running_agreement():
    """Each paper was signed while its key was valid; that the key ran out later undoes nothing."""
    cast = Cast()
    short = tuple(cast.statement(party, who, use, end=NOW + DAY) for party, who, use in PEOPLE)
    bundle = msgspec.structs.replace(PAPERS.bundle, statements=short)
    assert verify_bundle(bundle, PAPERS.trust, at=NOW + 30 * DAY)


@pytest.mark.parametrize(("owner", "party", "step"), [(STEWARD, PROVIDER, 2), (ANALYST, COMPANY, 4)])
def test_a_revoked_key_counts_for_nothing_that_is_not_proven_older(owner, party, step):
    papers = make(revocations=(Cast().revocation(party, owner, NOW + DAY),))
    assert verify_bundle(papers.bundle, papers.trust, at=NOW)  # not revoked yet
    message = refused(Reason.KEY_UNTRUSTED, step, papers, at=NOW + 2 * DAY)
    assert "nothing proves that it signed before" in message
    assert verify_bundle(papers.bundle, papers.trust, at=NOW + 2 * DAY, existed_by=NOW + DAY - 1)
    refused(Reason.KEY_UNTRUSTED, step, papers, at=NOW + 2 * DAY, existed_by=NOW + DAY)


def test_a_revocation_that_the_sender_left_out_counts_when_the_verifier_knows_it():
    known = [Cast().revocation(PROVIDER, STEWARD, NOW)]
    assert verify_bundle(PAPERS.bundle, PAPERS.trust, at=NOW)
    refused(Reason.KEY_UNTRUSTED, 2, PAPERS, revocations=known)


def test_a_stolen_and_revoked_key_cannot_backdate():
    """Whoever took the steward's key makes a whole agreement dated before its revocation."""
    revocation = Cast().revocation(PROVIDER, STEWARD, NOW)
    backdated = make(now=NOW - 30 * DAY, cast=Cast(now=NOW - 60 * DAY), revocations=(revocation,))
    refused(Reason.KEY_UNTRUSTED, 2, backdated, at=NOW + DAY)


# --- single papers


@pytest.fixture
def keys():
    return Keys(PAPERS.trust, PAPERS.cast.statements)


def test_single_papers_verify_by_themselves(keys):
    contract = agreements.verify_contract(PAPERS.statement, PAPERS.document, keys, latest=NOW)
    assert contract == PAPERS.contract
    request = agreements.verify_request(PAPERS.request, keys, latest=NOW)
    assert request == msgspec.convert(PAPERS.request.payload, Request)
    given, signer = agreements.verify_approval(
        PAPERS.approvals[0], keys, contract=contract, request=PAPERS.request, latest=NOW
    )
    assert (given.approver, signer.subject) == (STEWARD, STEWARD)


STOPPED = "agreements/a-aaaaaaaaaa"
SUSPENSION = {"agreement": STOPPED, "reason": "leak", "at": rfc3339(NOW), "until": None, "lifted": False}


@pytest.mark.parametrize("owner", [STEWARD, DPO])
def test_any_approver_of_the_department_suspends(keys, owner):
    order = PAPERS.cast.sign(Kind.REVOCATION, SUSPENSION, owner)
    found = agreements.verify_suspension(order, PAPERS.agreed, keys, at=NOW)
    assert found == Suspension(agreement=STOPPED, reason="leak", at=rfc3339(NOW), until=None)


@pytest.mark.parametrize(
    ("owner", "changed", "reason"),
    [
        (ANALYST, {}, Reason.KEY_UNTRUSTED),
        (GATEWAY, {}, Reason.KEY_UNTRUSTED),
        ("grant", {}, Reason.KEY_UNTRUSTED),
        (STEWARD, {"agreement": "agreements/a-bbbbbbbbbb"}, Reason.INVALID_ARGUMENT),
        (STEWARD, {"at": rfc3339(NOW + 3600)}, Reason.INVALID_ARGUMENT),
        (STEWARD, {"until": rfc3339(NOW - 1)}, Reason.INVALID_ARGUMENT),
        (STEWARD, {"until": "tomorrow"}, Reason.INVALID_ARGUMENT),
        (STEWARD, {"more": 1}, Reason.SIGNATURE_INVALID),
    ],
)
def test_a_suspension_by_somebody_else_or_of_something_else(keys, owner, changed, reason):
    order = PAPERS.cast.sign(Kind.REVOCATION, {**SUSPENSION, **changed}, owner)
    with pytest.raises(SluicegateError) as caught:
        agreements.verify_suspension(order, PAPERS.agreed, keys, at=NOW)
    assert caught.value.reason is reason


def test_a_key_revocation_is_no_suspension(keys):
    order = PAPERS.cast.revocation(PROVIDER, STEWARD, NOW)
    with pytest.raises(SluicegateError) as caught:
        agreements.verify_suspension(order, PAPERS.agreed, keys, at=NOW)
    assert caught.value.reason is Reason.SIGNATURE_INVALID


# --- everything at once


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_no_flipped_bit_in_any_paper_goes_unnoticed(data):
    """Whatever bit of whatever paper flips, the bundle no longer verifies as the same agreement."""
    name = data.draw(st.sampled_from(["agreement", "request", "approvals", "contract", "statements", "document"]))
    parts = msgspec.to_builtins(PAPERS.bundle)
    # The other parties' statements are not looked at, rightly.
    part = parts[name][0] if name in ("approvals", "statements") else parts[name]
    raw = bytearray(part.encode() if name == "document" else msgspec.json.encode(part))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1 << data.draw(st.integers(0, 6))
    try:
        changed = raw.decode() if name == "document" else msgspec.json.decode(bytes(raw))
        if name in ("approvals", "statements"):
            parts[name] = [changed, *parts[name][1:]]
        else:
            parts[name] = changed
        bundle = msgspec.convert(parts, AgreementBundle)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return  # caught before there was anything to verify
    try:
        found = verify_bundle(bundle, PAPERS.trust, at=NOW)
    except SluicegateError:
        return
    # White space between two tokens of the contract, and nothing else.
    assert (name, yaml12.load(bundle.document.encode()).value) == ("document", PAPERS.parsed)
    assert found.agreement == PAPERS.agreed


def test_the_payloads_are_written_in_full():
    """Digest of the value and digest of the signed payload are one: no field is left out by default."""
    for paper, kind in ((PAPERS.agreement, Agreement), (PAPERS.request, Request)):
        assert digest(msgspec.to_builtins(msgspec.convert(paper.payload, kind))) == paper.digest
