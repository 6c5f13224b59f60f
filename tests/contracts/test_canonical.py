"""Canonical form, digests, and what belongs to the terms."""

from __future__ import annotations

import copy
from enum import StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from contracts import odcs, yaml12
from contracts.canonical import NOT_TERMS, canonical, digest, digest_bytes, terms, terms_digest
from contracts.errors import Reason, SluicegateError
from tests.documents import EXAMPLE, spoilt

DOCUMENT: dict[str, Any] = yaml12.load(EXAMPLE.encode()).value


def test_canonical_bytes_are_those_of_rfc_8785() -> None:
    value = {"€": "Euro", "\r": 1, "1": 1e21, "a": [333333333.3333333, 4.50, 2e-3, True, None], "ö": ""}
    expected = '{"\\r":1,"1":1e+21,"a":[333333333.3333333,4.5,0.002,true,null],"ö":"","€":"Euro"}'
    assert canonical(value) == expected.encode()
    assert digest({}) == digest_bytes(b"{}")
    assert digest({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


class Word(StrEnum):
    ONE = "one"


_KEYS = st.sampled_from(["a", "b", "Z", "\x7f", "é", "\ufb33", "\U0001f600"]) | st.text(
    st.characters(exclude_categories=["Cs"])
)
_PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(exclude_categories=["Cs"]))
)
_LEAVES = _PLAIN | st.floats(allow_nan=False, allow_infinity=False) | st.just(Word.ONE)


@given(
    st.recursive(_LEAVES, lambda part: st.lists(part) | st.lists(part).map(tuple) | st.dictionaries(_KEYS, part))
    | st.dictionaries(_KEYS, _PLAIN)
)
def test_canonical_bytes_are_those_of_the_reference_for_any_value(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, -(2**53), "\ud800", {"\ud800": 1}, {1: 2}, b"x"])
def test_what_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(SluicegateError) as caught:
        canonical({"a": value})
    assert caught.value.reason is Reason.CONTRACT_INVALID


def test_ten_and_ten_point_nought_are_one_number() -> None:
    assert odcs.load(spoilt(("k: 10", "k: 10.0"))).contract.terms_digest == terms_digest(DOCUMENT)


@pytest.mark.parametrize(
    "change",
    [
        ("version: 2.1.0", "version: 2.1.1"),
        ("status: active", "status: deprecated"),
        ("limitations: Never for", "limitations: Not for"),
        ("tenant: example-city", "tenant: example-city\ntags: [health]"),
        ("        logicalType: date\n", "        logicalType: date\n        description: day of birth\n"),
        ("description: how long the provider itself keeps source rows", "description: own retention"),
    ],
)
def test_what_may_change_without_new_approval(change: tuple[str, str]) -> None:
    changed = yaml12.load(spoilt(change)).value
    assert terms_digest(changed) == terms_digest(DOCUMENT)
    assert digest(changed) != digest(DOCUMENT)


@pytest.mark.parametrize(
    "change",
    [
        ("classification: open", "classification: internal"),
        ("length: 4", "length: 5"),
        ("k: 10", "k: 11"),
        ("P90D", "P91D"),
        ("secondLevelApprovers: dpo@health.example", "secondLevelApprovers: other@health.example"),
        ("fields: [patient_name]", "fields: []"),
        ("name: health-bureau\n", "name: city-bureau\n"),
        ("value: indirect", "value: none"),
    ],
)
def test_what_needs_new_approval(change: tuple[str, str]) -> None:
    assert terms_digest(yaml12.load(spoilt(change)).value) != terms_digest(DOCUMENT)


@pytest.mark.parametrize("column", sorted(NOT_TERMS))
def test_a_column_may_be_called_like_what_is_not_part_of_the_terms(column: str) -> None:
    """A column named `status` or `version` has a mask like any other. If its key were dropped from the
    purposes, its mask could be weakened under an approval that never saw the change."""
    named = [(f"- name: {'sex'}\n", f"- name: {column}\n"), ("sex: {mask: keep}", f"{column}: {{mask: 'null'}}")]
    named += [("[birth_date, sex, home_postcode", f"[birth_date, {column}, home_postcode")]
    agreed = odcs.load(spoilt(*named)).contract
    weakened = odcs.load(spoilt(named[0], ("sex: {mask: keep}", f"{column}: {{mask: keep}}"), named[2])).contract
    assert agreed.terms_digest != weakened.terms_digest
    dropped = odcs.load(
        spoilt(
            named[0],
            ("          sex: {mask: keep}\n", ""),
            ("[birth_date, sex, home_postcode", "[birth_date, home_postcode"),
        )
    ).contract
    assert len({agreed.terms_digest, weakened.terms_digest, dropped.terms_digest}) == 3


@given(st.sampled_from(sorted(NOT_TERMS)), st.text(max_size=5), st.integers(0, 4))
def test_every_change_inside_a_property_is_a_change_of_terms(key: str, value: str, index: int) -> None:
    changed = copy.deepcopy(DOCUMENT)
    changed["customProperties"][index]["value"][key] = value
    assert terms_digest(changed) != terms_digest(DOCUMENT)


@given(st.sampled_from(sorted(NOT_TERMS)), st.text(max_size=5))
def test_no_change_of_what_is_not_terms_changes_them(key: str, value: str) -> None:
    changed = copy.deepcopy(DOCUMENT)
    for part in (changed, changed["schema"][0], changed["schema"][0]["properties"][0], changed["customProperties"][0]):
        part[key] = value
    assert terms_digest(changed) == terms_digest(DOCUMENT)


def test_terms_are_a_copy() -> None:
    before = copy.deepcopy(DOCUMENT)
    found = terms(DOCUMENT)
    assert found is not DOCUMENT
    assert before == DOCUMENT
    assert "version" not in found
