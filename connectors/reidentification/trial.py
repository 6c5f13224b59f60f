"""The release that an attacker would get, with the truth beside it, and every attack on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from connectors.keys import passing_secrets
from connectors.masks.values import polars_type
from connectors.measures import classing, privacy
from connectors.measures.missed import missed
from connectors.measures.origin import followed, masked
from connectors.measures.population import demand_persons
from connectors.measures.privacy import Measure
from connectors.reidentification import difference, guessing, linkage, tracks
from connectors.reidentification.linkage import WHO
from connectors.reidentification.outcome import Outcome
from connectors.sources.base import Source, explaining, reading
from connectors.spooling import making
from connectors.spooling.order import ReleaseKey
from connectors.spooling.scope import drawn, in_scope
from contracts.errors import Reason, SluicegateError
from contracts.model import Identifiability
from contracts.plan import Plan, PlannedField
from contracts.technique import Family

MOST_ROWS = 5_000_000  # that are attacked at once, in memory
POINTS = 4  # rows that somebody may know of one person
_LIKENESS_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Released:
    """The rows of one release: the outgoing columns; `#who`, the person a row is about; and the source
    value behind each identifier as `#raw.NAME`. Only the score looks at the last two."""

    plan: Plan
    rows: pl.DataFrame

    def raw(self, name: str) -> pl.Series:
        """What stands behind the values of a column."""
        return self.rows[_raw(name)]


def _raw(name: str) -> str:
    return f"#raw.{name}"


def release_to_attack(plan: Plan, source: Source, *, entropy: Callable[[int], bytes]) -> Released:
    """Mask, measure and suppress as `release.make` does, under passing keys, and keep the truth.

    Raises PLAN_REFUSED for a plan without bounds, TOO_LARGE beyond `MOST_ROWS`, BOUNDS_NOT_MET for a
    release that would be refused, and what `release.make` raises of the source.
    """
    places, key, secrets = classing.layout(plan), ReleaseKey(entropy(32), "trial"), passing_secrets(entropy)
    beside = [pl.col(plan.entity or "").cast(pl.String).alias(WHO)]
    beside += [pl.col(field.name).cast(pl.String).alias(_raw(field.name)) for field in _identifiers(plan)]
    with explaining(source, plan.read):
        scoped = drawn(source.scan(plan.read), plan, secrets)
        frame = classing.with_hashes(scoped, plan, secrets, places, key, beside=beside)
        batches, count = [], 0
        for batch in making.batches(frame, source=source.name):
            count += batch.height
            if count > MOST_ROWS:
                told = f"attacks look at {MOST_ROWS:,} rows at the most; try them on a sample of whole persons"
                raise SluicegateError(Reason.TOO_LARGE, told)
            batches.append(batch)
        making.check_some(count, source.name)
    rows = pl.concat(batches, rechunk=True)
    hashes = rows.select(places.columns)
    verdict = Measure(batches=lambda: [hashes], places=places, k=plan.k or 0, l=plan.sensitive, exact=True).run(
        most_suppressed=privacy.TO_THE_END
    )
    if missed(plan, verdict):
        told = "the release would be refused for its bounds, so there is nothing to attack"
        raise SluicegateError(Reason.BOUNDS_NOT_MET, told)
    alive = verdict.alive[0]
    leaving = rows if alive is None else rows.filter(alive)
    # Where the order of values counts, they are measured by the column that leaves.
    return Released(plan, leaving.drop(column for column in places.columns if plan.field(column) is None))


def trial(
    plan: Plan,
    source: Source,
    *,
    entropy: Callable[[int], bytes],
    register: pl.DataFrame | None = None,
    earlier: Source | None = None,
    points: int = POINTS,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Outcome, ...]:
    """Every attack that this plan gives a handle for, on a release of this source.

    `register`: what the attacker knows, a row a person, columns as in the source, the entity among them;
    by default one row of everybody in the source, which is more than most know. `earlier`: the source as it
    was at an earlier release. `tell` hears of each stage. Raises what `release_to_attack` raises, and
    DATA_INVALID for a register that does not name persons.
    """
    tell("making the release")
    released = release_to_attack(plan, source, entropy=entropy)
    known = _everybody(plan, source) if register is None else register
    seed = int.from_bytes(entropy(4), "big")
    outcomes: list[Outcome] = []
    for stage, found in (
        ("looking for everybody of the register", _linked(released, known, given=register is not None)),
        ("guessing what pseudonyms stand for", _guessed(released, points, seed)),
        ("inferring what is sensitive", _inferred(released)),
    ):
        tell(stage)
        outcomes += found
    if earlier is not None:
        tell("subtracting the earlier release")
        before = release_to_attack(plan, earlier, entropy=entropy)
        columns = [field.name for field in plan.fields if followed(field)]
        outcomes.append(difference.of_two(before.rows, released.rows, columns, k=plan.k or 0))
    return tuple(outcomes)


def _identifiers(plan: Plan) -> list[PlannedField]:
    persons = (Identifiability.DIRECT, Identifiability.INDIRECT)
    return [field for field in plan.fields if field.name in plan.read and field.identifiability in persons]


def _everybody(plan: Plan, source: Source) -> pl.DataFrame:
    """One row of each person of the source, without what is sensitive: that is what attackers want to know."""
    secret = [field.name for field in plan.fields if field.identifiability is Identifiability.SENSITIVE]
    scoped = in_scope(source.scan(plan.read), plan).drop(secret, strict=False)
    with reading(source.name):
        return scoped.unique(plan.entity, keep="any").collect()


def _linked(released: Released, register: pl.DataFrame, *, given: bool) -> Iterator[Outcome]:
    known = _as_released(released.plan, register)
    columns = [name for name in known.columns if name != WHO]
    if not columns:
        return
    yield linkage.by_equality(released.rows, known, columns)
    for field in released.plan.fields:
        if field.name in columns and field.technique.family is Family.PARTIAL:
            yield linkage.by_equality(released.rows, known, [field.name])
    if given and len(columns) > 2:
        some = released.rows.select(*columns, WHO).head(_LIKENESS_ROWS)
        yield linkage.by_likeness(some, known, columns)


def _as_released(plan: Plan, register: pl.DataFrame) -> pl.DataFrame:
    """What the attacker makes of the register: each column masked as the contract says, where that needs no
    key and tells more than null does. Raises DATA_INVALID without the column that names persons."""
    demand_persons(register.columns, plan.entity or "")
    usable = [field for field in plan.fields if field.name in register.columns and followed(field)]
    typed = register.with_columns(pl.col(field.name).cast(polars_type(field.source)) for field in usable)
    return typed.with_columns(
        pl.col(plan.entity or "").cast(pl.String).alias(WHO), *(masked(field) for field in usable)
    ).select(*(field.name for field in usable), WHO)


def _guessed(released: Released, points: int, seed: int) -> Iterator[Outcome]:
    plan = released.plan
    for field in _identifiers(plan):
        if field.technique.sent and field.technique.family is not Family.SUPPRESSION:
            yield guessing.by_enumeration(released.rows[field.name], released.raw(field.name))
            yield guessing.by_frequency(released.rows[field.name], released.raw(field.name))
    quasi = list(plan.quasi_identifiers)
    for name in plan.pseudonyms if quasi else ():
        yield tracks.by_points(released.rows, name, quasi, points=points, seed=seed)


def _inferred(released: Released) -> Iterator[Outcome]:
    plan = released.plan
    for field in plan.fields:
        if field.identifiability is Identifiability.SENSITIVE and plan.quasi_identifiers:
            yield guessing.by_class(released.rows, plan.quasi_identifiers, field.name)
            yield guessing.by_homogeneity(released.rows, plan.quasi_identifiers, field.name)
