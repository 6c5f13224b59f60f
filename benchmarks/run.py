"""Run the benchmarks and write down what they found.

    python -m benchmarks.run                 everything, at full size
    python -m benchmarks.run --quick         everything, small: that it works, not how fast
    python -m benchmarks.run --only control  one of transfer, memory, control, policy, techniques, judging, combining

Each writes `benchmarks/results/<name>.json` and `<name>.md`. Full size needs about 8 GB of disk in the
temporary folder and 12 GB of memory. `SLUICEGATE_OPA` and `SLUICEGATE_POSTGRES_URL` name real servers for
the control plane; without them those lines are left out. The exit code is 1 when something that was
checked does not hold; a missed aim is no failure, it is a figure.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import combining, control, judging, machine, memory, policy, results, techniques, transfer
from benchmarks.results import Result

BENCHMARKS: dict[str, Callable[..., Result]] = {
    "transfer": transfer.run,
    "memory": memory.run,
    "control": control.run,
    "policy": policy.run,
    "techniques": techniques.run,
    "judging": judging.run,
    "combining": combining.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: that it works, not how fast")
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="one benchmark; may be repeated")
    parser.add_argument("--out", type=Path, default=results.FOLDER, help="folder for the results")
    chosen = parser.parse_args(arguments)
    sound = True
    for name in chosen.only or list(BENCHMARKS):
        began, load = time.perf_counter(), machine.load()
        result = run(name, quick=chosen.quick)
        result.setting |= {"quick": chosen.quick, "load_before": load}
        result.write(chosen.out)
        sound = sound and all(result.checks.values())
        print(result.markdown(), f"\n({name}: {time.perf_counter() - began:.0f} s)\n", flush=True)
    return 0 if sound else 1


def run(name: str, *, quick: bool) -> Result:
    """One benchmark, in a temporary folder of its own that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"sluicegate-bench-{name}-"))
    try:
        return BENCHMARKS[name](folder, quick=quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
