"""`config check`: is everything there, readable only by its owner, and what weakens protection?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from connectors import tls
from contracts import standard
from contracts.envelope import Envelope
from contracts.errors import SluicegateError
from contracts.instants import epoch, rfc3339
from contracts.policy import shipped
from contracts.trust import KeyStatement, load_trust, read
from exchange import config, keyfiles
from exchange.config import ExchangeSettings, GatewaySettings, PolicySettings, Profile, TokenSettings
from exchange.home import Home

SOON = 30 * 86400

# Settings that protect the less the larger they are: named when they are larger than the default.
_LOOSER = {
    "heartbeat": "gateways hear every {} s only which agreements were stopped",
    "refusals_per_minute": "one caller may try what it is refused {} times a minute",
    "max_silence": "serves for up to {} s without word from the exchange",
    "stall_after": "a reader that takes nothing keeps its slot for {} s",
}


@dataclass(frozen=True)
class Finding:
    """`error`: it will not run. `weak`: it runs, with less protection. `soon`: it will end."""

    level: Literal["error", "weak", "soon"]
    where: str
    message: str


def check(home: Home) -> tuple[Finding, ...]:
    """Every finding about a home, worst first."""
    found = [*_private_home(home), *_exchange(home), *_gateways(home), *_profiles(home), *_trust(home)]
    return tuple(sorted(found, key=lambda finding: ("error", "weak", "soon").index(finding.level)))


def _private_home(home: Home) -> Iterator[Finding]:
    if not (home.exchange.exists() or home.gateways() or home.profiles()):
        yield Finding("error", "home", f"{home.root} holds no exchange, gateway or profile; run sluicegate init")
    elif home.root.stat().st_mode & 0o077:
        yield Finding("error", "home", f"{home.root} is open to others; run chmod 700 on it")


def _tried(where: str, attempt: Callable[[], object]) -> Iterator[Finding]:
    try:
        attempt()
    except SluicegateError as error:
        yield Finding("error", where, "; ".join([error.message, *map(str, error.violations)]))
    except OSError as error:
        yield Finding("error", where, f"cannot be read: {error.strerror}")


def _network(
    where: str, listen: str, plaintext: bool, policy: PolicySettings, *, strangers: bool = False
) -> Iterator[Finding]:
    if plaintext:
        yield Finding("weak", where, "unsafe_plaintext is on: calls and tokens are not encrypted")
    if not config.loopback(listen):
        open_to = (
            ", and asks clients for no certificate (client_ca): strangers can fill its memory" if strangers else ""
        )
        yield Finding("weak", where, f"listens beyond this machine, on {listen}{open_to}")
    if policy.engine == "opa" and policy.url.startswith("http://"):
        yield Finding("weak", where, "asks its policy server without TLS")


def _looser(where: str, settings: ExchangeSettings | GatewaySettings) -> Iterator[Finding]:
    for info in msgspec.structs.fields(type(settings)):
        if info.name in _LOOSER and (value := getattr(settings, info.name)) > info.default:
            yield Finding("weak", where, _LOOSER[info.name].format(value))


def _database(where: str, url: str) -> Iterator[Finding]:
    """A database elsewhere is as good as the certificate that it is known by."""
    if not url.startswith("postgresql"):
        return
    parts = urlsplit(url)
    asked = parse_qs(parts.query)
    hosts = [*asked.get("host", []), *([parts.hostname] if parts.hostname else [])]
    local = all(host.startswith("/") or host in ("localhost", "127.0.0.1", "::1") for host in hosts)
    if not local and asked.get("sslmode") != ["verify-full"]:
        yield Finding("weak", where, "reaches its database over the network without sslmode=verify-full")


def _certificate(where: str, certificate: Path, key: Path) -> Iterator[Finding]:
    failures = [
        *_tried(where, partial(keyfiles.check_private, key)),
        *_tried(where, lambda: tls.expires(certificate.read_bytes())),
    ]
    yield from failures
    if failures:
        return
    yield from _tried(where, lambda: tls.check_pair(certificate.read_bytes(), key.read_bytes()))
    yield from _ending(where, certificate)


def _ending(where: str, certificate: Path) -> Iterator[Finding]:
    ends = tls.expires(certificate.read_bytes())
    if ends < time.time():
        yield Finding("error", where, f"the certificate {certificate.name} ended at {rfc3339(ends)}")
    elif ends < time.time() + SOON:
        yield Finding("soon", where, f"the certificate {certificate.name} ends at {rfc3339(ends)}")


def _exchange(home: Home) -> Iterator[Finding]:
    where = "exchange"
    if not home.exchange.exists():
        return  # the home of a party alone
    yield from (failures := list(_tried(where, lambda: config.load(home.exchange, ExchangeSettings))))
    if failures:
        return
    settings = config.load(home.exchange, ExchangeSettings)
    for key in (settings.grant_key, settings.checkpoint_key):
        yield from _tried(where, partial(keyfiles.read_key, key))
    yield from _certificate(where, settings.tls_certificate, settings.tls_key)
    yield from _network(where, settings.listen, settings.unsafe_plaintext, settings.policy)
    yield from _looser(where, settings)
    yield from _database(where, settings.database)
    for kind, earlier in (("standards", settings.earlier_standards), ("policies", settings.earlier_policies)):
        if earlier:
            yield Finding("weak", where, f"agreements go on under earlier {kind}: {', '.join(earlier)}")


def _gateways(home: Home) -> Iterator[Finding]:
    for path in home.gateways():
        where = path.parent.name
        yield from (failures := list(_tried(where, partial(config.load, path, GatewaySettings))))
        if failures:
            continue
        settings = config.load(path, GatewaySettings)
        yield from _tried(where, partial(keyfiles.read_key, settings.signing_key))
        yield from _tried(where, partial(config.read_master, settings))
        yield from _certificate(where, settings.tls_certificate, settings.tls_key)
        strangers = settings.client_ca is None
        yield from _network(where, settings.listen, settings.unsafe_plaintext, settings.policy, strangers=strangers)
        yield from _client_authority(where, settings)
        yield from _statements(where, settings)
        yield from _token(where, settings.token)
        yield from _looser(where, settings)
        if settings.slots_per_party >= settings.slots:
            yield Finding("weak", where, f"one consumer may take all {settings.slots} slots")
        for dataset, source in settings.datasets.items():
            if source.root == Path("/"):
                yield Finding("weak", where, f"the source of {dataset} may lie anywhere on this machine: its root is /")
            if not any(mark in str(source.path) for mark in "*?[") and not source.path.exists():
                yield Finding("error", where, f"the source of {dataset} is not there: {source.path}")


def _client_authority(where: str, settings: GatewaySettings) -> Iterator[Finding]:
    """Whose certificates the gateway asks of its clients."""
    authority = settings.client_ca
    if authority is None:
        return
    yield from (failures := list(_tried(where, lambda: tls.read_authority(authority))))
    if not failures:
        yield from _ending(where, authority)


def _profiles(home: Home) -> Iterator[Finding]:
    for name in home.profiles():
        where = f"profile {name}"
        yield from (failures := list(_tried(where, partial(home.profile, name))))
        if failures:
            continue
        profile = home.profile(name)
        yield from _profile(where, profile)


def _profile(where: str, profile: Profile) -> Iterator[Finding]:
    for key in (profile.signing_key, profile.requester_key, profile.holder_key):
        if key is not None:
            yield from _tried(where, partial(keyfiles.read_key, key))
    if profile.trust is None:
        yield Finding("error", where, "names no trust file: nothing it receives can be verified")
    else:
        yield from _tried(where, lambda: load_trust(profile.trust.read_bytes()))  # type: ignore[union-attr]
    if profile.ca is not None:
        yield from _tried(where, lambda: tls.expires(profile.ca.read_bytes()))  # type: ignore[union-attr]
    if profile.gateway_certificate is not None and profile.gateway_key is not None:
        yield from _certificate(where, profile.gateway_certificate, profile.gateway_key)
    if profile.unsafe_plaintext:
        yield Finding("weak", where, "unsafe_plaintext is on: calls and tokens are not encrypted")
    if profile.checkpoint is None:
        yield Finding("weak", where, "remembers no checkpoint: a ledger that was rewound would go unnoticed")
    yield from _token(where, profile.token)


def _token(where: str, token: TokenSettings) -> Iterator[Finding]:
    if token.file is not None:
        yield from _tried(where, partial(keyfiles.check_private, token.file))
    elif token.issuer_key is not None:
        yield from _tried(where, partial(keyfiles.read_key, token.issuer_key))
        yield Finding("weak", where, "holds the issuer key of its party (built-in issuer): use an identity provider")
    elif not token.command:
        yield Finding("error", where, "names no token file, command or issuer key: it cannot call the exchange")


def _statements(where: str, settings: GatewaySettings) -> Iterator[Finding]:
    """Keys of the department's people that end soon: without them nobody can stop an agreement here."""
    for path in sorted(settings.statements.glob("*.json")):
        try:
            statement = read(KeyStatement, Envelope.from_bytes(path.read_bytes()))
        except SluicegateError as error:
            yield Finding("error", where, f"{path.name} is no key statement: {error.message}")
            continue
        if epoch(statement.not_after) < time.time() + SOON:
            yield Finding("soon", where, f"the key of {statement.subject} ends at {statement.not_after}")


def _trust(home: Home) -> Iterator[Finding]:
    where = "trust.yaml"
    if not home.trust.exists() and not home.exchange.exists():
        return
    yield from (failures := list(_tried(where, lambda: load_trust(home.trust.read_bytes()))))
    if failures:
        return
    trust = load_trust(home.trust.read_bytes())
    if shipped.load().digest not in trust.policies:
        yield Finding("error", where, "does not accept the policy bundle of this version: nothing would be served")
    if standard.load().digest not in trust.standards:
        yield Finding("error", where, "does not accept the desensitisation standard of this version")
    with contextlib.suppress(SluicegateError):  # said of the exchange already
        settings = config.load(home.exchange, ExchangeSettings)
        pinned = (trust.checkpoint_key, trust.grant_key)
        if pinned != tuple(keyfiles.read_key(key).public for key in (settings.checkpoint_key, settings.grant_key)):
            yield Finding("error", where, "pins other keys than those of the exchange of this home")
