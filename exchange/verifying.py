"""Verifying evidence from files, offline: what `sluicegate verify` and `Exchange.verify` do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts import evidence as law
from contracts.envelope import Envelope
from contracts.evidence import EvidenceBundle
from contracts.steps import Step
from contracts.trust import TrustFile
from exchange import evidence
from exchange.pulling import digest_by_receipt


@dataclass(frozen=True)
class Verdict:
    """Whether evidence stands, and each step of the way. As a condition it is `stands`."""

    steps: tuple[Step, ...]

    @property
    def stands(self) -> bool:
        """Whether every step that is required holds, and none that was shown failed."""
        return law.succeeded(self.steps)

    @property
    def proven(self) -> bool:
        """Whether the ledger proves by when the papers were made."""
        return law.proven(self.steps)

    @property
    def failed(self) -> tuple[Step, ...]:
        """The steps that failed."""
        return tuple(step for step in self.steps if step.failed)

    def __bool__(self) -> bool:
        return self.stands


def verify(
    papers: str | Path | EvidenceBundle,
    *,
    trust: str | Path | TrustFile,
    data: str | Path | None = None,
    revocations: Sequence[str | Path | Envelope] = (),
    without_ledger: bool = False,
) -> Verdict:
    """Verify a receipt or evidence file, believing nothing but the trust file.

    `data` is the pulled file: its content digest is recomputed. `revocations` are keys taken back that the
    evidence may not show: files with what `key list --output json` printed, or signed revocations.
    Evidence needs its proof in the ledger of when it was made, unless it may stand `without_ledger`. What does not
    stand is a verdict that says so. Raises for what cannot be judged: papers or data that cannot be read
    (RECEIPT_INVALID, DATA_INVALID, INVALID_ARGUMENT, TOO_LARGE), data with other rows or columns than the receipt
    has (DIGEST_MISMATCH), no trust file (TRUST_MISSING).
    """
    bundle = papers if isinstance(papers, EvidenceBundle) else evidence.receipt_file(Path(papers))
    pinned = trust if isinstance(trust, TrustFile) else evidence.read_trust(Path(trust))
    digest = None if data is None else digest_by_receipt(Path(data), bundle.receipt)
    known: list[Envelope] = []
    for each in revocations:
        known += [each] if isinstance(each, Envelope) else evidence.read_revocations(Path(each))
    steps = law.verify(
        bundle,
        pinned,
        content_digest=digest,
        at=int(time.time()),
        revocations=known,
        without_ledger=without_ledger,
    )
    return Verdict(steps)
