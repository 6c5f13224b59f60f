"""Reading the fields of an ODCS document: one flat table, every field classified."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from contracts import standard
from contracts.errors import nearest
from contracts.findings import Findings, show
from contracts.model import Field, Identifiability, Tier
from contracts.yaml12 import Json, Path

VENDOR: Final = "sluicegate"
FIELD_PROPERTIES: Final = ("identifiability", "category")
MAX_FIELDS: Final = 2000

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# The ODCS logical types that a flat column can have, and the kinds of data that fit each.
KINDS: Final[Mapping[str, frozenset[str]]] = {
    "string": frozenset({"string"}),
    "date": frozenset({"date"}),
    "timestamp": frozenset({"timestamp"}),
    "time": frozenset({"time"}),
    "number": frozenset({"float", "decimal", "integer"}),
    "integer": frozenset({"integer"}),
    "boolean": frozenset({"boolean"}),
    "array": frozenset({"list"}),  # of texts
}


def maps(value: Json) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The items of a list that are maps, with their indexes; nothing of anything else: what is of
    another type was reported by the ODCS schema."""
    for index, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, Mapping):
            yield index, item


def found_value(value: Json) -> str:
    """A value in a message; null and absent read the same."""
    return "nothing" if value is None else show(value)


def read_fields(found: Findings, document: Mapping[str, Any]) -> tuple[dict[str, Field], str]:
    """The fields of the one table by name, in order, and the table's name.

    What is missing from a field is reported and filled with the strictest value, so that the rest
    can still be checked; such a contract is never returned to anyone.
    """
    tables = list(maps(document.get("schema")))
    if len(tables) != 1:
        message = f"found {len(tables)} schema objects; a sharing contract has exactly one table"
        found.add(("schema",), message, "one contract per table", "SCHEMA_COUNT")
        return {}, ""
    index, table = tables[0]
    path: Path = ("schema", index, "properties")
    items = list(maps(table.get("properties")))
    if not 1 <= len(items) <= MAX_FIELDS:
        found.add(path, f"found {len(items)} fields; allowed: 1 to {MAX_FIELDS}", "", "FIELD_COUNT")
    fields: dict[str, Field] = {}
    for position, item in items[:MAX_FIELDS]:
        field = _field(found, (*path, position), item)
        if field.name in fields:
            found.add((*path, position), f"the field {show(field.name)} comes twice", "keep one", "DUPLICATE")
        fields[field.name] = field
    return fields, str(table.get("name") or "")


def check_categories(
    found: Findings, document: Mapping[str, Any], fields: Mapping[str, Field], standard_id: str
) -> None:
    """A category is a word of the standard that the contract is held to."""
    known = standard.load(standard_id).categories
    for index, table in maps(document.get("schema")):
        for position, item in maps(table.get("properties")):
            field = fields.get(str(item.get("name")))
            if field is not None and field.category is not None and field.category not in known:
                message = f"the category {show(field.category)} is not in {standard_id}"
                hint = nearest(field.category, known) or "allowed: " + ", ".join(known)
                found.add(("schema", index, "properties", position), message, hint, "CATEGORY_UNKNOWN")


def _field(found: Findings, path: Path, item: Mapping[str, Any]) -> Field:
    name, logical, tier = item.get("name"), item.get("logicalType"), item.get("classification")
    if not isinstance(name, str) or not 1 <= len(name) <= 256 or _UNPRINTABLE.search(name):
        message = f"found {found_value(name)}; allowed: 1 to 256 printable characters"
        found.add((*path, "name"), message, "", "NAME_INVALID")
    if not isinstance(logical, str) or logical not in KINDS:
        nested = logical in ("object", "map", "vector")
        message = f"found {found_value(logical)}; {'the table is flat, ' if nested else ''}allowed: {', '.join(KINDS)}"
        hint = nearest(logical, KINDS) if isinstance(logical, str) and not nested else ""
        found.add((*path, "logicalType"), message, hint, "TYPE_INVALID")
    of_what = item.get("items") if logical == "array" else {"logicalType": "string"}
    if not isinstance(of_what, Mapping) or of_what.get("logicalType") != "string":
        message = f"the elements of '{name}' are {found_value(of_what)}; an array is one of texts"
        found.add((*path, "items"), message, "write items: {logicalType: string}", "TYPE_INVALID")
    if tier not in list(Tier):
        message = f"found {found_value(tier)}; every field needs a tier, allowed: {', '.join(Tier)}"
        found.add(
            (*path, "classification"), message, nearest(tier, Tier) if isinstance(tier, str) else "", "TIER_INVALID"
        )
    ours = _properties(found, path, item)
    declared = ours.get("identifiability")
    return Field(
        name=str(name),
        logical_type=str(logical),
        classification=Tier(tier) if tier in list(Tier) else Tier.PROHIBITED,
        identifiability=Identifiability(declared) if declared in list(Identifiability) else Identifiability.DIRECT,
        category=ours.get("category"),
        required=item.get("required") is True,
        unique=item.get("unique") is True,
        primary_key=item.get("primaryKey") is True,
        description=str(item.get("description") or ""),
    )


def _properties(found: Findings, path: Path, item: Mapping[str, Any]) -> dict[str, str]:
    """Our custom properties of a field. Another tool's are left alone, unless one looks like ours
    misspelt: a category that is silently not read would lower the floor of its field."""
    ours: dict[str, Json] = {}
    for index, entry in maps(item.get("customProperties")):
        at, key, vendor = (*path, "customProperties", index), str(entry.get("property")), entry.get("vendor")
        if vendor not in (None, VENDOR):
            continue
        if key in FIELD_PROPERTIES:
            if key in ours:
                found.add(at, f"the property '{key}' comes twice", "keep one", "DUPLICATE")
            ours[key] = entry.get("value")
        elif vendor == VENDOR or get_close_matches(key, FIELD_PROPERTIES, n=1, cutoff=0.8):
            message = f"there is no field property {show(key)}"
            found.add(at, message, nearest(key, FIELD_PROPERTIES), "PROPERTY_UNKNOWN")
    found.check(path, ours, "field")
    return {key: value for key, value in ours.items() if isinstance(value, str)}
