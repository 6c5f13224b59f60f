"""Orders of the department's own people to their gateway: stop an agreement, serve it again, open values."""

from __future__ import annotations

import json

import pyarrow.flight as fl

from connectors import calling
from connectors.tls import ClientPair
from contracts.envelope import Envelope

TIMEOUT = 10.0


def send(address: str, ca: str, order: Envelope, pair: ClientPair | None = None) -> dict[str, object]:
    """Send a signed `Suspension`; what the gateway answered. `ca` is the PEM behind its certificate, `pair`
    what is shown to a gateway that demands certificates.

    Raises UNAVAILABLE when it cannot be reached, else the gateway's reason.
    """
    answer: dict[str, object] = json.loads(_act("suspend", address, ca, order, pair))
    return answer


def reveal(address: str, ca: str, order: Envelope, pair: ClientPair | None = None) -> bytes:
    """Send a `RevealOrder` that two people signed; the sealed answer. Otherwise as `send`."""
    return _act("reveal", address, ca, order, pair)


def _act(kind: str, address: str, ca: str, order: Envelope, pair: ClientPair | None) -> bytes:
    with calling.connected(address, ca.encode() or None, pair) as client:
        action, options = fl.Action(kind, order.to_bytes()), calling.within(TIMEOUT)
        answers = calling.call(lambda: list(client.do_action(action, options)), address)
    body: bytes = answers[0].body.to_pybytes()
    return body
