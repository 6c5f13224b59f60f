"""The figures of effectiveness: pure functions over class tables.

A class table has one row a class and its entities in `n`; `privacy.Measure` made it for k, so these
figures cost nothing more. Where rows were judged in several groupings, each figure is that of the worst.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from contracts import certificate
from contracts.model import Identifiability, SharingModel
from contracts.papers import Certificate, Spread
from contracts.plan import Plan

Tables = Sequence[pl.DataFrame]


def above(tables: Tables, tau: float) -> float:
    """DR_a: the share of classes whose risk, 1 / entities, exceeds tau.

    >>> above([pl.DataFrame({"n": [1, 4, 5, 20]})], 1 / 5)
    0.5
    """
    return _worst(tables, lambda n: float((1 / n > tau + certificate.SLACK).mean() or 0.0))  # type: ignore[arg-type]


def highest(tables: Tables) -> float:
    """DR_b, the prosecutor's risk: of the smallest class.

    >>> highest([pl.DataFrame({"n": [4, 5, 20]})])
    0.25
    """
    return _worst(tables, lambda n: 1 / int(n.min()))  # type: ignore[arg-type]


def mean(tables: Tables) -> float:
    """DR_c: the mean over classes of 1 / entities.

    >>> mean([pl.DataFrame({"n": [2, 4, 4]})])
    0.3333333333333333
    """
    return _worst(tables, lambda n: float((1 / n).mean()))  # type: ignore[arg-type]


def marketer(tables: Tables) -> float:
    """The share of entities that who matches them all at random gets right: classes / entities.

    >>> marketer([pl.DataFrame({"n": [2, 4, 4]})])
    0.3
    """
    return _worst(tables, lambda n: len(n) / int(n.sum()))


def uniques(tables: Tables) -> float:
    """The share of entities that are alone in their class.

    >>> uniques([pl.DataFrame({"n": [1, 1, 6]})])
    0.25
    """
    return _worst(tables, lambda n: int((n == 1).sum()) / int(n.sum()))


def discernibility(tables: Tables, *, suppressed: int, rows: int) -> float:
    """The discernibility metric over the rows: each entity costs as many as it cannot be told from, each
    suppressed row as many as there are rows; of that the mean, since the sum of many rows is beyond exact
    numbers. Of one row an entity, as the literature has it.

    >>> discernibility([pl.DataFrame({"n": [2, 3]})], suppressed=1, rows=10)
    2.3
    """
    return _worst(tables, lambda n: float((n.cast(pl.Float64) ** 2).sum()) / max(1, rows)) + float(suppressed)


def journalist(table: pl.DataFrame, register: pl.DataFrame) -> float:
    """The highest risk to who is looked up in a register: 1 over the persons of the register that share a
    class of the release, both tables of (class, n). A class that the register has fewer of is taken as
    large as the release's own: whoever left is in the population.

    >>> journalist(pl.DataFrame({"class": [1, 2], "n": [5, 2]}), pl.DataFrame({"class": [1, 2], "n": [50, 8]}))
    0.125
    """
    joined = table.select("class", "n").join(register.select("class", there="n"), on="class", how="left")
    found = joined.select(pl.max_horizontal("n", pl.col("there").fill_null(0)).min()).item()
    return 1 / int(found) if found else 0.0


def judged(
    plan: Plan,
    tables: Tables,
    *,
    rows_in: int,
    suppressed: int,
    exact: bool,
    spread: Mapping[str, Spread],
    loss: float | None = None,
) -> Certificate:
    """The certificate of a release about persons, from the class tables of what leaves. Rows counted; `loss` as
    `connectors.measures.loss` measures it.

    With `exact` false, classes were counted no further than k: risks are upper limits then.
    """
    model, tau, said = plan.sharing_model or SharingModel.PUBLIC, plan.tau or 0.0, certificate.figure
    dr_a, dr_b, dr_c = said(above(tables, tau)), said(highest(tables)), said(mean(tables))
    matched = marketer(tables)
    risk = certificate.risk(model, dr_a, dr_b, dr_c)
    direct = any(
        field.identifiability is Identifiability.DIRECT and field.technique.reversible for field in plan.fields
    )
    return Certificate(
        level=certificate.level(risk, plan.tolerated, direct=direct),
        sharing_model=model,
        tau=said(tau),
        context_risk=certificate.CONTEXT_RISK,
        dr_a=dr_a,
        dr_b=dr_b,
        dr_c=dr_c,
        risk=risk,
        risk_tolerated=plan.tolerated,
        risk_required=plan.max_risk,
        prosecutor_risk=dr_b,
        journalist_risk=None,
        marketer_risk=said(matched),
        uniques=said(uniques(tables)),
        suppressed=said(suppressed / rows_in if rows_in else 0.0),
        average_class=said(1 / matched if matched else 0.0),
        discernibility=said(discernibility(tables, suppressed=suppressed, rows=rows_in)) if exact else None,
        spread=dict(spread),
        loss=None if loss is None else said(loss),
    )


def _worst(tables: Tables, figure: Callable[[pl.Series], float]) -> float:
    """The highest of a figure over the groupings that have a class; 0 where none is left."""
    return max((figure(table["n"]) for table in tables if table.height), default=0.0)
