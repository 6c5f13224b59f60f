"""The page on writing contracts: its contract is sound, and its tables say what the checks really say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from contracts import lint, odcs, plan, standard
from contracts.dtypes import DATE, FLOAT64, INT64, STRING, DType, Schema, timestamp
from contracts.errors import SluicegateError, Violation
from contracts.model import Contract
from tests.docs.pages import DOCS, ROOT, blocks
from tests.documents import EXAMPLE, cases, refused, spoilt

PAGE = DOCS / "contracts-howto.md"
WITH_DATA = "## What only the data can tell"

_ROW = re.compile(r"^\| (`[A-Z0-9_]+`(?:, `[A-Z0-9_]+`)*) \| (.*?) \| *(.*?) *\|$", re.MULTILINE)
_CODE = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|EXPOSED|TAG|DUPLICATE|CONSUMERS)`")

# Codes of rules that a contract cannot break: they judge requests and agreements, or what the format
# already rules out (plan rules are also asked by a policy that has seen no schema).
NOT_FOR_CONTRACTS = {
    "BOUND_FIELD_UNKNOWN",
    "FIELD_NOT_OFFERED",
    "FIELD_TWICE",
    "MASK_FIELD_UNKNOWN",
    "MASK_MISSING",
    "NOT_SHARED",
    "PERIOD_FIELD_UNKNOWN",
    "PURPOSE_TERM_UNKNOWN",
    "PURPOSE_UNKNOWN",
    "ROWS_EMPTY",
    "SAMPLE_FIELD_UNKNOWN",
    "STANDARD_OTHER",
    "SUPPRESSION_CONTRADICTS",
    "SUPPRESSION_RANGE",
    "SUPPRESSION_UNBOUNDED",
    "SURROGATE",
    "TERMS_OTHER",
}
CHECKED_BY = ("findings", "lint", "list_rules", "odcs", "odcs_fields", "odcs_purposes", "plan", "plan_rules")
CHECKED_BY += ("plan_types", "techniques", "whole_rules", "yaml12", "yaml_scalars")


def rows(text: str) -> Iterator[tuple[list[str], str]]:
    """The rows of the page's tables: codes, and the message shown, empty where none is."""
    for codes, _, message in _ROW.findall(text):
        yield re.findall(r"`([A-Z0-9_]+)`", codes), message.strip("`").strip()


def parts() -> tuple[str, str]:
    """The page up to the rules that need data, and from there on."""
    before, after = PAGE.read_text().split(WITH_DATA)
    return before, after


@cache
def found_without_data() -> set[tuple[str, str]]:
    """Code and message of every violation that spoilt copies of the example have."""
    more = yaml.safe_load(Path(__file__).with_name("spoilt-more.yaml").read_text())
    changes = [tuple(change.items()) for change in more.values()]
    for file in ("spoilt-form.yaml", "spoilt-rules.yaml"):
        changes += [case.changes for case in cases(file).values()]
    return {(found.code, found.message) for change in changes for found in refused(spoilt(*change)).violations}


def schema_of(contract: Contract) -> Schema:
    """A schema that fits the example's contract."""
    kinds = {"string": STRING, "date": DATE, "timestamp": timestamp("us"), "integer": INT64}
    return {field.name: kinds[field.logical_type] for field in contract.fields}


@cache
def found_with_data() -> set[tuple[str, str]]:
    """Code and message of what is wrong with sources that do not fit the example."""

    def judged(schema: Schema, *changes: tuple[str, str]) -> tuple[Violation, ...]:
        contract = odcs.load(spoilt(*changes)).contract
        return plan.refusals(plan.terms_for(contract, "outbreak-monitoring"), contract, standard.load(), schema)

    fits = schema_of(odcs.load(EXAMPLE.encode()).contract)
    assert not judged(fits)
    rows = ("        refresh: P1D", "        rows: {sex: {anyOf: [F]}}\n        refresh: P1D")
    found = [
        *judged({name: dtype for name, dtype in fits.items() if name != "sex"}),
        *judged({**fits, "birth_date": STRING}),
        *judged({**fits, "sex": DType("other", name="struct")}),
        *judged({**fits, "citizen_id": FLOAT64}),
        *judged({**fits, "sex": INT64}, rows),
        *judged(fits, ("unit: week, zone: Etc/UTC", "unit: week")),
    ]
    return {(violation.code, violation.message) for violation in found}


def test_the_page_is_a_sound_contract() -> None:
    text = "".join(block.text for block in blocks(PAGE.read_text()) if block.language == "yaml")
    contract = lint.check(text.encode(), name="parking-permits.odcs.yaml").contract
    assert contract.dataset == "parking-permits"
    assert contract.provider == "traffic-department"


def test_a_spoilt_page_would_be_noticed() -> None:
    text = "".join(block.text for block in blocks(PAGE.read_text()) if block.language == "yaml")
    with pytest.raises(SluicegateError, match="rules"):
        lint.check(text.replace("k: 10", "k: 3").encode())


@pytest.mark.parametrize("with_data", [False, True])
def test_messages_are_those_of_the_checks(with_data: bool) -> None:
    text = parts()[with_data]
    found = found_with_data() if with_data else found_without_data()
    shown = [(codes, message) for codes, message in rows(text)]
    assert len(shown) > (5 if with_data else 45)
    for codes, message in shown:
        if not message:
            continue
        pattern = re.compile(".*".join(map(re.escape, message.split("..."))), re.DOTALL)
        said = {text for code, text in found if code in codes}
        assert any(pattern.fullmatch(text) for text in said), f"{codes}: the page says {message!r}; said is {said}"


def test_every_rule_is_on_the_page() -> None:
    shown = set(_CODE.findall(PAGE.read_text()))
    found = {code for code, _ in found_without_data() | found_with_data()}
    assert not found - shown, "these codes are given, but are not on the page"
    for module in CHECKED_BY:
        source = (ROOT / "contracts" / f"{module}.py").read_text()
        codes = set(re.findall(r"\"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\"", source))
        assert not codes - shown - NOT_FOR_CONTRACTS, f"contracts/{module}.py gives codes that are not on the page"
