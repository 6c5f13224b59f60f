"""The watchdog's tools: slots, orders to stop, and cutting one connection among many."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from connectors.gateway.streams import GRACE, PartStream, StreamKey, Streams, cut_connection
from contracts.errors import Reason, SluicegateError

BATCH = pa.record_batch({"n": [1, 2, 3]})
STOP = SluicegateError(Reason.TRANSFER_STOPPED, "stop")


class World:
    """Streams over a clock moved by hand, and a record of what was cut."""

    def __init__(self, **limits: int) -> None:
        self.now = 0.0
        self.cut: list[str] = []
        self.finished = 0
        self.streams = Streams(**{"slots": 4, "slots_per_party": 2, **limits}, ticks=lambda: self.now, cut=self._cut)

    def _cut(self, peer: str) -> bool:
        self.cut.append(peer)
        return True

    def open(self, consumer: str = "metro", transfer: str = "t-1", batches: Iterator[Any] | None = None) -> PartStream:
        def finished() -> None:
            self.finished += 1

        stream = PartStream(
            StreamKey(consumer, "a", transfer, 0),
            batches or iter([BATCH, BATCH]),
            peer=f"ipv4:127.0.0.1:{consumer}",
            ticks=lambda: self.now,
            finished=finished,
            closed=self.streams.remove,
        )
        self.streams.add(stream)
        return stream


def test_a_stream_ends_once_and_frees_its_slot() -> None:
    world = World()
    stream = world.open()
    assert sum(batch.num_rows for batch in stream) == 6
    assert (world.finished, stream.rows, world.streams.running()) == (1, 6, [])
    assert list(stream) == []
    stream.close()
    assert world.finished == 1


@pytest.mark.parametrize(
    ("running", "wanted"), [(["a", "a"], "a"), (["a", "b", "c", "d"], "e"), (["a", "a", "b", "b"], "c")]
)
def test_slots_run_out_and_come_back(running: list[str], wanted: str) -> None:
    world = World()
    streams = [world.open(name) for name in running]
    with pytest.raises(SluicegateError) as caught:
        world.open(wanted)
    assert caught.value.reason is Reason.TOO_MANY_TRANSFERS
    streams[0].close()
    world.open(wanted)


def test_an_order_ends_the_stream_at_its_next_batch_and_never_counts_as_finished() -> None:
    world = World()
    stream = world.open()
    next(stream)
    stream.stop(STOP)
    stream.stop(SluicegateError(Reason.INTERNAL, "a later order"))
    with pytest.raises(SluicegateError) as caught:
        next(stream)
    assert caught.value is STOP
    assert (world.finished, world.streams.running()) == (0, [])


def test_an_error_of_the_source_frees_the_slot() -> None:
    def broken() -> Iterator[Any]:
        yield BATCH
        raise ValueError

    world = World()
    stream = world.open(batches=broken())
    next(stream)
    with pytest.raises(ValueError):  # noqa: PT011
        next(stream)
    assert world.streams.running() == []


def test_an_error_at_the_end_frees_the_slot_and_is_not_swallowed() -> None:
    world = World()

    def full() -> None:
        raise STOP

    stream = PartStream(
        StreamKey("a", "a", "t", 0), iter([]), peer="", ticks=lambda: 0.0, finished=full, closed=world.streams.remove
    )
    world.streams.add(stream)
    with pytest.raises(SluicegateError):
        next(stream)
    assert world.streams.running() == []


def moved(seconds: float, stop: bool) -> Callable[[World, PartStream], None]:
    def move(world: World, stream: PartStream) -> None:
        if stop:
            stream.stop(STOP)
        world.now += seconds

    return move


@pytest.mark.parametrize(
    ("move", "cut"),
    [
        (moved(59, stop=False), False),
        (moved(61, stop=False), True),
        (moved(GRACE / 2, stop=True), False),
        (moved(GRACE, stop=True), True),
    ],
)
def test_the_watchdog_cuts_who_stalls_or_does_not_obey(move: Callable[[World, PartStream], None], cut: bool) -> None:
    world = World()
    stream, other = world.open(), world.open("other")
    next(stream)
    move(world, stream)
    next(other)
    assert [one is stream for one in world.streams.watch(60)] == [True] * cut
    assert world.cut == ["ipv4:127.0.0.1:metro"] * cut
    assert other.order is None


def test_draining_waits_for_one_transfer_only() -> None:
    world = World()
    world.open(transfer="t-2")
    assert world.streams.drain("t-1", 0.2)
    assert world.cut == []
    assert not world.streams.drain("t-2", 0.2)
    assert world.cut == ["ipv4:127.0.0.1:metro"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_connection_is_cut_and_the_others_live(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        with (
            socket.create_connection((host, port)) as one,
            socket.create_connection((host, port)) as two,
            server.accept()[0] as first,
            server.accept()[0] as second,
        ):
            number = one.getsockname()[1]
            peer = f"ipv6:%5B{host}%5D:{number}" if family == socket.AF_INET6 else f"ipv4:{host}:{number}"
            assert not cut_connection(peer, port + 1)
            assert cut_connection(peer, port)
            one.settimeout(5)
            assert one.recv(1) == b""
            two.sendall(b"x")
            second.settimeout(5)
            assert second.recv(1) == b"x"
            assert first.fileno() >= 0


@pytest.mark.parametrize("peer", ["", "unix:/tmp/x", "ipv4:", "ipv4:127.0.0.1", "ipv4:127.0.0.1:port", "ipv6:[::1:9"])
def test_a_peer_that_is_no_address_cuts_nothing(peer: str) -> None:
    assert not cut_connection(peer, 1)
