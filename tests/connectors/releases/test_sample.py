"""A synthetic sample has the form of a release, lists included."""

from __future__ import annotations

import json

import polars as pl

from connectors.releases.sample import synthetic
from contracts import odcs
from tests import papers


def test_a_list_is_made_up_as_one() -> None:
    document = papers.document()
    (column,) = (one for one in document["schema"][0]["properties"] if one["name"] == "hospital_code")
    column |= {"logicalType": "array", "items": {"logicalType": "string"}}
    contract = odcs.load(json.dumps(document).encode()).contract
    made = synthetic(contract, "transport-planning", 50)
    assert made.height == 50
    assert made.schema["hospital_code"] == pl.List(pl.String)
    assert {len(texts) for texts in made["hospital_code"]} == {0, 1, 2, 3}
    assert made.equals(synthetic(contract, "transport-planning", 50))
