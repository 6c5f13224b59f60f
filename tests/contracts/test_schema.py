"""The published JSON Schemas: well formed, closed everywhere, and in step with what the loader reads."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from contracts import model, odcs, yaml12
from tests.documents import EXAMPLE, ROOT, only, refused, spoilt

FILES = sorted((ROOT / "contracts" / "schema").glob("*.json"))
SCHEMAS: dict[str, Any] = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FILES}


def parts(schema: Any) -> list[dict[str, Any]]:
    """Every subschema, the schema itself included."""
    if isinstance(schema, list):
        return [part for item in schema for part in parts(item)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(part for item in schema.values() for part in parts(item))]


def test_there_is_one_for_each_property_and_one_for_fields() -> None:
    assert set(SCHEMAS) == {*odcs.PROPERTIES, "field"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_valid_and_closed(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["title"]
    assert schema["description"]
    for part in parts(schema):
        if part.get("type") == "object" and "mask" not in part.get("properties", {}):
            # Either a record without unknown keys, or a map whose values are all of one form.
            assert part.get("additionalProperties") is False or isinstance(part["additionalProperties"], dict)
        if part.get("type") == "array":
            assert part["items"]
            assert part["maxItems"]


@pytest.mark.parametrize("name", odcs.PROPERTIES)
def test_the_example_is_valid_by_the_published_schema_alone(name: str) -> None:
    """A department can check its contract in an editor, without this product."""
    document = yaml12.load(EXAMPLE.encode()).value
    value = next(entry["value"] for entry in document["customProperties"] if entry["property"] == name)
    Draft202012Validator(SCHEMAS[name]).validate(value)


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (model.Sharing, SCHEMAS["sharing"]),
        (model.NegativeList, SCHEMAS["negativeList"]),
        (model.Obligations, SCHEMAS["obligations"]),
        (model.Responsibility, SCHEMAS["responsibilities"]["$defs"]["anyone"]),
        (model.Purpose, SCHEMAS["purposes"]["$defs"]["purpose"]),
        (model.Effectiveness, SCHEMAS["purposes"]["$defs"]["effectiveness"]),
        (model.Require, SCHEMAS["purposes"]["$defs"]["effectiveness"]["properties"]["require"]),
        (model.Geography, SCHEMAS["purposes"]["$defs"]["purpose"]["properties"]["geography"]),
        (model.RowCondition, SCHEMAS["purposes"]["$defs"]["condition"]),
    ],
)
def test_schema_and_model_name_the_same_keys(kind: type[msgspec.Struct], schema: dict[str, Any]) -> None:
    fields = msgspec.structs.fields(kind)
    assert {field.encode_name for field in fields} == set(schema["properties"])
    assert {field.encode_name for field in fields if field.required} <= set(schema.get("required", ())) | {"person"}


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        (("team:\n  name: health-bureau\n", "team:\n  nam: health-bureau\n"), "team.name", "party id"),
        (("  - {property: frequency, value: 1, unit: d}", "  - {property: frequency, value: [1], unit: d}"),
            "slaProperties.frequency", "allowed:"),
    ],
)  # fmt: skip
def test_alternatives_are_told_by_what_was_meant(change: tuple[str, str], path: str, said: str) -> None:
    found = refused(spoilt(change)).violations
    assert any(item.path == path and said in item.message for item in found), "\n".join(map(str, found))


def test_a_sample_value_is_never_quoted() -> None:
    raw = spoilt(("      - name: hospital_code\n", "      - name: hospital_code\n        examples: 4711-secret\n"))
    found = only(raw)
    assert found.path == "schema.visits.properties.hospital_code.examples"
    assert "4711" not in str(found)
