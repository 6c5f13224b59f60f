"""Digests by which a release is compared with earlier ones: keyed, 64 bits each, of rows that are masked.

    frame = classing.with_hashes(..., beside=digests.beside(), person=PERSON)
    batch = digests.adding().added(batch)       of each batch of it; `digests.columns` in place of what was beside

Unlike the hashes that classes are counted on, they are the same in every release to one recipient. Two 64-bit XXH3
hashes under secret seeds tell values apart; AES-256 under a key of that recipient and dataset makes of both what is
kept. So whoever has digests without the key learns how many rows, classes and persons there were, and no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import msgspec
import polars as pl
import polars_hash as plh
import pyarrow as pa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from connectors.keys import hkdf_expand
from connectors.masks import masking
from connectors.masks.values import key_bytes
from connectors.measures.classing import FOLD, Layout
from connectors.spooling.packing import Alike, Few, arrow, with_columns
from contracts import canonical
from contracts.plan import Plan, PlannedField

CLASS, ENTITY, KEY = "#sent.class", "#sent.entity", "#sent.row"
PERSON = "#sent.person"
_BEFORE, _UNIT = "#sent.before.", "#sent.unit."
_SAMPLE = {"int": 7, "float": 0.1, "text": "甲", "bool": True, "list": [1, None]}  # of each way to write values out


@dataclass(frozen=True, slots=True, repr=False)
class SentDigests:
    """The digests of one plan's rows under one key (64 hexadecimal digits).

    `CLASS` is the tuple of quasi-identifiers, `ENTITY` the person, `KEY` the whole row without what chance or an
    agreement's key made of it; one column more for each pseudonym that joins rows, but the person's own.
    """

    plan: Plan
    places: Layout
    key: str

    @property
    def units(self) -> dict[str, str]:
        """The pseudonyms that join rows, and the columns of their digests; `ENTITY` where it is the person's own."""
        own = self.plan.entity if self.places.entity_is_unit else None
        return {name: ENTITY if name == own else f"{_UNIT}{name}" for name in self.plan.pseudonyms}

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that `added` adds."""
        return tuple(dict.fromkeys((CLASS, ENTITY, KEY, *self.units.values())))

    @property
    def definition(self) -> str:
        """What classes and rows are made of: rows of two releases with the same one are compared whole."""
        contents = [_treated(field) for field in self._contents]
        return canonical.digest({"entity": self.plan.entity, "classes": self.fields, "contents": contents})

    @property
    def fields(self) -> list[str]:
        """What each quasi-identifier is made of, in the order of `by_field`: equal ones have equal digests."""
        return [canonical.digest([*_treated(field), self._agreement(field)]) for field in self._classes]

    @property
    def outlives(self) -> bool:
        """Whether a pseudonym joins releases of one agreement to those of another: what is kept does."""
        sent = (self.plan.field(name) for name in self.plan.pseudonyms)
        return any(field is not None and not _keyed(field) for field in sent)

    @property
    def probe(self) -> str:
        """Differs under another key, and where an engine writes values out otherwise."""
        sample = pl.DataFrame({name: [value] for name, value in _SAMPLE.items()})
        return f"{self._seal('class').of(_rows(sample, tuple(_SAMPLE))).item():016x}"

    def beside(self) -> list[pl.Expr]:
        """What is computed from the rows before their masks: for `masking.masked`."""
        return [
            masking.before_chance(field).alias(f"{_BEFORE}{field.name}")
            for field in self._classes
            if field.technique.randomised
        ]

    def adding(self, alike: Alike | None = None) -> Adding:
        """What adds the digests to the batches of one release; to those that are folded, `of_classes` is added."""
        return Adding(self, alike)

    def of_classes(self, rows: pl.DataFrame) -> list[pl.Series]:
        """What rows of one class have alike: `CLASS`."""
        names = tuple(self._standing.get(field.name, field.name) for field in self._classes)
        return [self._seal("class").of(_rows(rows, names)).alias(CLASS)]

    def by_field(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Of rows that left, `CLASS` and a digest of each quasi-identifier, columns "0", "1", ...; zero for one
        that chance went into, which is compared with none."""
        found = [batch.get_column(CLASS)]
        for index, field in enumerate(self._classes):
            blank = _zeros(batch.height)
            seal = self._seal(f"field {field.name}")
            found.append(
                (blank if field.technique.randomised else seal.of(_rows(batch, (field.name,)))).alias(f"{index}")
            )
        return pl.DataFrame(found)

    @property
    def class_columns(self) -> tuple[str, ...]:
        """The columns that `by_field` reads."""
        return (CLASS, *(field.name for field in self._classes))

    def comparable(self, fields: Sequence[str]) -> list[tuple[int, int]]:
        """The places of quasi-identifiers that this plan and another have alike, as (mine, the other's)."""
        theirs = {made: index for index, made in enumerate(fields)}
        return [
            (index, theirs[made])
            for index, (field, made) in enumerate(zip(self._classes, self.fields, strict=True))
            if made in theirs and not field.technique.randomised
        ]

    @property
    def _standing(self) -> dict[str, str]:
        """The columns that stand in for those that chance went into."""
        return {field.name: f"{_BEFORE}{field.name}" for field in self._classes if field.technique.randomised}

    @property
    def _classes(self) -> tuple[PlannedField, ...]:
        """Quasi-identifiers; without those that were dealt anew among the rows, which tell of none."""
        return tuple(
            field
            for field in sorted(self.plan.fields, key=lambda field: field.name)
            if field.name in self.plan.quasi_identifiers and (field.technique.randomised or not field.technique.draws)
        )

    @property
    def _contents(self) -> tuple[PlannedField, ...]:
        others = {*self.plan.quasi_identifiers, *self.plan.pseudonyms}
        return tuple(
            field
            for field in sorted(self.plan.fields, key=lambda field: field.name)
            if field.name not in others
            and not (field.technique.randomised or field.technique.draws or _keyed(field) or field.technique.joinable)
        )

    def _agreement(self, field: PlannedField) -> str:
        return self.plan.agreement_digest if _keyed(field) else ""

    def _seal(self, use: str) -> _Seal:
        return _Seal(key_bytes(self.key), use)


class Adding:
    """Adds every digest to batch after batch of one release, in place of what was beside it for them. Contents of
    rows, of which there are few, are digested once. For one thread."""

    def __init__(self, digests: SentDigests, alike: Alike | None) -> None:
        self._digests, self._alike = digests, alike
        self._contents = Few()

    def added(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The batch with every digest."""
        mine = self._digests
        classes = self._alike.of(batch, CLASS) if self._alike is not None else None
        seals = []
        if classes is None:
            classes = self._class_of(batch)
            seals.append(classes)
        entity = mine._seal("entity").of(batch.get_column(PERSON))
        seals += [entity.alias(ENTITY), self._row(batch, classes, entity).alias(KEY)]
        for name, column in mine.units.items():
            if column != ENTITY:
                values = batch.get_column(name)
                sealed = mine._seal(name).of(_rows(batch, (name,)))
                seals.append(sealed.set(values.is_null(), None).alias(column))
        return with_columns(batch, seals, without=(PERSON, *mine._standing.values()))

    def _class_of(self, batch: pl.DataFrame) -> pl.Series:
        """Rows of one class have one hash already."""
        hashes = batch.get_column(self._digests.places.row)
        first = hashes.arg_unique()
        if len(first) * 2 > batch.height:
            return self._digests.of_classes(batch)[0]
        table = pl.DataFrame([hashes[first], *self._digests.of_classes(batch[first])])
        return hashes.to_frame().join(table, on=hashes.name, how="left", maintain_order="left").get_column(CLASS)

    def _row(self, batch: pl.DataFrame, classes: pl.Series, entity: pl.Series) -> pl.Series:
        names, seal = tuple(field.name for field in self._digests._contents), self._digests._seal("row")

        def halves(rows: pl.DataFrame) -> pl.DataFrame:
            return seal.halves(_rows(rows, names))

        # The engine's own hashes tell contents apart within this release; they go no further.
        hashed = [batch.get_column(name).hash(place) for place, name in enumerate(names)]
        hashes = reduce(lambda whole, next: whole * FOLD ^ next, hashed) if hashed else _zeros(batch.height)
        found = self._contents.of(hashes, batch, halves)
        return seal.sealed(halves(batch) if found is None else found, beside=(classes, entity))


class _Seal:
    """A pseudorandom function of values, for one use: 64 bits each."""

    __slots__ = ("_cipher", "_seeds")

    def __init__(self, key: bytes, use: str) -> None:
        derived = hkdf_expand(key, canonical.canonical(["sent", use]), 48)
        self._cipher = Cipher(algorithms.AES(derived[:32]), modes.ECB())  # noqa: S305 - of single blocks
        self._seeds = [int.from_bytes(derived[start : start + 8], "little") for start in (32, 40)]

    def of(self, values: pl.Series) -> pl.Series:
        """The digests of texts or bytes. A null counts as a value."""
        return self.sealed(self.halves(values))

    def halves(self, values: pl.Series) -> pl.DataFrame:
        """Two hashes of texts or bytes, "0" and "1"."""
        hashed = cast(Any, pl.col("v")).nchash
        return values.to_frame("v").select(
            hashed.xxh3_64(seed=seed).fill_null(0).alias(name) for name, seed in zip("01", self._seeds, strict=True)
        )

    def sealed(self, halves: pl.DataFrame, *, beside: tuple[pl.Series, pl.Series] | None = None) -> pl.Series:
        """The digests of such halves, and of two other digests `beside` them."""
        if beside is not None:
            halves = pl.DataFrame(
                [(halves[name] ^ other).alias(name) for name, other in zip("01", beside, strict=True)]
            )
        plain = memoryview(pa.py_buffer(arrow(halves).to_tensor(row_major=True))).cast("B")
        sealed = bytearray(len(plain) + 15)  # the cipher's own condition
        self._cipher.encryptor().update_into(plain, sealed)
        words = pa.Array.from_buffers(pa.uint64(), len(plain) // 8, [None, pa.py_buffer(sealed)])
        return cast(pl.Series, pl.from_arrow(words)).gather_every(2)


def _zeros(rows: int) -> pl.Series:
    return pl.repeat(0, rows, dtype=pl.UInt64, eager=True)


def _rows(frame: pl.DataFrame, names: tuple[str, ...]) -> pl.Series:
    """The values of each row as bytes that no other row has; a null is a value of its own."""
    if not names:
        return pl.repeat(b"", frame.height, dtype=pl.Binary, eager=True)
    return frame.select(cast(Any, plh).hash_rows(*names)).to_series()


def _keyed(field: PlannedField) -> bool:
    """Whether its values are an agreement's own."""
    return hasattr(field.technique, "domain")


def _treated(field: PlannedField) -> list[Any]:
    return [field.name, msgspec.to_builtins(field.technique), str(field.output)]
