"""That values were opened, as the exchange is told: by the own gateway, once for each order, for both to see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.envelope import Envelope, Kind, sign
from contracts.errors import Reason
from contracts.instants import rfc3339
from contracts.papers import Revealed
from exchange import records, reports
from tests import papers
from tests.connectors.reversible import document
from tests.exchange.test_transfers import refused, same_refusal
from tests.exchange.town import Town
from tests.papers import key

ORDER = "sha256:" + "5" * 64


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path, document=document())


@pytest.fixture
def deal(town: Town) -> str:
    return town.agreement("epidemiologist", purpose="outbreak-monitoring")


def stated(town: Town, deal: str, signer: str = "", **changed: Any) -> Envelope:
    """A gateway's statement; `changed` replaces fields of its payload."""
    with town.store.read() as tx:
        record = tx.get(records.Agreement, deal)
    assert record is not None
    gateway = record.gateway.rpartition("/")[2]
    paper = Revealed(
        agreement=deal,
        agreement_digest=record.digest,
        gateway=gateway,
        field="citizen_id",
        count=2,
        people=(papers.DPO, papers.STEWARD),
        order_digest=ORDER,
        at=rfc3339(town.now),
    )
    return sign(Kind.REVEALED, msgspec.structs.replace(paper, **changed), key(signer or gateway))


def test_each_order_is_recorded_once_for_both_sides(town: Town, deal: str) -> None:
    paper, gateway = stated(town, deal), town.principal("gateway")
    call = town.call("gateway", "ReportReveal", deal, paper.digest)
    for again in (call, call):
        assert reports.report_reveal(town.hall, gateway, again, deal, paper).state == "ACTIVE"
    other = stated(town, deal, order_digest="sha256:" + "7" * 64)
    reports.report_reveal(town.hall, gateway, town.call("gateway", "ReportReveal", deal, other.digest), deal, other)
    assert town.events(deal).count("agreement.revealed") == 2


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"agreement": "agreements/a-zzzzzzzzzz"}, Reason.RECEIPT_INVALID),
        ({"agreement_digest": "sha256:" + "0" * 64}, Reason.RECEIPT_INVALID),
        ({"gateway": "other"}, Reason.SIGNATURE_INVALID),
        ({"signer": "steward@health.example"}, Reason.KEY_UNTRUSTED),
        ({"at": "2999-01-01T00:00:00Z"}, Reason.KEY_UNTRUSTED),
        ({"field": "birth_date"}, Reason.RECEIPT_INVALID),
        ({"people": (papers.STEWARD, papers.STEWARD)}, Reason.RECEIPT_INVALID),
        ({"count": 11}, Reason.RECEIPT_INVALID),
        ({"count": 0}, Reason.RECEIPT_INVALID),
    ],
    ids=["agreement", "digest", "gateway", "key", "future", "field", "one person", "many", "none"],
)
def test_a_statement_that_does_not_fit(town: Town, deal: str, changed: dict[str, Any], reason: Reason) -> None:
    before = town.events()
    refused(
        reason, reports.report_reveal, town.hall, town.principal("gateway"), None, deal, stated(town, deal, **changed)
    )
    assert town.events() == before


def test_only_the_agreements_own_gateway_says_so(town: Town, deal: str) -> None:
    paper, hall, other = stated(town, deal), town.hall, town.principal("other-gateway")
    same_refusal(town, lambda n: reports.report_reveal(hall, other, None, n, paper), deal, "agreements/a-z")
    for actor in ("steward", "epidemiologist", "auditor"):
        refused(Reason.ROLE_MISSING, reports.report_reveal, hall, town.principal(actor), None, deal, paper)
