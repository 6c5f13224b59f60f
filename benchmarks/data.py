"""The rows of the benchmarks: made-up people in Parquet, written in slices so that any number fits in memory."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from examples.city import people

SLICE = 2_500_000
# The same columns as data about no person: what `contracts/readings.odcs.yaml` declares.
READINGS = {
    "phone": "line",
    "age": "level",
    "amount": "flow",
    "id": "meter",
    "address": "site",
    "ts": "ts",
    "district": "zone",
}


def write_people(path: Path, rows: int) -> None:
    """One Parquet file of that many people, in row groups of 250,000 rows."""
    writer: pq.ParquetWriter | None = None
    try:
        for first in range(0, rows, SLICE):
            table = (
                people(min(SLICE, rows - first), first=first).collect().to_arrow(compat_level=pl.CompatLevel.oldest())
            )
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=250_000)
    finally:
        if writer is not None:
            writer.close()


def write_readings(path: Path, source: Path) -> None:
    """The same rows under the names of the data about no person."""
    writer: pq.ParquetWriter | None = None
    try:
        with pq.ParquetFile(source) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                table = table.rename_columns([READINGS[name] for name in table.column_names])
                writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
                writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
