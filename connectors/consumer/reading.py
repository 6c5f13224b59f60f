"""Reading the parts of a release: several streams at once, each part hashed as it comes, to be what was announced."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight as fl

from connectors import calling, dictionaries
from connectors.consumer.sinks import Sink
from connectors.dictionaries import written_out
from connectors.digest import ContentDigest, demand_sound
from contracts.errors import Reason, SluicegateError
from contracts.receipt import Intent

# progress(rows, bytes, total_rows): rows and bytes that arrived under this ticket
Progress = Callable[[int, int, int], None]


class Reading:
    """Reads parts into a sink. `rows` and `bytes` are what arrived so far."""

    def __init__(
        self,
        client: fl.FlightClient,
        sink: Sink,
        intent: Intent,
        digest: ContentDigest,
        progress: Progress | None,
        timeout: float,
    ) -> None:
        self._client, self._sink, self._intent, self._digest = client, sink, intent, digest
        self._progress, self._timeout = progress, timeout
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._waiting: deque[int] = deque()
        self._readers = 0
        self.rows = self.bytes = 0

    def all(self, offered: dict[int, fl.FlightEndpoint], parallel: int) -> None:
        """Read every part that is offered, in order, up to `parallel` at once: as many as the gateway has
        slots for."""
        self._total = sum(self._intent.parts[part].rows for part in offered)
        self._waiting = deque(sorted(offered))
        self._readers = max(1, min(parallel, len(offered)))
        if self._readers == 1:
            self._some(offered)
            return
        with ThreadPoolExecutor(self._readers, thread_name_prefix="pull") as pool:
            running = [pool.submit(self._some, offered) for _ in range(self._readers)]
        for one in running:
            one.result()

    def _some(self, offered: dict[int, fl.FlightEndpoint]) -> None:
        """Read parts until none waits, or until another reader failed: the part at hand is read to its end
        first, since the gateway may have counted it as sent. When the gateway has no slot for this reader,
        the others read on."""
        while (part := self._next_part()) is not None:
            try:
                self._one(part, offered[part])
            except SluicegateError as error:
                if error.reason is Reason.TOO_MANY_TRANSFERS and self._left_to_others(part):
                    return
                self._stop.set()
                raise
            except BaseException:
                self._stop.set()
                raise

    def _next_part(self) -> int | None:
        with self._lock:
            if self._waiting and not self._stop.is_set():
                return self._waiting.popleft()
            self._readers -= 1
            return None

    def _left_to_others(self, part: int) -> bool:
        with self._lock:
            if self._readers == 1:
                return False
            self._readers -= 1
            self._waiting.appendleft(part)
            return True

    def _one(self, part: int, endpoint: fl.FlightEndpoint) -> None:
        self._digest.open_part(part)
        options = calling.within(self._timeout, dictionaries.ACCEPT)
        reader = calling.call(lambda: self._client.do_get(endpoint.ticket, options))
        awaited = self._intent.parts[part].rows
        try:
            while (batch := _next(reader)) is not None:
                demand_sound(batch)
                awaited -= batch.num_rows
                if awaited < 0:  # before it is kept: a stream without end would fill the disk
                    raise SluicegateError(
                        Reason.DIGEST_MISMATCH, f"part {part} has more rows than the gateway announced"
                    )
                batch = written_out(batch)
                self._digest.update(part, batch)
                self._sink.write(part, batch)
                self._count(batch)
        except BaseException:
            reader.cancel()
            self._sink.discard(part)
            raise
        if self._digest.part(part) != self._intent.parts[part]:
            self._sink.discard(part)
            raise SluicegateError(Reason.DIGEST_MISMATCH, f"part {part} has another digest than the gateway announced")
        with self._lock:
            self._sink.end_part(part)

    def _count(self, batch: pa.RecordBatch) -> None:
        with self._lock:
            self.rows += batch.num_rows
            self.bytes += batch.nbytes
            if self._progress is not None:
                self._progress(self.rows, self.bytes, self._total)


def _next(reader: fl.FlightStreamReader) -> pa.RecordBatch | None:
    try:
        return calling.call(reader.read_chunk).data
    except StopIteration:
        return None
