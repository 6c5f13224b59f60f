"""Reports to the exchange, kept until it has them: a receipt is never lost because nobody was listening."""

from __future__ import annotations

import json
import logging
import threading

from connectors.gateway.audit import Audit
from connectors.gateway.control_plane import ControlPlane
from connectors.gateway.records import Report
from connectors.gateway.state import GatewayState
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError

log = logging.getLogger("sluicegate.gateway")

# Answers that will not change by asking again. Anything else waits: an unregistered key or an expired
# token gets mended, and the papers must still be there then.
REJECTIONS = frozenset(
    {
        Reason.NOT_FOUND,
        Reason.STATE_WRONG,
        Reason.ALREADY_EXISTS,
        Reason.REQUEST_ID_REUSED,
        Reason.SIGNATURE_INVALID,
        Reason.RECEIPT_INVALID,
        Reason.INVALID_ARGUMENT,
        Reason.TOO_LARGE,
    }
)
UNREACHABLE = frozenset({Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED})
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


class Outbox:
    """Delivers what `GatewayState` keeps, oldest first, on a thread of its own and on request; then asks
    whether the exchange's ledger has it (`Audit.look`)."""

    def __init__(self, state: GatewayState, control_plane: ControlPlane, audit: Audit) -> None:
        self._state, self._control_plane, self._audit = state, control_plane, audit
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Begin to deliver, with what an earlier run left behind."""
        self._wake.set()
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Stop delivering; what is left stays in the state."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def wake(self) -> None:
        """There is something to deliver."""
        self._wake.set()

    def deliver(self, transfer: str) -> None:
        """Deliver one transfer's reports now, in order. Raises what the exchange answered, or
        UNAVAILABLE; a report that was not rejected stays in the outbox then."""
        with self._sending:
            for report in self._state.reports_of(transfer):
                self._send(report)

    def deliver_all(self) -> bool:
        """One round over the outbox; whether it is empty now."""
        after = 0
        while True:
            with self._sending:  # looked up in here too: nobody else sends the same report meanwhile
                report = next(iter(self._state.reports(after, 1)), None)
                if report is None:
                    return self._state.outbox_size()[0] == 0
                after = report.id
                try:
                    self._send(report)
                except SluicegateError as error:
                    if error.reason in UNREACHABLE:
                        return False

    def _send(self, report: Report) -> None:
        try:
            mark = self._told(report)
        except SluicegateError as error:
            if report.kind == "intent" and error.reason is Reason.AGREEMENT_NOT_LIVE:
                self._state.delivered(report, Envelope.from_bytes(report.body).digest, stopped=True)
            elif error.reason in REJECTIONS:
                self._state.rejected(report, error.reason)
                log.error(
                    "the exchange rejected a %s: transfer=%s reason=%s", report.kind, report.transfer, error.reason
                )
            else:
                self._state.undelivered(report)
            raise
        self._state.delivered(report, mark)

    def _told(self, report: Report) -> str:
        """Tell the exchange; by what its ledger must name the report from now on."""
        if report.kind == "refusal":
            body = json.loads(report.body)
            self._control_plane.report_refusal(report.transfer, body["reason"], body["detail"])
            return str(body["reason"])
        paper = Envelope.from_bytes(report.body)
        if report.kind == "intent":
            self._control_plane.report_intent(report.transfer, paper)
        elif report.kind == "destruction":
            self._control_plane.report_destruction(report.transfer, paper)
        elif report.kind == "revealed":
            self._control_plane.report_reveal(report.transfer, paper)
        else:
            self._control_plane.report_receipt(report.transfer, paper)
        return paper.digest

    def _run(self) -> None:
        wait = FIRST_WAIT
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                done = self.deliver_all()
                done = self._audit.look() and done
                wait = LONGEST_WAIT if done else min(wait * 2, LONGEST_WAIT)
            except Exception as error:  # noqa: BLE001 - the thread must outlive anything; the text may hold data
                log.error("the outbox failed: error=%s", type(error).__name__)
                wait = min(wait * 2, LONGEST_WAIT)
            if self._wake.wait(wait) and not self._stopping.is_set():
                wait = FIRST_WAIT
