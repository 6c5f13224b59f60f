"""The values that masks work on: their Polars types, their text, what is keyed, what stays under nulls."""

from __future__ import annotations

import threading
from typing import Any, Protocol, cast

import polars as pl
import polars_hash as plh

from connectors.masks.lists import ELEMENT, LISTS, each
from contracts.dtypes import DType
from contracts.errors import Reason, SluicegateError

# The column of row numbers that `masking.masked` adds where a mask draws by row.
ROW_NUMBER = "__sluicegate_row"
DIGITS = 32  # hexadecimal, of a pseudonym: 128 bits
_OFTEN = 3  # times that a value occurs, so that finding it again costs less than hashing it
_MOST = 200_000  # values of a column whose pseudonyms are remembered


class MaskingSecrets(Protocol):
    """The keys of one agreement, and of what its recipient is drawn once. Never logged, printed, serialised or
    shipped."""

    def key(self, domain: str) -> str:
        """The key of that domain: 64 lower-case hexadecimal digits."""
        ...

    def draw(self, field: str) -> str:
        """The key that a field's random numbers come from, of this release alone: as `key`."""
        ...

    def lot(self, *use: str) -> str:
        """The key of what is drawn once for a recipient of a dataset, under whichever agreement: as `key`."""
        ...


def polars_type(dtype: DType) -> pl.DataType:
    """The Polars type that carries a column type. Raises PLAN_REFUSED for one that none carries."""
    match dtype.kind:
        case "integer":
            return cast(pl.DataType, getattr(pl, f"{'' if dtype.signed else 'U'}Int{dtype.bits}")())
        case "float":
            return pl.Float32() if dtype.bits == 32 else pl.Float64()
        case "decimal":
            return pl.Decimal(dtype.precision, dtype.scale)
        case "timestamp":
            return pl.Datetime(cast(Any, dtype.unit), dtype.zone)
        case "list":
            return LISTS
        case "string" | "boolean" | "date" | "time" | "binary":
            return {
                "string": pl.String(),
                "boolean": pl.Boolean(),
                "date": pl.Date(),
                "time": pl.Time(),
                "binary": pl.Binary(),
            }[dtype.kind]
    raise SluicegateError(Reason.PLAN_REFUSED, f"a column of type {dtype} cannot be sent")


def text(expr: pl.Expr) -> pl.Expr:
    """The value as text: categories by their word, whole numbers in decimal, dates as ISO 8601."""
    return expr.cast(pl.String)


def normalised(expr: pl.Expr) -> pl.Expr:
    """What tells two spellings of one identifier apart is taken away: space around it, compatibility
    forms (NFKC), case. An empty text becomes null, and null stays null. Any type that has text."""
    return text(expr).map_batches(_normal, return_dtype=pl.String, is_elementwise=True)


def _normal(values: pl.Series) -> pl.Series:
    # NFKC leaves ASCII alone and costs as much as the hash itself, so it runs only where it matters.
    trimmed = values.str.strip_chars()
    if (trimmed.str.len_bytes() != trimmed.str.len_chars()).any():
        trimmed = trimmed.str.normalize("NFKC").str.strip_chars()
    return not_empty(trimmed.str.to_uppercase())


def not_empty(values: pl.Series) -> pl.Series:
    """The texts with null in place of empty ones."""
    empty = values == ""
    return values.set(empty, None) if empty.any() else values


def wire_clean(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """The column with nothing under its nulls.

    A null is a bit beside a value; sources and masks leave whatever value was there. The values are
    replaced first, then the bits are set on the replacements. The column is named twice: a mask that is not
    made yet would be made twice.
    """
    if kind == LISTS:
        return each(column, wire_clean(pl.col(ELEMENT), pl.String()))
    blank: object = {pl.String: "", pl.Binary: b"", pl.Boolean: False}.get(type(kind), 0)
    return pl.when(column.is_not_null()).then(column.fill_null(pl.lit(blank).cast(kind)))


def hmac_sha256(value: pl.Expr, key: str) -> pl.Expr:
    """HMAC-SHA-256 of a text under a key of 64 hexadecimal digits, 128 bits of it. Raises CONFIG_UNSAFE for
    a key of another form."""
    key_bytes(key)
    return value.map_batches(_Pseudonyms(key), return_dtype=pl.String, is_elementwise=True)


class _Pseudonyms:
    """Pseudonyms of one column, batch by batch. Where values come again and again, each is hashed once: those of
    the batches so far are remembered, as long as the expression lives; none any more once they are over `_MOST`."""

    __slots__ = ("_key", "_known", "_lock")

    def __init__(self, key: str) -> None:
        self._key, self._lock = key, threading.Lock()
        self._known: pl.DataFrame | None = pl.DataFrame(schema={"value": pl.String, "digest": pl.String})

    def __call__(self, values: pl.Series) -> pl.Series:
        """The pseudonyms of some values, in their order."""
        known = self._known
        if known is None:
            return _digests(values, self._key)
        asked = values.rename("value").to_frame()
        found = asked.join(known, on="value", how="left", maintain_order="left")
        unknown = found["digest"].null_count() - values.null_count()
        if not unknown:
            return found["digest"].rename(values.name)
        if unknown * _OFTEN > len(values):  # hashing all of them costs less than finding some
            made = _digests(values, self._key)
            new = asked.with_columns(made.alias("digest")).filter(found["digest"].is_null()).drop_nulls()
            # What is seldom found among twice as many as these does not come again.
            useless = known.height >= 2 * len(values) and (len(values) - unknown) * _OFTEN < len(values)
            self._remember(None if useless else pl.concat([known, new.unique("value")]))
            return made
        distinct = found.filter(pl.col("digest").is_null())["value"].drop_nulls().unique()
        known = pl.concat([known, pl.DataFrame([distinct, _digests(distinct, self._key).alias("digest")])])
        self._remember(known)
        return asked.join(known, on="value", how="left", maintain_order="left")["digest"].rename(values.name)

    def _remember(self, known: pl.DataFrame | None) -> None:
        """Know so many, if that is more than before; none any more where it is too many or of no use."""
        with self._lock:
            if known is None or known.height > _MOST:
                self._known = None
            elif self._known is not None and known.height > self._known.height:
                self._known = known.rechunk()


def _digests(values: pl.Series, key: str) -> pl.Series:
    hashed = cast(pl.Expr, cast(Any, pl.col(values.name)).chash.hmac_sha256(key=key))
    return values.to_frame().select(hashed.str.head(DIGITS)).to_series()


def key_bytes(key: str) -> bytes:
    """The 32 bytes of a key. Raises CONFIG_UNSAFE for one that is not 64 hexadecimal digits, without it."""
    if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
        raise SluicegateError(Reason.CONFIG_UNSAFE, "a masking key must be 64 lower-case hexadecimal digits")
    return bytes.fromhex(key)


# Importing the plugin registers `Expr.chash`.
_ = plh
