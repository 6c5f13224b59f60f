"""What the product is compared with, each in a process of its own (see `workers`)."""

# ruff: noqa: ARG002 - the Flight server calls every handler with its context

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq

from benchmarks import masks
from benchmarks.workers import Work
from connectors import tls
from connectors.identifiers.residual import Inspector
from connectors.spooling.making import BATCH_ROWS, WIRE_ROWS


def masks_alone(path: str, dataset: str) -> Work:
    """(a): the masking expressions, collected."""
    source = masks.opened(Path(path))
    plan = masks.compiled(dataset, source)

    def work() -> dict[str, Any]:
        return {"rows": masks.by_polars(plan, source).height}

    return work


def looking(path: str, dataset: str) -> Work:
    """What no mask removed, looked for in rows that are masked already and in memory."""
    source = masks.opened(Path(path))
    plan = masks.compiled(dataset, source)
    batches = list(masks.by_polars(plan, source).iter_slices(BATCH_ROWS))

    def work() -> dict[str, Any]:
        inspector = Inspector(plan)
        for batch in batches:
            inspector.inspect(batch)
        inspector.check()
        return {"rows": sum(batch.height for batch in batches)}

    return work


def duckdb_masks(path: str) -> Work:
    """(b): the same in SQL, as an Arrow table, on as many threads as there are cores."""
    import duckdb

    connection = duckdb.connect()

    def work(*, hmac_sha256: bool = True) -> dict[str, Any]:
        return {"rows": masks.by_duckdb(connection, Path(path), hmac_sha256=hmac_sha256).num_rows}

    return work


def pandas_masks(path: str, rows: str) -> Work:
    """(c): the same in pandas and hashlib, on a sample that is read before."""
    frame = masks.sample(Path(path), int(rows))

    def work() -> dict[str, Any]:
        return {"rows": len(masks.by_pandas(frame))}

    return work


class _Server(fl.FlightServerBase):  # type: ignore[misc]
    """Serves one table, unmasked, to everybody: the least that Flight takes for these rows."""

    def __init__(self, table: pa.Table, certificate: tuple[bytes, bytes]) -> None:
        super().__init__("grpc+tls://127.0.0.1:0", tls_certificates=[certificate])
        self._batches = table.to_batches(max_chunksize=WIRE_ROWS)
        self._schema = table.schema

    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.FlightDataStream:
        return fl.RecordBatchStream(pa.RecordBatchReader.from_batches(self._schema, self._batches))


def flight_server(path: str) -> Work:
    """(d), the serving side: the unmasked table, in memory already. Answers where it listens."""
    certificate = tls.self_signed(now=int(time.time()) - 60)
    server = _Server(pq.read_table(path), certificate)

    def work() -> dict[str, Any]:
        return {"location": f"grpc+tls://localhost:{server.port}", "ca": certificate[0].decode()}

    return work


def flight_reader() -> Work:
    """(d), the reading side: every batch, kept in memory."""

    def work(*, location: str, ca: str) -> dict[str, Any]:
        with fl.FlightClient(location, tls_root_certs=ca.encode()) as client:
            reader, batches = client.do_get(fl.Ticket(b"")), []
            while True:
                try:
                    batches.append(reader.read_chunk().data)
                except StopIteration:
                    break
        return {"rows": sum(batch.num_rows for batch in batches)}

    return work
