"""Terms of aggregates: what is refused, exact amounts, and the page that says so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import lint, plan, requesting, standard
from contracts.aggregate import MICRO, PICO, amount, decimal, threshold, units
from contracts.agreement import Request
from contracts.dtypes import FLOAT64, STRING
from contracts.errors import Reason, SluicegateError
from contracts.policy import inputs
from contracts.policy.embedded import EmbeddedEngine
from contracts.policy.engine import Action
from contracts.policy.inputs import Subject
from tests import papers, statistics
from tests.statistics import PURPOSE, aggregate

PAGE = (Path(__file__).parents[2] / "docs" / "aggregates.md").read_text()
STANDARD = standard.load("desensitisation/1")
STEWARD = Subject(papers.PROVIDER, "department", papers.STEWARD, ("steward",))
FIELDS = {"hospital_code": {"mask": "keep"}, "stay_minutes": {"mask": "keep"}}


def measures(**changes: Any) -> dict[str, Any]:
    return {"measures": {"minutes": {"sum": "stay_minutes", "lower": 0, "upper": 600, **changes}}}


# What is wrong -> the terms, other parts of the purpose, the code.
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "epsilon zero": ({"epsilon": 0}, {}, "EPSILON_ZERO"),
    "epsilon negative": ({"epsilon": -1}, {}, "EPSILON_INVALID"),
    "epsilon negative, as text": ({"epsilon": "-0.5"}, {}, "EPSILON_INVALID"),
    "epsilon no number": ({"epsilon": "much"}, {}, "EPSILON_INVALID"),
    "epsilon not a number": ({"epsilon": "NaN"}, {}, "EPSILON_INVALID"),
    "epsilon finer than a millionth": ({"epsilon": "0.0000001"}, {}, "EPSILON_INVALID"),
    "epsilon that cannot be shared": ({"epsilon": "0.000002"}, {}, "EPSILON_ZERO"),
    "a delta above what counts": ({"delta": "1e9"}, {}, "EPSILON_INVALID"),
    "a budget below one release": ({"budget": {"epsilon": 1, "delta": "0.000001"}}, {}, "BUDGET_TOO_SMALL"),
    "a budget without the delta": ({"budget": {"epsilon": 3}}, {}, "BUDGET_TOO_SMALL"),
    "a budget that promises nothing": ({"budget": {"epsilon": 11, "delta": "0.000001"}}, {}, "BUDGET_TOO_LARGE"),
    "a delta that gives persons away": (
        {"delta": "0.001", "budget": {"epsilon": 3, "delta": "0.001"}},
        {},
        "BUDGET_TOO_LARGE",
    ),
    "groups from the data without delta": ({"delta": None}, {}, "DELTA_MISSING"),
    "listed groups with delta": ({"groups": statistics.LISTED}, {}, "DELTA_IDLE"),
    "bounds inverted": (measures(lower=600, upper=0), {}, "MEASURE_BOUNDS"),
    "bounds equal": (measures(lower=5, upper=5), {}, "MEASURE_BOUNDS"),
    "no upper bound": ({"measures": {"minutes": {"sum": "stay_minutes", "lower": 0}}}, {}, "MEASURE_BOUNDS"),
    "bounds between steps": (measures(upper=600.5), {}, "MEASURE_BOUNDS"),
    "bounds beyond counting": (measures(upper=1e16), {}, "MEASURE_BOUNDS"),
    "a count with bounds": ({"measures": {"n": {"count": "rows", "lower": 1}}}, {}, "MEASURE_BOUNDS"),
    "a sum and a mean in one": (measures(mean="stay_minutes"), {}, "MEASURE_UNCLEAR"),
    "a figure named like a field": ({"measures": {"hospital_code": {"count": "rows"}}}, {}, "MEASURE_NAME"),
    "groups by a direct identifier": (
        {"groupBy": ["citizen_id"]},
        {"fields": {"citizen_id": {"mask": "keep"}, "stay_minutes": {"mask": "keep"}}},
        "AGGREGATE_DIRECT",
    ),
    "groups by a hidden direct identifier": (
        {"groupBy": ["citizen_id"]},
        {"fields": {"citizen_id": {"mask": "prefix", "length": 2}, "stay_minutes": {"mask": "keep"}}},
        "AGGREGATE_DIRECT",
    ),
    "groups by a keyed mask": (
        {"groupBy": ["home_postcode"]},
        {"fields": {"home_postcode": {"mask": "hmac", "domain": "d"}, "stay_minutes": {"mask": "keep"}}},
        "AGGREGATE_MASK",
    ),
    "groups by what other rows say": (
        {"groupBy": ["home_postcode"]},
        {"fields": {"home_postcode": {"mask": "rare", "min_count": 5}, "stay_minutes": {"mask": "keep"}}},
        "AGGREGATE_MASK",
    ),
    "texts added up": (
        {"measures": {"x": {"sum": "home_postcode", "lower": 0, "upper": 1}}},
        {"fields": {"hospital_code": {"mask": "keep"}, "home_postcode": {"mask": "keep"}}},
        "AGGREGATE_MASK",
    ),
    "a group field that is not listed": ({"groupBy": ["visit_ts"]}, {}, "AGGREGATE_FIELD_UNLISTED"),
    "a field for nothing": (
        {},
        {"fields": {**FIELDS, "home_postcode": {"mask": "prefix", "length": 2}}},
        "AGGREGATE_FIELD_IDLE",
    ),
    "grouped and added up": ({"groupBy": ["hospital_code", "stay_minutes"]}, {}, "AGGREGATE_TWICE"),
    "persons told apart by what many share": ({"entity": "hospital_code"}, {}, "ENTITY_WRONG"),
    "an unknown entity": ({"entity": "citizen"}, {}, "BOUND_FIELD_UNKNOWN"),
    "groups listed of another field": (
        {"groups": {"visit_ts": ["2026-01-01"]}, "delta": None, "budget": {"epsilon": 3}},
        {},
        "GROUPS_UNLIKE",
    ),
    "a field of the negative list": (
        {"groupBy": ["patient_name"]},
        {"fields": {"patient_name": {"mask": "prefix", "length": 1}, "stay_minutes": {"mask": "keep"}}},
        "NEGATIVE_FIELD",
    ),
}


def linted(terms: dict[str, Any] | None = None, **changes: Any) -> set[str]:
    contract = papers.make(document=statistics.document(terms, **changes)).contract
    return {found.code for found in lint.lint(contract, STANDARD)}


def test_a_sound_purpose_passes() -> None:
    assert linted() == set()
    assert linted(aggregate(groups=statistics.LISTED, delta=None, budget={"epsilon": 3})) == set()


@pytest.mark.parametrize("what", WRONG)
def test_refused_by_lint_and_by_every_plan(what: str) -> None:
    terms, changes, code = WRONG[what]
    document = statistics.document(aggregate(**terms), **changes)
    contract = papers.make(document=document).contract
    assert code in {found.code for found in lint.lint(contract, STANDARD)}
    with pytest.raises(SluicegateError) as caught:
        plan.compile(plan.terms_for(contract, PURPOSE), contract, statistics.SCHEMA, STANDARD)
    assert caught.value.reason is Reason.PLAN_REFUSED


def test_two_purposes_have_one_budget() -> None:
    document = statistics.document()
    (purposes,) = [entry["value"] for entry in document["customProperties"] if entry["property"] == "purposes"]
    purposes["more"] = statistics.purpose(aggregate(budget={"epsilon": 4, "delta": "0.000002"}))
    document["roles"].append({**document["roles"][-1], "role": "more"})
    found = {one.code for one in lint.lint(papers.make(document=document).contract, STANDARD)}
    assert found == {"BUDGET_DIFFERS"}


@pytest.mark.parametrize(
    "changes",
    [
        {"aggregate": None},
        {"release": None},
        {"release": "rows"},
        {"release": "dp"},
        {"effectiveness": papers._terms("conditional")["purposes"]["transport-planning"]["effectiveness"]},
        {"aggregate": aggregate(contribution={"groups": 0, "rows": 1})},
        {"aggregate": aggregate(contribution={"groups": 1})},
        {"aggregate": aggregate(measures={})},
        {"aggregate": aggregate(noise=False)},
        {"aggregate": aggregate(budget=None)},
    ],
    ids=lambda changes: json.dumps(changes)[:60],
)
def test_refused_by_the_format(changes: dict[str, Any]) -> None:
    with pytest.raises(SluicegateError) as caught:
        papers.make(document=statistics.document(**changes))
    assert caught.value.reason is Reason.CONTRACT_INVALID


def test_types_that_do_not_fit_are_found_before_anything_is_paid() -> None:
    def codes(terms: dict[str, Any], **schema: Any) -> set[str]:
        contract = papers.make(document=statistics.document(terms)).contract
        found = plan.refusals(plan.terms_for(contract, PURPOSE), contract, STANDARD, {**statistics.SCHEMA, **schema})
        return {one.code for one in found}

    listed = aggregate(groups={"hospital_code": [1, 2]}, delta=None, budget={"epsilon": 3})
    assert codes(listed) == {"GROUPS_UNFIT"}
    assert codes(aggregate(), citizen_id=FLOAT64) >= {"ENTITY_UNFIT"}
    assert codes(aggregate(), stay_minutes=STRING) >= {"COLUMN_TYPE", "MASK_UNFIT"}


def test_an_aggregate_is_asked_for_as_a_whole() -> None:
    made = papers.make(purpose=PURPOSE, document=statistics.document())
    asked = Request(**{**_request(made), "fields": ("hospital_code",)})
    assert "AGGREGATE_PARTIAL" in {found.code for found in requesting.check(made.contract, asked, STANDARD)}
    assert requesting.check(made.contract, Request(**_request(made)), STANDARD) == ()


def _request(made: papers.Papers) -> dict[str, Any]:
    import msgspec

    return msgspec.structs.asdict(msgspec.convert(made.request.payload, Request))


def test_policy_allows_what_lint_allows() -> None:
    """Published with it, asked for, and served with the compiled plan."""
    engine, made = EmbeddedEngine(), papers.make(purpose=PURPOSE, document=statistics.document())
    signers = (papers.STEWARD, papers.DPO)
    asked = inputs.publish(STEWARD, made.contract, signers=signers, now=papers.NOW)
    assert engine.decide(Action.PUBLISH, asked).reasons == ()
    consumer = Subject(papers.COMPANY, "company", papers.ANALYST, ("requester",))
    request = inputs.request(consumer, made.contract, Request(**_request(made)), now=papers.NOW)
    assert engine.decide(Action.REQUEST, request).reasons == ()
    for compiled in (statistics.compiled(), None):
        question = inputs.transfer(consumer, made.contract, made.agreed, "ACTIVE", compiled, papers.NOW)
        assert engine.decide(Action.TRANSFER, question).reasons == ()


def test_a_plan_that_sends_rows_has_the_digest_that_it_had() -> None:
    contract = papers.make().contract
    made = plan.compile(plan.terms_for(contract, "transport-planning"), contract, statistics.SCHEMA, STANDARD)
    assert made.aggregate is None
    assert statistics.compiled().digest != statistics.compiled(aggregate(epsilon="1.4")).digest


@given(st.integers(0, 1000 * MICRO))
def test_amounts_are_exact(value: int) -> None:
    assert amount(decimal(value, MICRO), MICRO) == value
    assert amount(decimal(value, PICO), PICO) == value


@pytest.mark.parametrize("value", ["", "x", "inf", "nan", "-1", "1001", "0.0000001", -0.5, 1e-7])
def test_what_is_no_amount(value: Any) -> None:
    with pytest.raises(ValueError, match=r"is no number|not between|not a whole"):
        amount(value, MICRO)


def test_bounds_are_whole_steps() -> None:
    assert (units(2.5, "0.5"), units(-600, "100"), units(0, "0.1")) == (5, -6, 0)
    with pytest.raises(ValueError, match="multiple"):
        units(0.25, "0.1")


def test_a_threshold_needs_something_to_follow_from() -> None:
    with pytest.raises(ValueError, match="above 0"):
        threshold(1, 0, 1)
    assert threshold(1, MICRO, 1) > threshold(1, MICRO, 1000) > threshold(1, 10 * MICRO, 1000)


def test_the_page_names_every_code() -> None:
    source = Path(lint.__file__).with_name("aggregate_rules.py").read_text()
    assert set(re.findall(r'code="([A-Z_]+)"', source)) <= set(re.findall(r"`([A-Z_]+)`", PAGE))


def test_a_file_is_not_judged_as_an_aggregate(tmp_path: Path) -> None:
    """Nothing in it would tell its noise, and that no row has bounds would look like data about nobody."""
    from contracts import odcs
    from exchange import judging, trying

    statistics.visits(tmp_path / "visits.parquet", people=3)
    loaded = odcs.load(papers.make(document=statistics.document()).document)
    with pytest.raises(SluicegateError, match="noise") as caught:
        judging.judge_file(loaded, trying.source_settings(tmp_path / "visits.parquet"), purpose=PURPOSE)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
