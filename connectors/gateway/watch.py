"""Listening to the exchange: what must not be served, whether it still speaks, whether its ledger grew honestly.

What it says can only narrow: a stop list stops; silence longer than allowed stops everything; a ledger
that was rewound or forked stops everything too, until the exchange shows one that extends what this
gateway saw before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from connectors.gateway.control_plane import ControlPlane, Heartbeat
from connectors.gateway.state import GatewayState
from contracts.envelope import Envelope, Kind, SigningKey, countersign
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, epoch
from contracts.merkle import Checkpoint, verify_checkpoint, verify_consistency
from contracts.trust import TrustFile

log = logging.getLogger("sluicegate.gateway")

FIRST_WAIT, LONGEST_WAIT = 0.25, 2.0
COUNTERSIGN_EVERY = 60.0


class Watch:
    """The watch stream on a thread of its own, and what it last said. Times are monotonic seconds."""

    def __init__(
        self,
        control_plane: ControlPlane,
        state: GatewayState,
        trust: Callable[[], TrustFile],
        key: SigningKey,
        *,
        max_silence: float,
        clock: Callable[[], int],
        ticks: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called after every heartbeat: whoever runs streams looks at them again."""
        self._control_plane, self._state, self._trust, self._key = control_plane, state, trust, key
        self._max_silence, self._clock, self._ticks, self._changed = max_silence, clock, ticks, changed
        self._heard: float | None = None
        self._countersigned: float | None = None
        self._head: Envelope | None = None
        self._stopped: frozenset[str] = frozenset()
        self._fault: SluicegateError | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, seconds: float = 1.0) -> None:
        """Stop listening. A call that hangs in the network is left to end with its channel."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    @property
    def silence(self) -> float | None:
        """Seconds since the exchange was last heard, or None before the first time."""
        return None if self._heard is None else self._ticks() - self._heard

    @property
    def head(self) -> Envelope | None:
        """The checkpoint that was last verified, signed when it was shown; None before the first."""
        return self._head

    def fault(self) -> SluicegateError | None:
        """Why nothing at all may be served now, or None."""
        if self._fault is not None:
            return self._fault
        silence = self.silence
        if silence is None:
            return SluicegateError(Reason.CONTROL_PLANE_SILENT, "the gateway has not heard from the exchange yet")
        if silence > self._max_silence:
            message = f"the exchange has been silent for more than {self._max_silence:g} seconds"
            return SluicegateError(Reason.CONTROL_PLANE_SILENT, message)
        return None

    def stops(self, agreement: str) -> bool:
        """Whether the exchange says that this agreement must not be served."""
        return agreement in self._stopped

    def take(self, beat: Heartbeat) -> None:
        """One heartbeat. Its stop list counts at once; it ends the silence only if it is fresh, and its
        checkpoint is and extends the last. One without a checkpoint will do until the first was seen: whoever
        stops showing the ledger may have rewritten it."""
        self._stopped = beat.stopped
        try:
            if not self._fresh(beat.time):
                log.warning("an old heartbeat does not count: compare the clocks, or something holds it up")
            elif beat.checkpoint is not None:
                if self._extend(beat.checkpoint):
                    self._heard = self._ticks()
                else:
                    log.warning("a heartbeat with an old checkpoint does not count: the ledger may be withheld")
                self._fault = None
            elif self._state.checkpoint() is None:
                self._heard, self._fault = self._ticks(), None
            else:
                log.warning("a heartbeat without a checkpoint does not count: the ledger was shown before")
        except SluicegateError as error:
            if error.reason in (Reason.LEDGER_INVALID, Reason.KEY_UNTRUSTED, Reason.SIGNATURE_INVALID):
                if self._fault is None:
                    log.error("the exchange's ledger is refused: reason=%s %s", error.reason, error.message)
                self._fault = SluicegateError(Reason.LEDGER_INVALID, error.message)
            else:
                log.warning("no consistency proof could be had: reason=%s", error.reason)
        self._changed()

    def _fresh(self, time: int) -> bool:
        # Beats that somebody on the way holds up come regularly too, with a stop list of yesterday. One
        # dated ahead would count for as long as it is ahead.
        return -SKEW <= self._clock() - time <= self._max_silence + SKEW

    def _extend(self, envelope: Envelope) -> bool:
        """Follow the ledger; whether the exchange signed just now that this is how it stands. It signs
        the time anew while nothing happens, so an old time means that what happened is not shown."""
        shown = verify_checkpoint(envelope, self._trust())
        last = self._state.checkpoint()
        known = None if last is None else verify_checkpoint(last, self._trust())
        if known is None or (known.origin, known.tree_size, known.root) != (shown.origin, shown.tree_size, shown.root):
            if known is not None:
                self._prove(known, shown)
            self._state.keep_checkpoint(envelope)
            self._countersign(envelope)
        if fresh := self._fresh(epoch(shown.time)):
            self._head = envelope
        return fresh

    def _countersign(self, envelope: Envelope) -> None:
        """Witness the ledger now and then. A witness that is not heard stops nothing."""
        if self._countersigned is not None and self._ticks() - self._countersigned < COUNTERSIGN_EVERY:
            return
        self._countersigned = self._ticks()
        try:
            self._control_plane.countersign(countersign(Kind.CHECKPOINT, envelope, self._key))
        except SluicegateError as error:
            log.warning("the checkpoint was not countersigned: reason=%s", error.reason)

    def _prove(self, known: Checkpoint, shown: Checkpoint) -> None:
        if known.origin != shown.origin:
            raise SluicegateError(Reason.LEDGER_INVALID, "the checkpoint is of another ledger than the one seen before")
        path: list[bytes] = []
        if 0 < known.tree_size < shown.tree_size:
            path = self._control_plane.consistency(known.tree_size, shown.tree_size)
        verify_consistency(known.tree_size, shown.tree_size, known.root_bytes, shown.root_bytes, path)

    def _run(self) -> None:
        wait = FIRST_WAIT
        while not self._stopping.is_set():
            try:
                for beat in self._control_plane.watch():
                    if self._stopping.is_set():
                        return
                    self.take(beat)
                    wait = FIRST_WAIT
            except SluicegateError as error:
                log.warning("the watch stream ended: reason=%s", error.reason)
            except Exception as error:  # noqa: BLE001 - the thread must outlive anything
                log.error("the watch stream failed: error=%s", type(error).__name__)
            self._stopping.wait(wait)
            wait = min(wait * 2, LONGEST_WAIT)
