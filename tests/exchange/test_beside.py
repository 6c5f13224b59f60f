"""What the agreements that a consumer has on a dataset forbid the next one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from contracts.errors import Reason, SluicegateError
from exchange import agreements, records
from tests import papers
from tests.exchange.town import Town

PLANNING, WATCH = "transport-planning", "outbreak-monitoring"
SOME = ("home_postcode", "visit_ts")


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def refused(reason: Reason, town: Town, **wished: object) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        town.request("epidemiologist", **wished)
    assert caught.value.reason is reason
    return caught.value


def test_the_one_for_the_same_purpose_is_named(town: Town) -> None:
    name = town.agreement("epidemiologist", purpose=PLANNING, fields=SOME)
    told = refused(Reason.ALREADY_EXISTS, town, purpose=PLANNING, fields=SOME)
    assert told.metadata["agreement"] == name
    assert f"{name} on this dataset for {PLANNING}" in told.message
    town.agreement("epidemiologist", purpose=WATCH)


def test_fields_that_must_not_come_together_do_not_under_two_agreements(town: Town) -> None:
    """The list speaks of one release; who has both could put them together."""
    town.agreement("epidemiologist", purpose=WATCH)
    told = refused(Reason.REQUEST_OUTSIDE_CONTRACT, town, purpose=PLANNING)
    (found,) = told.violations
    assert found.code == "NEGATIVE_TOGETHER_0"
    assert WATCH in found.message
    assert "diagnosis_icd10" in found.message
    town.agreement("epidemiologist", purpose=PLANNING, fields=SOME)


def test_whoever_asked_first_is_judged_again_when_it_is_approved(town: Town) -> None:
    """Both were asked for while there was neither."""
    first = town.request("epidemiologist", purpose=PLANNING)
    second = town.request("epidemiologist", purpose=WATCH)
    again = town.request("epidemiologist", purpose=PLANNING)
    assert town.approve("steward", first.name).state == "APPROVED"
    with pytest.raises(SluicegateError) as caught:
        town.approve("steward", again.name)
    assert caught.value.reason is Reason.ALREADY_EXISTS
    town.approve("steward", second.name)
    with pytest.raises(SluicegateError) as caught:
        town.approve("dpo", second.name)
    assert caught.value.reason is Reason.REQUEST_OUTSIDE_CONTRACT


def test_another_gateway_would_know_nothing_of_what_was_sent(town: Town) -> None:
    name = town.agreement("epidemiologist", purpose=PLANNING, fields=SOME)
    with town.store.transaction() as tx:
        record = tx.get(records.Agreement, name)
        assert record is not None
        elsewhere = msgspec.structs.replace(record, gateway=f"parties/{papers.PROVIDER}/gateways/health-bureau-2")
        tx.replace(elsewhere, expected_version=record.version)
    told = refused(Reason.ALREADY_EXISTS, town, purpose=WATCH)
    assert told.metadata["agreement"] == name
    assert "another gateway" in told.message
    agreements.terminate(
        town.hall, town.principal("epidemiologist"), None, name, reason="to be served by the other gateway"
    )
    town.agreement("epidemiologist", purpose=WATCH)


def test_one_that_expired_gives_its_place_up_and_forbids_nothing(town: Town) -> None:
    name = town.agreement("epidemiologist", purpose=PLANNING, duration="P1D")
    town.wait(86_400)
    town.agreement("epidemiologist", purpose=WATCH)
    assert agreements.get(town.hall, town.principal("epidemiologist"), name).state == "EXPIRED"
    assert "agreement.expired" not in town.events(name)
    refused(Reason.REQUEST_OUTSIDE_CONTRACT, town, purpose=PLANNING)
    town.agreement("epidemiologist", purpose=PLANNING, fields=SOME)
    assert "agreement.expired" in town.events(name)
