"""Who may come in: every check between a ticket and the department's data, in numbered steps.

The gateway believes its own department. The grant is the exchange's word and only opens the door as far
as an agreement that the department signed; agreement, approvals and keys are verified here, under the
trust file that this gateway pins.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from connectors.gateway.control_plane import ControlPlane
from connectors.gateway.state import GatewayState
from contracts import agreement as agreements
from contracts import envelope as envelopes
from contracts import receipt as receipts
from contracts.agreement import Agreement, AgreementBundle, Suspension, VerifiedAgreement
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.instants import SKEW, epoch
from contracts.receipt import Grant, Proof
from contracts.trust import KeyRevocation, Keys, TrustFile, Use, read

MAX_TICKET = 64 * 1024
REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Admitted:
    """A ticket that was found good, and what stands behind it."""

    grant: Grant
    verified: VerifiedAgreement


def parse_part_ticket(raw: bytes) -> tuple[bytes, int]:
    """The ticket and the part number in the ticket of an endpoint: `{"ticket": envelope, "part": n}`.

    Raises GRANT_INVALID or TOO_LARGE. Verifies nothing.
    """
    _bounded(raw)
    try:
        value = json.loads(raw)
        ticket, part = msgspec.convert(value["ticket"], Envelope, strict=True), value["part"]
    except (ValueError, KeyError, TypeError, RecursionError, msgspec.ValidationError):
        raise SluicegateError(Reason.GRANT_INVALID, "not the ticket of a part: expected {ticket, part}") from None
    if len(value) != 2 or type(part) is not int or part < 0:
        raise SluicegateError(Reason.GRANT_INVALID, "a part's ticket names one part, counted from 0")
    return ticket.to_bytes(), part


def part_ticket(ticket: Envelope, part: int) -> bytes:
    """What the endpoint of one part carries."""
    return json.dumps({"ticket": msgspec.to_builtins(ticket), "part": part}, separators=(",", ":")).encode()


def _bounded(raw: bytes) -> None:
    if len(raw) > MAX_TICKET:
        raise SluicegateError(Reason.TOO_LARGE, f"a ticket has at most {MAX_TICKET} bytes; this one has {len(raw)}")


class Admission:
    """Verifies tickets for one gateway of one department. Thread-safe."""

    def __init__(
        self,
        *,
        party: str,
        gateway: str,
        trust: Callable[[], TrustFile],
        control_plane: ControlPlane,
        state: GatewayState,
        clock: Callable[[], int],
    ) -> None:
        self._party, self._gateway, self._trust = party, gateway, trust
        self._control_plane, self._state, self._clock = control_plane, state, clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, VerifiedAgreement] = OrderedDict()

    def grant(self, raw: bytes) -> Grant:
        """Who a ticket says it is for, believed only as far as the exchange's signature goes.

        1. It is not larger than a ticket can be, and is a proof over a grant.
        2. The exchange's grant key signed the grant.
        3. The grant names this gateway instance.

        The proof is not verified yet: that needs the agreement. Raises GRANT_INVALID or TOO_LARGE.
        """
        # 1
        _bounded(raw)
        try:
            proof = read(Proof, Envelope.from_bytes(raw))
            # 2: before anything is looked up for a caller who may be anybody
            envelopes.verify(Kind.GRANT, proof.grant, [self._trust().grant_key])
            grant = read(Grant, proof.grant)
        except SluicegateError as error:
            raise SluicegateError(
                Reason.GRANT_INVALID, f"the ticket is not a grant of this exchange: {error.message}"
            ) from None
        # 3
        if grant.gateway != self._gateway:
            raise SluicegateError(Reason.GRANT_INVALID, "the grant is for another gateway")
        return grant

    def admit(self, raw: bytes) -> Admitted:
        """A ticket presented to begin a transfer, with everything fetched and verified anew.

        4. The grant has not expired: nothing is fetched for one that has.
        5. The agreement's bundle verifies under this gateway's trust file, at this moment.
        6. It is the agreement of the grant, by name and digest, of this department and this gateway.
        7. The holder key that the agreement names made the ticket (`receipt.verify_ticket`).

        Raises GRANT_INVALID, GRANT_EXPIRED, or what the bundle fails with.
        """
        grant, now = self.grant(raw), self._clock()
        # 4
        if now >= epoch(grant.expires):
            raise SluicegateError(Reason.GRANT_EXPIRED, f"the grant expired at {grant.expires}")
        # 5, 6
        verified = self._fetch(grant, now)
        # 7
        self._verify_ticket(raw, verified, now)
        self._remember(verified)
        return Admitted(grant, verified)

    def readmit(self, raw: bytes, verified: VerifiedAgreement) -> Grant:
        """A ticket presented again while its transfer runs: steps 1 to 4 and 7 against that agreement."""
        grant = self.grant(raw)
        if grant.agreement != verified.agreement.id:
            raise SluicegateError(Reason.GRANT_INVALID, "the ticket is of another agreement than its transfer")
        self._verify_ticket(raw, verified, self._clock())
        return grant

    def recognise(self, raw: bytes) -> Grant:
        """A ticket presented to fetch its receipt: as `admit`, but as of the grant's own time. Who held
        it then may have the receipt for ever after."""
        grant = self.grant(raw)
        then = min(self._clock(), epoch(grant.expires) - 1)
        with self._lock:
            verified = self._known.get(grant.agreement_digest)
        if verified is None:
            verified = self._fetch(grant, then)
            self._remember(verified)
        self._verify_ticket(raw, verified, then)
        return grant

    def served(self, name: str, agreement_digest: str) -> VerifiedAgreement:
        """An agreement that this gateway served, whether it goes on or has ended, with its secret still there.

        Its papers count as of when it was served first: a key that was revoked since ends the agreement, and does
        not undo what left under it. Raises AGREEMENT_NOT_LIVE for one that was never served or whose secret is
        gone, INVALID_ARGUMENT for one that is not this gateway's, or what the bundle fails with.
        """
        since = self._state.secret_since(agreement_digest)
        bundle = self._control_plane.agreement_bundle(name)
        at = min(self._clock(), epoch(read(Agreement, bundle.agreement).not_after) - 1)
        return self._verified(bundle, name, agreement_digest, at, Reason.INVALID_ARGUMENT, existed_by=since)

    def _fetch(self, grant: Grant, at: int) -> VerifiedAgreement:
        bundle = self._control_plane.agreement_bundle(grant.agreement)
        return self._verified(bundle, grant.agreement, grant.agreement_digest, at, Reason.GRANT_INVALID)

    def _verified(
        self,
        bundle: AgreementBundle,
        name: str,
        agreement_digest: str,
        at: int,
        otherwise: Reason,
        existed_by: int | None = None,
    ) -> VerifiedAgreement:
        """The agreement of that name and digest, of this department and gateway; raises `otherwise` if it is not."""
        # What the department took back stays taken back, whatever the exchange shows today; it counts from
        # the first time that it is shown, also with an agreement that fails because of it.
        self._state.keep_papers("revocation", self._taken_back(bundle.revocations))
        known = self._state.papers("revocation")
        verified = agreements.verify_bundle(bundle, self._trust(), at=at, existed_by=existed_by, revocations=known)
        document = verified.agreement
        if document.id != name or verified.digest != agreement_digest:
            raise SluicegateError(otherwise, "the exchange shows another agreement than was named")
        if document.provider != self._party or document.gateway != self._gateway:
            raise SluicegateError(otherwise, "the agreement is not served by this department's gateway")
        own = [paper for paper in bundle.statements if paper.payload.get("party") == self._party]
        self._state.keep_papers("statement", own)
        self._state.keep_agreement(document.id, verified.digest)
        return verified

    def _taken_back(self, shown: Iterable[Envelope]) -> list[Envelope]:
        """The revocations among these that the department's root really signed: others would spoil what
        is kept."""
        department, kept = self._trust().parties.get(self._party), []
        for paper in shown:
            with contextlib.suppress(SluicegateError):
                if department is not None and read(KeyRevocation, paper).party == self._party:
                    envelopes.verify(Kind.REVOCATION, paper, [department.root])
                    kept.append(paper)
        return kept

    def _verify_ticket(self, raw: bytes, verified: VerifiedAgreement, now: int) -> None:
        receipts.verify_ticket(raw, trust=self._trust(), agreement=verified.agreement, gateway=self._gateway, now=now)

    def _remember(self, verified: VerifiedAgreement) -> None:
        with self._lock:
            self._known[verified.digest] = verified
            self._known.move_to_end(verified.digest)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)


def verify_order(envelope: Envelope, party: str, keys: Keys, now: int) -> Suspension:
    """An order of the department's own approver about one agreement, verified without the exchange.

    Signed by approver keys of `party` that are good at its date and not revoked by `now`; not from the
    future (it could never be overruled); ending, if at all, after it begins. Raises SIGNATURE_INVALID,
    KEY_UNTRUSTED or INVALID_ARGUMENT.
    """
    order = read(Suspension, envelope)
    at = epoch(order.at)
    keys.signers(Kind.REVOCATION, envelope, [(party, Use.APPROVER)], at, latest=now)
    if at > now + SKEW:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"the order is dated more than {SKEW} seconds ahead of this clock"
        )
    if order.until is not None and epoch(order.until) <= at:
        raise SluicegateError(Reason.INVALID_ARGUMENT, "the suspension ends before it begins")
    return order
