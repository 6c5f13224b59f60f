"""RequestService on the wire."""

from __future__ import annotations

import grpc

from exchange import requests
from exchange.hall import Hall
from exchange.rpc import convert
from exchange.rpc.calls import replayable, signed
from exchange.rpc.interceptors import caller
from exchange.v1 import request_pb2 as pb
from exchange.v1 import request_pb2_grpc


class RequestServicer(request_pb2_grpc.RequestServiceServicer):
    """Takes requests and the decisions on them."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    def CreateRequest(self, request: pb.CreateRequestRequest, context: grpc.ServicerContext) -> pb.Request:
        """Ask."""
        statement = signed(request.statement, "statement")
        return convert.request(requests.create(self._hall, caller(), replayable("CreateRequest", request), statement))

    def GetRequest(self, request: pb.GetRequestRequest, context: grpc.ServicerContext) -> pb.Request:
        """One request."""
        return convert.request(requests.get(self._hall, caller(), request.name))

    def ListRequests(self, request: pb.ListRequestsRequest, context: grpc.ServicerContext) -> pb.ListRequestsResponse:
        """A page of requests."""
        page = requests.list_(
            self._hall, caller(), state=request.state, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListRequestsResponse(
            requests=[convert.request(item) for item in page.items], next_page_token=page.next_token
        )

    def ApproveRequest(self, request: pb.ApproveRequestRequest, context: grpc.ServicerContext) -> pb.Request:
        """Add one approval."""
        approval = signed(request.approval, "approval")
        call = replayable("ApproveRequest", request)
        return convert.request(requests.approve(self._hall, caller(), call, request.name, approval, etag=request.etag))

    def RejectRequest(self, request: pb.RejectRequestRequest, context: grpc.ServicerContext) -> pb.Request:
        """Refuse it."""
        call = replayable("RejectRequest", request)
        return convert.request(
            requests.reject(self._hall, caller(), call, request.name, reason=request.reason, etag=request.etag)
        )

    def CancelRequest(self, request: pb.CancelRequestRequest, context: grpc.ServicerContext) -> pb.Request:
        """Take it back."""
        call = replayable("CancelRequest", request)
        return convert.request(requests.cancel(self._hall, caller(), call, request.name, etag=request.etag))
