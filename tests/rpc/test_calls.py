"""What every call must bring, whatever it is about: deadline, page size, etag, request id, name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from contracts.envelope import SigningKey
from contracts.errors import Reason, SluicegateError
from exchange.identity import jwk_set
from exchange.v1 import (
    agreement_pb2,
    agreement_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    party_pb2,
    party_pb2_grpc,
    request_pb2,
    request_pb2_grpc,
    transfer_pb2,
    transfer_pb2_grpc,
)
from tests.halls import refused
from tests.rpc.served import Served, fresh_id, refused_call

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hospital-visits.odcs.yaml"
STUBS: dict[str, Callable[[grpc.Channel], Any]] = {
    "party": party_pb2_grpc.PartyServiceStub,
    "catalog": catalog_pb2_grpc.CatalogServiceStub,
    "request": request_pb2_grpc.RequestServiceStub,
    "agreement": agreement_pb2_grpc.AgreementServiceStub,
    "transfer": transfer_pb2_grpc.TransferServiceStub,
    "ledger": ledger_pb2_grpc.LedgerServiceStub,
}
LISTINGS: list[tuple[str, str, Any, dict[str, str]]] = [
    ("party", "ListParties", party_pb2.ListPartiesRequest, {}),
    ("party", "ListPrincipals", party_pb2.ListPrincipalsRequest, {"parent": "parties/health-bureau"}),
    ("party", "ListKeys", party_pb2.ListKeysRequest, {"parent": "parties/health-bureau"}),
    ("party", "ListGateways", party_pb2.ListGatewaysRequest, {"parent": "parties/health-bureau"}),
    ("catalog", "ListDatasets", catalog_pb2.ListDatasetsRequest, {"parent": "parties/-"}),
    ("catalog", "SearchDatasets", catalog_pb2.SearchDatasetsRequest, {"query": "visits"}),
    (
        "catalog",
        "ListContracts",
        catalog_pb2.ListContractsRequest,
        {"parent": "parties/health-bureau/datasets/hospital-visits"},
    ),
    ("request", "ListRequests", request_pb2.ListRequestsRequest, {}),
    ("agreement", "ListAgreements", agreement_pb2.ListAgreementsRequest, {}),
    ("transfer", "ListTransfers", transfer_pb2.ListTransfersRequest, {}),
    ("ledger", "ListEntries", ledger_pb2.ListEntriesRequest, {}),
]


def who_am_i(served: Served, timeout: float | None) -> Any:
    stub = party_pb2_grpc.PartyServiceStub(served.channel())
    return stub.WhoAmI(party_pb2.WhoAmIRequest(), timeout=timeout, metadata=served.bearer("steward"))


def a_person(served: Served, name: str = "admin") -> Callable[..., Any]:
    """Register somebody by the stock stub; the arguments are the message's."""
    stub = party_pb2_grpc.PartyServiceStub(served.channel())
    metadata = served.bearer(name)

    def register(**fields: Any) -> Any:
        message = party_pb2.RegisterPrincipalRequest(
            **{"parent": "parties/city-data-office", "subject": "new@cdo.example", "roles": ["auditor"], **fields}
        )
        return stub.RegisterPrincipal(message, timeout=10, metadata=metadata)

    return register


def test_a_call_within_the_deadline_is_answered(served: Served) -> None:
    assert who_am_i(served, 10).name == "parties/health-bureau/principals/steward@health.example"
    assert who_am_i(served, 120).roles == ["steward"]


@pytest.mark.parametrize("timeout", [None, 3600, 10**8])
def test_a_call_without_a_near_deadline_is_refused(served: Served, timeout: float | None) -> None:
    error = refused_call(lambda: who_am_i(served, timeout))
    assert error.reason is Reason.DEADLINE_REQUIRED
    assert "at most 120 s" in error.message
    assert error.metadata["maxDeadlineSeconds"] == "120"


@pytest.mark.parametrize(("service", "method", "message", "fields"), LISTINGS, ids=[each[1] for each in LISTINGS])
@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1])
def test_page_sizes_are_bounded(
    served: Served, service: str, method: str, message: Any, fields: dict[str, str], size: int
) -> None:
    if method == "ListContracts":
        served.client("steward").publish(EXAMPLE.read_bytes(), gateway="health-bureau-1")
    call = getattr(STUBS[service](served.channel()), method)
    request = message(page_size=size, **fields)
    error = refused_call(lambda: call(request, timeout=10, metadata=served.bearer("steward")))
    assert error.reason is Reason.INVALID_ARGUMENT
    assert [violation.path for violation in error.violations] == ["page_size"]


@pytest.mark.parametrize(("service", "method", "message", "fields"), LISTINGS, ids=[each[1] for each in LISTINGS])
def test_a_made_up_page_token_is_refused(
    served: Served, service: str, method: str, message: Any, fields: dict[str, str]
) -> None:
    if method == "ListContracts":
        served.client("steward").publish(EXAMPLE.read_bytes(), gateway="health-bureau-1")
    call = getattr(STUBS[service](served.channel()), method)
    request = message(page_token="AAAA", **fields)
    error = refused_call(lambda: call(request, timeout=10, metadata=served.bearer("steward")))
    assert error.reason is Reason.PAGE_TOKEN_INVALID


def test_pages_follow_each_other_to_the_end(served: Served) -> None:
    stub = party_pb2_grpc.PartyServiceStub(served.channel())
    seen, token = [], ""
    while True:
        message = party_pb2.ListPartiesRequest(page_size=1, page_token=token)
        page = stub.ListParties(message, timeout=10, metadata=served.bearer("steward"))
        seen += [party.name for party in page.parties]
        if not (token := page.next_page_token):
            break
        assert len(page.parties) == 1
    assert sorted(seen) == sorted(party.name for party in served.client("steward").parties())
    assert len(seen) == len(set(seen)) == 4


def test_a_page_token_does_not_fit_another_listing_or_caller(served: Served) -> None:
    stub = party_pb2_grpc.PartyServiceStub(served.channel())
    first = stub.ListParties(
        party_pb2.ListPartiesRequest(page_size=1), timeout=10, metadata=served.bearer("steward")
    ).next_page_token
    for name, call, message in (
        ("dpo", stub.ListParties, party_pb2.ListPartiesRequest(page_token=first)),
        ("steward", stub.ListKeys, party_pb2.ListKeysRequest(parent="parties/health-bureau", page_token=first)),
    ):
        error = refused_call(lambda: call(message, timeout=10, metadata=served.bearer(name)))  # noqa: B023
        assert error.reason is Reason.PAGE_TOKEN_INVALID


def test_a_limit_ends_a_listing_of_our_client(served: Served) -> None:
    client = served.client("steward")
    assert len(list(client.parties(limit=3))) == 3
    assert len(list(client.parties())) == 4


def test_a_repeated_call_gets_the_first_answer_and_changes_nothing_more(served: Served) -> None:
    register, client = a_person(served), served.client("auditor")
    request_id = fresh_id()
    first = register(request_id=request_id)
    told = [entry.event for entry in client.entries(resource=first.name)]
    assert register(request_id=request_id) == first
    assert register(request_id=request_id, roles=["auditor"]) == first
    assert [entry.event for entry in client.entries(resource=first.name)] == told == ["principal.registered"]


def test_a_request_id_is_good_for_one_body(served: Served) -> None:
    register = a_person(served)
    request_id = fresh_id()
    register(request_id=request_id)
    error = refused_call(lambda: register(request_id=request_id, roles=["mediator"]))
    assert error.reason is Reason.REQUEST_ID_REUSED
    assert register(request_id=fresh_id(), roles=["mediator"]).roles == ["mediator"]


def test_a_request_id_is_its_callers_own(served: Served) -> None:
    request_id = fresh_id()
    a_person(served)(request_id=request_id)
    made = a_person(served, "planner")(
        request_id=request_id, parent="parties/metro-lines", subject="two@metro.example", roles=["requester"]
    )
    assert made.name == "parties/metro-lines/principals/two@metro.example"


@pytest.mark.parametrize(
    "request_id",
    ["", "1", "not-a-uuid", "6fa459ea-ee8a-11d8-9aae-0800200c9a66", "6fa459ea-ee8a-3ca4-894e-db77e160355e", "x" * 9000],
    ids=["empty", "short", "words", "version-1", "version-3", "long"],
)
def test_every_change_carries_a_uuid4(served: Served, request_id: str) -> None:
    error = refused_call(lambda: a_person(served)(request_id=request_id))
    assert error.reason is Reason.INVALID_ARGUMENT
    assert [violation.path for violation in error.violations] == ["request_id"]


def test_a_stale_etag_is_refused_and_a_missing_one_named(served: Served) -> None:
    steward = served.client("steward")
    first = steward.publish(EXAMPLE.read_bytes(), gateway="health-bureau-1")
    newer = EXAMPLE.read_bytes().replace(b"version: 2.1.0", b"version: 2.1.1")
    second = steward.publish(newer, gateway="health-bureau-1", etag=first.etag)
    assert second.etag != first.etag
    newest = EXAMPLE.read_bytes().replace(b"version: 2.1.0", b"version: 2.1.2")
    with refused(Reason.ETAG_MISMATCH):
        steward.publish(newest, gateway="health-bureau-1", etag=first.etag)


def test_listed_contracts_come_without_their_documents(served: Served) -> None:
    """A page of a hundred documents of 2 MiB would be larger than any message."""
    steward = served.client("steward")
    made = steward.publish(EXAMPLE.read_bytes(), gateway="health-bureau-1")
    listed = list(steward.contracts(made.name))
    assert [each.document for each in listed] == [""]
    assert steward.contract(listed[0].name).document.encode() == EXAMPLE.read_bytes()


def test_an_etag_guards_a_decision(served: Served) -> None:
    served.client("steward").publish(EXAMPLE.read_bytes(), gateway="health-bureau-1")
    asked = served.client("planner").request(
        "health-bureau/hospital-visits", purpose="transport-planning", reason="night buses"
    )
    stub = request_pb2_grpc.RequestServiceStub(served.channel())

    def cancel(etag: str) -> Any:
        message = request_pb2.CancelRequestRequest(name=asked.name, etag=etag, request_id=fresh_id())
        return stub.CancelRequest(message, timeout=10, metadata=served.bearer("planner"))

    assert refused_call(lambda: cancel('"77"')).reason is Reason.ETAG_MISMATCH
    assert refused_call(lambda: cancel("")).reason is Reason.INVALID_ARGUMENT
    assert cancel(asked.etag).state == "CANCELLED"


NAMES = ["../parties/health-bureau", "parties/../parties/health-bureau", "parties/health-bureau/..", "a\0b", "%2e%2e"]


@pytest.mark.parametrize("name", [*NAMES, "", "/", "parties/", "x" * 5000, "parties/\u202e", "'; DROP TABLE parties"])
def test_names_with_path_characters_name_nothing(served: Served, name: str) -> None:
    calls: list[tuple[str, str, Any]] = [
        ("party", "GetParty", party_pb2.GetPartyRequest(name=name)),
        ("catalog", "GetDataset", catalog_pb2.GetDatasetRequest(name=name)),
        ("catalog", "GetContract", catalog_pb2.GetContractRequest(name=name)),
        ("request", "GetRequest", request_pb2.GetRequestRequest(name=name)),
        ("agreement", "GetAgreement", agreement_pb2.GetAgreementRequest(name=name)),
        ("agreement", "GetAgreementBundle", agreement_pb2.GetAgreementBundleRequest(name=f"{name}/bundle")),
        ("transfer", "GetTransfer", transfer_pb2.GetTransferRequest(name=name)),
        ("transfer", "CreateTransfer", transfer_pb2.CreateTransferRequest(agreement=name, request_id=fresh_id())),
    ]
    channel = served.channel()
    for service, method, message in calls:
        call = getattr(STUBS[service](channel), method)
        error = refused_call(lambda: call(message, timeout=10, metadata=served.bearer("planner")))  # noqa: B023
        assert error.reason in (Reason.NOT_FOUND, Reason.INVALID_ARGUMENT), method


def test_ids_with_path_characters_are_not_registered(served: Served) -> None:
    admin = served.client("admin")
    key = json.dumps({"kty": "OKP", "crv": "Ed25519", "x": SigningKey.from_seed(b"k" * 32).public.x})
    keys = jwk_set(SigningKey.from_seed(b"i" * 32).public)
    for party in ("../x", "a/b", "A", "-a", "a" * 64, "", "a\0"):
        with refused(Reason.INVALID_ARGUMENT):
            admin.create_party(party, kind="company", root_key=key, issuer="https://i", jwks=keys, admin="a@b.example")
    for subject in ("../x", "a/b", "", "a b", "a\n"):
        with refused(Reason.INVALID_ARGUMENT):
            admin.register_principal(subject, ("auditor",))


@pytest.mark.parametrize("service", ["PublishContract", "CreateRequest"])
def test_a_missing_document_is_named(served: Served, service: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "PublishContract": lambda: catalog_pb2_grpc.CatalogServiceStub(served.channel()).PublishContract(
            catalog_pb2.PublishContractRequest(parent="parties/health-bureau", request_id=fresh_id()),
            timeout=10,
            metadata=served.bearer("steward"),
        ),
        "CreateRequest": lambda: request_pb2_grpc.RequestServiceStub(served.channel()).CreateRequest(
            request_pb2.CreateRequestRequest(request_id=fresh_id()), timeout=10, metadata=served.bearer("planner")
        ),
    }
    error = refused_call(calls[service])
    assert (error.reason, error.violations[0].path) == (Reason.INVALID_ARGUMENT, "statement")


def test_the_client_knows_its_exchange_by_its_certificate(served: Served, founded: Path, tmp_path: Path) -> None:
    from msgspec.structs import replace

    from connectors import tls
    from exchange.client import Exchange

    stranger, _ = tls.self_signed(now=1_700_000_000)
    (tmp_path / "other.pem").write_bytes(stranger)
    profile = replace(served.profile("steward"), ca=tmp_path / "other.pem", timeout=3)
    with Exchange(profile) as exchange, pytest.raises(SluicegateError) as caught:
        exchange.whoami()
    assert caught.value.reason is Reason.UNAVAILABLE
    assert "certificate" in caught.value.message
