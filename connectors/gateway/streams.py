"""The streams that run now: slots, orders to stop, and a watchdog that stands outside of them.

A stream is an iterator that the Flight server pulls; when its reader stalls, the server's thread hangs
in a write and the iterator is asked for nothing more. So whoever stops a stream sets its order, which
ends it at the next batch, and, when that does not come, cuts the connection under it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from contracts.errors import Reason, SluicegateError

if TYPE_CHECKING:
    import pyarrow as pa

# How long a stream that was told to stop may take to notice before its connection is cut, in seconds.
GRACE = 2.0


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Whose stream it is: consumer, agreement and transfer by name, and the part of the release."""

    consumer: str
    agreement: str
    transfer: str
    part: int


class PartStream:
    """One part on its way out: an iterator over record batches that can be told to stop.

    `finished` is called once, when the last batch was taken; `closed` once, however it ends. Both run on
    the thread that pulls, or on the one that drops the stream.
    """

    def __init__(
        self,
        key: StreamKey,
        batches: Iterator[pa.RecordBatch],
        *,
        peer: str,
        ticks: Callable[[], float],
        finished: Callable[[], None],
        closed: Callable[[PartStream], None],
    ) -> None:
        self.key, self.peer = key, peer
        self._batches, self._ticks = batches, ticks
        self._finished, self._closed = finished, closed
        self._ending = threading.Lock()
        self.started = self.progressed = ticks()
        self.rows = 0
        self.order: SluicegateError | None = None
        self.ordered = 0.0
        self.over = False

    def __iter__(self) -> PartStream:
        return self

    def __next__(self) -> pa.RecordBatch:
        if self.order is not None:
            self.close()
            raise self.order
        if self.over:
            raise StopIteration
        self.progressed = self._ticks()
        try:
            batch = next(self._batches)
        except StopIteration:
            try:
                self._finished()
            finally:
                self.close()
            raise
        except BaseException:
            self.close()
            raise
        self.rows += batch.num_rows
        return batch

    def stop(self, order: SluicegateError) -> None:
        """End it at the next batch, with this error. The first order stands."""
        if self.order is None:
            self.order, self.ordered = order, self._ticks()

    def close(self) -> None:
        """Give back what it holds. Safe to call from any thread, more than once."""
        with self._ending:
            if self.over:
                return
            self.over = True
        self._closed(self)


class Streams:
    """All running streams of one gateway, at most `slots`, at most `slots_per_party` for a consumer."""

    def __init__(
        self,
        *,
        slots: int,
        slots_per_party: int,
        ticks: Callable[[], float],
        cut: Callable[[str], bool],
    ) -> None:
        self._slots, self._slots_per_party = slots, slots_per_party
        self._ticks, self._cut = ticks, cut
        self._running: set[PartStream] = set()
        self._changed = threading.Condition(threading.RLock())

    def add(self, stream: PartStream) -> None:
        """Give a stream its slot. Raises TOO_MANY_TRANSFERS."""
        consumer = stream.key.consumer
        with self._changed:
            if len(self._running) >= self._slots:
                raise SluicegateError(Reason.TOO_MANY_TRANSFERS, f"all {self._slots} slots of the gateway are taken")
            if sum(other.key.consumer == consumer for other in self._running) >= self._slots_per_party:
                raise SluicegateError(
                    Reason.TOO_MANY_TRANSFERS, f"the party's {self._slots_per_party} slots at this gateway are taken"
                )
            self._running.add(stream)

    def remove(self, stream: PartStream) -> None:
        """It is over: its slot is free."""
        with self._changed:
            self._running.discard(stream)
            self._changed.notify_all()

    def running(self, transfer: str | None = None) -> list[PartStream]:
        """The running streams, or those of one transfer."""
        with self._changed:
            return [stream for stream in self._running if transfer in (None, stream.key.transfer)]

    def watch(self, stall_after: float) -> list[PartStream]:
        """One look of the watchdog: stop who made no progress for `stall_after` seconds, and cut the
        connection of who was told to stop and did not. Gives back those that were cut."""
        now, cut = self._ticks(), []
        for stream in self.running():
            if now - stream.progressed > stall_after:
                stream.stop(SluicegateError(Reason.TRANSFER_STOPPED, f"no progress for {stall_after:g} seconds"))
            if stream.order is not None and (now - stream.ordered >= GRACE or now - stream.progressed > stall_after):
                self._cut(stream.peer)
                cut.append(stream)
        return cut

    def wait(self, transfer: str | None, seconds: float) -> bool:
        """Wait until no stream (of that transfer) runs; false when the time is over first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.running(transfer), seconds)

    def drain(self, transfer: str | None, seconds: float) -> bool:
        """Wait for streams that were told to stop; cut the connections of those that do not. True when
        none is left."""
        if self.wait(transfer, seconds / 2):
            return True
        for stream in self.running(transfer):
            self._cut(stream.peer)
        return self.wait(transfer, seconds / 2)


def cut_connection(peer: str, port: int) -> bool:
    """Shut down the connection of this process between its own `port` and a gRPC peer (`ipv4:1.2.3.4:567`,
    `ipv6:[::1]:567` or its percent-encoded form). True when there was one.

    The Flight server has no call for this, so the socket is found among the process's open files. Every
    stream of that connection ends: they all belong to the same client.
    """
    scheme, _, rest = unquote(peer).partition(":")
    host, _, number = rest.rpartition(":")
    if scheme not in ("ipv4", "ipv6") or not number.isdigit():
        return False
    wanted = (_plain(host.strip("[]")), int(number))
    found = False
    for entry in Path("/dev/fd").iterdir():
        try:
            handle = os.dup(int(entry.name))
        except (OSError, ValueError):
            continue
        found = _shut_down(handle, wanted, port) or found
    return found


def _shut_down(handle: int, wanted: tuple[str, int], port: int) -> bool:
    try:
        connection = socket.socket(fileno=handle)
    except OSError:
        os.close(handle)
        return False
    with connection:
        try:
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                return False
            there = connection.getpeername()
            if (_plain(there[0]), there[1]) != wanted or connection.getsockname()[1] != port:
                return False
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
    return True


def _plain(host: str) -> str:
    """An address in one spelling: `::ffff:1.2.3.4` and `1.2.3.4` are the same peer."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
