"""The example contract's own purposes, from the model to a decision."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec import Struct

from contracts import instants, odcs, plan, standard
from contracts.agreement import Agreement, Approval, Request
from contracts.dtypes import DATE, INT64, STRING, timestamp
from contracts.envelope import Kind, SigningKey, sign
from contracts.errors import Reason, SluicegateError
from contracts.model import Contract
from contracts.policy import inputs
from contracts.policy.embedded import EmbeddedEngine
from contracts.policy.engine import Action, PolicyEngine
from contracts.policy.inputs import Subject
from contracts.techniques import ALL, Sample, SuppressSmall, parse

EXAMPLE = Path(__file__).parents[2] / "examples" / "hospital-visits.odcs.yaml"
NOW = 1767225600
KEY = SigningKey.from_seed(b"\1" * 32)
STEWARD = Subject("health-bureau", "department", "steward@health.example", ("steward",))
DPO = Subject("health-bureau", "department", "dpo@health.example", ("dpo",))
ANALYST = Subject("transit-lab", "company", "ana@transit.example", ("requester",))
EPIDEMIOLOGIST = Subject("disease-control-centre", "department", "epi@cdc.example", ("requester",))
SCHEMA = {
    "visit_id": STRING,
    "citizen_id": STRING,
    "patient_name": STRING,
    "phone": STRING,
    "birth_date": DATE,
    "sex": STRING,
    "home_postcode": STRING,
    "visit_ts": timestamp("us"),
    "hospital_code": STRING,
    "diagnosis_icd10": STRING,
    "cost_cents": INT64,
}


class Kept(Struct, frozen=True):
    """A request as a store keeps it."""

    state: str
    statement: bytes
    approvals: tuple[bytes, ...] = ()


@pytest.fixture(scope="module")
def engine() -> PolicyEngine:
    return EmbeddedEngine()


@pytest.fixture(scope="module")
def contract() -> Contract:
    return odcs.load(EXAMPLE.read_bytes()).contract


def altered(**changes: Any) -> Contract:
    """The example with custom properties changed: `purposes={...}` is merged into the purposes."""
    document = copy.deepcopy(yaml.safe_load(EXAMPLE.read_text()))
    for entry in document["customProperties"]:
        if entry["property"] in changes:
            entry["value"] = changes[entry["property"]](entry["value"])
    return odcs.load(yaml.safe_dump(document, allow_unicode=True).encode()).contract


def asked(contract: Contract, who: Subject, purpose: str, **changes: Any) -> Request:
    facts: dict[str, Any] = {
        "id": "requests/r-aaaaaaaaaa",
        "provider": contract.provider,
        "dataset": contract.dataset,
        "consumer": who.party,
        "requester": who.subject,
        "document_digest": contract.document_digest,
        "terms_digest": contract.terms_digest,
        "purpose": purpose,
        "fields": tuple(contract.purposes[purpose].fields),
        "duration": "P30D",
        "reason": "planning",
        "holder": KEY.public,
        "created": "2026-01-01T00:00:00Z",
    }
    return Request(**{**facts, **changes})


def agreed(contract: Contract, who: Subject, purpose: str, approvals: int, **changes: Any) -> Agreement:
    facts: dict[str, Any] = {
        "id": "agreements/a-aaaaaaaaaa",
        "provider": contract.provider,
        "dataset": contract.dataset,
        "consumer": who.party,
        "request_digest": "sha256:00",
        "approvals": tuple(f"sha256:{index}" for index in range(approvals)),
        "document_digest": contract.document_digest,
        "terms_digest": contract.terms_digest,
        "purpose": purpose,
        "fields": tuple(contract.purposes[purpose].fields),
        "holder": KEY.public,
        "gateway": "health-bureau-1",
        "standard_digest": standard.load().digest,
        "policy_digest": "sha256:00",
        "not_before": "2025-12-31T00:00:00Z",
        "not_after": "2026-03-01T00:00:00Z",
    }
    return Agreement(**{**facts, **changes})


def codes(engine: PolicyEngine, action: Action, question: dict[str, Any]) -> list[str]:
    decision = engine.decide(action, question)
    assert decision.allow is not bool(decision.reasons)
    return sorted({reason.code for reason in decision.reasons})


def test_publish_the_example(engine: PolicyEngine, contract: Contract) -> None:
    assert codes(engine, Action.PUBLISH, inputs.publish(STEWARD, contract, signers=[STEWARD.subject], now=NOW)) == []
    assert codes(engine, Action.PUBLISH, inputs.publish(STEWARD, contract, signers=[], now=NOW)) == ["SIGNERS_TOO_FEW"]
    assert codes(engine, Action.PUBLISH, inputs.publish(ANALYST, contract, signers=["x"], now=NOW)) == [
        "PARTY_KIND_WRONG",
        "PARTY_NOT_PROVIDER",
        "ROLE_MISSING",
    ]


def test_publish_under_a_standing_offer(engine: PolicyEngine) -> None:
    offer = altered(sharing=lambda value: {**value, "class": "unconditional"})
    one = inputs.publish(STEWARD, offer, signers=[STEWARD.subject], now=NOW)
    two = inputs.publish(STEWARD, offer, signers=[STEWARD.subject, DPO.subject], now=NOW)
    assert codes(engine, Action.PUBLISH, one) == ["SIGNERS_TOO_FEW"]
    assert codes(engine, Action.PUBLISH, two) == []


def test_request_the_example(engine: PolicyEngine, contract: Contract) -> None:
    def ask(who: Subject, purpose: str, **changes: Any) -> list[str]:
        return codes(
            engine, Action.REQUEST, inputs.request(who, contract, asked(contract, who, purpose, **changes), now=NOW)
        )

    assert ask(ANALYST, "transport-planning") == []
    assert ask(ANALYST, "transport-planning", fields=("visit_ts",)) == []
    assert ask(EPIDEMIOLOGIST, "outbreak-monitoring") == []
    assert ask(ANALYST, "outbreak-monitoring") == ["CONSUMER_NOT_NAMED"]
    assert ask(ANALYST, "transport-planning", fields=("visit_ts", "phone")) == ["FIELD_NOT_OFFERED", "PLAN_MISMATCH"]
    assert ask(ANALYST, "transport-planning", duration="P366D") == ["DURATION_TOO_LONG"]
    assert ask(ANALYST, "transport-planning", duration="P365D") == []
    assert ask(ANALYST, "transport-planning", duration="P1Y") == []
    with pytest.raises(SluicegateError, match="no purpose 'marketing'") as caught:
        inputs.request(
            ANALYST,
            contract,
            msgspec.structs.replace(asked(contract, ANALYST, "transport-planning"), purpose="marketing"),
            now=NOW,
        )
    assert caught.value.reason is Reason.REQUEST_OUTSIDE_CONTRACT


@pytest.mark.parametrize(
    "term", ["dpv:Marketing", "dpv:TargetedAdvertising", "dpv:DirectMarketing", "dpv:SellDataToThirdParties"]
)
def test_negative_use_covers_its_descendants(engine: PolicyEngine, term: str) -> None:
    def purposes(value: dict[str, Any]) -> dict[str, Any]:
        return {**value, "transport-planning": {**value["transport-planning"], "term": term}}

    forbidden = altered(purposes=purposes)
    question = inputs.request(ANALYST, forbidden, asked(forbidden, ANALYST, "transport-planning"), now=NOW)
    assert codes(engine, Action.REQUEST, question) == ["PURPOSE_FORBIDDEN"]


def test_approve_the_example(engine: PolicyEngine, contract: Contract) -> None:
    paper = sign(Kind.REQUEST, asked(contract, EPIDEMIOLOGIST, "outbreak-monitoring"), KEY)
    first = sign(
        Kind.APPROVAL,
        Approval(
            request="requests/r-aaaaaaaaaa",
            request_digest=paper.digest,
            approver=STEWARD.subject,
            created="2026-01-01T00:00:00Z",
        ),
        KEY,
    )
    fresh, endorsed = Kept("SUBMITTED", paper.to_bytes()), Kept("SUBMITTED", paper.to_bytes(), (first.to_bytes(),))
    assert codes(engine, Action.APPROVE, inputs.approve(STEWARD, contract, fresh, now=NOW)) == []
    assert codes(engine, Action.APPROVE, inputs.approve(DPO, contract, endorsed, now=NOW)) == []
    assert codes(engine, Action.APPROVE, inputs.approve(STEWARD, contract, endorsed, now=NOW)) == ["ALREADY_APPROVED"]
    assert codes(engine, Action.APPROVE, inputs.approve(EPIDEMIOLOGIST, contract, fresh, now=NOW)) == [
        "APPROVER_NOT_NAMED",
        "PARTY_NOT_PROVIDER",
        "ROLE_MISSING",
        "SELF_APPROVAL",
    ]
    assert codes(
        engine, Action.APPROVE, inputs.approve(STEWARD, contract, Kept("CANCELLED", paper.to_bytes()), now=NOW)
    ) == ["REQUEST_CLOSED"]


@pytest.mark.parametrize(
    ("who", "purpose", "approvals"), [(ANALYST, "transport-planning", 1), (EPIDEMIOLOGIST, "outbreak-monitoring", 2)]
)
def test_transfer_the_example(
    engine: PolicyEngine, contract: Contract, who: Subject, purpose: str, approvals: int
) -> None:
    """With the plan as stated (the exchange's question) and as compiled (the gateway's), alike."""
    paper = agreed(contract, who, purpose, approvals)
    compiled = plan.compile(plan.terms_of(paper), contract, SCHEMA, standard.load())
    for made in (None, compiled):
        assert codes(engine, Action.TRANSFER, inputs.transfer(who, contract, paper, "ACTIVE", made, NOW)) == []
        assert codes(engine, Action.TRANSFER, inputs.transfer(who, contract, paper, "SUSPENDED", made, NOW)) == [
            "AGREEMENT_NOT_ACTIVE"
        ]
        assert codes(
            engine, Action.TRANSFER, inputs.transfer(who, contract, paper, "ACTIVE", made, NOW + 90 * 86400)
        ) == ["AGREEMENT_EXPIRED"]
        fewer = agreed(contract, who, purpose, approvals - 1)
        assert codes(engine, Action.TRANSFER, inputs.transfer(who, contract, fewer, "ACTIVE", made, NOW)) == [
            "APPROVALS_TOO_FEW"
        ]
    stated, told = (
        inputs.transfer(who, contract, paper, "ACTIVE", made, NOW)["purpose"]["plan"] for made in (None, compiled)
    )
    assert {**stated, "compiled": True} == told


def test_what_stands_is_asked_anew_each_time(contract: Contract) -> None:
    """Made once, asked again and again: who asks, state and time are those of each question."""
    paper = agreed(contract, ANALYST, "transport-planning", 1)
    standing = inputs.Standing(contract, paper, None)
    for who, state, now in ((ANALYST, "ACTIVE", NOW), (EPIDEMIOLOGIST, "SUSPENDED", NOW + 40 * 86400)):
        asked = standing.at(who, state, now)
        assert asked == inputs.transfer(who, contract, paper, state, None, now)
        assert (asked["subject"]["name"], asked["agreement"]["state"], asked["now"]) == (who.subject, state, now)
        until = instants.duration(contract.purposes["transport-planning"].retention).after(now)
        assert asked["purpose"]["retention_seconds"] == until - now


def test_a_plan_that_sends_more_than_agreed(engine: PolicyEngine, contract: Contract) -> None:
    whole = agreed(contract, ANALYST, "transport-planning", 1)
    less = msgspec.structs.replace(whole, fields=("visit_ts", "hospital_code"))
    compiled = plan.compile(plan.terms_of(whole), contract, SCHEMA, standard.load())
    assert codes(engine, Action.TRANSFER, inputs.transfer(ANALYST, contract, less, "ACTIVE", compiled, NOW)) == [
        "FIELD_NOT_AGREED"
    ]
    assert codes(engine, Action.TRANSFER, inputs.transfer(ANALYST, contract, less, "ACTIVE", None, NOW)) == []


def test_a_dropped_field_is_promised_to_nobody(engine: PolicyEngine) -> None:
    def purposes(value: dict[str, Any]) -> dict[str, Any]:
        planning = value["transport-planning"]
        return {**value, "transport-planning": {**planning, "fields": {**planning["fields"], "sex": {"mask": "drop"}}}}

    dropping = altered(purposes=purposes)
    paper = agreed(dropping, ANALYST, "transport-planning", 1)
    assert "sex" in paper.fields
    compiled = plan.compile(plan.terms_of(paper), dropping, SCHEMA, standard.load())
    for made in (None, compiled):
        assert codes(engine, Action.TRANSFER, inputs.transfer(ANALYST, dropping, paper, "ACTIVE", made, NOW)) == []


def test_policy_sees_the_sample_and_the_small_classes_of_a_release(engine: PolicyEngine) -> None:
    """In the plan as the contract tells it and as it was compiled alike: the gateway asks before rows are drawn."""
    sample = {"rate": 0.1, "entity": "citizen_id"}
    drawing = altered(
        purposes=lambda value: {
            **value,
            "transport-planning": {**value["transport-planning"], "wholeRelease": {"sample": sample}},
        }
    )
    paper = agreed(drawing, ANALYST, "transport-planning", 1)
    compiled = plan.compile(plan.terms_of(paper), drawing, SCHEMA, standard.load())
    for known in (None, compiled):
        question = inputs.transfer(ANALYST, drawing, paper, "ACTIVE", known, NOW)
        assert question["purpose"]["plan"]["sample"] == sample
        assert question["purpose"]["plan"]["suppress_small"] is None
        assert codes(engine, Action.TRANSFER, question) == []
    thinner = msgspec.structs.replace(compiled, sample=Sample(rate=0.1, entity="visit_id"))
    question = inputs.transfer(ANALYST, drawing, paper, "ACTIVE", thinner, NOW)
    assert codes(engine, Action.TRANSFER, question) == ["SAMPLE_UNFIT"]
    small = SuppressSmall(k=3, fields=("hospital_code",), max_suppression=0.1)
    beside = msgspec.structs.replace(compiled, sample=None, suppress_small=small)
    question = inputs.transfer(ANALYST, drawing, paper, "ACTIVE", beside, NOW)
    assert question["purpose"]["plan"]["suppress_small"] == {
        "fields": {"hospital_code": True},
        "k": 3,
        "max_suppression": 0.1,
    }
    assert codes(engine, Action.TRANSFER, question) == ["SMALL_UNFIT"]


def test_ledger_read(engine: PolicyEngine) -> None:
    auditor = Subject("inspectorate", "supervision", "aud@sup.example", ("auditor",))
    assert codes(engine, Action.LEDGER_READ, inputs.ledger_read(ANALYST, ["transit-lab"], now=NOW)) == []
    assert codes(engine, Action.LEDGER_READ, inputs.ledger_read(ANALYST, ["*"], now=NOW)) == ["NOT_CONCERNED"]
    assert codes(engine, Action.LEDGER_READ, inputs.ledger_read(auditor, ["*"], now=NOW)) == []


def test_every_technique_has_a_treatment() -> None:
    """A technique added later must be placed on purpose, not fall into a default."""
    expected = {
        "keep": "kept",
        "redact": "kept",
        "drop": "removed",
        "null": "removed",
        "constant": "removed",
        "hmac": "pseudonym",
        "random_id": "pseudonym",
        "aes_siv": "encrypted",
        "ff1": "encrypted",
    }
    coarsening = {
        "partial",
        "bucket",
        "clip",
        "round",
        "truncate",
        "date_part",
        "prefix",
        "hierarchy",
        "geo_round",
        "rare",
        "regex",
        "ip_prefix",
        "geohash",
        "shift_date",
        "noise",
        "shuffle",
        "microaggregate",
    }
    assert set(ALL) == set(expected) | coarsening
    basis = {"legal_basis": "dpv:LegalObligation"}
    sealed = [
        parse({"mask": "aes_siv", "domain": "person", **basis}),
        parse({"mask": "ff1", "domain": "person", "unsafe_format_preserving": True, **basis}),
    ]
    assert all(inputs.treatment(mask) == "encrypted" for mask in sealed)
    assert inputs.treatment(parse({"mask": "keep"})) == "kept"
    assert inputs.treatment(parse({"mask": "null"})) == "removed"
    assert inputs.treatment(parse({"mask": "hmac", "domain": "person"})) == "pseudonym"
    assert inputs.treatment(parse({"mask": "random_id"})) == "pseudonym"
    assert inputs.treatment(parse({"mask": "prefix", "length": 2})) == "coarsened"
