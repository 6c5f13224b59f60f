"""A token issuer turns on everybody else: a party's own, or one that nobody knows.

It holds what an issuer holds: private keys whose public halves are registered for one party, here of
each accepted algorithm, and a pen for any header and claim. Each token arrives over gRPC and TLS at
the running exchange, whose answer is either who somebody is, or a refusal.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts.envelope import SigningKey
from contracts.errors import Reason, SluicegateError
from exchange.rpc.status import from_rpc_error
from exchange.v1 import party_pb2, party_pb2_grpc
from tests.attacks.conftest import Attacked
from tests.e2e.steps import refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

AUDIENCE = "sluicegate-exchange"
ISSUER, NEIGHBOUR = "https://login.tidal.example", "https://login.tidal.example/eu"
SCOUT, OTHER = "scout@tidal.example", "surveyor@neighbour.example"
KEEPER, KEEPERS_ISSUER = "keeper@registry.example", "https://issuer.registry-office.example"
ALGORITHMS = {
    "EdDSA": jwt.algorithms.OKPAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "RS256": jwt.algorithms.RSAAlgorithm,
}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Provider:
    """An issuer gone bad: a key of each algorithm, its id the algorithm's name."""

    issuer: str
    keys: dict[str, Any] = field(
        default_factory=lambda: {
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "RS256": rsa.generate_private_key(65537, 2048),
        }
    )

    def public(self, algorithm: str) -> dict[str, Any]:
        """A public key as the registered set has it."""
        found = ALGORITHMS[algorithm].to_jwk(self.keys[algorithm].public_key(), as_dict=True)
        return {**found, "kid": algorithm, "alg": algorithm, "use": "sig"}

    @property
    def jwks(self) -> str:
        """What is registered."""
        return json.dumps({"keys": [self.public(algorithm) for algorithm in self.keys]})

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Claims of a good token; a change to None takes one away."""
        now = int(time.time())
        good = {"iss": self.issuer, "sub": SCOUT, "aud": AUDIENCE, "iat": now, "exp": now + 300, **changed}
        return {name: value for name, value in good.items() if value is not None}

    def token(
        self, by: str = "EdDSA", *, header: dict[str, Any] | bytes = b"", body: bytes = b"", **claims: Any
    ) -> str:
        """A token with these claims, signed by the key `by`; `header` says what it likes, whatever signed.
        Bytes stand for themselves."""
        if not isinstance(header, bytes) or not header:
            header = json.dumps({"alg": by, "typ": "JWT", "kid": by, **(header or {})}).encode()
        signed = f"{b64(header)}.{b64(body or json.dumps(self.claims(**claims)).encode())}"
        return f"{signed}.{b64(jwt.get_algorithm_by_name(by).sign(signed.encode(), self.keys[by]))}"


class Door:
    """The exchange's port, and what it says to a token."""

    def __init__(self, attacked: Attacked) -> None:
        home = attacked.city.home
        credentials = grpc.ssl_channel_credentials((home.root / "ca.pem").read_bytes())
        self._channel = grpc.secure_channel(home.profile("analyst").endpoint, credentials)
        self._stub = party_pb2_grpc.PartyServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def who(self, token: str) -> Any:
        """Whom the exchange takes the bearer for. Raises its refusal."""
        metadata = [("authorization", f"Bearer {token}")]
        try:
            return self._stub.WhoAmI(party_pb2.WhoAmIRequest(), timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def shuts(self, token: str, reason: Reason = Reason.TOKEN_INVALID) -> SluicegateError:
        """Demand that the token is refused."""
        return refused(lambda: self.who(token), reason)


@pytest.fixture(scope="module")
def door(attacked: Attacked) -> Iterator[Door]:
    found = Door(attacked)
    yield found
    found.close()


@pytest.fixture(scope="module")
def provider(attacked: Attacked, door: Door) -> Provider:
    """The issuer of a company that was admitted with it, and gave its scout a role. A good token of
    each algorithm gets in: so whatever is refused below is refused for the attack."""
    made = Provider(ISSUER)
    admit(attacked, "tidal-insights", made, SCOUT)
    for algorithm in ALGORITHMS:
        assert door.who(made.token(algorithm)).name == f"parties/tidal-insights/principals/{SCOUT}"
    return made


@pytest.fixture(scope="module")
def neighbour(attacked: Attacked, door: Door) -> Provider:
    """Another company, whose issuer's URL begins with the first one's."""
    made = Provider(NEIGHBOUR)
    admit(attacked, "neighbour-maps", made, OTHER)
    assert door.who(made.token(sub=OTHER)).name == f"parties/neighbour-maps/principals/{OTHER}"
    return made


def admit(attacked: Attacked, party: str, provider: Provider, admin: str) -> None:
    root = json.dumps({"kty": "OKP", "crv": "Ed25519", "x": SigningKey.from_seed(os.urandom(32)).public.x})
    attacked.city.exchange("admin").create_party(
        party, kind="company", root_key=root, issuer=provider.issuer, jwks=provider.jwks, admin=admin
    )


# --- whom it speaks for


def test_asserts_another_partys_people(provider: Provider, door: Door) -> None:
    """One token issuer speaks for exactly one party."""
    door.shuts(provider.token(sub=KEEPER), Reason.PRINCIPAL_UNKNOWN)
    door.shuts(provider.token(sub=f"parties/registry-office/principals/{KEEPER}"), Reason.PRINCIPAL_UNKNOWN)
    door.shuts(provider.token(iss=KEEPERS_ISSUER, sub=KEEPER))


def test_writes_roles_and_parties_into_its_tokens(provider: Provider, door: Door) -> None:
    """Roles come from the party's own registration, never from a token."""
    boast = {"roles": ["mediator", "steward"], "scope": "mediator", "groups": ["mediator"], "party": "registry-office"}
    taken_for = door.who(provider.token(**boast))
    assert (taken_for.name, list(taken_for.roles)) == (f"parties/tidal-insights/principals/{SCOUT}", ["admin"])


def test_an_issuer_whose_url_is_the_beginning_of_anothers(provider: Provider, neighbour: Provider, door: Door) -> None:
    """A principal is (issuer, subject), compared whole."""
    door.shuts(provider.token(iss=NEIGHBOUR, sub=OTHER))
    door.shuts(neighbour.token(iss=ISSUER))
    door.shuts(provider.token(sub=OTHER), Reason.PRINCIPAL_UNKNOWN)
    for spelling in (ISSUER + "/", ISSUER.upper(), ISSUER + "/eu/..", ISSUER[:-1], ISSUER + "%", [ISSUER]):
        door.shuts(provider.token(iss=spelling))


def test_an_issuer_that_nobody_registered(provider: Provider, door: Door) -> None:
    """Only registered issuers are heard, however good their signature: neither one of their own, nor a registered
    key's under another issuer's name. It is the name that is not found, whatever keys there are."""
    nowhere = "https://login.nowhere.example"
    for signer in (Provider(nowhere), provider):
        for algorithm in ALGORITHMS:
            for subject in (SCOUT, KEEPER):
                refusal = door.shuts(signer.token(algorithm, iss=nowhere, sub=subject))
                assert "issuer is not registered" in refusal.message
    for nobody in ("", "%", "_" * len(ISSUER), "x" * 501, ISSUER + "\n", None, 0, {}, [ISSUER]):
        assert "issuer is not registered" in door.shuts(provider.token(iss=nobody)).message


# --- algorithms


def test_token_without_a_signature(provider: Provider, door: Door) -> None:
    """`none` is refused in every spelling."""
    for algorithm in ("none", "None", "NONE", "nOnE", ""):
        head, body, signature = provider.token(header={"alg": algorithm}).split(".")
        door.shuts(f"{head}.{body}.")
        door.shuts(f"{head}.{body}.{signature}")


def test_public_key_used_as_a_shared_secret(provider: Provider, door: Door) -> None:
    """HS* is refused, with the public key in any spelling as its secret."""
    public = provider.keys["RS256"].public_key()
    spellings = (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        provider.jwks.encode(),
        base64.urlsafe_b64decode(provider.public("EdDSA")["x"] + "="),
    )
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    for kid in ALGORITHMS:
        for secret in spellings:
            head = b64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid}).encode())
            signed = f"{head}.{b64(json.dumps(provider.claims()).encode())}"
            door.shuts(f"{signed}.{b64(hmac.sign(signed.encode(), secret))}")


def test_signature_of_one_algorithm_for_a_key_of_another(provider: Provider, door: Door) -> None:
    """A key is for its own algorithm; the token's header does not choose."""
    for by in ALGORITHMS:
        for key in ALGORITHMS.keys() - {by}:
            door.shuts(provider.token(by, header={"kid": key}))
            door.shuts(provider.token(by, header={"alg": key, "kid": key}))
            door.shuts(provider.token(by, header={"alg": key}))


# --- keys that a token brings along


def test_token_brings_its_own_key(provider: Provider, door: Door) -> None:
    """A token brings no key: neither in its header, nor by a place to fetch it from. Nobody even looks."""
    stranger = Provider(ISSUER)
    with socket.create_server(("127.0.0.1", 0)) as trap:
        place = f"https://127.0.0.1:{trap.getsockname()[1]}/keys"
        own = stranger.public("EdDSA")
        for injected in ({"jwk": own}, {"jku": place}, {"x5u": place}, {"x5c": [b64(b"certificate")]}):
            for kid in ("EdDSA", place):
                door.shuts(stranger.token(header={**injected, "kid": kid}))
            assert "header" in door.shuts(provider.token(header=injected)).message  # with a good signature, too
        trap.setblocking(False)
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_key_id_that_is_a_path_or_a_url(provider: Provider, door: Door) -> None:
    """A key id is only ever compared."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        place = f"127.0.0.1:{trap.getsockname()[1]}/keys"
        for kid in (
            "../../../../dev/null",
            "/proc/self/environ",
            "file:///etc/passwd",
            f"https://{place}",
            f"http://{place}",
            "EdDSA' OR '1'='1",
            "EdDSA/../EdDSA",
            "EdDSA\x00",
            "",
            ["EdDSA"],
            None,
        ):
            door.shuts(provider.token(header={"kid": kid}))
        trap.setblocking(False)
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_critical_extension_that_nobody_knows(provider: Provider, door: Door) -> None:
    """What a token calls critical is not passed over."""
    for critical in (["exp"], ["x"], ["b64"], [], "x"):
        door.shuts(provider.token(header={"crit": critical, "x": 1, "b64": True}))
        door.shuts(provider.token(header={"crit": critical}))


# --- what a token is for, and how long


def test_token_for_another_service(provider: Provider, door: Door) -> None:
    """A token for one service is worth nothing at another."""
    for audience in ("payroll", ["payroll"], AUDIENCE + "-2", AUDIENCE[:-1], AUDIENCE.upper(), [], "", None):
        door.shuts(provider.token(aud=audience))


def test_token_that_lives_for_ever(provider: Provider, door: Door) -> None:
    """A token lives for an hour at most, and says so."""
    now = int(time.time())
    for expires in (
        now + 3700,
        now + 10 * 365 * 86_400,
        2**53,
        2**63,
        1e308,
        float("inf"),
        "never",
        None,
        True,
        [now + 60],
    ):
        door.shuts(provider.token(iat=now, exp=expires))
    door.shuts(provider.token(iat=now - 10 * 365 * 86_400, exp=now + 300))
    door.shuts(provider.token(iat=None))


def test_token_of_yesterday_or_tomorrow(provider: Provider, door: Door) -> None:
    """Times go by the exchange's clock; an issuer's may differ by a minute, not by more."""
    now = int(time.time())
    for early in ({"iat": now - 400, "exp": now - 90}, {"iat": now + 90, "exp": now + 300}, {"nbf": now + 90}):
        door.shuts(provider.token(**early), Reason.TOKEN_EXPIRED)
    for near in ({"iat": now - 400, "exp": now - 20}, {"iat": now + 30}, {"nbf": now + 30}):
        door.who(provider.token(**near))


# --- forms


def test_claims_that_stand_twice(provider: Provider, door: Door) -> None:
    """Two readers of one token must not read two different claims."""
    good = json.dumps(provider.claims())
    for twice in (
        f'{{"iss": "{KEEPERS_ISSUER}", {good[1:]}',
        f'{{"sub": "{KEEPER}", {good[1:]}',
        f'{good[:-1]}, "sub": "{SCOUT}"}}',
        f'{good[:-1]}, "exp": {int(time.time()) + 200}}}',
    ):
        door.shuts(provider.token(body=twice.encode()))
    door.shuts(provider.token(header=b'{"alg":"none","alg":"EdDSA","typ":"JWT","kid":"EdDSA"}'))


def test_token_as_large_as_a_book(provider: Provider, door: Door) -> None:
    """A token has a bound, and who exceeds it harms nobody else."""
    door.shuts(provider.token(padding="x" * 7_000))
    deep = b"[" * 2_000 + b"]" * 2_000
    door.shuts(provider.token(body=deep))
    with pytest.raises(SluicegateError):
        door.who(provider.token(padding="x" * 1_000_000))
    assert door.who(provider.token()).name


def test_key_set_with_a_secret_in_it(attacked: Attacked, provider: Provider) -> None:
    """A set of keys holds public keys for signatures only, so that nobody can mint what it verifies."""
    secret = {"kty": "oct", "k": b64(b"s" * 32), "kid": "shared", "alg": "HS256"}
    private = json.loads(ALGORITHMS["EdDSA"].to_jwk(ed25519.Ed25519PrivateKey.generate())) | {"kid": "own"}
    root = json.dumps({"kty": "OKP", "crv": "Ed25519", "x": SigningKey.from_seed(os.urandom(32)).public.x})
    for key in (secret, private):
        with pytest.raises(SluicegateError) as caught:
            attacked.city.exchange("admin").create_party(
                "careless-maps",
                kind="company",
                root_key=root,
                issuer="https://login.careless.example",
                jwks=json.dumps({"keys": [provider.public("ES256"), key]}),
                admin="clerk@careless.example",
            )
        assert caught.value.reason is Reason.INVALID_ARGUMENT
        assert key.get("k", key.get("d")) not in str(caught.value)
