"""A release that is an aggregate: paid for first, then computed, kept, and put into the spool as a small table.

Its noise cannot be drawn again, so the table is kept in the gateway's state before anybody is served: within
the refresh interval the same figures are served again, after a restart too, and cost nothing more.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa

from connectors.digest import ContentDigest, Hash, arrow_type
from connectors.identifiers.residual import Inspector
from connectors.masks.masking import masked
from connectors.masks.values import text
from connectors.releases import aggregates, noise
from connectors.releases.budget import Budgets, Cost, Figures
from connectors.releases.release import Recipient, Release, ReleaseSecrets
from connectors.sources.base import Source, explaining
from connectors.spooling import making
from connectors.spooling import spool as spools
from connectors.spooling.order import ReleaseKey
from connectors.spooling.scope import in_scope
from contracts.aggregate_plan import PlannedAggregate
from contracts.dtypes import Schema
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan
from contracts.receipt import PartDigest


def make(
    plan: Plan,
    source: Source,
    secrets: ReleaseSecrets,
    recipient: Recipient,
    budgets: Budgets,
    *,
    spool: Path,
    release_id: str,
    clock: Callable[[], int],
    hash: Hash = "blake3",
) -> Release:
    """Make the release of an aggregate in its own folder `spool`.

    1. What was made under this name before is taken as it is.
    2. Otherwise its cost is taken from the recipient's budget, durably.
    3. The figures are computed and made noisy; names of groups are looked through for identifiers.
    4. They are kept, then written as the one part of the release.

    Rows read are not told: their number would be an exact figure. Raises CONFIG_INVALID without the library,
    BUDGET_SPENT, RESIDUAL_IDENTIFIERS, DATA_INVALID, SOURCE_UNAVAILABLE, STATE_WRONG, SPOOL_FULL, CONFIG_UNSAFE;
    from step 3 on the cost is spent all the same. The folder is gone then.
    """
    spools.prepare(spool)
    try:
        # 1
        found = budgets.figures(recipient.consumer, recipient.dataset, release_id)
        if found is not None and found.plan != plan.digest:
            message = f"{release_id} was made by another plan; wait for the next refresh interval"
            raise SluicegateError(Reason.REFRESH_PENDING, message)
        if found is None:
            found = _made(plan, source, secrets, recipient, budgets, release_id, clock())
        return _put(plan, found, spool, hash)
    except BaseException:
        shutil.rmtree(spool, ignore_errors=True)
        raise


def schema(plan: Plan) -> Schema:
    """Names and types of the columns that leave: groups, then figures."""
    figures = plan.aggregate.measures if plan.aggregate is not None else ()
    return {
        **{field.name: field.output for field in plan.fields},
        **{measure.name: measure.output for measure in figures},
    }


def frame(plan: Plan, source: Source, secrets: ReleaseSecrets, entity: str) -> pl.LazyFrame:
    """The rows in scope: groups as they leave, values to add up, and whose they are."""
    scoped = in_scope(source.scan(plan.read), plan)
    who = text(pl.col(entity)).alias("#who")
    return masked(scoped, plan, secrets, beside=[*(pl.col(field.name) for field in plan.measured), who])


def _made(
    plan: Plan, source: Source, secrets: ReleaseSecrets, recipient: Recipient, budgets: Budgets, name: str, now: int
) -> Figures:
    terms = _terms(plan)
    noise.demand()
    # 2
    budgets.take(
        name,
        consumer=recipient.consumer,
        dataset=recipient.dataset,
        agreement_digest=recipient.agreement_digest,
        cost=Cost(terms.micro_epsilon, terms.pico_delta),
        budget=Cost(terms.budget_micro_epsilon, terms.budget_pico_delta),
        now=now,
    )
    # 3
    key = ReleaseKey(secrets.order_seed, name)
    with explaining(source, plan.read):
        rows = frame(plan, source, secrets.of_release(name), terms.entity)  # type: ignore[arg-type]
        table = aggregates.compute(plan, rows, key, source=source.name)
    inspector = Inspector(plan)
    inspector.inspect(table)
    inspector.check()
    # 4
    figures = Figures(name, plan.digest, now, _written(plan, table))
    budgets.keep_figures(recipient.consumer, recipient.dataset, recipient.purpose, figures)
    return figures


def _terms(plan: Plan) -> PlannedAggregate:
    if plan.aggregate is None:
        raise SluicegateError(Reason.INTERNAL, "the plan sends rows, not an aggregate")
    return plan.aggregate


def _written(plan: Plan, table: pl.DataFrame) -> bytes:
    """The table as an Arrow file of the planned types. Raises INTERNAL for another type."""
    wire = pa.schema([(name, arrow_type(str(kind))) for name, kind in schema(plan).items()])
    making.check_schema(table.lazy(), wire, source="the aggregate")
    arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(wire)
    out = io.BytesIO()
    with pa.ipc.new_file(out, wire) as writer:
        writer.write_table(arrow.combine_chunks())
    return out.getvalue()


def _put(plan: Plan, figures: Figures, folder: Path, hash: Hash) -> Release:
    """The kept table as a release of one part, which may have no row."""
    columns = schema(plan)
    digest = ContentDigest(columns, hash)
    digest.open_part(0)
    path = folder / making.part_name(0)
    with spools.room(figures.release), os.fdopen(spools.create(path), "wb") as file:
        file.write(figures.content)
    with pa.ipc.open_file(pa.BufferReader(figures.content)) as reader:
        digest.update(0, reader.read_all())
    part = digest.part(0)
    return Release(
        id=figures.release,
        folder=folder,
        schema=columns,
        parts=(making.PartFile(path, part.rows, part.digest),),
        content_digest=digest.over([PartDigest(rows=part.rows, digest=part.digest)]),
        hash=hash,
        rows_in=part.rows,
        rows_out=part.rows,
        rows_suppressed=0,
        bounds=None,
        order="source",
        made=figures.made,
    )
