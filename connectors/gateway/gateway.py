"""The department's gate: what it does with a ticket, whatever the transport.

    open(ticket)        verify -> compile the plan -> decide -> release -> sign, store and report the intent
    stream(part ticket) verify -> a slot -> use up the part -> its rows
    receipt(ticket)     end the transfer, the signed receipt
    suspend(order)      the department's own approver stops an agreement, at once and without the exchange
    reveal(order)       two of the department's approvers open single values, once the ledger was told

`connectors.gateway.flight` puts it on the wire. Order matters in here: what must survive a crash is in the
state before anybody is told of it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from connectors.gateway import attest
from connectors.gateway.admission import Admission, Admitted, verify_order
from connectors.gateway.audit import Audit
from connectors.gateway.control_plane import ControlPlane
from connectors.gateway.outbox import Outbox
from connectors.gateway.readiness import Readiness
from connectors.gateway.refusing import Refusals
from connectors.gateway.releasing import Releasing, granted_parts
from connectors.gateway.revealing import Revealing
from connectors.gateway.serving import OpenTransfer, Serving
from connectors.gateway.shelf import Shelf, Standing
from connectors.gateway.state import GatewayState
from connectors.gateway.streams import PartStream, Streams
from connectors.gateway.watch import Watch
from connectors.keys import KeyRing
from connectors.releases.release import Release
from connectors.sources import SourceSettings
from connectors.spooling import making
from contracts import envelope as envelopes
from contracts.envelope import Envelope, Kind, SigningKey
from contracts.errors import Reason, SluicegateError
from contracts.instants import epoch
from contracts.policy.engine import Decision, PolicyEngine
from contracts.standard import Standard
from contracts.trust import Keys, TrustFile

log = logging.getLogger("sluicegate.gateway")

# Ends a transfer before its intent. Anything else leaves the grant as good as it was.
ENDS_TRANSFER = frozenset(
    {
        Reason.PLAN_REFUSED,
        Reason.POLICY_REFUSED,
        Reason.BOUNDS_NOT_MET,
        Reason.RESIDUAL_IDENTIFIERS,
        Reason.BUDGET_SPENT,
        Reason.REFRESH_PENDING,
        Reason.DATA_INVALID,
        Reason.SOURCE_UNAVAILABLE,
        Reason.SPOOL_FULL,
        Reason.NOT_FOUND,
        Reason.NOT_SHARED,
        Reason.CONFIG_INVALID,
        Reason.CONFIG_UNSAFE,
        Reason.INTERNAL,
    }
)
WATCHDOG_EVERY = 0.5
MAX_DETAIL = 4000


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How one gateway instance runs. `datasets` binds each dataset to its source: the contract has no
    say in that. Durations in seconds, sizes in bytes. `makers` releases are made at once; who waits
    longer than `make_wait` is told to come back; while the releases in the spool take `spool_limit`,
    none is made. `memory_limit` and `part_bytes` as for `release.make`."""

    party: str
    gateway: str
    spool: Path
    datasets: Mapping[str, SourceSettings]
    content_hash: Literal["sha-256", "blake3"] = "blake3"
    max_silence: float = 30.0
    stall_after: float = 60.0
    slots: int = 16
    slots_per_party: int = 4
    makers: int = 1
    make_wait: float = 30.0
    memory_limit: int = making.MEMORY_LIMIT
    part_bytes: int = making.PART_BYTES
    spool_limit: int = 200 << 30


@dataclass(frozen=True, slots=True)
class Opened:
    """What a consumer learns when it begins: the ticket again, the release, the signed intent, and
    which parts this grant covers."""

    ticket: Envelope
    release: Release
    intent: Envelope
    parts: tuple[int, ...]


class Gateway:
    """One gateway instance. Thread-safe. `start` it, serve it, `close` it."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        trust: Callable[[], TrustFile],
        standard: Standard,
        policy: PolicyEngine,
        control_plane: ControlPlane,
        keyring: KeyRing,
        signing_key: SigningKey,
        state: GatewayState,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
        ticks: Callable[[], float] = time.monotonic,
        statements: Callable[[], Iterable[Envelope]] = tuple,
        cut: Callable[[str], bool] = lambda _peer: False,
    ) -> None:
        """`trust` is read anew for every use. `statements` are key statements that the department keeps
        itself, so that its approvers are known before the first agreement. `cut` ends the connection of
        a peer; the Flight server sets it."""
        self._settings, self._trust, self._standard, self._policy = settings, trust, standard, policy
        self._key, self._state, self._clock, self._statements = signing_key, state, clock, statements
        self.cut = cut
        self._admission = Admission(
            party=settings.party,
            gateway=settings.gateway,
            trust=trust,
            control_plane=control_plane,
            state=state,
            clock=clock,
        )
        self._shelf = Shelf(
            settings.spool,
            state,
            clock=clock,
            entropy=entropy,
            makers=settings.makers,
            limit=settings.spool_limit,
        )
        self._releasing = Releasing(
            self._shelf,
            state,
            Refusals(state, clock),
            state,
            settings.datasets,
            trust=trust,
            standard=standard,
            policy=policy,
            keyring=keyring,
            clock=clock,
            content_hash=settings.content_hash,
            make_wait=settings.make_wait,
            memory_limit=settings.memory_limit,
            part_bytes=settings.part_bytes,
        )
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._watch = Watch(
            control_plane,
            state,
            trust,
            signing_key,
            max_silence=settings.max_silence,
            clock=clock,
            ticks=ticks,
            changed=self._wake.set,
        )
        self._audit = Audit(state, control_plane, trust, lambda: self._watch.head, within=settings.max_silence)
        self._outbox = Outbox(state, control_plane, self._audit)
        self._streams = Streams(
            slots=settings.slots,
            slots_per_party=settings.slots_per_party,
            ticks=ticks,
            cut=self._cut_peer,
        )
        self._readiness = Readiness(self._watch, self._audit, state, clock=clock)
        self._serving = Serving(
            admission=self._admission,
            readiness=self._readiness,
            streams=self._streams,
            shelf=self._shelf,
            outbox=self._outbox,
            state=state,
            key=signing_key,
            clock=clock,
            ticks=ticks,
            stall_after=settings.stall_after,
            changed=self._wake.set,
        )
        self._revealing = Revealing(
            party=settings.party,
            readiness=self._readiness,
            admission=self._admission,
            keyring=keyring,
            state=state,
            outbox=self._outbox,
            key=signing_key,
            keys=self._keys,
            clock=clock,
            entropy=entropy,
        )
        self._watchdog = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def _cut_peer(self, peer: str) -> bool:
        # Looked up at each call: the Flight server sets `cut` once it knows its port.
        return self.cut(peer)

    def start(self) -> None:
        """Settle what an earlier run left open, then listen, watch and deliver."""
        self._serving.recover()
        self._shelf.clean()
        for agreement, agreement_digest, order in self._state.to_destroy():
            self._destroy(agreement, agreement_digest, order)
        self._outbox.start()
        self._watch.start()
        self._watchdog.start()

    def close(self, seconds: float = 5.0) -> None:
        """Stop what runs, sign receipts for what left, empty the spool. The state stays with its owner."""
        self._readiness.close()
        self._stopping.set()
        self._wake.set()
        self._watch.stop()
        self._serving.close(seconds)
        if self._watchdog.is_alive():
            self._watchdog.join(seconds)
        self._shelf.drop_all()
        self._outbox.stop()
        self._outbox.deliver_all()

    def health(self) -> dict[str, object]:
        """How it stands: counts and times, no names."""
        fault = self._readiness.fault()
        waiting, rejected = self._state.outbox_size()
        silence = self._watch.silence
        return {
            "gateway": self._settings.gateway,
            "serving": fault is None,
            "reason": "" if fault is None else str(fault.reason),
            "silence": None if silence is None else round(silence, 1),
            "streams": len(self._streams.running()),
            "transfers": self._serving.count(),
            "releases": self._shelf.size(),
            "outbox": waiting,
            "rejected": rejected,
            "policy": self._policy.bundle_digest,
            "standard": self._standard.digest,
        }

    def open(self, raw: bytes) -> Opened:
        """Begin a transfer, or look again at one that runs.

        1. The gateway may serve at all: it hears the exchange, whose ledger grew honestly.
        2. The ticket verifies (`Admission.admit`), and its grant was not ended here before.
        3. Nobody stopped the agreement: neither the exchange nor the department.
        4. There is a release: the one of this refresh interval, or a new one, for which the plan is
           compiled against the live schema and the department's own policy decides first.
        5. The intent is signed and stored, then reported: no row leaves that the exchange was not told of, nor any
           if it answers that the agreement was stopped meanwhile.

        Raises the reason of the step that failed. From step 3 on a refusal is final for this grant and is
        reported with its figures, unless trying again may help.
        """
        # 1
        self._readiness.demand_serving()
        # 2
        grant = self._admission.grant(raw)
        self._readiness.demand_unused(grant)
        if (running := self._serving.find(grant.transfer)) is not None:
            self._admission.readmit(raw, running.verified)
            return self._opened(raw, running)
        admitted = self._admission.admit(raw)
        try:
            with self._shelf.one_at_a_time(admitted.verified.digest):
                return self._opened(raw, self._begin(admitted))
        except SluicegateError as error:
            self._refuse(admitted, error)
            raise
        except Exception as error:  # noqa: BLE001 - translated to one of ours
            # The text may quote a cell; only the kind of error is told, and only to the department.
            log.error("a release failed: transfer=%s error=%s", grant.transfer, type(error).__name__)
            internal = SluicegateError(Reason.INTERNAL, f"the release failed with {type(error).__name__}")
            self._refuse(admitted, internal)
            raise internal from None

    def _begin(self, admitted: Admitted) -> OpenTransfer:
        grant, verified = admitted.grant, admitted.verified
        if (running := self._serving.find(grant.transfer)) is not None:
            return running
        # 3
        self._readiness.demand_live(verified)
        # 4
        with self._releasing.release(admitted) as (standing, decision):
            return self._announced(admitted, standing, decision)

    def _announced(self, admitted: Admitted, standing: Standing, decision: Decision) -> OpenTransfer:
        """Step 5, on a release that stays meanwhile."""
        grant, verified = admitted.grant, admitted.verified
        parts = granted_parts(grant, standing)
        self._readiness.demand_live(verified)
        # 5
        now = self._clock()
        intended = attest.intent(grant, standing.plan, standing.release, now=now)
        intent = envelopes.sign(Kind.INTENT, intended, self._key)
        draft = attest.draft(verified, standing.plan, standing.release, decision, intended, intent.digest)
        self._state.begin(
            transfer=grant.transfer,
            grant_id=grant.id,
            agreement=grant.agreement,
            consumer=verified.agreement.consumer,
            release=standing.release.id,
            resumed=grant.release is not None,
            expires=epoch(grant.expires),
            intent=intent,
            draft=msgspec.json.encode(draft),
        )
        transfer = OpenTransfer(grant, verified, standing, intent, parts)
        self._serving.add(transfer)
        log.info(
            "intent: transfer=%s agreement=%s release=%s rows=%d decision=%s",
            grant.transfer,
            grant.agreement,
            standing.release.id,
            standing.release.rows_out,
            decision.id,
        )
        return transfer

    def _opened(self, raw: bytes, transfer: OpenTransfer) -> Opened:
        self._outbox.deliver(transfer.grant.transfer)
        self._readiness.demand_live(transfer.verified)
        self._readiness.demand_reported(transfer.grant.transfer)
        return Opened(
            Envelope.from_bytes(raw), transfer.standing.release, transfer.intent, tuple(sorted(transfer.parts))
        )

    def _refuse(self, admitted: Admitted, error: SluicegateError) -> None:
        """Make a refusal final where it is, and tell the department why."""
        grant = admitted.grant
        log.warning("refused: transfer=%s agreement=%s reason=%s", grant.transfer, grant.agreement, error.reason)
        if error.reason not in ENDS_TRANSFER:
            return
        violations = "; ".join(str(violation) for violation in error.violations)
        detail = {
            "message": error.message[:MAX_DETAIL],
            **{key: str(text)[:200] for key, text in error.metadata.items()},
        }
        if violations:
            detail["violations"] = violations[:MAX_DETAIL]
        self._state.refuse(
            transfer=grant.transfer,
            grant_id=grant.id,
            agreement=grant.agreement,
            consumer=admitted.verified.agreement.consumer,
            expires=epoch(grant.expires),
            reason=error.reason,
            detail=json.dumps({"reason": str(error.reason), "detail": detail}).encode(),
        )
        self._outbox.wake()

    def stream(self, raw: bytes, *, peer: str) -> tuple[Release, PartStream]:
        """Begin to serve one part (`Serving.stream`)."""
        return self._serving.stream(raw, peer=peer)

    def receipt(self, raw: bytes) -> Envelope:
        """End a transfer and give its signed receipt (`Serving.receipt`)."""
        return self._serving.receipt(raw)

    def tick(self) -> None:
        """One look of the watchdog (`Serving.tick`); its thread takes one every half second."""
        self._serving.tick()

    def suspend(self, raw: bytes) -> dict[str, object]:
        """Carry out an order of the department's own approver: stop an agreement, take that back, or end
        it for good, which also destroys its secret.

        Verified under the department's root with the key papers at hand; the exchange is not asked.
        Raises SIGNATURE_INVALID, KEY_UNTRUSTED, INVALID_ARGUMENT, or STATE_WRONG for a replayed order.
        """
        envelope = Envelope.from_bytes(raw)
        order = verify_order(envelope, self._settings.party, self._keys(), self._clock())
        until = None if order.until is None else epoch(order.until)
        kept = self._state.suspend(order, envelope, at=epoch(order.at), until=until)
        log.warning("local order: agreement=%s lifted=%s until=%s", order.agreement, order.lifted, order.until)
        self.tick()
        if until is None and not order.lifted:
            for agreement_digest in self._state.agreement_digests(order.agreement):
                self._destroy(order.agreement, agreement_digest, envelope)
        return {"agreement": order.agreement, "stopped": kept.stops(self._clock()), "until": order.until}

    def reveal(self, raw: bytes) -> bytes:
        """Open single values for two people of the department; sealed (`Revealing.reveal`)."""
        return self._revealing.reveal(raw)

    def _keys(self) -> Keys:
        """The department's keys, by the papers at hand."""
        return Keys(
            self._trust(),
            (*self._statements(), *self._state.papers("statement")),
            self._state.papers("revocation"),
        )

    def _destroy(self, agreement: str, agreement_digest: str, order: Envelope) -> None:
        """Destroy an agreement's secret, and state so to the ledger."""
        self._shelf.drop(agreement_digest)
        stated = attest.destruction(
            agreement, agreement_digest, order, self._settings.gateway, self._key, now=self._clock()
        )
        self._state.erase_salt(agreement_digest, agreement, stated)
        self._outbox.wake()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(WATCHDOG_EVERY)
            self._wake.clear()
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - the watchdog must outlive anything
                log.error("the watchdog failed: error=%s", type(error).__name__)
