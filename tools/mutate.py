"""Take defences out, one at a time, and demand that a test notices: `python tools/mutate.py run|write|check`.

`tests/attacks/mutations.yaml` is the table: a line of the product, what stands in its place, what that
takes out, and the test that must fail. `run` does it, each in a copy of the tree, serially; words after
it choose rows by anything they say. `write` puts the table into docs/threat-model.md. `check` is cheap:
every line stands in its file exactly once, every test exists, and the page shows the table.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import msgspec
import yaml

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "attacks" / "mutations.yaml"
PAGE = ROOT / "docs" / "threat-model.md"
HEADING = "## Each defence taken out"
BUNDLE = "contracts/policy/bundle/"
NOTICED, SURVIVED, NO_VERDICT = "noticed", "SURVIVED", "NO VERDICT"
NOT_COPIED = (".git", ".venv", ".tools", "build", "demo", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")


class Mutation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the table. `line` is compared without what stands before and after it."""

    out: str
    file: str
    line: str
    instead: str
    test: str

    def applied(self, text: str) -> str:
        """The text with that line replaced, as deeply indented. Raises ValueError unless it is there once."""
        lines = text.splitlines(keepends=True)
        found = [number for number, line in enumerate(lines) if line.strip() == self.line]
        if len(found) != 1:
            raise ValueError(f"{self.file} has this line {len(found)} times, not once: {self.line}")
        whole = lines[found[0]]
        lines[found[0]] = whole.replace(self.line, self.instead, 1)
        return "".join(lines)


@cache
def table() -> tuple[Mutation, ...]:
    """All mutations, in the order of the table."""
    return msgspec.convert(yaml.safe_load(TABLE.read_text()), tuple[Mutation, ...], strict=True)


def stale() -> Iterator[str]:
    """What is wrong with the table as it stands, without running anything."""
    seen: set[Mutation] = set()
    for mutation in table():
        try:
            mutated = mutation.applied((ROOT / mutation.file).read_text())
            if mutation.file.endswith(".py"):
                ast.parse(mutated)
        except (OSError, ValueError, SyntaxError) as error:
            yield str(error)
        if mutation in seen:
            yield f"twice: {mutation.file}: {mutation.line}"
        seen.add(mutation)
        file, _, name = mutation.test.partition("::")
        if name not in _tests_in(ROOT / file):
            yield f"there is no test {mutation.test}"
    if section() not in PAGE.read_text():
        yield "docs/threat-model.md does not show the table; run python tools/mutate.py write"


@cache
def _tests_in(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def section() -> str:
    """The section of the threat model."""
    rows = [f"| {mutation.out} | `{mutation.file}` | `{mutation.test}` |" for mutation in table()]
    return "\n".join(
        [
            HEADING,
            "",
            f"`make mutations` takes {len(rows)} defences out of the product, one line at a time"
            " (`tests/attacks/mutations.yaml`), and demands of each that",
            "the named test fails then, and passes otherwise. Written from the table by `tools/mutate.py`.",
            "",
            "| taken out | where | test that fails |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def write() -> None:
    """Put the section into the page: in its place, or at the end."""
    text = PAGE.read_text()
    before, heading, rest = text.partition(HEADING)
    _, following, after = rest.partition("\n## ") if heading else ("", "", "")
    kept = f"\n## {after}" if following else ""
    PAGE.write_text(f"{before.rstrip()}\n\n{section()}{kept}")


def run(wanted: Sequence[str]) -> int:
    """Apply each mutation that is wanted and run its test; how many were not noticed."""
    chosen = [one for one in table() if not wanted or any(word in str(one) for word in wanted)]
    if not chosen:
        print(f"no mutation has {' or '.join(wanted)} in its file, its line, its test or what it takes out")
        return 1
    with tempfile.TemporaryDirectory(prefix="sluicegate-mutations-") as folder:
        whole = Path(folder) / "whole"
        _copy(whole)
        sound, said = _pytest(whole, sorted({mutation.test for mutation in chosen}))
        if sound != 0:
            print(f"the tests do not pass as it is:\n{said}")
            return 1
    survived = 0
    for number, mutation in enumerate(chosen, 1):
        begun = time.monotonic()
        verdict = _verdict(mutation)
        survived += verdict != NOTICED
        took = time.monotonic() - begun
        print(f"{number:3}/{len(chosen)} {verdict:10} {took:5.1f} s  {mutation.file}: {mutation.out}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} noticed")
    return survived


def _verdict(mutation: Mutation) -> str:
    """Whether the test fails, by its own judgement, with the mutation in a fresh copy of the tree. A test that
    did not come to judge, for its set-up broke, has shown nothing."""
    with tempfile.TemporaryDirectory(prefix="sluicegate-mutation-") as folder:
        tree = Path(folder) / "tree"
        _copy(tree)
        path = tree / mutation.file
        path.write_text(mutation.applied(path.read_text()))
        if mutation.file.startswith(BUNDLE):  # an unsealed bundle is refused whatever it says
            _python(tree, "tests/policy/seal_bundle.py").check_returncode()
        code, said = _pytest(tree, [mutation.test])
        if code == 0:
            return SURVIVED
        failed = code == 1 and any(line.startswith(f"FAILED {mutation.test}") for line in said.splitlines())
        return NOTICED if failed else NO_VERDICT


def _copy(tree: Path) -> None:
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED))


def _pytest(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    done = _python(tree, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests)
    return done.returncode, done.stdout + done.stderr


def _python(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def main(arguments: list[str]) -> int:
    """Run, write or check; the exit code."""
    match arguments:
        case ["run", *wanted]:
            return 1 if run(wanted) else 0
        case ["write"]:
            write()
            return 0
        case ["check"]:
            for fault in (faults := list(stale())):
                print(fault, file=sys.stderr)
            return 1 if faults else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
