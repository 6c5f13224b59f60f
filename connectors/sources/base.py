"""What every source offers: the types of its columns, and a lazy scan of those that are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal, Protocol, cast

import polars as pl
import pyarrow as pa
from msgspec import Meta, Struct

from contracts.dtypes import BINARY, BOOLEAN, DATE, LIST, STRING, DType, Schema
from contracts.errors import Reason, SluicegateError, Violation

Format = Literal["parquet", "csv", "ndjson", "arrow"]


class SourceSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a dataset's rows lie, as the gateway's own configuration says; a contract never does.

    `path` is a file, a glob or a folder; everything it leads to, links followed, must lie under `root`
    (default: the folder that `path` begins with). `columns` states types for CSV and NDJSON, in the
    spelling of `contracts.dtypes` (`string`, `int64`, `date`, `timestamp(us)`...): what is not stated
    follows from the contract's logical types. `separator` and `null_values` are for CSV. `register` names
    another dataset of the gateway: the population, to look the people of a release up in.
    """

    path: str
    format: Format
    root: str | None = None
    columns: dict[str, str] = {}
    separator: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    null_values: tuple[str, ...] = ()
    register: str | None = None


class Source(Protocol):
    """One dataset's rows. Both methods raise SOURCE_UNAVAILABLE or DATA_INVALID."""

    @property
    def name(self) -> str:
        """What to call it in an error: a file's name or the pattern, never its folder."""
        ...

    def schema(self) -> Schema:
        """Column name -> type, in the source's order. Reads no rows where the format allows that."""
        ...

    def state(self) -> str:
        """What tells one state of the rows from another: it changes whenever they may have. Reads none."""
        ...

    def scan(self, columns: Sequence[str]) -> pl.LazyFrame:
        """A lazy frame of just these columns, in this order. Categoricals and enums come as strings:
        their dictionaries carry values of rows that are not read. Lists come as lists of strings."""
        ...

    def misfits(self, columns: Sequence[str]) -> tuple[Violation, ...]:
        """Which of these columns hold cells that are not of their type, and how many; nothing for a format
        that has types. Reads the whole source."""
        ...


def dtype_of(dtype: pl.DataType) -> DType:
    """A Polars type as a contract type; `other` for what cannot be sent."""
    if dtype in _PLAIN:
        return _PLAIN[dtype]
    match dtype:
        case pl.Categorical() | pl.Enum():
            return STRING
        case pl.List() | pl.Array() if dtype_of(cast(pl.DataType, dtype.inner)) == STRING:
            return LIST
        case pl.Decimal():
            return DType("decimal", precision=dtype.precision or 38, scale=dtype.scale)
        case pl.Datetime():
            return DType("timestamp", unit=dtype.time_unit, zone=dtype.time_zone)
        case pl.Time():
            return DType("time", unit="ns")
    return DType("other", name=str(dtype).split("(")[0].lower())


_PLAIN: dict[pl.DataType, DType] = {
    pl.String(): STRING,
    pl.Boolean(): BOOLEAN,
    pl.Date(): DATE,
    pl.Binary(): BINARY,
    **{
        kind(): DType("integer", bits=bits)
        for bits, kind in ((8, pl.Int8), (16, pl.Int16), (32, pl.Int32), (64, pl.Int64))
    },
    **{
        kind(): DType("integer", bits=bits, signed=False)
        for bits, kind in ((8, pl.UInt8), (16, pl.UInt16), (32, pl.UInt32), (64, pl.UInt64))
    },
    pl.Float32(): DType("float", bits=32),
    pl.Float64(): DType("float", bits=64),
}

_SPELLED: dict[str, pl.DataType] = {
    **{str(dtype): kind for kind, dtype in _PLAIN.items()},
    "time(ns)": pl.Time(),
    str(LIST): pl.List(pl.String()),
}
_TIMESTAMP = re.compile(r"timestamp\((ms|us|ns)(?:,([A-Za-z0-9_+/-]{1,64}))?\)")
_DECIMAL = re.compile(r"decimal\((\d{1,2}),(\d{1,2})\)")


def polars_type(spelling: str) -> pl.DataType:
    """The Polars type of a stated one: `int64`, `decimal(10,2)`, `timestamp(us,Asia/Shanghai)`.

    Raises CONFIG_INVALID for anything else."""
    if found := _SPELLED.get(spelling):
        return found
    if match := _TIMESTAMP.fullmatch(spelling):
        return pl.Datetime(match[1], match[2])  # type: ignore[arg-type]
    if match := _DECIMAL.fullmatch(spelling):
        return pl.Decimal(int(match[1]), int(match[2]))
    allowed = ", ".join(sorted(_SPELLED))
    raise SluicegateError(
        Reason.CONFIG_INVALID,
        f"{spelling[:64]!r} is no column type; allowed: {allowed}, timestamp(us), timestamp(us,ZONE), decimal(P,S)",
    )


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Translate whatever goes wrong while a source is read. What the engines say is never passed on:
    they quote cells and paths."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise unavailable(name, "a file is missing or may not be read") from None
    except pl.exceptions.ColumnNotFoundError:
        raise invalid(name, "a column that is needed is not there") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException):
        raise invalid(
            name,
            "it cannot be read to the end as what it is declared to be: it is damaged, not UTF-8, or a value does "
            "not fit its column's type; state the type under `columns`, or mend the data",
        ) from None
    except (UnicodeDecodeError, OverflowError, ValueError):
        raise invalid(name, "a value cannot be read as its column's type") from None
    except OSError:
        raise unavailable(name, "reading it failed") from None


@contextmanager
def explaining(source: Source, columns: Sequence[str]) -> Iterator[None]:
    """Say which columns it is that cannot be read, once it turned out that something cannot. It costs
    another look through the source, which good data never does."""
    try:
        yield
    except SluicegateError as error:
        if error.reason is not Reason.DATA_INVALID or not (found := source.misfits(columns)):
            raise
        message = f"the source {source.name}: cells do not fit the type of their column"
        raise SluicegateError(Reason.DATA_INVALID, message, found, {"source": source.name}) from None


def unavailable(name: str, why: str) -> SluicegateError:
    """SOURCE_UNAVAILABLE, naming the source."""
    return SluicegateError(Reason.SOURCE_UNAVAILABLE, f"the source {name}: {why}", metadata={"source": name})


def invalid(name: str, why: str) -> SluicegateError:
    """DATA_INVALID, naming the source."""
    return SluicegateError(Reason.DATA_INVALID, f"the source {name}: {why}", metadata={"source": name})
