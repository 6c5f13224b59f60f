"""What rows are told apart by: keyed hashes of classes, pseudonyms, persons and sensitive values, beside masked rows.

    places = layout(plan)                                       the columns' names, and how rows are grouped by them
    frame = with_hashes(frame, plan, secrets, places, key)      computed while rows are masked

Fields that chance went into (noise, shifted dates) are hashed as they were before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import polars as pl

from connectors.masks import masking
from connectors.measures import spread as spreading
from connectors.measures.spread import Limit
from connectors.spooling.order import ReleaseKey
from contracts import techniques as t
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan

_WHO = "#entity.normalised"
FOLD = 0x9E37_79B9_7F4A_7C15  # odd: multiplying by it loses nothing


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the hash columns beside the outgoing ones, and how rows are grouped by them.

    `row` is the tuple of quasi-identifiers, `units` the pseudonyms sent, `entity` who the row is about,
    `values` the sensitive fields with an l, `spread` those whose spread within classes is measured.
    `groupings`: None for single rows, a unit's column for what it joins. `person` is the source's own
    column that tells persons apart.
    """

    row: str
    units: tuple[str, ...]
    person: str
    entity: str
    values: tuple[tuple[str, str], ...]
    spread: tuple[Limit, ...]
    groupings: tuple[str | None, ...]
    entity_is_unit: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are measured by, each once: hashes, and outgoing values whose order counts."""
        own = () if self.entity_is_unit else (self.entity,)
        spread = (limit.column for limit in self.spread)
        return tuple(dict.fromkeys((self.row, *self.units, *own, *(column for _, column in self.values), *spread)))

    @property
    def hashes(self) -> tuple[tuple[str, str], ...]:
        """(field, hash column) of every sensitive field that is counted by its hashes."""
        spread = ((limit.field, limit.column) for limit in self.spread if not limit.ordered)
        return tuple(dict.fromkeys((*self.values, *spread)))


def layout(plan: Plan, *, every: bool = False) -> Layout:
    """How the rows of a plan about persons are measured. With `every` the spread of all sensitive fields
    is, not only of those with a bound to it. Raises PLAN_REFUSED without quasi-identifiers.

    Where no pseudonym of the entity itself is sent, rows are judged one by one besides: a pseudonym of
    something larger, a household or a hospital, joins many people and would hide a single one.
    """
    if plan.entity is None or plan.k is None or not plan.quasi_identifiers:
        raise SluicegateError(Reason.PLAN_REFUSED, "data about persons needs an entity, k and quasi-identifiers")
    units = tuple(f"#unit.{name}" for name in plan.pseudonyms)
    planned = plan.field(plan.entity)
    same = (
        plan.entity in plan.pseudonyms
        and planned is not None
        and isinstance(planned.technique, t.Hmac)
        and planned.technique.period is None
        and planned.technique.normalise == "text"
    )
    single: tuple[str | None, ...] = () if plan.entity in plan.pseudonyms else (None,)
    return Layout(
        row="#row",
        units=units,
        person=plan.entity,
        entity=f"#unit.{plan.entity}" if same else "#entity",
        values=tuple((name, f"#value.{name}") for name in plan.sensitive),
        spread=spreading.limits(plan, every=every),
        groupings=(*single, *units),
        entity_is_unit=same,
    )


def with_hashes(
    frame: pl.LazyFrame,
    plan: Plan,
    secrets: masking.MaskingSecrets,
    places: Layout,
    key: ReleaseKey,
    *,
    beside: Iterable[pl.Expr] = (),
    person: str | None = None,
    tuples: Mapping[str, Sequence[str]] | None = None,
) -> pl.LazyFrame:
    """The outgoing columns of a plan, and the hash columns of `places` behind them; with `tuples`, one more
    each for the tuple of those fields. The entity's hash is of its normalised source value, so that the value
    itself is nowhere in the result. A field that chance went into is hashed as it was before: noise would
    make every class a class of one, and every sensitive value a distinct one. `beside` as in `masking.masked`;
    `person`: a column for the entity's normalised source value itself, which whoever asks for it takes out again.
    """
    counted = [*plan.quasi_identifiers, *(name for name, _ in (*places.values, *places.hashes))]
    steady = {
        field.name: f"#before.{field.name}"
        for field in plan.fields
        if field.technique.randomised and field.name in counted
    }
    others = [
        *beside,
        *(masking.before_chance(field).alias(steady[field.name]) for field in plan.fields if field.name in steady),
    ]
    who = _WHO if person is None else person
    out = masking.masked(frame, plan, secrets, beside=others, person=who)
    seed = key.number("unit")
    rows = {places.row: plan.quasi_identifiers, **(tuples or {})}
    own = [] if places.entity_is_unit else [places.entity]
    return out.with_columns(
        *(_hash(pl.col(who), key.number("entity")).alias(column) for column in own),
        *(tuple_hash(names, key, steady).alias(column) for column, names in rows.items()),
        *(
            _hash(pl.col(name), seed + index).alias(column)
            for index, (name, column) in enumerate(zip(plan.pseudonyms, places.units, strict=True))
        ),
        *(
            _hash(pl.col(steady.get(name, name)), key.number("value", name)).alias(column)
            for name, column in places.hashes
        ),
    ).drop(*steady.values(), *([] if person is not None else [who]))


def tuple_hash(fields: Iterable[str], key: ReleaseKey, stand_ins: Mapping[str, str] = MappingProxyType({})) -> pl.Expr:
    """The keyed hash of a tuple of outgoing values, or of the columns that stand in for them; nulls count
    as values."""
    each = [pl.col(stand_ins.get(name, name)).hash(key.number("tuple", name)) for name in fields]
    if len(each) == 1:
        return each[0]
    whole: pl.Expr = pl.lit(key.number("tuple") >> 1, dtype=pl.UInt64)
    for one in each:
        whole = (whole * pl.lit(FOLD, dtype=pl.UInt64)) ^ one
    return whole.hash(key.number("tuple", "whole"))  # else sums of tuples that swap a value could be the same


def alike(plan: Plan) -> list[str]:
    """The fields that rows of one class leave with alike: not those that chance went into, whose classes are of what
    they were before."""
    quasi = (field for field in plan.fields if field.name in plan.quasi_identifiers)
    return [field.name for field in quasi if not field.technique.randomised]


def _hash(expr: pl.Expr, seed: int) -> pl.Expr:
    """Keyed hash that leaves nulls null."""
    return pl.when(expr.is_not_null()).then(expr.hash(seed % 2**64))
