"""What a gateway asks of the exchange, and nothing more.

The gateway never imports the exchange: `exchange.control_plane` implements this protocol over gRPC and
`exchange.app` hands it in. What comes through here can narrow what the gateway does, never widen it:
bundles are verified under the department's own root, checkpoints under the pinned key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from contracts.agreement import AgreementBundle
from contracts.envelope import Envelope
from contracts.evidence import LedgerProof


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One word from the exchange: its time (epoch seconds), every agreement of this gateway that must
    not be served now (`agreements/...`), and the newest signed checkpoint of the ledger if there is one."""

    time: int
    stopped: frozenset[str]
    checkpoint: Envelope | None = None


class ControlPlane(Protocol):
    """The exchange as a gateway sees it.

    Every call has its own deadline and raises SluicegateError: UNAVAILABLE or DEADLINE_EXCEEDED when the
    exchange cannot be reached (worth a retry), any other reason when it answered no. Reports are
    idempotent: the same paper for the same transfer may be reported again. Thread-safe.
    """

    def agreement_bundle(self, name: str) -> AgreementBundle:
        """The signed documents behind `agreements/...`. Raises NOT_FOUND."""
        ...

    def report_intent(self, transfer: str, intent: Envelope) -> None:
        """Store the signed intent, before the first row leaves. Raises AGREEMENT_NOT_LIVE, the intent being stored,
        when none may: the agreement was stopped."""
        ...

    def report_receipt(self, transfer: str, receipt: Envelope) -> None:
        """Store the signed receipt."""
        ...

    def report_refusal(self, transfer: str, reason: str, detail: Mapping[str, str]) -> None:
        """Say that the gateway refused or failed. `detail` holds figures and column names for the
        department, never a cell value."""
        ...

    def report_destruction(self, agreement: str, destruction: Envelope) -> None:
        """Store the signed statement that an agreement's secret is gone."""
        ...

    def report_reveal(self, agreement: str, revealed: Envelope) -> None:
        """Store the signed statement that values of an agreement were opened."""
        ...

    def watch(self) -> Iterator[Heartbeat]:
        """Heartbeats until the connection ends or fails. Closing the iterator ends the call."""
        ...

    def consistency(self, first: int, second: int) -> list[bytes]:
        """RFC 6962 proof that the ledger of `second` entries extends the one of `first`."""
        ...

    def proofs(self, transfer: str, mark: str, checkpoint: Envelope) -> Sequence[LedgerProof]:
        """The ledger entries about a transfer that name the mark, proved in the checkpoint's tree."""
        ...

    def countersign(self, checkpoint: Envelope) -> None:
        """Store this gateway's signature under a checkpoint that it saw grow."""
        ...
