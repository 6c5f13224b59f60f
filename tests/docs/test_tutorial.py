"""The tutorial is run as it stands: every `sh` block in order, in one shell, in a fresh home, with real
processes; and every line that the page shows must be among what the commands print, in that order.

README's quick start is too long a run for a test of its own, and says the same: each of its commands must
be one that the real command line takes, and one that the tutorial runs.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.docs.pages import README, ROOT, TUTORIAL, Block, blocks, commands, parse

# What separates the output of one block from that of the next.
MARK = "@@ block"
PATIENCE = 300  # seconds; a quiet machine needs a tenth


def steps(page: Path) -> list[tuple[Block, Block | None]]:
    """The page's commands, each block with the output that the page shows below it."""
    found = blocks(page.read_text())
    following = [*found[1:], None]
    return [
        (block, shown if shown is not None and shown.language == "text" else None)
        for block, shown in zip(found, following, strict=True)
        if block.language == "sh"
    ]


def script(wanted: Sequence[tuple[Block, Block | None]]) -> str:
    """One script of all blocks: what one sets, the next one has. It ends at the first command that fails."""
    parts = ["set -euo pipefail"]
    for number, (block, _) in enumerate(wanted):
        parts += [f"echo '{MARK} {number}'", block.text.rstrip()]
    return "\n".join([*parts, f"echo '{MARK} {len(wanted)}'", ""])


def flat(line: str) -> str:
    """A line with every run of blanks as one: tables are tab-separated in a pipe, aligned on the page."""
    return " ".join(line.split())


def missing(shown: str, printed: str) -> str | None:
    """The first line of the page that was not printed after the ones before it; None if all were.

    `...` on a line of its own stands for any lines, inside a line for anything.
    """
    lines = iter(flat(line) for line in printed.splitlines())
    for line in shown.splitlines():
        wanted = flat(line)
        if wanted in ("", "..."):
            continue
        pattern = re.compile(".*".join(re.escape(piece.strip()) for piece in wanted.split("...")))
        if not any(pattern.fullmatch(candidate) for candidate in lines):
            return line
    return None


def free_port() -> int:
    """A port `p` of loopback such that `p` and `p + 10` are free, below the ephemeral ones."""
    for _ in range(200):
        base = random.randrange(20_000, 32_000)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", base))
                second.bind(("127.0.0.1", base + 10))
            except OSError:
                continue
            return base
    raise RuntimeError("no free ports on loopback")


def run(text: str, folder: Path) -> tuple[int, str]:
    """Run a script in a folder that looks like the repository's root; its exit code and all it printed."""
    (folder / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_")}
    environment |= {
        "SLUICEGATE_HOME": str(folder / "home"),
        "PORT": str(free_port()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # Both outputs go into one file: unbuffered, they are in the order in which they were printed.
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    printed = folder / "printed"
    with printed.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-c", text],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(PATIENCE)
        finally:
            # Whatever the page started and did not end is in the shell's own process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(30)
    return code, printed.read_text()


@pytest.mark.slow
@pytest.mark.xdist_group("pages")
def test_tutorial_does_what_it_shows(tmp_path: Path) -> None:
    wanted = steps(TUTORIAL)
    assert len(wanted) > 12
    assert sum(shown is not None for _, shown in wanted) > 12
    code, printed = run(script(wanted), tmp_path)
    outputs = re.split(rf"^{MARK} \d+\n", printed, flags=re.MULTILINE)[1:]
    assert code == 0, f"the block on line {wanted[len(outputs) - 1][0].line} failed with {code}:\n{outputs[-1]}"
    assert len(outputs) == len(wanted) + 1
    wrong = [
        f"the block on line {block.line} did not print {line!r}, but:\n{output}"
        for (block, shown), output in zip(wanted, outputs, strict=False)
        if shown is not None and (line := missing(shown.text, output)) is not None
    ]
    assert not wrong, "\n".join(wrong)
    # Nothing of the source that is masked or not sent is in the file that the page pulls.
    pulled = (tmp_path / "visits.parquet").read_bytes()
    assert b"patient_name" not in pulled
    assert b"citizen_id" not in pulled
    assert not (tmp_path / "again.parquet").exists()


def test_readme_is_a_subset_of_the_tutorial() -> None:
    (quick_start,) = (block for block in blocks(README.read_text()) if block.language == "sh")
    used = [(words, parse(words)) for words in commands(quick_start.text)]
    assert len(used) > 8
    taught = {parse(words) for block, _ in steps(TUTORIAL) for words in commands(block.text)}
    assert {name for _, name in used} <= taught


def test_every_command_of_the_tutorial_parses() -> None:
    names = [parse(words) for block, _ in steps(TUTORIAL) for words in commands(block.text)]
    assert names[:2] == ["init", "source bind"]


@pytest.mark.parametrize(
    "wrong", ["pul a-1 --out x", "pull a-1", "pull a-1 --out x --output yaml", "contract link f", "request a/b --as me"]
)
def test_a_wrong_command_would_be_noticed(wrong: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such command|missing|invalid value|is not one of"):
        parse(wrong.split())


def test_a_line_that_is_not_printed_would_be_noticed() -> None:
    printed = "DATASET\tSHARED\nhealth/visits\tconditional\nready at 127.0.0.1:7450\n"
    assert missing("DATASET SHARED\n...\nready at 127.0.0.1:...", printed) is None
    assert missing("ready at ...\nDATASET SHARED", printed) == "DATASET SHARED"
    assert missing("health/visits unconditional", printed) == "health/visits unconditional"
    assert missing("ready at 127.0.0.1:...8", printed) == "ready at 127.0.0.1:...8"


def test_commands_are_found_in_shell() -> None:
    text = 'sluicegate up --port ${P:-1} 2> log & # run\na=$(sluicegate approve "$r" \\\n  --yes) || echo sluicegate\n'
    assert list(commands(text)) == [["up", "--port", "1"], ["approve", "$r", "--yes"]]
