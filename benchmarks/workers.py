"""Processes that do one kind of work again and again, and say how long each time took.

Every contender has one of its own, started and warmed up before the first round, so that none pays for
imports, and none has its caches or its allocator spoilt by another:

    with Worker("masks", people) as worker:
        worker.ask()["seconds"]

The parent writes one JSON object a line, the child answers with one. Anything that goes wrong in the
child ends it, with its traceback on standard error.
"""

from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Who does the work: module and function that is given the worker's arguments, and gives a function.
KINDS = {
    "masks": "benchmarks.peers:masks_alone",
    "look": "benchmarks.peers:looking",
    "duckdb": "benchmarks.peers:duckdb_masks",
    "pandas": "benchmarks.peers:pandas_masks",
    "flight": "benchmarks.peers:flight_server",
    "read": "benchmarks.peers:flight_reader",
    "gate": "benchmarks.gate:serve",
    "fetch": "benchmarks.gate:fetch",
    "pull": "benchmarks.consumer:puller",
    "grants": "benchmarks.consumer:granter",
}
Work = Callable[..., dict[str, Any]]


class Worker:
    """One such process. A context manager: leaving it ends the process."""

    def __init__(self, kind: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workers", kind, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.kind = kind

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, **call: object) -> None:
        """Give it work, without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The answer to the work that it was given."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker {self.kind!r} ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **call: object) -> dict[str, Any]:
        """Give it work and wait for the answer: at least `seconds`, and what the work says of itself."""
        self.tell(**call)
        return self.hear()


def main(kind: str, *arguments: str) -> None:
    """Run as a worker until the parent closes standard input."""
    module, function = KINDS[kind].split(":")
    work: Work = getattr(importlib.import_module(module), function)(*arguments)
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not look like an answer
    for line in sys.stdin:
        gc.collect()
        call = json.loads(line)
        began, used = time.perf_counter(), time.process_time()
        answer = work(**call)
        took = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used}
        out.write(json.dumps(took | answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
