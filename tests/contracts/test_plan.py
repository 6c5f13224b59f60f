"""The plan compiler: what it sends, what it adds, and every rule that refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from contracts import dtypes as d
from contracts import plan, standard, techniques
from contracts.agreement import Agreement
from contracts.canonical import canonical, digest
from contracts.envelope import SigningKey
from contracts.errors import Reason, SluicegateError
from contracts.model import (
    AccessRole,
    Contract,
    Effectiveness,
    Field,
    Geography,
    Identifiability,
    NegativeList,
    Obligations,
    Purpose,
    Require,
    RowCondition,
    Sharing,
    SharingClass,
    SharingModel,
    Tier,
)
from contracts.plan import Plan, PlanTerms, terms_for, terms_of

STANDARD = standard.load()


def field(name: str, kind: str, tier: str, identifiability: str, category: str | None = None, **more: Any) -> Field:
    return Field(
        name=name,
        logical_type=kind,
        classification=Tier(tier),
        identifiability=Identifiability(identifiability),
        category=category,
        **more,
    )


FIELDS = (
    field("visit_id", "string", "internal", "indirect", unique=True),
    field("citizen_id", "string", "highly-private", "direct", "national-id"),
    field("patient_name", "string", "highly-private", "direct", "person-name"),
    field("phone", "string", "semi-private", "direct", "phone"),
    field("birth_date", "date", "semi-private", "quasi", "birth-date"),
    field("sex", "string", "internal", "quasi"),
    field("visit_ts", "timestamp", "internal", "quasi"),
    field("ward", "string", "open", "none"),
    field("diagnosis", "string", "highly-private", "sensitive", "medical-code"),
    field("cost", "integer", "semi-private", "sensitive", "amount"),
    field("insurer_no", "string", "internal", "indirect"),
    field("lat", "number", "semi-private", "quasi", "location"),
    field("lon", "number", "semi-private", "quasi", "location"),
    field("height", "number", "open", "none"),
    field("face", "string", "prohibited", "direct", "face"),
)
SCHEMA: dict[str, d.DType] = {
    **{item.name: d.STRING for item in FIELDS},
    "birth_date": d.DATE,
    "visit_ts": d.timestamp("us"),
    "cost": d.INT64,
    **dict.fromkeys(("lat", "lon", "height"), d.FLOAT64),
    "not_in_the_contract": d.BINARY,
}
MASKS: dict[str, dict[str, object]] = {
    "diagnosis": {"mask": "prefix", "length": 3},  # listed out of the contract's order on purpose
    "citizen_id": {"mask": "hmac", "domain": "person", "period": {"field": "visit_ts", "unit": "week"}},
    "birth_date": {"mask": "bucket", "size": "20y"},
    "sex": {"mask": "keep"},
    "visit_ts": {"mask": "truncate", "unit": "week", "zone": "Etc/UTC"},
    "ward": {"mask": "keep"},
    "phone": {"mask": "drop"},
}
BOUNDS = Effectiveness(
    sharing_model=SharingModel.CONTROLLED,
    entity="citizen_id",
    quasi_identifiers=("birth_date", "sex", "visit_ts"),
    require=Require(k=10, l={"diagnosis": 2}, max_suppression=0.05),
    on_violation="suppress",
)


def contract(
    masks: Mapping[str, Mapping[str, object]] | None = None,
    *,
    bounds: Effectiveness | None = BOUNDS,
    fields: tuple[Field, ...] = FIELDS,
    **purpose: Any,
) -> Contract:
    """The hospital's contract with one purpose; `masks` replace those of the same fields."""
    read = {name: techniques.parse(words) for name, words in {**MASKS, **(masks or {})}.items()}
    return Contract(
        id="c",
        dataset="hospital-visits",
        version="1.0.0",
        provider="health-bureau",
        table="visits",
        fields=fields,
        roles=(AccessRole(role="outbreak", first_level_approvers=("a@h.example", "b@h.example")),),
        sharing=Sharing(standard=STANDARD.id, class_=SharingClass.CONDITIONAL),
        purposes={
            "outbreak": Purpose(
                **{
                    "term": "sector-health:PublicHealthSurveillance",
                    "legal_basis": "dpv:PublicInterest",
                    "consumers": ("disease-control-centre",),
                    "fields": read,
                    "effectiveness": bounds,
                    "retention": "P90D",
                    "geography": Geography(allowed=("XX-CTY",)),
                    **purpose,
                }
            )
        },
        negative_list=NegativeList(
            fields=("patient_name",), together=(("citizen_id", "diagnosis", "cost"),), uses=("dpv:Marketing",)
        ),
        obligations=Obligations(
            onward_sharing="prohibited", reidentification="prohibited", deletion_proof="P7D", breach_notice="PT24H"
        ),
        responsibilities={},
        document_digest="sha256:document",
        terms_digest="sha256:terms",
    )


def compiled(of: Contract, schema: Mapping[str, d.DType] = SCHEMA, **terms: Any) -> Plan:
    return plan.compile(replace(terms_for(of, "outbreak"), **terms), of, schema, STANDARD)


def refused(of: Contract, schema: Mapping[str, d.DType] = SCHEMA, **terms: Any) -> dict[str, str]:
    with pytest.raises(SluicegateError) as caught:
        compiled(of, schema, **terms)
    assert caught.value.reason is Reason.PLAN_REFUSED
    return {found.code: f"{found.path}: {found.message} ({found.hint})" for found in caught.value.violations}


# --- what a plan is ---------------------------------------------------------------------------


def test_a_plan_says_exactly_what_leaves() -> None:
    made = compiled(contract())
    assert [item.name for item in made.fields] == ["citizen_id", "birth_date", "sex", "visit_ts", "ward", "diagnosis"]
    assert made.read == ("citizen_id", "birth_date", "sex", "visit_ts", "ward", "diagnosis")
    assert made.entity == "citizen_id"
    assert made.quasi_identifiers == ("birth_date", "sex", "visit_ts")
    assert made.pseudonyms == ("citizen_id",)
    assert made.composite
    assert made.sensitive == {"diagnosis": 2}
    assert (made.k, made.max_suppression, made.on_violation) == (10, 0.05, "suppress")
    assert made.order == "keyed"
    assert made.standard_digest == STANDARD.digest


def test_defaults_are_written_out_and_a_period_takes_the_zone_of_its_field() -> None:
    made = {item.name: item for item in compiled(contract()).fields}
    assert made["birth_date"].technique == techniques.parse({"mask": "bucket", "size": "20y", "origin": "1900-01-01"})
    hmac = made["citizen_id"].technique
    assert isinstance(hmac, techniques.Hmac)
    assert hmac.period == techniques.Period(field="visit_ts", unit="week", zone="Etc/UTC")
    assert made["visit_ts"].output == d.DATE
    assert made["visit_ts"].treatment.type == "date"
    assert made["citizen_id"].treatment.technique["domain"] == "person"


def test_what_is_not_asked_for_is_not_sent_but_the_entity_is_still_read() -> None:
    made = compiled(contract(), fields=("sex", "ward"))
    assert [item.name for item in made.fields] == ["sex", "ward"]
    assert made.read == ("citizen_id", "sex", "ward")
    assert made.quasi_identifiers == ("sex",)
    assert made.pseudonyms == ()
    assert not made.composite
    assert made.sensitive == {}


def test_the_digest_is_canonical_and_moves_with_every_part() -> None:
    first = compiled(contract())
    assert canonical(msgspec.to_builtins(first))
    assert first.digest == compiled(contract()).digest
    others = [
        compiled(contract({"birth_date": {"mask": "bucket", "size": "10y"}})),
        compiled(contract(), agreement_digest="sha256:other"),
        compiled(contract(), fields=("sex",)),
        compiled(contract(bounds=replace(BOUNDS, require=replace(BOUNDS.require, k=11)))),
        compiled(contract(refresh="P2D")),
        compiled(contract(), {**SCHEMA, "visit_ts": d.timestamp("ms")}),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 7


def test_the_terms_of_an_agreement_bind_contract_and_standard() -> None:
    key = SigningKey.from_seed(bytes(32)).public
    agreement = Agreement(
        id="agreements/a-1", provider="health-bureau", dataset="hospital-visits", consumer="disease-control-centre",
        request_digest="sha256:r", approvals=(), document_digest="sha256:document", terms_digest="sha256:terms",
        purpose="outbreak", fields=("sex",), holder=key, gateway="health-bureau-1", standard_digest=STANDARD.digest,
        policy_digest="sha256:p", not_before="2026-01-01T00:00:00Z", not_after="2026-02-01T00:00:00Z",
    )  # fmt: skip
    terms = terms_of(agreement)
    assert terms.agreement_digest == digest(msgspec.to_builtins(agreement))
    assert plan.compile(terms, contract(), SCHEMA, STANDARD).agreement_digest == terms.agreement_digest
    assert "TERMS_OTHER" in refused(contract(), terms_digest="sha256:changed")
    assert "STANDARD_OTHER" in refused(contract(), standard_digest="sha256:changed")


def test_data_about_no_person_needs_no_bounds_and_keeps_its_order() -> None:
    plain = (field("ward", "string", "open", "none"), field("beds", "integer", "open", "none"))
    of = replace(contract(fields=plain, bounds=None), roles=())
    of = replace(of, purposes={"outbreak": replace(of.purposes["outbreak"], fields={"ward": techniques.Keep()})})
    made = compiled(of, {"ward": d.STRING})
    assert (made.entity, made.k, made.quasi_identifiers, made.order) == (None, None, (), "source")


def test_a_cell_reads_the_longitude_though_it_is_not_sent_and_counts_as_quasi() -> None:
    made = compiled(contract(cell("lon")), fields=("sex", "lat"))
    assert [item.name for item in made.fields] == ["sex", "lat"]
    assert "lon" in made.read
    assert made.quasi_identifiers == ("sex", "lat")


@pytest.mark.parametrize("words", [{"mask": "aes_siv"}, {"mask": "ff1", "unsafe_format_preserving": True}])
def test_an_encrypted_phone_is_a_pseudonym_under_composite_k(words: dict[str, Any]) -> None:
    sealed = {**words, "domain": "phone", "legal_basis": "dpv:LegalObligation"}
    made = compiled(contract({"phone": sealed, "citizen_id": {"mask": "drop"}}))
    assert made.pseudonyms == ("phone",)
    assert "phone" not in made.quasi_identifiers


def test_a_column_that_leaves_as_nulls_is_not_read() -> None:
    made = compiled(contract({"ward": {"mask": "null"}}), fields=("sex", "ward"))
    assert [item.name for item in made.fields] == ["sex", "ward"]
    assert "ward" not in made.read


# --- quasi-identifiers and pseudonyms ---------------------------------------------------------


def bounded(*quasi: str, **require: Any) -> Effectiveness:
    return replace(BOUNDS, quasi_identifiers=quasi, require=replace(BOUNDS.require, **require))


@pytest.mark.parametrize(
    ("masks", "found"),
    [
        ({}, {"birth_date", "sex", "visit_ts"}),  # quasi, though none is declared
        ({"phone": {"mask": "partial", "keep_first": 3}}, {"birth_date", "sex", "visit_ts", "phone"}),  # a remnant
        ({"phone": {"mask": "hmac", "domain": "phone"}}, {"birth_date", "sex", "visit_ts"}),  # nothing readable
        ({"phone": {"mask": "random_id"}}, {"birth_date", "sex", "visit_ts"}),
        ({"sex": {"mask": "hmac", "domain": "sex"}}, {"birth_date", "sex", "visit_ts"}),  # equal still shows as equal
        ({"birth_date": {"mask": "null"}}, {"sex", "visit_ts"}),
    ],
)
def test_quasi_identifiers_are_found_whether_declared_or_not(masks: dict[str, Any], found: set[str]) -> None:
    assert set(compiled(contract(masks, bounds=bounded())).quasi_identifiers) == found


def test_a_declared_one_counts_whatever_it_is_but_only_when_it_is_sent() -> None:
    assert "ward" in compiled(contract(bounds=bounded("ward", "phone"))).quasi_identifiers
    assert "phone" not in compiled(contract(bounds=bounded("ward", "phone"))).quasi_identifiers


def test_an_amount_finer_than_the_standards_rounding_is_quasi_and_cannot_also_be_sensitive() -> None:
    require = {"l": {"diagnosis": 2, "cost": 2}}
    coarse = contract(
        {"cost": {"mask": "round", "base": 1000}, "citizen_id": {"mask": "drop"}}, bounds=bounded(**require)
    )
    assert "cost" not in compiled(coarse).quasi_identifiers
    assert compiled(coarse).sensitive == {"diagnosis": 2, "cost": 2}
    fine = contract({"cost": {"mask": "round", "base": 10}, "citizen_id": {"mask": "drop"}}, bounds=bounded(**require))
    assert "round it to at least 1000" in refused(fine)["L_ON_QUASI"]


def test_a_kept_number_that_is_not_unique_a_row_is_a_pseudonym() -> None:
    """An insurance number joins the rows of a person as well as any hash."""
    made = compiled(contract({"insurer_no": {"mask": "keep"}, "citizen_id": {"mask": "drop"}}))
    assert made.pseudonyms == ("insurer_no",)
    unique = compiled(contract({"visit_id": {"mask": "keep"}, "citizen_id": {"mask": "drop"}}))
    assert unique.pseudonyms == ()


# --- what is refused --------------------------------------------------------------------------

Change = Callable[[], Contract]


def negative(**change: Any) -> Contract:
    of = contract()
    return replace(of, negative_list=replace(of.negative_list, **change))


def cell(longitude: str) -> dict[str, Any]:
    return {"lat": {"mask": "geohash", "precision": 4, "longitude": longitude}}


REFUSALS: dict[str, tuple[Change, str, str]] = {
    "a direct identifier kept": (
        lambda: contract({"phone": {"mask": "keep"}}),
        "FLOOR_DIRECT_IDENTIFIER",
        "fields.phone",
    ),
    "a national id in part": (
        lambda: contract({"citizen_id": {"mask": "partial", "keep_first": 3}}),
        "FLOOR_HIGHLY_PRIVATE_IDENTIFIER",
        "citizen_id",
    ),
    "a phone with too few digits hidden": (
        lambda: contract({"phone": {"mask": "partial", "keep_first": 5, "keep_last": 4, "min_masked": 2}}),
        "FLOOR_CANDIDATES",
        "phone",
    ),
    "a prohibited field": (lambda: contract({"face": {"mask": "null"}}), "FLOOR_PROHIBITED", "fields.face"),
    "a field on the negative list, even masked": (
        lambda: contract({"patient_name": {"mask": "null"}}),
        "NEGATIVE_FIELD",
        "patient_name",
    ),
    "a combination on the negative list, in any form": (
        lambda: contract({"cost": {"mask": "null"}}),
        "NEGATIVE_TOGETHER_0",
        "citizen_id, diagnosis, cost",
    ),
    "a use on the negative list": (lambda: contract(term="dpv:Marketing"), "NEGATIVE_USE", "excludes dpv:Marketing"),
    "a kind of a use on the negative list": (
        lambda: contract(term="dpv:TargetedAdvertising"),
        "NEGATIVE_USE",
        "is a kind of it",
    ),
    "an ancestor excluded": (lambda: negative(uses=("dpv:Purpose",)), "NEGATIVE_USE", "is a kind of it"),
    "an unknown purpose term": (lambda: contract(term="dpv:Marketingg"), "PURPOSE_TERM_UNKNOWN", "dpv:Marketing"),
    "an unknown field": (lambda: contract({"sexx": {"mask": "keep"}}), "FIELD_UNKNOWN", "did you mean 'sex'"),
    "no bounds on data about persons": (lambda: contract(bounds=None), "BOUNDS_MISSING", "sharingModel, entity"),
    "k below the standard's tau": (lambda: contract(bounds=bounded(k=4)), "K_TOO_LOW", "at least 5"),
    "k below that of a public release": (
        lambda: contract(bounds=replace(bounded(k=19), sharing_model=SharingModel.PUBLIC)),
        "K_TOO_LOW",
        "at least 20",
    ),
    "an unknown entity": (
        lambda: contract(bounds=replace(BOUNDS, entity="citizen")),
        "BOUND_FIELD_UNKNOWN",
        "citizen_id",
    ),
    "an unknown quasi-identifier": (
        lambda: contract(bounds=bounded("sexx")),
        "BOUND_FIELD_UNKNOWN",
        "quasiIdentifiers",
    ),
    "l of an unknown field": (
        lambda: contract(bounds=bounded(l={"diagnosis": 2, "x": 2})),
        "BOUND_FIELD_UNKNOWN",
        "require.l",
    ),
    "a sensitive field without l": (
        lambda: contract({"diagnosis": {"mask": "hierarchy", "table": {"a": ["b"]}}}, bounds=bounded(l={})),
        "L_TOO_LOW",
        "diagnosis",
    ),
    "l of one": (lambda: contract(bounds=bounded(l={"diagnosis": 1})), "L_TOO_LOW", "at least 2"),
    "l of a quasi-identifier": (
        lambda: contract(bounds=bounded("diagnosis", "sex")),
        "L_ON_QUASI",
        "take it out of one",
    ),
    "the entity's pseudonym as quasi-identifier": (
        lambda: contract(bounds=bounded("citizen_id", "sex")),
        "QUASI_IS_PSEUDONYM",
        "citizen_id",
    ),
    "a limit of suppression where nothing is suppressed": (
        lambda: contract(bounds=replace(BOUNDS, on_violation="refuse")),
        "SUPPRESSION_CONTRADICTS",
        "remove it",
    ),
    "suppression without a limit": (
        lambda: contract(bounds=bounded(max_suppression=None)),
        "SUPPRESSION_UNBOUNDED",
        "0.05",
    ),
    "suppression of everything": (
        lambda: contract(bounds=bounded(max_suppression=1.0)),
        "SUPPRESSION_RANGE",
        "less than 1",
    ),
    "a row scope on a field that is not sent": (
        lambda: contract(rows={"insurer_no": RowCondition(any_of=("x",))}),
        "ROWS_NOT_SENT",
        "every row would disclose",
    ),
    "a row scope on a dropped field": (
        lambda: contract(rows={"phone": RowCondition(any_of=("x",))}),
        "ROWS_NOT_SENT",
        "rows.phone",
    ),
    "a row scope on a sensitive field": (
        lambda: contract(rows={"diagnosis": RowCondition(from_="A")}),
        "ROWS_SENSITIVE",
        "rows.diagnosis",
    ),
    "a row scope finer than the mask": (
        lambda: contract(rows={"birth_date": RowCondition(any_of=("1990-01-01",))}),
        "ROWS_MASKED",
        "bucket",
    ),
    "an empty row scope": (lambda: contract(rows={"sex": RowCondition()}), "ROWS_EMPTY", "anyOf, from or until"),
    "a row scope that lets nothing pass": (
        lambda: contract(rows={"sex": RowCondition(any_of=())}),
        "ROWS_EMPTY",
        "no row",
    ),
    "a row scope of another type": (lambda: contract(rows={"sex": RowCondition(any_of=(1,))}), "ROWS_UNFIT", "texts"),
    "a row scope with another spelling of a time": (
        lambda: contract(rows={"visit_ts": RowCondition(from_="yesterday")}),
        "ROWS_UNFIT",
        "2026-01-31T00:00:00Z",
    ),
    "too few approvers for the tier": (
        lambda: replace(
            contract(), roles=(AccessRole(role="outbreak", first_level_approvers=("a@h.example", "A@h.example")),)
        ),
        "APPROVERS_TOO_FEW",
        "1 approvers are named",
    ),
    "no role for the purpose": (lambda: replace(contract(), roles=()), "APPROVERS_TOO_FEW", "need 2"),
    "a dataset that is not shared": (
        lambda: replace(
            contract(), sharing=Sharing(standard=STANDARD.id, class_=SharingClass.NOT_SHARED, legal_basis="dpv:X")
        ),
        "NOT_SHARED",
        "dpv:X",
    ),
    "another standard": (
        lambda: replace(contract(), sharing=Sharing(standard="desensitisation/0", class_=SharingClass.CONDITIONAL)),
        "STANDARD_OTHER",
        "desensitisation/0",
    ),
    "a period over an unknown field": (
        lambda: contract({"citizen_id": {"mask": "hmac", "domain": "p", "period": {"field": "ts", "unit": "day"}}}),
        "PERIOD_FIELD_UNKNOWN",
        "citizen_id.period",
    ),
    "a period over a text": (
        lambda: contract({"citizen_id": {"mask": "hmac", "domain": "p", "period": {"field": "sex", "unit": "day"}}}),
        "PERIOD_UNFIT",
        "date or a timestamp",
    ),
    "a period over a timestamp without zone": (
        lambda: contract({"visit_ts": {"mask": "drop"}}, bounds=bounded("sex")),
        "PERIOD_ZONE_MISSING",
        "state `zone`",
    ),
    "truncation without a zone": (
        lambda: contract({"visit_ts": {"mask": "truncate", "unit": "week"}}),
        "MASK_UNFIT",
        "needs `zone`",
    ),
    "a cell of a longitude that does not exist": (lambda: contract(cell("lng")), "MASK_FIELD_UNKNOWN", "'lng'"),
    "a cell of a longitude that is judged otherwise": (
        lambda: contract(cell("height")),
        "MASK_FIELD_UNLIKE",
        "not classified like lat",
    ),
    "a cell of one column": (lambda: contract(cell("lat")), "MASK_FIELD_UNLIKE", "another field besides lat"),
    "a cell of a text": (lambda: contract(cell("sex")), "MASK_UNFIT", "longitude: geohash works on float or decimal"),
    "a cell that shows what the negative list keeps in": (
        lambda: replace(contract(cell("lon")), negative_list=replace(contract().negative_list, fields=("lon",))),
        "NEGATIVE_FIELD",
        "fields.lon",
    ),
    "a cell that completes a combination of the negative list": (
        lambda: replace(
            contract(cell("lon")), negative_list=replace(contract().negative_list, together=(("sex", "lon"),))
        ),
        "NEGATIVE_TOGETHER_0",
        "sex, lon",
    ),
    "dates moved by what many share": (
        lambda: contract({"visit_ts": {"mask": "shift_date", "days": 30, "entity": "sex"}}),
        "SHIFT_ENTITY",
        "entity: citizen_id",
    ),
    "dates moved by an unknown field": (
        lambda: contract({"visit_ts": {"mask": "shift_date", "days": 30, "entity": "citizen"}}),
        "MASK_FIELD_UNKNOWN",
        "did you mean 'citizen_id'?",
    ),
    "dates moved by a number with a point": (
        lambda: contract({"visit_ts": {"mask": "shift_date", "days": 30, "entity": "lat"}}),
        "MASK_UNFIT",
        "lat is float64",
    ),
    "encryption on a basis that no law knows": (
        lambda: contract({"phone": {"mask": "aes_siv", "domain": "p", "legal_basis": "dpv:LegalObligatio"}}),
        "REVERSIBLE_WITHOUT_BASIS",
        "did you mean 'dpv:LegalObligation'?",
    ),
    "encryption on any basis at all": (
        lambda: contract({"phone": {"mask": "aes_siv", "domain": "p", "legal_basis": "dpv:LegalBasis"}}),
        "REVERSIBLE_WITHOUT_BASIS",
        "fields.phone.legal_basis",
    ),
    "a national id encrypted, whatever the basis": (
        lambda: contract({"citizen_id": {"mask": "aes_siv", "domain": "p", "legal_basis": "dpv:LegalObligation"}}),
        "FLOOR_HIGHLY_PRIVATE_IDENTIFIER",
        "can be undone",
    ),
    "a mask that cannot work on the type": (
        lambda: contract({"birth_date": {"mask": "prefix", "length": 4}}),
        "MASK_UNFIT",
        "prefix works on string",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refused(what: str) -> None:
    change, code, says = REFUSALS[what]
    found = refused(change())
    assert code in found, found
    assert says in found[code]


@pytest.mark.parametrize(
    ("schema", "code", "says"),
    [
        ({key: value for key, value in SCHEMA.items() if key != "sex"}, "COLUMN_MISSING", "properties.sex"),
        ({**SCHEMA, "sex": d.INT8}, "COLUMN_TYPE", "declared string, but the source has int8"),
        ({**SCHEMA, "birth_date": d.timestamp("us")}, "COLUMN_TYPE", "birth_date"),
        ({**SCHEMA, "ward": d.DType("other", name="list")}, "COLUMN_UNSUPPORTED", "other(list)"),
        ({}, "COLUMN_MISSING", "no such column"),
    ],
)
def test_schema_drift_is_refused(schema: dict[str, d.DType], code: str, says: str) -> None:
    assert says in refused(contract(), schema)[code]


def test_drift_in_what_is_not_needed_does_not_matter() -> None:
    """A column that is not sent may vanish; one that the contract does not know is not sent."""
    schema = {key: value for key, value in SCHEMA.items() if key not in ("patient_name", "cost", "phone")}
    made = compiled(contract(), {**schema, "new_column": d.STRING})
    assert "new_column" not in {item.name for item in made.fields} | set(made.read)


def test_a_missing_column_that_would_leave_as_nulls_is_still_drift() -> None:
    schema = {key: value for key, value in SCHEMA.items() if key != "ward"}
    assert "ward" in refused(contract({"ward": {"mask": "null"}}), schema)["COLUMN_MISSING"]


def test_an_entity_whose_spelling_is_not_its_value_is_refused() -> None:
    fields = tuple(replace(item, logical_type="number") if item.name == "insurer_no" else item for item in FIELDS)
    of = contract(fields=fields, bounds=replace(BOUNDS, entity="insurer_no"))
    assert "float64" in refused(of, {**SCHEMA, "insurer_no": d.FLOAT64})["ENTITY_UNFIT"]


def test_an_agreement_cannot_name_what_the_purpose_does_not_offer() -> None:
    found = refused(contract(), fields=("sex", "patient_name", "nothing", "sex"))
    assert found.keys() == {"FIELD_NOT_OFFERED", "FIELD_TWICE"}


def test_an_agreement_on_nothing_is_refused() -> None:
    assert "NOTHING_SENT" in refused(contract(), fields=())
    assert "NOTHING_SENT" in refused(contract(), fields=("phone",))


def test_data_about_persons_without_a_quasi_identifier_is_refused() -> None:
    assert refused(contract(), fields=("ward",)).keys() == {"QUASI_IDENTIFIERS_EMPTY"}


def test_an_unknown_purpose_names_the_nearest() -> None:
    terms = terms_for(contract(), "outbreaks")
    assert terms.fields == ()
    with pytest.raises(SluicegateError) as caught:
        plan.compile(terms, contract(), SCHEMA, STANDARD)
    assert [found.code for found in caught.value.violations] == ["PURPOSE_UNKNOWN"]
    assert "did you mean 'outbreak'?" in str(caught.value)


def test_every_violation_is_reported_at_once() -> None:
    of = contract(
        {"phone": {"mask": "keep"}, "patient_name": {"mask": "null"}, "birth_date": {"mask": "prefix", "length": 4}},
        bounds=bounded(k=2, max_suppression=None),
        term="dpv:Marketing",
        rows={"insurer_no": RowCondition(any_of=("x",))},
    )
    assert refused(of, {**SCHEMA, "sex": d.INT8}).keys() == {
        "FLOOR_DIRECT_IDENTIFIER", "NEGATIVE_FIELD", "NEGATIVE_USE", "K_TOO_LOW", "SUPPRESSION_UNBOUNDED",
        "ROWS_NOT_SENT", "COLUMN_TYPE", "MASK_UNFIT", "FLOOR_SEMI_PRIVATE",
    }  # fmt: skip


def test_without_a_schema_only_what_needs_data_is_left_open() -> None:
    of = contract({"birth_date": {"mask": "prefix", "length": 4}, "phone": {"mask": "keep"}})
    codes = {found.code for found in plan.refusals(terms_for(of, "outbreak"), of, STANDARD)}
    assert codes == {"FLOOR_DIRECT_IDENTIFIER", "FLOOR_SEMI_PRIVATE"}


def test_a_lax_standard_cannot_let_a_direct_identifier_pass() -> None:
    lax = replace(STANDARD, floors=())
    of = contract({"phone": {"mask": "keep"}, "face": {"mask": "null"}})
    codes = {found.code for found in plan.refusals(terms_for(of, "outbreak"), of, lax)}
    assert codes == {"FLOOR_DIRECT_IDENTIFIER", "FLOOR_PROHIBITED"}


def test_a_standing_offer_needs_no_named_approvers() -> None:
    of = replace(contract(), roles=(), sharing=Sharing(standard=STANDARD.id, class_=SharingClass.UNCONDITIONAL))
    assert compiled(of).k == 10


@given(fields=st.lists(st.sampled_from([item.name for item in FIELDS] + ["unknown"]), max_size=12))
def test_no_plan_sends_a_field_that_was_not_asked_for_and_offered(fields: list[str]) -> None:
    of = contract()
    try:
        made = plan.compile(PlanTerms(purpose="outbreak", fields=tuple(fields)), of, SCHEMA, STANDARD)
    except SluicegateError as error:
        refusal = error
        made = None
    if made is None:
        assert refusal.violations
        return
    sent = {item.name for item in made.fields}
    assert sent <= set(fields) & {name for name, mask in MASKS.items() if mask["mask"] != "drop"}
    assert made.quasi_identifiers
    assert set(made.quasi_identifiers) | set(made.pseudonyms) | set(made.sensitive) <= sent
    assert sent | {made.entity} <= set(made.read)
