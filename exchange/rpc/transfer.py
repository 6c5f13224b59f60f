"""TransferService on the wire."""

from __future__ import annotations

import grpc

from exchange import grants, reports, transfers
from exchange.hall import Hall
from exchange.records import Transfer
from exchange.rpc import convert
from exchange.rpc.calls import replayable, signed
from exchange.rpc.interceptors import caller
from exchange.v1 import transfer_pb2 as pb
from exchange.v1 import transfer_pb2_grpc


class TransferServicer(transfer_pb2_grpc.TransferServiceServicer):
    """Grants transfers and collects their papers."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    def _with_address(self, record: Transfer) -> pb.Transfer:
        return convert.transfer(record, transfers.gateway_of(self._hall, record) if record.grant else None)

    def CreateTransfer(self, request: pb.CreateTransferRequest, context: grpc.ServicerContext) -> pb.Transfer:
        """Ask for a grant."""
        call = replayable("CreateTransfer", request)
        parts = tuple(request.parts)
        granted = grants.create(self._hall, caller(), call, request.agreement, resume=request.resume, parts=parts)
        return self._with_address(granted)

    def GetTransfer(self, request: pb.GetTransferRequest, context: grpc.ServicerContext) -> pb.Transfer:
        """One transfer."""
        return self._with_address(transfers.get(self._hall, caller(), request.name))

    def ListTransfers(
        self, request: pb.ListTransfersRequest, context: grpc.ServicerContext
    ) -> pb.ListTransfersResponse:
        """A page of transfers."""
        page = transfers.list_(
            self._hall,
            caller(),
            agreement=request.agreement,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListTransfersResponse(
            transfers=[convert.transfer(item) for item in page.items], next_page_token=page.next_token
        )

    def ReportIntent(self, request: pb.ReportIntentRequest, context: grpc.ServicerContext) -> pb.Transfer:
        """The gateway is about to serve."""
        intent = signed(request.intent, "intent")
        call = replayable("ReportIntent", request)
        return convert.transfer(reports.report_intent(self._hall, caller(), call, request.name, intent))

    def ReportReceipt(self, request: pb.ReportReceiptRequest, context: grpc.ServicerContext) -> pb.Transfer:
        """The gateway served."""
        receipt = signed(request.receipt, "receipt")
        call = replayable("ReportReceipt", request)
        return convert.transfer(reports.report_receipt(self._hall, caller(), call, request.name, receipt))

    def ReportRefusal(self, request: pb.ReportRefusalRequest, context: grpc.ServicerContext) -> pb.Transfer:
        """The gateway refused or failed."""
        call = replayable("ReportRefusal", request)
        return convert.transfer(
            reports.report_refusal(
                self._hall, caller(), call, request.name, reason=request.reason, detail=request.detail
            )
        )

    def AcknowledgeTransfer(self, request: pb.AcknowledgeTransferRequest, context: grpc.ServicerContext) -> pb.Transfer:
        """The consumer received it."""
        acknowledgement = signed(request.acknowledgement, "acknowledgement")
        call = replayable("AcknowledgeTransfer", request)
        return convert.transfer(reports.acknowledge(self._hall, caller(), call, request.name, acknowledgement))
