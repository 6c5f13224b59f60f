"""The embedded engine brings an allocator, and shares the process with Arrow and two builds of gRPC: what
one takes, that one must get back. Where it did not, each decision lost some 80 kB and a gateway's gRPC
everything that it freed (decision 34)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Resident memory, in kB, that 100 decisions take once all is warm. A process of its own: what was loaded
# first cannot be told again.
SCRIPT = """
import sys
if sys.argv[1] == "arrow first":
    import pyarrow.flight
from contracts.policy.embedded import EmbeddedEngine
from contracts.policy.engine import Action

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

engine = EmbeddedEngine()
for number in range(130):
    if number == 30:
        before = resident()
    assert not engine.decide(Action.TRANSFER, {}).allow
print(resident() - before)
"""


@pytest.mark.parametrize("order", ["engine first", "arrow first"])
def test_decisions_lose_no_memory(order: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, order], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_000


def test_nothing_else_loads_the_library() -> None:
    """Whoever imported it first, elsewhere, would bind C++ to its allocator."""
    loading = re.compile(r"^\s*(import|from) regopy\b", re.MULTILINE)
    folders = ("contracts", "connectors", "exchange", "benchmarks", "examples", "tools", "tests")
    found = {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if loading.search(path.read_text())
    }
    assert found == {"contracts/policy/rego_library.py"}
