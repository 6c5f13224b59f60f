"""Facts about the machine and the libraries that a figure was measured with, and the stopwatch."""

from __future__ import annotations

import math
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = (
    "polars",
    "polars-hash",
    "pyarrow",
    "duckdb",
    "pandas",
    "grpcio",
    "SQLAlchemy",
    "regopy",
    "blake3",
    "cryptography",
)


def facts() -> dict[str, object]:
    """What a reader needs to judge a figure; nothing that tells one machine from another of its kind."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(_meminfo("MemTotal") / 1e6, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def load() -> float:
    """Processes that wanted to run, on average over the last minute: above the number of cores, others
    were at work too."""
    return round(os.getloadavg()[0], 2)


def peak_rss(pid: int) -> int:
    """The most memory that a process had resident since it began, or since `reset_peak`, in bytes."""
    return _status(pid, "VmHWM")


def rss(pid: int) -> int:
    """Resident memory of a process now, in bytes."""
    return _status(pid, "VmRSS")


def anonymous(pid: int) -> int:
    """Of that, what is the process's own: not pages of files, which the kernel takes back when it likes."""
    return _status(pid, "RssAnon")


def reset_peak(pid: int) -> None:
    """Begin to measure the peak anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process took so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int, key: str) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _meminfo(key: str) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1].strip() if match else platform.processor()


@dataclass(frozen=True)
class Taken:
    """The best of some rounds: seconds by the clock, and of processors, all threads together."""

    clock: float
    processor: float


def raced(works: Mapping[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, Taken], dict[str, Any]]:
    """All of them in turn, round after round, so that whoever else is at work disturbs them alike; the best of each,
    and what came out. For work in this process."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, work in works.items():
            clock, processor = time.perf_counter(), time.process_time()
            results[name] = work()
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    least = math.ulp(1.0)
    best = {
        name: Taken(max(least, min(one[0] for one in found)), max(least, min(one[1] for one in found)))
        for name, found in times.items()
    }
    return best, results


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """The median of so many times, in seconds, and what came out."""
    times, result = [], None
    for _ in range(rounds):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return max(statistics.median(times), math.ulp(1.0)), result
