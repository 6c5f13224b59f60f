"""What a plan demands of the source: that its columns are there, of the declared types, and of types
that the masks can work on. Schema drift surfaces here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from contracts import aggregate_rules, instants, odcs, whole_rules
from contracts.dtypes import DType
from contracts.errors import SluicegateError, Violation, nearest
from contracts.model import RowCondition
from contracts.plan_rules import Case
from contracts.technique import date_of
from contracts.techniques import AnyTechnique, Geohash, Hmac, Period, ShiftDate, Truncate

# Types whose values can tell entities apart by their spelling.
ENTITY_KINDS = ("string", "integer", "date")


def needed(case: Case) -> tuple[str, ...]:
    """The columns to read, in the contract's order: of the fields sent (but not of those that leave as
    nulls), what their masks read besides, the row scope, and the entity (and a sample's) even when it is not sent."""
    names = {field.name for field, mask in case.sent if mask.id != "null"}
    names |= {name for _, mask in case.sent for name in mask.reads}
    names |= set(case.purpose.rows)
    if case.purpose.effectiveness is not None:
        names.add(case.purpose.effectiveness.entity)
    if case.purpose.aggregate is not None:
        names.add(case.purpose.aggregate.entity)
    if case.purpose.whole_release.sample is not None:
        names.add(case.purpose.whole_release.sample.entity)
    return tuple(field.name for field in case.contract.fields if field.name in names)


def settled(case: Case, mask: AnyTechnique, dtype: DType, schema: Mapping[str, DType]) -> AnyTechnique:
    """The mask with everything written out that follows from types and neighbours: origins, zones,
    and the zone of a pseudonym's period, which is that of the time field's own mask."""
    if isinstance(mask, Hmac) and mask.period is not None:
        return msgspec.structs.replace(mask, period=_period(case, mask.period, schema))
    return mask.resolved(dtype)


def _period(case: Case, period: Period, schema: Mapping[str, DType]) -> Period:
    other = case.purpose.fields.get(period.field)
    of_mask = other.zone if isinstance(other, Truncate) else None
    found = schema.get(period.field)
    zone = period.zone or of_mask or (found.zone if found else None)
    return msgspec.structs.replace(period, zone=zone if found is not None and found.kind == "timestamp" else None)


def violations(case: Case, schema: Mapping[str, DType]) -> tuple[Violation, ...]:
    """Everything in the source's types that stands in the plan's way. Columns that the plan does not
    need may be missing, and columns that the contract does not know are simply not sent."""
    sent_as_null = tuple(field.name for field, mask in case.sent if mask.id == "null")
    columns = dict.fromkeys((*needed(case), *sent_as_null))
    return tuple(found for part in _parts(case, schema, columns) for found in part)


def _parts(case: Case, schema: Mapping[str, DType], columns: Mapping[str, None]) -> Iterator[Iterator[Violation]]:
    yield _columns(case, schema, columns)
    yield _masks(case, schema)
    yield _uses(case, schema)
    yield aggregate_rules.unfit(case, schema)
    yield whole_rules.unfit(case, schema)


def _columns(case: Case, schema: Mapping[str, DType], columns: Mapping[str, None]) -> Iterator[Violation]:
    for field in case.contract.fields:
        if field.name not in columns:
            continue
        dtype, path = schema.get(field.name), f"schema.{case.contract.table}.properties.{field.name}"
        if dtype is None:
            hint = nearest(field.name, schema) or "mend the source, or publish a new contract version"
            yield Violation(path, "the source has no such column", hint, code="COLUMN_MISSING")
        elif dtype.kind == "other":
            yield Violation(
                path, f"the source's type {dtype} cannot be sent", "convert it in the source", code="COLUMN_UNSUPPORTED"
            )
        elif not odcs.fits(field.logical_type, dtype):
            message = f"declared {field.logical_type}, but the source has {dtype}"
            hint = "mend the source (or the type that its `columns` state), or publish a new contract version"
            yield Violation(path, message, hint, code="COLUMN_TYPE")


def _masks(case: Case, schema: Mapping[str, DType]) -> Iterator[Violation]:
    for field, mask in case.sent:
        dtype = schema.get(field.name)
        if dtype is None or dtype.kind == "other":
            continue
        for problem in mask.problems(dtype):
            yield Violation(case.field_path(field.name), problem, code="MASK_UNFIT")
        if isinstance(mask, Geohash) and (other := schema.get(mask.longitude)) is not None:
            for problem in mask.only(other):
                yield Violation(f"{case.field_path(field.name)}.longitude", problem, code="MASK_UNFIT")
        if isinstance(mask, ShiftDate) and (other := schema.get(mask.entity)) and other.kind not in ENTITY_KINDS:
            message = f"{mask.entity} is {other}; entities are told apart by {', '.join(ENTITY_KINDS)}"
            yield Violation(f"{case.field_path(field.name)}.entity", message, code="MASK_UNFIT")
        if isinstance(mask, Hmac) and mask.period is not None:
            yield from _period_violations(case, field.name, mask.period, schema)


def _period_violations(case: Case, name: str, period: Period, schema: Mapping[str, DType]) -> Iterator[Violation]:
    path, dtype = f"{case.field_path(name)}.period", schema.get(period.field)
    if dtype is None:
        return
    if not dtype.temporal:
        yield Violation(path, f"{period.field} is {dtype}; a period needs a date or a timestamp", code="PERIOD_UNFIT")
    elif dtype.kind == "timestamp" and _period(case, period, schema).zone is None:
        message = f"{period.field} is a timestamp without zone; its days need one"
        yield Violation(path, message, "state `zone`, here or in its truncate mask", code="PERIOD_ZONE_MISSING")


def _uses(case: Case, schema: Mapping[str, DType]) -> Iterator[Violation]:
    purpose = case.purpose
    for part, judged in (("effectiveness", purpose.effectiveness), ("aggregate", purpose.aggregate)):
        if judged is not None and (dtype := schema.get(judged.entity)) is not None and dtype.kind not in ENTITY_KINDS:
            message = f"the entity {judged.entity} is {dtype}; entities are told apart by {', '.join(ENTITY_KINDS)}"
            yield Violation(f"{case.path}.{part}.entity", message, code="ENTITY_UNFIT")
    for name, condition in case.purpose.rows.items():
        if (dtype := schema.get(name)) is not None and (problem := _condition_problem(condition, dtype)):
            yield Violation(f"{case.path}.rows.{name}", problem, code="ROWS_UNFIT")


def _condition_problem(condition: RowCondition, dtype: DType) -> str:
    """Why the values of a row scope cannot be compared with that type; empty if they can."""
    given = [*(condition.any_of or ()), *(bound for bound in (condition.from_, condition.until) if bound is not None)]
    match dtype.kind:
        case "string":
            return "" if all(isinstance(value, str) for value in given) else "texts are compared with texts"
        case "integer" | "float" | "decimal":
            return "" if all(isinstance(value, int) for value in given) else f"{dtype} is compared with whole numbers"
        case "date":
            return "" if all(date_of(value) for value in given) else "dates are written 2026-01-31"
        case "timestamp":
            return (
                ""
                if all(date_of(value) or _instant(value) for value in given)
                else "times are written 2026-01-31T00:00:00Z"
            )
    return f"a row scope cannot use {dtype}"


def _instant(value: object) -> bool:
    try:
        return isinstance(value, str) and instants.epoch(value) is not None
    except SluicegateError:
        return False
