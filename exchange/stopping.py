"""Telling a department's own gateway first, when its people stop or resume an agreement.

Whatever keeps the order from the gateway must not keep the caller from telling the exchange.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.errors import Reason, SluicegateError
from contracts.trust import Keys
from exchange import evidence, signing
from exchange.names import full, last, owner

if TYPE_CHECKING:
    from exchange import views
    from exchange.client import Exchange
    from exchange.config import Profile


@dataclass(frozen=True)
class Told:
    """Our gateway, and whether the order reached it. `certified`: where the exchange says that it is,
    there is the TLS authority that our department certified."""

    gateway: str
    reached: bool
    certified: bool = True


@dataclass(frozen=True)
class Place:
    """Where our gateway listens, `grpc+tls://host:port`, and the PEM of the authority behind its certificate."""

    address: str
    ca: str


# It may well be there and only be kept from answering in time.
UNREACHED = frozenset({Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.CANCELLED})


def tell_gateway(
    exchange: Exchange,
    agreement: str,
    *,
    reason: str,
    until: str | None,
    lifted: bool = False,
    place: Place | None = None,
) -> Told | None:
    """Send our gateway the signed order; None when it is another party's agreement. With `place` the
    exchange is not asked where the gateway is: it may be away, or wish that nothing is stopped.

    A gateway that cannot be reached learns it from the exchange a moment later, so that is no error. To
    a place that our department did not certify as the gateway nothing is sent: it would say that it
    obeyed, and the gateway would serve on.
    """
    if place is not None:
        name = full(agreement, "agreements")
        return _send(exchange.profile, name, place, place.address, reason=reason, until=until, lifted=lifted)
    found = exchange.agreement(agreement)
    if owner(found.dataset) != exchange.profile.party:
        return None
    name, place = last(found.gateway), certified_place(exchange, found)
    if place is None:
        return Told(name, reached=False, certified=False)
    return _send(exchange.profile, found.name, place, name, reason=reason, until=until, lifted=lifted)


def certified_place(exchange: Exchange, agreement: views.Agreement) -> Place | None:
    """Where our gateway of an agreement is by the exchange's word; None unless our department certified what is
    there."""
    profile = exchange.profile
    gateway, papers = exchange.gateway(agreement.gateway), exchange.bundle(agreement.name)
    keys = Keys(evidence.trust_of(profile), papers.statements, papers.revocations)
    name, ca = last(agreement.gateway), gateway.ca_certificate
    return Place(gateway.address, ca) if signing.gateway_certified(profile, keys, profile.party, name, ca) else None


def _send(
    profile: Profile, agreement: str, place: Place, name: str, *, reason: str, until: str | None, lifted: bool
) -> Told:
    from connectors.gateway import orders

    for again in (True, False):
        signed = signing.suspension(profile, agreement, reason=reason, until=until, lifted=lifted)
        try:
            orders.send(place.address, place.ca, signed, signing.gateway_pair(profile))
        except SluicegateError as error:
            if error.reason in UNREACHED:
                return Told(name, reached=False)
            if error.reason is not Reason.STATE_WRONG or not again:
                raise
            # An order is dated to the second, and one of the same second counts as a replay.
            time.sleep(1.1)
        else:
            break
    return Told(name, reached=True)
