"""Runs `sluicegate` commands: in this process, or as a process of its own where exit codes and pipes are at stake."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exchange.cli.main import run

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "examples" / "hospital-visits.odcs.yaml"


@dataclass(frozen=True)
class Said:
    """What a command left behind: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The lines of a table in a pipe, without their heading."""
        return [line.split("\t") for line in self.out.splitlines()[1:]]


@dataclass(frozen=True)
class Commands:
    """`sluicegate` in one home. Calling it demands an exit code, 0 unless said."""

    home: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: object, code: int = 0) -> Said:
        self.capture.readouterr()
        found = run(["--home", str(self.home), *map(str, words)])
        out, err = self.capture.readouterr()
        assert found == code, f"exit code {found}, not {code}:\n{out}\n{err}"
        return Said(found, out, err)

    def process(self, *words: object, code: int | None = 0, **options: Any) -> Said:
        """The same as a process of its own, in a pipe."""
        return process(*words, home=self.home, code=code, **options)


def process(*words: object, home: Path, code: int | None = 0, **options: Any) -> Said:
    """Run `sluicegate WORDS` as a process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLUICEGATE_")}
    environment |= {"SLUICEGATE_HOME": str(home), "PYTHONPATH": str(ROOT), **options.pop("environment", {})}
    done = subprocess.run(
        [sys.executable, "-m", "exchange.cli.main", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
        **options,
    )
    assert code is None or done.returncode == code, f"exit code {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return Said(done.returncode, done.stdout, done.stderr)


def on_a_terminal(home: Path, *words: str) -> str:
    """What a person sees on a terminal of 100 columns."""
    child, parent = pty.fork()
    if child == 0:  # pragma: no cover - another process
        os.environ |= {"SLUICEGATE_HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "xterm"}
        os.execv(sys.executable, [sys.executable, "-m", "exchange.cli.main", *words])
    seen = b""
    while True:
        try:
            more = os.read(parent, 65_536)
        except OSError:
            break
        if not more:
            break
        seen += more
    os.close(parent)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return seen.decode()
