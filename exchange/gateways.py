"""A department's side of its gateways: the folder of one, its place at the exchange, what it knows of its people.

Where a gateway is, the exchange tells consumers; that it is the department's, the department certifies with its
root key. The two are held together here: a place is registered with a TLS authority that is certified, or not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from connectors import tls
from connectors.keys import MasterKey
from contracts.canonical import digest_bytes
from contracts.envelope import Envelope, PublicKey, SigningKey
from contracts.errors import Reason, SluicegateError
from contracts.instants import epoch
from contracts.trust import Use
from exchange import config, keyfiles, views
from exchange.config import GatewaySettings
from exchange.home import Home
from exchange.names import ID, last

if TYPE_CHECKING:
    from exchange.client import Exchange

PLAIN = "grpc+tcp://"  # on loopback alone, and without a certificate


def prepare(
    folder: Path, settings: GatewaySettings, *, certificate: bytes, tls_key: bytes, entropy: Callable[[int], bytes]
) -> PublicKey:
    """Fill a gateway's new folder: TLS pair, signing key, master key, `statements/`, `gateway.toml`. The
    public half of the signing key, for the department's root to certify."""
    keyfiles.write_private(folder / "tls" / "key.pem", tls_key)
    (folder / "tls" / "cert.pem").write_bytes(certificate)
    signing = SigningKey.from_seed(entropy(32))
    keyfiles.write_key(folder / "keys" / "signing.jwk", signing)
    MasterKey.create(folder / "keys" / "master.key", entropy)
    (folder / "statements").mkdir(mode=0o700)
    (folder / "gateway.toml").write_text(config.dump(settings))
    return signing.public


def create(
    home: Home,
    settings: GatewaySettings,
    *,
    host: str,
    pair: tuple[Path, Path] | None,
    entropy: Callable[[int], bytes],
) -> PublicKey:
    """Make the folder of a gateway in a home, whole or not at all; the public half of its signing key.

    `pair` is its TLS certificate (with intermediates) and key; without one, a self-signed certificate for `host`
    is made. Raises INVALID_ARGUMENT for a name that no gateway can have, ALREADY_EXISTS, and CONFIG_INVALID for
    settings that could not be read back or a certificate that is not its key's.
    """
    name, path = settings.gateway, home.gateway(settings.gateway)
    if not ID.fullmatch(name):
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"no gateway is called {name[:80]!r}: lower-case letters, digits, hyphens"
        )
    if path.parent.exists():
        raise SluicegateError(Reason.ALREADY_EXISTS, f"there is a gateway {name} in {home.root} already")
    certificate, tls_key = tls.self_signed((host,), now=int(time.time())) if pair is None else _pair(*pair)
    try:
        home.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.parent.mkdir(exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=home.root, prefix=".new-") as scratch:
            folder = Path(scratch) / name
            folder.mkdir(mode=0o700)
            public = prepare(folder, settings, certificate=certificate, tls_key=tls_key, entropy=entropy)
            config.load(folder / path.name, GatewaySettings)
            folder.rename(path.parent)
    except OSError as error:
        raise SluicegateError(Reason.CONFIG_INVALID, f"cannot make {path.parent}: {error.strerror}") from None
    return public


def _pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    found = keyfiles.read_pair(certificate, key)
    tls.check_pair(*found)
    return found


# --- at the exchange


@dataclass(frozen=True)
class Registered:
    """A gateway as the exchange knows it. `certified_until` (RFC 3339) is when the department's last certificate
    for this TLS authority ends; empty while there is none: then no consumer fetches there."""

    name: str
    address: str
    authority: str
    certified_until: str


def listed(exchange: Exchange) -> tuple[Registered, ...]:
    """The gateways of the caller's department, and whether each is where the department certified it."""
    certified = _certified(exchange)
    return tuple(
        Registered(
            last(found.name),
            found.address,
            authority := digest_bytes(found.ca_certificate.encode()) if found.ca_certificate else "",
            certified.get((last(found.name), authority), ""),
        )
        for found in exchange.gateways()
    )


def register(exchange: Exchange, gateway: str, *, address: str, ca: bytes, replace: bool) -> views.Gateway:
    """Register where a gateway of the caller's department is reached, `grpc+tls://host:port`, and the PEM of the
    authority behind its TLS certificate; with `replace` in the place of what was registered before.

    Registering the same again changes nothing. Raises KEY_UNTRUSTED when the department did not certify that
    authority for it (every consumer would refuse it), ALREADY_EXISTS for another place without `replace`, NOT_FOUND for
    `replace` where there is nothing to replace, and what the exchange refuses.
    """
    try:
        pem = ca.decode("ascii")
    except UnicodeDecodeError:
        raise SluicegateError(Reason.INVALID_ARGUMENT, "the authority's certificates are not PEM") from None
    known = {last(found.name): found for found in exchange.gateways()}.get(gateway)
    if known is None and replace:
        raise SluicegateError(Reason.NOT_FOUND, f"there is no gateway {gateway[:80]} to replace: register it")
    if known is not None and (known.address, known.ca_certificate) == (address, pem):
        return known
    if known is not None and not replace:
        raise SluicegateError(
            Reason.ALREADY_EXISTS,
            f"{gateway} is registered at {known.address} already: sluicegate gateway replace puts another place, or "
            "another TLS authority, in its stead",
        )
    if not address.startswith(PLAIN) and (gateway, digest_bytes(ca)) not in _certified(exchange):
        raise SluicegateError(
            Reason.KEY_UNTRUSTED,
            f"no key of {gateway} is certified with this TLS authority, so no consumer would fetch there: first run "
            f"sluicegate key certify for its signing key, with --use gateway --subject {gateway} --tls-certificate PEM",
        )
    return exchange.register_gateway(gateway, address=address, ca_certificate=pem)


def _certified(exchange: Exchange) -> dict[tuple[str, str], str]:
    """For each gateway and TLS authority that the caller's department certified: until when."""
    found: dict[tuple[str, str], str] = {}
    for key in tuple(exchange.keys()):
        stated = key.statement.payload if key.statement is not None and not key.revoked else {}
        if (
            stated.get("use") == Use.GATEWAY
            and stated.get("tlsCertificate")
            and epoch(stated["notAfter"]) > time.time()
        ):
            which = (stated["subject"], stated["tlsCertificate"])
            found[which] = max(stated["notAfter"], found.get(which, ""))
    return found


# --- its people


def tell(home: Home, party: str, kid: str, signed: Envelope) -> tuple[str, ...]:
    """Put the statement of an approver's key where the party's gateways of this home look for it: else they would
    learn of it only with the next agreement, and refuse an order until then. The names of those gateways."""
    told = []
    for path in home.gateways():
        settings = config.load(path, GatewaySettings)
        if settings.party == party:
            settings.statements.mkdir(mode=0o700, exist_ok=True)
            keyfiles.write_private_file(settings.statements / f"{kid}.json", signed.to_bytes())
            told.append(settings.gateway)
    return tuple(told)


def tell_all(home: Home, exchange: Exchange) -> tuple[str, ...]:
    """Give the department's gateways of this home the statements of all its approvers; the approvers' subjects."""
    people = []
    for key in tuple(exchange.keys()):
        if key.statement is None or key.revoked or key.statement.payload.get("use") != Use.APPROVER:
            continue
        if tell(home, exchange.profile.party, last(key.name), key.statement):
            people.append(str(key.statement.payload["subject"]))
    return tuple(sorted(set(people)))
