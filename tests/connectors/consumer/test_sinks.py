"""Sinks: what is written can be read back, what is broken never looks whole, what spreadsheets run is defused."""

from __future__ import annotations

import csv
import datetime as dt
import json
import stat
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.consumer import sinks
from connectors.digest import ContentDigest
from connectors.writers import defused
from contracts.errors import Reason, SluicegateError
from contracts.receipt import Intent

SCHEMA = pa.schema(
    [
        pa.field("name", pa.large_string(), metadata={"origin": "secret-host"}),
        ("age", pa.int32()),
        ("cost", pa.decimal128(10, 2)),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", "UTC")),
        ("raw", pa.large_binary()),
    ],
    metadata={"made-by": "secret-host"},
)
SPELLED = (
    ("name", "string"),
    ("age", "int32"),
    ("cost", "decimal(10,2)"),
    ("day", "date"),
    ("at", "timestamp(us,UTC)"),
    ("raw", "binary"),
)
BARE = pa.schema([field.remove_metadata() for field in SCHEMA])


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def batch(start: int, rows: int) -> pa.RecordBatch:
    numbers = range(start, start + rows)
    return pa.record_batch(
        [
            [None if n % 7 == 3 else f"person {n}" for n in numbers],
            [n % 90 for n in numbers],
            [Decimal(n) / 100 for n in numbers],
            [dt.date(2026, 1, 1) + dt.timedelta(days=n % 300) for n in numbers],
            [dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=n) for n in numbers],
            [None if n % 5 == 0 else bytes([n % 256]) for n in numbers],
        ],
        schema=SCHEMA,
    )


PARTS = ([batch(0, 10), batch(10, 5)], [batch(15, 20)], [], [batch(35, 3)])
WHOLE = pa.Table.from_batches([b for part in PARTS for b in part], SCHEMA).replace_schema_metadata(None).cast(BARE)


def intent(release: str = "rel-aaaaaaaaaa", parts: tuple[list[pa.RecordBatch], ...] = PARTS) -> Intent:
    digest = ContentDigest(SPELLED, "blake3")
    for index, batches in enumerate(parts):
        digest.open_part(index)
        for one in batches:
            digest.update(index, one)
    rows = sum(one.num_rows for part in parts for one in part)
    return Intent(
        transfer="transfers/t-aaaaaaaaaa",
        agreement="agreements/a-aaaaaaaaaa",
        agreement_digest="sha256:" + "0" * 64,
        gateway="health-bureau-1",
        release=release,
        plan_digest="sha256:" + "1" * 64,
        content_digest=digest.finish(),
        hash="blake3",
        schema=SPELLED,
        parts=tuple(digest.part(index) for index in range(len(parts))),
        rows_in=rows,
        rows_out=rows,
        rows_suppressed=0,
        bounds=None,
        created="2026-01-01T00:00:00Z",
    )


def fill(sink: sinks.Sink, parts: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    for part in parts:
        for one in PARTS[part]:
            sink.write(part, one)
        sink.end_part(part)


def test_parquet_is_whole_private_and_bare(tmp_path: Path) -> None:
    out = tmp_path / "visits.parquet"
    sink = sinks.open(out)
    sink.begin(intent(), SCHEMA)
    fill(sink)
    assert not out.exists()
    sink.commit()
    assert pq.read_table(out) == WHOLE
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert b"secret-host" not in out.read_bytes()
    assert b"health-bureau" not in out.read_bytes()
    assert names(tmp_path) == ["visits.parquet"]


def test_parts_may_come_in_any_order(tmp_path: Path) -> None:
    sink = sinks.open(tmp_path / "x.arrow")
    sink.begin(intent(), SCHEMA)
    fill(sink, (3, 1, 0, 2))
    sink.commit()
    with pa.memory_map(str(tmp_path / "x.arrow")) as file:
        assert pa.ipc.open_file(file).read_all() == WHOLE


def test_csv_tells_null_from_empty_and_writes_binary_as_hex(tmp_path: Path) -> None:
    sink = sinks.open(tmp_path / "x.csv")
    sink.begin(intent(), SCHEMA)
    fill(sink)
    sink.commit()
    text = (tmp_path / "x.csv").read_text()
    assert text.splitlines()[0] == '"name","age","cost","day","at","raw"'
    assert text.splitlines()[1] == '"person 0",0,0.00,2026-01-01,2026-01-01 00:00:00.000000Z,'
    assert text.splitlines()[4].startswith(",3,0.03,")
    rows = list(csv.reader(text.splitlines()))
    assert len(rows) == 39
    assert rows[2][5] == "01"


def test_memory_gives_frame_table_and_reader_only_after_the_commit() -> None:
    sink = sinks.open(None)
    assert isinstance(sink, sinks.MemorySink)
    sink.begin(intent(), SCHEMA)
    fill(sink)
    with pytest.raises(SluicegateError, match="verified"):
        sink.table()
    sink.commit()
    assert sink.table().num_rows == 38
    assert sink.frame().height == 38
    assert sink.reader().read_all().num_rows == 38


def test_a_broken_pull_leaves_only_the_partial_folder_and_resumes(tmp_path: Path) -> None:
    out = tmp_path / "visits.parquet"
    sink = sinks.open(out)
    sink.begin(intent(), SCHEMA)
    fill(sink, (0, 1))
    sink.write(3, PARTS[3][0])
    sink.close()
    assert names(tmp_path) == ["visits.parquet.partial"]
    folder = tmp_path / "visits.parquet.partial"
    assert names(folder) == ["lock", "manifest.json", "part-00000.arrow", "part-00001.arrow"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()} == {0o600}

    again = sinks.open(out)
    again.begin(intent(), SCHEMA)
    assert again.held() == {0, 1}
    assert pa.Table.from_batches(list(again.read(1))).num_rows == 20
    fill(again, (2, 3))
    again.commit()
    assert pq.read_table(out) == WHOLE
    assert names(tmp_path) == ["visits.parquet"]


def test_parts_of_another_release_are_thrown_away(tmp_path: Path) -> None:
    sink = sinks.open(tmp_path / "x.parquet")
    sink.begin(intent(), SCHEMA)
    fill(sink, (0, 1))
    sink.close()
    sink.begin(intent("rel-bbbbbbbbbb"), SCHEMA)
    assert sink.held() == frozenset()
    sink.close()


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b'{"version": 99}'])
def test_an_unreadable_manifest_throws_parts_away(tmp_path: Path, manifest: bytes) -> None:
    sink = sinks.open(tmp_path / "x.parquet")
    sink.begin(intent(), SCHEMA)
    fill(sink, (0,))
    sink.close()
    (tmp_path / "x.parquet.partial" / "manifest.json").write_bytes(manifest)
    sink.begin(intent(), SCHEMA)
    assert sink.held() == frozenset()
    sink.close()


def test_a_damaged_part_is_an_error_not_data(tmp_path: Path) -> None:
    sink = sinks.open(tmp_path / "x.parquet")
    sink.begin(intent(), SCHEMA)
    fill(sink, (0,))
    sink.close()
    part = tmp_path / "x.parquet.partial" / "part-00000.arrow"
    part.write_bytes(part.read_bytes()[:-40])
    sink.begin(intent(), SCHEMA)
    with pytest.raises(SluicegateError) as caught:
        list(sink.read(0))
    assert caught.value.reason is Reason.SINK_FAILED
    sink.close()


def test_two_pulls_of_one_output_do_not_meet(tmp_path: Path) -> None:
    first, second = sinks.open(tmp_path / "x.parquet"), sinks.open(tmp_path / "x.parquet")
    first.begin(intent(), SCHEMA)
    with pytest.raises(SluicegateError, match="another pull"):
        second.begin(intent(), SCHEMA)
    first.close()
    second.begin(intent(), SCHEMA)
    second.close()


def test_a_commit_without_every_part_is_refused(tmp_path: Path) -> None:
    sink = sinks.open(tmp_path / "x.parquet")
    sink.begin(intent(), SCHEMA)
    fill(sink, (0, 1, 3))
    with pytest.raises(SluicegateError):
        sink.commit()
    sink.close()
    assert not (tmp_path / "x.parquet").exists()


def test_a_folder_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet.partial").mkdir(mode=0o777)
    (tmp_path / "x.parquet.partial").chmod(0o777)
    sink = sinks.open(tmp_path / "x.parquet")
    with pytest.raises(SluicegateError, match="private"):
        sink.begin(intent(), SCHEMA)


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "x.parquet.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SluicegateError, match="private"):
        sinks.open(tmp_path / "x.parquet").begin(intent(), SCHEMA)


def test_places_that_cannot_be_written_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "there.parquet").write_bytes(b"x")
    (tmp_path / "link.parquet").symlink_to(tmp_path / "there.parquet")
    (tmp_path / "folder.parquet").mkdir()
    for name in ("there.parquet", "link.parquet", "folder.parquet", "missing/x.parquet"):
        with pytest.raises(SluicegateError) as caught:
            sinks.open(tmp_path / name)
        assert caught.value.reason is Reason.SINK_FAILED
    sinks.open(tmp_path / "there.parquet", overwrite=True)


@pytest.mark.parametrize(("name", "format"), [("x", None), ("x.xlsx", None), ("x.parquet", "delta")])
def test_unknown_formats_are_refused(tmp_path: Path, name: str, format: str | None) -> None:
    with pytest.raises(SluicegateError) as caught:
        sinks.open(tmp_path / name, format)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.INVALID_ARGUMENT


def test_overwriting_replaces_only_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    out.write_bytes(b"old")
    sink = sinks.open(out, overwrite=True)
    sink.begin(intent(), SCHEMA)
    fill(sink)
    assert out.read_bytes() == b"old"
    sink.commit()
    assert pq.read_table(out) == WHOLE


CELLS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "x=1", "", " =1", None, "\n=1"]
SAFE = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'\rx", "'=1", "x=1", "", " =1", None, "\n=1"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_formulas_are_defused(kind: pa.DataType) -> None:
    assert defused(pa.array(CELLS, kind)).to_pylist() == SAFE


@given(st.lists(st.none() | st.text()))
@settings(max_examples=200, deadline=None)
def test_defusing_leaves_no_formula_and_changes_nothing_else(cells: list[str | None]) -> None:
    for before, after in zip(cells, defused(pa.array(cells, pa.large_string())).to_pylist(), strict=True):
        assert not (after or "x").startswith(("=", "+", "-", "@", "\t", "\r"))
        assert after in (before, f"'{before}")


@pytest.mark.parametrize("safe", [False, True])
def test_csv_safe_is_asked_for(tmp_path: Path, safe: bool) -> None:
    schema = pa.schema([("=cmd", pa.large_string()), ("n", pa.int64())])
    cells = pa.record_batch([["=1+1", "plain"], [-1, 2]], schema=schema)
    digest = ContentDigest((("=cmd", "string"), ("n", "int64")), "sha-256")
    digest.update(0, cells)
    sink = sinks.open(tmp_path / "x.csv", csv_safe=safe)
    sink.begin(intent(parts=([],)), schema)
    sink.write(0, cells)
    sink.end_part(0)
    sink.commit()
    rows = list(csv.reader((tmp_path / "x.csv").read_text().splitlines()))
    assert rows == (
        [["'=cmd", "n"], ["'=1+1", "-1"], ["plain", "2"]] if safe else [["=cmd", "n"], ["=1+1", "-1"], ["plain", "2"]]
    )


def test_a_full_disk_keeps_the_parts_and_leaves_no_output(tmp_path: Path) -> None:
    """The disk is full at 300 kB a file: part 0 fits, part 1 does not, and after room is made all does."""
    script = textwrap.dedent(
        """
        import json, resource, signal, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        import pyarrow as pa
        from connectors.consumer import sinks
        from connectors.digest import ContentDigest
        from contracts.errors import SluicegateError
        from contracts.receipt import Intent
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        schema = pa.schema([("n", pa.int64())])
        parts = [pa.record_batch([range(1000)], schema=schema), pa.record_batch([range(200000)], schema=schema)]
        digest = ContentDigest((("n", "int64"),), "sha-256")
        for i, p in enumerate(parts): digest.update(i, p)
        intent = Intent(transfer="t", agreement="a", agreement_digest="d", gateway="g", release="r", plan_digest="p",
            content_digest=digest.finish(), hash="sha-256", schema=(("n", "int64"),),
            parts=(digest.part(0), digest.part(1)), rows_in=201000,
            rows_out=201000, rows_suppressed=0, bounds=None, created="2026-01-01T00:00:00Z")
        sink = sinks.open(Path(sys.argv[1]))
        def fill():
            sink.begin(intent, schema)
            for i, p in enumerate(parts):
                if i not in sink.held():
                    sink.write(i, p); sink.end_part(i)
            sink.commit()
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        try:
            fill()
        except SluicegateError as error:
            first = str(error.reason); message = error.message
        sink.close()
        held = sorted(p.name for p in Path(sys.argv[1] + ".partial").iterdir())
        exists = Path(sys.argv[1]).exists()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        fill()
        print(json.dumps([first, message, held, exists, Path(sys.argv[1]).exists()]))
        """
    )
    out = tmp_path / "x.arrow"
    done = subprocess.run(
        [sys.executable, "-c", script, str(out), str(Path(__file__).parents[3])],
        capture_output=True,
        text=True,
        check=True,
    )
    reason, message, held, existed, exists = json.loads(done.stdout)
    assert reason == "SINK_FAILED"
    assert "make room" in message
    assert held == ["lock", "manifest.json", "part-00000.arrow"]
    assert not existed
    assert exists
