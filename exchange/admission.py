"""What a registration must look like: ids, kinds, roles, keys, addresses. Each check lists every
violation; nothing here reads the store."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec
from cryptography import x509

from contracts.envelope import PublicKey
from contracts.errors import Reason, SluicegateError, Violation, nearest
from contracts.trust import PartyKind
from exchange import jwks
from exchange.names import ID

# Which kinds of party can have whom.
ROLES: Mapping[str, frozenset[PartyKind]] = {
    "admin": frozenset(PartyKind),
    "dpo": frozenset(PartyKind),
    "requester": frozenset(PartyKind),
    "steward": frozenset({PartyKind.DEPARTMENT}),
    "gateway": frozenset({PartyKind.DEPARTMENT}),
    "mediator": frozenset({PartyKind.COORDINATION}),
    "auditor": frozenset({PartyKind.COORDINATION, PartyKind.SUPERVISION}),
}
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+:|=-]{0,199}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LONGEST_CERTIFICATE = 64 * 1024


def refuse(violations: Sequence[Violation]) -> None:
    """Raise INVALID_ARGUMENT with all of them, if there are any."""
    if violations:
        what = violations[0].message if len(violations) == 1 else f"{len(violations)} values are not allowed"
        raise SluicegateError(Reason.INVALID_ARGUMENT, what, tuple(violations))


def party_violations(
    party_id: str, kind: str, root_key: str, issuer: str, jwks_set: str, display_name: str, admin_subject: str
) -> list[Violation]:
    """What is wrong with a party that is to be admitted; names as in CreateParty."""
    found = []
    if not ID.fullmatch(party_id):
        found.append(Violation("party_id", "an id is 1 to 63 lower-case letters, digits and hyphens, no hyphen first"))
    if kind not in set(PartyKind):
        found.append(Violation("party.kind", "no such kind of party", nearest(kind, PartyKind)))
    if len(display_name) > 200 or not display_name.isprintable():
        found.append(Violation("party.display_name", "a display name has at most 200 printable characters"))
    if not 0 < len(issuer) <= 500 or not issuer.isprintable():
        found.append(Violation("party.issuer", "name the `iss` of the party's tokens, 1 to 500 printable characters"))
    if admin_subject and not _SUBJECT.fullmatch(admin_subject):
        found.append(_bad_subject("admin_subject"))
    for path, check, value in (("party.root_key", public_key, root_key), ("jwks", _check_jwks, jwks_set)):
        try:
            check(value)
        except SluicegateError as error:
            found.append(Violation(path, error.message))
    return found


def public_key(jwk: str) -> PublicKey:
    """An Ed25519 public key from its JWK. Raises INVALID_ARGUMENT, also for a private one."""
    try:
        if len(jwk) > 1000:
            raise ValueError
        known = {name: value for name, value in json.loads(jwk).items() if name not in ("kid", "use", "alg")}
        key = msgspec.convert(known, PublicKey, strict=True)
    except (ValueError, AttributeError, RecursionError, msgspec.ValidationError, SluicegateError):
        message = 'a key is an Ed25519 public JWK, {"kty": "OKP", "crv": "Ed25519", "x": ...}, with nothing private'
        raise SluicegateError(Reason.INVALID_ARGUMENT, message) from None
    return key


def _check_jwks(value: str) -> None:
    # Not `file:`: what a caller sends must not make the exchange open its own files.
    if value.startswith("https://"):
        jwks.check_url(value)
    else:
        jwks.parse(value)


def person_violations(kind: PartyKind, subject: str, roles: Collection[str]) -> list[Violation]:
    """What is wrong with a person of a party of that kind."""
    found = [] if _SUBJECT.fullmatch(subject) else [_bad_subject("subject")]
    for role in roles:
        if role not in ROLES:
            found.append(Violation("roles", "no such role", nearest(role, ROLES)))
        elif kind not in ROLES[role]:
            kinds = ", ".join(sorted(ROLES[role]))
            found.append(Violation("roles", f"the role {role} is for a party of kind {kinds}; this is a {kind}"))
    return found


def _bad_subject(path: str) -> Violation:
    return Violation(
        path, "a subject is 1 to 200 letters, digits and @ . _ + : | = -, beginning with a letter or digit"
    )


def gateway_violations(gateway_id: str, address: str, ca_certificate: str) -> list[Violation]:
    """What is wrong with a gateway's registration."""
    found = []
    if not ID.fullmatch(gateway_id):
        found.append(
            Violation("gateway_id", "an id is 1 to 63 lower-case letters, digits and hyphens, no hyphen first")
        )
    try:
        parts = urlsplit(address)
        plain = parts.scheme == "grpc+tcp"
        usable = address == f"{parts.scheme}://{parts.netloc}" and bool(parts.hostname) and bool(parts.port)
        usable = usable and parts.username is None and address.isprintable() and len(address) <= 300
        usable = usable and (parts.scheme == "grpc+tls" or (plain and parts.hostname in _LOOPBACK))
    except ValueError:
        plain = usable = False
    if not usable:
        found.append(Violation("gateway.address", "an address is grpc+tls://host:port; grpc+tcp:// only on loopback"))
    if not plain and not _is_certificate(ca_certificate):
        found.append(
            Violation("gateway.ca_certificate", "give the certificates of its authority as PEM, at most 64 KiB")
        )
    return found


def _is_certificate(pem: str) -> bool:
    if len(pem) > _LONGEST_CERTIFICATE or "PRIVATE KEY" in pem:
        return False
    try:
        return bool(x509.load_pem_x509_certificates(pem.encode()))
    except ValueError:
        return False
