"""A release that misses its bounds: the refusal, with figures for its department.

The consumer learns that the bounds were not met, and no more: the gateway keeps these figures from it.
Columns are named in them, values never.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from connectors.measures import classing, effectiveness, privacy
from connectors.measures.privacy import Measure, Verdict
from connectors.spooling.order import ReleaseKey
from connectors.spooling.spool import Rows
from contracts.certificate import SLACK
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan

MOST_ROWS = 100_000_000  # looked at, over all combinations, before the search is left out
_TUPLE = "#combination"


def missed(plan: Plan, verdict: Verdict) -> bool:
    """Whether the release that was measured may not leave: more would have to be suppressed than is
    allowed, or everything, or what is left is riskier than the contract says."""
    if verdict.share > privacy.allowed(plan) or verdict.rows_suppressed == verdict.rows_in:
        return True
    return too_risky(plan, verdict)


def too_risky(plan: Plan, verdict: Verdict) -> bool:
    """Whether what is left is riskier than the contract says."""
    return plan.max_risk is not None and privacy.certificate(plan, verdict).risk > plan.max_risk + SLACK


def combination(plan: Plan, measure: Measure, rows: Rows, key: ReleaseKey) -> tuple[str, ...]:
    """The quasi-identifiers that isolate people: of these few alone the bounds are missed already.

    Each is left out in turn, which ranks them; then the first are taken until they miss. Empty where the
    table is too large to look for it. In the ranking's order.
    """
    names = plan.quasi_identifiers
    if 2 * len(names) * rows.count > MOST_ROWS:
        return ()

    def by(fields: Sequence[str]) -> Verdict:
        return _by(measure, rows, key, fields).run(most_suppressed=0.0)

    def left(name: str) -> tuple[float, float]:
        found = by([other for other in names if other != name])
        return found.share, effectiveness.mean(found.tables)

    ranked = sorted(names, key=left)
    for size in range(1, len(ranked)):
        if missed(plan, by(ranked[:size])):
            return tuple(ranked[:size])
    return tuple(ranked)


def _by(measure: Measure, rows: Rows, key: ReleaseKey, fields: Sequence[str]) -> Measure:
    """The same measuring, with classes of some quasi-identifiers alone."""
    columns = measure.places.columns

    def batches() -> Iterator[pl.DataFrame]:
        for batch in rows.batches(tuple(dict.fromkeys((*columns, *fields)))):
            yield batch.select(*columns, classing.tuple_hash(fields, key).alias(_TUPLE))

    places = dataclasses.replace(measure.places, row=_TUPLE)
    return dataclasses.replace(measure, batches=batches, places=places, compare=None)


def refusal(plan: Plan, verdict: Verdict, worst: Sequence[str], more: Mapping[str, str]) -> SluicegateError:
    """BOUNDS_NOT_MET: required and lowest (or highest) of every bound, as first measured, `worst`, and `more`: the
    words of a proposal, what a difference to earlier releases isolates."""
    figures = {
        "rows_in": str(verdict.rows_in),
        "rows_to_suppress": str(verdict.rows_suppressed),
        "share": f"{verdict.share:.6f}",
        "max_suppression": f"{privacy.allowed(plan):.6f}",
        "classes_failing": str(verdict.failing),
        "k_required": str(plan.k),
        "k_lowest": str(verdict.lowest_k),
        **{f"l_required.{name}": str(least) for name, least in plan.sensitive.items()},
        **{f"l_lowest.{name}": str(found) for name, found in verdict.lowest_l.items()},
        "share_of_uniques": f"{verdict.alone:.6f}",
    }
    for name, found in verdict.first_spread.items():
        distance = found.variational if found.ordered is None else found.ordered
        if found.t_required is not None:
            figures |= {f"t_required.{name}": f"{found.t_required:g}", f"t_highest.{name}": f"{distance:.6f}"}
        if found.entropy_required is not None:
            figures |= {
                f"entropy_required.{name}": f"{found.entropy_required:g}",
                f"entropy_lowest.{name}": f"{found.entropy:.6f}",
            }
    if plan.max_risk is not None and verdict.rows_suppressed < verdict.rows_in:
        risk = privacy.certificate(plan, verdict).risk
        figures |= {"risk_required": f"{plan.max_risk:g}", "risk": f"{risk:.6f}"}
    if worst:
        figures["worst_combination"] = ", ".join(worst)
    figures |= more
    return SluicegateError(Reason.BOUNDS_NOT_MET, "the release does not meet its re-identification bounds", (), figures)
