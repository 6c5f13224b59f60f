"""Which columns are looked at, and which may hold what: by what the contract declares, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from contracts import techniques
from contracts.dtypes import BINARY, BOOLEAN, DATE, FLOAT32, FLOAT64, INT32, INT64, LIST, STRING, DType, timestamp
from contracts.model import Field, Identifiability, Tier
from contracts.residual import Kind, can_hold, excused

JUSTIFIED = {"mask": "keep", "justification": "the station's own number, printed on its door"}
PUBLIC = {"bank-card", "phone", "plate", "email", "ip", "credit-code"}


def field(tier: str = "open", part: str = "none", category: str | None = None) -> Field:
    """One declared column."""
    return Field(
        name="line",
        logical_type="string",
        classification=Tier(tier),
        identifiability=Identifiability(part),
        category=category,
    )


def may(declared: Field, mask: dict[str, Any], *, about_persons: bool = True) -> set[str]:
    """What that column may hold."""
    return {str(kind) for kind in excused(declared, techniques.parse(mask), about_persons=about_persons)}


def test_an_open_field_about_nobody_may_hold_what_can_be_public_if_the_contract_says_why() -> None:
    assert may(field(), JUSTIFIED) == PUBLIC
    assert may(field(), JUSTIFIED, about_persons=False) == PUBLIC | {"vector"}
    for never in ("national-id", "passport", "image", "biometric"):
        assert never not in may(field(), JUSTIFIED, about_persons=False)


@pytest.mark.parametrize("tier", ["internal", "semi-private", "highly-private"])
def test_no_other_tier_may(tier: str) -> None:
    assert may(field(tier), JUSTIFIED) == set()


@pytest.mark.parametrize("part", ["direct", "indirect", "quasi", "sensitive"])
def test_nothing_that_helps_to_recognise_a_person_may(part: str) -> None:
    assert may(field(part=part), JUSTIFIED) == set()


@pytest.mark.parametrize(
    "mask", [{"mask": "keep"}, {"mask": "partial", "keep_last": 11}, {"mask": "clip", "lower": 1}], ids=str
)
def test_without_a_written_reason_nothing_may(mask: dict[str, Any]) -> None:
    assert may(field(), mask) == set()


def test_a_field_of_a_category_may_hold_what_that_means() -> None:
    """The standard decides before whether such a field may be kept at all: of an address, yes; of an id, never."""
    assert may(field("semi-private", "quasi", "ip"), JUSTIFIED) == {"ip"}
    assert may(field("semi-private", "quasi", "ip"), {"mask": "keep"}) == set()


SHUT = [
    ({"mask": "hmac", "domain": "person"}, STRING),
    ({"mask": "random_id"}, STRING),
    ({"mask": "null"}, STRING),
    ({"mask": "constant", "value": "13800138000"}, STRING),
    ({"mask": "hierarchy", "table": {"a": ["b"]}, "level": 1, "other": "c"}, STRING),
    ({"mask": "prefix", "length": 5}, STRING),
    ({"mask": "partial", "keep_first": 3, "keep_last": 4}, STRING),
    ({"mask": "hmac", "domain": "person"}, LIST),
    ({"mask": "constant", "value": "13800138000"}, LIST),
    ({"mask": "keep"}, BOOLEAN),
    ({"mask": "keep"}, DATE),
    ({"mask": "keep"}, timestamp()),
    ({"mask": "keep"}, INT32),
    ({"mask": "keep"}, FLOAT32),
    ({"mask": "bucket", "size": 10}, INT32),
    ({"mask": "aes_siv", "domain": "person", "legal_basis": "dpv:LegalObligation"}, STRING),
    (
        {"mask": "ff1", "domain": "phone", "legal_basis": "dpv:LegalObligation", "unsafe_format_preserving": True},
        STRING,
    ),
]
OPEN = [
    ({"mask": "keep"}, STRING),
    ({"mask": "keep"}, BINARY),
    ({"mask": "keep"}, INT64),
    ({"mask": "keep"}, FLOAT64),
    ({"mask": "keep"}, DType("decimal", precision=20, scale=0)),
    ({"mask": "prefix", "length": 6}, STRING),
    ({"mask": "partial", "keep_first": 3, "keep_last": 11}, STRING),
    ({"mask": "partial", "keep_first": 3, "keep_last": 4, "mask_char": "@", "min_masked": 1}, STRING),
    ({"mask": "prefix", "length": 1}, LIST),
    ({"mask": "partial", "keep_first": 3, "keep_last": 4}, LIST),
    ({"mask": "hierarchy", "table": {"a": ["b"]}, "level": 1, "other": "c"}, LIST),
    ({"mask": "rare", "min_count": 5, "other": "other"}, STRING),
    ({"mask": "round", "base": 1000}, INT64),
]


@pytest.mark.parametrize(("mask", "dtype"), SHUT, ids=str)
def test_masks_that_prove_it_are_not_looked_at(mask: dict[str, Any], dtype: DType) -> None:
    technique = techniques.parse(mask)
    assert not can_hold(technique, technique.produces(dtype))


@pytest.mark.parametrize(("mask", "dtype"), OPEN, ids=str)
def test_all_others_are(mask: dict[str, Any], dtype: DType) -> None:
    technique = techniques.parse(mask)
    assert can_hold(technique, technique.produces(dtype))


def test_kinds_of_the_standards_categories_have_their_names() -> None:
    from contracts import standard

    categories = standard.load().categories
    assert {kind for kind in Kind if kind in categories} == {
        "national-id",
        "bank-card",
        "phone",
        "plate",
        "email",
        "ip",
        "biometric",
    }
