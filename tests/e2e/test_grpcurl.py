"""A stock grpcurl against the running exchange: reflection over TLS, and errors that a machine can read."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import Any

import pytest

from tests.e2e.city import City

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e"), pytest.mark.needs_grpcurl]

SERVICES = {
    "exchange.v1.AgreementService": "SignAgreement",
    "exchange.v1.CatalogService": "PublishContract",
    "exchange.v1.LedgerService": "GetInclusionProof",
    "exchange.v1.PartyService": "RegisterKey",
    "exchange.v1.RequestService": "ApproveRequest",
    "exchange.v1.TransferService": "CreateTransfer",
}


def grpcurl(city: City, *words: str, ca: str = "", fails: bool = False) -> str:
    """Run grpcurl against the exchange; what it printed, on standard error where it failed."""
    program = os.environ.get("SLUICEGATE_GRPCURL") or shutil.which("grpcurl")
    assert program is not None
    options = [word for word in words if word.startswith("-")]
    address = f"localhost:{city.town.addresses['exchange'].rsplit(':', 1)[1]}"
    # An option and its value are given as one word, `-option=value`.
    rest = [word for word in words if not word.startswith("-")]
    done = subprocess.run(
        [program, f"-cacert={ca or city.home.root / 'ca.pem'}", *options, address, *rest],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


def refused(city: City, *words: str) -> dict[str, Any]:
    """The status of a call that is refused, as grpcurl prints it: code, message, details by type."""
    told = json.loads(grpcurl(city, "-format-error", *words, fails=True))
    details = {detail["@type"].rsplit(".", 1)[1]: detail for detail in told.get("details", [])}
    return {"code": told["code"], "message": told["message"], **details}


@pytest.fixture(scope="module")
def bearer(city: City) -> str:
    """A header with the analyst's token."""
    token = city.run("token", "--show", "--as", "analyst").stdout.strip()
    return f"-H=authorization: Bearer {token}"


def test_it_lists_the_services(city: City) -> None:
    listed = grpcurl(city, "list").split()
    assert sorted(listed) == sorted([*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"])


@pytest.mark.parametrize("service", SERVICES)
def test_it_describes_a_service(city: City, service: str) -> None:
    told = grpcurl(city, "describe", service)
    methods = re.findall(r"rpc (\w+) \(", told)
    assert SERVICES[service] in methods
    message = re.search(rf"rpc {SERVICES[service]} \( \.([\w.]+) \)", told)
    assert message is not None
    assert "request_id" in grpcurl(city, "describe", message[1]) or service == "exchange.v1.LedgerService"


def test_without_the_exchange_s_certificate_nothing_is_said(city: City) -> None:
    other = city.home.gateway("statistics-office-1").parent / "tls" / "cert.pem"
    assert "certificate" in grpcurl(city, "list", ca=str(other), fails=True)


def test_health_needs_no_token(city: City) -> None:
    assert json.loads(grpcurl(city, "-max-time=10", "grpc.health.v1.Health/Check")) == {"status": "SERVING"}


@pytest.mark.parametrize(
    "method",
    [
        "PartyService/WhoAmI",
        "CatalogService/ListDatasets",
        "TransferService/CreateTransfer",
        "LedgerService/ListEntries",
    ],
)
def test_without_a_token_the_error_is_typed(city: City, method: str) -> None:
    told = refused(city, "-max-time=10", f"exchange.v1.{method}")
    assert told["code"] == 16  # UNAUTHENTICATED
    assert told["ErrorInfo"]["reason"] == "TOKEN_MISSING"
    assert told["ErrorInfo"]["domain"]
    assert told["ErrorInfo"]["metadata"]["requestId"]


def test_with_a_forged_token(city: City) -> None:
    told = refused(city, "-max-time=10", "-H=authorization: Bearer a.b.c", "exchange.v1.PartyService/WhoAmI")
    assert (told["code"], told["ErrorInfo"]["reason"]) == (16, "TOKEN_INVALID")


def test_without_a_deadline(city: City, bearer: str) -> None:
    told = refused(city, bearer, "exchange.v1.PartyService/WhoAmI")
    assert (told["code"], told["ErrorInfo"]["reason"]) == (3, "DEADLINE_REQUIRED")


def test_with_token_and_deadline_it_is_answered(city: City, bearer: str) -> None:
    told = json.loads(grpcurl(city, "-max-time=10", bearer, "exchange.v1.PartyService/WhoAmI"))
    assert told["name"] == "parties/harbour-analytics/principals/analyst@harbour.example"


@pytest.mark.parametrize("size", [-1, 2**31 - 1])
def test_a_page_size_out_of_range(city: City, bearer: str, size: int) -> None:
    data = json.dumps({"parent": "parties/-", "page_size": size})
    told = refused(city, "-max-time=10", bearer, f"-d={data}", "exchange.v1.CatalogService/ListDatasets")
    assert (told["code"], told["ErrorInfo"]["reason"]) == (3, "INVALID_ARGUMENT")
    assert [found["field"] for found in told["BadRequest"]["field_violations"]] == ["page_size"]


@pytest.mark.parametrize("name", ["parties/../../etc", "parties/a/datasets/%2e%2e", "parties/a/datasets/b\u0000"])
def test_a_name_with_path_characters(city: City, bearer: str, name: str) -> None:
    data = json.dumps({"name": name})
    told = refused(city, "-max-time=10", bearer, f"-d={data}", "exchange.v1.CatalogService/GetDataset")
    # Not even whether it could be a name is told to who may not see it.
    assert (told["code"], told["ErrorInfo"]["reason"]) == (5, "NOT_FOUND")
