"""A file that is masked already, judged as a release is: the same detectors, classes and figures.

    judge(judged, source, spool=..., entropy=os.urandom) -> Judgement

Nothing is masked, suppressed or served. A file whose columns do not tell persons apart is counted by rows.
Everything is counted to the end, whatever the file's size.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import polars as pl

from connectors.identifiers.residual import Finding, Inspector
from connectors.keys import passing_secrets
from connectors.masks.lists import LISTS, elements
from connectors.measures import classing, effectiveness, privacy, small
from connectors.measures.classing import Layout
from connectors.measures.missed import too_risky
from connectors.measures.origin import Origin
from connectors.measures.population import KNOWN, Population, known_by, persons
from connectors.measures.privacy import Measure, Verdict
from connectors.measures.shown import Shown, shown
from connectors.sources.base import Source, explaining
from connectors.spooling import making
from connectors.spooling import spool as spools
from connectors.spooling.order import ReleaseKey
from contracts import certificate
from contracts.as_masked import EVERY_ROW, AsMasked, form
from contracts.model import Identifiability
from contracts.papers import Certificate, Spread
from contracts.plan import Plan


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a file is like. Without bounds (data about no person) `certificate` is None and there are no figures
    of classes. `failing` classes miss a bound, which `failing_rows` rows lie in: what a release would suppress, also
    of data about no person whose small classes are left out.
    `sizes`: how many classes have how many entities, (entities, classes) each. `suppressed`: rows of the source
    in scope that the file has not; None without a source, and of a sample of it. `unlike`: columns of direct
    identifiers that are not what the contract's mask makes. `known_by`: the columns that a register was matched by."""

    rows: int
    unlike: tuple[str, ...]
    findings: tuple[Finding, ...]
    certificate: Certificate | None = None
    k: int = 0
    l: Mapping[str, int] = field(default_factory=dict)  # noqa: E741 - the bound's own name
    classes: int = 0
    failing: int = 0
    failing_rows: int = 0
    sizes: tuple[tuple[int, int], ...] = ()
    risky: bool = False
    suppressed: int | None = None
    loss: Mapping[str, float | None] = field(default_factory=dict)
    known_by: tuple[str, ...] = ()
    shown: tuple[Shown, ...] = ()


@dataclass(frozen=True, slots=True)
class _Told:
    """What was seen in the cells themselves."""

    unlike: tuple[str, ...]
    findings: tuple[Finding, ...]


def judge(
    judged: AsMasked,
    source: Source,
    *,
    spool: Path,
    entropy: Callable[[int], bytes],
    origin: Origin | None = None,
    population: Population | None = None,
    memory_limit: int = making.MEMORY_LIMIT,
    tell: Callable[[str], None] = lambda _: None,
) -> Judgement:
    """Judge the file behind `source`. `origin`: what it was made from; `population`: a register to look
    people up in. `spool` is a folder of its own, gone afterwards; `tell` hears of each stage.

    Raises SOURCE_UNAVAILABLE, DATA_INVALID (also where the entity is null in a row), SPOOL_FULL.
    """
    spools.prepare(spool)
    plan, key = judged.plan, ReleaseKey(entropy(32), "judgement")
    rows, inspector = spools.Rows(spool / "rows", memory_limit=memory_limit), Inspector(plan)
    forms = _Forms(judged)
    try:
        places = classing.layout(plan, every=True) if plan.entity is not None else None

        tell("reading every row")
        frame = source.scan(plan.read)
        if plan.entity == EVERY_ROW:
            frame = frame.with_row_index(EVERY_ROW)
        secrets, tuples = passing_secrets(entropy), {KNOWN: population.columns} if population else {}
        with explaining(source, plan.read), spools.room("judgement"):
            if places is not None:
                hashed = classing.with_hashes(frame, plan, secrets, places, key, tuples=tuples)
            else:
                hashed = small.with_classes(frame, plan, secrets, key)
            making.deal(hashed, rows, key, inspector.inspect, source=source.name, watch=forms.look)
        making.check_some(rows.count, source.name)
        told = _Told(forms.unlike, inspector.findings)
        if places is None:
            few = (
                0
                if plan.suppress_small is None
                else small.measured(plan.suppress_small, rows, exact=True).rows_suppressed
            )
            return Judgement(rows=rows.count, unlike=told.unlike, findings=told.findings, failing_rows=few)
        tell(f"measuring {rows.count:,} rows")
        return _measured(judged, rows, places, key, origin, population, told, tell)
    finally:
        rows.close()
        shutil.rmtree(spool, ignore_errors=True)


def _measured(
    judged: AsMasked,
    rows: spools.Rows,
    places: Layout,
    key: ReleaseKey,
    origin: Origin | None,
    population: Population | None,
    told: _Told,
    tell: Callable[[str], None],
) -> Judgement:
    plan = judged.plan
    bound = Measure(
        batches=lambda: rows.batches(places.columns), places=places, k=plan.k or 0, l=plan.sensitive, exact=True
    )
    first = bound.run(most_suppressed=privacy.TO_THE_END)
    verdict = _as_it_is(bound).run(most_suppressed=privacy.TO_THE_END) if first.rows_suppressed else first
    tables = verdict.tables
    spread = {name: _held(plan, name, found) for name, found in verdict.spread.items()}
    suppressed = None
    if origin is not None:
        tell("reading what it was made from")
        if origin.plan.sample is None:  # who was drawn is known with the agreement's secret alone
            suppressed = max(0, origin.rows() - rows.count)
    paper = effectiveness.judged(
        plan,
        tables,
        rows_in=rows.count + (suppressed or 0),
        suppressed=suppressed or 0,
        exact=True,
        spread=spread,
    )
    if population is not None:
        tell("looking people up in the register")
        known = known_by(places)
        table = persons(lambda: rows.batches(known.columns), known)
        there = population.classes(key)
        if not judged.persons_certain:  # the file's own count is of more than persons: the register's stands
            shared = pl.col("class").is_in(there["class"].implode())
            table = table.with_columns(n=pl.when(shared).then(1).otherwise("n"))
        risk = effectiveness.journalist(table, there)
        risk = certificate.figure(risk)
        paper = msgspec.structs.replace(paper, journalist_risk=risk, register_columns=population.columns)
    paper = _levelled(judged, paper, told)
    found = {finding.column for finding in told.findings} | set(told.unlike)
    names = [name for name in (*plan.quasi_identifiers, *plan.sensitive) if name not in found]
    tell("counting values")
    charts = tuple(shown(rows, plan, places, name, origin) for name in dict.fromkeys(names))
    asked = [chart for chart in charts if origin is not None and chart.name in plan.quasi_identifiers]
    loss = {chart.name: chart.loss(suppressed or 0) for chart in asked}
    return Judgement(
        rows=rows.count,
        certificate=msgspec.structs.replace(paper, loss=_mean(plan, loss)),
        k=verdict.met("n"),
        l={name: verdict.met(column) for name, column in places.values},
        classes=verdict.classes,
        failing=first.failing,
        failing_rows=first.rows_suppressed,
        sizes=_sizes(verdict),
        risky=too_risky(plan, verdict),
        suppressed=suppressed,
        loss=loss,
        known_by=population.columns if population else (),
        shown=charts,
        unlike=told.unlike,
        findings=told.findings,
    )


def _mean(plan: Plan, loss: Mapping[str, float | None]) -> float | None:
    """The loss over all quasi-identifiers; None where one of them is not known."""
    known = [found for name in plan.quasi_identifiers if (found := loss.get(name)) is not None]
    return certificate.figure(sum(known) / len(known)) if known and len(known) == len(plan.quasi_identifiers) else None


def _as_it_is(measure: Measure) -> Measure:
    """The same measuring without a bound, so that every class of the file is in its tables."""
    free = tuple(dataclasses.replace(limit, t=None, entropy=None) for limit in measure.places.spread)
    places = dataclasses.replace(measure.places, spread=free)
    return dataclasses.replace(measure, places=places, k=1, l=dict.fromkeys(measure.l, 0))


def _held(plan: Plan, name: str, found: Spread) -> Spread:
    return msgspec.structs.replace(found, t_required=plan.t.get(name), entropy_required=plan.entropy.get(name))


def _levelled(judged: AsMasked, paper: Certificate, told: _Told) -> Certificate:
    """Level 1 where something in the file is a direct identifier: it was found, or it stands in a column of
    direct identifiers and is not what a mask makes."""
    reversible = any(judged.masks[name].reversible for name in judged.direct)
    strange = any(
        field.name in judged.strange and field.identifiability is Identifiability.DIRECT for field in judged.plan.fields
    )
    direct = bool(told.findings or told.unlike or reversible or strange)
    return msgspec.structs.replace(paper, level=certificate.level(paper.risk, paper.risk_tolerated, direct=direct))


def _sizes(verdict: Verdict) -> tuple[tuple[int, int], ...]:
    if not verdict.tables:
        return ()
    counted = verdict.tables[-1].group_by("n").len("classes").sort("n")
    return tuple((int(n), int(classes)) for n, classes in counted.iter_rows())


class _Forms:
    """Whether columns of direct identifiers have the form that the contract's mask gives them."""

    def __init__(self, judged: AsMasked) -> None:
        self._forms = {name: found for name in judged.direct if (found := form(judged.masks[name])) is not None}
        self._unlike: set[str] = set()

    def look(self, batch: pl.DataFrame) -> None:
        """Look at a batch of rows."""
        for name, pattern in self._forms.items():
            values = batch[name].drop_nulls()
            values = (elements(values).drop_nulls() if values.dtype == LISTS else values).cast(pl.String)
            if len(values) and (not pattern or not values.str.contains(pattern).all()):
                self._unlike.add(name)

    @property
    def unlike(self) -> tuple[str, ...]:
        """The columns with a value of another form."""
        return tuple(name for name in self._forms if name in self._unlike)
