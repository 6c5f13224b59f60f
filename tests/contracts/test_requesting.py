"""Requests held against the contract: each refusal says what would pass."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts import model, requesting, standard, techniques
from contracts.agreement import Request
from contracts.envelope import SigningKey
from contracts.model import RowCondition, Sharing, SharingClass

STANDARD = standard.load()
HOLDER = SigningKey.from_seed(bytes(32)).public
FIELDS = {"name": "direct", "district": "quasi", "age": "quasi", "visits": "none"}


def contract(**change: Any) -> model.Contract:
    """Two purposes: statistics for everyone, audit for the audit office alone."""
    fields = tuple(
        model.Field(
            name=name,
            logical_type="integer" if name in ("age", "visits") else "string",
            classification=model.Tier.INTERNAL,
            identifiability=model.Identifiability(word),
        )
        for name, word in FIELDS.items()
    )
    bounds = model.Effectiveness(
        sharing_model=model.SharingModel.CONTROLLED,
        entity="name",
        quasi_identifiers=("district", "age"),
        require=model.Require(k=5),
    )
    masks: dict[str, techniques.AnyTechnique] = {
        "district": techniques.Keep(),
        "age": techniques.Bucket(size=10),
        "visits": techniques.Keep(),
        "name": techniques.Drop(),
    }
    statistics = model.Purpose(
        term="dpv:ResearchAndDevelopment",
        legal_basis="dpv:PublicInterest",
        consumers=("*",),
        fields=masks,
        effectiveness=bounds,
        rows={"district": RowCondition(any_of=("north",))},
        retention="P90D",
        geography=model.Geography(allowed=("XX-CTY",)),
    )
    made = model.Contract(
        id="c",
        dataset="visits",
        version="1.0.0",
        provider="health-bureau",
        table="visits",
        fields=fields,
        roles=tuple(
            model.AccessRole(role=name, first_level_approvers=("a@h.example",)) for name in ("statistics", "audit")
        ),
        sharing=Sharing(standard=STANDARD.id, class_=SharingClass.CONDITIONAL),
        purposes={"statistics": statistics, "audit": replace(statistics, consumers=("audit-office",))},
        negative_list=model.NegativeList(fields=(), together=(), uses=("dpv:Marketing",)),
        obligations=model.Obligations(
            onward_sharing="prohibited", reidentification="prohibited", deletion_proof="P7D", breach_notice="PT24H"
        ),
        responsibilities={},
        document_digest="sha256:document",
        terms_digest="sha256:terms",
    )
    return replace(made, **change)


def request(**change: Any) -> Request:
    asked = Request(
        id="requests/r-1",
        provider="health-bureau",
        dataset="visits",
        consumer="acme",
        requester="r@acme.example",
        document_digest="sha256:document",
        terms_digest="sha256:terms",
        purpose="statistics",
        fields=("district", "age"),
        duration="P30D",
        reason="planning of clinics",
        holder=HOLDER,
        created="2026-01-01T00:00:00Z",
    )
    return replace(asked, **change)


def found(of: model.Contract | None = None, **change: Any) -> dict[str, str]:
    violations = requesting.check(of or contract(), request(**change), STANDARD)
    return {violation.code: f"{violation.path}: {violation.message} ({violation.hint})" for violation in violations}


def test_what_the_contract_offers_passes() -> None:
    assert found() == {}
    assert found(fields=("visits", "district")) == {}
    assert found(duration="P90D") == {}
    assert found(purpose="audit", consumer="audit-office") == {}


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"purpose": "statistic"}, "PURPOSE_UNKNOWN", "did you mean 'statistics'?"),
        ({"purpose": "zzz"}, "PURPOSE_UNKNOWN", "open to acme: statistics"),
        ({"purpose": "audit"}, "CONSUMER_NOT_NAMED", "open to acme: statistics"),
        ({"fields": ("districts", "age")}, "FIELD_NOT_OFFERED", "did you mean 'district'"),
        ({"fields": ("name", "age")}, "FIELD_NOT_OFFERED", "the purpose offers: district, age, visits"),
        ({"fields": ()}, "FIELDS_EMPTY", "the purpose offers: district, age, visits"),
        ({"fields": ("age", "district", "age")}, "FIELD_TWICE", "2 times"),
        ({"duration": "P91D"}, "DURATION_TOO_LONG", "at most P90D"),
        ({"duration": "P3M"}, "DURATION_TOO_LONG", "at most P90D"),
        ({"duration": "soon"}, "DURATION_INVALID", "P90D"),
        ({"duration": "P0D"}, "DURATION_INVALID", "no length"),
        ({"reason": "  x  "}, "REASON_MISSING", "3 to 2000"),
        ({"reason": "x" * 2001}, "REASON_MISSING", "3 to 2000"),
        ({"terms_digest": "sha256:older"}, "CONTRACT_OTHER", "ask anew"),
        ({"dataset": "other"}, "CONTRACT_OTHER", "dataset"),
        ({"provider": "other"}, "CONTRACT_OTHER", "provider"),
        # Of the fields asked for, none could be bounded; the row scope would tell of one not sent.
        ({"fields": ("visits",)}, "QUASI_IDENTIFIERS_EMPTY", "just these fields"),
        ({"fields": ("age",)}, "ROWS_NOT_SENT", "just these fields"),
    ],
)
def test_what_goes_beyond_it_is_refused_with_what_would_pass(change: dict[str, Any], code: str, says: str) -> None:
    refused = found(**change)
    assert code in refused, refused
    assert says in refused[code]


def test_everything_is_reported_at_once() -> None:
    refused = found(purpose="audit", fields=("nam",), duration="P1Y", reason="", terms_digest="sha256:x")
    assert refused.keys() == {
        "CONSUMER_NOT_NAMED",
        "FIELD_NOT_OFFERED",
        "DURATION_TOO_LONG",
        "REASON_MISSING",
        "CONTRACT_OTHER",
    }


def test_a_dataset_that_is_not_shared_is_refused_on_its_legal_basis() -> None:
    secret = contract(
        sharing=Sharing(standard=STANDARD.id, class_=SharingClass.NOT_SHARED, legal_basis="dpv:LegalObligation")
    )
    refusal = requesting.not_shared(secret)
    assert refusal is not None
    assert "dpv:LegalObligation" in refusal.message
    assert found(secret).keys() == {"NOT_SHARED"}
    assert requesting.not_shared(contract()) is None


def test_a_purpose_that_the_negative_list_excludes_is_refused() -> None:
    of = contract()
    advertising = replace(of.purposes["statistics"], term="dpv:TargetedAdvertising")
    refused = found(replace(of, purposes={"statistics": advertising}))
    assert "dpv:Marketing" in refused["NEGATIVE_USE"]


def test_who_may_ask_for_what() -> None:
    assert requesting.purposes_for(contract(), "acme") == ("statistics",)
    assert requesting.purposes_for(contract(), "audit-office") == ("statistics", "audit")
    assert requesting.offered(contract().purposes["statistics"]) == ("district", "age", "visits")


@given(fields=st.lists(st.sampled_from([*FIELDS, "unknown"]), max_size=5), days=st.integers(1, 200))
def test_a_request_passes_only_with_offered_fields_named_once_within_the_retention(
    fields: list[str], days: int
) -> None:
    allowed = set(fields) <= {"district", "age", "visits"} and len(set(fields)) == len(fields)
    sendable = "district" in fields  # the row scope uses it, and it is a quasi-identifier
    assert (found(fields=tuple(fields), duration=f"P{days}D") == {}) == (allowed and sendable and days <= 90)
