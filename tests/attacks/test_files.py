"""Whoever can put a file, a name or a stream where others open it: a source path, a planted link, a cell,
a document, a message, a data file, a gateway that lies to its consumer."""

from __future__ import annotations

import csv
import io
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from glob import has_magic
from pathlib import Path
from typing import Any

import grpc
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors import sources
from connectors.consumer import pull, sinks
from connectors.digest import ContentDigest
from connectors.sources import SourceSettings
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from exchange.connection import TokenSource
from exchange.keyfiles import write_private_file
from exchange.rpc.status import from_rpc_error
from tests.attacks.conftest import Attacked
from tests.attacks.raw_flight import RawFlight
from tests.attacks.wires import Peak
from tests.connectors.consumer.test_sinks import intent
from tests.connectors.gate import CERT, KEY, Gate, make_gate
from tests.e2e.city import ROOT
from tests.e2e.steps import refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

MOST_MEGABYTES = 128


# --- names and places


@pytest.mark.parametrize(
    "begin", ["http://127.0.0.1:{}", "HTTP://127.0.0.1:{}", "http:/127.0.0.1:{}", "s3://127.0.0.1:{}"]
)
@pytest.mark.parametrize("format", ["parquet", "csv", "ndjson", "arrow"])
def test_binds_a_source_to_a_url(begin: str, format: Any) -> None:
    """A source is a file of this machine. The engine would fetch URLs by itself: nobody is called."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        path = begin.format(server.getsockname()[1]) + "/visits"
        refused(lambda: sources.open(SourceSettings(path=path, format=format)).schema(), Reason.CONFIG_INVALID)
        with pytest.raises(TimeoutError):
            server.accept()


def written(sink: sinks.Sink, cells: list[str]) -> None:
    """One column of text, through a sink."""
    schema = pa.schema([("n", pa.large_string())])
    batch = pa.record_batch([cells], schema=schema)
    digest = ContentDigest((("n", "string"),), "sha-256")
    digest.update(0, batch)
    sink.begin(intent(parts=([],)), schema)
    sink.write(0, batch)
    sink.end_part(0)
    sink.commit()


def test_plants_links_where_a_pull_will_write(tmp_path: Path) -> None:
    """Output and receipt take the place of a link that was planted meanwhile; where it leads stays as it is."""
    victim, output = tmp_path / "victim", tmp_path / "visits.csv"
    victim.write_text("mine")
    sink = sinks.open(output)
    for name in ("visits.csv", "visits.csv.receipt.json"):
        (tmp_path / name).symlink_to(victim)
    written(sink, ["a"])
    write_private_file(tmp_path / "visits.csv.receipt.json", b"{}")
    assert victim.read_text() == "mine"
    assert not output.is_symlink()
    assert not (tmp_path / "visits.csv.receipt.json").is_symlink()


ODD = (
    *("-rf", "--csv-safe", "--out=elsewhere", "a;touch hacked", "$(touch hacked)", "`touch hacked`", "a|b", "a&b"),
    *("*", "?", "[a-z]", "{a,b}", "~root", "%2e%2e%2f", "a?b=1", "a#b", "a b", "a\nb", "a\x1b[2Jb"),
)


@pytest.mark.parametrize("name", ODD)
def test_names_that_look_like_options_or_patterns(tmp_path: Path, name: str) -> None:
    """A name is a name: no option, pattern, query or command to whoever reads or writes the file."""
    (tmp_path / "out").mkdir()
    written(sinks.open(tmp_path / "out" / f"{name}.csv"), ["a"])
    assert [file.name for file in (tmp_path / "out").iterdir()] == [f"{name}.csv"]
    folder = tmp_path / "in"
    folder.mkdir()
    for other, rows in ((name, [1, 2]), ("a", [3]), ("b", [4])):
        pl.DataFrame({"n": rows}).write_parquet(folder / f"{other}.parquet")
    if not has_magic(name):  # a pattern is meant as one where a source is bound, and matches names literally
        source = sources.open(SourceSettings(path=str(folder / f"{name}.parquet"), format="parquet"))
        assert source.scan(["n"]).collect()["n"].to_list() == [1, 2]
    source = sources.open(SourceSettings(path=str(folder), format="parquet"))
    assert sorted(source.scan(["n"]).collect()["n"].to_list()) == [1, 2, 3, 4]


def test_folder_that_looks_like_a_column(tmp_path: Path) -> None:
    """`district=north/` is a folder, whatever other tools read into it: no column comes from a name."""
    folder = tmp_path / "visits" / "district=north"
    folder.mkdir(parents=True)
    pl.DataFrame({"district": ["south"], "n": [1]}).write_parquet(folder / "part.parquet")
    for path in (tmp_path / "visits", folder / "part.parquet"):
        source = sources.open(SourceSettings(path=str(path), format="parquet", root=str(tmp_path)))
        assert source.scan(list(source.schema())).collect().rows() == [("south", 1)]


# --- what is in a cell


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_hides_a_formula_in_a_cell(tmp_path: Path, begin: str) -> None:
    """The data is not changed unasked, so the file says what the receipt attests; but who pulls is told
    how many cells a spreadsheet would run, and `--csv-safe` leaves none."""
    cells = [f"{begin}cmd|' /C calc'!A0", "plain"]
    told = sinks.open(tmp_path / "told.csv")
    written(told, cells)
    assert isinstance(told, sinks.FileSink)
    assert (told.formulas, told.defused) == (1, 0)
    safe = sinks.open(tmp_path / "safe.csv", csv_safe=True)
    written(safe, cells)
    assert isinstance(safe, sinks.FileSink)
    assert safe.formulas == 0
    assert safe.defused > 0
    texts = [(tmp_path / name).read_bytes().decode() for name in ("told.csv", "safe.csv")]
    found = [list(csv.reader(io.StringIO(text, newline="")))[1][0] for text in texts]
    assert found == [cells[0], f"'{cells[0]}"]


# --- bombs


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"[" * 1_000_000, Reason.SIGNATURE_INVALID),
        (b'{"payload":' * 180_000, Reason.SIGNATURE_INVALID),
        (b'{"payload":{"n":' + b"9" * 2_000_000 + b'},"signatures":[]}', Reason.SIGNATURE_INVALID),
        (b'{"payload":{"n":1e999999999},"signatures":["' + b"x" * 2_000_000, Reason.SIGNATURE_INVALID),
        (b'{"payload":{"n":1},"signatures":["' + b"x" * 300_000_000 + b'"]}', Reason.TOO_LARGE),
    ],
    ids=["deep", "deep and named", "a number of two million digits", "an endless number", "too large"],
)
def test_sends_a_json_bomb_as_a_signed_document(raw: bytes, reason: Reason) -> None:
    """Whatever claims to be signed is parsed within bounds, before anything is verified."""
    with Peak(os.getpid()) as peak:
        refused(lambda: Envelope.from_bytes(raw), reason)
    assert peak.megabytes < MOST_MEGABYTES


@pytest.mark.parametrize(
    "raw",
    [b"\x0b" * 1_000_000, b"\x0a\x00" * 1_900_000, b"\x9a\x06\x00" * 1_200_000, b"\x0a\xff\xff\xff\xff\x07"],
    ids=["nested groups", "a field two million times", "an unknown field", "a length beyond the message"],
)
@pytest.mark.parametrize("method", ["RequestService/CreateRequest", "TransferService/CreateTransfer"])
def test_sends_a_protobuf_bomb_to_the_exchange(attacked: Attacked, method: str, raw: bytes) -> None:
    """A message that is no message is refused as its sender's fault, leaves no traceback, and others are served."""
    home = attacked.city.home
    profile = home.profile("planner")
    bearer = [("authorization", f"Bearer {TokenSource(profile.token, profile.subject)()}")]
    trusted = grpc.ssl_channel_credentials((home.root / "ca.pem").read_bytes())
    logged = len(attacked.city.log("exchange"))
    with Peak(attacked.city.town.processes["exchange"].pid) as peak:
        with grpc.secure_channel(profile.endpoint, trusted) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/exchange.v1.{method}")(raw, timeout=20, metadata=bearer)
        assert "requester" in attacked.city.exchange("planner").whoami().roles
    assert peak.megabytes < 2 * MOST_MEGABYTES
    refusal = from_rpc_error(caught.value)
    assert (refusal.reason, caught.value.code()) == (Reason.INVALID_ARGUMENT, grpc.StatusCode.INVALID_ARGUMENT)
    assert "Traceback" not in attacked.city.log("exchange")[logged:]


READS = """
import resource, sys
import polars as pl
from connectors import sources
from connectors.sources import SourceSettings
from connectors.sources.base import reading
from contracts.errors import SluicegateError
from tests.attacks.wires import Peak
import os
pl.DataFrame({"a": [1]}).lazy().select(pl.col("a") + 1).collect()
with Peak(os.getpid()) as peak:
    try:
        source = sources.open(SourceSettings(path=sys.argv[1], format=sys.argv[2]))
        with reading(source.name):
            print(sum(batch.height for batch in source.scan(list(source.schema())).collect_batches(chunk_size=50_000)))
    except SluicegateError as error:
        print(error.reason)
print(int(peak.megabytes))
"""


def zigzag(number: int) -> bytes:
    """An integer of Thrift's compact protocol, in which Parquet describes itself."""
    number, raw = number << 1, b""
    while True:
        raw += bytes([(number & 127) | (128 if number > 127 else 0)])
        number >>= 7
        if not number:
            return raw


def parquet(change: Callable[[bytes], bytes]) -> bytes:
    """Three rows whose description of themselves was changed."""
    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]}), file, compression="none")
    raw = file.getvalue()
    size = struct.unpack("<I", raw[-8:-4])[0]
    changed = change(raw[-8 - size : -8])
    return raw[: -8 - size] + changed + struct.pack("<I", len(changed)) + b"PAR1"


def arrow(old: bytes, new: bytes) -> bytes:
    """Two texts, with one number of their description or offsets changed."""
    file = io.BytesIO()
    batch = pa.record_batch([pa.array(["abc", "d"], pa.large_string())], names=["a"])
    with pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    raw = file.getvalue()
    assert old in raw
    return raw.replace(old, new)


THREE, OFFSETS = b"\x16" + zigzag(3), struct.pack("<qqq", 0, 3, 4)
LIES = {
    "rows.parquet": parquet(lambda said: said.replace(THREE, b"\x16" + zigzag(1 << 60))),
    "columns.parquet": parquet(lambda said: said.replace(b"\x19\x3c", b"\x19\xfc\xff\xff\xff\xff\x07", 1)),
    "footer.parquet": parquet(bytes)[:-8] + struct.pack("<I", 0x7FFFFFFF) + b"PAR1",
    "rows.arrow": arrow(struct.pack("<q", 2), struct.pack("<q", 1 << 50)),
    "beyond.arrow": arrow(OFFSETS, struct.pack("<qqq", 0, 3, 1 << 50)),
    "before.arrow": arrow(OFFSETS, struct.pack("<qqq", 0, -3, 4)),
}


def read_elsewhere(path: Path) -> list[str]:
    """What a process of its own makes of a source: rows or a reason, and the megabytes that it took."""
    done = subprocess.run(
        [sys.executable, "-c", READS, str(path), path.suffix[1:]],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("name", LIES)
def test_promises_huge_sizes_in_a_data_file(tmp_path: Path, name: str) -> None:
    """What a file says of itself is not believed: a clear error, and nothing is made room for."""
    (tmp_path / name).write_bytes(LIES[name])
    reason, megabytes = read_elsewhere(tmp_path / name)
    assert reason == "DATA_INVALID"
    assert int(megabytes) < MOST_MEGABYTES


def test_packs_a_hundred_million_rows_into_a_small_file(tmp_path: Path) -> None:
    """A source is read in batches, never as a whole."""
    path = tmp_path / "bomb.parquet"
    rows = pa.table({"a": pl.zeros(10_000_000, pl.Int64, eager=True).to_arrow()})
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for _ in range(10):
            writer.write_table(rows)
    assert path.stat().st_size < 1 << 20
    count, megabytes = read_elsewhere(path)
    assert count == "100000000"
    assert int(megabytes) < 3 * MOST_MEGABYTES, "100 million rows take 800 MB"


# --- a gateway that lies to its consumer


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = make_gate(tmp_path)
    made.start()
    yield made
    made.stop()


class Liar(grpc.GenericRpcHandler):
    """Announces what an honest gateway announced, and streams something else."""

    def __init__(self, gate: Gate, lie: Callable[[bytes], Iterator[bytes]]) -> None:
        self.sent = 0
        self._gate, self._lie = gate, lie
        self._server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[self])
        port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(KEY, CERT)]))
        self.address = f"grpc+tls://127.0.0.1:{port}"
        self._server.start()

    def service(self, details: Any) -> Any:
        method = details.method.rpartition("/")[2]
        if method == "GetFlightInfo":
            return grpc.unary_unary_rpc_method_handler(self._relayed)
        if method == "DoGet":
            return grpc.unary_stream_rpc_method_handler(self._lied)
        return None

    def _relayed(self, request: bytes, context: Any) -> bytes:
        with RawFlight(self._gate.address, CERT) as honest:
            return honest.ask("GetFlightInfo", request)

    def _lied(self, request: bytes, context: Any) -> Iterator[bytes]:
        with RawFlight(self._gate.address, CERT) as honest:
            schema, batch, *_ = list(honest.begin("DoGet", request))
        yield schema
        for message in self._lie(batch):
            self.sent += 1
            yield message

    def stop(self) -> None:
        self._server.stop(0).wait()


def fetch_from(liar: Liar, gate: Gate, sink: sinks.Sink) -> SluicegateError:
    """The error that a consumer gets, whose papers all verify."""
    try:
        with pytest.raises(SluicegateError) as caught:
            pull.fetch(liar.address, CERT, gate.ticket(), sink, agreement=gate.papers.verified, clock=gate.clock)
    finally:
        liar.stop()
    return caught.value


def test_streams_rows_without_end(gate: Gate, tmp_path: Path) -> None:
    """A part has the rows that the signed intent announces. One batch more, and the rest is not awaited:
    neither disk nor memory fill."""

    def endless(batch: bytes) -> Iterator[bytes]:
        for _ in range(3_000):
            yield batch

    liar = Liar(gate, endless)
    error = fetch_from(liar, gate, sinks.open(tmp_path / "pulled.parquet"))
    assert error.reason is Reason.DIGEST_MISMATCH
    assert liar.sent < 1_000
    assert not (tmp_path / "pulled.parquet").exists()
    assert sum(file.stat().st_size for file in tmp_path.glob("pulled.parquet.partial/*")) < 1 << 20


OFFSET_LIES = {
    struct.pack("<4q", 0, 3, 6, 9): struct.pack("<4q", 0, 3, 1 << 40, 9),
    struct.pack("<4i", 0, 3, 6, 9): struct.pack("<4i", 0, 3, 1 << 30, 9),
}


def test_streams_offsets_into_its_consumers_memory(gate: Gate, tmp_path: Path) -> None:
    """A text that begins far beyond its batch is refused before anything reads it."""

    def lying(batch: bytes) -> Iterator[bytes]:
        lied = batch
        for honest, lie in OFFSET_LIES.items():
            lied = lied.replace(honest, lie)
        assert lied != batch
        yield lied

    error = fetch_from(Liar(gate, lying), gate, sinks.open(tmp_path / "pulled.parquet"))
    assert error.reason is Reason.DATA_INVALID


@pytest.mark.parametrize("number", [1 << 31, 1 << 50, -1])
def test_streams_lengths_that_are_not_there(gate: Gate, tmp_path: Path, number: int) -> None:
    """The lengths in a batch are not believed: an error, and no room made for them."""
    rows = struct.pack("<q", 4_800)

    def lying(batch: bytes) -> Iterator[bytes]:
        assert rows in batch
        yield batch.replace(rows, struct.pack("<q", number))

    with Peak(os.getpid()) as peak:
        error = fetch_from(Liar(gate, lying), gate, sinks.open(tmp_path / "pulled.parquet"))
    assert error.reason is Reason.DATA_INVALID
    assert peak.megabytes < 2 * MOST_MEGABYTES
    assert not (tmp_path / "pulled.parquet").exists()
