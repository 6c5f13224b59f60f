"""Tickets, intents, receipts, acknowledgements: each right, and each wrong in one way."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import blake3
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.envelope import MAX_BYTES, Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.model import WholeRelease
from contracts.receipt import (
    GRANT_SECONDS,
    Bounds,
    FieldTreatment,
    PartDigest,
    claimed_grant,
    content_digest,
    verify_acknowledgement,
    verify_intent,
    verify_receipt,
    verify_ticket,
)
from contracts.receipt_checks import RECEIPT_CHECKS
from contracts.techniques import SuppressSmall
from contracts.trust import Use
from tests.papers import (
    ANALYST,
    COMPANY,
    DAY,
    EPIDEMIOLOGIST,
    GATEWAY,
    NOW,
    PEOPLE,
    PROVIDER,
    STEWARD,
    Cast,
    key,
    make,
)

PAPERS = make()
OUTBREAK = make(purpose="outbreak-monitoring")
VERIFIED = PAPERS.verified
MONITORED = OUTBREAK.verified
OTHER = "sha256:" + "0" * 64
LATER = NOW + 60


def raises(reason: Reason, call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(SluicegateError) as caught:
        call(*args, **kwargs)
    assert caught.value.reason is reason, str(caught.value)
    return caught.value.message


# --- tickets


def admit(raw: bytes, *, at: int = NOW, gateway: str = GATEWAY, papers=PAPERS, trust=None):
    return verify_ticket(raw, trust=trust or papers.trust, agreement=papers.agreed, gateway=gateway, now=at)


def test_a_ticket_gives_its_grant():
    grant = admit(PAPERS.ticket)
    assert grant.transfer == PAPERS.transfer
    assert claimed_grant(PAPERS.ticket) == grant
    digest = PAPERS.agreement.digest
    assert grant == verify_ticket(
        PAPERS.ticket, trust=PAPERS.trust, agreement=PAPERS.agreed, gateway=GATEWAY, now=NOW, agreement_digest=digest
    )


@pytest.mark.parametrize("owner", ["mallory", ANALYST, STEWARD, GATEWAY, "grant", "holder:disease-control-centre"])
def test_only_the_holder_key_makes_a_ticket(owner):
    message = raises(Reason.GRANT_INVALID, admit, PAPERS.ticket_of(PAPERS.grant, key(owner)))
    assert "holder key" in message


@pytest.mark.parametrize("owner", ["mallory", "checkpoint", GATEWAY, f"holder:{COMPANY}", f"root:{PROVIDER}"])
def test_only_the_exchanges_grant_key_makes_a_grant(owner):
    forged = Cast.sign(Kind.GRANT, PAPERS.grant.payload, owner)
    assert "not from this exchange" in raises(Reason.GRANT_INVALID, admit, PAPERS.ticket_of(forged))


@pytest.mark.parametrize(
    "changed",
    [
        {"agreement": "agreements/a-bbbbbbbbbb"},
        {"agreement_digest": OTHER},
        {"agreement_digest": OUTBREAK.agreement.digest},
        {"gateway": "health-bureau-2"},
        {"issued": rfc3339(NOW + 120), "expires": rfc3339(NOW + 600)},
        {"expires": rfc3339(NOW + GRANT_SECONDS + 1)},
        {"expires": "2099-01-01T00:00:00Z"},
        {"expires": rfc3339(NOW)},
        {"issued": "now"},
    ],
    ids=str,
)
def test_a_grant_for_something_else_admits_nobody(changed):
    raises(Reason.GRANT_INVALID, admit, PAPERS.ticket_of(PAPERS.grant_of(**changed)))


def test_a_ticket_at_another_gateway():
    raises(Reason.GRANT_INVALID, admit, PAPERS.ticket, gateway="health-bureau-2")
    both = PAPERS.ticket_of(PAPERS.grant_of(gateway="health-bureau-2"))
    raises(Reason.GRANT_INVALID, admit, both, gateway="health-bureau-2")  # the agreement names the first


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (-61, Reason.GRANT_INVALID),
        (-60, None),
        (0, None),
        (599, None),
        (600, Reason.GRANT_EXPIRED),
        (DAY, Reason.GRANT_EXPIRED),
    ],
)
def test_a_ticket_lives_ten_minutes(at, reason):
    if reason is None:
        assert admit(PAPERS.ticket, at=NOW + at)
    else:
        raises(reason, admit, PAPERS.ticket, at=NOW + at)


@pytest.mark.parametrize("at", [-DAY, 91 * DAY])
def test_a_fresh_grant_under_an_agreement_that_is_not_valid(at):
    grant = PAPERS.grant_of(issued=rfc3339(NOW + at), expires=rfc3339(NOW + at + 600))
    ticket = Cast.sign(
        Kind.PROOF, {"grant": msgspec.to_builtins(grant), "created": rfc3339(NOW + at)}, f"holder:{COMPANY}"
    )
    raises(Reason.AGREEMENT_NOT_LIVE, admit, ticket.to_bytes(), at=NOW + at)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"\x00\xff",
        PAPERS.grant.to_bytes(),
        PAPERS.receipt.to_bytes(),
        Cast.sign(Kind.PROOF, {"grant": {}, "created": rfc3339(NOW)}, f"holder:{COMPANY}").to_bytes(),
        Cast.sign(Kind.PROOF, {**msgspec.to_builtins(PAPERS.grant), "created": ""}, f"holder:{COMPANY}").to_bytes(),
    ],
    ids=lambda raw: raw[:25].decode(errors="replace"),
)
def test_what_is_no_ticket(raw):
    raises(Reason.GRANT_INVALID, admit, raw)
    raises(Reason.GRANT_INVALID, claimed_grant, raw)


def test_an_oversized_ticket():
    raises(Reason.TOO_LARGE, admit, b" " * (MAX_BYTES + 1))


def test_a_proof_dated_after_its_grant_or_without_date():
    for created in (rfc3339(NOW + 601), "yesterday"):
        payload = {"grant": msgspec.to_builtins(PAPERS.grant), "created": created}
        raises(Reason.GRANT_INVALID, admit, Cast.sign(Kind.PROOF, payload, f"holder:{COMPANY}").to_bytes())


def test_a_second_signature_under_a_grant_or_a_ticket_is_one_too_many():
    twice = Cast.sign(Kind.GRANT, PAPERS.grant.payload, "grant", "mallory")
    raises(Reason.GRANT_INVALID, admit, PAPERS.ticket_of(twice))
    proof = Envelope.from_bytes(PAPERS.ticket)
    both = Cast.sign(Kind.PROOF, proof.payload, f"holder:{COMPANY}", "mallory")
    raises(Reason.GRANT_INVALID, admit, both.to_bytes())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_flipped_bit_of_a_ticket_goes_unnoticed(data):
    raw = bytearray(PAPERS.ticket)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    raises(Reason.GRANT_INVALID, admit, bytes(raw))


# --- content digest

DIGEST_1, DIGEST_2 = (b"sha256:" + digit * 64 for digit in (b"1", b"2"))


def test_the_content_digest_binds_schema_rows_and_order():
    schema, parts = PAPERS.schema, PAPERS.parts
    for hash in ("sha-256", "blake3"):
        one = content_digest(hash, schema, parts)
        others = {
            content_digest(hash, schema[::-1], parts),
            content_digest(hash, schema[:-1], parts),
            content_digest(hash, schema, parts[::-1]),
            content_digest(hash, schema, parts[:1]),
            content_digest(hash, schema, (PartDigest(rows=601, digest=parts[0].digest), parts[1])),
            content_digest(hash, [(name, "binary") for name, _ in schema], parts),
        }
        assert len(others) == 6
        assert one not in others
    written = b'{"parts":[{"digest":"%s","rows":600},{"digest":"%s","rows":400}],' % (DIGEST_1, DIGEST_2)
    written += b'"schema":[["home_postcode","string"],["visit_ts","timestamp(us,Etc/UTC)"],["hospital_code","string"]]}'
    assert content_digest("sha-256", schema, parts) == "sha256:" + hashlib.sha256(written).hexdigest()
    assert content_digest("blake3", schema, parts) == "blake3:" + blake3.blake3(written).hexdigest()


# --- receipts


def check(receipt: Envelope, *, at: int = LATER, agreement=VERIFIED, **kwargs: Any):
    return verify_receipt(receipt, agreement, at=at, **kwargs)


def refused(reason: Reason, step: int, receipt: Envelope, **kwargs: Any) -> str:
    message = raises(reason, check, receipt, **kwargs)
    assert message.startswith(f"step {step}, {RECEIPT_CHECKS[step - 1].what}: "), message
    return message


@pytest.mark.parametrize(("papers", "agreement"), [(PAPERS, VERIFIED), (OUTBREAK, MONITORED)])
def test_a_receipt_verifies_against_its_agreement_intent_and_data(papers, agreement):
    found = check(
        papers.receipt,
        agreement=agreement,
        intent=papers.intent,
        content_digest=papers.receipt.payload["contentDigest"],
    )
    assert found.complete
    assert found.rows_out == 1000
    assert check(papers.receipt, agreement=agreement) == found


@pytest.mark.parametrize("owner", [STEWARD, ANALYST, "grant", "mallory", f"root:{PROVIDER}"])
def test_1_only_the_gateway_signs_a_receipt(owner):
    refused(Reason.KEY_UNTRUSTED, 1, Cast.sign(Kind.RECEIPT, PAPERS.receipt.payload, owner))


def test_1_another_gateway_of_the_same_department_does_not():
    cast = Cast(people=(*PEOPLE, (PROVIDER, "health-bureau-2", Use.GATEWAY)))
    agreement = make(cast=cast).verified
    by_other = Cast.sign(Kind.RECEIPT, PAPERS.receipt.payload, "health-bureau-2")
    refused(Reason.SIGNATURE_INVALID, 1, by_other, agreement=agreement)
    renamed = Cast.sign(Kind.RECEIPT, {**PAPERS.receipt.payload, "gateway": "health-bureau-2"}, "health-bureau-2")
    refused(Reason.SIGNATURE_INVALID, 1, renamed, agreement=agreement)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"finished": rfc3339(NOW + 9)}, Reason.RECEIPT_INVALID),
        ({"finished": rfc3339(NOW + 3 * DAY)}, Reason.RECEIPT_INVALID),
        ({"finished": "later"}, Reason.INVALID_ARGUMENT),
    ],
)
def test_1_a_receipt_of_an_impossible_time(changed, reason):
    refused(reason, 1, PAPERS.receipt_of(**changed))


def test_1_an_intent_is_no_receipt():
    refused(Reason.RECEIPT_INVALID, 1, PAPERS.intent)
    refused(Reason.SIGNATURE_INVALID, 1, Cast.sign(Kind.INTENT, PAPERS.receipt.payload, GATEWAY))


@pytest.mark.parametrize(
    "changed",
    [
        {"agreement": "agreements/a-bbbbbbbbbb"},
        {"agreement_digest": OTHER},
        {"document_digest": OTHER},
        {"terms_digest": OTHER},
        {"standard_digest": OTHER},
        {"policy_digest": OTHER},
        {"consumer": "disease-control-centre"},
        {"purpose": "outbreak-monitoring"},
        {"refresh": "P1D"},
        {"started": rfc3339(NOW - DAY)},
    ],
    ids=str,
)
def test_2_a_receipt_for_another_agreement(changed):
    refused(Reason.RECEIPT_INVALID, 2, PAPERS.receipt_of(**changed))


def test_2_a_receipt_of_a_transfer_after_the_agreement_ended():
    end = NOW + 90 * DAY
    late = PAPERS.receipt_of(started=rfc3339(end), finished=rfc3339(end + 9))
    refused(Reason.RECEIPT_INVALID, 2, late, at=end + 60)


NAME = FieldTreatment(name="patient_name", technique={"mask": "keep"}, type="string")


def treated(**masks: Any) -> tuple[FieldTreatment, ...]:
    return tuple(
        msgspec.structs.replace(item, technique=masks[item.name]) if item.name in masks else item
        for item in PAPERS.treatments
    )


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"fields": treated(home_postcode={"mask": "keep"})},
            "home_postcode was not masked as the contract says: prefix",
        ),
        ({"fields": treated(home_postcode={"mask": "prefix", "length": 5})}, "home_postcode"),
        ({"fields": treated(home_postcode={})}, "home_postcode"),
        ({"fields": PAPERS.treatments[:-1]}, "does not say what was done to hospital_code"),
        ({"fields": (*PAPERS.treatments, PAPERS.treatments[0])}, "names a field twice"),
        (
            {
                "fields": (
                    *PAPERS.treatments,
                    FieldTreatment(name="patient_name", technique={"mask": "keep"}, type="string"),
                )
            },
            "not agreed",
        ),
        ({"schema": (*PAPERS.schema, ("patient_name", "string"))}, "not the fields that it describes"),
        ({"schema": PAPERS.schema[::-1]}, "not the fields that it describes"),
        ({"schema": (("home_postcode", "int64"), *PAPERS.schema[1:])}, "not the fields that it describes"),
    ],
)
def test_3_fields_not_treated_as_the_contract_says(changed, says):
    assert says in refused(Reason.RECEIPT_INVALID, 3, PAPERS.receipt_of(**changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"rows_out": 1001},
        {"rows_in": 999},
        {"rows_suppressed": 11},
        {"rows_suppressed": -1},
        {"rows_in": -5},
        {"parts": PAPERS.parts[:1]},
        {"parts_sent": (0,)},
        {"parts_sent": (0, 1, 2)},
        {"parts_sent": (0, 0)},
        {"parts_sent": (1, 0)},
        {"parts_sent": (-1, 0)},
        {"parts_begun": (0,)},
        {"parts_begun": (2,)},
        {"parts_sent": (), "parts_begun": (1, 0), "complete": False},
        {"complete": False},
        {"parts_sent": (), "complete": True},
    ],
    ids=str,
)
def test_4_rows_and_parts_that_do_not_add_up(changed):
    refused(Reason.RECEIPT_INVALID, 4, PAPERS.receipt_of(**changed))


@pytest.mark.parametrize(("sent", "begun"), [((), ()), ((0,), ()), ((1,), (0,)), ((), (0, 1))])
def test_4_a_partial_receipt_is_right_when_it_says_so(sent, begun):
    found = check(PAPERS.receipt_of(parts_sent=sent, parts_begun=begun, complete=False), intent=PAPERS.intent)
    assert not found.complete


@pytest.mark.parametrize(
    "changed",
    [
        {"content_digest": OTHER},
        {"hash": "blake3"},
        {"parts": (PAPERS.parts[0], PartDigest(rows=400, digest=OTHER))},
        {"parts": PAPERS.parts[::-1]},
    ],
    ids=str,
)
def test_5_a_content_digest_that_does_not_follow(changed):
    refused(Reason.DIGEST_MISMATCH, 5, PAPERS.receipt_of(**changed))


def test_5_blake3_receipts_verify_too():
    digest = content_digest("blake3", PAPERS.schema, PAPERS.parts)
    intent = PAPERS.intent_of(hash="blake3", content_digest=digest)
    receipt = PAPERS.receipt_of(hash="blake3", content_digest=digest, intent_digest=intent.digest)
    assert check(receipt, intent=intent, content_digest=digest)


def bounded(**changed: Any) -> Envelope:
    bounds = OUTBREAK.bounds
    assert isinstance(bounds, Bounds)
    if "k_met" in changed:
        changed = {"certificate": OUTBREAK.certificate(changed["k_met"], OUTBREAK.suppressed), **changed}
    return OUTBREAK.receipt_of(bounds=msgspec.structs.replace(bounds, **changed))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"k_met": 9}, "not met"),
        ({"k_required": 9}, "less than the contract demands"),
        ({"l_required": {}}, "less than the contract demands"),
        ({"l_met": {}}, "not met"),
        ({"l_met": {"diagnosis_icd10": 1}}, "not met"),
        ({"entity": "visit_ts"}, "another entity"),
        ({"quasi_identifiers": ("birth_date", "visit_ts")}, "without a declared quasi-identifier"),
        ({"composite": False}, "joinable pseudonym"),
    ],
    ids=str,
)
def test_6_bounds_below_the_contracts(changed, says):
    assert says in refused(Reason.RECEIPT_INVALID, 6, bounded(**changed), agreement=MONITORED)


@pytest.mark.parametrize(
    "changed",
    [
        {"k_required": 15, "k_met": 15},
        {"quasi_identifiers": ("birth_date", "home_postcode", "visit_ts", "diagnosis_icd10")},
    ],
)
def test_6_stricter_than_the_contract_is_welcome(changed):
    assert check(bounded(**changed), agreement=MONITORED)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"level": 4}, "level 4 does not follow"),
        ({"dr_b": 0.02}, "the highest risk"),
        ({"tau": 0.5}, "other thresholds"),
        ({"suppressed": 0.0}, "the share suppressed"),
    ],
    ids=str,
)
def test_6_a_certificate_that_is_wrong(changed, says):
    """In the receipt, and in an intent, which a client verifies before it takes a row."""
    bounds = OUTBREAK.bounds
    judged = msgspec.structs.replace(bounds.certificate, **changed)
    wrong = msgspec.structs.replace(bounds, certificate=judged)
    assert says in refused(Reason.RECEIPT_INVALID, 6, OUTBREAK.receipt_of(bounds=wrong), agreement=MONITORED)
    message = raises(Reason.RECEIPT_INVALID, verify_intent, OUTBREAK.intent_of(bounds=wrong), MONITORED, at=NOW + 60)
    assert says in message


def test_6_bounds_that_are_not_stated():
    refused(Reason.RECEIPT_INVALID, 6, OUTBREAK.receipt_of(bounds=None), agreement=MONITORED)


def test_6_an_empty_release_meets_any_bound():
    parts = (PartDigest(rows=0, digest=OTHER),)
    digest = content_digest("sha-256", PAPERS.schema, parts)
    figures = dict.fromkeys(("dr_c", "risk", "marketer_risk", "average_class", "discernibility"), 0.0)
    judged = msgspec.structs.replace(PAPERS.certificate(0, 0), **figures)
    nothing = msgspec.structs.replace(PAPERS.bounds, k_met=0, classes=0, certificate=judged)
    empty = PAPERS.receipt_of(
        rows_in=0, rows_out=0, parts=parts, parts_sent=(0,), content_digest=digest, bounds=nothing
    )
    assert check(empty).rows_out == 0


@pytest.mark.parametrize(
    ("papers", "agreement", "suppressed", "allowed"),
    [
        (OUTBREAK, MONITORED, 52, True),
        (OUTBREAK, MONITORED, 53, False),
        (PAPERS, VERIFIED, 0, True),
        (PAPERS, VERIFIED, 1, False),
    ],
)
def test_6_rows_suppressed_within_the_contracts_share(papers, agreement, suppressed, allowed):
    """5 % of the rows after scope may go under one purpose, none under the other, which refuses."""
    bounds = papers.bounds
    judged = papers.certificate(bounds.k_met, suppressed)
    receipt = papers.receipt_of(
        rows_in=1100, rows_suppressed=suppressed, bounds=msgspec.structs.replace(bounds, certificate=judged)
    )
    if allowed:
        assert check(receipt, agreement=agreement)
    else:
        assert "suppressed" in refused(Reason.RECEIPT_INVALID, 6, receipt, agreement=agreement)


@pytest.mark.parametrize(
    "small", [None, SuppressSmall(k=5, fields=("sex",), max_suppression=0.05)], ids=["all rows", "no small classes"]
)
def test_6_rows_are_suppressed_only_where_the_contract_says_so(small):
    """Of data about no person: all rows leave, or those that enough others are like."""
    purposes = {
        name: msgspec.structs.replace(purpose, effectiveness=None, whole_release=WholeRelease(suppress_small=small))
        for name, purpose in VERIFIED.contract.purposes.items()
    }
    agreement = dataclasses.replace(VERIFIED, contract=msgspec.structs.replace(VERIFIED.contract, purposes=purposes))
    assert check(PAPERS.receipt_of(bounds=None), agreement=agreement)
    for suppressed, most in ((1, 0.0), (52, 0.04), (53, 0.05)):  # of the 1000 that left and those
        receipt = PAPERS.receipt_of(rows_in=1100, rows_suppressed=suppressed, bounds=None)
        if small is not None and most < 0.05:
            assert check(receipt, agreement=agreement)
        else:
            assert "suppressed" in refused(Reason.RECEIPT_INVALID, 6, receipt, agreement=agreement)


def test_7_the_receipt_names_another_intent():
    refused(Reason.RECEIPT_INVALID, 7, PAPERS.receipt_of(intent_digest=OTHER), intent=PAPERS.intent)
    refused(Reason.RECEIPT_INVALID, 7, PAPERS.receipt, intent=PAPERS.intent_of(created=rfc3339(NOW + 11)))


@pytest.mark.parametrize(
    "changed",
    [
        {"transfer": "transfers/t-bbbbbbbbbb"},
        {"release": "release-2"},
        {"plan_digest": OTHER},
        {"rows_in": 1011},
        {"bounds": msgspec.structs.replace(PAPERS.bounds, k_met=99)},
        {"created": rfc3339(NOW + 21)},
    ],
    ids=str,
)
def test_7_a_receipt_that_departs_from_its_intent(changed):
    intent = PAPERS.intent_of(**changed)
    refused(Reason.RECEIPT_INVALID, 7, PAPERS.receipt_of(intent_digest=intent.digest), intent=intent)


def test_the_data_is_another():
    message = raises(Reason.DIGEST_MISMATCH, check, PAPERS.receipt, content_digest=OTHER)
    assert OTHER in message


@pytest.mark.parametrize("exists_by", [None, NOW + DAY])
def test_a_revoked_gateway_key_signs_only_what_is_proven_older(exists_by):
    papers = make(revocations=(Cast().revocation(PROVIDER, GATEWAY, NOW + DAY),))
    agreement = papers.verified
    assert check(papers.receipt, agreement=agreement)
    message = refused(
        Reason.KEY_UNTRUSTED, 1, papers.receipt, agreement=agreement, at=NOW + 2 * DAY, existed_by=exists_by
    )
    assert "nothing proves that it signed before" in message
    assert check(papers.receipt, agreement=agreement, at=NOW + 2 * DAY, existed_by=NOW + DAY - 1)


def test_an_expired_gateway_key_still_vouches_for_what_it_signed():
    assert check(PAPERS.receipt, at=NOW + 1000 * DAY)


# --- intents


def test_an_intent_verifies_by_itself():
    assert verify_intent(PAPERS.intent, VERIFIED, at=LATER).rows_out == 1000


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"agreement_digest": OTHER}, Reason.RECEIPT_INVALID),
        ({"agreement": "agreements/a-bbbbbbbbbb"}, Reason.RECEIPT_INVALID),
        ({"rows_out": 5}, Reason.RECEIPT_INVALID),
        ({"content_digest": OTHER}, Reason.DIGEST_MISMATCH),
        ({"bounds": None}, Reason.RECEIPT_INVALID),
        ({"gateway": "health-bureau-2"}, Reason.SIGNATURE_INVALID),
        ({"created": rfc3339(NOW + DAY)}, Reason.RECEIPT_INVALID),
    ],
    ids=str,
)
def test_an_intent_that_is_wrong(changed, reason):
    raises(reason, verify_intent, PAPERS.intent_of(**changed), VERIFIED, at=LATER)


def test_an_intent_to_send_a_field_that_was_not_agreed():
    schema = (*PAPERS.schema, ("patient_name", "string"))
    digest = content_digest("sha-256", schema, PAPERS.parts)
    intent = PAPERS.intent_of(schema=schema, content_digest=digest)
    assert "not agreed" in raises(Reason.RECEIPT_INVALID, verify_intent, intent, VERIFIED, at=LATER)


# --- acknowledgements


def test_an_acknowledgement_verifies():
    found = verify_acknowledgement(PAPERS.acknowledgement, PAPERS.receipt, VERIFIED, at=LATER)
    assert found.receipt_digest == PAPERS.receipt.digest


@pytest.mark.parametrize(
    "changed",
    [
        {"transfer": "transfers/t-bbbbbbbbbb"},
        {"receipt_digest": OTHER},
        {"content_digest": OTHER},
        {"created": rfc3339(NOW + DAY)},
        {"created": rfc3339(NOW - 60)},
    ],
    ids=str,
)
def test_an_acknowledgement_of_something_else(changed):
    bent = PAPERS.acknowledgement_of(PAPERS.receipt, **changed)
    raises(Reason.RECEIPT_INVALID, verify_acknowledgement, bent, PAPERS.receipt, VERIFIED, at=LATER)


@pytest.mark.parametrize("owner", [STEWARD, GATEWAY, EPIDEMIOLOGIST, f"holder:{COMPANY}", "mallory"])
def test_only_the_consumer_acknowledges(owner):
    forged = Cast.sign(Kind.ACKNOWLEDGEMENT, PAPERS.acknowledgement.payload, owner)
    raises(Reason.KEY_UNTRUSTED, verify_acknowledgement, forged, PAPERS.receipt, VERIFIED, at=LATER)


def test_an_acknowledgement_of_the_receipt_before_it_was_changed():
    partial = PAPERS.receipt_of(parts_sent=(0,), complete=False)
    raises(Reason.RECEIPT_INVALID, verify_acknowledgement, PAPERS.acknowledgement, partial, VERIFIED, at=LATER)


# --- everything at once


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["receipt", "intent", "acknowledgement"]), st.data())
def test_no_flipped_bit_of_a_paper_goes_unnoticed(name, data):
    raw = bytearray(getattr(PAPERS, name).to_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SluicegateError):
        read_and_check(name, bytes(raw))


def read_and_check(name: str, raw: bytes) -> None:
    paper = Envelope.from_bytes(raw)
    if name == "acknowledgement":
        verify_acknowledgement(paper, PAPERS.receipt, VERIFIED, at=LATER)
    else:
        papers = {"receipt": PAPERS.receipt, "intent": PAPERS.intent, name: paper}
        check(papers["receipt"], intent=papers["intent"])


def test_papers_of_one_agreement_prove_nothing_under_another():
    raises(Reason.KEY_UNTRUSTED, verify_acknowledgement, PAPERS.acknowledgement, PAPERS.receipt, MONITORED, at=LATER)
    refused(Reason.RECEIPT_INVALID, 2, PAPERS.receipt, agreement=MONITORED)
    narrower = dataclasses.replace(PAPERS, agreement=make(fields=("visit_ts",)).agreement)
    refused(Reason.RECEIPT_INVALID, 2, PAPERS.receipt, agreement=make(fields=narrower.agreed.fields).verified)
