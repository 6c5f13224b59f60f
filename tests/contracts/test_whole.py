"""What a contract says of a whole release: a sample, and no small classes."""

from __future__ import annotations

import doctest
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from contracts import dtypes as d
from contracts import odcs, plan, technique_whole, techniques
from contracts.errors import Reason, SluicegateError, Violation
from contracts.model import Contract, WholeRelease
from contracts.plan import Plan
from contracts.techniques import WHOLE, Sample, SuppressSmall
from tests.contracts.test_plan import STANDARD, compiled, contract, field, refused
from tests.documents import EXAMPLE, only

SAMPLE = Sample(rate=0.1, entity="citizen_id")
SMALL = SuppressSmall(k=3, fields=("ward",), max_suppression=0.9)
THINGS = {"ward": d.STRING, "beds": d.INT64}


def _things(**purpose: Any) -> Contract:
    """A contract about wards, which are no persons."""
    plain = (field("ward", "string", "open", "none"), field("beds", "integer", "open", "none"))
    of = replace(contract(fields=plain, bounds=None), roles=())
    masks = {"ward": techniques.parse({"mask": "prefix", "length": 2}), "beds": techniques.Keep()}
    return replace(of, purposes={"outbreak": replace(of.purposes["outbreak"], **{"fields": masks, **purpose})})


def test_examples_in_the_docstrings_hold_and_each_says_what_it_is() -> None:
    failed, tried = doctest.testmod(technique_whole)
    assert failed == 0 < tried
    for name, cls in WHOLE.items():
        assert cls.__struct_config__.tag == name
        for part in ("Precondition: ", "Output: ", "Residual risk: ", "Source: ", ">>>"):
            assert part in (cls.__doc__ or ""), f"{name} does not say its {part}"
        assert not cls.reversible
        assert not cls.per_row


def test_a_sample_is_read_and_planned() -> None:
    made = compiled(contract(whole_release=WholeRelease(sample=SAMPLE)), fields=("sex", "ward"))
    assert made.sample == SAMPLE
    assert "citizen_id" in made.read
    assert made.digest != compiled(contract(), fields=("sex", "ward")).digest
    ward = compiled_things(
        _things(whole_release=WholeRelease(sample=Sample(rate=0.5, entity="ward"))), fields=("beds",)
    )
    assert ward.read == ("ward", "beds")
    assert (ward.order, ward.suppress_small) == ("source", None)


def test_rows_are_left_out_of_a_shuffled_release_alone() -> None:
    made = compiled_things(_things(whole_release=WholeRelease(suppress_small=SMALL)))
    assert (made.suppress_small, made.order) == (SMALL, "keyed")


def compiled_things(of: Contract, **terms: Any) -> Plan:
    return plan.compile(replace(plan.terms_for(of, "outbreak"), **terms), of, THINGS, STANDARD)


def test_plans_without_them_have_the_digests_they_had() -> None:
    """What agreements and receipts of before pin."""
    made = compiled(contract())
    again = replace(made, sample=None, suppress_small=None)
    assert made.digest == again.digest
    assert replace(made, sample=SAMPLE).digest != made.digest != replace(made, suppress_small=SMALL).digest


PERSONS: Mapping[str, tuple[WholeRelease, str, str]] = {
    "a sample of another entity": (
        WholeRelease(sample=Sample(rate=0.5, entity="visit_id")),
        "SAMPLE_ENTITY",
        "citizen_id",
    ),
    "a sample of nothing known": (
        WholeRelease(sample=Sample(rate=0.5, entity="citizen")),
        "SAMPLE_FIELD_UNKNOWN",
        "did you mean 'citizen_id'",
    ),
    "small classes beside bounds": (WholeRelease(suppress_small=SMALL), "SMALL_WITH_BOUNDS", "onViolation: suppress"),
}


@pytest.mark.parametrize("name", PERSONS)
def test_what_contradicts_the_bounds_is_refused(name: str) -> None:
    whole, code, says = PERSONS[name]
    assert says in refused(contract(whole_release=whole))[code]


THING_CASES: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "a class by what is not sent": (
        {"whole_release": WholeRelease(suppress_small=SuppressSmall(k=3, fields=("war",), max_suppression=0.9))},
        "SMALL_FIELD_NOT_SENT",
        "ward",
    ),
    "a class by one field twice": (
        {
            "whole_release": WholeRelease(
                suppress_small=SuppressSmall(k=3, fields=("ward", "ward"), max_suppression=0.9)
            )
        },
        "FIELD_TWICE",
        "suppress_small.fields",
    ),
    "a class by chance": (
        {
            "whole_release": WholeRelease(suppress_small=SuppressSmall(k=3, fields=("beds",), max_suppression=0.9)),
            "fields": {"beds": techniques.parse({"mask": "noise", "distribution": "laplace", "scale": 3})},
        },
        "SMALL_FIELD_RANDOM",
        "noise",
    ),
}


@pytest.mark.parametrize("name", THING_CASES)
def test_a_class_is_formed_by_what_leaves(name: str) -> None:
    purpose, code, says = THING_CASES[name]
    of = _things(**purpose)
    with pytest.raises(SluicegateError) as caught:
        compiled_things(of)
    found = {each.code: str(each) for each in caught.value.violations}
    assert says in found[code]


def test_a_sample_is_of_what_tells_apart() -> None:
    of = _things(whole_release=WholeRelease(sample=Sample(rate=0.5, entity="ward")))
    with pytest.raises(SluicegateError) as caught:
        plan.compile(plan.terms_for(of, "outbreak"), of, {**THINGS, "ward": d.FLOAT64}, STANDARD)
    assert "ENTITY_UNFIT" in {each.code for each in caught.value.violations}


# --- the document


def _said(whole: object) -> bytes:
    document = yaml.safe_load(EXAMPLE)
    purposes = next(each["value"] for each in document["customProperties"] if each["property"] == "purposes")
    purposes["outbreak-monitoring"]["wholeRelease"] = whole
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def test_it_stands_in_the_document() -> None:
    read = odcs.load(_said({"sample": {"rate": 0.25, "entity": "citizen_id"}})).contract
    purpose = read.purposes["outbreak-monitoring"]
    assert purpose.whole_release.sample == Sample(rate=0.25, entity="citizen_id")
    assert purpose.which_rows == ("a sample of 0.25 of all citizen_id",)
    assert (
        odcs.load(_said({"sample": {"rate": 0.2, "entity": "citizen_id"}})).contract.terms_digest != read.terms_digest
    )


WRONG: Mapping[str, tuple[object, str, str]] = {
    "nothing": ({}, "wholeRelease", "at least 1 needed"),
    "another technique": ({"resample": {"rate": 0.1}}, "wholeRelease.resample", "sample"),
    "all of it": ({"sample": {"rate": 1, "entity": "citizen_id"}}, "wholeRelease.sample.rate", "below 1"),
    "none of it": ({"sample": {"rate": 0, "entity": "citizen_id"}}, "wholeRelease.sample.rate", "above 0"),
    "no entity": ({"sample": {"rate": 0.5}}, "wholeRelease.sample.entity", "missing"),
    "a field of no schema": ({"sample": {"rate": 0.5, "entity": "who"}}, "wholeRelease.sample", "'who'"),
    "a class of one": (
        {"suppress_small": {"k": 1, "fields": ["sex"], "max_suppression": 0.5}},
        "wholeRelease.suppress_small.k",
        "from 2",
    ),
    "no fields": (
        {"suppress_small": {"k": 5, "fields": [], "max_suppression": 0.5}},
        "wholeRelease.suppress_small.fields",
        "at least 1",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_where_it_stands(name: str) -> None:
    value, place, says = WRONG[name]
    found: Violation = only(_said(value))
    assert f"purposes.outbreak-monitoring.{place}" in found.path
    assert says in f"{found.message} {found.hint}"


def test_an_aggregate_has_neither() -> None:
    document = yaml.safe_load(EXAMPLE)
    purposes = next(each["value"] for each in document["customProperties"] if each["property"] == "purposes")
    purpose = purposes["outbreak-monitoring"]
    purpose |= {"release": "dp-aggregate", "wholeRelease": {"sample": {"rate": 0.5, "entity": "citizen_id"}}}
    with pytest.raises(SluicegateError) as caught:
        odcs.load(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())
    assert caught.value.reason is Reason.CONTRACT_INVALID
    assert any("wholeRelease" in each.path and "no row leaves" in str(each) for each in caught.value.violations)
