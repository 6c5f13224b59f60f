"""A release: rows masked once, measured, then served. The heart of the gate.

    release = make(plan, source, secrets, spool=folder, release_id=id, clock=clock)
    for batch in read_part(release, 0): ...
    release.close()

What is measured is what is served, even if the source changes meanwhile. Rows about persons leave in an
order that only the agreement's secret decides, so that two recipients cannot zip their files; rows
about no person leave as they come. Memory is bounded whatever the source's size.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import polars as pl
import pyarrow as pa
from msgspec.structs import replace

from connectors.digest import ContentDigest, Hash
from connectors.identifiers.residual import Inspector
from connectors.masks.masking import MaskingSecrets, masked
from connectors.measures import classing, effectiveness, missed, privacy, proposing, small
from connectors.measures.loss import Losses
from connectors.measures.population import KNOWN, Population, known_by, persons
from connectors.measures.privacy import Measure, Verdict
from connectors.releases.rehearsal import ColumnEffect, DryRun, dry_run
from connectors.sent.digests import PERSON, SentDigests
from connectors.sent.gains import Earlier, Gains
from connectors.sent.records import SentRecord
from connectors.sources.base import Source, explaining
from connectors.spooling import making
from connectors.spooling import spool as spools
from connectors.spooling.making import PartFile
from connectors.spooling.order import ReleaseKey
from connectors.spooling.packing import Alike
from connectors.spooling.scope import drawn
from contracts.certificate import figure
from contracts.dtypes import Schema
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan
from contracts.receipt import Bounds, PartDigest

__all__ = [
    "OPENING",
    "ColumnEffect",
    "DryRun",
    "PartFile",
    "Release",
    "ReleaseSecrets",
    "dry_run",
    "make",
    "part_schema",
    "read_part",
]

OPENING = "classes"  # the file that opens a release's class commitment to an auditor
SENT = "sent"  # the folder of what its recipient will have got with it


class Recipient(NamedTuple):
    """For whom a release is made: one consumer, of one dataset, under one agreement, for its purpose."""

    consumer: str
    dataset: str
    agreement_digest: str
    purpose: str


class ReleaseSecrets(MaskingSecrets, Protocol):
    """What releases are made with: the keys of their masks and the seed of their order."""

    def of_release(self, release: str) -> MaskingSecrets:
        """The keys of the masks of one release."""
        ...

    @property
    def order_seed(self) -> bytes:
        """32 secret bytes of the agreement."""
        ...


@dataclass(frozen=True, slots=True)
class Release:
    """What `make` made. `parts` are files of `folder`; `made` is when reading began (epoch seconds);
    `bounds` are None only for data about no person. The folder also holds `OPENING` and, where there is a record
    of what was `sent`, its files in the folder `SENT`; `compared` names the records of what was sent before that it was
    compared with (None: nothing was)."""

    id: str
    folder: Path
    schema: Schema
    parts: tuple[PartFile, ...]
    content_digest: str
    hash: Hash
    rows_in: int
    rows_out: int
    rows_suppressed: int
    bounds: Bounds | None
    order: Literal["keyed", "source"]
    made: int
    sent: SentRecord | None = None
    compared: frozenset[str] | None = None

    def close(self) -> None:
        """Remove the release from the spool. Safe to call twice."""
        shutil.rmtree(self.folder, ignore_errors=True)


def make(
    plan: Plan,
    source: Source,
    secrets: ReleaseSecrets,
    *,
    spool: Path,
    release_id: str,
    clock: Callable[[], int],
    hash: Hash = "blake3",
    memory_limit: int = making.MEMORY_LIMIT,
    part_bytes: int = making.PART_BYTES,
    exact_rows: int = making.EXACT_ROWS,
    population: Population | None = None,
    earlier: Earlier | None = None,
) -> Release:
    """Make a release of a plan in its own folder `spool`.

    1. Scan the columns that the plan needs, keep the rows in scope, mask them, once. Every masked row is
       looked through for identifiers and images that no mask removed; one is enough to refuse the release.
    2. Rows about persons are spooled in keyed order and measured; classes that miss a bound are
       suppressed within the contract's limit, or the release is refused. So are rows that would stand with
       too few others in a difference to what the recipient got before (`earlier`; None: nothing is compared).
    3. What remains is cut into parts and digested.

    Up to `memory_limit` bytes of masked rows are held in memory, more are spooled to disk. Up to
    `exact_rows` rows are counted exactly; beyond, counting stops at the bound ("at least"). In `population`, a
    register, the people of what leaves are looked up: the journalist's risk of the certificate.

    Raises RESIDUAL_IDENTIFIERS and BOUNDS_NOT_MET (their metadata are for the department only), DATA_INVALID,
    REFRESH_PENDING, SOURCE_UNAVAILABLE, PLAN_REFUSED, SPOOL_FULL, CONFIG_UNSAFE, STATE_WRONG. The folder is gone then.
    """
    spools.prepare(spool)
    limits = (memory_limit, part_bytes, exact_rows)
    work = _Work(plan, source, secrets, spool, release_id, clock(), hash, *limits, population, earlier)
    try:
        with explaining(source, plan.read):
            if plan.entity is not None:
                return work.persons()
            return work.things() if plan.order == "keyed" else work.streamed()
    except BaseException:
        shutil.rmtree(spool, ignore_errors=True)
        raise


def read_part(release: Release, index: int) -> Iterator[pa.RecordBatch]:
    """The record batches of one part, in the types of `part_schema`. The file is mapped, not read into memory.

    Raises NOT_FOUND for a part that the release has not, or has no longer."""
    return _batches(_mapped(release, index))


def part_schema(release: Release, index: int) -> pa.Schema:
    """The columns of one part: dictionaries where few values leave, else the types that the plan says. Raises as
    `read_part` does."""
    with _mapped(release, index) as file, pa.ipc.open_file(file) as reader:
        return reader.schema


def _mapped(release: Release, index: int) -> pa.MemoryMappedFile:
    if not 0 <= index < len(release.parts):
        raise SluicegateError(Reason.NOT_FOUND, f"the release has parts 0 to {len(release.parts) - 1}")
    try:
        return pa.memory_map(str(release.parts[index].path), "r")
    except OSError:
        raise SluicegateError(
            Reason.NOT_FOUND, "the release is no longer in the spool; ask for a new transfer"
        ) from None


def _batches(file: pa.MemoryMappedFile) -> Iterator[pa.RecordBatch]:
    with file, pa.ipc.open_file(file) as reader:
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


@dataclass(frozen=True, slots=True)
class _Work:
    """One release in the making."""

    plan: Plan
    source: Source
    secrets: ReleaseSecrets
    folder: Path
    release_id: str
    now: int
    hash: Hash
    memory_limit: int
    part_bytes: int
    exact_rows: int
    population: Population | None
    earlier: Earlier | None

    def streamed(self) -> Release:
        """Data about no person: masked, in the source's order, streamed into parts."""
        schema, digest = making.wire_schema(self.plan), self._digest()
        frame = masked(self._scoped(), self.plan, self._masks)
        making.check_schema(frame, schema, source=self.source.name)
        inspector = Inspector(self.plan)
        streamer = making.Streamer(schema, digest, inspector.inspect, self.folder, self.part_bytes)
        parts = streamer.run(frame, source=self.source.name)
        rows = sum(part.rows for part in parts)
        making.check_some(rows, self.source.name)
        inspector.check()
        return self._release(parts, digest, rows_in=rows, bounds=None, order="source")

    def things(self) -> Release:
        """Data about no person that is to leave in keyed order, without its small classes if the plan says so."""
        few = self.plan.suppress_small
        frame = small.with_classes(self._scoped(), self.plan, self._masks, self._key)
        with self._spooled(frame) as rows:
            verdict = Verdict(rows.count, alive=[None] * rows.batch_count)
            if few is not None:
                verdict = small.measured(few, rows, exact=rows.count <= self.exact_rows)
                small.check(few, verdict)
            digest = self._digest()
            parts = self._cut(rows, verdict, digest)
        return self._release(parts, digest, rows_in=verdict.rows_in, bounds=None, order="keyed")

    def persons(self) -> Release:
        """Data about persons."""
        key, places = self._key, classing.layout(self.plan)
        digests = SentDigests(self.plan, places, self.earlier.key) if self.earlier else None
        losses = Losses(self.plan, key)
        frame = classing.with_hashes(
            self._scoped(),
            self.plan,
            self._masks,
            places,
            key,
            beside=(*losses.beside, *(digests.beside() if digests else ())),
            person=PERSON if digests else None,
            tuples=self._looked_up_by(),
        )
        alike = Alike(places.row, classing.alike(self.plan), digests.of_classes if digests else lambda _: ())
        with self._spooled(frame, losses=losses, digests=digests, alike=alike) as rows:
            gains = self._gains(digests, rows)
            verdict = self._measured(rows, places, key, gains)
            opening = privacy.opening(verdict, key.secret("classes"))
            bounds = privacy.bounds(self.plan, places, verdict, opening, loss=losses.total(verdict.share))
            bounds = self._looked_up(bounds, places, verdict, rows, key)
            with spools.room(self.release_id):
                spools.write(self.folder / OPENING, opening)
            digest = self._digest()
            with ThreadPoolExecutor(1) as beside:
                remembering = beside.submit(self._remembered, gains, verdict)
                parts = self._cut(rows, verdict, digest)
                sent = remembering.result()
        made = self._release(parts, digest, rows_in=verdict.rows_in, bounds=bounds, order="keyed")
        return dataclasses.replace(made, sent=sent, compared=gains.compared if gains else None)

    @property
    def _key(self) -> ReleaseKey:
        return ReleaseKey(self.secrets.order_seed, self.release_id)

    @property
    def _masks(self) -> MaskingSecrets:
        return self.secrets.of_release(self.release_id)

    def _scoped(self) -> pl.LazyFrame:
        return drawn(self.source.scan(self.plan.read), self.plan, self._masks)

    @contextmanager
    def _spooled(
        self,
        frame: pl.LazyFrame,
        *,
        losses: Losses | None = None,
        digests: SentDigests | None = None,
        alike: Alike | None = None,
    ) -> Iterator[spools.Rows]:
        """The masked rows, once, looked through. Raises RESIDUAL_IDENTIFIERS, and DATA_INVALID for no row."""
        making.check_schema(frame, making.wire_schema(self.plan), source=self.source.name)
        inspector = Inspector(self.plan)
        beside = digests.columns if digests else ()
        rows = spools.Rows(self.folder / "rows", memory_limit=self.memory_limit, beside=beside, alike=alike)
        try:
            with spools.room(self.release_id):
                making.deal(
                    frame,
                    rows,
                    self._key,
                    inspector.inspect,
                    source=self.source.name,
                    watch=losses.look if losses else None,
                    unkept=losses.columns if losses else (),
                    change=digests.adding(alike).added if digests else pl.DataFrame.clone,
                )
            making.check_some(rows.count, self.source.name)
            inspector.check()
            yield rows
        finally:
            rows.close()

    def _cut(self, rows: spools.Rows, verdict: Verdict, digest: ContentDigest) -> list[PartFile]:
        cutter = making.Cutter(rows, verdict.alive, making.wire_schema(self.plan), digest, self._key, self.folder)
        return cutter.cut(max(self.part_bytes, rows.size // making.MOST_PARTS))

    def _remembered(self, gains: Gains | None, verdict: Verdict) -> SentRecord | None:
        if gains is None:
            return None
        with spools.room(self.release_id):
            return gains.remember(verdict.alive, self.folder / SENT)

    def _gains(self, digests: SentDigests | None, rows: spools.Rows) -> Gains | None:
        """The comparison with what the recipient got before. Raises REFRESH_PENDING."""
        if self.earlier is None or digests is None:
            return None
        return Gains(digests, self.earlier, self.release_id, rows.batches, k=self.plan.k or 0, rows=rows.count)

    def _measured(self, rows: spools.Rows, places: classing.Layout, key: ReleaseKey, gains: Gains | None) -> Verdict:
        """The verdict on the spooled rows. Raises BOUNDS_NOT_MET."""
        measure = Measure(
            batches=lambda: rows.batches(places.columns),
            places=places,
            k=self.plan.k or 0,
            l=self.plan.sensitive,
            # An upper limit of the overall risk would miss most limits of it, so that one is counted out.
            exact=rows.count <= self.exact_rows or self.plan.max_risk is not None,
            compare=gains,
        )
        verdict = measure.run(most_suppressed=privacy.allowed(self.plan))
        if missed.missed(self.plan, verdict):
            # Where only the difference to earlier releases is too small, other masks are no remedy.
            if gains and gains.persons and not verdict.failing:
                raise missed.refusal(self.plan, verdict, (), gains.figures)
            worst = missed.combination(self.plan, measure, rows, key)
            figures = {**self._proposal(), **(gains.figures if gains else {})}
            raise missed.refusal(self.plan, verdict, worst, figures)
        return verdict

    def _looked_up_by(self) -> dict[str, tuple[str, ...]]:
        return {} if self.population is None else {KNOWN: self.population.columns}

    def _looked_up(
        self, bounds: Bounds, places: classing.Layout, verdict: Verdict, rows: spools.Rows, key: ReleaseKey
    ) -> Bounds:
        """The bounds, with the risk of whoever looks people up in the register."""
        if self.population is None or bounds.certificate is None:
            return bounds
        known = known_by(places)

        def leaving() -> Iterator[pl.DataFrame]:
            for batch, alive in zip(rows.batches(known.columns), verdict.alive, strict=True):
                yield batch if alive is None else batch.filter(alive)

        risk = figure(effectiveness.journalist(persons(leaving, known), self.population.classes(key)))
        return replace(
            bounds,
            certificate=replace(bounds.certificate, journalist_risk=risk, register_columns=self.population.columns),
        )

    def _proposal(self) -> dict[str, str]:
        """The masks that would meet the bounds, for the department, where the contract asks for a proposal."""
        if self.plan.on_violation != "propose":
            return {}
        try:
            return proposing.words(proposing.propose(self.plan, self.source, entropy=os.urandom))
        except SluicegateError as error:
            return {"proposal": f"not searched: {error.message}"}

    def _digest(self) -> ContentDigest:
        return ContentDigest({field.name: field.output for field in self.plan.fields}, self.hash)

    def _release(
        self,
        parts: list[PartFile],
        digest: ContentDigest,
        *,
        rows_in: int,
        bounds: Bounds | None,
        order: Literal["keyed", "source"],
    ) -> Release:
        rows_out = sum(part.rows for part in parts)
        return Release(
            id=self.release_id,
            folder=self.folder,
            schema={field.name: field.output for field in self.plan.fields},
            parts=tuple(parts),
            content_digest=digest.over(PartDigest(rows=part.rows, digest=part.digest) for part in parts),
            hash=self.hash,
            rows_in=rows_in,
            rows_out=rows_out,
            rows_suppressed=rows_in - rows_out,
            bounds=bounds,
            order=order,
            made=self.now,
        )
