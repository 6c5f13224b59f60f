"""Reading purposes, their masks and bounds, and the negative list of a contract."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import msgspec

from contracts import techniques, vocabulary
from contracts.aggregate import Aggregate
from contracts.errors import SluicegateError, nearest
from contracts.findings import Findings, show
from contracts.instants import duration
from contracts.model import Effectiveness, Field, Geography, NegativeList, Purpose, RowCondition, WholeRelease
from contracts.technique import Technique
from contracts.vocabulary import ROOT_LEGAL_BASIS, ROOT_PURPOSE
from contracts.yaml12 import Json, Path

_T = TypeVar("_T")


def whole(value: Json) -> Json:
    """The value with `10.0` as `10`: to JSON and to our digests they are one number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


def converted(found: Findings, path: Path, value: Json, kind: type[_T]) -> _T | None:
    """The value as one of our types, once its JSON Schema found nothing wrong there; else None."""
    if not found.clean(path):
        return None
    try:
        return msgspec.convert(whole(value), kind)
    except msgspec.ValidationError as error:
        found.add(path, str(error), "", "SCHEMA_INVALID")
        return None


def check_duration(found: Findings, path: Path, value: Json) -> None:
    """An ISO 8601 duration; what is not text was reported by the JSON Schema."""
    if isinstance(value, str) and found.clean(path):
        try:
            duration(value)
        except SluicegateError as error:
            found.add(path, error.message, "", "DURATION_INVALID")


def check_field(found: Findings, path: Path, name: Json, fields: Mapping[str, Field]) -> bool:
    """Whether a name is that of a field; reported when not."""
    if isinstance(name, str) and name in fields:
        return True
    if isinstance(name, str):
        found.add(path, f"there is no field {show(name)} in the schema", nearest(name, fields), "FIELD_UNKNOWN")
    return False


def read_purposes(found: Findings, path: Path, value: Json, fields: Mapping[str, Field]) -> dict[str, Purpose]:
    """Every purpose that could be read, by id."""
    purposes: dict[str, Purpose] = {}
    for id, item in value.items() if isinstance(value, Mapping) else ():
        purpose = _purpose(found, (*path, id), item, fields) if isinstance(item, Mapping) else None
        if purpose is not None:
            purposes[id] = purpose
    return purposes


def _purpose(found: Findings, path: Path, item: Mapping[str, Any], fields: Mapping[str, Field]) -> Purpose | None:
    _check_purpose_term(found, (*path, "term"), item.get("term"), usable=True)
    _check_legal_basis(found, (*path, "legalBasis"), item.get("legalBasis"))
    consumers = item.get("consumers")
    if isinstance(consumers, list) and "*" in consumers and len(consumers) > 1:
        found.add(
            (*path, "consumers"), '"*" stands for every party', 'write only "*", or only the parties', "CONSUMERS"
        )
    for key in ("refresh", "retention"):
        check_duration(found, (*path, key), item.get(key))
    masks = _masks(found, (*path, "fields"), item.get("fields"), fields)
    _check_effectiveness(found, (*path, "effectiveness"), item, fields, masks)
    rows = _rows(found, (*path, "rows"), item.get("rows"), fields)
    whole_release = _whole_release(found, (*path, "wholeRelease"), item.get("wholeRelease"), fields)
    aggregate = converted(found, (*path, "aggregate"), item["aggregate"], Aggregate) if "aggregate" in item else None
    if not found.clean(path):
        return None
    optional = {"refresh": str(item["refresh"])} if "refresh" in item else {}
    judged = item.get("effectiveness")
    return Purpose(
        term=item["term"],
        legal_basis=item["legalBasis"],
        consumers=tuple(item["consumers"]),
        fields=cast("dict[str, techniques.AnyTechnique]", masks),  # parse returns nothing else
        release=item.get("release", "rows"),
        aggregate=aggregate,
        effectiveness=None if judged is None else msgspec.convert(whole(judged), Effectiveness),
        rows=rows,
        whole_release=whole_release or WholeRelease(),
        retention=item["retention"],
        geography=msgspec.convert(item["geography"], Geography),
        **optional,
    )


def _check_purpose_term(found: Findings, path: Path, term: Json, *, usable: bool) -> None:
    if not isinstance(term, str) or not found.clean(path):
        return
    if vocabulary.purpose(term) is None:
        known = vocabulary.purposes()
        found.add(
            path, f"{show(term)} is no purpose of DPV {vocabulary.version()}", _near_term(term, known), "TERM_UNKNOWN"
        )
    elif usable and term == ROOT_PURPOSE:
        found.add(
            path, f"{term} is any purpose at all; name the purpose", "see the DPV purposes below it", "TERM_TOO_WIDE"
        )


def _check_legal_basis(found: Findings, path: Path, term: Json) -> None:
    if not isinstance(term, str) or not found.clean(path):
        return
    known = [word for word in vocabulary.legal_bases() if word != ROOT_LEGAL_BASIS]
    if term not in known:
        message = f"{show(term)} is no legal basis of DPV {vocabulary.version()}"
        found.add(path, message, _near_term(term, known) or "allowed: " + ", ".join(known), "TERM_UNKNOWN")


def _near_term(term: str, known: Iterable[str]) -> str:
    """The nearest terms, the same word under another prefix first."""
    by_word = [word for word in known if word.partition(":")[2] == term.rpartition(":")[2]]
    return "did you mean " + " or ".join(f"'{word}'" for word in by_word) + "?" if by_word else nearest(term, known)


def _masks(found: Findings, path: Path, value: Json, fields: Mapping[str, Field]) -> dict[str, Technique]:
    """Every mask that could be read, in the contract's order."""
    masks: dict[str, Technique] = {}
    for name, mask in value.items() if isinstance(value, Mapping) else ():
        check_field(found, (*path, name), name, fields)
        if not isinstance(mask, Mapping) or "mask" not in mask:
            continue  # the JSON Schema says so
        try:
            technique = techniques.parse(whole(mask))
        except SluicegateError as error:
            found.add_all((*path, name), error.violations)
            continue
        masks[name] = technique
        for other in technique.reads:
            check_field(found, (*path, name), other, fields)
    return masks


def _check_effectiveness(
    found: Findings, path: Path, item: Mapping[str, Any], fields: Mapping[str, Field], masks: Mapping[str, Technique]
) -> None:
    """Entity, quasi-identifiers and the bounds of single fields name fields; all but the entity, fields
    that are sent."""
    value, listed = item.get("effectiveness"), item.get("fields")
    if not isinstance(value, Mapping):
        return
    check_field(found, (*path, "entity"), value.get("entity"), fields)
    require = value.get("require")
    named: list[tuple[Path, Json]] = [
        ((*path, "quasiIdentifiers", index), name) for index, name in _listed(value.get("quasiIdentifiers"))
    ]
    for bound in ("l", "entropyL", "t"):
        bounds = require.get(bound) if isinstance(require, Mapping) else None
        named += [((*path, "require", bound, name), name) for name in (bounds if isinstance(bounds, Mapping) else ())]
    # A mask that cannot be read is reported as such; its field counts as sent here.
    unread = {name for name in (listed if isinstance(listed, Mapping) else ()) if name not in masks}
    sent = unread | {name for name, mask in masks.items() if mask.sent}
    for at, name in named:
        if check_field(found, at, name, fields) and name not in sent:
            hint = nearest(name, sent) or "list it under `fields`, or remove it here"
            found.add(at, f"{show(name)} is not sent for this purpose", hint, "FIELD_NOT_SENT")


def _whole_release(found: Findings, path: Path, value: Json, fields: Mapping[str, Field]) -> WholeRelease | None:
    """The techniques of the whole release, which name fields; None when anything in them is wrong."""
    read = converted(found, path, {} if value is None else value, WholeRelease)
    for technique in read.techniques if read is not None else ():
        for name in technique.reads:
            check_field(found, (*path, technique.id), name, fields)
    return read


# --- row scope ------------------------------------------------------------------------------------


def _rows(found: Findings, path: Path, value: Json, fields: Mapping[str, Field]) -> dict[str, RowCondition]:
    rows: dict[str, RowCondition] = {}
    for name, item in value.items() if isinstance(value, Mapping) else ():
        if not check_field(found, (*path, name), name, fields) or not isinstance(item, Mapping):
            continue
        _check_condition(found, (*path, name), item, fields[name].logical_type)
        condition = converted(found, (*path, name), item, RowCondition)
        if condition is not None:
            rows[name] = condition
    return rows


def _check_condition(found: Findings, path: Path, item: Mapping[str, Any], logical: str) -> None:
    """The values of a condition must be of the field's type; only what has an order has from and until."""
    values: list[tuple[Path, Json]] = [(("anyOf", index), value) for index, value in _listed(item.get("anyOf"))]
    values += [((key,), item[key]) for key in ("from", "until") if key in item]
    expected = _EXPECTED.get(logical)
    for place, value in values:
        if expected is None or not _is_of(value, logical):
            allowed = f"allowed: {expected}" if expected else "a row scope cannot use it"
            found.add((*path, *place), f"found {show(value)} for a field of type {logical}; {allowed}", "", "ROW_VALUE")
        elif place[0] != "anyOf" and logical == "string":
            found.add((*path, *place), "a text field has no order to scope by; allowed: anyOf", "", "ROW_VALUE")


_EXPECTED: Mapping[str, str] = {
    "string": "texts",
    "integer": "whole numbers",
    "number": "whole numbers",
    "date": "dates like 2026-01-31",
    "timestamp": "instants like 2026-01-31T12:00:00Z",
}


def _is_of(value: Json, logical: str) -> bool:
    if logical in ("integer", "number"):
        return isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, str):
        return False
    try:
        if logical == "date":
            return len(value) == 10 and dt.date.fromisoformat(value) is not None
        if logical == "timestamp":
            return len(value) >= 10 and dt.datetime.fromisoformat(value) is not None
    except ValueError:
        return False
    return logical == "string"


# --- negative list --------------------------------------------------------------------------------


def read_negative_list(found: Findings, path: Path, value: Json, fields: Mapping[str, Field]) -> NegativeList | None:
    """The negative list; None when anything in it is wrong."""
    if not isinstance(value, Mapping):
        return None
    for index, name in _listed(value.get("fields")):
        check_field(found, (*path, "fields", index), name, fields)
    for index, group in _listed(value.get("together")):
        for position, name in _listed(group):
            check_field(found, (*path, "together", index, position), name, fields)
    for index, term in _listed(value.get("uses")):
        _check_purpose_term(found, (*path, "uses", index), term, usable=False)
    return converted(found, path, value, NegativeList)


def _listed(value: Json) -> Iterable[tuple[int, Json]]:
    return enumerate(value) if isinstance(value, list) else ()
