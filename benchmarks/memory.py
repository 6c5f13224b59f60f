"""The gateway's memory: R1, and R1 with ten times the rows, each pulled to Parquet from a fresh gateway."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import data, machine, masks, stage
from benchmarks.results import Aim, Result, Table
from benchmarks.workers import Worker

ALLOWED = 500 << 20  # bytes more with ten times the rows


@dataclass(frozen=True)
class Scale:
    """Rows of the two runs."""

    rows: tuple[int, int] = (5_000_000, 50_000_000)


FULL, QUICK = Scale(), Scale((300_000, 1_000_000))


@dataclass
class _Watched:
    """Looks at a process every 50 ms: its own memory and mapped pages of files, each at their highest."""

    pid: int
    anonymous: int = 0
    resident: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> _Watched:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.anonymous = max(self.anonymous, machine.anonymous(self.pid))
            self.resident = max(self.resident, machine.rss(self.pid))


def run(folder: Path, *, quick: bool) -> Result:
    """The benchmark, in an empty folder. The files of the larger run are removed as soon as it is over."""
    scale = QUICK if quick else FULL
    runs = [_run(folder / f"run-{rows}", rows) for rows in scale.rows]
    small, large = (found["peak"] for found in runs)
    table = Table(
        "Memory of the gateway while it makes and serves a release",
        ("rows", "peak MB", "of that its own, MB", "before the pull, MB", "pull s", "first byte s", "longest wait s"),
        note="Peak is the kernel's high-water mark of resident memory, mapped pages of the spool included; its own "
        "memory and the longest wait between two batches are sampled. The consumer writes Parquet.",
    )
    for found in runs:
        table.rows.append(
            (
                f"{found['rows']:,}",
                *(f"{found[key] / 1e6:.0f}" for key in ("peak", "own", "before")),
                *(f"{found[key]:.2f}" for key in ("seconds", "first_byte", "longest_wait")),
            )
        )
    more = large - small
    return Result(
        name="memory",
        title="Memory of the gateway",
        setting={"rows": list(scale.rows)},
        figures={"runs": runs, "bytes_more": more},
        tables=[table],
        checks={
            "every row arrived, and its receipt was acknowledged": all(found["whole"] for found in runs),
        },
        aims=[
            Aim(
                f"peak with {scale.rows[1] / scale.rows[0]:g} times the rows",
                "at most 500 MB more",
                f"{more / 1e6:+.0f} MB",
                more <= ALLOWED,
            )
        ],
    )


def _run(folder: Path, rows: int) -> dict[str, Any]:
    folder.mkdir()
    people, out = folder / "people.parquet", folder / "pulled.parquet"
    data.write_people(people, rows)
    try:
        with stage.city(folder / "home") as city:
            document = (masks.CONTRACTS / "people.odcs.yaml").read_bytes()
            dataset = city.publish(document, people)
            agreement = city.agree(stage.profile(1), dataset, masks.PURPOSE)
            gateway = city.pid(stage.GATEWAY)
            before = machine.rss(gateway)
            with Worker("pull", city.home.root, stage.profile(1)) as puller, _Watched(gateway) as watched:
                answer = puller.ask(agreement=agreement, to=str(out))
            return {
                "rows": rows,
                "peak": machine.peak_rss(gateway),
                "own": watched.anonymous,
                "before": before,
                "whole": answer["rows"] + answer["suppressed"] == rows,
                **{key: answer[key] for key in ("seconds", "first_byte", "longest_wait", "cpu")},
            }
    finally:
        for file in (people, out):
            file.unlink(missing_ok=True)
