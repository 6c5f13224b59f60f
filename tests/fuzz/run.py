"""Fuzz every entrance for a while, guided by coverage where atheris is installed.

    python -m tests.fuzz.run --seconds 12                 each target for so long
    python -m tests.fuzz.run --seconds 600 contract token

Half of the inputs spoil values inside a good example, half its bytes. Each target runs in a process of
its own with bounded memory; an input that takes more than five seconds is a find. What is found is
written to `tests/fuzz/corpus/<target>/`, where every ordinary test run tries it again, and the exit
code is 1. Prints how many inputs were tried.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

MEMORY = 4 << 30  # bytes of address space; the libraries alone map one and a half gigabytes
SLOWEST = 5.0  # seconds for one input

try:
    import atheris
except ImportError:
    atheris = None
watched = atheris is not None and "--inside" in sys.argv
with atheris.instrument_imports(include=["contracts", "connectors", "exchange"]) if watched else nullcontext():
    from tests.fuzz.targets import CORPUS, TARGETS, attack, kept

from tests.fuzz.mutating import spoilt  # noqa: E402 - after what is instrumented


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz each target in a process of its own; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="for each target")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(sorted(TARGETS))}; default all")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if chosen.inside:
        _inside(chosen.targets[0], chosen.seconds)
        return 0
    print(f"guided by coverage: {'yes, atheris' if atheris else 'no, atheris is not installed'}", flush=True)
    failed = False
    for name in chosen.targets or sorted(TARGETS):
        with tempfile.TemporaryDirectory() as folder:
            last = Path(folder) / "last"
            command = [sys.executable, "-m", "tests.fuzz.run", "--inside", "--seconds", str(chosen.seconds), name]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=_here(last))
            print(f"{name}: {done.stdout.strip() or 'nothing was counted'}", flush=True)
            if done.returncode:
                failed = True
                print(done.stderr[-4000:], _keep(name, last), flush=True)
    return int(failed)


def _here(last: Path) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "FUZZ_LAST": str(last)}


def _keep(name: str, last: Path) -> str:
    if not last.exists():
        return "no input was left behind"
    data = last.read_bytes()
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return f"\nthe input is kept as {path}"


def _inside(name: str, seconds: float) -> None:
    """Fuzz one target in this process. The input at hand is in a mapped file, so that it outlives a crash."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    target, examples = TARGETS[name], kept(TARGETS[name])
    last, end, tried = Path(os.environ["FUZZ_LAST"]), time.monotonic() + seconds, 0
    chance = random.Random(os.urandom(8))

    def once(data: bytes) -> None:
        nonlocal tried
        tried += 1
        last.write_bytes(data)
        began = time.monotonic()
        attack(target, data)
        now = time.monotonic()
        assert now - began < SLOWEST, f"one input took {now - began:.1f} s"
        if now >= end:
            print(f"{tried} inputs", flush=True)
            os._exit(0)

    if atheris is None:
        while True:
            once(spoilt(chance.choice(examples), chance))

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        if seed % 2:
            return spoilt(data or examples[0], random.Random(seed))[:most]
        return atheris.Mutate(data, most)

    seeds = last.with_name("seeds")
    seeds.mkdir()
    for number, example in enumerate(examples):
        (seeds / str(number)).write_bytes(example)
    options = [f"-max_len={4 * max(map(len, examples))}", "-rss_limit_mb=0", "-timeout=60", str(seeds)]
    atheris.Setup([sys.argv[0], *options], once, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
