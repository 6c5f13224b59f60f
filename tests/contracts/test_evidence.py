"""The evidence of one transfer: what stands, what does not, and that each step says which."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import evidence
from contracts.agreement_checks import AGREEMENT_CHECKS
from contracts.envelope import Kind
from contracts.errors import Reason, SluicegateError
from contracts.evidence import EvidenceBundle, proven, succeeded, verify, verify_ledger
from contracts.instants import rfc3339
from contracts.receipt_checks import RECEIPT_CHECKS
from contracts.steps import Step
from tests.papers import (
    ANALYST,
    COMPANY,
    DAY,
    GATEWAY,
    NOW,
    PROVIDER,
    STEWARD,
    Cast,
    Papers,
    Tree,
    checkpoint,
    document,
    make,
)

PAPERS = make()
CONTENT = PAPERS.receipt.payload["contentDigest"]
LATER = NOW + 400 * DAY
OTHER = "sha256:" + "0" * 64


def judged(
    papers: Papers = PAPERS,
    *,
    at: int = LATER,
    content: str | None = CONTENT,
    trust: Any = None,
    without_ledger: bool = False,
    **changed: Any,
) -> tuple[Step, ...]:
    return verify(
        papers.evidence(**changed),
        trust or papers.trust,
        content_digest=content,
        at=at,
        without_ledger=without_ledger,
    )


def failures(steps: tuple[Step, ...]) -> dict[str, str]:
    """What failed outright, by the words of the step, with the detail; not what only needed it."""
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert not succeeded(steps)
    return {step.what: step.detail for step in steps if step.failed and step.shown}


def only_failure(steps: tuple[Step, ...]) -> str:
    ((_, detail),) = failures(steps).items()
    return detail


# --- what stands


@pytest.mark.parametrize(
    "papers",
    [
        PAPERS,
        make(purpose="outbreak-monitoring"),
        make(document=document(sharing="unconditional")),
    ],
    ids=["conditional", "two approvers", "standing offer"],
)
def test_whole_evidence_stands_years_later(papers):
    steps = judged(papers, content=papers.receipt.payload["contentDigest"])
    assert succeeded(steps)
    assert all(step.ok for step in steps)
    assert len(steps) == 2 + len(AGREEMENT_CHECKS) + 1 + len(RECEIPT_CHECKS) + 2


def test_the_file_reads_back():
    whole = PAPERS.evidence()
    assert EvidenceBundle.from_bytes(whole.to_bytes()) == whole
    bare = EvidenceBundle(receipt=PAPERS.receipt)
    assert EvidenceBundle.from_bytes(bare.to_bytes()) == bare


@pytest.mark.parametrize("missing", ["grant", "acknowledgement", "ledger"])
def test_papers_that_may_be_missing_are_reported_and_never_ok(missing):
    steps = judged(**{missing: () if missing == "ledger" else None}, without_ledger=True)
    assert succeeded(steps)
    assert proven(steps) == (missing != "ledger")
    unseen = [step for step in steps if not step.ok]
    assert unseen
    assert not any(step.shown or step.required for step in unseen)
    assert all(step.detail.startswith(("not shown: ", "not checked: ")) for step in unseen)


def test_without_its_proof_in_the_ledger_evidence_does_not_stand():
    """Who steals a gateway's key and hides its revocation can sign all but that; so can who dates papers back."""
    steps = judged(ledger=())
    assert not succeeded(steps)
    assert not proven(steps)
    assert [(step.number, step.detail.split(":")[0]) for step in steps if step.failed] == [
        (1, "not shown"),
        (2, "not checked"),
    ]
    # An entry that names another paper of this transfer, but not the receipt, is no proof of it either.
    entry = PAPERS.ledger_proof("transfer.announced", PAPERS.intent)
    assert not succeeded(judged(ledger=(entry,)))
    assert not succeeded(judged(ledger=(entry,), without_ledger=True))


def test_without_data_the_last_step_says_so():
    steps = judged(content=None)
    assert succeeded(steps)
    assert (steps[-1].ok, steps[-1].shown) == (False, False)


def test_a_partial_receipt_stands_and_says_that_it_is_partial():
    partial = PAPERS.receipt_of(parts_sent=(0,), complete=False)
    acknowledged = PAPERS.acknowledgement_of(partial)
    proof = PAPERS.ledger_proof("transfer.partial", partial)
    steps = judged(receipt=partial, acknowledgement=acknowledged, ledger=(proof,))
    assert succeeded(steps)
    assert any("PARTIAL: 1 of 2 parts" in step.detail for step in steps)


# --- what never stands


def test_without_a_trust_file_nothing_is_verified():
    with pytest.raises(SluicegateError) as caught:
        verify(PAPERS.evidence(), None, content_digest=CONTENT, at=LATER)
    assert caught.value.reason is Reason.TRUST_MISSING


def test_no_steps_are_no_success():
    assert not succeeded(())


@pytest.mark.parametrize("missing", ["agreement", "intent", "receipt"])
def test_papers_that_must_be_there(missing):
    steps = judged(**{missing: None})
    assert not succeeded(steps)
    assert any(step.failed and not step.shown for step in steps)


def test_a_bare_receipt_proves_nothing():
    steps = verify(EvidenceBundle(receipt=PAPERS.receipt), PAPERS.trust, content_digest=CONTENT, at=LATER)
    assert not succeeded(steps)
    assert not any(step.ok for step in steps)


def test_empty_evidence_is_reported_not_raised():
    steps = verify(EvidenceBundle(), PAPERS.trust, at=LATER)
    assert not any(step.ok for step in steps)
    assert not succeeded(steps)


def test_under_somebody_elses_trust_file_next_to_nothing_holds():
    trust = Cast().trust
    strangers = {
        name: msgspec.structs.replace(party, root=Cast().trust.parties[other].root)
        for (name, party), other in zip(trust.parties.items(), reversed(trust.parties), strict=True)
    }
    swapped = msgspec.structs.replace(
        trust, parties=strangers, checkpoint_key=trust.grant_key, grant_key=trust.checkpoint_key
    )
    steps = judged(trust=swapped)
    held = {step.what for step in steps if step.ok}
    assert held == {AGREEMENT_CHECKS[0].what, AGREEMENT_CHECKS[2].what}  # bytes and standard are what they are
    assert not succeeded(steps)


def test_data_with_another_digest():
    assert OTHER in only_failure(judged(content=OTHER))


def test_a_receipt_of_another_transfer_fails_where_it_differs():
    other = dataclasses.replace(PAPERS, transfer="transfers/t-bbbbbbbbbb")
    found = failures(judged(receipt=other.receipt))
    assert set(found) == {
        "the ledger holds the transfer's entries, under a signed checkpoint",
        "the exchange granted the transfer",
        "the gateway signed its intent before, and the receipt keeps to it",
        "the consumer acknowledged the receipt",
    }


def test_a_key_paper_in_nobodys_name():
    """Nobody asks for the keys of no party, so only this look finds that such a paper was changed."""
    first, *others = PAPERS.bundle.statements
    for payload in ({**first.payload, "party": "nobody"}, {"paruy": "health-bureau"}, {"party": ["x"]}):
        stray = msgspec.structs.replace(first, payload=payload)
        papers = msgspec.structs.replace(PAPERS.bundle, statements=(stray, *others))
        assert "names no party of the trust file" in only_failure(judged(agreement=papers))


def test_a_failed_agreement_leaves_the_receipt_unchecked_not_ok():
    broken = make(agreement_signers=(ANALYST,))
    steps = judged(agreement=broken.bundle)
    assert list(failures(steps)) == ["provider and consumer signed the agreement"]
    unchecked = [step for step in steps if step.detail == "not checked: it needs the agreement"]
    assert [step.what for step in unchecked][:1] == [RECEIPT_CHECKS[0].what]


@pytest.mark.parametrize(
    "changed",
    [
        {"transfer": "transfers/t-bbbbbbbbbb"},
        {"agreement_digest": OTHER},
        {"gateway": "health-bureau-2"},
        {"release": "release-2"},
        {"issued": rfc3339(NOW - 1200), "expires": rfc3339(NOW - 600)},
    ],
    ids=str,
)
def test_a_grant_of_something_else_counts_against_it(changed):
    assert list(failures(judged(grant=PAPERS.grant_of(**changed)))) == ["the exchange granted the transfer"]


def test_a_grant_that_the_exchange_did_not_sign():
    forged = Cast.sign(Kind.GRANT, PAPERS.grant.payload, GATEWAY)
    only_failure(judged(grant=forged))


def test_an_acknowledgement_by_somebody_else_counts_against_it():
    forged = Cast.sign(Kind.ACKNOWLEDGEMENT, PAPERS.acknowledgement.payload, STEWARD)
    assert "certified as requester of metro-planning" in only_failure(judged(acknowledgement=forged, ledger=()))


# --- the ledger


def ledger_detail(*proofs: Any, papers: Papers = PAPERS, at: int = LATER) -> str:
    steps = judged(papers, ledger=proofs, at=at)
    assert not succeeded(steps)
    return next(step.detail for step in steps if step.failed and step.shown)


PROOF = PAPERS.ledger_proof("transfer.completed", PAPERS.receipt)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"index": 2}, "not leaf 2"),
        ({"index": 7}, "no leaf 7"),
        ({"salt": "00"}, "not leaf 3"),
        ({"salt": "xyz"}, "not hexadecimal"),
        ({"path": ()}, "shorter"),
        ({"path": (*PROOF.path, "00" * 32)}, "longer"),
        ({"path": ("00", *PROOF.path[1:])}, "64 lower-case hex"),
        ({"path": (*PROOF.path[:-1], "00" * 32)}, "another root"),
        ({"entry": PROOF.entry.replace("completed", "refused")}, "not leaf 3"),
        ({"checkpoint": checkpoint(Tree([b"another", b"ledger"] * 3), NOW + 60)}, ""),
        ({"checkpoint": Cast.sign(Kind.CHECKPOINT, PROOF.checkpoint.payload, GATEWAY)}, "checkpoint key"),
        ({"checkpoint": PAPERS.receipt}, "checkpoint key"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_entry_that_is_not_in_the_ledger(changed, says):
    proof = msgspec.structs.replace(PROOF, **changed)
    assert says in ledger_detail(proof)
    with pytest.raises(SluicegateError):
        verify_ledger(proof, PAPERS.trust)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"resource": "transfers/t-bbbbbbbbbb"}, "not about the transfer"),
        ({"detail": {"digest": OTHER}}, "no entry that is shown names this receipt"),
        ({"detail": {}}, "no entry that is shown names this receipt"),
        ({"detail": [PAPERS.receipt.digest]}, "no ledger entry"),
        ({"detail": None}, "no ledger entry"),
        ({"at": "then"}, "no ledger entry"),
        ({"at": rfc3339(NOW + DAY)}, "out of order"),
    ],
    ids=str,
)
def test_an_entry_in_the_ledger_about_something_else(changed, says):
    assert says in ledger_detail(PAPERS.ledger_proof("transfer.completed", PAPERS.receipt, **changed))


def test_a_checkpoint_from_the_future():
    proof = PAPERS.ledger_proof("transfer.completed", PAPERS.receipt, signed=LATER + DAY)
    assert "out of order" in ledger_detail(proof)


def test_other_entries_of_the_transfer_do_no_harm():
    granted = PAPERS.ledger_proof("transfer.granted", PAPERS.grant, signed=NOW + 30)
    assert succeeded(judged(ledger=(granted, *PAPERS.evidence().ledger)))
    # Alone they prove nothing about the receipt, and that is said.
    assert "names this receipt" in ledger_detail(granted)


def test_an_entry_that_the_receipt_was_refused_does_not_stand_for_it():
    """Else a gateway could offer a second receipt, be recorded as contradicting itself, and have both."""
    refused = PAPERS.ledger_proof("transfer.contradicted", PAPERS.receipt)
    assert "no entry that is shown names this receipt" in ledger_detail(refused)


# --- time: keys revoked since


UNPROVEN = "nothing proves that it signed before"


def revoked(party: str, owner: str, at: int) -> Papers:
    return make(revocations=(Cast().revocation(party, owner, at),))


@pytest.mark.parametrize(("party", "owner"), [(PROVIDER, GATEWAY), (PROVIDER, STEWARD), (COMPANY, ANALYST)])
def test_a_key_revoked_since_counts_only_with_a_checkpoint_older_than_the_revocation(party, owner):
    papers = revoked(party, owner, NOW + DAY)
    assert succeeded(judged(papers))
    assert UNPROVEN in " ".join(failures(judged(papers, ledger=())).values())
    # A checkpoint taken after the revocation proves nothing about before.
    late = (
        papers.ledger_proof("transfer.completed", papers.receipt, signed=NOW + 2 * DAY),
        papers.ledger_proof("transfer.acknowledged", papers.acknowledgement, signed=NOW + 2 * DAY),
    )
    assert any(
        "nothing proves that it signed before" in detail for detail in failures(judged(papers, ledger=late)).values()
    )
    # Of several, the oldest counts.
    assert succeeded(judged(papers, ledger=(*late, *papers.evidence().ledger)))


def test_the_receipts_entry_does_not_vouch_for_the_acknowledgement():
    papers = revoked(COMPANY, ANALYST, NOW + DAY)
    steps = judged(papers, ledger=papers.evidence().ledger[:1])
    assert list(failures(steps)) == ["the consumer acknowledged the receipt"]


def test_a_key_revoked_before_it_signed_counts_with_no_checkpoint():
    papers = revoked(PROVIDER, GATEWAY, NOW + 15)
    found = failures(judged(papers))
    assert f"revoked at {rfc3339(NOW + 15)}" in found[RECEIPT_CHECKS[0].what]


def test_the_agreement_is_judged_as_of_the_transfer():
    """It has ended long ago, and its approver's key has run out: the receipt stands all the same."""
    assert succeeded(judged(at=NOW + 4000 * DAY))
    late = PAPERS.receipt_of(started=rfc3339(NOW + 91 * DAY), finished=rfc3339(NOW + 91 * DAY))
    found = failures(judged(receipt=late, ledger=(), acknowledgement=None, grant=None))
    assert "the agreement was valid at the time" in found


# --- files


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"version": 2}',
        b'{"version": "1"}',
        b'{"surprise": 1}',
        b'{"receipt": {}}',
        b'{"receipt": null, "receipt": null}',
        b'{"ledger": [{"index": 1}]}',
        b'{"version": NaN}',
        b"[" * 100_000,
    ],
    ids=lambda raw: raw[:30].decode(errors="replace"),
)
def test_what_is_no_evidence_file(raw):
    with pytest.raises(SluicegateError) as caught:
        EvidenceBundle.from_bytes(raw)
    assert caught.value.reason is Reason.RECEIPT_INVALID


def test_an_oversized_file():
    with pytest.raises(SluicegateError) as caught:
        EvidenceBundle.from_bytes(b" " * (evidence.MAX_EVIDENCE_BYTES + 1))
    assert caught.value.reason is Reason.TOO_LARGE


WHOLE = PAPERS.evidence().to_bytes()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_flipped_bit_of_the_file_goes_unnoticed(data):
    raw = bytearray(WHOLE)
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1 << data.draw(st.integers(0, 6))
    try:
        bundle = EvidenceBundle.from_bytes(bytes(raw))
    except SluicegateError:
        return
    steps = verify(bundle, PAPERS.trust, content_digest=CONTENT, at=LATER)
    if succeeded(steps):
        # Another party's key statement may change, or white space in the contract's text: neither is
        # evidence of this transfer. Every paper of it is still the same.
        assert without_margins(bundle) == without_margins(PAPERS.evidence())


def without_margins(bundle: EvidenceBundle) -> EvidenceBundle:
    assert bundle.agreement is not None
    agreement = msgspec.structs.replace(bundle.agreement, statements=(), document="")
    return msgspec.structs.replace(bundle, agreement=agreement)


PAPER_NAMES = ["agreement", "grant", "intent", "receipt", "acknowledgement", "ledger"]


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.sampled_from(["agreement", "grant", "intent", "receipt", "acknowledgement", "ledger"])),
    st.booleans(),
    st.booleans(),
)
def test_success_needs_exactly_the_required_papers(missing, with_data, without_ledger):
    changed = {name: () if name == "ledger" else None for name in missing}
    steps = judged(content=CONTENT if with_data else None, without_ledger=without_ledger, **changed)
    needed = {"agreement", "intent", "receipt"} | (set() if without_ledger else {"ledger"})
    assert succeeded(steps) == (not missing & needed)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
