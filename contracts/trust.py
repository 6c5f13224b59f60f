"""Who may sign what: the trust file, key statements and revocations.

A party's root key certifies the keys of its people and gateways, each for one use and a time; it
takes them back by revocations. A trust file, pinned by whoever verifies, names the roots. Nothing is
verified without one.

When was a document signed? The document says so itself, and whoever stole a key can write any date.
So a signature stands between two instants: `at`, when it claims to be made, must lie in the key's
validity; `latest`, when it provably existed, must lie before the key's revocation. Without a proof
(a ledger checkpoint, or the verifier's own record) `latest` is now, and a revoked key counts for
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import yaml
from msgspec import Struct

from contracts import yaml12
from contracts.envelope import Envelope, Kind, PublicKey, Verified, verify
from contracts.errors import Reason, SluicegateError, Violation
from contracts.instants import epoch, rfc3339


class PartyKind(StrEnum):
    """What a party is in the exchange."""

    DEPARTMENT = "department"
    COMPANY = "company"
    COORDINATION = "coordination"
    SUPERVISION = "supervision"


class Use(StrEnum):
    """What a certified key may sign."""

    APPROVER = "approver"  # contract, approval, agreement (as provider), revocation of an agreement
    REQUESTER = "requester"  # request, agreement (as consumer), acknowledgement
    GATEWAY = "gateway"  # intent, receipt, countersigned checkpoint


class _Document(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Base of the payloads that get signed. Instants are RFC 3339 UTC (`2026-01-31T12:00:00Z`)."""


class KeyStatement(_Document, frozen=True):
    """Kind KEY, signed by the party's root: this key is `subject`'s, for `use`, in this time.

    `subject` is the principal (`steward@health.example`) or the gateway's name (`health-bureau-1`).
    `tls_certificate`, for a gateway: digest of the PEM that its TLS certificate is issued by. A consumer
    gets that PEM from the exchange, and shows its ticket to nobody whom the department did not name.
    """

    party: str
    subject: str
    use: Use
    key: PublicKey
    not_before: str
    not_after: str
    tls_certificate: str | None = None


class KeyRevocation(_Document, frozen=True):
    """Kind REVOCATION, signed by the party's root: from `at` on nothing new by this key counts."""

    party: str
    kid: str
    at: str
    reason: str


class TrustedParty(_Document, frozen=True):
    """One party of the trust file."""

    kind: PartyKind
    root: PublicKey


class TrustFile(_Document, frozen=True, kw_only=True):
    """What a verifier pins: roots, the exchange's two keys, and the digests of standards and policy
    bundles that it accepts."""

    version: int = 1
    parties: dict[str, TrustedParty]
    checkpoint_key: PublicKey
    grant_key: PublicKey
    standards: tuple[str, ...]
    policies: tuple[str, ...]


class CertifiedKey(Struct, frozen=True):
    """A key that a root certified and nobody took back, as of the instants it was asked for."""

    party: str
    subject: str
    use: Use
    key: PublicKey
    tls_certificate: str | None = None


Json = dict[str, Any]
D = TypeVar("D", bound=_Document)

_PARTY = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def read(document: type[D], envelope: Envelope, reason: Reason = Reason.SIGNATURE_INVALID) -> D:
    """The payload of an envelope as a value, strictly: no field missing, unknown or of another type.

    Verifies nothing. Raises `reason`, naming the path of the first thing that does not fit.
    """
    try:
        return msgspec.convert(envelope.payload, document, strict=True)
    except msgspec.ValidationError as error:
        raise SluicegateError(reason, f"the signed document is no {document.__name__}: {error}") from None


@dataclass(frozen=True)
class Keys:
    """Trust file, key statements and revocations together: who may sign what, asked party by party.

    The statements may come from anybody: each is verified under its party's root when first asked for.
    """

    trust: TrustFile
    statements: tuple[Envelope, ...] = ()
    revocations: tuple[Envelope, ...] = ()
    # What was verified already. Nothing that it depends on can change.
    _known: dict[tuple[Kind, str], tuple[Any, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def certified(
        self, party: str, use: Use, at: int, *, until: int | None = None, latest: int | None = None
    ) -> tuple[CertifiedKey, ...]:
        """The party's keys for `use` at `at`, in the order of their statements. Epoch seconds.

        `until`: the document does not say when it was signed, only that it was between `at` and
        `until`; keys valid at any time in between are given. `latest`: by then the signature existed,
        so only revocations up to then count; None counts every revocation. Raises KEY_UNTRUSTED for a
        party that the trust file does not name, SIGNATURE_INVALID or KEY_UNTRUSTED for a statement or
        revocation in the party's name that its root did not sign.
        """
        revoked = {item.kid: epoch(item.at) for item in sorted(self._revocations(party), key=_last_first)}
        end = at if until is None else max(at, until)
        return tuple(
            CertifiedKey(party, statement.subject, statement.use, statement.key, statement.tls_certificate)
            for statement in self._statements(party)
            if statement.use == use
            and epoch(statement.not_before) <= end
            and at < epoch(statement.not_after)
            and not _taken_back(revoked.get(statement.key.kid), latest)
        )

    def signers(
        self,
        kind: Kind,
        envelope: Envelope,
        parties: Iterable[tuple[str, Use]],
        at: int,
        *,
        until: int | None = None,
        latest: int | None = None,
    ) -> tuple[CertifiedKey, ...]:
        """The certified keys that signed the envelope, each a key of one of `parties` for its use.

        One signature that does not verify, or is not by such a key, fails the whole envelope: raises
        SIGNATURE_INVALID or KEY_UNTRUSTED. The error says when a signature is good but its key was
        revoked, expired or certified for another use. Instants as for `certified`.
        """
        wanted = tuple(parties)
        keys = [key for party, use in wanted for key in self.certified(party, use, at, until=until, latest=latest)]
        try:
            verified = verify(kind, envelope, [key.key for key in keys])
        except SluicegateError as error:
            raise self._explained(error, wanted, at if until is None else until) from None
        return _first_of_each(keys, verified)

    def _statements(self, party: str) -> tuple[KeyStatement, ...]:
        return self._of(KeyStatement, Kind.KEY, party, self.statements)

    def _revocations(self, party: str) -> tuple[KeyRevocation, ...]:
        return self._of(KeyRevocation, Kind.REVOCATION, party, self.revocations)

    def _of(self, document: type[D], kind: Kind, party: str, envelopes: Iterable[Envelope]) -> tuple[D, ...]:
        """The documents of one party, each verified under the party's root."""
        if (kind, party) in self._known:
            return self._known[kind, party]
        trusted = self.trust.parties.get(party)
        if trusted is None:
            raise SluicegateError(
                Reason.KEY_UNTRUSTED,
                f"the trust file does not name the party {party[:64]!r}",
                metadata={"party": party[:64]},
            )
        found = []
        for envelope in envelopes:
            if envelope.payload.get("party") == party:
                verify(kind, envelope, [trusted.root])
                found.append(read(document, envelope))
        self._known[kind, party] = tuple(found)
        return tuple(found)

    def _explained(self, error: SluicegateError, parties: Sequence[tuple[str, Use]], at: int) -> SluicegateError:
        """The same error, saying what is known about the key it is about."""
        kid = error.metadata.get("kid")
        if error.reason is not Reason.KEY_UNTRUSTED or kid is None:
            return error
        facts = [fact for party in dict.fromkeys(party for party, _ in parties) for fact in self._facts(party, kid)]
        wanted = " or ".join(f"{use} of {party}" for party, use in parties)
        known = "; ".join(facts) or "no key statement here names it"
        return SluicegateError(
            Reason.KEY_UNTRUSTED,
            f"{error.message}; needed: a key certified as {wanted}, at {rfc3339(at)}; found: {known}",
            metadata=error.metadata,
        )

    def _facts(self, party: str, kid: str) -> list[str]:
        stated = [item for item in self._statements(party) if item.key.kid == kid]
        revoked = [item for item in self._revocations(party) if item.kid == kid]
        return [
            *(f"{item.use} key of {item.subject} from {item.not_before} to {item.not_after}" for item in stated),
            *(f"revoked at {item.at}, and nothing proves that it signed before" for item in revoked),
        ]


def _last_first(item: KeyRevocation) -> int:
    # Into a dict the last one written wins: of several revocations of one key, the earliest.
    return -epoch(item.at)


def _taken_back(revoked: int | None, latest: int | None) -> bool:
    return revoked is not None and (latest is None or revoked <= latest)


def _first_of_each(keys: Iterable[CertifiedKey], verified: Verified) -> tuple[CertifiedKey, ...]:
    """The keys that signed, without repeating one that has several statements for the same subject."""
    signed = {(key.party, key.subject, key.use, key.key.kid): key for key in keys if key.key.kid in verified.signers}
    return tuple(signed.values())


def certified(
    trust: TrustFile,
    party: str,
    use: Use,
    at: str,
    statements: Sequence[Envelope],
    revocations: Sequence[Envelope],
    *,
    as_signed_at: bool,
    latest: str | None = None,
) -> tuple[CertifiedKey, ...]:
    """The party's keys for `use` at `at` (RFC 3339 UTC): certified by its root, valid, not revoked.

    With `as_signed_at`, `at` is proven to be when the document was signed: a later revocation does
    not count. Without, `at` is now or only claimed, and every revocation up to `latest` counts; with
    `latest` None, every revocation there is. Raises as `Keys.certified`.
    """
    bound = at if as_signed_at else latest
    keys = Keys(trust, tuple(statements), tuple(revocations))
    return keys.certified(party, use, epoch(at), latest=None if bound is None else epoch(bound))


def load_trust(raw: bytes, *, name: str = "trust file") -> TrustFile:
    """Read a trust file (YAML 1.2). Raises CONFIG_INVALID with every violation.

    Refused, besides what does not fit: another version, no party, a malformed party id, one key in
    two places, an empty or malformed list of standards or policies. An empty list would accept
    nothing, so it can only be a mistake.
    """
    return _parsed(raw, name)


@lru_cache(16)  # the same few files are read for every transfer
def _parsed(raw: bytes, name: str) -> TrustFile:
    try:
        value = yaml12.load(raw, name=name).value
    except SluicegateError as error:
        raise SluicegateError(
            Reason.CONFIG_INVALID, f"the {name} cannot be read: {error.message}", error.violations
        ) from None
    try:
        trust = msgspec.convert(value, TrustFile, strict=True)
    except msgspec.ValidationError as error:
        raise SluicegateError(Reason.CONFIG_INVALID, f"the {name} does not fit: {error}") from None
    except SluicegateError as error:  # a key that is none
        raise SluicegateError(Reason.CONFIG_INVALID, f"the {name} does not fit: {error.message}") from None
    violations = tuple(_trust_violations(trust))
    if violations:
        raise SluicegateError(Reason.CONFIG_INVALID, f"the {name} cannot be trusted as it stands", violations)
    return trust


def _trust_violations(trust: TrustFile) -> Iterable[Violation]:
    if trust.version != 1:
        yield Violation("version", f"found {trust.version}; this product reads version 1")
    if not trust.parties:
        yield Violation("parties", "no party is named", "name the root key of every party you deal with")
    for party in trust.parties:
        if not _PARTY.fullmatch(party):
            yield Violation(f"parties.{party[:64]}", "a party id is lower-case letters, digits and hyphens, at most 63")
    keys = [(f"parties.{party}.root", found.root) for party, found in trust.parties.items()]
    keys += [("checkpointKey", trust.checkpoint_key), ("grantKey", trust.grant_key)]
    first: dict[str, str] = {}
    for path, key in keys:
        if key.kid in first:
            yield Violation(path, f"the same key as {first[key.kid]}", "every party and every use has a key of its own")
        first.setdefault(key.kid, path)
    for path, digests in (("standards", trust.standards), ("policies", trust.policies)):
        if not digests:
            yield Violation(path, "the list is empty, so nothing could ever be verified", "add the digest you accept")
        for index, digest in enumerate(digests):
            if not _DIGEST.fullmatch(digest):
                yield Violation(f"{path}.{index}", "a digest is written sha256: and 64 lower-case hex digits")


def dump_trust(trust: TrustFile) -> bytes:
    """The trust file as YAML, in the spelling that `load_trust` reads back to the same value."""
    return yaml.dump(
        msgspec.to_builtins(trust), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120
    ).encode()


class _Dumper(yaml.SafeDumper):
    """Quotes whatever could mean something else in YAML 1.1 or 1.2 (`no`, `1e3`, `0o7`)."""


_PLAIN = re.compile(r"[A-Za-z]{3,}([A-Z-][A-Za-z0-9-]*)?")
_WORDS = frozenset({"null", "true", "false", "yes", "off", "nan", "inf"})


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)
