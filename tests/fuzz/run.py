"""Fuzz every entrance for a while, guided by coverage where atheris is installed.

    python -m tests.fuzz.run --seconds 12                 each target for so long
    python -m tests.fuzz.run --seconds 600 contract token
    python -m tests.fuzz.run --inputs 50000 --plain --record file      so many, unguided and so faster
    python -m tests.fuzz.run --owed --plain               what the project's million inputs still lack

Half of the inputs spoil values inside a good example, half its bytes. Each target runs in a process of
its own with bounded memory, two at a time; `watching` says what is a find. What is found is written to
`tests/fuzz/corpus/<target>/`, where every ordinary test run tries it again, and the exit code is 1. Prints
how many inputs were tried, the slowest and the most memory that one took; `--record` adds that to
`tests/fuzz/history.tsv`, where the project counts what it tried in its life.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import mmap
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

MEMORY = 4 << 30  # bytes of address space beyond what the libraries reserved when they were loaded
HISTORY = Path(__file__).parent / "history.tsv"
ROOT = Path(__file__).resolve().parents[2]
LONGEST = 4 << 20  # bytes of one input
BATCH = 25_000  # inputs of one process, when what is owed is worked off: a count is not lost with the next one
# A million inputs in the project's life, most of them where one is cheap and none where there are few.
SHARES = {
    "token": 300_000,
    "ticket": 150_000,
    "ledger": 150_000,
    "envelope": 100_000,
    "file": 100_000,
    "calls": 50_000,
    "gateway": 50_000,
    "contract": 50_000,
    "evidence": 50_000,
}

try:
    import atheris
except ImportError:
    atheris = None
if "--plain" in sys.argv:
    atheris = None
watched = atheris is not None and "--inside" in sys.argv
with atheris.instrument_imports(include=["contracts", "connectors", "exchange"]) if watched else nullcontext():
    from tests.fuzz.targets import CORPUS, TARGETS, attack, kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz each target in a process of its own; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="for each target")
    parser.add_argument("--inputs", type=int, default=10**9, help="for each target, at the most")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--plain", action="store_true", help="not guided by coverage, which takes most of the time")
    parser.add_argument("--record", action="store_true", help=f"add the counts to {HISTORY.name}")
    parser.add_argument("--owed", action="store_true", help="until each target has had its share of the million")
    parser.add_argument("--guided", action="store_true", help="fail where atheris is not installed")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(sorted(TARGETS))}; default all")
    chosen = parser.parse_args(arguments)
    if chosen.guided and atheris is None:
        parser.error("atheris is not installed here")
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if chosen.inside:
        _inside(chosen.targets[0], chosen.seconds, chosen.inputs)
        return 0
    print(f"guided by coverage: {'yes, atheris' if atheris else 'no'}", flush=True)
    run = _work_off if chosen.owed else _outside
    with ThreadPoolExecutor(chosen.jobs) as pool:
        clean = list(pool.map(lambda name: run(name, chosen), chosen.targets or sorted(TARGETS)))
    if chosen.record or chosen.owed:
        print(f"{tried().total():,} of {sum(SHARES.values()):,} inputs in the project's life", flush=True)
    return int(not all(clean))


def tried() -> Counter[str]:
    """How many inputs each target had in the project's life."""
    count: Counter[str] = Counter()
    for line in HISTORY.read_text().splitlines()[1:]:
        _, name, _, inputs, *_ = line.split("\t")
        count[name] += int(inputs)
    return count


def _work_off(name: str, chosen: argparse.Namespace) -> bool:
    """Run one target until it has had its share; whether nothing was found."""
    while (owed := SHARES[name] - tried()[name]) > 0:
        rest = {"seconds": 10.0**6, "inputs": min(owed, BATCH), "record": True}
        if not _outside(name, argparse.Namespace(**{**vars(chosen), **rest})):
            return False
    return True


def _outside(name: str, chosen: argparse.Namespace) -> bool:
    """Run one target's process and say what came of it; whether nothing was found."""
    with tempfile.TemporaryDirectory() as folder:
        last = Path(folder) / "last"
        way = "--guided" if atheris else "--plain"
        words = ["--seconds", str(chosen.seconds), "--inputs", str(chosen.inputs), way]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.run", "--inside", *words, name],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=folder,
            env=_here(last),
        )
        said = done.stdout.splitlines()
        counted = json.loads(said[-1]) if said and said[-1].startswith("{") else {"inputs": 0}
        told = ", ".join(f"{value} {what}" for what, value in counted.items())
        print(f"{name}: {told if not done.returncode else 'a find'}", flush=True)
        if chosen.record and counted["inputs"]:
            _record(name, counted)
        if done.returncode:
            print(done.stderr[-4000:], _keep(name, last), flush=True)
        return not done.returncode


def _record(name: str, counted: dict[str, float]) -> None:
    day = dt.datetime.now(dt.UTC).date().isoformat()
    row = (day, name, "guided" if atheris else "plain", *counted.values())
    with HISTORY.open("a") as file:
        file.write("\t".join(map(str, row)) + "\n")


def _here(last: Path) -> dict[str, str]:
    # In whole paths: the process runs in a folder of its own, and would be unguided without a word.
    named = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    path = os.pathsep.join([str(ROOT), *(str(Path(one).resolve()) for one in named)])
    # Homes and spools of what is fuzzed go with the folder, however its process ends.
    return {**os.environ, "PYTHONPATH": path, "FUZZ_LAST": str(last), "TMPDIR": str(last.parent)}


def _keep(name: str, last: Path) -> str:
    raw = last.read_bytes() if last.exists() else b""
    data = raw[8 : 8 + int.from_bytes(raw[:8], "little")]
    if not data:
        return "\nno input was left behind"
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return f"\nthe input is kept as {path}"


def _inside(name: str, seconds: float, most: int) -> None:
    """Fuzz one target in this process. The input at hand is in a mapped file, so that it outlives a crash."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    target = TARGETS[name]
    examples, watch = kept(target), target.watch()
    for example in examples:  # what is made once, is made before anything is measured
        attack(target, example)
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    watch.slowest, watch.largest = 0.0, 0
    path = Path(os.environ["FUZZ_LAST"])
    path.write_bytes(bytes(LONGEST))
    with path.open("r+b") as file:
        last = mmap.mmap(file.fileno(), LONGEST)
    end, tried = time.monotonic() + seconds, 0
    chance = random.Random(os.urandom(8))

    def once(data: bytes) -> None:
        nonlocal tried
        tried += 1
        last[:8] = len(data).to_bytes(8, "little")
        last[8 : 8 + len(data)] = data
        attack(target, data)
        if tried >= most or time.monotonic() >= end:
            told = {
                "inputs": tried,
                "ms of the slowest": round(watch.slowest * 1000),
                "MiB of the largest": watch.largest >> 20,
                "MiB in the end": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
            }
            print(json.dumps(told), flush=True)
            os._exit(0)

    if atheris is None:
        while True:
            once(target.spoil(chance.choice(examples), chance)[: LONGEST - 8])

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        if seed % 2:
            return target.spoil(data or examples[0], random.Random(seed))[:size]
        return bytes(atheris.Mutate(data, size))

    seeds = path.with_name("seeds")
    seeds.mkdir()
    for number, example in enumerate(examples):
        (seeds / str(number)).write_bytes(example)
    options = [f"-max_len={4 * max(map(len, examples))}", "-rss_limit_mb=0", "-timeout=60", str(seeds)]
    atheris.Setup([sys.argv[0], *options], once, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
