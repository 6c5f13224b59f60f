"""Real servers that a benchmark can be given: OPA with the shipped policy, PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from contracts import policy

OPA, POSTGRES = "SLUICEGATE_OPA", "SLUICEGATE_POSTGRES_URL"
BUNDLE = Path(policy.__file__).parent / "bundle"


def opa() -> str | None:
    """The program, by `SLUICEGATE_OPA` or on PATH; None where there is none."""
    return os.environ.get(OPA) or shutil.which("opa")


@contextlib.contextmanager
def opa_server() -> Iterator[str]:
    """An OPA server with the shipped bundle, plaintext on loopback; its URL."""
    program = opa()
    assert program is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(program, "run", "--server", "--bundle", str(BUNDLE), "--ignore", "*_test.rego"),
            *("--addr", f"127.0.0.1:{port}", "--log-level", "error", "--disable-telemetry"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    from contracts.errors import SluicegateError
    from contracts.policy.opa_server import OpaServerEngine

    end = time.monotonic() + 30
    while True:
        try:
            # It listens a moment before its bundle is in place.
            OpaServerEngine(f"http://127.0.0.1:{port}", unsafe_plaintext=True).close()
            return
        except SluicegateError:
            if time.monotonic() > end or process.poll() is not None:
                raise
            time.sleep(0.05)


def postgres() -> str | None:
    """The URL of a PostgreSQL database where schemas may be made; None where none is named."""
    return os.environ.get(POSTGRES)


@contextlib.contextmanager
def postgres_schema() -> Iterator[str]:
    """The URL of an empty schema of its own, gone afterwards."""
    import psycopg

    url, schema = postgres(), f"bench_{uuid.uuid4().hex}"
    assert url is not None
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        try:
            yield f"{url}?options=-csearch_path%3D{schema}"
        finally:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
