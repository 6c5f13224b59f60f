"""The example contract as text to spoil, and what its loading then says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from contracts import lint
from contracts.errors import Reason, SluicegateError, Violation

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = (ROOT / "examples" / "hospital-visits.odcs.yaml").read_text(encoding="utf-8")
CORPORA = Path(os.environ.get("SLUICEGATE_CORPORA", ROOT.parent / "shared" / "corpora"))


@dataclass(frozen=True)
class Case:
    """One way to spoil the example, and what must be said about it."""

    changes: tuple[tuple[str, str], ...]
    path: str
    code: str
    says: str


def cases(file: str) -> dict[str, Case]:
    """The cases of a file beside the tests of contracts, by name."""
    listed = yaml.safe_load((ROOT / "tests" / "contracts" / file).read_text(encoding="utf-8"))
    return {
        name: Case(tuple(case["change"].items()), case["path"], case["code"], case["says"])
        for name, case in listed.items()
    }


def spoilt(*changes: tuple[str, str]) -> bytes:
    """The example with each first text replaced by the second."""
    text = EXAMPLE
    for old, new in changes:
        assert old in text, f"the example has no {old!r} to replace"
        text = text.replace(old, new, 1)
    return text.encode()


def replaceable(*changes: tuple[str, str]) -> bool:
    """Whether all these changes can be made in one copy."""
    text = EXAMPLE
    for old, new in changes:
        if old not in text:
            return False
        text = text.replace(old, new, 1)
    return True


def line_of(raw: bytes, text: str) -> int:
    """The line (1-based) on which a text first stands."""
    return raw.decode()[: raw.decode().index(text)].count("\n") + 1


def refused(raw: bytes, reason: Reason = Reason.CONTRACT_INVALID) -> SluicegateError:
    """The error of loading and linting a document that must be refused; it names its file."""
    with pytest.raises(SluicegateError) as caught:
        lint.check(raw, name="visits.odcs.yaml")
    assert caught.value.reason is reason
    assert caught.value.message.startswith("visits.odcs.yaml")
    return caught.value


def only(raw: bytes) -> Violation:
    """The one violation of a document with exactly one."""
    violations = refused(raw).violations
    assert len(violations) == 1, "\n".join(map(str, violations))
    return violations[0]
