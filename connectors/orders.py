"""An order of the department's own people to their gateway: stop an agreement, or serve it again."""

from __future__ import annotations

import json

import pyarrow.flight as fl

from connectors.pull import connected, told
from connectors.tls import ClientPair
from contracts.envelope import Envelope

TIMEOUT = 10.0


def send(address: str, ca: str, order: Envelope, pair: ClientPair | None = None) -> dict[str, object]:
    """Send a signed `Suspension`; what the gateway answered. `ca` is the PEM behind its certificate, `pair`
    what is shown to a gateway that demands certificates.

    Raises UNAVAILABLE when it cannot be reached, else the gateway's reason.
    """
    with connected(address, ca.encode() or None, pair) as client:
        try:
            action = fl.Action("suspend", order.to_bytes())
            answers = list(client.do_action(action, fl.FlightCallOptions(timeout=TIMEOUT)))
        except (fl.FlightError, OSError) as error:
            raise told(error, address) from None
    answer: dict[str, object] = json.loads(answers[0].body.to_pybytes())
    return answer
