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
from exchange.names import last, owner

if TYPE_CHECKING:
    from exchange.client import Exchange


@dataclass(frozen=True)
class Told:
    """Our gateway, and whether the order reached it. `certified`: where the exchange says that it is,
    there is the TLS authority that our department certified."""

    gateway: str
    reached: bool
    certified: bool = True


# It may well be there and only be kept from answering in time.
UNREACHED = frozenset({Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.CANCELLED})


def tell_gateway(
    exchange: Exchange, agreement: str, *, reason: str, until: str | None, lifted: bool = False
) -> Told | None:
    """Send our gateway the signed order; None when it is another party's agreement.

    A gateway that cannot be reached learns it from the exchange a moment later, so that is no error. To
    a place that our department did not certify as the gateway nothing is sent: it would say that it
    obeyed, and the gateway would serve on.
    """
    from connectors import orders

    found = exchange.agreement(agreement)
    if owner(found.dataset) != exchange.profile.party:
        return None
    profile, name = exchange.profile, last(found.gateway)
    gateway, papers = exchange.gateway(found.gateway), exchange.bundle(found.name)
    keys = Keys(evidence.trust_of(profile), papers.statements, papers.revocations)
    if not signing.gateway_certified(profile, keys, profile.party, name, gateway.ca_certificate):
        return Told(name, reached=False, certified=False)
    for again in (True, False):
        signed = signing.suspension(profile, found.name, reason=reason, until=until, lifted=lifted)
        try:
            orders.send(gateway.address, gateway.ca_certificate, signed)
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
