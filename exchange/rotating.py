"""Replacing a key of a profile: a fresh one, certified by the party's root, takes the old one's place.

In an order in which nothing is ever half done: the new key is written, then certified, then the profile
names it, in one rename; the old one is revoked last, if at all. Whoever is stopped in between has a
profile that works, and runs the command again.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.envelope import Kind, PublicKey, SigningKey, sign
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.trust import KeyRevocation, KeyStatement, Use
from exchange import config, gateways, keyfiles
from exchange.config import Profile
from exchange.home import Home
from exchange.names import last

if TYPE_CHECKING:
    from exchange.client import Exchange


@dataclass(frozen=True)
class Rotated:
    """What was done: the ids of both keys, the new key's file, and where its statement was put."""

    old: str
    new: str
    file: Path
    until: str
    revoked: bool
    told: tuple[str, ...]


def statement(
    party: str, subject: str, use: Use, key: PublicKey, *, days: int, tls_certificate: str | None = None
) -> KeyStatement:
    """What a root signs to certify a key from now on."""
    now = int(time.time())
    return KeyStatement(
        party=party,
        subject=subject,
        use=use,
        key=key,
        not_before=rfc3339(now),
        not_after=rfc3339(now + days * 86400),
        tls_certificate=tls_certificate,
    )


def revocation(party: str, kid: str, reason: str) -> KeyRevocation:
    """What a root signs to take a key back, as of now."""
    return KeyRevocation(party=party, kid=kid, at=rfc3339(int(time.time())), reason=reason)


def rotate(
    home: Home, name: str, which: str, admin: Exchange | None, root: Path | None, *, days: int, reason: str | None
) -> Rotated:
    """Replace the `which` key (signing, requester or holder) of the profile `name`.

    `admin` is a connection of its party's administrator, `root` the file of its root key; a holder key needs
    neither, since no root certifies it. With a `reason` the old key is revoked. Raises CONFIG_INVALID when
    the profile has no such key, NOT_FOUND for a key that is not certified now, CONFIG_UNSAFE, and what the
    exchange refuses; the profile is as before then, and the new key's file gone.
    """
    profile = home.profile(name)
    setting, path = f"{which}_key", getattr(profile, f"{which}_key")
    if path is None:
        raise SluicegateError(Reason.CONFIG_INVALID, f"the profile {name} has no {setting}: make one with key new")
    old = keyfiles.read_key(path)
    if admin is None or root is None:
        signer, use = None, None
    else:
        signer, use = keyfiles.read_key(root), _use(admin, profile, old)
    new = SigningKey.from_seed(os.urandom(32))
    file = home.profile_file(name).parent / "keys" / f"{name}.{which}.{new.kid[:8]}.jwk"
    keyfiles.write_key(file, new)
    signed, until = None, ""
    try:
        if signer is not None and use is not None and admin is not None:
            stated = statement(profile.party, profile.subject, use, new.public, days=days)
            signed, until = sign(Kind.KEY, stated, signer), stated.not_after
            admin.register_key(signed)
        config.change(home.profile_file(name), Profile, lambda value: value.update({setting: f"keys/{file.name}"}))
    except SluicegateError:
        file.unlink()
        raise
    told = () if signed is None or use is not Use.APPROVER else gateways.tell(home, profile.party, new.kid, signed)
    if reason is not None and signer is not None and admin is not None:
        admin.register_key(sign(Kind.REVOCATION, revocation(profile.party, old.kid, reason), signer))
    return Rotated(old.kid, new.kid, file, until, reason is not None and signer is not None, told)


def _use(admin: Exchange, profile: Profile, old: SigningKey) -> Use:
    """What the old key is certified for, and the new one will be. Raises NOT_FOUND, or INVALID_ARGUMENT when
    the administrator acts for another party."""
    if admin.profile.party != profile.party:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"{admin.profile.subject} is of {admin.profile.party}, not of {profile.party}"
        )
    for key in tuple(admin.keys()):
        if last(key.name) == old.kid and key.statement is not None and not key.revoked:
            found: Any = key.statement.payload["use"]
            return Use(found)
    raise SluicegateError(
        Reason.NOT_FOUND, f"the key {old.kid} of {profile.subject} is not certified, or was revoked: use key certify"
    )
