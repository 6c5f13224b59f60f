"""AgreementService on the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc

from contracts.errors import Reason, SluicegateError
from exchange import agreements, ledger, reports, suspending
from exchange.hall import Hall
from exchange.rpc import convert
from exchange.rpc.calls import replayable, signed
from exchange.rpc.interceptors import caller
from exchange.rpc.places import Places
from exchange.v1 import agreement_pb2 as pb
from exchange.v1 import agreement_pb2_grpc


class AgreementServicer(agreement_pb2_grpc.AgreementServiceServicer):
    """Signs, suspends and ends agreements, and tells gateways of it.

    A watch holds a thread of the server for as long as it lives, so there are at most `watchers` of
    them and the server has that many threads more; a party gets a quarter of them at most, eight at
    least, for a department must not silence the gateways of the others. `stopping` ends them when the
    server does.
    """

    def __init__(self, hall: Hall, *, heartbeat: int, watchers: int, stopping: threading.Event) -> None:
        self._hall, self._heartbeat, self._stopping = hall, heartbeat, stopping
        self._places = Places(watchers, max(8, watchers // 4), "watches")

    def GetAgreement(self, request: pb.GetAgreementRequest, context: grpc.ServicerContext) -> pb.Agreement:
        """One agreement."""
        return convert.agreement(agreements.get(self._hall, caller(), request.name))

    def ListAgreements(
        self, request: pb.ListAgreementsRequest, context: grpc.ServicerContext
    ) -> pb.ListAgreementsResponse:
        """A page of agreements."""
        page = agreements.list_(
            self._hall, caller(), state=request.state, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListAgreementsResponse(
            agreements=[convert.agreement(item) for item in page.items], next_page_token=page.next_token
        )

    def SignAgreement(self, request: pb.SignAgreementRequest, context: grpc.ServicerContext) -> pb.Agreement:
        """Add the caller's signature."""
        statement = signed(request.statement, "statement")
        call = replayable("SignAgreement", request)
        return convert.agreement(agreements.sign(self._hall, caller(), call, request.name, statement))

    def SuspendAgreement(self, request: pb.SuspendAgreementRequest, context: grpc.ServicerContext) -> pb.Agreement:
        """Stop transfers until a time."""
        return convert.agreement(
            suspending.suspend(
                self._hall,
                caller(),
                replayable("SuspendAgreement", request),
                request.name,
                reason=request.reason,
                until=request.until.seconds,
                etag=request.etag,
            )
        )

    def ResumeAgreement(self, request: pb.ResumeAgreementRequest, context: grpc.ServicerContext) -> pb.Agreement:
        """End a suspension early."""
        call = replayable("ResumeAgreement", request)
        return convert.agreement(
            suspending.resume(self._hall, caller(), call, request.name, reason=request.reason, etag=request.etag)
        )

    def TerminateAgreement(self, request: pb.TerminateAgreementRequest, context: grpc.ServicerContext) -> pb.Agreement:
        """End it for good."""
        call = replayable("TerminateAgreement", request)
        return convert.agreement(
            suspending.terminate(self._hall, caller(), call, request.name, reason=request.reason, etag=request.etag)
        )

    def ReportKeyDestruction(
        self, request: pb.ReportKeyDestructionRequest, context: grpc.ServicerContext
    ) -> pb.Agreement:
        """The gateway destroyed its keys."""
        destruction = signed(request.destruction, "destruction")
        call = replayable("ReportKeyDestruction", request)
        return convert.agreement(reports.report_destruction(self._hall, caller(), call, request.name, destruction))

    def ReportReveal(self, request: pb.ReportRevealRequest, context: grpc.ServicerContext) -> pb.Agreement:
        """The gateway opens values for its department."""
        revealed = signed(request.revealed, "revealed")
        call = replayable("ReportReveal", request)
        return convert.agreement(reports.report_reveal(self._hall, caller(), call, request.name, revealed))

    def GetAgreementBundle(
        self, request: pb.GetAgreementBundleRequest, context: grpc.ServicerContext
    ) -> pb.AgreementBundle:
        """All signed documents behind it."""
        if not request.name.endswith("/bundle"):
            raise SluicegateError(Reason.INVALID_ARGUMENT, "a bundle is named agreements/{agreement}/bundle")
        found = agreements.bundle(self._hall, caller(), request.name.removesuffix("/bundle"))
        return convert.bundle(request.name, found)

    def WatchAgreements(
        self, request: pb.WatchAgreementsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchAgreementsResponse]:
        """Heartbeats to one gateway, until it or the server goes."""
        agreements.may_watch(caller(), request.gateway)
        with self._places.place(caller().party):
            while context.is_active() and not self._stopping.is_set():
                stopped = agreements.stopped(self._hall, request.gateway)
                checkpoint = ledger.checkpoint(self._hall)
                yield pb.WatchAgreementsResponse(
                    time=convert.stamp(self._hall.clock()),
                    stopped_agreements=sorted(stopped),
                    checkpoint=checkpoint.to_bytes(),
                )
                self._stopping.wait(self._heartbeat)
