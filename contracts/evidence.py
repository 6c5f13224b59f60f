"""Everything about one transfer in one file, and its verification: offline, years later, by anybody.

`verify` goes through the papers in numbered steps and says of each whether it holds and what was
found. It believes nothing but the trust file: not the exchange, not the department, not the consumer.
What a passing report proves: both sides signed this agreement after the approvals that it needs, the
department's gateway attests that exactly this data left under it, and nothing was changed since. What
it cannot prove is what the data looked like before it was masked: that is the department's own word.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from contracts import merkle
from contracts.agreement_checks import AGREEMENT_CHECKS, AgreementCase
from contracts.canonical import canonical
from contracts.envelope import MAX_BYTES, Envelope, Kind
from contracts.envelope import verify as verify_envelope
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, epoch, rfc3339
from contracts.papers import AgreementBundle, Grant, Receipt
from contracts.receipt_checks import RECEIPT_CHECKS, TransferCase, acknowledged, data_is_attested
from contracts.steps import Check, Step, need, not_shown, report
from contracts.trust import Keys, TrustFile, _Document, read

# An evidence file holds a contract and a dozen envelopes; a generous multiple of what one may be.
MAX_EVIDENCE_BYTES = 8 * MAX_BYTES


class LedgerProof(_Document, frozen=True):
    """One entry of the ledger, and the proof that it is in it: position, salt (hex), the entry's exact
    bytes (JSON), the audit path (hex, leaf level first) in the tree of the checkpoint."""

    index: int
    salt: str
    entry: str
    path: tuple[str, ...]
    checkpoint: Envelope


class EvidenceBundle(_Document, frozen=True):
    """All papers of one transfer. What is None was not there, or not yet, when the evidence was
    exported. `ledger` holds the proofs for the entries about the receipt and its acknowledgement;
    without them nothing proves when the papers were made, so evidence does not stand unless the verifier
    says that it may."""

    version: int = 1
    agreement: AgreementBundle | None = None
    grant: Envelope | None = None
    intent: Envelope | None = None
    receipt: Envelope | None = None
    acknowledgement: Envelope | None = None
    ledger: tuple[LedgerProof, ...] = ()

    def to_bytes(self) -> bytes:
        """Canonical JSON, for a file."""
        return canonical(msgspec.to_builtins(self))

    @classmethod
    def from_bytes(cls, raw: bytes) -> EvidenceBundle:
        """Read an evidence file; verifies nothing. Raises RECEIPT_INVALID or TOO_LARGE."""
        if len(raw) > MAX_EVIDENCE_BYTES:
            raise SluicegateError(
                Reason.TOO_LARGE, f"evidence has at most {MAX_EVIDENCE_BYTES} bytes; this has {len(raw)}"
            )
        try:
            value = json.loads(raw, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
            bundle = msgspec.convert(value, cls, strict=True)
        except (ValueError, RecursionError, msgspec.ValidationError) as error:
            why = str(error) if isinstance(error, msgspec.ValidationError) else "not JSON, or a key stands twice"
            raise SluicegateError(Reason.RECEIPT_INVALID, f"not an evidence file: {why}") from None
        if bundle.version != 1:
            raise SluicegateError(Reason.RECEIPT_INVALID, f"evidence of version {bundle.version}; this reads version 1")
        return bundle


def verify(
    bundle: EvidenceBundle,
    trust: TrustFile | None,
    *,
    content_digest: str | None = None,
    at: int,
    revocations: Sequence[Envelope] = (),
    without_ledger: bool = False,
) -> tuple[Step, ...]:
    """Verify the evidence of one transfer, step by step; `succeeded` says whether it stands.

    `at` is now (epoch seconds). `content_digest` is what the caller recomputed over the data, None
    when no data is shown. The agreement is judged as of the receipt's own time. A key that was
    revoked since counts only for what a checkpoint of the ledger, older than the revocation, proves
    to have existed. `revocations`: what the verifier knows besides the bundle, whose maker may have left
    some out. `without_ledger` lets evidence stand that shows no proof in the ledger; nothing proves then when
    its papers were made, nor that anybody but their signers ever saw them. Raises TRUST_MISSING without a
    trust file: nothing can be verified then.
    """
    if trust is None:
        raise SluicegateError(Reason.TRUST_MISSING, "nothing can be verified without a trust file")
    case = _EvidenceCase(bundle, trust, at, content_digest, tuple(revocations))
    demanded = [replace(check, required=not without_ledger) for check in _LEDGER_CHECKS]
    steps: list[Step] = list(report(demanded, case))
    # What the ledger proved decides which keys still count for the steps that follow.
    transfer = case.transfer()
    if bundle.agreement is None:
        steps.append(Step(len(steps) + 1, _AGREEMENT_SHOWN, False, "not shown: the agreement's papers", shown=False))
    elif stray := _stray(bundle.agreement, trust):
        steps.append(Step(len(steps) + 1, "every key paper is in the name of a party", False, stray))
    else:
        agreement = case.agreement(bundle.agreement)
        made = report(AGREEMENT_CHECKS, agreement, len(steps) + 1)
        steps += made
        transfer.verified = agreement.verified() if all(step.ok for step in made) else None
    steps += report(_GRANT_CHECKS, case, len(steps) + 1)
    steps += report(_TRANSFER_CHECKS, transfer, len(steps) + 1)
    return tuple(steps)


def _stray(papers: AgreementBundle, trust: TrustFile) -> str:
    """What is wrong with the key papers before anybody asks for them; empty when nothing is. One in the
    name of no party would never be asked for, and so never verified."""
    for paper in (*papers.statements, *papers.revocations):
        party = paper.payload.get("party")
        if not isinstance(party, str) or party not in trust.parties:
            return f"one is shown that names no party of the trust file: {party!r:.80}"
    return ""


def proven(steps: Iterable[Step]) -> bool:
    """Whether the ledger steps hold: a checkpoint proves by when the receipt existed."""
    demanded = {check.what for check in _LEDGER_CHECKS}
    return demanded == {step.what for step in steps if step.ok and step.what in demanded}


def succeeded(steps: Iterable[Step]) -> bool:
    """Whether the evidence stands: there are steps, every required one is ok, and none that is not
    required was shown and failed."""
    listed = tuple(steps)
    return bool(listed) and not any(step.failed for step in listed)


def verify_ledger(proof: LedgerProof, trust: TrustFile) -> merkle.Checkpoint:
    """Check that the entry is in the ledger of its checkpoint; returns the checkpoint.

    1. The exchange's checkpoint key signed the checkpoint.
    2. Salt and path are well formed.
    3. The path leads from the entry's leaf to the checkpoint's root.

    Raises SIGNATURE_INVALID, KEY_UNTRUSTED or LEDGER_INVALID.
    """
    # 1
    checkpoint = merkle.verify_checkpoint(proof.checkpoint, trust)
    # 2
    try:
        salt = bytes.fromhex(proof.salt)
    except ValueError:
        raise SluicegateError(Reason.LEDGER_INVALID, "the salt is not hexadecimal") from None
    path = [merkle.unhex(item, "a hash of the inclusion proof") for item in proof.path]
    # 3
    leaf = merkle.leaf_hash(salt, proof.entry.encode())
    merkle.verify_inclusion(leaf, proof.index, checkpoint.tree_size, path, checkpoint.root_bytes)
    return checkpoint


@dataclass(slots=True)
class _EvidenceCase:
    """Evidence under examination. `proven` says of each digest that a ledger entry about the transfer
    names by when a checkpoint proves it to have existed."""

    bundle: EvidenceBundle
    trust: TrustFile
    at: int
    content_digest: str | None
    revocations: tuple[Envelope, ...] = ()
    proven: dict[str, int] | None = None

    def latest(self, paper: Envelope | None) -> int:
        """The instant by which the paper existed: as the ledger proves, else now."""
        known = {} if self.proven is None else self.proven
        return self.at if paper is None else min(self.at, known.get(paper.digest, self.at))

    def agreement(self, papers: AgreementBundle) -> AgreementCase:
        """The agreement, as of when the transfer began. The receipt's proof covers it: the gateway
        verified these signatures before it signed."""
        keys = Keys(self.trust, papers.statements, (*papers.revocations, *self.revocations))
        return AgreementCase(papers, keys, self._began(), self.latest(self.bundle.receipt))

    def transfer(self) -> TransferCase:
        """The transfer's papers, before the agreement is known to be good."""
        bundle = self.bundle
        return TransferCase(
            self.at,
            self.latest(bundle.receipt),
            receipt_envelope=bundle.receipt,
            intent_envelope=bundle.intent,
            acknowledgement_envelope=bundle.acknowledgement,
            acknowledgement_latest=self.latest(bundle.acknowledgement),
            content_digest=self.content_digest,
        )

    def _began(self) -> int:
        """When the transfer began, by its receipt: the time as of which the agreement is judged."""
        if self.bundle.receipt is None:
            return self.at
        try:
            return epoch(read(Receipt, self.bundle.receipt).started)
        except SluicegateError:
            return self.at  # the receipt's own step will say what is wrong with it


def _in_ledger(case: _EvidenceCase) -> str:
    if not case.bundle.ledger:
        raise not_shown("a ledger entry with its proof; so nothing proves when the papers were made")
    receipt = need(case.bundle.receipt, "the receipt")
    proven: dict[str, int] = {}
    found = []
    for proof in case.bundle.ledger:
        checkpoint = verify_ledger(proof, case.trust)
        time = epoch(checkpoint.time)
        for named in _named(proof, receipt, time, case.at):
            proven[named] = min(time, proven.get(named, time))
        found.append(f"entry {proof.index} of {checkpoint.tree_size} in {checkpoint.origin} as of {checkpoint.time}")
    case.proven = proven
    return "; ".join(found)


def _named(proof: LedgerProof, receipt: Envelope, checkpointed: int, at: int) -> list[str]:
    """The texts, digests among them, that an entry about this transfer names in its detail."""
    try:
        entry = json.loads(proof.entry, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
        resource, values, written = entry["resource"], list(entry["detail"].values()), epoch(entry["at"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SluicegateError):
        raise _ledger_wrong(f"entry {proof.index} is no ledger entry: JSON with resource, detail and at") from None
    if resource != receipt.payload.get("transfer"):
        raise _ledger_wrong(f"entry {proof.index} is not about the transfer of this receipt")
    if checkpointed > at + SKEW or written > checkpointed + SKEW:
        raise _ledger_wrong(f"entry {proof.index} or its checkpoint is dated out of order")
    if entry.get("event") == CONTRADICTED:
        return []
    return [value for value in values if isinstance(value, str)]


def _names_receipt(case: _EvidenceCase) -> str:
    proven, receipt = need(case.proven, "a ledger entry"), need(case.bundle.receipt, "the receipt")
    if receipt.digest not in proven:
        raise _ledger_wrong("no entry that is shown names this receipt's digest")
    return f"a checkpoint proves that it existed by {rfc3339(proven[receipt.digest])}"


def _ledger_wrong(why: str) -> SluicegateError:
    return SluicegateError(Reason.LEDGER_INVALID, why)


_LEDGER_CHECKS: tuple[Check[_EvidenceCase], ...] = (
    Check("the ledger holds the transfer's entries, under a signed checkpoint", _in_ledger),
    Check("the ledger names this receipt", _names_receipt),
)
# Names a paper that was offered in the place of another and refused: proof of two stories, not of this one.
CONTRADICTED = "transfer.contradicted"
_AGREEMENT_SHOWN = "the agreement is properly made"


def _granted(case: _EvidenceCase) -> str:
    envelope = need(case.bundle.grant, "the grant")
    verify_envelope(Kind.GRANT, envelope, [case.trust.grant_key])
    grant = read(Grant, envelope, Reason.RECEIPT_INVALID)
    receipt = read(Receipt, need(case.bundle.receipt, "the receipt"), Reason.RECEIPT_INVALID)
    pairs = (
        (grant.transfer, receipt.transfer),
        (grant.agreement, receipt.agreement),
        (grant.agreement_digest, receipt.agreement_digest),
        (grant.gateway, receipt.gateway),
        (grant.release or receipt.release, receipt.release),
    )
    if any(found != expected for found, expected in pairs):
        raise SluicegateError(Reason.RECEIPT_INVALID, "the grant is for another transfer, agreement or gateway")
    if not epoch(grant.issued) - SKEW <= epoch(receipt.started) < epoch(grant.expires):
        raise SluicegateError(
            Reason.RECEIPT_INVALID, f"the transfer began at {receipt.started}, outside the grant's time"
        )
    return f"{grant.id}, from {grant.issued} to {grant.expires}"


_GRANT_CHECKS: tuple[Check[_EvidenceCase], ...] = (
    Check("the exchange granted the transfer", _granted, required=False),
)
_TRANSFER_CHECKS: tuple[Check[TransferCase], ...] = (
    *RECEIPT_CHECKS,
    Check("the consumer acknowledged the receipt", acknowledged, required=False),
    Check("the data has the digest that was attested", data_is_attested, required=False),
)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError
    return result


def _no_constants(_: str) -> None:
    raise ValueError
