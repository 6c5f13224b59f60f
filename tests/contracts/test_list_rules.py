"""What lists may leave under: classes and bounds count whole lists, outsiders read elements."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from contracts import dtypes as d
from contracts import plan
from contracts.model import Contract, Require
from contracts.plan import terms_for
from tests.contracts.test_plan import BOUNDS, FIELDS, SCHEMA, STANDARD, compiled, contract, refused

REVERSIBLE = {"legal_basis": "dpv:LegalObligation"}
KEYED: list[dict[str, Any]] = [
    {"mask": "hmac", "domain": "person"},
    {"mask": "aes_siv", "domain": "person", **REVERSIBLE},
    {"mask": "ff1", "domain": "person", "unsafe_format_preserving": True, **REVERSIBLE},
]
WHOLE: list[dict[str, Any]] = [{"mask": "random_id"}, {"mask": "null"}, {"mask": "constant", "value": "-"}]


def listed(name: str, mask: dict[str, Any], *, unique: bool = False, **more: Any) -> tuple[Contract, d.Schema]:
    """The contract and schema in which that field is a list under that mask."""
    fields = tuple(replace(item, logical_type="array", unique=unique) if item.name == name else item for item in FIELDS)
    return contract({name: mask}, fields=fields, **more), {**SCHEMA, name: d.LIST}


def bounds(**require: Any) -> Any:
    return replace(BOUNDS, require=Require(**{"k": 10, "l": {"diagnosis": 2}, "max_suppression": 0.05, **require}))


@pytest.mark.parametrize("mask", [{"mask": "prefix", "length": 3}, {"mask": "shuffle", "least": 2}], ids=str)
@pytest.mark.parametrize("require", [{}, {"l": {}}, {"l": {"diagnosis": 3}, "entropy_l": {"diagnosis": 2.0}}], ids=str)
def test_sensitive_lists_leave_under_no_bound_and_not_without(mask: dict[str, Any], require: dict[str, Any]) -> None:
    """[HIV, B1], [B1, HIV] and [HIV, B2] are three values, and everybody has HIV."""
    found = refused(*listed("diagnosis", mask, bounds=bounds(**require)))["LIST_BOUND"]
    assert "none counts its elements" in found
    assert "cannot be sent as a list" in found


@pytest.mark.parametrize("require", [{"l": {"ward": 2}}, {"entropy_l": {"ward": 2.0}}, {"t": {"ward": 0.3}}], ids=str)
def test_nor_do_other_lists_under_a_bound(require: dict[str, Any]) -> None:
    bounded = bounds(**{**require, "l": {"diagnosis": 2, **require.get("l", {})}})
    of, schema = listed("ward", {"mask": "keep"}, bounds=bounded)
    assert "have in common" in refused(of, schema)["LIST_BOUND"]
    assert "LIST_BOUND" in {found.code for found in plan.refusals(terms_for(of, "outbreak"), of, STANDARD)}
    compiled(*listed("ward", {"mask": "keep"}))


@pytest.mark.parametrize("mask", [{"mask": "null"}, {"mask": "constant", "value": "-"}], ids=str)
def test_sensitive_lists_that_are_replaced_whole_leave(mask: dict[str, Any]) -> None:
    assert compiled(*listed("diagnosis", mask, bounds=bounds(l={}))).field("diagnosis") is not None


@pytest.mark.parametrize(
    "mask",
    [
        *KEYED,
        {"mask": "keep", "justification": "asked for"},
        {"mask": "redact", "detectors": ["phone"]},
        {"mask": "prefix", "length": 64},
        {"mask": "partial", "keep_first": 30},
        {"mask": "rare", "min_count": 5, "other": "few"},
        {"mask": "shuffle", "least": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("unique", [False, True], ids=["shared", "unique"])
def test_lists_of_identifiers_form_classes_or_are_replaced_whole(mask: dict[str, Any], unique: bool) -> None:
    """Lists can be unique while their elements are shared."""
    assert "share an element" in refused(*listed("insurer_no", mask, unique=unique))["LIST_JOINS"]


@pytest.mark.parametrize("mask", WHOLE, ids=str)
def test_replaced_whole_they_leave(mask: dict[str, Any]) -> None:
    field = compiled(*listed("insurer_no", mask)).field("insurer_no")
    assert field is not None
    assert field.source == d.LIST


def test_as_quasi_identifiers_they_leave() -> None:
    counted = replace(BOUNDS, quasi_identifiers=(*BOUNDS.quasi_identifiers, "insurer_no"))
    made = compiled(*listed("insurer_no", {"mask": "prefix", "length": 64}, bounds=counted))
    assert "insurer_no" in made.quasi_identifiers


@pytest.mark.parametrize("mask", KEYED, ids=lambda mask: str(mask["mask"]))
def test_elements_are_never_other_fields_pseudonyms(mask: dict[str, Any]) -> None:
    found = refused(*listed("ward", mask))["LIST_DOMAIN"]
    assert "pseudonyms of citizen_id too" in found
    assert compiled(*listed("ward", {**mask, "domain": "ward"})).field("ward") is not None
