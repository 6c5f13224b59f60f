"""What a purpose of differentially private aggregates must be: the rules that stand in the place of floors and
bounds, which are about rows.

Values of other fields are nobody's business here: no row leaves, and what leaves of a person is noise's.
What groups are made of does leave, so a direct identifier never forms or feeds one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from contracts.aggregate import MICRO, MOST_LISTED, Aggregate, Measure, units
from contracts.aggregate_plan import base_of
from contracts.dtypes import DType
from contracts.errors import Violation, nearest
from contracts.model import Field, Identifiability, Purpose, Tier
from contracts.techniques import (
    AnyTechnique,
    Bucket,
    Clip,
    DatePart,
    Geohash,
    GeoRound,
    Hierarchy,
    IpPrefix,
    Keep,
    Partial,
    Prefix,
    Round,
    Truncate,
)  # fmt: skip

if TYPE_CHECKING:
    from contracts.plan_rules import Case

# Masks that make of a value always the same one, without a key and whatever the other rows say.
GROUPING = (Keep, Partial, Prefix, Bucket, Clip, Round, Truncate, DatePart, Hierarchy, Geohash, GeoRound, IpPrefix)
LISTABLE = ("string", "integer", "date", "boolean")  # types whose values a contract can list
MOST_MICRO_EPSILON = 10 * MICRO  # of a budget: beyond e^10 the promise says nothing
MOST_PICO_DELTA = 10**7  # of a budget, 10^-5: far less than one over the persons of a town


def violations(case: Case) -> Iterator[Violation]:
    """Every rule that an aggregate breaks, as far as can be told without the data."""
    terms = case.purpose.aggregate
    if terms is None:
        return
    path = f"{case.path}.aggregate"
    yield from _named(case, terms, path)
    yield from _fields(case, terms)
    yield from _amounts(terms, path)
    for name, measure in terms.measures.items():
        yield from _measure(case, name, measure, f"{path}.measures.{name}")
    yield from _groups(terms, path)
    for other, purpose in case.contract.purposes.items():
        if purpose.aggregate is not None and purpose.aggregate.budget != terms.budget:
            message = f"{other} states another budget; a recipient has one of the dataset, whatever the purpose"
            yield Violation(f"{path}.budget", message, "state the same in every purpose", code="BUDGET_DIFFERS")


def _named(case: Case, terms: Aggregate, path: str) -> Iterator[Violation]:
    """The entity tells persons apart; what is named is of the schema; nothing of the purpose is idle."""
    known = {field.name for field in case.contract.fields}
    entity = case.contract.field(terms.entity)
    if entity is None:
        message = f"the schema has no field {terms.entity[:64]!r}"
        yield Violation(f"{path}.entity", message, nearest(terms.entity, known), code="BOUND_FIELD_UNKNOWN")
    elif entity.identifiability not in (Identifiability.DIRECT, Identifiability.INDIRECT):
        message = f"'{entity.name}' is {entity.identifiability}; what tells persons apart is direct or indirect"
        yield Violation(f"{path}.entity", message, code="ENTITY_WRONG")
    offered = case.purpose.fields
    for name in (*terms.group_by, *terms.measured):
        if name not in offered:
            message = f"{name[:64]!r} is not among the purpose's fields"
            hint = nearest(name, offered) or "list it there, with its mask"
            yield Violation(f"{path}.groupBy", message, hint, code="AGGREGATE_FIELD_UNLISTED")
    for name in offered:
        if name not in (*terms.group_by, *terms.measured):
            message = f"{name} is listed, yet neither groups are formed by it nor is it added up"
            yield Violation(case.field_path(name), message, "take it out", code="AGGREGATE_FIELD_IDLE")
    for name in sorted({*terms.group_by} & {*terms.measured}):
        yield Violation(
            case.field_path(name), f"{name} cannot both form groups and be added up", code="AGGREGATE_TWICE"
        )
    if missing := sorted(set(offered) - set(case.fields)):
        message = f"an aggregate is one release of all its fields; {', '.join(missing)} is left out"
        yield Violation(f"{case.path}.fields", message, "ask for all fields of the purpose", code="AGGREGATE_PARTIAL")


def _fields(case: Case, terms: Aggregate) -> Iterator[Violation]:
    for field, mask in case.sent:
        path = case.field_path(field.name)
        if field.classification is Tier.PROHIBITED:
            yield Violation(
                path, "a prohibited field never leaves, not in totals either", "drop it", code="FLOOR_PROHIBITED"
            )
        if field.identifiability is Identifiability.DIRECT:
            message = f"{field.name} identifies a person: neither groups nor totals are made of it"
            yield Violation(path, message, "group by something that many share", code="AGGREGATE_DIRECT")
        elif field.name in terms.group_by and not isinstance(mask, GROUPING):
            allowed = ", ".join(sorted(_id(kind) for kind in GROUPING))
            message = (
                f"{mask.id} needs a key, chance or other rows; groups are formed by what depends on the value alone"
            )
            yield Violation(path, message, f"allowed: {allowed}", code="AGGREGATE_MASK")
        elif field.name in terms.measured and not _adds_up(field, mask):
            message = f"{field.name} is added up, in whole steps of what it is rounded to; {mask.id} gives none"
            hint = "use round with a base, or keep for whole numbers"
            yield Violation(path, message, hint, code="AGGREGATE_MASK")


def _id(kind: type) -> str:
    return str(kind.__struct_config__.tag)  # type: ignore[attr-defined]


def _adds_up(field: Field, mask: AnyTechnique) -> bool:
    if field.logical_type not in ("integer", "number"):
        return False
    return isinstance(mask, Round) or (isinstance(mask, Keep) and field.logical_type == "integer")


def _amounts(terms: Aggregate, path: str) -> Iterator[Violation]:
    """Epsilon is above nothing, reaches every figure, and the budget pays for one release at least."""
    amounts: dict[str, int] = {}
    for name, part in (
        ("epsilon", terms),
        ("delta", terms),
        ("budget.epsilon", terms.budget),
        ("budget.delta", terms.budget),
    ):
        try:
            amounts[name] = getattr(part, "micro_epsilon" if name.endswith("epsilon") else "pico_delta")
        except ValueError as error:
            yield Violation(f"{path}.{name}", str(error), "write a decimal such as '0.5'", code="EPSILON_INVALID")
    if len(amounts) < 4:
        return
    if amounts["epsilon"] < 1:
        yield Violation(f"{path}.epsilon", "an epsilon of 0 lets nothing be told", "such as '0.5'", code="EPSILON_ZERO")
    elif terms.share < 1:
        yield Violation(f"{path}.epsilon", "epsilon is too small to be shared by so many figures", code="EPSILON_ZERO")
    if amounts["budget.epsilon"] < amounts["epsilon"] or amounts["budget.delta"] < amounts["delta"]:
        message = "the budget does not pay for one release"
        yield Violation(f"{path}.budget", message, "raise it, or lower epsilon and delta", code="BUDGET_TOO_SMALL")
    if amounts["budget.epsilon"] > MOST_MICRO_EPSILON or amounts["budget.delta"] > MOST_PICO_DELTA:
        message = "a budget is at most an epsilon of 10 and a delta of 0.00001: beyond, it promises nothing"
        yield Violation(f"{path}.budget", message, "lower it", code="BUDGET_TOO_LARGE")
    if terms.groups is None and amounts["delta"] < 1:
        message = "groups come from the data, so that a group of few must not show: that needs a delta"
        yield Violation(
            f"{path}.delta", message, "state one such as '0.000001', or list `groups`", code="DELTA_MISSING"
        )
    if terms.groups is not None and amounts["delta"]:
        yield Violation(f"{path}.delta", "listed groups need no delta", "remove it", code="DELTA_IDLE")


def _measure(case: Case, name: str, measure: Measure, path: str) -> Iterator[Violation]:
    kinds = [kind for kind in ("count", "sum", "mean") if getattr(measure, kind) is not None]
    if len(kinds) != 1:
        yield Violation(path, "a measure is one of count, sum and mean", "split it", code="MEASURE_UNCLEAR")
        return
    if name in case.purpose.fields:
        yield Violation(path, f"{name} is the name of a field", "name the figure otherwise", code="MEASURE_NAME")
    if measure.kind == "count":
        if measure.lower is not None or measure.upper is not None:
            yield Violation(path, "a count has no bounds", "remove lower and upper", code="MEASURE_BOUNDS")
        return
    if measure.lower is None or measure.upper is None:
        message = f"a {measure.kind} needs lower and upper: one value without limit would need noise without limit"
        yield Violation(path, message, "state what a usual value lies between", code="MEASURE_BOUNDS")
    elif measure.lower >= measure.upper:
        message = f"lower, {measure.lower}, is not below upper, {measure.upper}"
        yield Violation(path, message, "swap them, or widen them", code="MEASURE_BOUNDS")
    else:
        for bound in (measure.lower, measure.upper):
            try:
                units(bound, base_of(case.purpose.fields.get(measure.field or "")))
            except ValueError as error:
                yield Violation(path, str(error), "choose bounds and rounding that fit", code="MEASURE_BOUNDS")


def _groups(terms: Aggregate, path: str) -> Iterator[Violation]:
    """Listed groups list values of every group field, and are not too many."""
    if terms.groups is None:
        return
    if set(terms.groups) != set(terms.group_by):
        message = (
            f"groups are listed by {', '.join(sorted(terms.groups))[:200]}, and formed by {', '.join(terms.group_by)}"
        )
        yield Violation(f"{path}.groups", message, "list the values of each field of groupBy", code="GROUPS_UNLIKE")
    many = 1
    for values in terms.groups.values():
        many *= len(values)
    if many > MOST_LISTED:
        yield Violation(
            f"{path}.groups", f"{many} groups; the most are {MOST_LISTED}", "list fewer", code="GROUPS_TOO_MANY"
        )


def unfit(case: Case, schema: Mapping[str, DType]) -> Iterator[Violation]:
    """What stands in an aggregate's way in the source's types."""
    terms = case.purpose.aggregate
    if terms is None:
        return
    for field, mask in case.sent:
        dtype = schema.get(field.name)
        if dtype is None:
            continue
        if field.name in terms.measured and not (
            dtype.numeric and (dtype.kind == "integer" or isinstance(mask, Round))
        ):
            message = f"{field.name} is {dtype}: that is added up only when it is rounded"
            yield Violation(case.field_path(field.name), message, "use round with a base", code="MASK_UNFIT")
        if terms.groups is None or field.name not in terms.groups or mask.problems(dtype):
            continue
        output = mask.resolved(dtype).produces(dtype)
        path = f"{case.path}.aggregate.groups.{field.name}"
        if output.kind not in LISTABLE:
            message = f"{field.name} leaves as {output}; values are listed of {', '.join(LISTABLE)}"
            yield Violation(path, message, "choose another mask, or state a delta", code="GROUPS_UNFIT")
        elif not all(_is_of(value, output.kind) for value in terms.groups[field.name]):
            yield Violation(
                path, f"{field.name} leaves as {output}, and not every listed value is one", code="GROUPS_UNFIT"
            )


def _is_of(value: str | int, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int)
    if kind == "boolean":
        return value in ("true", "false")
    if kind == "date":
        try:
            return isinstance(value, str) and len(value) == 10 and dt.date.fromisoformat(value) is not None
        except ValueError:
            return False
    return isinstance(value, str)


def is_group(purpose: Purpose, name: str) -> bool:
    """Whether a field of the purpose leaves as a column: of an aggregate, only those that form groups."""
    return purpose.aggregate is None or name in purpose.aggregate.group_by
