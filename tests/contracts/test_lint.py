"""What a contract may say, judged without the data: each rule broken once, found in its place."""

from __future__ import annotations

import pytest

from contracts import lint, odcs, standard
from contracts.errors import Reason, SluicegateError
from tests.documents import EXAMPLE, ROOT, cases, line_of, only, refused, spoilt

TRANSPORT = "customProperties.purposes.transport-planning"
EFFECT = "        effectiveness:\n          sharingModel: controlled\n          entity: citizen_id # read"


def test_the_example_passes() -> None:
    loaded = lint.check(EXAMPLE.encode())
    assert lint.lint(loaded.contract, standard.load()) == ()


CASES = cases("spoilt-rules.yaml")


@pytest.mark.parametrize("name", CASES)
def test_each_rule(name: str) -> None:
    case = CASES[name]
    found = refused(spoilt(*case.changes)).violations
    match = [item for item in found if (item.path, item.code) == (case.path, case.code)]
    assert match, "\n".join(f"{item.code} {item}" for item in found)
    assert case.says in f"{match[0].message} {match[0].hint}"
    assert match[0].line is not None


def test_a_row_scope_on_a_sensitive_field_that_is_sent() -> None:
    raw = spoilt(("        refresh: P1D", "        rows: {diagnosis_icd10: {anyOf: [A00]}}\n        refresh: P1D"))
    codes = {item.code for item in refused(raw).violations}
    assert "ROWS_SENSITIVE" in codes
    assert {item.line for item in refused(raw).violations} == {line_of(raw, "rows: {diagnosis")}


def test_bounds_missing_for_data_about_persons() -> None:
    start = EXAMPLE.index(EFFECT)
    end = EXAMPLE.index("        refresh: P7D")
    found = only((EXAMPLE[:start] + EXAMPLE[end:]).encode())
    assert (found.path, found.code) == (f"{TRANSPORT}.effectiveness", "BOUNDS_MISSING")
    assert found.line == line_of(EXAMPLE.encode(), "      transport-planning:")


def test_a_fine_amount_counts_as_quasi_identifier_and_as_sensitive() -> None:
    raw = spoilt(
        ("          sex: {mask: keep}", "          sex: {mask: keep}\n          cost_cents: {mask: round, base: 100}"),
        ("l: {diagnosis_icd10: 2}", "l: {diagnosis_icd10: 2, cost_cents: 2}"),
        ("        - [citizen_id, diagnosis_icd10, cost_cents]", "        - [citizen_id, phone]"),
    )
    codes = {item.code for item in refused(raw).violations}
    assert codes == {"QUASI_NOT_DECLARED", "L_ON_QUASI"}
    lint.check(raw.replace(b"base: 100}", b"base: 1000}"))


def test_a_contract_may_say_that_nothing_is_shared() -> None:
    raw = spoilt(("class: conditional", "class: not-shared\n      legalBasis: State Secrets Act, article 9"))
    contract = lint.check(raw).contract
    assert contract.sharing.legal_basis == "State Secrets Act, article 9"
    start, end = EXAMPLE.index("      outbreak-monitoring:"), EXAMPLE.index("  # Stronger than any purpose")
    emptied = EXAMPLE[:start] + "      {}\n" + EXAMPLE[end:]
    assert only(emptied.encode()).code == "PURPOSES_EMPTY"
    assert not lint.check(
        emptied.replace("class: conditional", "class: not-shared\n      legalBasis: law").encode()
    ).contract.purposes


def test_a_standing_offer_needs_no_approvers() -> None:
    raw = spoilt(
        ("class: conditional", "class: unconditional"),
        ("  - role: transport-planning\n    access: read\n    firstLevelApprovers: steward@health.example\n", ""),
    )
    assert lint.check(raw).contract.role("transport-planning") is None


def test_dropping_a_field_is_always_allowed() -> None:
    raw = spoilt(("          sex: {mask: keep}", "          sex: {mask: keep}\n          patient_name: {mask: drop}"))
    assert "patient_name" in lint.check(raw).contract.purposes["outbreak-monitoring"].fields


def test_lint_reports_everything_at_once_with_lines() -> None:
    raw = spoilt(
        ("k: 10", "k: 4"),
        ("require: {k: 20}", "require: {k: 4}"),
        ("entity: citizen_id # read", "entity: visit_id # read"),
    )
    found = refused(raw).violations
    assert [(item.code, item.line) for item in found] == [
        ("K_TOO_LOW", line_of(raw, "k: 4")),
        ("ENTITY_IS_ROW", line_of(raw, "entity: visit_id")),
        ("K_TOO_LOW", line_of(raw, "require: {k: 4}")),
    ]


def test_another_standard_than_the_contracts_is_refused() -> None:
    contract = odcs.load(EXAMPLE.encode()).contract
    text = (ROOT / "contracts/standards/desensitisation-1.yaml").read_text(encoding="utf-8")
    other = standard.parse(text.replace("desensitisation/1", "desensitisation/7").encode())
    assert {item.code for item in lint.lint(contract, other)} == {"STANDARD_OTHER"}
    with pytest.raises(SluicegateError) as caught:
        lint.check(EXAMPLE.encode(), standard=other)
    assert caught.value.reason is Reason.CONTRACT_INVALID
