"""Print the folder for a test run's temporary files: one in memory where that will do, else the usual one.

mktemp -d "$(python tools/scratch.py)/run-XXXXXX"
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
NEEDED = 6 << 30  # bytes: several times what a run of the tests leaves lying


def folder() -> Path:
    """Where temporary files are best put. Whoever names a place by TMPDIR gets that."""
    usual = Path(tempfile.gettempdir())
    return usual if "TMPDIR" in os.environ or not _fit(MEMORY) else MEMORY


def _fit(place: Path) -> bool:
    """Whether there is room, and programs may be run from there: a container's has 64 MB and forbids it."""
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        return False
    runs = not os.statvfs(place).f_flag & os.ST_NOEXEC
    return runs and min(shutil.disk_usage(place).free, _available()) >= NEEDED


def _available() -> int:
    """Bytes of memory that are free or can be freed; 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    told = {name: value.split() for name, value in (line.split(":", 1) for line in lines)}
    return int(told.get("MemAvailable", ["0"])[0]) * 1024


if __name__ == "__main__":
    print(folder())
