"""Collecting the evidence of one transfer from the exchange, and watching its ledger grow.

What is collected here is verified by `contracts.evidence.verify`, which believes nothing of it.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from contracts import merkle
from contracts.canonical import canonical
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.evidence import CONTRADICTED, MAX_EVIDENCE_BYTES, EvidenceBundle, LedgerProof, verify_ledger
from contracts.instants import SKEW, epoch
from contracts.trust import TrustFile, load_trust, read
from exchange.config import Profile
from exchange.keyfiles import write_private_file

if TYPE_CHECKING:
    from exchange.client import Exchange

SHOWN_WITHIN = 2 * SKEW  # seconds: an exchange signs the time anew, whether its ledger grew or not
_remembering = threading.Lock()


def trust_of(profile: Profile) -> TrustFile:
    """The trust file that the profile pins. Raises TRUST_MISSING without one."""
    if profile.trust is None:
        raise SluicegateError(
            Reason.TRUST_MISSING, f"the profile of {profile.subject} names no trust file: set trust in it"
        )
    return read_trust(profile.trust)


def read_trust(path: Path) -> TrustFile:
    """A trust file from disk."""
    try:
        return load_trust(path.read_bytes())
    except OSError as error:
        raise SluicegateError(Reason.TRUST_MISSING, f"cannot read the trust file {path}: {error.strerror}") from None


def collect(exchange: Exchange, transfer: str, checkpoint: Envelope | None = None) -> EvidenceBundle:
    """Every paper of a transfer, with a proof for each of its ledger entries in one checkpoint."""
    found = exchange.transfer(transfer)
    head = checkpoint or exchange.checkpoint()
    size = read(merkle.Checkpoint, head).tree_size
    proofs = [
        LedgerProof(
            index=entry.index,
            salt=entry.salt,
            entry=canonical(entry.entry).decode(),
            path=tuple(item.hex() for item in exchange.inclusion(entry.index, size)),
            checkpoint=head,
        )
        for entry in exchange.entries(resource=found.name)
        if entry.entry and entry.index < size
    ]
    return EvidenceBundle(
        agreement=exchange.bundle(found.agreement),
        grant=found.grant,
        intent=found.intent,
        receipt=found.receipt,
        acknowledgement=found.acknowledgement,
        ledger=tuple(proofs),
    )


@dataclass(frozen=True)
class Look:
    """One look at the ledger: the checkpoint that was seen last, if any, and the one shown after that."""

    known: merkle.Checkpoint | None
    shown: Envelope


def look(exchange: Exchange) -> Look:
    """Read what this profile saw last, then ask for the newest checkpoint: in this order, for another
    pull of the same profile may see and remember a later one meanwhile."""
    known = _last_seen(exchange.profile, trust_of(exchange.profile))
    return Look(known, exchange.checkpoint())


def watch_ledger(exchange: Exchange, seen: Look | None = None) -> tuple[merkle.Checkpoint, str]:
    """The newest checkpoint, once it is proved to extend the last one that this profile saw.

    Returns it with a sentence on what was compared, and remembers it in the profile's file. Raises
    LEDGER_INVALID when the ledger was rewound, forked, signed by another key or long ago: both
    checkpoints are then left as they are, as evidence.
    """
    profile, seen = exchange.profile, seen or look(exchange)
    trust, known = trust_of(profile), seen.known
    head = merkle.verify_checkpoint(seen.shown, trust)
    if abs(int(time.time()) - epoch(head.time)) > SHOWN_WITHIN:
        raise SluicegateError(
            Reason.LEDGER_INVALID,
            f"the newest checkpoint shown is of {head.time}: what happened since is withheld, or the clocks differ",
        )
    if known is None:
        told = "nothing was seen before: this checkpoint is remembered from now on"
    else:
        merkle.verify_consistency(
            known.tree_size,
            head.tree_size,
            known.root_bytes,
            head.root_bytes,
            exchange.consistency(known.tree_size, head.tree_size) if known.tree_size < head.tree_size else [],
        )
        told = f"it extends the checkpoint of {known.tree_size} entries seen at {known.time}"
    if profile.checkpoint is not None:
        with _remembering:
            later = _last_seen(profile, trust)
            if later is None or later.tree_size <= head.tree_size:
                write_private_file(profile.checkpoint, seen.shown.to_bytes())
    return head, told


def witness(
    exchange: Exchange,
    transfer: str,
    *,
    out: Path | None = None,
    grant: Envelope | None = None,
    receipt: Envelope | None = None,
    checkpoint: Envelope | None = None,
) -> EvidenceBundle:
    """Look at the ledger after a transfer, as everybody who pulls should: it must have grown honestly;
    returns the evidence. That is written to `out` before anything is judged, proved in an earlier
    `checkpoint` if one is given. A `receipt` is one that was acknowledged just now: the ledger must hold both.

    Raises LEDGER_INVALID. A ledger that is refused takes nothing back: data and evidence stay.
    """
    seen = look(exchange)
    papers = collect(exchange, transfer, checkpoint or seen.shown)
    papers = msgspec.structs.replace(papers, grant=grant or papers.grant)
    if out is not None:
        write_private_file(out, papers.to_bytes())
    try:
        watch_ledger(exchange, seen)
        if receipt is not None:
            _demand_recorded(papers, receipt, trust_of(exchange.profile))
    except SluicegateError as error:
        if error.reason not in (Reason.LEDGER_INVALID, Reason.KEY_UNTRUSTED, Reason.SIGNATURE_INVALID):
            raise
        raise SluicegateError(
            Reason.LEDGER_INVALID,
            f"{transfer} is finished and nothing of it is lost, but the exchange's ledger is refused: {error.message}",
        ) from None
    return papers


def _demand_recorded(papers: EvidenceBundle, receipt: Envelope, trust: TrustFile) -> None:
    proven = []
    for proof in papers.ledger:
        verify_ledger(proof, trust)
        entry = json.loads(proof.entry)
        detail = entry.get("detail")
        if isinstance(detail, dict) and entry.get("event") != CONTRADICTED:
            proven += [detail.get("receipt"), detail.get("acknowledgement")]
    for paper, what in ((receipt, "receipt"), (papers.acknowledgement, "acknowledgement")):
        if paper is None or paper.digest not in proven:
            raise SluicegateError(Reason.LEDGER_INVALID, f"no entry names the {what} of this transfer")


def _last_seen(profile: Profile, trust: TrustFile) -> merkle.Checkpoint | None:
    if profile.checkpoint is None or not profile.checkpoint.is_file():
        return None
    return merkle.verify_checkpoint(Envelope.from_bytes(profile.checkpoint.read_bytes()), trust)


def read_revocations(path: Path) -> tuple[Envelope, ...]:
    """The revocations in what `key list --output json` printed. Nothing of it is believed before a root
    is found to have signed it. Raises INVALID_ARGUMENT."""
    try:
        with path.open("rb") as file:
            listed = json.loads(file.read(MAX_EVIDENCE_BYTES))
        return tuple(
            Envelope.from_bytes(canonical(item["statement"])) for item in listed if item.get("revoked") is True
        )
    except OSError as error:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SluicegateError):
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"{path} is not what sluicegate key list --output json prints"
        ) from None


def receipt_file(path: Path) -> EvidenceBundle:
    """An evidence file, or a bare receipt (then nothing but the receipt is there to be verified)."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_EVIDENCE_BYTES + 1)
    except OSError as error:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"cannot read {path}: {error.strerror}") from None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and set(value) == {"payload", "signatures"}:
        return EvidenceBundle(receipt=Envelope.from_bytes(raw))
    return EvidenceBundle.from_bytes(raw)
