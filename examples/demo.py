"""The whole story in one run: a department publishes, a company requests, masked data arrives with a
receipt that anyone can verify. `make demo`, or `python -m examples.demo [--small] [--folder DIR]`.

Every step is a command that a user would type; it is printed, run for real, and timed. The exchange
and the gateway are processes of their own on loopback, with TLS.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = ROOT / "examples" / "hospital-visits.odcs.yaml"
DATASET = "health-bureau/hospital-visits"
MARK = ".sluicegate-demo"
Row = dict[str, Any]
BOLD, DIM, RED, END = ("\033[1m", "\033[2m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 4


class Story:
    """Runs the commands of the story in one home, and remembers what they took."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.environment = os.environ | {"SLUICEGATE_HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        self.environment.pop("SLUICEGATE_PROFILE", None)

    def chapter(self, title: str) -> None:
        """A heading."""
        print(f"\n{BOLD}== {title}{END}", flush=True)

    def run(self, *words: str, fails: int = 0, only: str = "") -> str:
        """Run `sluicegate WORDS`, print what it said (or the lines in which a word of `only` stands) and
        how long it took, and demand its exit code."""
        shown = " ".join(f'"{word}"' if " " in word else word for word in words)
        print(f"{BOLD}$ sluicegate {shown}{END}", flush=True)
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "exchange.cli.main", *words],
            stdout=subprocess.PIPE,
            # On a terminal the progress bar of a pull is drawn by the command itself.
            stderr=None if sys.stderr.isatty() and words[0] == "pull" else subprocess.STDOUT,
            text=True,
            env=self.environment,
            cwd=ROOT,
            check=False,
        )
        text = done.stdout.rstrip()
        lines = aligned(text)
        shown_lines = [line for line in lines if any(word in line for word in only.split(","))] if only else lines
        print("".join(f"  {line}\n" for line in shown_lines), end="")
        took = time.monotonic() - started
        verdict = "" if done.returncode == 0 else f", refused with exit code {done.returncode}"
        print(f"{DIM}  [{took:.2f} s{verdict}]{END}", flush=True)
        if done.returncode != fails:
            raise SystemExit(f"{RED}the demo expected exit code {fails}, not {done.returncode}:{END}\n{text}")
        return text

    def ask(self, *words: str) -> Any:
        """What a command answers as JSON; not part of the story, so not printed."""
        done = subprocess.run(
            [sys.executable, "-m", "exchange.cli.main", *words, "--output", "json"],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=ROOT,
            check=True,
        )
        return json.loads(done.stdout)


def width(text: str) -> int:
    """Columns of a terminal that a text takes: two for a Chinese character."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def aligned(text: str) -> list[str]:
    """Tab-separated tables as columns, everything else as it is."""
    lines = text.splitlines()
    out: list[str] = []
    block: list[list[str]] = []

    def flush() -> None:
        widths = [
            min(44, max(width(row[i]) for row in block if i < len(row))) for i in range(max(map(len, block), default=0))
        ]
        for row in block:
            cells = (cell if len(cell) <= 44 else cell[:43] + "…" for cell in row)
            out.append("  ".join(cell + " " * (widths[i] - width(cell)) for i, cell in enumerate(cells)).rstrip())
        block.clear()

    for line in lines:
        if "\t" in line:
            block.append(line.split("\t"))
        else:
            flush()
            out.append(line)
    flush()
    return out


def free_port() -> int:
    """A port such that it and the one 10 above are free; the exchange takes the first, gateways the second."""
    for base in range(7450, 9000, 25):
        with contextlib.ExitStack() as stack:
            try:
                for port in (base, base + 10):
                    taken = stack.enter_context(socket.socket())
                    taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise SystemExit("no free ports on loopback")


@contextlib.contextmanager
def town(story: Story) -> Iterator[None]:
    """`sluicegate up` in the background until the story ends."""
    print(f"{BOLD}$ sluicegate up &{END}", flush=True)
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "exchange.cli.main", "up"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=story.environment,
        cwd=ROOT,
    )
    assert process.stderr is not None
    try:
        for _ in range(2):
            line = process.stderr.readline().rstrip()
            print(f"  {line}", flush=True)
            if "ready at" not in line:
                raise SystemExit(f"{RED}the exchange did not start:{END} {line}{process.stderr.read()}")
        print(f"{DIM}  [{time.monotonic() - started:.2f} s]{END}", flush=True)
        yield
    finally:
        process.terminate()
        process.wait(30)


def prepare(folder: Path) -> None:
    """An empty folder for the story; only ever empties one that it made itself."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARK).is_file():
            raise SystemExit(f"{folder} holds something that is not this demo's; choose another with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("made by examples.demo; may be deleted\n")


def ten_rows(source: Path, home: Path, pulled: Path, receipt: dict[str, Any]) -> list[tuple[Row, Row, bool]]:
    """Ten of the bureau's rows; the same as they are in the release that was pulled; whether they left.

    The release's order is secret, so nothing in it says which row was which. The bureau can tell, and only
    the bureau: it masks the ten again with its gateway's own key, and looks them up in the pulled file. A
    row that is not there was held back, as its class was too small. Columns that are not sent are None.
    """
    import polars as pl

    from connectors import sources
    from connectors.keys import KeyRing, MasterKey
    from connectors.masks.masking import masked
    from contracts import odcs, plan, standard
    from exchange import config

    contract = odcs.load(CONTRACT.read_bytes()).contract
    opened = sources.open(sources.SourceSettings(path=str(source), format="parquet"), contract.fields)
    terms = plan.terms_for(contract, receipt["purpose"])
    compiled = plan.compile(terms, contract, opened.schema(), standard.load("desensitisation/1"))
    settings = config.load(home / "gateways" / "health-bureau-1" / "gateway.toml", config.GatewaySettings)
    with contextlib.closing(sqlite3.connect(f"{settings.state.absolute().as_uri()}?mode=ro", uri=True)) as state:
        salts = dict(state.execute("SELECT agreement_digest, salt FROM salts"))
    secrets = KeyRing(MasterKey.load(settings.master_key), salts.__getitem__).secrets(receipt["agreementDigest"])
    before = opened.scan(list(opened.schema())).collect()
    before = before.gather_every(max(1, before.height // 10)).head(10)
    after = masked(before.lazy(), compiled, secrets.of_release(receipt["release"])).collect()
    released = pl.read_parquet(pulled).unique().with_columns(left=True)
    left = after.join(released, on=after.columns, how="left", nulls_equal=True, maintain_order="left")["left"]
    return [
        (old, {name: new.get(name) for name in old}, bool(there))
        for old, new, there in zip(before.rows(named=True), after.rows(named=True), left, strict=True)
    ]


def before_and_after(source: Path, home: Path, pulled: dict[str, Any]) -> None:
    """Show them, what is never sent included."""
    rows = ten_rows(source, home, pulled["path"], pulled["receipt"])
    if not any(left for _, _, left in rows):
        raise SystemExit(f"{RED}none of ten rows is in the release{END}")
    names = list(rows[0][0])

    def table(lines: list[list[str]]) -> None:
        for line in aligned("\n".join("\t".join(line) for line in lines)):
            print(f"    {line}")

    print("  in the bureau")
    table([names, *([str(before[name]) for name in names] for before, _, _ in rows)])
    print(f"  in {pulled['path'].name}, as {pulled['who']} has it (- is not sent)")
    held = "held back: too few people like this"
    shown = [["-" if value is None else str(value) for value in after.values()] for _, after, _ in rows]
    table([names, *(line if left else [held] for line, (_, _, left) in zip(shown, rows, strict=True))])


def flip_a_digit(papers: Path, out: Path) -> None:
    """A copy of the papers in which one bit of the receipt's row count is another."""
    raw = bytearray(papers.read_bytes())
    count = raw.index(b'"rowsOut":', raw.index(b'"receipt":'))
    raw[raw.index(b",", count) - 1] ^= 1
    out.write_bytes(raw)


def tell(folder: Path, *, small: bool) -> None:
    """The story."""
    began = time.monotonic()
    prepare(folder)
    story = Story(folder)
    data, out = folder / "data", folder / "received"
    out.mkdir()
    story.chapter("A city, made up: residents, hospital visits")
    size = ["--residents", "20000", "--visits", "100000"] if small else []
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "examples.city", "--out", str(data), *size],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    source = data / "visits.parquet"
    print(f"  {source.relative_to(folder.parent)}: {source.stat().st_size / 1e6:.0f} MB")
    print(f"{DIM}  [{time.monotonic() - started:.2f} s]{END}")

    story.chapter("An exchange, a department with its own gateway, a company, the disease control centre")
    story.run("init", "--port", str(free_port()))
    story.run("source", "bind", "hospital-visits", str(source))
    with town(story):
        share(story, source)
        planner = pull_as(story, "planner", "transport-planning", out / "visits-planning.parquet", ["steward"])
        story.chapter("The disease control centre gets its own release of the same dataset")
        analyst = pull_as(story, "analyst", "outbreak-monitoring", out / "visits-outbreak.parquet", ["steward", "dpo"])
        story.chapter("What became of ten rows: only the bureau can tell, with its gateway's key")
        before_and_after(source, story.home, analyst)
        prove(story, out, planner)
        stop(story, planner["agreement"], out)
    summary([planner, analyst], folder, time.monotonic() - began)


def share(story: Story, source: Path) -> None:
    """The steward tries the contract on the data, and publishes it."""
    contract = str(CONTRACT.relative_to(ROOT))
    story.chapter("The health bureau publishes")
    story.run("contract", "lint", contract)
    story.run("contract", "test", contract, "--data", str(source))
    story.run("publish", contract, "--as", "steward")
    story.chapter("A company looks for data")
    story.run("search", "hospital", "--as", "planner")
    story.run("show", DATASET, "--as", "planner")
    story.chapter("It may not have it for marketing")
    story.run("request", DATASET, "--purpose", "marketing", "--reason", "find customers", "--as", "planner", fails=5)


def pull_as(story: Story, who: str, purpose: str, path: Path, approvers: list[str]) -> dict[str, Any]:
    """One consumer: request, approvals, pull."""
    story.chapter(f"{who} asks for {purpose}")
    asked = story.run(
        "request", DATASET, "--purpose", purpose, "--reason", f"needed for {purpose}", "--as", who
    ).splitlines()[0]
    story.run("requests", asked, "--as", who)
    for number, approver in enumerate(approvers):
        story.run("approve", asked, "--yes", "--as", approver, only="approved,agreements/" if number else "")
    agreement = story.ask("requests", asked, "--as", who)["agreement"]
    story.chapter(f"{who} pulls")
    said = story.run("pull", agreement, "--out", str(path), "--as", who)
    speed = re.search(r"([0-9,]+) rows/s", said)
    assert speed is not None
    newest = story.ask("receipts", "--as", who)[0]
    receipt = newest["receipt"]["payload"]
    return {
        "who": who,
        "agreement": agreement,
        "transfer": newest["name"],
        "receipt": receipt,
        "path": path,
        "speed": int(speed[1].replace(",", "")),
    }


def prove(story: Story, out: Path, pulled: dict[str, Any]) -> None:
    """Receipt, agreement and ledger, verified offline; one flipped bit is caught."""
    path: Path = pulled["path"]
    papers = path.with_name(path.name + ".receipt.json")
    story.chapter("Receipt, agreement, ledger and data: verified offline")
    story.run("verify", str(papers), "--data", str(path), "--as", "planner")
    story.run("ledger", "--limit", "6", "--as", "planner")
    story.run("evidence", "export", pulled["transfer"], "--out", str(out / "evidence.json"), "--as", "steward")
    story.chapter("One flipped bit is caught: in the receipt, in the file")
    forged, damaged = out / "forged.receipt.json", out / "damaged.parquet"
    flip_a_digit(papers, forged)
    story.run("verify", str(forged), "--as", "planner", fails=8, only="FAILED,STAND")
    flip_a_value(path, damaged)
    story.run("verify", str(papers), "--data", str(damaged), "--as", "planner", fails=8, only="FAILED,STAND")


def flip_a_value(path: Path, out: Path) -> None:
    """A copy of a Parquet file in which one value of one row is another."""
    import polars as pl

    frame = pl.read_parquet(path)
    name = next(column for column, kind in frame.schema.items() if kind == pl.String)
    first = frame[name][0] or ""
    other = first[:-1] + chr(ord(first[-1]) ^ 1)
    frame.with_columns(
        pl.when(pl.row_index() == 0).then(pl.lit(other)).otherwise(pl.col(name)).alias(name)
    ).write_parquet(out)


def stop(story: Story, agreement: str, out: Path) -> None:
    """A suspended agreement serves nobody."""
    story.chapter("The bureau suspends the agreement; a pull is refused")
    until = (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%SZ")
    story.run("suspend", agreement, "--reason", "complaint under review", "--until", until, "--as", "steward")
    story.run("pull", agreement, "--out", str(out / "again.parquet"), "--as", "planner", fails=5)


def summary(pulls: list[dict[str, Any]], folder: Path, seconds: float) -> None:
    """What left, what was met, where it lies."""
    print(f"\n{BOLD}== Summary{END}")
    for pulled in pulls:
        receipt = pulled["receipt"]
        bounds = receipt["bounds"]
        least = "at least " if bounds["atLeast"] else ""
        print(
            f"  {pulled['who']}: {receipt['rowsOut']:,} rows left of {receipt['rowsIn']:,}, "
            f"{receipt['rowsSuppressed']:,} suppressed; k {least}{bounds['kMet']} (required {bounds['kRequired']})"
            + "".join(
                f", l of {name} {met} (required {bounds['lRequired'][name]})" for name, met in bounds["lMet"].items()
            )
            + f"; {pulled['speed']:,} rows/s from request for a ticket to verified file"
        )
        print(f"    {pulled['path']} and its .receipt.json")
    print(f"  everything lies in {folder}; the whole story took {seconds:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a tenth of the city")
    parser.add_argument("--folder", type=Path, default=ROOT / "demo")
    arguments = parser.parse_args()
    tell(arguments.folder.absolute(), small=arguments.small)
