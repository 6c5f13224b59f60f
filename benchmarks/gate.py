"""A release served without its papers: for pricing guarantees one by one, and for nothing else.

The serving side makes a release with `connectors.releases.release.make`, as a gateway does, of a plan whose
guarantees were switched off as asked, and serves its parts. There is no exchange, no grant, no
signature, no receipt, and TLS only where asked: what that saves is the price of the product's promises.
"""

# ruff: noqa: ARG002 - the Flight server calls every handler with its context

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from benchmarks import masks
from benchmarks.workers import Work
from connectors import tls
from connectors.dictionaries import written_out
from connectors.digest import ContentDigest
from connectors.releases import release
from connectors.releases.release import Release
from connectors.spooling.making import wire_schema


class _Gate(fl.FlightServerBase):  # type: ignore[misc]
    """Makes a release for each flight info that is asked for, and serves its parts."""

    def __init__(self, path: Path, dataset: str, folder: Path, certificate: tuple[bytes, bytes] | None) -> None:
        scheme = "grpc" if certificate is None else "grpc+tls"
        super().__init__(f"{scheme}://127.0.0.1:0", tls_certificates=None if certificate is None else [certificate])
        self._source = masks.opened(path)
        self._plan = masks.compiled(dataset, self._source)
        self._folder, self._numbers = folder, itertools.count()
        self._release: Release | None = None

    def get_flight_info(self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:
        wanted = json.loads(descriptor.command)
        if self._release is not None:
            self._release.close()
        plan = masks.without(
            self._plan, bounds=wanted["bounds"], order=wanted["order"], least=wanted.get("least") or None
        )
        name = f"rel-{next(self._numbers)}"
        made = release.make(
            plan,
            self._source,
            masks.secrets(),
            spool=self._folder / name,
            release_id=name,
            clock=lambda: int(time.time()),
            hash=wanted["hash"],
        )
        self._release = made
        about = {
            "content_digest": made.content_digest,
            "schema": [(item, str(dtype)) for item, dtype in made.schema.items()],
            "suppressed": made.rows_suppressed,
        }
        endpoints = [fl.FlightEndpoint(str(index).encode(), []) for index in range(len(made.parts))]
        return fl.FlightInfo(
            wire_schema(plan), descriptor, endpoints, made.rows_out, -1, app_metadata=json.dumps(about).encode()
        )

    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.FlightDataStream:
        assert self._release is not None
        part = int(ticket.ticket)
        batches = release.read_part(self._release, part)
        tables = (pa.Table.from_batches([batch]) for batch in batches)  # of which dictionaries are sent
        return fl.GeneratorStream(release.part_schema(self._release, part), tables)


def serve(path: str, dataset: str) -> Work:
    """The serving side: two servers on the same source, with TLS and without. Answers where they listen."""
    certificate = tls.self_signed(now=int(time.time()) - 60)
    folder = Path(tempfile.mkdtemp(prefix="sluicegate-bench-"))
    secure = _Gate(Path(path), dataset, folder / "tls", certificate)
    plain = _Gate(Path(path), dataset, folder / "plain", None)
    parent = os.getppid()

    def work(*, clean: bool = False) -> dict[str, Any]:
        if clean:
            shutil.rmtree(folder, ignore_errors=True)
        return {
            "tls": f"grpc+tls://localhost:{secure.port}",
            "plain": f"grpc://localhost:{plain.port}",
            "ca": certificate[0].decode(),
            "parent": parent,
        }

    return work


def fetch() -> Work:
    """The reading side: ask for a release, read its parts one after another into memory, and hash them as
    they come if `digest` says so. Answers the digest that was announced and the one that was found."""

    def work(*, location: str, ca: str, digest: bool, **wanted: Any) -> dict[str, Any]:
        began = time.perf_counter()
        first = 0.0
        roots = ca.encode() if location.startswith("grpc+tls") else None
        with closing(fl.FlightClient(location, tls_root_certs=roots)) as client:
            info = client.get_flight_info(fl.FlightDescriptor.for_command(json.dumps(wanted)))
            about = json.loads(info.app_metadata)
            found = ContentDigest(about["schema"], wanted["hash"])
            kept = []
            for part, endpoint in enumerate(info.endpoints):
                for batch in _batches(client.do_get(endpoint.ticket)):
                    first = first or time.perf_counter() - began
                    if digest:
                        found.update(part, batch)
                    kept.append(batch)
        return {
            "rows": sum(batch.num_rows for batch in kept),
            "first_byte": first,
            "announced": about["content_digest"],
            "found": found.finish() if digest else "",
            "suppressed": about["suppressed"],
        }

    return work


def _batches(reader: fl.FlightStreamReader) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            yield written_out(reader.read_chunk().data)
        except StopIteration:
            return
