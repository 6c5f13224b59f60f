"""Who is calling: bearer tokens (JWT, RFC 7519) of registered issuers, as principals.

One issuer speaks for exactly one party, and only for people whom that party registered: the token
says who somebody is, never what he may do. Accepted are EdDSA, ES256 and RS256 under a key that the
issuer's own set names; a token brings no key of its own, and lives for an hour at most.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jwt
from msgspec import Struct

from contracts.envelope import PublicKey, SigningKey
from contracts.errors import Reason, SluicegateError
from contracts.trust import PartyKind
from exchange import jwks, records
from exchange.memo import Memo

if TYPE_CHECKING:
    # Whoever only mints tokens, as every client does, needs no database.
    from exchange.store import Store

ALGORITHMS = ("EdDSA", "ES256", "RS256")
HEADERS = frozenset({"alg", "typ", "kid", "x5t", "x5t#S256"})  # the last two are mere thumbprints
TYPES = frozenset({"JWT", "AT+JWT"})
LONGEST_TOKEN = 8192  # characters
LONGEST_LIFE = 3600  # seconds from iat to exp
LEEWAY = 60  # seconds that clocks may differ
_REQUIRED = ("exp", "iat", "aud", "iss", "sub")


class Principal(Struct, frozen=True):
    """A person or service of a party, with the roles that the party gave it."""

    party: str
    kind: PartyKind
    subject: str
    roles: tuple[str, ...]
    issuer: str

    @property
    def name(self) -> str:
        """Resource name: parties/{party}/principals/{subject}."""
        return f"parties/{self.party}/principals/{self.subject}"


class Issuer(Struct, frozen=True):
    """Who may speak for a party. `keys` is a JWK set as JSON, its https URL, or `file:` and a path."""

    party: str
    kind: PartyKind
    issuer: str
    keys: str


IssuerLookup = Callable[[str], Issuer | None]
RolesLookup = Callable[[str, str], tuple[str, ...] | None]  # party, subject


class Authenticator:
    """Turns bearer tokens into principals. Safe for many threads.

    `issuers` finds the issuer by the token's `iss`, `people` the roles of a party's person; both are
    asked for every call, so taking a role away works at once. `audience` is this exchange's name.
    """

    def __init__(
        self,
        issuers: IssuerLookup,
        people: RolesLookup,
        audience: str,
        clock: Callable[[], int],
        *,
        fetch: jwks.Fetch = jwks.fetch_https,
    ) -> None:
        self._issuers, self._people = issuers, people
        self._audience, self._clock = audience, clock
        self._keys = jwks.KeyStore(clock, fetch)
        self._proven: Memo[tuple[jwks.AnyPublicKey, dict[str, Any]]] = Memo(4096)

    @classmethod
    def of_store(cls, store: Store, audience: str, clock: Callable[[], int]) -> Authenticator:
        """For the parties and people registered in the store."""
        return cls(_registered_issuers(store), _registered_people(store), audience, clock)

    def authenticate(self, token: str) -> Principal:
        """The principal of a token. The steps, each of which refuses:

        1. The token is a signed JWT whose header names a type, an accepted algorithm and a key id,
           and brings nothing else: no key, no place of a key, no critical extension.
        2. It names an issuer that is registered.
        3. A key of that issuer's set with this id is for this algorithm, and verifies the signature.
        4. It is for this exchange, valid now, and not for more than an hour.
        5. The issuer's party registered the subject and left it a role.

        Raises TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, PRINCIPAL_UNKNOWN, or UNAVAILABLE when
        the issuer's keys cannot be fetched.
        """
        if not token:
            raise SluicegateError(Reason.TOKEN_MISSING, "the call carries no bearer token")
        algorithm, kid = _header(token)
        issuer = self._issuer(token)
        claims = self._verified(token, issuer, algorithm, kid)
        self._check_times(claims)
        roles = self._people(issuer.party, claims["sub"])
        if not roles:
            raise SluicegateError(
                Reason.PRINCIPAL_UNKNOWN,
                f"{issuer.party} has registered nobody of the token's subject with a role: ask its admin",
            )
        return Principal(issuer.party, issuer.kind, claims["sub"], tuple(sorted(roles)), issuer.issuer)

    def _issuer(self, token: str) -> Issuer:
        name = _json_part(token, 1).get("iss")
        issuer = self._issuers(name) if isinstance(name, str) and 0 < len(name) <= 500 and name.isprintable() else None
        if issuer is None:
            raise _invalid("its issuer is not registered here")
        return issuer

    def _verified(self, token: str, issuer: Issuer, algorithm: str, kid: str) -> dict[str, Any]:
        """The claims. A token's signature is verified once; issuer, key, times and roles are looked up
        for every call. What is remembered holds the key itself, so that no other can have its `id`."""
        key = self._keys.find(issuer.keys, kid, algorithm)
        if key is None:
            raise _invalid(f"its issuer has no {algorithm} key of that id")
        whole = hashlib.sha256(token.encode()).hexdigest()
        return self._proven.get(f"{whole} {id(key)}", lambda: (key, self._decoded(token, key, issuer, algorithm)))[1]

    def _decoded(self, token: str, key: jwks.AnyPublicKey, issuer: Issuer, algorithm: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=issuer.issuer,
                # Times are checked below, by the clock that was passed in.
                options={"require": list(_REQUIRED), "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.MissingRequiredClaimError as error:
            raise _invalid(f"it lacks the claim {error.claim}") from None
        except jwt.InvalidAudienceError:
            raise _invalid("it is for another audience") from None
        except jwt.InvalidTokenError:
            raise _invalid("its signature or form does not verify") from None
        if not 0 < len(claims["sub"]) <= 200 or not claims["sub"].isprintable():
            raise _invalid("its subject must have 1 to 200 printable characters")
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        issued, expires = _instant(claims, "iat"), _instant(claims, "exp")
        begins = _instant(claims, "nbf") if "nbf" in claims else issued
        now = self._clock()
        if not 0 < expires - issued <= LONGEST_LIFE:
            raise _invalid(f"it must live for 1 to {LONGEST_LIFE} seconds")
        if now >= expires + LEEWAY:
            raise SluicegateError(Reason.TOKEN_EXPIRED, "the token has expired: get a new one")
        if now < max(begins, issued) - LEEWAY:
            raise SluicegateError(Reason.TOKEN_EXPIRED, "the token is not valid yet: check the clock of its issuer")


def mint(
    key: SigningKey,
    *,
    issuer: str,
    subject: str,
    audience: str,
    lifetime: int,
    now: int,
    entropy: Callable[[int], bytes],
) -> str:
    """A token of the built-in issuer: EdDSA, `lifetime` seconds (1 to 3600) from `now`.

    Raises INVALID_ARGUMENT for a lifetime that no exchange would accept.
    """
    if not 0 < lifetime <= LONGEST_LIFE:
        raise SluicegateError(
            Reason.INVALID_ARGUMENT, f"a token lives for 1 to {LONGEST_LIFE} seconds; asked for {lifetime}"
        )
    claims = {
        "iss": issuer,
        "sub": subject,
        "aud": audience,
        "iat": now,
        "exp": now + lifetime,
        "jti": base64.urlsafe_b64encode(entropy(12)).decode(),
    }
    return key.token(claims)


def jwk_set(*keys: PublicKey) -> str:
    """The JWK set, as JSON, of a built-in issuer's public keys: what its party registers."""
    values = [
        {"kty": "OKP", "crv": "Ed25519", "x": key.x, "kid": key.kid, "alg": "EdDSA", "use": "sig"} for key in keys
    ]
    return json.dumps({"keys": values}, sort_keys=True)


def expiry(token: str) -> float:
    """When a token of our own ends, in epoch seconds, without verifying it: for who holds it, to know
    when to get another. Raises TOKEN_INVALID when it has no such time."""
    return _instant(_json_part(token, 1), "exp")


def _header(token: str) -> tuple[str, str]:
    """Algorithm and key id of a token. Raises TOKEN_INVALID for any header but the plainest."""
    if len(token) > LONGEST_TOKEN or token.count(".") != 2:
        raise _invalid(f"a token is a signed JWT of at most {LONGEST_TOKEN} characters")
    header = _json_part(token, 0)
    foreign = sorted(set(header) - HEADERS)
    if foreign:
        raise _invalid(
            "its header may have " + ", ".join(sorted(HEADERS)) + "; nothing else, least of all keys or their places"
        )
    if header.get("alg") not in ALGORITHMS:
        raise _invalid("its algorithm must be one of " + ", ".join(ALGORITHMS))
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() not in TYPES:
        raise _invalid("its type must be JWT or at+jwt")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 200:
        raise _invalid("its header must name a key id of 1 to 200 characters")
    return header["alg"], kid


def _json_part(token: str, number: int) -> dict[str, Any]:
    parts = token.split(".")
    try:
        raw = base64.urlsafe_b64decode(parts[number] + "=" * (-len(parts[number]) % 4))
        value = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, IndexError, RecursionError):
        raise _invalid("it is not a signed JWT") from None
    if not isinstance(value, dict):
        raise _invalid("it is not a signed JWT")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers of the same token must not read two different claims.
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError
    return dict(pairs)


def _instant(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    # NaN is in no range. A comparison takes whole numbers of any length, a conversion to float does not.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise _invalid(f"its claim {name} must be a time in epoch seconds")
    return float(value)


def _invalid(why: str) -> SluicegateError:
    return SluicegateError(Reason.TOKEN_INVALID, f"the token cannot be trusted: {why}")


def _registered_issuers(store: Store) -> IssuerLookup:
    def find(issuer: str) -> Issuer | None:
        with store.look() as tx:
            found = tx.page(records.Party, where={"issuer": issuer}, limit=1)
        return Issuer(found[0].party, PartyKind(found[0].kind), found[0].issuer, found[0].jwks) if found else None

    return find


def _registered_people(store: Store) -> RolesLookup:
    def roles(party: str, subject: str) -> tuple[str, ...] | None:
        with store.look() as tx:
            person = tx.get(records.Person, f"parties/{party}/principals/{subject}")
        # A subject is compared whole: `a/principals/b` is nobody's name.
        return person.roles if person is not None and (person.party, person.subject) == (party, subject) else None

    return roles
