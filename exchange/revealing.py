"""Having single values opened by the department's own gateway: one asks, another countersigns, the first reads.

The order is a file that the two hand on; beside it, with who asked alone, lies the key that the answer is sealed to.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.papers import RevealOrder
from contracts.trust import Keys, read
from exchange import evidence, signing
from exchange.config import check_private
from exchange.names import last, owner
from exchange.stopping import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.client import Exchange


def key_of(order: Path) -> Path:
    """Where the key of an order's answer lies: with who asked, and nobody else."""
    return order.with_name(order.name + ".key")


def ask(exchange: Exchange, agreement: str, out: Path, *, field: str, values: Sequence[str], reason: str) -> Envelope:
    """Write an order with the caller's signature, and its key (0600) beside it. Nothing is opened yet.

    Raises ROLE_MISSING for an agreement about another party's data, ALREADY_EXISTS for a key that is there."""
    found = exchange.agreement(agreement)
    _demand_ours(exchange, owner(found.dataset), found.name)
    private = X25519PrivateKey.generate()
    public = base64.urlsafe_b64encode(private.public_key().public_bytes_raw()).decode().rstrip("=")
    digest = exchange.bundle(found.name).agreement.digest
    order = signing.reveal_order(
        exchange.profile, found, digest=digest, field=field, values=values, reason=reason, key=public
    )
    try:
        handle = os.open(key_of(out), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        told = f"{key_of(out)} is there; it opens the answer to another order"
        raise SluicegateError(Reason.ALREADY_EXISTS, told, remedy="choose another place") from None
    with os.fdopen(handle, "wb") as file:
        file.write(private.private_bytes_raw())
    out.write_bytes(order.to_bytes())
    return order


def opened(exchange: Exchange, path: Path, place: Place | None = None) -> tuple[RevealOrder, tuple[str, ...]]:
    """Send an order that two people signed to our gateway; what its values stand for. Each order is good once.

    Raises what the gateway refuses it for, KEY_UNTRUSTED for a gateway that our department did not certify,
    UNAVAILABLE for one that cannot be reached, DATA_INVALID for an answer that is not ours.
    """
    from connectors import orders
    from connectors.sealing import unseal

    envelope = Envelope.from_bytes(path.read_bytes())
    order = read(RevealOrder, envelope)
    check_private(key_of(path), folder_shared=True)
    private = X25519PrivateKey.from_private_bytes(key_of(path).read_bytes())
    where = place or _certified(exchange, order)
    sealed = orders.reveal(where.address, where.ca, envelope, signing.gateway_pair(exchange.profile))
    values = msgspec.json.decode(unseal(sealed, private, order=envelope.digest), type=tuple[str, ...])
    key_of(path).unlink()  # it has opened what it was for
    return order, values


def _certified(exchange: Exchange, order: RevealOrder) -> Place:
    profile, found = exchange.profile, exchange.agreement(order.agreement)
    _demand_ours(exchange, owner(found.dataset), found.name)
    gateway, papers = exchange.gateway(found.gateway), exchange.bundle(found.name)
    keys = Keys(evidence.trust_of(profile), papers.statements, papers.revocations)
    if not signing.gateway_certified(profile, keys, profile.party, last(found.gateway), gateway.ca_certificate):
        told = f"the exchange names another TLS certificate for {order.gateway} than your department certified"
        raise SluicegateError(Reason.KEY_UNTRUSTED, told, remedy="nothing was sent; ask your admin")
    return Place(gateway.address, gateway.ca_certificate)


def _demand_ours(exchange: Exchange, provider: str, name: str) -> None:
    if provider != exchange.profile.party:
        told = f"only the department that provides the data of {name} opens values of it"
        raise SluicegateError(Reason.ROLE_MISSING, told)
