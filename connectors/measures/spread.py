"""How the values of sensitive fields are spread within classes: t (two distances) and entropy.

A class whose values are spread otherwise than the whole release's tells something about everyone in it,
however many they are. Two distances say how far: the variational one takes values as names, the ordered
one (earth mover's) as places in their order, so that a class of neighbouring salaries is nearer than one
of extremes. A null is a value here, and comes first: having none tells something too. Entropy, like
distinct l, is of the values alone.

Rows are counted per class and value, exactly, whatever the table's size: what exceeds the budget is
counted in slices of the classes. The whole's spread must fit, so a field may have `MOST_VALUES` values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from connectors.measures.tally import Pairs, TooManyOpenError, changes, on_each, summed
from contracts import certificate
from contracts.errors import Reason, SluicegateError
from contracts.papers import Spread
from contracts.plan import Plan

MOST_VALUES = 2_000_000  # distinct values of one field
PAIRS = 8_000_000  # of class and value, held at once

Classes = Callable[[], Iterable[pl.DataFrame]]  # rows with their class, read anew at each call


@dataclass(frozen=True, slots=True)
class Limit:
    """One field whose spread is measured: `column` holds its values or their hashes, `ordered` whether
    that column's order is that of the values. A bound that is None binds nothing."""

    field: str
    column: str
    ordered: bool
    t: float | None
    entropy: float | None


def limits(plan: Plan, *, every: bool = False) -> tuple[Limit, ...]:
    """The fields of a plan with a bound on their spread; with `every`, all sensitive ones."""
    names = dict.fromkeys((*(plan.sensitive if every else ()), *plan.entropy, *plan.t))
    found = []
    for name in names:
        planned = plan.field(name)
        if planned is None:
            raise SluicegateError(Reason.PLAN_REFUSED, f"{name} has a bound and is not sent")
        ordered = certificate.ordered(str(planned.output))
        # What has an order is measured by the values as they leave, which lie in the spool anyway.
        column = name if ordered else f"#value.{name}"
        found.append(Limit(name, column, ordered, plan.t.get(name), plan.entropy.get(name)))
    return tuple(found)


def whole(frames: Iterable[pl.DataFrame], limit: Limit) -> pl.DataFrame | None:
    """Over all rows: each value, its `place` in order, its `share`, and `reached`, the share up to it.

    More than `MOST_VALUES` values raise DATA_INVALID where a bound needs them; without one they give None."""
    held: pl.DataFrame | None = None
    for frame in frames:
        counted = frame.select(value=pl.col(limit.column)).group_by("value").len("rows")
        held = counted if held is None else summed([held, counted], ["value"])
        if held.height > MOST_VALUES and limit.t is None and limit.entropy is None:
            return None
        if held.height > MOST_VALUES:
            raise SluicegateError(
                Reason.DATA_INVALID,
                f"{limit.field} has more than {MOST_VALUES} values, so no spread of them means anything; coarsen it",
            )
    if held is None:
        raise SluicegateError(Reason.INTERNAL, "a spread was asked of no rows")
    table = held.sort("value", nulls_last=False)
    share = pl.col("rows") / pl.col("rows").sum()
    return table.select("value", share=share, reached=share.cum_sum()).with_row_index("place")


def by_class(
    classes: Classes, wholes: Mapping[Limit, pl.DataFrame], *, budget: int = PAIRS
) -> dict[Limit, pl.DataFrame]:
    """For each field, whose `whole` is given, one row a class: `variational`, `ordered` (null where the
    field has no order) and `entropy`. Rows are read once for all fields, as long as all pairs fit."""
    slices, most = 1, max(budget, *(of.height for of in wholes.values()))
    while True:
        try:
            found: dict[Limit, list[pl.DataFrame]] = {limit: [] for limit in wholes}
            for index in range(slices):
                pairs = Pairs((limit.column for limit in wholes), most)
                for rows in classes():
                    pairs.add(rows.filter(pl.col("class") % slices == index) if slices > 1 else rows)
                for limit, of in wholes.items():
                    found[limit].append(figures(pairs.take(limit.column), limit, of))
            return {limit: pl.concat(tables) for limit, tables in found.items()}
        except TooManyOpenError:
            slices *= 4


def worst(measured: Iterable[pl.DataFrame], limit: Limit) -> Spread:
    """What a certificate says of a field: the worst class of all groupings."""
    tables = [table for table in measured if table.height]

    def highest(column: str) -> float:
        most = max((float(table[column].max()) for table in tables), default=0.0)  # type: ignore[arg-type]
        return min(1.0, max(0.0, most))  # sums of shares may overstep by what floating point loses

    lowest = min((float(table["entropy"].min()) for table in tables), default=1.0)  # type: ignore[arg-type]
    return Spread(
        t_required=limit.t,
        variational=certificate.figure(highest("variational")),
        ordered=certificate.figure(highest("ordered")) if limit.ordered else None,
        entropy_required=limit.entropy,
        entropy=certificate.figure(max(1.0, lowest)),
    )


def missing(measured: pl.DataFrame, limit: Limit) -> pl.Series:
    """The classes that miss a bound of the field."""
    distance = pl.col("ordered" if limit.ordered else "variational")
    bad = pl.lit(False)
    if limit.t is not None:
        bad = bad | (distance > limit.t + certificate.SLACK)
    if limit.entropy is not None:
        bad = bad | (pl.col("entropy") < limit.entropy - certificate.SLACK)
    return measured.filter(bad)["class"]


def figures(pairs: pl.DataFrame, limit: Limit, of: pl.DataFrame) -> pl.DataFrame:
    """What `by_class` gives of a field, of the classes of these `Pairs`.

    A class's pairs lie together, in the order of values, once a single number that says both is sorted: what is
    counted up to a pair is then a difference of running counts, which are whole numbers."""
    places = of.height
    classes = pairs.select(pl.col("class").unique()).with_row_index("number")
    rows = (
        pairs.join(classes, on="class", how="left")
        .join(of.select("value", "place"), on="value", how="left", nulls_equal=True)
        .select(key=pl.col("number").cast(pl.UInt64) * places + pl.col("place"), rows=pl.col("rows").cast(pl.Int64))
        .sort("key")
        .select(pl.col("key") // places, place=(pl.col("key") % places).cast(pl.Int64), rows="rows")
        .rename({"key": "number"})
    )
    first = changes(rows["number"])
    begins = first.arg_true()
    sizes = pl.concat([begins, pl.Series([len(first)], dtype=begins.dtype)]).diff().drop_nulls()
    counted = rows["rows"].cum_sum()
    before = counted.gather(begins) - rows["rows"].gather(begins)
    total = pl.concat([before, counted.tail(1)]).diff().drop_nulls()
    # Entropy is of the values alone, without nulls.
    null_place = of.filter(pl.col("value").is_null())["place"]
    null = rows["place"] == int(null_place[0]) if len(null_place) else pl.repeat(False, rows.height, eager=True)
    nameless = pl.DataFrame({"n": on_each(pl.int_range(len(sizes), eager=True), first), "r": rows["rows"]}).filter(null)
    valued = total.clone()
    if nameless.height:
        valued = valued.scatter(nameless["n"], total.gather(nameless["n"]) - nameless["r"])
    rows = rows.with_columns(
        null.alias("null"),
        p=rows["rows"] / on_each(total, first),
        q=rows["rows"] / on_each(valued, first),
        share=of["share"].gather(rows["place"]),
    )
    if limit.ordered:
        held = (counted - on_each(before, first)) / on_each(total, first)
        rows = rows.with_columns(moved=_moved(rows["place"], held, first, of))
    entropy = pl.when(~pl.col("null")).then(pl.col("q") * pl.col("q").log())
    return (
        rows.set_sorted("number")
        .group_by("number", maintain_order=True)
        .agg(
            # Values that the class has not add nothing: what is too much elsewhere is too little there.
            variational=(pl.col("p") - pl.col("share")).clip(lower_bound=0).sum(),
            ordered=pl.col("moved").sum() if limit.ordered else pl.lit(None, dtype=pl.Float64),
            entropy=(-entropy.sum()).exp(),
        )
        .select(classes["class"], "variational", "ordered", "entropy")
    )


def _moved(place: pl.Series, held: pl.Series, first: pl.Series, of: pl.DataFrame) -> pl.Series:
    """What each pair adds to its class's ordered distance, from the class's share up to its place (`held`).

    The distance is the mean over places of |share of the class up to there - share of the whole|. The
    class's share stays what it is from one of its places to its next, while the whole's rises and may
    cross it once: so each stretch is two sums of consecutive shares of the whole, read from prefix sums.
    """
    places = of.height
    if places < 2:
        return pl.Series("moved", [0.0]).new_from_index(0, len(place))
    reached = of["reached"]
    sums = pl.concat([pl.Series("reached", [0.0]), reached]).cum_sum()  # sums[i]: of the first i
    last = first.shift(-1, fill_value=True)
    table = pl.DataFrame({"begin": place, "held": held, "first": first, "last": last}).with_columns(
        end=pl.when("last").then(places).otherwise(pl.col("begin").shift(-1)),
        cross=reached.search_sorted(held, side="left").cast(pl.Int64),
    )
    table = table.with_columns(cross=pl.max_horizontal("begin", pl.min_horizontal("cross", "end")))

    def upto(column: str) -> pl.Series:
        return sums.gather(table[column])

    low, high, mid = upto("begin"), upto("end"), upto("cross")
    before = table["held"] * (table["cross"] - table["begin"]) - (mid - low)
    after = (high - mid) - table["held"] * (table["end"] - table["cross"])
    # Below a class's first place its share is nothing, and the whole's is all that was reached.
    ahead = low * first.cast(pl.Float64)
    return ((before + after + ahead) / (places - 1)).alias("moved")
