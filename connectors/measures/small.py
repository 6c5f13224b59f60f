"""Small classes of data about no person: rows that too few others are like are left out (`suppress_small`).

A class is one tuple of outgoing values. It is counted as bounds on persons are, every row being one.
"""

from __future__ import annotations

import polars as pl

from connectors.masks.masking import MaskingSecrets, masked
from connectors.measures import classing, privacy
from connectors.measures.classing import Layout
from connectors.measures.privacy import Measure, Verdict
from connectors.spooling.order import ReleaseKey
from connectors.spooling.spool import Rows
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan
from contracts.techniques import SuppressSmall

_PLACES = Layout(
    row="#row",
    units=(),
    person="",
    entity="#each",
    values=(),
    spread=(),
    groupings=(None,),
    entity_is_unit=False,
)


def with_classes(frame: pl.LazyFrame, plan: Plan, secrets: MaskingSecrets, key: ReleaseKey) -> pl.LazyFrame:
    """The outgoing columns of a plan about no person. Where it leaves small classes out, behind them each row's number
    and the keyed hash of its class."""
    if plan.suppress_small is None:
        return masked(frame, plan, secrets)
    numbered = frame.with_row_index(_PLACES.entity)
    each = pl.col(_PLACES.entity).cast(pl.UInt64)
    out = masked(numbered, plan, secrets, beside=[each])
    return out.with_columns(classing.tuple_hash(plan.suppress_small.fields, key).alias(_PLACES.row))


def measured(small: SuppressSmall, rows: Rows, *, exact: bool) -> Verdict:
    """Which of the spooled rows may leave."""
    batches = lambda: rows.batches(_PLACES.columns)  # noqa: E731 - asked for again and again
    measure = Measure(batches=batches, places=_PLACES, k=small.k, l={}, exact=exact)
    return measure.run(most_suppressed=privacy.TO_THE_END)


def check(small: SuppressSmall, verdict: Verdict) -> None:
    """Raises BOUNDS_NOT_MET where more would be left out than may be."""
    if verdict.share > small.max_suppression:
        raise SluicegateError(
            Reason.BOUNDS_NOT_MET,
            "too many rows are such that too few others are like them",
            metadata={
                "rows_in": str(verdict.rows_in),
                "rows_to_suppress": str(verdict.rows_suppressed),
                "max_suppression": f"{small.max_suppression:.6f}",
            },
            remedy="coarser masks, or fewer fields under suppress_small, leave larger classes",
        )
