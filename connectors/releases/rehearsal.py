"""The dry run behind `contract test`: the real pipeline on real data, up to the point of serving."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from connectors.digest import ContentDigest
from connectors.identifiers.residual import Finding, Inspector
from connectors.keys import passing_secrets
from connectors.measures import classing, privacy, small, spread
from connectors.measures.classing import Layout
from connectors.measures.effectiveness import mean
from connectors.measures.loss import Losses
from connectors.measures.missed import missed
from connectors.measures.privacy import Measure, Verdict
from connectors.sources.base import Source, explaining
from connectors.spooling import making, order
from connectors.spooling import spool as spools
from connectors.spooling.order import ReleaseKey
from connectors.spooling.scope import drawn
from contracts.papers import Certificate
from contracts.plan import Plan

SAMPLE_ROWS = 10


@dataclass(frozen=True, slots=True)
class ColumnEffect:
    """What one quasi-identifier costs: how many rows would be suppressed, and how many classes there
    would be, if it were not sent."""

    name: str
    suppressed_without: int
    classes_without: int


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a release of this plan would be like now.

    `passes`: the release would be made. `k_lowest` and `l_lowest` are the lowest found before anything
    was suppressed, `k_met` and `l_met` what holds after; 0 where no class is left. `highest_risk` and
    `mean_risk` are theta, 1 / entities of a class, after suppression; `certificate` is what a receipt
    would say, with the spread of every sensitive field. `uniques_before` is the share of entities that
    were alone in a class before. `columns` are the quasi-identifiers worst first. `findings` is what no mask
    removed. `sample` are at most ten rows as they would leave, without the values of columns in which
    something was found. Without bounds (data about no person)
    the figures on classes are 0. `exact` false: counting stopped at the bounds.
    """

    passes: bool
    rows_in: int
    rows_suppressed: int
    share: float
    max_suppression: float
    classes: int
    classes_failing: int
    k_required: int
    k_lowest: int
    k_met: int
    l_required: dict[str, int]
    l_lowest: dict[str, int]
    l_met: dict[str, int]
    highest_risk: float
    mean_risk: float
    uniques_before: float
    certificate: Certificate | None
    exact: bool
    columns: tuple[ColumnEffect, ...]
    findings: tuple[Finding, ...]
    sample: pl.DataFrame


def dry_run(
    plan: Plan,
    source: Source,
    *,
    spool: Path,
    entropy: Callable[[int], bytes],
    memory_limit: int = making.MEMORY_LIMIT,
    exact_rows: int = making.EXACT_ROWS,
    tell: Callable[[str], None] = lambda _: None,
) -> DryRun:
    """Mask, measure and suppress as `release.make` would, under passing keys; serve nothing.

    `spool` is a folder of its own, gone afterwards; `tell` hears of each stage. Raises what `release.make`
    raises, but never BOUNDS_NOT_MET or RESIDUAL_IDENTIFIERS: that is what figures and findings are for.
    """
    spools.prepare(spool)
    key = ReleaseKey(entropy(32), "dry-run")
    rows, inspector = spools.Rows(spool / "rows", memory_limit=memory_limit), Inspector(plan)
    losses = Losses(plan, key)
    try:
        places = classing.layout(plan, every=True) if plan.entity is not None else None
        tell("reading and masking every row")
        with explaining(source, plan.read):
            _spool(plan, source, rows, key, places, (inspector, losses), entropy)
        verdict = Verdict(rows.count, alive=[None] * rows.batch_count)
        columns: tuple[ColumnEffect, ...] = ()
        if places is not None:
            exact = rows.count <= exact_rows or plan.max_risk is not None
            tell(f"measuring {rows.count:,} rows")
            verdict = _measured(plan, rows, places, exact)
            tell("trying it without each quasi-identifier")
            columns = _columns(plan, rows, places, exact)
        elif plan.suppress_small is not None:
            tell(f"counting {rows.count:,} rows")
            verdict = small.measured(plan.suppress_small, rows, exact=rows.count <= exact_rows)
        found = inspector.findings
        sample = _sample(plan, rows, verdict, key, spool).with_columns(
            pl.lit(None).cast(pl.String).alias(name) for name in {finding.column for finding in found}
        )
        return _outcome(plan, verdict, columns, found, sample, places, losses)
    finally:
        rows.close()
        shutil.rmtree(spool, ignore_errors=True)


def _spool(
    plan: Plan,
    source: Source,
    rows: spools.Rows,
    key: ReleaseKey,
    places: Layout | None,
    watching: tuple[Inspector, Losses],
    entropy: Callable[[int], bytes],
) -> None:
    secrets, (inspector, losses) = passing_secrets(entropy), watching
    scoped = drawn(source.scan(plan.read), plan, secrets)
    if places is None:
        frame = small.with_classes(scoped, plan, secrets, key)
    else:
        quasi = plan.quasi_identifiers
        others = {_without(name): [other for other in quasi if other != name] for name in quasi}
        frame = classing.with_hashes(scoped, plan, secrets, places, key, beside=losses.beside, tuples=others)
    making.check_schema(frame, making.wire_schema(plan), source=source.name)
    with spools.room("dry-run"):
        making.deal(
            frame,
            rows,
            key,
            inspector.inspect,
            source=source.name,
            watch=losses.look,
            unkept=losses.columns,
        )
    making.check_some(rows.count, source.name)


def _without(name: str) -> str:
    return f"#without.{name}"


def _measured(plan: Plan, rows: spools.Rows, places: Layout, exact: bool) -> Verdict:
    return Measure(
        batches=lambda: rows.batches(places.columns),
        places=places,
        k=plan.k or 0,
        l=plan.sensitive,
        exact=exact,
    ).run(most_suppressed=privacy.TO_THE_END)


def _columns(plan: Plan, rows: spools.Rows, places: Layout, exact: bool) -> tuple[ColumnEffect, ...]:
    """Every quasi-identifier left out in turn; the one that helps most comes first."""
    effects, bound = [], spread.limits(plan)
    for name in plan.quasi_identifiers:
        verdict = _measured(plan, rows, dataclasses.replace(places, row=_without(name), spread=bound), exact)
        effects.append(ColumnEffect(name, verdict.rows_suppressed, verdict.classes + verdict.failing))
    return tuple(sorted(effects, key=lambda effect: (effect.suppressed_without, effect.classes_without)))


def _sample(plan: Plan, rows: spools.Rows, verdict: Verdict, key: ReleaseKey, spool: Path) -> pl.DataFrame:
    """A few of the rows that would leave, chosen at random."""
    schema = making.wire_schema(plan)
    digest = ContentDigest({field.name: field.output for field in plan.fields}, "blake3")
    cutter = making.Cutter(rows, verdict.alive, schema, digest, key, spool)
    found = 0
    for last in range(1, order.BUCKETS + 1):
        found += cutter.leaving(last - 1, last)
        if found >= SAMPLE_ROWS or last == order.BUCKETS:
            return pl.DataFrame(pl.from_arrow(cutter.shuffled(0, last))).head(SAMPLE_ROWS)
    raise AssertionError("there is at least one bucket")


def _outcome(
    plan: Plan,
    verdict: Verdict,
    columns: tuple[ColumnEffect, ...],
    found: tuple[Finding, ...],
    sample: pl.DataFrame,
    places: Layout | None,
    losses: Losses,
) -> DryRun:
    allowed = privacy.allowed(plan) if plan.suppress_small is None else plan.suppress_small.max_suppression
    left = verdict.share <= allowed if places is None else not missed(plan, verdict)
    return DryRun(
        passes=left and not found,
        rows_in=verdict.rows_in,
        rows_suppressed=verdict.rows_suppressed,
        share=verdict.share,
        max_suppression=allowed,
        classes=verdict.classes,
        classes_failing=verdict.failing,
        k_required=plan.k or 0,
        k_lowest=verdict.lowest_k,
        k_met=verdict.met("n"),
        l_required=dict(plan.sensitive),
        l_lowest=verdict.lowest_l,
        l_met={name: verdict.met(column) for name, column in places.values} if places else {},
        highest_risk=1 / verdict.met("n") if verdict.met("n") else 0.0,
        mean_risk=mean(verdict.tables),
        uniques_before=verdict.alone,
        certificate=privacy.certificate(plan, verdict, loss=losses.total(verdict.share)) if places else None,
        exact=verdict.exact,
        columns=columns,
        findings=found,
        sample=sample,
    )
