"""What the agreements that a consumer has on a dataset forbid the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from exchange import agreements, records
from tests import papers
from tests.exchange.town import Town

PLANNING, WATCH = "transport-planning", "outbreak-monitoring"
SOME = ("home_postcode", "visit_ts")


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path, document()[0])


def document() -> tuple[dict[str, Any], dict[str, Any]]:
    """The contract, whose first purpose keeps what it gets for 90 days, and its terms."""
    made = papers.document()
    terms = {one["property"]: one["value"] for one in made["customProperties"]}
    terms["purposes"][PLANNING]["retention"] = "P90D"
    return made, terms


def refused(reason: Reason, town: Town, **wished: object) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        town.request("epidemiologist", **wished)
    assert caught.value.reason is reason
    return caught.value


def moved(town: Town, name: str) -> None:
    """The agreement is another gateway's, and always was."""
    with town.store.transaction() as tx:
        record = tx.get(records.Agreement, name)
        assert record is not None
        elsewhere = msgspec.structs.replace(record, gateway=f"parties/{papers.PROVIDER}/gateways/health-bureau-2")
        tx.replace(elsewhere, expected_version=record.version)


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
    moved(town, name)
    told = refused(Reason.ALREADY_EXISTS, town, purpose=WATCH)
    assert told.metadata["agreement"] == name
    assert "another gateway" in told.message
    town.terminate("epidemiologist", name)
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


# --- what was sent under one that ended

DAY = papers.DAY
KEPT = (7 + 90) * DAY  # an interval and the retention of the first purpose


def ended(town: Town, how: str) -> str:
    """An agreement that a ticket was given under, and which is over."""
    name = town.agreement("epidemiologist", purpose=PLANNING, duration="P1D")
    town.pull("epidemiologist", name)
    if how == "expired":
        town.wait(DAY)
    else:
        town.terminate("epidemiologist", name)
    return name


@pytest.mark.parametrize("how", ["terminated", "expired"])
def test_ending_an_agreement_does_not_part_what_must_not_come_together(town: Town, how: str) -> None:
    """Who has the one part could ask for the other at once."""
    ended(town, how)
    told = refused(Reason.REQUEST_OUTSIDE_CONTRACT, town, purpose=WATCH)
    (found,) = told.violations
    assert found.code == "NEGATIVE_TOGETHER_0"
    assert f"{how.upper()}; what it sent may be kept until {rfc3339(town.now + KEPT)}" in found.message
    town.wait(KEPT - 1)
    refused(Reason.REQUEST_OUTSIDE_CONTRACT, town, purpose=WATCH)
    town.wait(1)
    town.agreement("epidemiologist", purpose=WATCH)


def test_so_it_is_with_two_agreements_for_one_purpose_after_each_other(tmp_path: Path) -> None:
    made, terms = document()
    terms["negativeList"]["together"] = [["hospital_code", "visit_ts"]]
    town = Town(tmp_path, made)
    name = town.agreement("epidemiologist", purpose=PLANNING, fields=SOME)
    town.pull("epidemiologist", name)
    town.terminate("epidemiologist", name)
    told = refused(Reason.REQUEST_OUTSIDE_CONTRACT, town, purpose=PLANNING, fields=("home_postcode", "hospital_code"))
    assert [found.code for found in told.violations] == ["NEGATIVE_TOGETHER_0"]
    town.agreement("epidemiologist", purpose=PLANNING, fields=SOME)


def test_what_another_gateway_sent_is_not_gone_with_its_agreement(town: Town) -> None:
    name = town.agreement("epidemiologist", purpose=PLANNING, fields=SOME)
    town.pull("epidemiologist", name)
    town.terminate("epidemiologist", name)
    moved(town, name)
    told = refused(Reason.ALREADY_EXISTS, town, purpose=WATCH)
    assert told.metadata == {"agreement": name, "state": "TERMINATED"}
    assert f"may be kept until {rfc3339(town.now + KEPT)}: at another gateway" in told.message
    town.wait(KEPT)
    town.agreement("epidemiologist", purpose=WATCH)


def test_one_under_which_nothing_was_sent_forbids_nothing(town: Town) -> None:
    name = town.agreement("epidemiologist", purpose=PLANNING)
    refusing = town.pull("epidemiologist", name)
    town.refuse("gateway", refusing.name, reason="BOUNDS_NOT_MET")
    town.terminate("epidemiologist", name)
    town.agreement("epidemiologist", purpose=WATCH)


def test_what_an_agreement_sends_is_what_its_own_contract_says(tmp_path: Path) -> None:
    """Under the next one its masks may show less; what they showed was sent."""
    made, terms = document()
    (schema,) = made["schema"]
    lat, lon = ({**schema["properties"][0], "name": name, "logicalType": "number"} for name in ("lat", "lon"))
    for place in (lat, lon):
        place["classification"] = "internal"
        place["customProperties"] = [{"property": "identifiability", "value": "quasi"}]
    schema["properties"] += [lat, lon]
    terms["negativeList"]["together"] = [["lon", "diagnosis_icd10"]]
    planning = terms["purposes"][PLANNING]
    planning["fields"]["lat"] = {"mask": "geohash", "precision": 4, "longitude": "lon"}
    planning["effectiveness"]["quasiIdentifiers"] += ["lat"]
    town = Town(tmp_path, made)
    town.agreement("epidemiologist", purpose=PLANNING)
    planning["fields"]["lat"] = {"mask": "geo_round", "decimals": 1}
    town.publish({**made, "version": "9.0.0"})
    told = refused(Reason.REQUEST_OUTSIDE_CONTRACT, town, purpose=WATCH)
    assert [found.code for found in told.violations] == ["NEGATIVE_TOGETHER_0"]
    assert "lon is sent under" in told.violations[0].message
