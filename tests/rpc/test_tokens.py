"""Who calls: every bad token is a typed error with ErrorInfo, the same in every service."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import grpc
import jwt
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from contracts.envelope import SigningKey
from contracts.errors import Reason
from exchange import keyfiles
from exchange.v1 import ledger_pb2, ledger_pb2_grpc, party_pb2, party_pb2_grpc
from tests.rpc.served import Served, refused_call

ISSUER = "https://issuer.health-bureau.example"


def issuer_key(served: Served, party: str = "health-bureau") -> SigningKey:
    return keyfiles.read_key(served.home.party(party) / "issuer.jwk")


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    made: dict[str, object] = {
        "iss": ISSUER,
        "sub": "steward@health.example",
        "aud": "sluicegate-exchange",
        "iat": now,
        "exp": now + 300,
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def call(served: Served, metadata: list[tuple[str, str]]) -> Any:
    stub = party_pb2_grpc.PartyServiceStub(served.channel())
    return stub.WhoAmI(party_pb2.WhoAmIRequest(), timeout=10, metadata=metadata)


def with_token(served: Served, token: str) -> Any:
    return call(served, [("authorization", f"Bearer {token}")])


def test_a_good_token_is_believed(served: Served) -> None:
    assert with_token(served, issuer_key(served).token(claims())).party_kind == "department"


def test_the_scheme_may_be_written_in_any_case(served: Served) -> None:
    token = issuer_key(served).token(claims())
    assert call(served, [("authorization", f"bearer {token}")]).party_kind == "department"


def test_the_error_of_a_call_without_token_is_typed(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(served, [])
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("TOKEN_MISSING", "sluicegate")
    assert len(info.metadata["requestId"]) == 36


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], Reason.TOKEN_MISSING),
        ([("authorization", "")], Reason.TOKEN_INVALID),
        ([("authorization", "Bearer")], Reason.TOKEN_INVALID),
        ([("authorization", "Bearer ")], Reason.TOKEN_MISSING),
        ([("authorization", "Basic c3Rld2FyZDpwdw==")], Reason.TOKEN_INVALID),
        ([("authorization", "Bearer x"), ("authorization", "Bearer y")], Reason.TOKEN_INVALID),
        ([("authorization", "Bearer not.a.token")], Reason.TOKEN_INVALID),
    ],
)
def test_headers_that_are_no_one_bearer_token(served: Served, headers: list[tuple[str, str]], reason: Reason) -> None:
    assert refused_call(lambda: call(served, headers)).reason is reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7000}, Reason.TOKEN_EXPIRED),
        ({"iat": int(time.time()) + 3600, "exp": int(time.time()) + 7000}, Reason.TOKEN_EXPIRED),
        ({"nbf": int(time.time()) + 3600}, Reason.TOKEN_EXPIRED),
        ({"aud": "somebody-else"}, Reason.TOKEN_INVALID),
        ({"iss": "https://issuer.nowhere.example"}, Reason.TOKEN_INVALID),
        ({"iss": "https://issuer.metro-lines.example"}, Reason.TOKEN_INVALID),
        ({"sub": "planner@metro.example"}, Reason.PRINCIPAL_UNKNOWN),
        ({"sub": None}, Reason.TOKEN_INVALID),
        ({"exp": None}, Reason.TOKEN_INVALID),
        ({"exp": int(time.time()) + 90_000}, Reason.TOKEN_INVALID),
    ],
    ids=[
        "expired",
        "from later",
        "not yet",
        "audience",
        "issuer",
        "other party",
        "subject",
        "nobody",
        "endless",
        "long",
    ],
)
def test_claims_that_do_not_hold(served: Served, changes: dict[str, object], reason: Reason) -> None:
    assert refused_call(lambda: with_token(served, issuer_key(served).token(claims(**changes)))).reason is reason


def test_a_token_without_signature_is_refused(served: Served) -> None:
    kid = issuer_key(served).kid
    for algorithm in ("none", "None", ""):
        token = f"{part({'alg': algorithm, 'kid': kid})}.{part(claims())}."
        assert refused_call(lambda: with_token(served, token)).reason is Reason.TOKEN_INVALID  # noqa: B023


def test_the_public_key_is_no_shared_secret(served: Served) -> None:
    key = issuer_key(served)
    secret = base64.urlsafe_b64decode(key.public.x + "=")
    token = jwt.encode(claims(), secret, "HS256", {"kid": key.kid})
    assert refused_call(lambda: with_token(served, token)).reason is Reason.TOKEN_INVALID


def test_a_key_that_the_issuer_has_not_is_refused(served: Served) -> None:
    other = issuer_key(served, "metro-lines")
    for token in (
        other.token(claims()),
        jwt.encode(claims(), issuer_key(served)._private, "EdDSA", {"kid": other.kid}),
        jwt.encode(claims(), issuer_key(served)._private, "EdDSA", {"kid": "unknown"}),
    ):
        assert refused_call(lambda: with_token(served, token)).reason is Reason.TOKEN_INVALID  # noqa: B023


def test_an_issuer_speaks_for_its_own_party_alone(served: Served) -> None:
    """The key of metro lines signs what the health bureau's issuer would say."""
    key = issuer_key(served, "metro-lines")
    assert refused_call(lambda: with_token(served, key.token(claims()))).reason is Reason.TOKEN_INVALID
    theirs = claims(iss="https://issuer.metro-lines.example")
    assert refused_call(lambda: with_token(served, key.token(theirs))).reason is Reason.PRINCIPAL_UNKNOWN


def test_who_lost_every_role_is_unknown(served: Served) -> None:
    served.client("dpo").register_principal("steward@health.example", ())
    error = refused_call(lambda: with_token(served, issuer_key(served).token(claims())))
    assert error.reason is Reason.PRINCIPAL_UNKNOWN


def test_no_error_repeats_the_token(served: Served) -> None:
    token = issuer_key(served).token(claims(aud="another"))
    error = refused_call(lambda: with_token(served, token))
    shown = f"{error} {error.metadata}"
    assert not any(piece in shown for piece in token.split("."))


def test_streams_and_every_service_ask_for_the_token_too(served: Served) -> None:
    stub = ledger_pb2_grpc.LedgerServiceStub(served.channel())
    error = refused_call(lambda: stub.GetCheckpoint(ledger_pb2.GetCheckpointRequest(), timeout=10))
    assert error.reason is Reason.TOKEN_MISSING
