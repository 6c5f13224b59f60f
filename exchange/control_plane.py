"""The exchange as a gateway sees it, over gRPC: implements `connectors.gateway.control_plane.ControlPlane`."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping

from connectors.gateway.control_plane import Heartbeat
from contracts.agreement import AgreementBundle
from contracts.envelope import Envelope
from contracts.evidence import LedgerProof
from contracts.merkle import Checkpoint
from contracts.trust import read
from exchange.connection import Connection
from exchange.rpc.alarm import Alarm
from exchange.rpc.wire import bundle, envelope
from exchange.v1 import agreement_pb2 as ag
from exchange.v1 import agreement_pb2_grpc, ledger_pb2_grpc, transfer_pb2_grpc
from exchange.v1 import ledger_pb2 as le
from exchange.v1 import transfer_pb2 as tr

# Who asks for a proof must not be kept busy for ever instead of getting it.
PAGES, PROOFS, PROOF_TIMEOUT = 5, 10, 10.0


def _report_id(transfer: str, paper: bytes) -> str:
    # A report sent again after a crash is the same call, so it carries the same request id.
    return str(uuid.UUID(bytes=hashlib.sha256(f"{transfer}#".encode() + paper).digest()[:16], version=4))


class GrpcControlPlane:
    """Calls of one gateway. `gateway` is its full name, `parties/{party}/gateways/{gateway}`; a watch that says
    nothing for `patience` seconds is given up."""

    def __init__(self, connection: Connection, gateway: str, *, patience: float) -> None:
        self._connection, self._gateway, self._silence = connection, gateway, Alarm(patience)
        self._agreements = connection.stub(agreement_pb2_grpc.AgreementServiceStub)
        self._transfers = connection.stub(transfer_pb2_grpc.TransferServiceStub)
        self._ledger = connection.stub(ledger_pb2_grpc.LedgerServiceStub)

    def agreement_bundle(self, name: str) -> AgreementBundle:
        """The signed documents behind an agreement."""
        message = ag.GetAgreementBundleRequest(name=f"{name}/bundle")
        return bundle(self._connection.call(self._agreements.GetAgreementBundle, message).bundle)

    def report_intent(self, transfer: str, intent: Envelope) -> None:
        """Store the signed intent."""
        raw = intent.to_bytes()
        message = tr.ReportIntentRequest(name=transfer, intent=raw, request_id=_report_id(transfer, raw))
        self._connection.call(self._transfers.ReportIntent, message)

    def report_receipt(self, transfer: str, receipt: Envelope) -> None:
        """Store the signed receipt."""
        raw = receipt.to_bytes()
        message = tr.ReportReceiptRequest(name=transfer, receipt=raw, request_id=_report_id(transfer, raw))
        self._connection.call(self._transfers.ReportReceipt, message)

    def report_refusal(self, transfer: str, reason: str, detail: Mapping[str, str]) -> None:
        """Say why nothing was served."""
        text = json.dumps(dict(detail), sort_keys=True)
        message = tr.ReportRefusalRequest(
            name=transfer, reason=reason, detail=text, request_id=_report_id(transfer, f"{reason}{text}".encode())
        )
        self._connection.call(self._transfers.ReportRefusal, message)

    def report_destruction(self, agreement: str, destruction: Envelope) -> None:
        """Put the destruction of an agreement's keys into the ledger."""
        raw = destruction.to_bytes()
        message = ag.ReportKeyDestructionRequest(name=agreement, destruction=raw, request_id=_report_id(agreement, raw))
        self._connection.call(self._agreements.ReportKeyDestruction, message)

    def report_reveal(self, agreement: str, revealed: Envelope) -> None:
        """Put into the ledger that values of an agreement were opened."""
        raw = revealed.to_bytes()
        message = ag.ReportRevealRequest(name=agreement, revealed=raw, request_id=_report_id(agreement, raw))
        self._connection.call(self._agreements.ReportReveal, message)

    def watch(self) -> Iterator[Heartbeat]:
        """Heartbeats until the stream ends, or falls silent. Each watch has a connection of its own: the next one
        does not depend on what became of the last."""
        message = ag.WatchAgreementsRequest(gateway=self._gateway)
        with self._connection.again() as own:
            watching = own.stub(agreement_pb2_grpc.AgreementServiceStub).WatchAgreements
            for beat in own.stream(watching, message, self._silence):
                yield Heartbeat(beat.time.seconds, frozenset(beat.stopped_agreements), envelope(beat.checkpoint))

    def consistency(self, first: int, second: int) -> list[bytes]:
        """Proof that the ledger grew."""
        message = le.GetConsistencyProofRequest(first_size=first, second_size=second)
        return list(self._connection.call(self._ledger.GetConsistencyProof, message).path)

    def proofs(self, transfer: str, mark: str, checkpoint: Envelope) -> list[LedgerProof]:
        """Entries that name the mark, with their proofs."""
        size, found = read(Checkpoint, checkpoint).tree_size, []
        message = le.ListEntriesRequest(resource=transfer, page_size=1000)
        for _ in range(PAGES):
            page = self._connection.call(self._ledger.ListEntries, message, timeout=PROOF_TIMEOUT)
            found += [leaf for leaf in page.entries if leaf.index < size and mark.encode() in leaf.entry]
            if not page.next_page_token:
                break
            message.page_token = page.next_page_token
        return [self._proof(leaf, size, checkpoint) for leaf in found[:PROOFS]]

    def _proof(self, leaf: le.Entry, size: int, checkpoint: Envelope) -> LedgerProof:
        message = le.GetInclusionProofRequest(index=leaf.index, tree_size=size)
        path = self._connection.call(self._ledger.GetInclusionProof, message, timeout=PROOF_TIMEOUT).path
        return LedgerProof(
            index=leaf.index,
            salt=leaf.salt.hex(),
            entry=leaf.entry.decode(errors="replace"),
            path=tuple(item.hex() for item in path),
            checkpoint=checkpoint,
        )

    def countersign(self, checkpoint: Envelope) -> None:
        """Store this gateway's signature under a checkpoint."""
        raw = checkpoint.to_bytes()
        message = le.CountersignCheckpointRequest(checkpoint=raw, request_id=_report_id(self._gateway, raw))
        self._connection.call(self._ledger.CountersignCheckpoint, message)
