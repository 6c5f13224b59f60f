"""Having single values opened by the department's own gateway: one asks, another countersigns, the first reads.

The order is a file that the two hand on; beside it, with who asked alone, lies the key that the answer is sealed to.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from contracts.agreement import Agreement, VerifiedAgreement, verify_bundle
from contracts.envelope import MAX_BYTES, Envelope
from contracts.errors import Reason, SluicegateError
from contracts.instants import epoch
from contracts.papers import RevealOrder
from contracts.revealing import PEOPLE, asked_by, colleagues, technique_of
from contracts.trust import read
from exchange import evidence, signing
from exchange.keyfiles import check_private, demand_vacant, write_private_file
from exchange.names import last, owner
from exchange.stopping import Place, certified_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.client import Exchange
    from exchange.config import Profile

# A gateway tells nobody more than the reason; here is what to do about an order.
REMEDIES = {
    Reason.AGREEMENT_NOT_LIVE: "its keys are destroyed, or nothing left under it: nothing can be opened any more",
    Reason.STATE_WRONG: "the order was answered before, or is older than an hour: ask again",
    Reason.DATA_INVALID: "one of the values is none that left in this field under this agreement",
    Reason.POLICY_REFUSED: "a first- and a second-level approver sign, as the agreement's contract names them",
    Reason.SIGNATURE_INVALID: "two different people sign, and nothing is changed in between: ask again",
    Reason.UNAVAILABLE: "send the same order again within its hour",
    Reason.INTERNAL: "the ledger may not have been told: send the same order again within its hour",
}


def key_of(order: Path) -> Path:
    """Where the key of an order's answer lies: with who asked, and nobody else."""
    return order.with_name(order.name + ".key")


def ask(
    exchange: Exchange,
    agreement: str,
    out: Path,
    *,
    field: str,
    values: Sequence[str],
    reason: str,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Write an order with the caller's signature, and its key beside it, both 0600; who may sign beside the caller.
    Nothing is opened yet.

    What the gateway would refuse is refused here, as far as it can be told: raises ROLE_MISSING for an agreement
    about another party's data, POLICY_REFUSED for who may not order it, INVALID_ARGUMENT, and SINK_FAILED for a
    file that is there.
    """
    demand_vacant(out, key_of(out), overwrite=overwrite)
    profile, found = exchange.profile, _ours(exchange, agreement)
    technique_of(field, found)
    others = colleagues(profile.subject, found)
    private = X25519PrivateKey.generate()
    key = private.public_key().public_bytes_raw()
    order = signing.reveal_order(profile, found, field=field, values=values, reason=reason, key=key)
    write_private_file(key_of(out), private.private_bytes_raw())
    write_private_file(out, order.to_bytes())
    return others


def read_order(path: Path) -> tuple[Envelope, RevealOrder]:
    """The order in a file; nothing is verified. Raises INVALID_ARGUMENT for a file that cannot be read,
    SIGNATURE_INVALID or TOO_LARGE for no order."""
    try:
        with path.open("rb") as file:
            envelope = Envelope.from_bytes(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"cannot read {path}: {error.strerror}") from None
    return envelope, read(RevealOrder, envelope)


def asker(exchange: Exchange, envelope: Envelope, order: RevealOrder) -> str:
    """Who asked for an order that the caller may sign too (`asked_by`). Raises as that does, and ROLE_MISSING for an
    agreement about another party's data."""
    found = _ours(exchange, order.agreement)
    return asked_by(envelope, exchange.profile.subject, found, at=int(time.time()))


def countersign(profile: Profile, envelope: Envelope, out: Path) -> None:
    """Write an order, as it was read and shown, with the caller's signature added."""
    write_private_file(out, signing.reveal_countersigned(profile, envelope).to_bytes())


def opened(exchange: Exchange, path: Path, place: Place | None = None) -> tuple[RevealOrder, tuple[str, ...]]:
    """Send an order that two people signed to our gateway; what its values stand for. Each order is good once; then
    its key is removed.

    Raises what the gateway refuses it for, KEY_UNTRUSTED for a gateway that our department did not certify,
    UNAVAILABLE for one that cannot be reached, DATA_INVALID for an answer that is not ours.
    """
    from connectors.gateway import orders
    from connectors.gateway.sealing import unseal

    envelope, order = read_order(path)
    if len(envelope.signatures) != PEOPLE:
        told = f"{PEOPLE} people sign an order; this one has {len(envelope.signatures)} signatures"
        raise SluicegateError(Reason.SIGNATURE_INVALID, told, remedy=f"a colleague signs it: reveal sign {path}")
    check_private(key_of(path), folder_shared=True)
    private = X25519PrivateKey.from_private_bytes(key_of(path).read_bytes())
    where = place or _certified(exchange, order)
    try:
        sealed = orders.reveal(where.address, where.ca, envelope, signing.gateway_pair(exchange.profile))
    except SluicegateError as error:
        error.remedy = REMEDIES.get(error.reason, error.remedy)
        raise
    values = msgspec.json.decode(unseal(sealed, private, order=envelope.digest), type=tuple[str, ...])
    return order, values


def forget(path: Path) -> None:
    """Remove the key of an order that has opened what it was for. Once the values are shown: it is used up."""
    key_of(path).unlink(missing_ok=True)


def _ours(exchange: Exchange, agreement: str) -> VerifiedAgreement:
    """An agreement about our data, verified as of when it began: it may have ended."""
    papers = exchange.bundle(agreement)
    stated = read(Agreement, papers.agreement)
    _demand_ours(exchange.profile, stated.provider, stated.id)
    begun, at = epoch(stated.not_before), min(int(time.time()), epoch(stated.not_after) - 1)
    return verify_bundle(papers, evidence.trust_of(exchange.profile), at=at, existed_by=begun)


def _certified(exchange: Exchange, order: RevealOrder) -> Place:
    found = exchange.agreement(order.agreement)
    _demand_ours(exchange.profile, owner(found.dataset), found.name)
    where = certified_place(exchange, found)
    if where is None:
        told = f"the exchange names another TLS certificate for {last(found.gateway)} than your department certified"
        raise SluicegateError(Reason.KEY_UNTRUSTED, told, remedy="nothing was sent; ask your admin")
    return where


def _demand_ours(profile: Profile, provider: str, name: str) -> None:
    if provider != profile.party:
        told = f"only the department that provides the data of {name} opens values of it"
        raise SluicegateError(Reason.ROLE_MISSING, told)
