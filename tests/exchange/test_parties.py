"""Parties, people, keys and gateways: who may register what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from connectors import tls
from contracts.envelope import Envelope, Kind, sign
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.trust import KeyRevocation, KeyStatement, PartyKind, Use
from exchange import identity, ledger, parties, records
from exchange.identity import Principal
from exchange.records import Call
from tests.halls import COORDINATION, SUPERVISION, City, migrated, refused
from tests.papers import COMPANY, DAY, GATEWAY, NOW, PROVIDER, STEWARD, key


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    store = migrated(tmp_path / "x.db")
    yield City(store)
    store.close()


@pytest.fixture
def founder() -> Principal:
    return City.who(COORDINATION, "admin@cdo.example", "admin")


@pytest.fixture
def admin() -> Principal:
    return City.who(PROVIDER, "admin@health.example", "admin")


def newcomer(**changed: str) -> dict[str, str]:
    return {
        "party": "ride-share",
        "kind": "company",
        "display_name": "Ride Share 出行",
        "root_key": json.dumps({"kty": "OKP", "crv": "Ed25519", "x": key("root:ride-share").public.x}),
        "issuer": "https://login.ride.example",
        "jwks": identity.jwk_set(key("issuer:ride-share").public),
        "admin_subject": "boss@ride.example",
        **changed,
    }


def events(city: City) -> list[str]:
    auditor = city.who(SUPERVISION, "auditor@audit.example", "auditor")
    return [entry.event for entry in ledger.entries(city.hall, auditor).items]


# --- parties


def test_an_organisation_is_admitted_with_its_first_admin(city: City, founder: Principal) -> None:
    made = parties.create_party(city.hall, founder, city.call(founder, "CreateParty", 1), **newcomer())
    assert (made.name, made.kind, made.display_name, made.version) == (
        "parties/ride-share",
        "company",
        "Ride Share 出行",
        1,
    )
    assert parties.get(city.hall, founder, "parties/ride-share") == made
    authenticator = identity.Authenticator.of_store(city.store, "here", city.clock)
    token = identity.mint(
        key("issuer:ride-share"),
        issuer="https://login.ride.example",
        subject="boss@ride.example",
        audience="here",
        lifetime=60,
        now=NOW,
        entropy=city.hall.entropy,
    )
    assert authenticator.authenticate(token).roles == ("admin",)
    assert events(city) == ["party.created"]


def test_only_the_coordination_partys_admin_admits(city: City, admin: Principal) -> None:
    for who in (
        admin,
        city.who(COORDINATION, "m@cdo.example", "mediator"),
        city.who(SUPERVISION, "a@audit.example", "admin"),
    ):
        with refused(Reason.ROLE_MISSING):
            parties.create_party(city.hall, who, None, **newcomer())
    assert events(city) == []


def test_a_replayed_call_gives_the_same_party(city: City, founder: Principal) -> None:
    call = city.call(founder, "CreateParty", 1)
    made = parties.create_party(city.hall, founder, call, **newcomer())
    assert parties.create_party(city.hall, founder, call, **newcomer()) == made
    with refused(Reason.REQUEST_ID_REUSED):
        parties.create_party(
            city.hall, founder, msgspec.structs.replace(call, body_digest="sha256:2"), **newcomer(party="x")
        )
    assert events(city) == ["party.created"]


private = json.dumps(key("root:ride-share").unsafe_private_jwk())
existing_root = json.dumps({"kty": "OKP", "crv": "Ed25519", "x": key(f"root:{COMPANY}").public.x})


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"party": "Ride"}, "party_id"),
        ({"party": "a/b"}, "party_id"),
        ({"party": "../x"}, "party_id"),
        ({"party": ""}, "party_id"),
        ({"party": "-x"}, "party_id"),
        ({"party": "x" * 64}, "party_id"),
        ({"party": "ok\n"}, "party_id"),
        ({"kind": "ministry"}, "party.kind"),
        ({"kind": ""}, "party.kind"),
        ({"display_name": "a\x00"}, "party.display_name"),
        ({"display_name": "x" * 201}, "party.display_name"),
        ({"root_key": private}, "party.root_key"),
        ({"root_key": "{}"}, "party.root_key"),
        ({"root_key": "null"}, "party.root_key"),
        ({"root_key": "[" * 900}, "party.root_key"),
        ({"root_key": '{"kty":"OKP","crv":"Ed25519","x":"AAAA"}'}, "party.root_key"),
        ({"issuer": ""}, "party.issuer"),
        ({"issuer": "a\nb"}, "party.issuer"),
        ({"jwks": "{}"}, "jwks"),
        ({"jwks": "http://keys.example/jwks"}, "jwks"),
        ({"jwks": "file:///etc/passwd"}, "jwks"),
        ({"jwks": "https://user:secret@keys.example/"}, "jwks"),
        ({"jwks": json.dumps({"keys": [key("x").unsafe_private_jwk()]})}, "jwks"),
        ({"jwks": json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "1"}]})}, "jwks"),
        ({"admin_subject": "a/b"}, "admin_subject"),
        ({"admin_subject": "a b"}, "admin_subject"),
    ],
)
def test_what_a_party_may_not_be(city: City, founder: Principal, changed: dict[str, str], path: str) -> None:
    with refused(Reason.INVALID_ARGUMENT) as caught:
        parties.create_party(city.hall, founder, None, **newcomer(**changed))
    assert [violation.path for violation in caught.value.violations] == [path]
    for secret in ("secret", key("root:ride-share").unsafe_private_jwk()["d"], key("x").unsafe_private_jwk()["d"]):
        assert secret not in str(caught.value).replace("holds a secret key", "")


def test_everything_wrong_is_said_at_once(city: City, founder: Principal) -> None:
    with refused(Reason.INVALID_ARGUMENT) as caught:
        parties.create_party(city.hall, founder, None, **newcomer(party="A", kind="x", issuer="", jwks=""))
    assert len(caught.value.violations) == 4


@pytest.mark.parametrize(
    "changed", [{"party": COMPANY}, {"issuer": f"https://issuer.{COMPANY}.example"}, {"root_key": existing_root}]
)
def test_what_is_taken(city: City, founder: Principal, changed: dict[str, str]) -> None:
    with refused(Reason.ALREADY_EXISTS):
        parties.create_party(city.hall, founder, None, **newcomer(**changed))
    assert events(city) == []


def test_a_company_does_not_learn_of_other_companies(city: City, founder: Principal) -> None:
    parties.create_party(city.hall, founder, None, **newcomer())
    outsider = city.who(COMPANY, "a@metro.example", "requester")
    seen = {party.party for party in parties.list_(city.hall, outsider).items}
    assert seen == {PROVIDER, "disease-control-centre", COORDINATION, SUPERVISION, COMPANY}
    steward = city.who(PROVIDER, STEWARD, "steward")
    assert {party.party for party in parties.list_(city.hall, steward).items} == {*seen, "ride-share"}
    actions: list[Callable[[str], object]] = [
        lambda name: parties.get(city.hall, outsider, name),
        lambda name: parties.list_keys(city.hall, outsider, parent=name),
        lambda name: parties.list_gateways(city.hall, outsider, parent=name),
    ]
    for action in actions:
        hidden, absent = _error(lambda: action("parties/ride-share")), _error(lambda: action("parties/ride-shore"))  # noqa: B023
        assert hidden.reason is absent.reason is Reason.NOT_FOUND
        assert hidden.message == absent.message.replace("shore", "share")


def _error(action: Callable[[], object]) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        action()
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        "",
        "parties/",
        "parties/../health-bureau",
        "parties/health-bureau/",
        "parties/a\x00",
        "health-bureau",
        "parties/%2e%2e",
    ],
)
def test_names_with_path_characters(city: City, founder: Principal, name: str) -> None:
    with refused(Reason.NOT_FOUND):
        parties.get(city.hall, founder, name)


# --- people


def test_people_get_and_lose_roles(city: City, admin: Principal) -> None:
    def give(subject: str, *roles: str) -> records.Person:
        call = city.call(admin, "RegisterPrincipal", [subject, *roles])
        return parties.register_principal(
            city.hall, admin, call, parent=f"parties/{PROVIDER}", subject=subject, roles=roles
        )

    give("admin@health.example", "admin")
    first = give(STEWARD, "steward", "dpo", "steward")
    assert (first.name, first.roles) == (f"parties/{PROVIDER}/principals/{STEWARD}", ("dpo", "steward"))
    again = give(STEWARD)
    assert (again.roles, again.version, again.created) == ((), 2, first.created)
    listed = parties.list_principals(city.hall, admin, parent=f"parties/{PROVIDER}").items
    assert {person.subject: person.roles for person in listed} == {"admin@health.example": ("admin",), STEWARD: ()}
    assert events(city) == ["principal.registered"] * 3


def test_a_replayed_registration_is_done_once(city: City, admin: Principal) -> None:
    call = city.call(admin, "RegisterPrincipal", 1)
    arguments = {"parent": f"parties/{PROVIDER}", "subject": STEWARD, "roles": ("steward",)}
    first = parties.register_principal(city.hall, admin, call, **arguments)  # type: ignore[arg-type]
    assert parties.register_principal(city.hall, admin, call, **arguments) == first  # type: ignore[arg-type]
    with refused(Reason.REQUEST_ID_REUSED):
        parties.register_principal(city.hall, admin, msgspec.structs.replace(call, body_digest="x"), **arguments)  # type: ignore[arg-type]
    assert events(city) == ["principal.registered"]


def test_a_party_registers_its_own_people_only(city: City, admin: Principal) -> None:
    for who, parent in [(admin, f"parties/{COMPANY}"), (city.who(PROVIDER, STEWARD, "steward"), f"parties/{PROVIDER}")]:
        with refused(Reason.ROLE_MISSING):
            parties.register_principal(city.hall, who, None, parent=parent, subject="x@y.example", roles=("requester",))
    with refused(Reason.NOT_FOUND):
        parties.list_principals(city.hall, admin, parent=f"parties/{COMPANY}")


@pytest.mark.parametrize(
    ("party", "subject", "roles"),
    [
        (PROVIDER, "a/b", ("steward",)),
        (PROVIDER, "", ("steward",)),
        (PROVIDER, "../x", ("steward",)),
        (PROVIDER, "a\x00", ("steward",)),
        (PROVIDER, "x" * 201, ("steward",)),
        (PROVIDER, "x", ("king",)),
        (PROVIDER, "x", ("mediator",)),
        (PROVIDER, "x", ("auditor",)),
        (COMPANY, "x", ("gateway",)),
        (COMPANY, "x", ("steward",)),
        (SUPERVISION, "x", ("mediator",)),
    ],
)
def test_people_that_cannot_be(city: City, party: str, subject: str, roles: tuple[str, ...]) -> None:
    who = city.who(party, "admin@x.example", "admin")
    with refused(Reason.INVALID_ARGUMENT):
        parties.register_principal(city.hall, who, None, parent=f"parties/{party}", subject=subject, roles=roles)


def test_a_party_keeps_an_admin(city: City, admin: Principal) -> None:
    def give(subject: str, *roles: str) -> None:
        parties.register_principal(city.hall, admin, None, parent=f"parties/{PROVIDER}", subject=subject, roles=roles)

    give("admin@health.example", "admin")
    for roles in ((), ("dpo",)):
        with refused(Reason.STATE_WRONG):
            give("admin@health.example", *roles)
    give("second@health.example", "admin")
    give("admin@health.example", "dpo")


# --- keys


def register(city: City, who: Principal, statement: Envelope, call: Call | None = None) -> records.Key:
    return parties.register_key(city.hall, who, call, parent=f"parties/{who.party}", statement=statement)


def test_a_key_is_stated_once_and_revoked(city: City, admin: Principal) -> None:
    statement = city.cast.statement(PROVIDER, STEWARD, Use.APPROVER)
    call = city.call(admin, "RegisterKey", statement.digest)
    made = register(city, admin, statement, call)
    assert (made.name, made.subject, made.use) == (f"parties/{PROVIDER}/keys/{key(STEWARD).kid}", STEWARD, "approver")
    assert register(city, admin, statement, call) == made
    with refused(Reason.REQUEST_ID_REUSED):
        register(city, admin, statement, msgspec.structs.replace(call, body_digest="x"))
    with refused(Reason.ALREADY_EXISTS):
        register(city, admin, statement)
    gone = register(city, admin, city.cast.revocation(PROVIDER, STEWARD, NOW))
    assert gone.revocation == city.cast.revocation(PROVIDER, STEWARD, NOW).to_bytes()
    assert events(city) == ["key.revoked", "key.registered"]
    listed = parties.list_keys(
        city.hall, city.who(COMPANY, "a@metro.example", "requester"), parent=f"parties/{PROVIDER}"
    )
    assert listed.items == (gone,)


def test_a_revocation_only_moves_back(city: City, admin: Principal) -> None:
    register(city, admin, city.cast.statement(PROVIDER, STEWARD, Use.APPROVER))
    register(city, admin, city.cast.revocation(PROVIDER, STEWARD, NOW + DAY))
    for at in (NOW + DAY, NOW + 2 * DAY):
        with refused(Reason.STATE_WRONG):
            register(city, admin, city.cast.revocation(PROVIDER, STEWARD, at))
    earlier = register(city, admin, city.cast.revocation(PROVIDER, STEWARD, NOW - 60))
    assert earlier.revocation is not None
    assert Envelope.from_bytes(earlier.revocation).payload["at"] == rfc3339(NOW - 60)


def test_a_revocation_does_not_reach_into_the_past(city: City, admin: Principal) -> None:
    """What was signed and relied on would be undone; a clock may differ by a minute."""
    register(city, admin, city.cast.statement(PROVIDER, STEWARD, Use.APPROVER))
    for at in (NOW - 61, NOW - DAY):
        with refused(Reason.INVALID_ARGUMENT):
            register(city, admin, city.cast.revocation(PROVIDER, STEWARD, at))
    assert events(city) == ["key.registered"]


def test_only_the_root_states_keys(city: City, admin: Principal) -> None:
    good = city.cast.statement(PROVIDER, STEWARD, Use.APPROVER)
    for signer in (STEWARD, f"root:{COMPANY}", "checkpoint"):
        with refused(Reason.KEY_UNTRUSTED):
            register(city, admin, sign(Kind.KEY, good.payload, key(signer)))
    forged = Envelope({**good.payload, "subject": "other@health.example"}, good.signatures)
    with refused(Reason.SIGNATURE_INVALID):
        register(city, admin, forged)
    with refused(Reason.SIGNATURE_INVALID):
        register(city, admin, Envelope(good.payload, ()))
    with refused(Reason.SIGNATURE_INVALID):
        register(city, admin, sign(Kind.REVOCATION, good.payload, key(f"root:{PROVIDER}")))
    assert events(city) == []


def statement_of(party: str, owner: str, **changed: object) -> KeyStatement:
    made = KeyStatement(
        party=party,
        subject="x@y.example",
        use=Use.APPROVER,
        key=key(owner).public,
        not_before=rfc3339(NOW),
        not_after=rfc3339(NOW + DAY),
    )
    return msgspec.structs.replace(made, **changed)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (statement_of(COMPANY, "x"), Reason.INVALID_ARGUMENT),
        (statement_of(PROVIDER, "x", not_after=rfc3339(NOW)), Reason.INVALID_ARGUMENT),
        (statement_of(PROVIDER, "x", not_after="tomorrow"), Reason.INVALID_ARGUMENT),
        (statement_of(PROVIDER, f"root:{PROVIDER}"), Reason.ALREADY_EXISTS),
        (statement_of(PROVIDER, f"root:{COMPANY}"), Reason.ALREADY_EXISTS),
        (statement_of(PROVIDER, "grant"), Reason.ALREADY_EXISTS),
        (statement_of(PROVIDER, "checkpoint"), Reason.ALREADY_EXISTS),
        ({"party": PROVIDER, "subject": 7}, Reason.INVALID_ARGUMENT),
        (KeyRevocation(party=PROVIDER, kid="unknown", at=rfc3339(NOW), reason="lost"), Reason.NOT_FOUND),
        (KeyRevocation(party=PROVIDER, kid="../../x", at=rfc3339(NOW), reason="lost"), Reason.NOT_FOUND),
        (KeyRevocation(party=COMPANY, kid="unknown", at=rfc3339(NOW), reason="lost"), Reason.INVALID_ARGUMENT),
    ],
)
def test_statements_that_cannot_be(
    city: City, admin: Principal, statement: KeyStatement | KeyRevocation | dict[str, object], reason: Reason
) -> None:
    kind = Kind.REVOCATION if isinstance(statement, KeyRevocation) else Kind.KEY
    with refused(reason):
        register(city, admin, sign(kind, statement, key(f"root:{PROVIDER}")))


def test_a_key_belongs_to_one_party(city: City, admin: Principal) -> None:
    register(city, admin, city.cast.statement(PROVIDER, STEWARD, Use.APPROVER))
    other = city.who(COMPANY, "admin@metro.example", "admin")
    with refused(Reason.ALREADY_EXISTS):
        register(city, other, city.cast.statement(COMPANY, "thief@metro.example", Use.REQUESTER, owner=STEWARD))
    with refused(Reason.ROLE_MISSING):
        parties.register_key(
            city.hall, other, None, parent=f"parties/{PROVIDER}", statement=city.cast.revocation(PROVIDER, STEWARD, NOW)
        )


# --- gateways


@pytest.fixture(scope="module")
def certificate() -> str:
    return tls.self_signed(now=NOW)[0].decode()


def test_a_gateway_is_said_and_moved(city: City, admin: Principal, certificate: str) -> None:
    def say(port: int, call: Call | None = None) -> records.Gateway:
        return parties.register_gateway(
            city.hall,
            admin,
            call,
            parent=f"parties/{PROVIDER}",
            gateway=GATEWAY,
            address=f"grpc+tls://gate.health.example:{port}",
            ca_certificate=certificate,
        )

    call = city.call(admin, "RegisterGateway", 1)
    first = say(1, call)
    assert (first.name, first.version) == (f"parties/{PROVIDER}/gateways/{GATEWAY}", 1)
    assert say(1, call) == first
    with refused(Reason.REQUEST_ID_REUSED):
        say(2, msgspec.structs.replace(call, body_digest="x"))
    moved = say(2)
    assert (moved.version, moved.address, moved.created) == (2, "grpc+tls://gate.health.example:2", first.created)
    assert parties.list_gateways(city.hall, admin, parent=f"parties/{PROVIDER}").items == (moved,)
    assert events(city) == ["gateway.registered"] * 2


@pytest.mark.parametrize(
    ("gateway", "address", "with_certificate"),
    [
        ("A", "grpc+tls://h:1", True),
        ("a/b", "grpc+tls://h:1", True),
        ("", "grpc+tls://h:1", True),
        ("g", "http://h:1", True),
        ("g", "grpc+tls://h", True),
        ("g", "grpc+tls://h:0", True),
        ("g", "grpc+tls://h:99999", True),
        ("g", "grpc+tls://:1", True),
        ("g", "grpc+tls://h:1/path", True),
        ("g", "grpc+tls://h:1?x=1", True),
        ("g", "grpc+tls://u:p@h:1", True),
        ("g", "grpc+tls://[::1", True),
        ("g", "grpc+tcp://gate.health.example:1", True),
        ("g", "", True),
        ("g", "grpc+tls://h:1", False),
    ],
)
def test_gateways_that_cannot_be(
    city: City, admin: Principal, certificate: str, gateway: str, address: str, with_certificate: bool
) -> None:
    pem = certificate if with_certificate else ""
    with refused(Reason.INVALID_ARGUMENT):
        parties.register_gateway(
            city.hall, admin, None, parent=f"parties/{PROVIDER}", gateway=gateway, address=address, ca_certificate=pem
        )


def test_a_private_key_is_no_certificate(city: City, admin: Principal) -> None:
    certificate, secret = (part.decode() for part in tls.self_signed(now=NOW))
    for pem in (
        secret,
        certificate + secret,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        certificate * 200,
    ):
        with refused(Reason.INVALID_ARGUMENT) as caught:
            parties.register_gateway(
                city.hall,
                admin,
                None,
                parent=f"parties/{PROVIDER}",
                gateway="g",
                address="grpc+tls://h:1",
                ca_certificate=pem,
            )
        assert secret.splitlines()[1] not in str(caught.value)


def test_plaintext_is_for_loopback(city: City, admin: Principal) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        said = parties.register_gateway(
            city.hall,
            admin,
            None,
            parent=f"parties/{PROVIDER}",
            gateway="g",
            address=f"grpc+tcp://{host}:7460",
            ca_certificate="",
        )
        assert said.address == f"grpc+tcp://{host}:7460"


def test_only_departments_have_gateways(city: City, certificate: str) -> None:
    for who, parent in [
        (city.who(COMPANY, "a@metro.example", "admin"), f"parties/{COMPANY}"),
        (city.who(COMPANY, "a@metro.example", "admin"), f"parties/{PROVIDER}"),
        (city.who(PROVIDER, STEWARD, "steward"), f"parties/{PROVIDER}"),
    ]:
        with refused(Reason.ROLE_MISSING):
            parties.register_gateway(
                city.hall, who, None, parent=parent, gateway="g", address="grpc+tls://h:1", ca_certificate=certificate
            )


# --- pages


@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1, -(2**31)])
def test_page_sizes_that_cannot_be(city: City, admin: Principal, size: int) -> None:
    parent = f"parties/{PROVIDER}"
    for action in (
        lambda: parties.list_(city.hall, admin, page_size=size),
        lambda: parties.list_principals(city.hall, admin, parent=parent, page_size=size),
        lambda: parties.list_keys(city.hall, admin, parent=parent, page_size=size),
        lambda: parties.list_gateways(city.hall, admin, parent=parent, page_size=size),
    ):
        with refused(Reason.INVALID_ARGUMENT) as caught:
            action()
        assert caught.value.violations[0].path == "page_size"


def test_pages_of_parties(city: City, admin: Principal) -> None:
    whole = parties.list_(city.hall, admin).items
    assert parties.list_(city.hall, admin).next_token == ""
    walked: list[records.Party] = []
    token = ""
    while True:
        page = parties.list_(city.hall, admin, page_size=2, page_token=token)
        walked += page.items
        token = page.next_token
        if not token:
            break
    assert tuple(walked) == whole
    assert len(whole) == 5
    assert {party.kind for party in whole} == set(PartyKind)
