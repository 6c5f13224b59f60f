"""What long work shows while it runs: on a terminal, on standard error; nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from exchange.cli.output import console, plain

if TYPE_CHECKING:
    from rich.progress import Progress

Tell = Callable[[str], None]
Update = Callable[[int, int, int], None]  # rows, bytes, total rows


@contextmanager
def stages(first: str) -> Iterator[Tell]:
    """A spinner with the stage of the work and how long it takes. Calling what this yields names the next stage."""
    if not sys.stderr.isatty():
        yield _silent
        return
    with _spinner() as shown:
        task = shown.add_task(plain(first), total=None)
        shown.refresh()
        yield lambda stage: shown.update(task, description=plain(stage), refresh=True)


@contextmanager
def transfer(quiet: bool) -> Iterator[Update | None]:
    """First a spinner, while the gateway makes the release; from the first batch on a bar."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with ExitStack() as waiting, ExitStack() as arriving:
        shown = waiting.enter_context(_spinner())
        shown.add_task("the gateway masks and measures the release", total=None)
        shown.refresh()
        bar = _bar()
        task = bar.add_task("pull", rows=0, total=None)

        def update(rows: int, size: int, total_rows: int) -> None:
            total = int(size * total_rows / rows) if rows and total_rows else None
            bar.update(task, completed=size, total=total, rows=rows)
            if not bar.live.is_started:
                waiting.close()
                arriving.enter_context(bar)

        yield update


def _silent(_: str) -> None:
    return


def _spinner() -> Progress:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    return Progress(*columns, console=console(stderr=True), transient=True)


def _bar() -> Progress:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.fields[rows]:,} rows"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console(stderr=True), transient=True)
