"""The transfers that are open at a gateway: their streams, and how each comes to its receipt.

A transfer is open from its stored intent to its stored receipt. It ends when every part it covers was
served, when its holder asks for the receipt, when its grant expired, when its reader stalls, when the
agreement is stopped, or when the gateway stops; after a crash, at the next start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from connectors.gateway import attest
from connectors.gateway.admission import Admission, parse_part_ticket
from connectors.gateway.outbox import Outbox
from connectors.gateway.readiness import Readiness
from connectors.gateway.records import StoredTransfer
from connectors.gateway.shelf import Shelf, Standing
from connectors.gateway.state import GatewayState
from connectors.gateway.streams import PartStream, StreamKey, Streams
from connectors.releases import release
from connectors.releases.release import Release
from contracts.agreement import VerifiedAgreement
from contracts.envelope import Envelope, SigningKey
from contracts.errors import Reason, SluicegateError
from contracts.instants import epoch
from contracts.receipt import Grant

log = logging.getLogger("sluicegate.gateway")


@dataclass(slots=True)
class OpenTransfer:
    """A transfer that is being served: its ticket was verified, its intent is stored and reported."""

    grant: Grant
    verified: VerifiedAgreement
    standing: Standing
    intent: Envelope
    parts: frozenset[int]
    closing: SluicegateError | None = None


class Serving:
    """The open transfers of one gateway. Thread-safe. `changed` wakes the watchdog."""

    def __init__(
        self,
        *,
        admission: Admission,
        readiness: Readiness,
        streams: Streams,
        shelf: Shelf,
        outbox: Outbox,
        state: GatewayState,
        key: SigningKey,
        clock: Callable[[], int],
        ticks: Callable[[], float],
        stall_after: float,
        changed: Callable[[], None],
    ) -> None:
        self._admission, self._readiness, self._streams = admission, readiness, streams
        self._shelf, self._outbox, self._state, self._key = shelf, outbox, state, key
        self._clock, self._ticks, self._stall_after, self._changed = clock, ticks, stall_after, changed
        self._open: dict[str, OpenTransfer] = {}
        self._lock = threading.RLock()

    def find(self, transfer: str) -> OpenTransfer | None:
        """The open transfer of that name, or None."""
        with self._lock:
            return self._open.get(transfer)

    def count(self) -> int:
        """How many transfers are open."""
        return len(self._open)

    def add(self, transfer: OpenTransfer) -> None:
        """A transfer whose intent is stored is open from now on."""
        self._shelf.use(transfer.standing)
        with self._lock:
            self._open[transfer.grant.transfer] = transfer

    def recover(self) -> None:
        """Sign the receipts that an earlier run of the gateway was killed before."""
        for stored in self._state.unfinished():
            self._finish(stored)

    def close(self, seconds: float) -> None:
        """Stop every stream and end every transfer."""
        with self._lock:
            names = list(self._open)
        for name in names:
            self._stop(name, SluicegateError(Reason.TRANSFER_STOPPED, "the gateway stops"))
        self._streams.drain(None, seconds)
        for name in names:
            self._end(name)

    def stream(self, raw: bytes, *, peer: str) -> tuple[Release, PartStream]:
        """Begin to serve one part: an iterator of its record batches, and the release it is from.

        1. The gateway may serve at all.
        2. The ticket verifies, and its transfer runs here: it was opened, its intent reported.
        3. Nobody stopped the agreement.
        4. The grant covers the part.
        5. There is a slot for this consumer.
        6. The part is used up, durably, before its first row.

        Raises GRANT_INVALID, GRANT_USED, TRANSFER_STOPPED, TOO_MANY_TRANSFERS and what the steps say.
        """
        # 1
        self._readiness.demand_serving()
        # 2
        ticket, part = parse_part_ticket(raw)
        grant = self._admission.grant(ticket)
        transfer = self.find(grant.transfer)
        if transfer is None:
            self._readiness.demand_unused(grant)
            raise SluicegateError(
                Reason.GRANT_INVALID, "the transfer was not begun here: ask for its flight info first"
            )
        self._admission.readmit(ticket, transfer.verified)
        self._readiness.demand_reported(grant.transfer)
        # 3
        self._readiness.demand_live(transfer.verified)
        # 4
        if grant.id != transfer.grant.id or part not in transfer.parts:
            raise SluicegateError(Reason.GRANT_INVALID, f"the grant does not cover part {part}")
        stream = PartStream(
            StreamKey(transfer.verified.agreement.consumer, grant.agreement, grant.transfer, part),
            iter(release.read_part(transfer.standing.release, part)),
            peer=peer,
            ticks=self._ticks,
            finished=lambda: self._part_sent(transfer, part),
            closed=self._stream_closed,
        )
        # 5: seen as running before it is claimed, so that a receipt signed meanwhile waits for it
        with self._lock:
            if transfer.closing is not None:
                raise transfer.closing
            self._streams.add(stream)
        # 6
        try:
            self._state.claim(grant.id, part, transfer.standing.release.id)
        except BaseException:
            stream.close()
            raise
        return transfer.standing.release, stream

    def _part_sent(self, transfer: OpenTransfer, part: int) -> None:
        self._state.sent(transfer.grant.id, part)
        if transfer.parts <= self._state.parts_of(transfer.grant.id):
            self._end(transfer.grant.transfer)

    def _stream_closed(self, stream: PartStream) -> None:
        self._streams.remove(stream)
        seconds = self._ticks() - stream.started
        log.info(
            "part: transfer=%s part=%d rows=%d seconds=%.3f", stream.key.transfer, stream.key.part, stream.rows, seconds
        )
        self._changed()

    def receipt(self, raw: bytes, *, wait: float = 5.0) -> Envelope:
        """End the transfer of a ticket and give its signed receipt: partial when parts are missing.

        Streams of the transfer that still run are stopped. Asked again, it gives the same receipt, also
        after the grant expired and after a restart. Raises STATE_WRONG for a transfer that has none.
        """
        grant = self._admission.recognise(raw)
        stored = self._state.transfer(grant.transfer)
        if stored is None or stored.grant_id != grant.id:
            raise SluicegateError(Reason.STATE_WRONG, "the transfer was not begun at this gateway: it has no receipt")
        if stored.refusal is not None:
            raise SluicegateError(Reason.STATE_WRONG, "the transfer was refused: it has no receipt")
        if stored.receipt is None:
            self._stop(grant.transfer, SluicegateError(Reason.TRANSFER_STOPPED, "its holder ended the transfer"))
            self._streams.drain(grant.transfer, wait)
            receipt = self._finish(stored)
        else:
            receipt = Envelope.from_bytes(stored.receipt)
        try:
            self._outbox.deliver(grant.transfer)
        except SluicegateError:
            self._outbox.wake()
        return receipt

    def tick(self) -> None:
        """One look of the watchdog at every open transfer, stream and release."""
        now, fault = self._clock(), self._readiness.fault()
        for stream in self._streams.running():
            if fault is not None:
                self._stop(stream.key.transfer, SluicegateError(Reason.TRANSFER_STOPPED, fault.message))
        with self._lock:
            transfers = list(self._open.values())
        for transfer in transfers:
            try:
                self._look_at(transfer, now)
            except SluicegateError as error:  # one that cannot be ended now must not keep the others alive
                log.error("not ended: transfer=%s reason=%s", transfer.grant.transfer, error.reason)
        for stream in self._streams.watch(self._stall_after):
            log.warning("cut: transfer=%s part=%d", stream.key.transfer, stream.key.part)
            self._stop(stream.key.transfer, stream.order or SluicegateError(Reason.TRANSFER_STOPPED, "stalled"))
        self._shelf.sweep()

    def _look_at(self, transfer: OpenTransfer, now: int) -> None:
        """Stop it if its agreement was stopped; end it if it is idle and over."""
        name = transfer.grant.transfer
        try:
            self._readiness.demand_live(transfer.verified)
        except SluicegateError as error:
            self._stop(name, SluicegateError(Reason.TRANSFER_STOPPED, error.message))
        idle = not self._streams.running(name)
        if idle and (transfer.closing is not None or now >= epoch(transfer.grant.expires)):
            self._end(name)

    def _stop(self, name: str, error: SluicegateError) -> None:
        """Serve nothing more under it, stop what runs; the watchdog ends it once it is idle."""
        with self._lock:
            transfer = self._open.get(name)
            if transfer is not None and transfer.closing is None:
                transfer.closing = error
        for stream in self._streams.running(name):
            stream.stop(error)

    def _end(self, name: str) -> None:
        stored = self._state.transfer(name)
        if stored is not None and not stored.ended:
            self._finish(stored)

    def _finish(self, stored: StoredTransfer) -> Envelope:
        """Sign and store the receipt of what was sent, and let go of the release."""
        if stored.draft is None:
            raise SluicegateError(Reason.STATE_WRONG, "the transfer has ended")
        left = self._state.parts_left(stored)
        receipt = self._state.end(stored.transfer, attest.finish(stored.draft, left, self._key, now=self._clock()))
        with self._lock:
            transfer = self._open.pop(stored.transfer, None)
        if transfer is not None:
            self._shelf.done(transfer.standing)
        self._outbox.wake()
        log.info(
            "receipt: transfer=%s parts_sent=%d complete=%s",
            stored.transfer,
            len(left.sent),
            receipt.payload["complete"],
        )
        return receipt
