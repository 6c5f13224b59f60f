"""How the papers of a transfer are verified against its agreement, in numbered steps.

`contracts.receipt` runs them one paper at a time, `contracts.evidence` all of them in one report. What
a receipt says about masks, k and l is the department's own claim; these steps check that the claim is
signed, whole, consistent in itself, and no less than what the contract demands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import blake3
import msgspec

from contracts import aggregate_plan, certificate
from contracts import standard as standards
from contracts.agreement_checks import VerifiedAgreement
from contracts.canonical import canonical
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, epoch, rfc3339
from contracts.model import Identifiability, Purpose
from contracts.papers import Acknowledgement, Bounds, Hash, Intent, PartDigest, Receipt
from contracts.steps import Check, need
from contracts.trust import Use, read


@dataclass(slots=True)
class TransferCase:
    """A transfer under examination: its papers, the agreement once that is verified, and what the
    steps have established. `at` is now; `latest`, of the gateway's papers, and
    `acknowledgement_latest` as for `Keys.certified`."""

    at: int
    latest: int | None
    receipt_envelope: Envelope | None = None
    intent_envelope: Envelope | None = None
    acknowledgement_envelope: Envelope | None = None
    acknowledgement_latest: int | None = None
    content_digest: str | None = None
    verified: VerifiedAgreement | None = None
    receipt: Receipt | None = None
    intent: Intent | None = None


def content_digest(hash: Hash, schema: Sequence[tuple[str, str]], parts: Sequence[PartDigest]) -> str:
    """The content digest, version 1, from the digests of a release's parts: H of the canonical JSON of
    `{"parts": [{"digest", "rows"}...], "schema": [[name, type]...]}`, written `sha256:` or `blake3:` and hex."""
    raw = canonical(
        {
            "schema": [list(column) for column in schema],
            "parts": [{"rows": part.rows, "digest": part.digest} for part in parts],
        }
    )
    if hash == "blake3":
        return "blake3:" + str(blake3.blake3(raw).hexdigest())
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def verify_intent(
    envelope: Envelope, agreement: VerifiedAgreement, *, at: int, existed_by: int | None = None
) -> Intent:
    """The intent in an envelope: signed by the agreement's gateway, for this agreement, consistent in
    itself and within the contract's bounds.

    Instants (epoch seconds) as for `verify_receipt`. Raises SIGNATURE_INVALID, KEY_UNTRUSTED or
    RECEIPT_INVALID.
    """
    case = TransferCase(at, at if existed_by is None else existed_by, verified=agreement)
    return _intent(case, agreement, envelope)


def _signed_by_gateway(case: TransferCase) -> str:
    agreement = need(case.verified, "the agreement")
    envelope = need(case.receipt_envelope, "the receipt")
    receipt = read(Receipt, envelope, Reason.RECEIPT_INVALID)
    finished = _gateway_signed(case, agreement, Kind.RECEIPT, envelope, receipt.gateway, receipt.finished)
    if not epoch(receipt.started) <= finished:
        raise _wrong(f"it ended, at {receipt.finished}, before it began")
    case.receipt = receipt
    return f"{receipt.transfer}, signed by {receipt.gateway} of {agreement.agreement.provider} at {receipt.finished}"


def _gateway_signed(
    case: TransferCase, agreement: VerifiedAgreement, kind: Kind, envelope: Envelope, gateway: str, signed: str
) -> int:
    """Check the gateway's one signature; the instant it gives, in epoch seconds."""
    signed_at = epoch(signed)
    provider = agreement.agreement.provider
    signers = agreement.keys.signers(kind, envelope, [(provider, Use.GATEWAY)], signed_at, latest=case.latest)
    if len(signers) != 1 or signers[0].subject != agreement.agreement.gateway or gateway != signers[0].subject:
        names = ", ".join(key.subject for key in signers)
        raise SluicegateError(
            Reason.SIGNATURE_INVALID,
            f"the {kind} must be signed by {agreement.agreement.gateway} alone; it names {gateway}, signed: {names}",
        )
    if signed_at > case.at + SKEW:
        raise _wrong(f"it is dated {signed}, in the future")
    return signed_at


def _for_this_agreement(case: TransferCase) -> str:
    agreement, receipt = need(case.verified, "the agreement"), need(case.receipt, "the verified receipt")
    document = agreement.agreement
    _differs(
        {
            "agreement": (receipt.agreement, document.id),
            "agreementDigest": (receipt.agreement_digest, agreement.digest),
            "documentDigest": (receipt.document_digest, document.document_digest),
            "termsDigest": (receipt.terms_digest, document.terms_digest),
            "standardDigest": (receipt.standard_digest, document.standard_digest),
            "consumer": (receipt.consumer, document.consumer),
            "purpose": (receipt.purpose, document.purpose),
            "refresh": (receipt.refresh, _purpose(agreement).refresh),
        },
        "the receipt and the agreement",
    )
    if receipt.policy_digest not in agreement.keys.trust.policies:
        raise _wrong(f"the trust file does not name the policy bundle that decided: {receipt.policy_digest}")
    begin, end = epoch(document.not_before), epoch(document.not_after)
    if not begin - SKEW <= epoch(receipt.started) < end:
        raise _wrong(f"it began at {receipt.started}, outside the agreement's time")
    return f"{document.id}, {document.purpose}, to {document.consumer}"


def _settles(stated: object, agreed: object) -> bool:
    """Whether what was done is what was agreed. What the contract leaves open (None) the plan settles
    from the data's types; everything it says must stand as it says it."""
    if agreed is None:
        return True
    if isinstance(agreed, dict):
        if not isinstance(stated, dict) or stated.keys() != agreed.keys():
            return False
        return all(_settles(stated[key], value) for key, value in agreed.items())
    return stated == agreed


def _fields_treated(case: TransferCase) -> str:
    agreement, receipt = need(case.verified, "the agreement"), need(case.receipt, "the verified receipt")
    masks = _purpose(agreement).fields
    # By way of JSON, as the receipt came: a tuple is a list there.
    agreed = {name: msgspec.json.decode(msgspec.json.encode(masks[name])) for name in agreement.agreement.fields}
    stated = {field.name: field for field in receipt.fields}
    if len(stated) != len(receipt.fields) or not set(stated) <= set(agreed):
        raise _wrong("it names a field twice, or one that was not agreed")
    for name, mask in agreed.items():
        if name not in stated:
            if masks[name].sent:
                raise _wrong(f"it does not say what was done to {name}")
        elif not _settles(stated[name].technique, mask):
            raise _wrong(f"{name} was not masked as the contract says: {mask['mask']} with its parameters")
    purpose = _purpose(agreement)
    leaving = tuple((field.name, field.type) for field in receipt.fields if _leaves(purpose, field.name))
    if (*leaving, *_figures(purpose)) != receipt.schema:
        raise _wrong("the columns that were sent are not the fields that it describes")
    return ", ".join(f"{field.name}: {field.technique['mask']}" for field in receipt.fields)


def _leaves(purpose: Purpose, name: str) -> bool:
    """Whether a field is a column of what leaves: of an aggregate, only what forms the groups is."""
    return purpose.fields[name].sent and (purpose.aggregate is None or name in purpose.aggregate.group_by)


def _figures(purpose: Purpose) -> tuple[tuple[str, str], ...]:
    """Names and types of the columns of figures that an aggregate has besides."""
    return () if purpose.aggregate is None else tuple(aggregate_plan.columns(purpose.aggregate, purpose.fields))


def _counts_add_up(case: TransferCase) -> str:
    receipt = need(case.receipt, "the verified receipt")
    _counts(receipt)
    sent, begun = receipt.parts_sent, receipt.parts_begun
    for named in (sent, begun):
        if list(named) != sorted(set(named)) or any(part not in range(len(receipt.parts)) for part in named):
            raise _wrong("the parts that it names are not parts of the release, each once and in order")
    if set(sent) & set(begun):
        raise _wrong("it says of a part that it was sent whole, and that it broke off")
    if receipt.complete != (len(sent) == len(receipt.parts)):
        raise _wrong("it calls itself complete and lacks parts, or the reverse")
    rows = sum(receipt.parts[part].rows for part in sent)
    whole = "complete" if receipt.complete else f"PARTIAL: {len(sent)} of {len(receipt.parts)} parts"
    if begun:
        whole += f", and rows of {len(begun)} more"
    return f"{whole}; {receipt.rows_in} rows in, {rows} sent, {receipt.rows_suppressed} suppressed"


def _counts(paper: Receipt | Intent) -> None:
    if min(paper.rows_in, paper.rows_out, paper.rows_suppressed, *(part.rows for part in paper.parts), 0) < 0:
        raise _wrong("a number of rows is negative")
    if paper.rows_out + paper.rows_suppressed > paper.rows_in:
        raise _wrong("more rows were sent and suppressed than were read")
    if sum(part.rows for part in paper.parts) != paper.rows_out:
        raise _wrong("the rows of its parts are not the rows of the release")


def _digest_follows(case: TransferCase) -> str:
    receipt = need(case.receipt, "the verified receipt")
    _content(receipt)
    return receipt.content_digest


def _content(paper: Receipt | Intent) -> None:
    if content_digest(paper.hash, paper.schema, paper.parts) != paper.content_digest:
        raise SluicegateError(
            Reason.DIGEST_MISMATCH, "the content digest does not follow from the digests of the parts"
        )


def _bounds_met(case: TransferCase) -> str:
    agreement, receipt = need(case.verified, "the agreement"), need(case.receipt, "the verified receipt")
    return _bounds(agreement, receipt)


def _bounds(agreement: VerifiedAgreement, paper: Receipt | Intent) -> str:
    purpose = _purpose(agreement)
    demanded, aggregate = purpose.effectiveness, purpose.aggregate
    agreed = None if aggregate is None else aggregate_plan.stated(aggregate, purpose.fields)
    if paper.aggregate != agreed:
        raise _wrong("what it says of an aggregate, its epsilon, bounds and threshold, is not what the contract says")
    if agreed is not None:
        if paper.bounds is not None or paper.rows_suppressed or paper.rows_in != paper.rows_out:
            raise _wrong("an aggregate has neither bounds on rows nor a number of rows that were read")
        return aggregate_plan.text(agreed)
    if demanded is None:
        small = purpose.whole_release.suppress_small
        _suppression(paper, 0.0 if small is None else small.max_suppression)
        return "the contract demands none: data about no person" + (f"; {small.words}" if small else "")
    if paper.bounds is None:
        raise _wrong(f"the contract demands k of at least {demanded.require.k}, and no bounds are stated")
    bounds = paper.bounds
    sent = {name for name, _ in paper.schema}
    if bounds.entity != demanded.entity or not set(demanded.quasi_identifiers) & sent <= set(bounds.quasi_identifiers):
        raise _wrong("the bounds were measured over another entity, or without a declared quasi-identifier")
    if not bounds.composite and any(_joins_rows(agreement, name) for name in sent - set(bounds.quasi_identifiers)):
        raise _wrong("a joinable pseudonym was sent, and k was measured row by row")
    if bounds.k_required < demanded.require.k or any(
        bounds.l_required.get(name, 0) < least for name, least in demanded.require.l.items() if name in sent
    ):
        raise _wrong("the bounds were measured against less than the contract demands")
    if paper.rows_out and (
        bounds.k_met < bounds.k_required
        or any(bounds.l_met.get(name, 0) < least for name, least in bounds.l_required.items())
    ):
        raise _wrong("the bounds were not met")
    require = demanded.require
    share = _suppression(paper, (require.max_suppression or 0.0) if demanded.on_violation == "suppress" else 0.0)
    # The agreement was verified under this very standard: the trust file names its digest.
    standard = standards.load(agreement.contract.sharing.standard)
    if wrong := list(certificate.problems(bounds, demanded, standard, dict(paper.schema), suppressed=share)):
        raise _wrong("the certificate is wrong: " + "; ".join(wrong))
    return f"{_bounds_text(bounds)}; {certificate.text(bounds.certificate, at_least=bounds.at_least)}"


def _joins_rows(agreement: VerifiedAgreement, name: str) -> bool:
    """Whether that field leaves as a pseudonym that joins the rows of one person."""
    field = agreement.contract.field(name)
    about_persons = field is None or field.identifiability in (Identifiability.DIRECT, Identifiability.INDIRECT)
    mask = _purpose(agreement).fields.get(name)
    return mask is None or (about_persons and mask.joinable)


def _suppression(paper: Receipt | Intent, allowed: float) -> float:
    """The share of rows suppressed. Raises RECEIPT_INVALID for more than is allowed."""
    share = paper.rows_suppressed / max(1, paper.rows_out + paper.rows_suppressed)
    if share > allowed:
        raise _wrong(f"{share:.2%} of the rows were suppressed; the contract allows {allowed:.2%}")
    return share


def _bounds_text(bounds: Bounds) -> str:
    least = "at least " if bounds.at_least else ""
    diversity = "".join(f", l of {name} {least}{value}" for name, value in sorted(bounds.l_met.items()))
    return f"k {least}{bounds.k_met} (needed {bounds.k_required}){diversity}, over {bounds.classes} classes"


# What an intent announces and a receipt repeats.
_KEPT = (
    *("transfer", "agreement", "agreement_digest", "gateway", "release", "plan_digest", "content_digest", "hash"),
    *("schema", "parts", "rows_in", "rows_out", "rows_suppressed", "bounds"),
    "aggregate",
)


def intent_kept(case: TransferCase) -> str:
    """The gateway signed the intent before the first row left, and the receipt keeps to it."""
    agreement, receipt = need(case.verified, "the agreement"), need(case.receipt, "the verified receipt")
    envelope = need(case.intent_envelope, "the intent")
    intent = _intent(case, agreement, envelope)
    facts = {name: (getattr(receipt, name), getattr(intent, name)) for name in _KEPT}
    _differs({"intentDigest": (receipt.intent_digest, envelope.digest), **facts}, "the receipt and its intent")
    if epoch(intent.created) > epoch(receipt.finished):
        raise _wrong(f"the intent is dated {intent.created}, after the transfer ended")
    case.intent = intent
    return f"signed at {intent.created}, before {receipt.finished}"


def _intent(case: TransferCase, agreement: VerifiedAgreement, envelope: Envelope) -> Intent:
    intent = read(Intent, envelope, Reason.RECEIPT_INVALID)
    _gateway_signed(case, agreement, Kind.INTENT, envelope, intent.gateway, intent.created)
    _differs(
        {
            "agreement": (intent.agreement, agreement.agreement.id),
            "agreementDigest": (intent.agreement_digest, agreement.digest),
        },
        "the intent and the agreement",
    )
    allowed = {*agreement.agreement.fields, *(name for name, _ in _figures(_purpose(agreement)))}
    if not {name for name, _ in intent.schema} <= allowed:
        raise _wrong("the intent is to send a field that was not agreed")
    _counts(intent)
    _content(intent)
    _bounds(agreement, intent)
    return intent


def data_is_attested(case: TransferCase) -> str:
    """The digest that was recomputed over the received data is the attested one."""
    receipt = need(case.receipt, "the verified receipt")
    found = need(case.content_digest, "the data, or its recomputed digest")
    if found != receipt.content_digest:
        raise SluicegateError(
            Reason.DIGEST_MISMATCH, f"the data has digest {found}, attested is {receipt.content_digest}"
        )
    return found


def acknowledged(case: TransferCase) -> str:
    """The consumer acknowledged this very receipt."""
    agreement, receipt = need(case.verified, "the agreement"), need(case.receipt, "the verified receipt")
    envelope = need(case.acknowledgement_envelope, "the consumer's acknowledgement")
    paper = read(Acknowledgement, envelope, Reason.RECEIPT_INVALID)
    created = epoch(paper.created)
    consumer = agreement.agreement.consumer
    signers = agreement.keys.signers(
        Kind.ACKNOWLEDGEMENT, envelope, [(consumer, Use.REQUESTER)], created, latest=case.acknowledgement_latest
    )
    _differs(
        {
            "transfer": (paper.transfer, receipt.transfer),
            "receiptDigest": (paper.receipt_digest, need(case.receipt_envelope, "the receipt").digest),
            "contentDigest": (paper.content_digest, receipt.content_digest),
        },
        "the acknowledgement and the receipt",
    )
    if created > case.at + SKEW or created < epoch(receipt.finished) - SKEW:
        raise _wrong(f"the acknowledgement is dated {paper.created}, in the future or before the receipt")
    unseen = "" if paper.recomputed else ", accepted as it stands: the digest was not recomputed"
    return f"by {', '.join(key.subject for key in signers)} of {consumer} at {rfc3339(created)}{unseen}"


RECEIPT_CHECKS: tuple[Check[TransferCase], ...] = (
    Check("the agreement's gateway signed the receipt", _signed_by_gateway),
    Check("the receipt is for this agreement, within its time", _for_this_agreement),
    Check("every field was treated as the contract says", _fields_treated),
    Check("rows and parts add up", _counts_add_up),
    Check("the content digest follows from the parts", _digest_follows),
    Check("the bounds that the contract demands were met", _bounds_met),
    Check("the gateway signed its intent before, and the receipt keeps to it", intent_kept),
)


def _purpose(agreement: VerifiedAgreement) -> Purpose:
    return agreement.contract.purposes[agreement.agreement.purpose]


def _differs(facts: dict[str, tuple[object, object]], between: str) -> None:
    wrong = [name for name, (found, expected) in facts.items() if found != expected]
    if wrong:
        raise _wrong(f"{between} differ in {', '.join(wrong)}")


def _wrong(why: str) -> SluicegateError:
    return SluicegateError(Reason.RECEIPT_INVALID, why)
