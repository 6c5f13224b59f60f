"""Stopping an agreement: for a time by its provider or a mediator, for good by either of its sides."""

from __future__ import annotations

from msgspec.structs import replace

from contracts import instants, lifecycle
from contracts.errors import Reason, SluicegateError
from contracts.trust import PartyKind
from exchange import access, agreements
from exchange.hall import Hall
from exchange.identity import Principal
from exchange.records import Agreement, Call
from exchange.store import Tx, match_etag

MEDIATED_AT_MOST = 30 * 24 * 3600  # seconds that mediators may stop an agreement for, all their suspensions together


def suspend(
    hall: Hall, principal: Principal, call: Call | None, name: str, *, reason: str, until: int, etag: str = ""
) -> Agreement:
    """Stop an active agreement until an instant (epoch seconds), when it goes on by itself.

    For approvers of the provider, and for the coordination party's mediators. These have 30 days in
    the agreement's whole life: otherwise one suspension after the other would end it.

    Raises INVALID_ARGUMENT, ROLE_MISSING, STATE_WRONG, ETAG_MISMATCH.
    """
    access.require(principal, *access.APPROVERS, access.MEDIATOR)
    why = access.reason(reason)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return agreements.as_of(access.find(tx, Agreement, done, principal), hall.clock())
        record, current, now = _open(tx, hall, principal, name, etag)
        side = _stopping_side(principal, record)
        state = lifecycle.move("agreement", current.state, "suspend")
        _same_side(current, side)
        instants.demand_future(until, now, "until")
        mediated = current.mediated if side == record.provider else _mediated(current, until, now)
        changed = replace(
            current,
            state=state,
            state_reason=why,
            suspended_by=side,
            suspended_until=until,
            mediated=mediated,
            updated=now,
        )
        changed = tx.replace(changed, expected_version=record.version)
        detail = {"reason": why, "until": instants.rfc3339(until), "by": side}
        agreements.note(tx, hall, "agreement.suspended", changed, principal.name, detail)
        tx.remember(call, name)
        return changed


def resume(hall: Hall, principal: Principal, call: Call | None, name: str, *, reason: str, etag: str = "") -> Agreement:
    """End a suspension before its time. Only the side that suspended.

    Raises ROLE_MISSING, STATE_WRONG, ETAG_MISMATCH.
    """
    access.require(principal, *access.APPROVERS, access.MEDIATOR)
    why = access.reason(reason)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return agreements.as_of(access.find(tx, Agreement, done, principal), hall.clock())
        record, current, now = _open(tx, hall, principal, name, etag)
        side = _stopping_side(principal, record)
        state = lifecycle.move("agreement", current.state, "resume")
        _same_side(current, side)
        mediated = current.mediated if side == record.provider else current.mediated - _unused(current, now)
        changed = replace(current, state=state, mediated=mediated, updated=now, **agreements.AT_LARGE)
        changed = tx.replace(changed, expected_version=record.version)
        agreements.note(tx, hall, "agreement.resumed", changed, principal.name, {"reason": why, "by": side})
        tx.remember(call, name)
        return changed


def terminate(
    hall: Hall, principal: Principal, call: Call | None, name: str, *, reason: str, etag: str = ""
) -> Agreement:
    """End an agreement for good. For approvers of the provider and requesters of the consumer.

    Raises ROLE_MISSING, STATE_WRONG, ETAG_MISMATCH.
    """
    access.require(principal, access.REQUESTER, *access.APPROVERS)
    why = access.reason(reason)
    with hall.store.transaction() as tx:
        if (done := tx.replay(call)) is not None:
            return agreements.as_of(access.find(tx, Agreement, done, principal), hall.clock())
        record, current, now = _open(tx, hall, principal, name, etag)
        agreements.require_side(principal, record, "terminate it")
        state = lifecycle.move("agreement", current.state, "terminate")
        changed = replace(
            current,
            state=state,
            state_reason=why,
            suspended_by="",
            suspended_until=None,
            live_key=None,
            updated=now,
        )
        changed = tx.replace(changed, expected_version=record.version)
        agreements.note(
            tx, hall, "agreement.terminated", changed, principal.name, {"reason": why, "by": principal.party}
        )
        tx.remember(call, name)
        return changed


# --- inside


def _open(tx: Tx, hall: Hall, principal: Principal, name: str, etag: str) -> tuple[Agreement, Agreement, int]:
    """The stored record, the same as of now, and now. Raises NOT_FOUND, ETAG_MISMATCH."""
    record = access.find(tx, Agreement, name, principal)
    match_etag(record, etag, required=False)
    now = hall.clock()
    return record, agreements.as_of(record, now), now


def _stopping_side(principal: Principal, record: Agreement) -> str:
    """The party in whose name the caller may suspend and resume."""
    if principal.party == record.provider:
        access.require(principal, *access.APPROVERS)
    elif principal.kind is PartyKind.COORDINATION:
        access.require(principal, access.MEDIATOR)
    else:
        raise SluicegateError(
            Reason.ROLE_MISSING,
            f"only an approver of {record.provider} or a mediator may suspend or resume it; you may terminate it",
        )
    return principal.party


def _same_side(record: Agreement, side: str) -> None:
    """A running suspension is changed only by the side that made it: otherwise one could take over
    the other's, to end it."""
    if record.suspended_by not in ("", side):
        raise SluicegateError(
            Reason.ROLE_MISSING,
            f"{record.name} was suspended by {record.suspended_by}: only they may change or end that before "
            f"{instants.rfc3339(record.suspended_until or record.not_after)}",
        )


def _mediated(record: Agreement, until: int, now: int) -> int:
    """The seconds that mediators used up once this suspension is over. Raises INVALID_ARGUMENT past
    their allowance."""
    used = record.mediated - _unused(record, now)
    if used + until - now > MEDIATED_AT_MOST:
        latest = now + MEDIATED_AT_MOST - used
        left = f"until {instants.rfc3339(latest)} at the latest" if latest > now else "and that is used up"
        raise SluicegateError(
            Reason.INVALID_ARGUMENT,
            f"mediators stop an agreement for at most P30D, all their suspensions together: {left}; only its "
            "parties may stop it for longer",
        )
    return used + until - now


def _unused(record: Agreement, now: int) -> int:
    """Seconds of the running suspension that are still to come; 0 when none runs."""
    return 0 if record.suspended_until is None else max(0, record.suspended_until - now)
