"""Whether what this gateway reported stands in the exchange's ledger.

An exchange that takes a report and leaves it out of its ledger shows the world a history in which
nothing left, or nothing was refused. So a report is remembered until an inclusion proof puts it under a
checkpoint that this gateway verified. One that is not proved in time stops everything, as a forked ledger does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from connectors.gateway.control_plane import ControlPlane
from connectors.gateway.records import Delivered
from connectors.gateway.state import GatewayState
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.evidence import CONTRADICTED, LedgerProof, verify_ledger
from contracts.instants import SKEW, epoch
from contracts.merkle import Checkpoint
from contracts.trust import TrustFile, read

log = logging.getLogger("sluicegate.gateway")


class Audit:
    """Asks for proofs of what was delivered. `head` is the checkpoint that was verified last; a report
    has `within` seconds by the exchange's own signed time to stand under it."""

    def __init__(
        self,
        state: GatewayState,
        control_plane: ControlPlane,
        trust: Callable[[], TrustFile],
        head: Callable[[], Envelope | None],
        *,
        within: float,
    ) -> None:
        self._state, self._control_plane, self._trust, self._head = state, control_plane, trust, head
        self._within = within + SKEW
        self._fault: SluicegateError | None = None
        self._unreached = False

    def fault(self) -> SluicegateError | None:
        """Why nothing at all may be served now, or None."""
        return self._fault

    def look(self) -> bool:
        """One round over what is not proved yet; whether nothing is left."""
        waiting, head = self._state.unproved(), self._head()
        if head is None:
            return not waiting
        for report in waiting:
            if self._stands(report, head):
                self._state.proved(report)
            elif epoch(read(Checkpoint, head).time) - report.delivered > self._within:
                if self._fault is None:
                    log.error("the ledger lacks a report: transfer=%s kind=%s", report.transfer, report.kind)
                self._fault = _swallowed(report)
                return False
            elif self._unreached:
                return False  # the others are not asked about now: reports wait to be delivered meanwhile
        self._fault = None
        return not waiting or not self._state.unproved()

    def _stands(self, report: Delivered, head: Envelope) -> bool:
        self._unreached = False
        try:
            proofs = self._control_plane.proofs(report.transfer, report.mark, head)
            return any(self._names(proof, report, head) for proof in proofs)
        except SluicegateError as error:
            self._unreached = error.reason in (Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED)
            log.warning("a report is not proved: transfer=%s reason=%s", report.transfer, error.reason)
        except Exception as error:  # noqa: BLE001 - an answer that breaks the reader proves nothing either
            log.error("a proof cannot be read: transfer=%s error=%s", report.transfer, type(error).__name__)
        return False

    def _names(self, proof: LedgerProof, report: Delivered, head: Envelope) -> bool:
        """Whether the entry is in the ledger of the head, and says what was reported."""
        if proof.checkpoint.payload != head.payload:
            return False
        verify_ledger(proof, self._trust())
        try:
            entry = json.loads(proof.entry)
            told = entry["resource"] == report.transfer and report.mark in entry["detail"].values()
            return told and entry["event"] != CONTRADICTED
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False


def _swallowed(report: Delivered) -> SluicegateError:
    return SluicegateError(
        Reason.LEDGER_INVALID, f"the exchange took the {report.kind} of {report.transfer}, and its ledger lacks it"
    )
