"""The consumer of the benchmarks: the product's own Python client, in a process of its own."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.workers import Work
from exchange.client import Exchange
from exchange.home import Home
from exchange.pulling import Pulled


class _Arrivals:
    """When the first batch arrived, and the longest wait between two of them."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self.first = self.longest = 0.0

    def __call__(self, _rows: int, _bytes: int, _total: int) -> None:
        now = time.perf_counter()
        if self.first:
            self.longest = max(self.longest, now - self._last)
        else:
            self.first = now - self._began
        self._last = now


def puller(home: str, profile: str) -> Work:
    """Pulls a release with everything on: grant, ticket, TLS, digests, intent, receipt, acknowledgement."""
    exchange = Exchange(Home(Path(home)).profile(profile))
    kept: list[Pulled] = []

    def work(*, agreement: str, to: str | None = None) -> dict[str, Any]:
        kept.clear()
        arrivals = _Arrivals()
        pulled = exchange.pull(agreement, to=to, overwrite=True, progress=arrivals)
        kept.append(pulled)
        return {
            "rows": pulled.rows,
            "first_byte": arrivals.first,
            "longest_wait": arrivals.longest,
            "content_digest": pulled.content_digest,
            "transfer": pulled.transfer,
            "suppressed": pulled.summary()["suppressed"],
        }

    return work


def granter(home: str, *profiles: str) -> Work:
    """Asks for grants, each profile on a connection and a thread of its own, as fast as they are given."""
    clients = [Exchange(Home(Path(home)).profile(profile)) for profile in profiles]

    def work(*, agreements: list[str], each: int) -> dict[str, Any]:
        waits: list[float] = []
        transfers: list[str] = []
        lock, start = threading.Lock(), threading.Barrier(len(clients))
        failed: list[BaseException] = []

        def ask(client: Exchange, agreement: str) -> None:
            mine, names = [], []
            try:
                start.wait(30)
                for _ in range(each):
                    began = time.perf_counter()
                    names.append(client.create_transfer(agreement).name)
                    mine.append(time.perf_counter() - began)
            except BaseException as error:  # noqa: BLE001 - told below
                failed.append(error)
            with lock:
                waits.extend(mine)
                transfers.extend(names)

        began = time.perf_counter()
        threads = [
            threading.Thread(target=ask, args=pair, daemon=True) for pair in zip(clients, agreements, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        if failed:
            raise failed[0]
        return {"seconds": took, "waits": waits, "transfers": transfers, "load": machine.load()}

    return work
