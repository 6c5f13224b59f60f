"""May this gateway serve at all, and this agreement now: asked before every start and while streams run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from connectors.gateway.audit import Audit
from connectors.gateway.state import GatewayState
from connectors.gateway.watch import Watch
from contracts.agreement import VerifiedAgreement
from contracts.errors import Reason, SluicegateError
from contracts.instants import epoch
from contracts.receipt import Grant


class Readiness:
    """What the watch, the department's own orders and the state say, as demands that raise."""

    def __init__(self, watch: Watch, audit: Audit, state: GatewayState, *, clock: Callable[[], int]) -> None:
        self._watch, self._audit, self._state, self._clock = watch, audit, state, clock
        self._closing = threading.Event()

    def close(self) -> None:
        """The gateway stops: nothing may start."""
        self._closing.set()

    def fault(self) -> SluicegateError | None:
        """Why nothing may be served now, or None."""
        if self._closing.is_set():
            return SluicegateError(Reason.UNAVAILABLE, "the gateway stops")
        return self._watch.fault() or self._audit.fault()

    def demand_serving(self) -> None:
        """Raises CONTROL_PLANE_SILENT, LEDGER_INVALID or UNAVAILABLE when nothing may be served."""
        if (fault := self.fault()) is not None:
            raise fault

    def demand_live(self, verified: VerifiedAgreement) -> None:
        """Raises AGREEMENT_NOT_LIVE when the agreement's time is over, or somebody stopped it."""
        document, now = verified.agreement, self._clock()
        if not epoch(document.not_before) <= now < epoch(document.not_after):
            raise SluicegateError(Reason.AGREEMENT_NOT_LIVE, "the agreement is outside its validity")
        if any(order.agreement == document.id and order.stops(now) for order in self._state.suspensions()):
            raise SluicegateError(Reason.AGREEMENT_NOT_LIVE, "the department stopped the agreement")
        if self._watch.stops(document.id):
            raise SluicegateError(Reason.AGREEMENT_NOT_LIVE, "the exchange says that the agreement is stopped")

    def demand_unused(self, grant: Grant) -> None:
        """Raises GRANT_USED or GRANT_INVALID for a grant whose transfer ended or had another grant, and
        the old reason for one that was refused."""
        stored = self._state.transfer(grant.transfer)
        if stored is None:
            return
        if stored.grant_id != grant.id:
            raise SluicegateError(Reason.GRANT_INVALID, "another grant was used for this transfer")
        if stored.refusal is not None:
            raise SluicegateError(Reason(stored.refusal), "the transfer was refused before, for this reason")
        if stored.receipt is not None:
            raise SluicegateError(Reason.GRANT_USED, "the transfer of this grant has ended")

    def demand_reported(self, transfer: str) -> None:
        """Raises UNAVAILABLE while the exchange has not taken the transfer's intent and let it go on."""
        stored = self._state.transfer(transfer)
        if stored is None or not stored.intent_reported:
            raise SluicegateError(Reason.UNAVAILABLE, "the exchange has not let this transfer go on yet")
