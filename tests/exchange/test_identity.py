"""Every token that must not be believed, and the few that may."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts.envelope import Kind, sign
from contracts.errors import Reason, SluicegateError
from contracts.trust import PartyKind
from exchange import identity, records
from exchange.identity import Authenticator, Issuer, Principal
from exchange.store import Store
from tests.halls import Clock, Counted, party_record, refused
from tests.papers import NOW, key

AUDIENCE = "sluicegate-exchange"
ISSUER = "https://issuer.health-bureau.example"
SUBJECT = "steward@health.example"


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def jwk(public: Any, kid: str, algorithm: str) -> dict[str, Any]:
    classes = {
        "RS256": jwt.algorithms.RSAAlgorithm,
        "ES256": jwt.algorithms.ECAlgorithm,
        "EdDSA": jwt.algorithms.OKPAlgorithm,
    }
    return {**classes[algorithm].to_jwk(public, as_dict=True), "kid": kid, "alg": algorithm, "use": "sig"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuers(rsa_key: Any, ec_key: Any, ed_key: Any) -> dict[str, Issuer]:
    keys = [
        jwk(rsa_key.public_key(), "rsa-1", "RS256"),
        jwk(ec_key.public_key(), "ec-1", "ES256"),
        jwk(ed_key.public_key(), "ed-1", "EdDSA"),
    ]
    builtin = identity.jwk_set(key("issuer:metro-planning").public)
    return {
        ISSUER: Issuer("health-bureau", PartyKind.DEPARTMENT, ISSUER, json.dumps({"keys": keys})),
        "metro": Issuer("metro-planning", PartyKind.COMPANY, "metro", builtin),
    }


@pytest.fixture
def authenticator(issuers: dict[str, Issuer], clock: Clock) -> Authenticator:
    people = {
        ("health-bureau", SUBJECT): ("steward", "dpo"),
        ("metro-planning", "analyst@metro.example"): ("requester",),
        ("health-bureau", "gone@health.example"): (),
    }
    return Authenticator(issuers.get, lambda party, subject: people.get((party, subject)), AUDIENCE, clock)


def claims(**changed: Any) -> dict[str, Any]:
    """Claims of a good token; a change to None takes one away."""
    good = {"iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "iat": NOW, "exp": NOW + 600, **changed}
    return {name: value for name, value in good.items() if value is not None}


@pytest.fixture
def token(ed_key: Any) -> Callable[..., str]:
    def make(headers: dict[str, Any] | None = None, **changed: Any) -> str:
        # Not jwt.encode: it would not write some of the claims that are tried here.
        payload = json.dumps(claims(**changed)).encode()
        return jwt.PyJWS().encode(
            payload, ed_key, algorithm="EdDSA", headers={"typ": "JWT", "kid": "ed-1", **(headers or {})}
        )

    return make


def raw(header: object, payload: object, signature: bytes = b"") -> str:
    def part(value: object) -> str:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    return f"{part(header)}.{part(payload)}.{part(signature)}"


# --- what is believed


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "rsa-1"), ("ES256", "ec-1"), ("EdDSA", "ed-1")])
def test_the_three_algorithms(
    authenticator: Authenticator, request: pytest.FixtureRequest, algorithm: str, kid: str
) -> None:
    private = request.getfixturevalue({"RS256": "rsa_key", "ES256": "ec_key", "EdDSA": "ed_key"}[algorithm])
    found = authenticator.authenticate(jwt.encode(claims(), private, algorithm=algorithm, headers={"kid": kid}))
    assert found == Principal("health-bureau", PartyKind.DEPARTMENT, SUBJECT, ("dpo", "steward"), ISSUER)
    assert found.name == f"parties/health-bureau/principals/{SUBJECT}"


def test_the_built_in_issuer(authenticator: Authenticator) -> None:
    minted = identity.mint(
        key("issuer:metro-planning"),
        issuer="metro",
        subject="analyst@metro.example",
        audience=AUDIENCE,
        lifetime=3600,
        now=NOW,
        entropy=Counted(),
    )
    assert authenticator.authenticate(minted).roles == ("requester",)
    assert identity.expiry(minted) == NOW + 3600


@pytest.mark.parametrize("lifetime", [0, -1, 3601])
def test_nothing_is_minted_that_would_be_refused(lifetime: int) -> None:
    with refused(Reason.INVALID_ARGUMENT):
        identity.mint(key("x"), issuer="i", subject="s", audience="a", lifetime=lifetime, now=NOW, entropy=Counted())


@pytest.mark.parametrize(
    "changed", [{"aud": ["other", AUDIENCE]}, {"nbf": NOW - 5}, {"roles": ["admin"]}, {"exp": NOW + 0.5 + 600}]
)
def test_harmless_variations(authenticator: Authenticator, token: Callable[..., str], changed: dict[str, Any]) -> None:
    assert authenticator.authenticate(token(**changed)).roles == ("dpo", "steward")


@pytest.mark.parametrize("headers", [{"typ": "at+jwt"}, {"typ": None}, {"x5t": "abc"}])
def test_harmless_headers(authenticator: Authenticator, token: Callable[..., str], headers: dict[str, Any]) -> None:
    assert authenticator.authenticate(token(headers)).subject == SUBJECT


def test_roles_are_never_the_tokens(authenticator: Authenticator, token: Callable[..., str]) -> None:
    for claim in ("roles", "role", "scope", "groups", "party"):
        assert authenticator.authenticate(token(**{claim: "admin"})).roles == ("dpo", "steward")


# --- absent, expired, not yet valid, too long


def test_absent(authenticator: Authenticator) -> None:
    with refused(Reason.TOKEN_MISSING):
        authenticator.authenticate("")


def test_time_is_the_clocks_with_a_minute_to_spare(
    authenticator: Authenticator, token: Callable[..., str], clock: Clock
) -> None:
    good = token()
    for moment, fine in [(-61, False), (-60, True), (0, True), (659, True), (660, False), (10**6, False)]:
        clock.now = NOW + moment
        if fine:
            authenticator.authenticate(good)
        else:
            with refused(Reason.TOKEN_EXPIRED):
                authenticator.authenticate(good)


def test_not_yet_valid(authenticator: Authenticator, token: Callable[..., str]) -> None:
    with refused(Reason.TOKEN_EXPIRED):
        authenticator.authenticate(token(nbf=NOW + 61))
    with refused(Reason.TOKEN_EXPIRED):
        authenticator.authenticate(token(iat=NOW + 61, exp=NOW + 300))


@pytest.mark.parametrize(
    "changed", [{"exp": NOW + 3601}, {"exp": NOW}, {"exp": NOW - 1}, {"iat": NOW - 4000}, {"exp": 2**52}]
)
def test_a_life_of_more_than_an_hour_or_none(
    authenticator: Authenticator, token: Callable[..., str], changed: dict[str, Any]
) -> None:
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(token(**changed))


@pytest.mark.parametrize("value", ["soon", True, -1, 2**60, [NOW], {}, float("inf"), float("nan"), 10**400])
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
def test_times_that_are_none(
    authenticator: Authenticator, token: Callable[..., str], claim: str, value: object
) -> None:
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(token(**{claim: value}))


# --- wrong audience, issuer, subject; missing claims


@pytest.mark.parametrize("claim", ["exp", "iat", "aud", "iss", "sub"])
def test_every_claim_is_needed(authenticator: Authenticator, token: Callable[..., str], claim: str) -> None:
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(token(**{claim: None}))


@pytest.mark.parametrize("audience", ["other", "", ["other"], [], 7, "Sluicegate-Exchange", f"{AUDIENCE}/"])
def test_wrong_audience(authenticator: Authenticator, token: Callable[..., str], audience: object) -> None:
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(token(aud=audience))


@pytest.mark.parametrize("issuer", ["https://elsewhere.example", "", 7, ["metro"], ISSUER + "/", "x" * 600, "a\x00b"])
def test_wrong_issuer(authenticator: Authenticator, token: Callable[..., str], issuer: object) -> None:
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(token(iss=issuer))


def test_a_key_of_one_issuer_does_not_speak_for_another(
    authenticator: Authenticator, token: Callable[..., str]
) -> None:
    """The health bureau's key under the company's name: that issuer has no such key."""
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(token(iss="metro", sub="analyst@metro.example"))


def test_an_issuer_speaks_for_its_own_party_only(authenticator: Authenticator) -> None:
    """The company's issuer names the steward of the health bureau: nobody of the company."""
    minted = identity.mint(
        key("issuer:metro-planning"),
        issuer="metro",
        subject=SUBJECT,
        audience=AUDIENCE,
        lifetime=60,
        now=NOW,
        entropy=Counted(),
    )
    with refused(Reason.PRINCIPAL_UNKNOWN):
        authenticator.authenticate(minted)


@pytest.mark.parametrize(
    "subject", ["nobody@health.example", "gone@health.example", "STEWARD@health.example", "../x", "a/principals/b"]
)
def test_nobody_of_that_name(authenticator: Authenticator, token: Callable[..., str], subject: str) -> None:
    with refused(Reason.PRINCIPAL_UNKNOWN):
        authenticator.authenticate(token(sub=subject))


@pytest.mark.parametrize("subject", ["", "x" * 201, 7, ["x"], "a\x00b", "a\nb", "\ud800"])
def test_subjects_that_are_none(authenticator: Authenticator, token: Callable[..., str], subject: object) -> None:
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(token(sub=subject))


# --- algorithms


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None])
@pytest.mark.parametrize("signature", [b"", b"x"])
def test_alg_none(authenticator: Authenticator, algorithm: object, signature: bytes) -> None:
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(raw({"alg": algorithm, "typ": "JWT", "kid": "ed-1"}, claims(), signature))


def test_hs256_with_the_public_key(authenticator: Authenticator, rsa_key: Any, issuers: dict[str, Issuer]) -> None:
    """The classic: the public key as the secret of a MAC, in each spelling an attacker may have."""
    public = rsa_key.public_key()
    spellings = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        issuers[ISSUER].keys.encode(),
    ]
    for kid in ("rsa-1", "ed-1"):
        for secret in spellings:
            unsigned = raw({"alg": "HS256", "typ": "JWT", "kid": kid}, claims()).rsplit(".", 1)[0]
            mac = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
            with refused(Reason.TOKEN_INVALID):
                authenticator.authenticate(f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")


@pytest.mark.parametrize(
    "algorithm", ["HS256", "HS512", "RS384", "RS512", "PS256", "ES384", "ES256K", "eddsa", "RSA-OAEP", 7, ["EdDSA"]]
)
def test_other_algorithms(authenticator: Authenticator, algorithm: object) -> None:
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(raw({"alg": algorithm, "kid": "ed-1"}, claims(), b"x" * 64))


def test_a_key_is_for_its_own_algorithm(authenticator: Authenticator, rsa_key: Any, ec_key: Any) -> None:
    for private, algorithm, kid in [(rsa_key, "RS256", "ec-1"), (ec_key, "ES256", "ed-1"), (rsa_key, "RS256", "ed-1")]:
        with refused(Reason.TOKEN_INVALID):
            authenticator.authenticate(jwt.encode(claims(), private, algorithm=algorithm, headers={"kid": kid}))


# --- keys and headers


@pytest.mark.parametrize(
    "kid",
    [
        "ed-2",
        "",
        None,
        7,
        "ED-1",
        "ed-1 ",
        "../../etc/passwd",
        "file:///etc/passwd",
        "ed-1/../ed-1",
        "x" * 201,
        "' OR 1=1 --",
        "a\x00b",
    ],
)
def test_unknown_key_ids_are_just_unknown(authenticator: Authenticator, ed_key: Any, kid: object) -> None:
    signed = jwt.encode(claims(), ed_key, algorithm="EdDSA").split(".")
    header = raw({"alg": "EdDSA", **({} if kid is None else {"kid": kid})}, {}).split(".")[0]
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(".".join([header, *signed[1:]]))


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "crit", "x5c", "b64", "cty", "zip", "enc"])
def test_a_token_brings_nothing_along(authenticator: Authenticator, token: Callable[..., str], header: str) -> None:
    """Even with a good signature, by a key that is known."""
    value = {"crit": ["exp"], "b64": True, "jwk": {"kty": "oct"}}.get(header, "https://evil.example/keys")
    good = token().split(".")
    changed = raw({"alg": "EdDSA", "typ": "JWT", "kid": "ed-1", header: value}, {}).split(".")[0]
    with refused(Reason.TOKEN_INVALID) as caught:
        authenticator.authenticate(".".join([changed, *good[1:]]))
    assert "header" in caught.value.message


def test_the_attackers_own_key_in_the_header(authenticator: Authenticator) -> None:
    own = ed25519.Ed25519PrivateKey.generate()
    public = jwk(own.public_key(), "ed-1", "EdDSA")
    for headers in ({"kid": "ed-1"}, {"kid": "ed-1", "jwk": public}, {"kid": "mine", "jwk": public}):
        with refused(Reason.TOKEN_INVALID):
            authenticator.authenticate(jwt.encode(claims(), own, algorithm="EdDSA", headers=headers))


@pytest.mark.parametrize("kind", ["JWS", "sluicegate-grant+jws", 7, ["JWT"], "JWT "])
def test_other_types(authenticator: Authenticator, kind: object) -> None:
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(raw({"alg": "EdDSA", "typ": kind, "kid": "ed-1"}, claims(), b"x" * 64))


def test_a_signed_document_is_no_token(authenticator: Authenticator) -> None:
    """The same key signs documents and tokens of a careless party: neither passes for the other."""
    own = key("issuer:metro-planning")
    document = sign(Kind.REQUEST, claims(iss="metro", sub="analyst@metro.example"), own)
    header, _, signature = document.signatures[0].split(".")
    payload = raw({}, document.payload).split(".")[1]
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(f"{header}.{payload}.{signature}")


# --- forms


def test_any_changed_character_is_noticed(authenticator: Authenticator, token: Callable[..., str]) -> None:
    good = token()
    authenticator.authenticate(good)
    for position in range(0, len(good), 7):
        other = "A" if good[position] != "A" else "B"
        with pytest.raises(SluicegateError, check=lambda error: error.traits.code == "UNAUTHENTICATED"):
            authenticator.authenticate(good[:position] + other + good[position + 1 :])


@pytest.mark.parametrize(
    "garbage",
    [
        "a",
        "a.b",
        "a.b.c",
        "...",
        "....",
        "é.é.é",
        "\ud800",
        "a" * 9000,
        "{}.{}.{}",
        "e30.e30.",
        "bnVsbA.bnVsbA.",
        "W10.W10.W10",
        "[" * 8000,
    ],
)
def test_garbage(authenticator: Authenticator, garbage: str) -> None:
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(garbage)


def test_a_claim_said_twice_is_refused(authenticator: Authenticator, ed_key: Any) -> None:
    """Two readers could take two different ones for true."""
    text = json.dumps(claims())[:-1] + f', "sub": "{SUBJECT}"}}'
    signed = jwt.PyJWS().encode(text.encode(), ed_key, algorithm="EdDSA", headers={"kid": "ed-1", "typ": "JWT"})
    with refused(Reason.TOKEN_INVALID):
        authenticator.authenticate(signed)


def test_no_refusal_repeats_the_token(authenticator: Authenticator, token: Callable[..., str]) -> None:
    secret = token(aud="other", sub="very-secret-subject")
    with pytest.raises(SluicegateError) as caught:
        authenticator.authenticate(secret)
    assert "very-secret-subject" not in str(caught.value)
    assert secret.split(".")[2] not in str(caught.value)


# --- registrations in the store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(f"sqlite:///{tmp_path / 'x.db'}")
    opened.migrate()
    with opened.transaction() as tx:
        for party in ("metro-planning", "ride-share"):
            tx.insert(party_record(party))
        name = "parties/metro-planning/principals/analyst@metro.example"
        tx.insert(
            records.Person(
                name=name,
                party="metro-planning",
                subject="analyst@metro.example",
                roles=("requester",),
                created=1,
                updated=1,
            )
        )
    return opened


def minted(party: str, subject: str) -> str:
    issuer = f"https://issuer.{party}.example"
    return identity.mint(
        key(f"issuer:{party}"),
        issuer=issuer,
        subject=subject,
        audience=AUDIENCE,
        lifetime=60,
        now=NOW,
        entropy=Counted(),
    )


def test_people_are_looked_up_for_every_call(store: Store, clock: Clock) -> None:
    authenticator = Authenticator.of_store(store, AUDIENCE, clock)
    token = minted("metro-planning", "analyst@metro.example")
    assert authenticator.authenticate(token).roles == ("requester",)
    with store.transaction() as tx:
        person = tx.get(records.Person, "parties/metro-planning/principals/analyst@metro.example")
        assert person is not None
        tx.replace(
            records.Person(**{**{f: getattr(person, f) for f in person.__struct_fields__}, "roles": ()}),
            expected_version=1,
        )
    with refused(Reason.PRINCIPAL_UNKNOWN):
        authenticator.authenticate(token)
    store.close()


@pytest.mark.parametrize(
    ("party", "subject"),
    [
        ("ride-share", "analyst@metro.example"),
        ("metro-planning", "nobody"),
        ("metro-planning", "../../metro-planning/principals/analyst@metro.example"),
        ("ride-share", "../../metro-planning/principals/analyst@metro.example"),
    ],
)
def test_only_registered_people_of_that_party(store: Store, clock: Clock, party: str, subject: str) -> None:
    with refused(Reason.PRINCIPAL_UNKNOWN):
        Authenticator.of_store(store, AUDIENCE, clock).authenticate(minted(party, subject))
    store.close()


def test_an_issuer_that_nobody_registered(store: Store, clock: Clock) -> None:
    with refused(Reason.TOKEN_INVALID):
        Authenticator.of_store(store, AUDIENCE, clock).authenticate(minted("stranger", "analyst@metro.example"))
    store.close()


def test_a_token_that_was_verified_before_is_judged_anew(
    issuers: dict[str, Issuer], clock: Clock, token: Callable[..., str], ec_key: Any
) -> None:
    """Only its signature is remembered: not the issuer, the key, the roles or the time."""
    people = {("health-bureau", SUBJECT): ("steward",)}
    judge = Authenticator(issuers.get, lambda party, subject: people.get((party, subject)), AUDIENCE, clock)
    good, known = token(), issuers[ISSUER]
    assert judge.authenticate(good).roles == judge.authenticate(good).roles == ("steward",)
    people[("health-bureau", SUBJECT)] = ("dpo",)
    assert judge.authenticate(good).roles == ("dpo",)
    another = ed25519.Ed25519PrivateKey.generate().public_key()
    for keys in ([jwk(ec_key.public_key(), "ec-1", "ES256")], [jwk(another, "ed-1", "EdDSA")]):
        issuers[ISSUER] = msgspec.structs.replace(known, keys=json.dumps({"keys": keys}))
        with refused(Reason.TOKEN_INVALID):
            judge.authenticate(good)
    issuers[ISSUER] = known
    forged = good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB")
    with refused(Reason.TOKEN_INVALID):
        judge.authenticate(forged)
    assert judge.authenticate(good).party == "health-bureau"
    del issuers[ISSUER]
    with refused(Reason.TOKEN_INVALID):
        judge.authenticate(good)
    issuers[ISSUER] = known
    clock.now += 601 + identity.LEEWAY
    with refused(Reason.TOKEN_EXPIRED):
        judge.authenticate(good)
