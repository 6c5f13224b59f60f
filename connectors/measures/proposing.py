"""Least-loss amendments: coarser masks under which a release meets its bounds.

    propose(plan, source, entropy=os.urandom) -> Proposal | None

The lattice has a node for every choice of one step for each quasi-identifier (`contracts.coarsening`).
Every node is judged by the same measure as a release, on all rows; the one that loses least wins.

Loss (after Iyengar, KDD 2002): of one value that leaves, (m - 1) / (M - 1), where m of the M distinct
source values of its column leave as it does; of a value in a suppressed row, 1. The loss of a release is
the mean over all quasi-identifiers of all rows. 0: every value as it was; 1: nothing is left.

Nodes are tried in the order of what their masks alone lose, so the search ends when that is no less than
the best whole found. Coarser masks only merge classes: whatever lies below a node that needs too many
rows suppressed needs no look.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import polars as pl

from connectors.keys import passing_secrets
from connectors.masks.expressions import before_chance, expression
from connectors.masks.masking import MaskingSecrets
from connectors.measures import classing
from connectors.measures.classing import Layout
from connectors.measures.missed import too_risky
from connectors.measures.privacy import Measure
from connectors.sources.base import Source, explaining, reading
from connectors.spooling import making
from connectors.spooling.order import ReleaseKey
from connectors.spooling.scope import drawn
from contracts.coarsening import ladder
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan, PlannedField
from contracts.techniques import AnyTechnique, written

MOST_ROWS = 20_000_000  # held at once: some 10 bytes for each quasi-identifier, and 30 besides
MOST_NODES = 3_000  # measured, before the best so far has to do


@dataclass(frozen=True, slots=True)
class Proposal:
    """Coarser masks, by field; empty when the masks as they are lose least. `loss` is the release's, with
    `suppressed` of its rows left out (a share); `loss_now` what the present masks lose before any row is
    suppressed. `measured` nodes of `nodes` were looked at; `complete` false: not all that could be better."""

    masks: dict[str, AnyTechnique]
    loss: float
    suppressed: float
    loss_now: float
    measured: int
    nodes: int
    complete: bool


def propose(
    plan: Plan,
    source: Source,
    *,
    entropy: Callable[[int], bytes],
    most_suppressed: float | None = None,
    most_nodes: int = MOST_NODES,
    tell: Callable[[str], None] = lambda _: None,
) -> Proposal | None:
    """The least-loss masks, each as coarse as the plan's or coarser, that meet the plan's bounds with at most
    `most_suppressed` of the rows left out (a share; None: what the contract allows). None when there are none.

    `tell` hears of each stage. Raises PLAN_REFUSED for a plan without bounds, TOO_LARGE beyond `MOST_ROWS`,
    and what `release.make` raises of the source.
    """
    places = classing.layout(plan)
    limit = (plan.max_suppression or 0.0) if most_suppressed is None else most_suppressed
    with explaining(source, plan.read):
        tell("reading every row")
        lattice = _Lattice.of(plan, source, places, passing_secrets(entropy), ReleaseKey(entropy(32), "proposal"))
    tell(f"searching {lattice.nodes:,} combinations of masks")
    return _search(plan, lattice, limit, most_nodes)


def words(found: Proposal | None) -> dict[str, str]:
    """A proposal in the figures of a refusal: no value, and what to run for the next version."""
    if found is None:
        return {"proposal": "nothing coarser meets the bounds"}
    masks = {name: written(mask) for name, mask in found.masks.items()}
    for mask in masks.values():
        mask.pop("table", None)  # a hierarchy's level is what changes
    said = "; ".join(
        f"{name}: {', '.join(f'{key} {value}' for key, value in mask.items())}" for name, mask in masks.items()
    )
    return {
        "proposal": said or "the masks as they are, with rows suppressed",
        "proposal_loss": f"{found.loss:.4f}",
        "proposal_suppressed": f"{found.suppressed:.4f}",
    }


def _search(plan: Plan, lattice: _Lattice, limit: float, most_nodes: int) -> Proposal | None:
    best: tuple[float, tuple[int, ...], float] | None = None
    failed: list[tuple[int, ...]] = []
    start = (0,) * len(lattice.fields)
    waiting, seen, measured = [(lattice.masks_lose(start), start)], {start}, 0
    while waiting and measured < most_nodes:
        least, node = heapq.heappop(waiting)
        if best is not None and least >= best[0]:
            break
        if not any(all(a <= b for a, b in zip(node, other, strict=True)) for other in failed):
            measured += 1
            loss, suppressed = lattice.measured(plan, node, limit)
            if suppressed > limit or suppressed >= 1:
                failed.append(node)
            elif best is None or loss < best[0]:
                best = (loss, node, suppressed)
        for index, step in enumerate(node):
            above = (*node[:index], step + 1, *node[index + 1 :])
            if step + 1 < len(lattice.fields[index].steps) and above not in seen:
                seen.add(above)
                heapq.heappush(waiting, (lattice.masks_lose(above), above))
    if best is None:
        return None
    loss, node, suppressed = best
    return Proposal(
        masks={field.name: field.steps[step] for field, step in zip(lattice.fields, node, strict=True) if step},
        loss=loss,
        suppressed=suppressed,
        loss_now=lattice.masks_lose(start),
        measured=measured,
        nodes=lattice.nodes,
        complete=not waiting or waiting[0][0] >= loss,
    )


@dataclass(frozen=True, slots=True)
class _Field:
    """One quasi-identifier. By value as it leaves now (its code): `classes`, for each step, what it becomes
    (hashed); `losses`, what that loses; `mean`, that over all rows."""

    name: str
    steps: tuple[AnyTechnique, ...]
    classes: tuple[pl.Series, ...]
    losses: tuple[pl.Series, ...]
    mean: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Lattice:
    """All rows as codes of their quasi-identifiers and hashes of the rest, and what each step makes of a code."""

    fields: tuple[_Field, ...]
    rows: pl.DataFrame
    places: Layout

    @classmethod
    def of(cls, plan: Plan, source: Source, places: Layout, secrets: MaskingSecrets, key: ReleaseKey) -> _Lattice:
        """Read the source once (twice where numbers need to be known first)."""
        scoped = drawn(source.scan(plan.read), plan, secrets)
        quasi = [planned for name in plan.quasi_identifiers if (planned := plan.field(name)) is not None]
        spans = _spans(scoped, quasi, source.name)
        ladders = {field.name: ladder(field.technique, field.source, spans.get(field.name)) for field in quasi}
        beside = [expr for field in quasi for expr in _steps(field, ladders[field.name], secrets, plan, key)]
        beside += [before_chance(field).alias(_counted(field)) for field in quasi if field.technique.randomised]
        frame = classing.with_hashes(scoped, plan, secrets, places, key, beside=beside).with_columns(
            pl.col(_counted(field)).hash(key.number("step", field.name)).alias(_step(field.name, 0)) for field in quasi
        )
        kept = [column for column in places.columns if column != places.row]
        rows, known = [], {field.name: list[pl.DataFrame]() for field in quasi}
        count = 0
        for batch in making.batches(frame, source=source.name):
            count += batch.height
            if count > MOST_ROWS:
                raise SluicegateError(
                    Reason.TOO_LARGE,
                    f"a proposal looks at {MOST_ROWS:,} rows at the most; try it on a sample of whole persons",
                )
            for field in quasi:
                known[field.name].append(batch.select(_columns(field.name, ladders[field.name])).unique())
            rows.append(batch.select(*(_step(field.name, 0) for field in quasi), *kept))
        making.check_some(count, source.name)
        whole = pl.concat(rows, rechunk=True)
        fields = []
        for field in quasi:
            found, codes = _field(field.name, ladders[field.name], pl.concat(known.pop(field.name)), whole)
            whole = whole.drop(_step(field.name, 0)).with_columns(codes)
            fields.append(found)
        return cls(tuple(fields), whole, places)

    @property
    def nodes(self) -> int:
        """How many combinations there are."""
        count = 1
        for field in self.fields:
            count *= len(field.steps)
        return count

    def masks_lose(self, node: Sequence[int]) -> float:
        """The loss of a node before any row is suppressed."""
        return sum(field.mean[step] for field, step in zip(self.fields, node, strict=True)) / len(self.fields)

    def measured(self, plan: Plan, node: Sequence[int], limit: float) -> tuple[float, float]:
        """Loss and share of rows suppressed; measuring stops beyond the limit. Of what is riskier than the
        contract says nothing is left."""
        whole, lost = pl.lit(0, dtype=pl.UInt64), pl.lit(0.0)
        for field, step in zip(self.fields, node, strict=True):
            whole = (whole * pl.lit(classing.FOLD, dtype=pl.UInt64)) ^ pl.lit(field.classes[step]).gather(
                pl.col(field.name)
            )
            lost = lost + pl.lit(field.losses[step]).gather(pl.col(field.name))
        frame = self.rows.with_columns(whole.hash().alias(self.places.row), lost.alias("lost"))
        batch = frame.select(self.places.columns)
        verdict = Measure(batches=lambda: [batch], places=self.places, k=plan.k or 0, l=plan.sensitive, exact=True).run(
            most_suppressed=limit
        )
        if too_risky(plan, verdict):
            return 1.0, 1.0
        alive = verdict.alive[0]
        losses = frame["lost"] if alive is None else frame["lost"].filter(alive)
        kept = float(losses.sum()) / len(self.fields)
        return (kept + verdict.rows_suppressed) / frame.height, verdict.share


def lost(known: pl.DataFrame, source: str, column: str) -> pl.DataFrame:
    """What each value of `column` loses, as (column, lost): of the distinct values of `source`, the share that
    became it, itself left out. `known` has every pair of the two.

    >>> known = pl.DataFrame({"age": [1, 2, 3], "band": ["a", "a", "b"]})
    >>> lost(known, "age", "band").sort("band")["lost"].to_list()
    [0.5, 0.0]
    """
    every = max(1, known[source].n_unique() - 1)
    together = pl.col(source).n_unique().cast(pl.Float64)
    return known.group_by(column).agg(((together - 1) / every).alias("lost"))


def _step(name: str, step: int) -> str:
    return f"#step.{step}.{name}"


def _counted(field: PlannedField) -> str:
    """The column whose values make classes: what leaves, or what it was before chance went into it."""
    return f"#counted.{field.name}" if field.technique.randomised else field.name


def _source(name: str) -> str:
    return f"#source.{name}"


def _columns(name: str, steps: Sequence[AnyTechnique]) -> list[str]:
    return [_source(name), *(_step(name, index) for index in range(len(steps)))]


def _steps(
    field: PlannedField, steps: Sequence[AnyTechnique], secrets: MaskingSecrets, plan: Plan, key: ReleaseKey
) -> list[pl.Expr]:
    """Hashes of a field's source value, and of what each further step makes of it."""
    seed = key.number("step", field.name)
    exprs = [pl.col(field.name).hash(seed).alias(_source(field.name))]
    for index, step in enumerate(steps[1:], 1):
        masked = msgspec.structs.replace(
            field, technique=step.resolved(field.source), output=step.produces(field.source)
        )
        exprs.append(expression(masked, secrets, plan.entity).hash(seed).alias(_step(field.name, index)))
    return exprs


def _spans(scoped: pl.LazyFrame, quasi: Sequence[PlannedField], source: str) -> dict[str, float]:
    """How far the values of numbers reach."""
    numbers = [field.name for field in quasi if field.source.kind in ("integer", "float", "decimal")]
    if not numbers:
        return {}
    with reading(source):
        found = scoped.select((pl.col(name).max() - pl.col(name).min()).alias(name) for name in numbers).collect()
    return {name: float(found[name][0]) for name in numbers if found[name][0] is not None}


def _field(
    name: str, steps: Sequence[AnyTechnique], known: pl.DataFrame, rows: pl.DataFrame
) -> tuple[_Field, pl.Series]:
    """What each step makes of each value as it leaves now, and the rows' codes of those values."""
    known = known.unique()
    now = _step(name, 0)
    values = known.select(now).unique(maintain_order=True)
    good, classes, losses = [], [], []
    for index, step in enumerate(steps):
        column = _step(name, index)
        becomes = known.select(now, column).unique() if index else values
        if becomes.height != values.height:  # not computed from what leaves now: no step of this ladder
            continue
        table = values.join(becomes, on=now, how="left", maintain_order="left").join(
            lost(known, _source(name), column), on=column, how="left", maintain_order="left"
        )
        good.append(step)
        classes.append(table[column])
        losses.append(table["lost"])
    codes = rows.select(now).join(values.with_row_index(name), on=now, how="left", maintain_order="left")[name]
    mean = tuple(float(loss.gather(codes).mean()) for loss in losses)  # type: ignore[arg-type]
    return _Field(name, tuple(good), tuple(classes), tuple(losses), mean), codes
