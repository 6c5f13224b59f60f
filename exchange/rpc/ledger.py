"""LedgerService on the wire."""

from __future__ import annotations

import grpc

from exchange import erasing, ledger
from exchange.hall import Hall
from exchange.rpc import convert
from exchange.rpc.calls import replayable, signed
from exchange.rpc.interceptors import caller
from exchange.v1 import ledger_pb2 as pb
from exchange.v1 import ledger_pb2_grpc


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """Shows entries, proofs and signed checkpoints."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    def GetCheckpoint(self, request: pb.GetCheckpointRequest, context: grpc.ServicerContext) -> pb.Checkpoint:
        """The newest signed tree head."""
        caller()
        return pb.Checkpoint(checkpoint=ledger.checkpoint(self._hall).to_bytes())

    def ListEntries(self, request: pb.ListEntriesRequest, context: grpc.ServicerContext) -> pb.ListEntriesResponse:
        """A page of entries."""
        page = ledger.entries(
            self._hall,
            caller(),
            resource=request.resource,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListEntriesResponse(
            entries=[convert.entry(item) for item in page.items], next_page_token=page.next_token
        )

    def GetEntry(self, request: pb.GetEntryRequest, context: grpc.ServicerContext) -> pb.Entry:
        """One entry."""
        return convert.entry(ledger.entry(self._hall, caller(), request.name))

    def EraseEntry(self, request: pb.EraseEntryRequest, context: grpc.ServicerContext) -> pb.Entry:
        """Erase what an entry says."""
        return convert.entry(
            erasing.erase(
                self._hall,
                caller(),
                replayable("EraseEntry", request),
                request.name,
                reason=request.reason,
                etag=request.etag,
            )
        )

    def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, context: grpc.ServicerContext
    ) -> pb.InclusionProof:
        """An audit path."""
        proof = ledger.inclusion(self._hall, caller(), request.index, request.tree_size)
        return pb.InclusionProof(index=proof.index, tree_size=proof.tree_size, path=proof.path)

    def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: grpc.ServicerContext
    ) -> pb.ConsistencyProof:
        """A proof of growth."""
        caller()
        path = ledger.consistency(self._hall, request.first_size, request.second_size)
        return pb.ConsistencyProof(first_size=request.first_size, second_size=request.second_size, path=path)

    def CountersignCheckpoint(
        self, request: pb.CountersignCheckpointRequest, context: grpc.ServicerContext
    ) -> pb.Checkpoint:
        """A gateway's signature under a checkpoint."""
        checkpoint = signed(request.checkpoint, "checkpoint")
        stored = ledger.countersign(self._hall, caller(), replayable("CountersignCheckpoint", request), checkpoint)
        return pb.Checkpoint(checkpoint=stored.to_bytes())
