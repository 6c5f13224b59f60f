"""The masks of R1, and nothing else, by four engines: what a release costs is told relative to these.

(a) the product's own expressions, collected; (b) DuckDB; (c) pandas and hashlib. All three compute the
same values, HMAC-SHA-256 included, which `same` proves on every row.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import duckdb
import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connectors import sources
from connectors.keys import AgreementSecrets
from connectors.masks.masking import masked
from connectors.sources import Source, SourceSettings
from contracts import lint, standard
from contracts import plan as plans
from contracts.plan import Plan

CONTRACTS = Path(__file__).resolve().parent / "contracts"
PURPOSE = "planning"


def secrets() -> AgreementSecrets:
    """Secrets that every engine is given; of no agreement, and the same in every run."""
    return AgreementSecrets(hashlib.sha256(b"benchmark").digest(), "benchmark")


def opened(path: Path) -> Source:
    """A Parquet file as a gateway reads it."""
    return sources.open(SourceSettings(path=str(path), format="parquet"))


def compiled(dataset: str, source: Source) -> Plan:
    """The plan of one of the benchmark's contracts against a source."""
    contract = lint.check((CONTRACTS / f"{dataset}.odcs.yaml").read_bytes()).contract
    return plans.compile(plans.terms_for(contract, PURPOSE), contract, source.schema(), standard.load())


def without(plan: Plan, *, bounds: bool = True, order: str = "keyed", least: dict[str, int] | None = None) -> Plan:
    """The plan with guarantees switched off, which no contract about persons could do; or with bounds of
    l added. For pricing them only."""
    if not bounds:
        plan = msgspec.structs.replace(
            plan, entity=None, k=None, quasi_identifiers=(), pseudonyms=(), sensitive={}, sharing_model=None
        )
    elif least:
        plan = msgspec.structs.replace(plan, sensitive=least)
    return msgspec.structs.replace(plan, order=order)


def by_polars(plan: Plan, source: Source) -> pl.DataFrame:
    """(a): the product's expressions over the needed columns, collected."""
    return masked(source.scan(plan.read), plan, secrets()).collect()


def by_duckdb(connection: duckdb.DuckDBPyConnection, path: Path, *, hmac_sha256: bool = True) -> pa.Table:
    """(b): the same values in SQL. Without `hmac_sha256` one hash over key and id, which is cheaper and
    no HMAC: what one would write who does not know the difference."""
    return connection.sql(duckdb_query(hmac_sha256=hmac_sha256), params=[str(path)]).to_arrow_table()


def duckdb_query(*, hmac_sha256: bool) -> str:
    """The masks in SQL, over the people's columns."""
    key = _key()
    inner, outer = (bytes(byte ^ pad for byte in key).hex() for pad in (0x36, 0x5C))
    value = "upper(trim(id))"
    hashed = (
        f"sha256(from_hex('{outer}') || unhex(sha256(from_hex('{inner}') || encode({value}))))"
        if hmac_sha256
        else f"sha256('{key.decode()}' || {value})"
    )
    return f"""
        SELECT
            CASE WHEN length(phone) >= 7 THEN left(phone, 3) || repeat('*', length(phone) - 3)
                 WHEN phone IS NOT NULL THEN '*******' END AS phone,
            age - age % 10 AS age,
            (amount + 500) // 1000 * 1000 AS amount,
            left({hashed}, 32) AS id,
            left(address, 3) AS address,
            CAST(date_trunc('quarter', ts) AS DATE) AS ts,
            district
        FROM read_parquet(?)
    """


def by_pandas(frame: pd.DataFrame) -> pd.DataFrame:
    """(c): the same values as one would write them with pandas and hashlib."""
    key = _key()
    cut = frame["phone"].str
    return pd.DataFrame(
        {
            "phone": cut.slice(0, 3) + cut.slice(3).str.replace(r".", "*", regex=True),
            "age": frame["age"] // 10 * 10,
            "amount": (frame["amount"] + 500) // 1000 * 1000,
            "id": [
                hmac.digest(key, value.strip().upper().encode(), "sha256").hex()[:32] for value in frame["id"].tolist()
            ],
            "address": frame["address"].str.slice(0, 3),
            "ts": frame["ts"].dt.to_period("Q").dt.start_time.dt.date,
            "district": frame["district"],
        }
    )


def sample(path: Path, rows: int) -> pd.DataFrame:
    """The first rows of a Parquet file, about that many, for pandas."""
    with pq.ParquetFile(path) as file:
        found: pd.DataFrame = next(file.iter_batches(batch_size=rows)).to_pandas()
    return found


def same(ours: pl.DataFrame, theirs: pa.Table | pd.DataFrame) -> bool:
    """Whether another engine computed the same values, row by row, for as many rows as it has."""
    other = pl.from_pandas(theirs) if isinstance(theirs, pd.DataFrame) else pl.from_arrow(theirs)
    assert isinstance(other, pl.DataFrame)
    return other.height > 0 and ours.head(other.height).equals(other.cast(dict(ours.schema.items())))


def _key() -> bytes:
    return secrets().key("person").encode()
