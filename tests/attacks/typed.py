"""Commands typed at the real command line, in this process: what they printed, and a demand on the exit code."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exchange.cli.main import run


@dataclass(frozen=True)
class Said:
    """Standard output and standard error."""

    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)


def typed(home: Path, *words: object, code: int = 0, traced: bool = False) -> Said:
    """Run `sluicegate WORDS` in a home; with its traceback on a refusal, if `traced`."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        if traced:
            patch.setenv("SLUICEGATE_TRACE", "1")
        found = run(["--home", str(home), *map(str, words)])
    said = Said(out.getvalue(), err.getvalue())
    assert found == code, f"exit code {found}, not {code}: {words}\n{said.out}\n{said.err}"
    assert ("Traceback" in said.err) == traced, said.err
    return said
