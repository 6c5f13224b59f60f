"""Both engines, and a real OPA server where there is one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import SluicegateError
from contracts.policy.embedded import EmbeddedEngine
from contracts.policy.engine import PolicyEngine
from contracts.policy.opa_server import OpaServerEngine

sys.path.insert(0, str(Path(__file__).parent))  # the suite's own modules

BUNDLE = Path(__file__).parents[2] / "contracts" / "policy" / "bundle"
OPA = os.environ.get("SLUICEGATE_OPA") or shutil.which("opa")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_opa: asks a real OPA; deselected where SLUICEGATE_OPA and PATH name none")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if OPA is not None:
        return
    without = [item for item in items if item.get_closest_marker("needs_opa") is not None]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_opa(bundle: Path, *options: str, scheme: str = "http") -> tuple[subprocess.Popen[bytes], str]:
    """A running OPA server with that bundle, on a loopback port; the caller stops it."""
    assert OPA is not None
    port = free_port()
    command = [
        OPA,
        "run",
        "--server",
        "--bundle",
        str(bundle),
        "--ignore",
        "*_test.rego",
        "--addr",
        f"127.0.0.1:{port}",
    ]
    process = subprocess.Popen(
        [*command, "--log-level", "error", "--disable-telemetry", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process, f"{scheme}://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)
    process.kill()
    process.wait()
    raise RuntimeError(f"opa did not start: exit code {process.returncode}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server that this suite started."""
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def opa_url() -> Iterator[str]:
    """A real OPA server with our bundle, plaintext on loopback."""
    process, url = start_opa(BUNDLE)
    yield url
    stop(process)


@pytest.fixture(scope="session", params=["embedded", pytest.param("opa", marks=pytest.mark.needs_opa)])
def engine(request: pytest.FixtureRequest) -> Iterator[PolicyEngine]:
    """Each engine in turn."""
    if request.param == "embedded":
        yield EmbeddedEngine()
        return
    url = request.getfixturevalue("opa_url")
    asked = _ready(url)
    yield asked
    asked.close()


def _ready(url: str) -> OpaServerEngine:
    """OPA listens a moment before its bundle is in place."""
    for _ in range(100):
        try:
            return OpaServerEngine(url, unsafe_plaintext=True, timeout=10)
        except SluicegateError:
            time.sleep(0.05)
    return OpaServerEngine(url, unsafe_plaintext=True, timeout=10)
