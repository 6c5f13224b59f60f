"""Sources: four formats, three kinds of path, and everything that can be wrong with them."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from connectors import sources
from connectors.sources import SourceSettings
from connectors.sources.base import dtype_of, polars_type, reading
from connectors.sources.files import check_utf8
from contracts.dtypes import DATE, FLOAT64, INT64, STRING, timestamp
from contracts.errors import Reason, SluicegateError
from contracts.model import Field, Identifiability, Tier

SECRET = "13912345678"
FRAME = pl.DataFrame(
    {
        "name": ["王伟", "李娜", None],
        "age": [30, None, 50],
        "born": [dt.date(1990, 1, 2), dt.date(1991, 2, 3), None],
        "score": [1.5, 2.5, None],
    }
)
DECLARED = {"name": "string", "age": "integer", "born": "date", "score": "number"}
FORMATS = ("parquet", "csv", "ndjson", "arrow")


def _write(frame: pl.DataFrame, path: Path, kind: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "ndjson": frame.write_ndjson, "arrow": frame.write_ipc}[
        kind
    ](path)
    return path


def _open(path: Path | str, kind: str, declared: Mapping[str, str] | None = None, **options: Any) -> sources.Source:
    """A source; `declared` are the logical types of the contract's fields."""
    fields = [
        Field(name=name, logical_type=logical, classification=Tier.OPEN, identifiability=Identifiability.NONE)
        for name, logical in (declared or {}).items()
    ]
    return sources.open(SourceSettings(path=str(path), format=kind, **options), fields)  # type: ignore[arg-type]


def _refusal(source: sources.Source, *columns: str) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught, reading(source.name):
        source.scan(columns or list(source.schema())).collect()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("shape", ["file", "glob", "folder"])
def test_rows_come_from_a_file_a_glob_or_a_folder(tmp_path: Path, kind: str, shape: str) -> None:
    for index in range(2):
        _write(FRAME, tmp_path / "in" / f"part-{index}.{kind}", kind)
    (tmp_path / "in" / "_SUCCESS").touch()
    (tmp_path / "in" / f".hidden.{kind}").write_text("junk")
    path = {"file": f"part-0.{kind}", "glob": f"part-*.{kind}", "folder": ""}[shape]
    source = _open(tmp_path / "in" / path, kind, DECLARED)
    assert source.schema() == {"name": STRING, "age": INT64, "born": DATE, "score": FLOAT64}
    found = source.scan(["born", "name"]).collect()
    assert found.equals(pl.concat([FRAME.select("born", "name")] * (1 if shape == "file" else 2)))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_only_the_needed_columns_are_read(tmp_path: Path, kind: str) -> None:
    source = _open(_write(FRAME, tmp_path / f"a.{kind}", kind), kind)
    assert "PROJECT 1/4" in source.scan(["age"]).explain()


def test_categories_and_enums_come_as_strings(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"c": ["a", "b"], "e": ["x", "y"]}, schema={"c": pl.Categorical(), "e": pl.Enum(["x", "y", "never-seen"])}
    )
    source = _open(_write(frame, tmp_path / "a.parquet", "parquet"), "parquet")
    assert source.schema() == {"c": STRING, "e": STRING}
    assert source.scan(["c", "e"]).collect().schema == {"c": pl.String(), "e": pl.String()}


def test_types_can_be_stated_for_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id;born;gone\n007;1990-01-02;-\n008;;1\n")
    source = _open(path, "csv", separator=";", null_values=("-",), columns={"id": "string", "gone": "int64"})
    assert source.schema() == {"id": STRING, "born": STRING, "gone": INT64}
    assert source.scan(["id", "gone"]).collect().rows() == [("007", None), ("008", 1)]


UTC = dt.UTC
READ = {
    "leading zeros": ("string", ["010001", "1", "0x1f", " a "], ["010001", "1", "0x1f", " a "]),
    "numbers that are words": ("string", ["true", "2026-01-31", "1e3"], ["true", "2026-01-31", "1e3"]),
    "integers": ("integer", ["007", "-5", "+5", " 3 ", "4.0", "9223372036854775807"], [7, -5, 5, 3, 4, 2**63 - 1]),
    "numbers": ("number", ["12.30", ".5", "-3", "1E-3", "5."], [12.3, 0.5, -3.0, 0.001, 5.0]),
    "booleans": ("boolean", ["true", "FALSE", "t", "0", "1"], [True, False, True, False, True]),
    "dates": ("date", ["2026-01-31", "0987-12-01"], [dt.date(2026, 1, 31), dt.date(987, 12, 1)]),
    "times": ("time", ["08:00", "23:59:59.5"], [dt.time(8), dt.time(23, 59, 59, 500_000)]),
    "timestamps": (
        "timestamp",
        ["2026-01-31T08:00:00", "2026-01-31 08:00", "2026-01-31 08:00:00.123456000"],
        [dt.datetime(2026, 1, 31, 8), dt.datetime(2026, 1, 31, 8), dt.datetime(2026, 1, 31, 8, 0, 0, 123456)],
    ),
    "timestamps with offset": (
        "timestamp",
        ["2026-01-31T08:00:00Z", "2026-01-31 08:00:00.5+08", "2026-01-31T08:00-03:30", "2026-01-31 08:00:00 UTC"],
        [
            dt.datetime(2026, 1, 31, 8, tzinfo=UTC),
            dt.datetime(2026, 1, 31, 0, 0, 0, 500_000, tzinfo=UTC),
            dt.datetime(2026, 1, 31, 11, 30, tzinfo=UTC),
            dt.datetime(2026, 1, 31, 8, tzinfo=UTC),
        ],
    ),
}


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
@pytest.mark.parametrize("what", READ)
def test_a_file_of_text_is_read_as_the_contract_declares(tmp_path: Path, kind: str, what: str) -> None:
    declared, cells, values = READ[what]
    frame = pl.DataFrame({"x": [None, *cells], "row": [str(n) for n in range(len(cells) + 1)]})
    source = _open(_write(frame, tmp_path / f"a.{kind}", kind), kind, {"x": declared, "row": "integer"})
    assert source.scan(["x"]).collect()["x"].to_list() == [None, *values]
    assert source.misfits(["x", "row"]) == ()
    assert source.schema()["x"] == dtype_of(source.scan(["x"]).collect_schema()["x"])


UNFIT = {
    "integer": ["1.5", "1,000", "9223372036854775808", "1e3", "x"],
    "number": ["12,30", "NaN", "inf", "1e400", "0x1f", "1 000"],
    "boolean": ["yes", "2", "truely"],
    "date": ["31.1.2026", "2026-02-30", "2026-1-31", "20260131", "2026-01-31T00:00:00", "01/02/2026"],
    "time": ["8:00", "25:00:00", "08:00:61"],
    "timestamp": ["2026-01-31", "2026-01-31T08:00:00+08:00", "2026-01-31T25:00:00", "2026-01-31T08:00:00.1234567"],
}


@pytest.mark.parametrize(("declared", "cell"), [(kind, cell) for kind, cells in UNFIT.items() for cell in cells])
def test_what_cannot_be_read_without_loss_does_not_fit(tmp_path: Path, declared: str, cell: str) -> None:
    good = {"date": "2026-01-31", "time": "08:00:00", "timestamp": "2026-01-31T08:00:00"}.get(declared, "1")
    frame = pl.DataFrame({"x": [good, cell], "row": ["a", "b"]})
    source = _open(_write(frame, tmp_path / "a.csv", "csv"), "csv", {"x": declared})
    assert [found.message.split(" rows")[0] for found in source.misfits(["x"])] == ["1 of 2"]
    assert _refusal(source, "x").reason is Reason.DATA_INVALID


def test_the_first_timestamp_settles_whether_all_say_their_offset(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,u\n,1\n2026-01-31T08:00:00+08:00,2\n2026-01-31T08:00:00,3\n")
    source = _open(path, "csv", {"t": "timestamp"})
    assert source.schema()["t"] == timestamp("us", "UTC")
    assert "with its offset like the first one" in str(source.misfits(["t"])[0])
    assert _refusal(source, "t").reason is Reason.DATA_INVALID


def test_a_stated_zone_is_that_of_timestamps_without_offset(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,u\n2026-01-31T08:00:00,1\n2026-01-31T00:00:00Z,2\n")
    source = _open(path, "csv", {"t": "timestamp"}, columns={"t": "timestamp(us,Asia/Shanghai)"})
    assert source.schema()["t"] == timestamp("us", "Asia/Shanghai")
    assert (
        source.scan(["t"]).collect()["t"].dt.convert_time_zone("UTC").to_list()
        == [dt.datetime(2026, 1, 31, tzinfo=UTC)] * 2
    )
    path.write_text("t,u\n2026-03-29T02:30:00,1\n2026-10-25T02:30:00,2\n")  # never, and twice, in Berlin
    berlin = _open(path, "csv", {"t": "timestamp"}, columns={"t": "timestamp(us,Europe/Berlin)"})
    assert "2 of 2 rows" in str(berlin.misfits(["t"])[0])
    assert _refusal(berlin, "t").reason is Reason.DATA_INVALID


@pytest.mark.parametrize(
    ("stated", "good", "bad"),
    [
        ("decimal(5,2)", {"12.3": "12.30", "1.2300": "1.23", "-999.99": "-999.99"}, ["1.234", "1000", "1e1"]),
        ("decimal(3,0)", {"100": "100", "7.00": "7"}, ["1.5", "1000"]),
        ("uint8", {"255": "255", "007": "7"}, ["256", "-1"]),
        ("timestamp(ns)", {"2026-01-31T08:00:00.123456789": None}, ["1066-10-14T09:00:00", "2300-01-01T00:00:00"]),
    ],
)
def test_stated_types_lose_nothing_either(
    tmp_path: Path, stated: str, good: dict[str, str | None], bad: list[str]
) -> None:
    path = _write(pl.DataFrame({"x": list(good), "row": list(good)}), tmp_path / "a.csv", "csv")
    values = _open(path, "csv", columns={"x": stated}).scan(["x"]).collect()["x"]
    assert str(dtype_of(values.dtype)) == stated
    assert [str(value) for value in values] == [
        text or str(value) for text, value in zip(good.values(), values, strict=True)
    ]
    for cell in bad:
        _write(pl.DataFrame({"x": [cell], "row": ["a"]}), path, "csv")
        assert len(_open(path, "csv", columns={"x": stated}).misfits(["x"])) == 1, cell
        assert _refusal(_open(path, "csv", columns={"x": stated}), "x").reason is Reason.DATA_INVALID


def test_json_values_are_read_as_declared(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text(
        '{"code": "010001", "n": 5, "amount": 1.50, "yes": true, "nested": {"a": 1}, "late": null}\n'
        '{"code": 10001, "n": "6", "amount": 2, "yes": "false", "nested": {"a": 2}, "late": "2026-01-31"}\n'
    )
    declared = {"code": "string", "n": "integer", "amount": "number", "yes": "boolean", "nested": "string"}
    source = _open(path, "ndjson", {**declared, "late": "date", "missing": "string"})
    assert {name: str(dtype) for name, dtype in source.schema().items()} == {
        "code": "string",
        "n": "int64",
        "amount": "float64",
        "yes": "boolean",
        "nested": "other(struct)",
        "late": "date",
    }
    assert source.scan(["code", "n", "amount", "yes", "late"]).collect().rows() == [
        ("010001", 5, 1.5, True, None),
        ("10001", 6, 2.0, False, dt.date(2026, 1, 31)),
    ]


@pytest.mark.parametrize(
    "spelling",
    [
        "string",
        "int64",
        "date",
        "timestamp(us)",
        "timestamp(ms,Asia/Shanghai)",
        "decimal(10,2)",
        "time(ns)",
        "binary",
        "list(string)",
    ],
)
def test_stated_types_are_spelled_like_those_of_a_schema(spelling: str) -> None:
    assert str(dtype_of(polars_type(spelling))) == spelling


@pytest.mark.parametrize(
    "dtype", [pl.List(pl.Int64()), pl.Struct({"a": pl.Int64()}), pl.Duration("us"), pl.Null(), pl.Object()]
)
def test_types_that_cannot_be_sent_are_called_other(dtype: pl.DataType) -> None:
    assert dtype_of(dtype).kind == "other"


@pytest.mark.parametrize("spelling", ["varchar", "", "int128", "timestamp(h)"])
def test_an_unknown_stated_type_is_refused(spelling: str) -> None:
    with pytest.raises(SluicegateError) as caught:
        _open("/data/a.csv", "csv", columns={"a": spelling})
    assert caught.value.reason is Reason.CONFIG_INVALID


@pytest.mark.parametrize(
    "path", ["https://x.example/a.csv", "s3://b/a.parquet", "file:///etc/passwd", "C:\\a.csv", "hf://d", "", "/"]
)
def test_urls_and_empty_paths_are_refused(path: str) -> None:
    with pytest.raises(SluicegateError) as caught:
        _open(path, "csv")
    assert caught.value.reason is Reason.CONFIG_INVALID


@pytest.mark.parametrize("path", ["none.csv", "none-*.csv", "folder-without-files"])
def test_what_is_not_there_is_unavailable(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder-without-files").mkdir()
    error = _refusal(_open(tmp_path / path, "csv"))
    assert error.reason is Reason.SOURCE_UNAVAILABLE
    assert str(tmp_path) not in str(error)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_empty_file_is_invalid(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.touch()
    assert _refusal(_open(path, kind)).reason is Reason.DATA_INVALID


# Flipped values of an Arrow file are values: it has no checksums, so ("arrow", "pages") is no damage.
@pytest.mark.parametrize(
    ("kind", "where"),
    [("parquet", "magic"), ("parquet", "cut"), ("parquet", "pages"), ("arrow", "magic"), ("arrow", "cut")],
)
def test_damaged_files_are_invalid(tmp_path: Path, kind: str, where: str) -> None:
    frame = pl.DataFrame({"phone": [SECRET] * 5000, "n": range(5000)})
    path = _write(frame, tmp_path / f"a.{kind}", kind)
    raw = bytearray(path.read_bytes())
    if where == "magic":
        raw[:4], raw[-8:] = b"XXXX", b"XXXXXXXX"
    elif where == "cut":
        raw = raw[: len(raw) // 2]
    else:
        for position in range(8, 400):
            raw[position] ^= 0xFF
    path.write_bytes(raw)
    error = _refusal(_open(path, kind))
    assert error.reason is Reason.DATA_INVALID


def test_a_csv_that_is_not_utf8_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"name,phone\n" + f"王伟,{SECRET}\n".encode("gb18030"))
    assert _refusal(_open(path, "csv"), "name").reason is Reason.DATA_INVALID
    with pytest.raises(SluicegateError, match="byte 11") as caught:
        check_utf8(path)
    assert caught.value.reason is Reason.DATA_INVALID


@pytest.mark.parametrize(("content", "good"), [("é" * 9, True), ("é" * 9 + "\udcc3", False)])
def test_utf8_is_checked_across_chunks(
    tmp_path: Path, content: str, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.sources.files._CHUNK", 3)
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    if good:
        check_utf8(path)
    else:
        with pytest.raises(SluicegateError):
            check_utf8(path)


@pytest.mark.parametrize("header", ["a,a", "a,,b", "", " "])
def test_a_csv_needs_distinct_names(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n1,2,3\n")
    assert _refusal(_open(path, "csv")).reason is Reason.DATA_INVALID


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_cells_that_do_not_fit_are_counted_by_column_and_not_quoted(tmp_path: Path, kind: str) -> None:
    rows = 12_000
    frame = pl.DataFrame(
        {
            "n": ["1"] * (rows - 1) + [f"not-{SECRET}"],
            "day": [SECRET, "31.1.2026", *["2026-01-31"] * (rows - 2)],
            "good": ["2"] * rows,
        }
    )
    source = _open(
        _write(frame, tmp_path / f"a.{kind}", kind), kind, {"n": "integer", "day": "date", "good": "integer"}
    )
    assert source.schema() == {"n": INT64, "day": DATE, "good": INT64}
    for column in ("n", "day"):
        assert _refusal(source, column).reason is Reason.DATA_INVALID
    with pytest.raises(SluicegateError) as caught, sources.explaining(source, ["good", "n", "day"]), reading("a"):
        source.scan(["good", "n", "day"]).collect()
    assert caught.value.reason is Reason.DATA_INVALID
    assert [(found.path, found.message.split(" rows")[0]) for found in caught.value.violations] == [
        ("n", "1 of 12,000"),
        ("day", "2 of 12,000"),
    ]
    assert "a date written 2026-01-31" in str(caught.value)
    assert "columns" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__
    assert source.scan(["good"]).collect()["good"].sum() == 2 * rows


def test_an_ndjson_line_that_is_no_json_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"a": 1}\n{"a": "' + SECRET + "\n")
    assert _refusal(_open(path, "ndjson")).reason is Reason.DATA_INVALID


@pytest.mark.parametrize(("mark", "said"), [(";", "';'"), ("\t", "a tab"), ("|", "'|'")])
def test_another_separator_is_noticed(tmp_path: Path, mark: str, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"a{mark}b\n1{mark}2\n")
    assert f"one name with {said} in it; state that as its separator" in str(_refusal(_open(path, "csv")))
    assert _open(path, "csv", separator=mark).scan(["b"]).collect()["b"].to_list() == ["2"]


def test_a_missing_column_is_named_with_a_hint(tmp_path: Path) -> None:
    error = _refusal(_open(_write(FRAME, tmp_path / "a.parquet", "parquet"), "parquet"), "scor")
    assert error.reason is Reason.DATA_INVALID
    assert "did you mean 'score'?" in str(error)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("change", ["type", "missing"])
def test_a_folder_whose_files_differ_is_refused(tmp_path: Path, kind: str, change: str) -> None:
    _write(FRAME, tmp_path / f"a.{kind}", kind)
    other = FRAME.with_columns(pl.lit(SECRET + "x").alias("age")) if change == "type" else FRAME.drop("age")
    _write(other, tmp_path / f"b.{kind}", kind)
    source = _open(tmp_path, kind)
    if kind == "csv" and change == "type":  # text is text; it does not fit what it is declared to be
        assert "age: 3 of 6 rows" in str(_open(tmp_path, kind, DECLARED).misfits(["age"])[0])
        return
    if kind == "ndjson" and change == "missing":  # a key may be absent
        assert source.scan(["age"]).collect()["age"].to_list() == [30, None, 50, None, None, None]
        return
    error = _refusal(source)
    assert error.reason is Reason.DATA_INVALID
    assert "age" in str(error)
    assert f"b.{kind}" in str(error)


@pytest.mark.parametrize("kind", FORMATS)
def test_another_order_of_columns_is_no_difference(tmp_path: Path, kind: str) -> None:
    _write(FRAME, tmp_path / f"a.{kind}", kind)
    _write(FRAME.select("score", "name", "age", "born"), tmp_path / f"b.{kind}", kind)
    source = _open(tmp_path, kind, DECLARED)
    assert source.scan(["name", "age"]).collect().equals(pl.concat([FRAME.select("name", "age")] * 2))


def test_links_and_dots_that_leave_the_root_are_refused(tmp_path: Path) -> None:
    outside = _write(FRAME, tmp_path / "outside" / "a.parquet", "parquet")
    root = tmp_path / "root"
    _write(FRAME, root / "own.parquet", "parquet")
    (root / "link.parquet").symlink_to(outside)
    (root / "inner.parquet").symlink_to(root / "own.parquet")
    for path in (root / "link.parquet", root, root / "*.parquet"):
        assert _refusal(_open(path, "parquet")).reason is Reason.DATA_INVALID
    assert _refusal(_open("../outside/a.parquet", "parquet", root=str(root))).reason is Reason.DATA_INVALID
    assert _refusal(_open(outside, "parquet", root=str(root))).reason is Reason.DATA_INVALID
    assert _open(root / "inner.parquet", "parquet").scan(["age"]).collect().height == 3
    assert _open("own.parquet", "parquet", root=str(root)).scan(["age"]).collect().height == 3
    assert _open(root / "link.parquet", "parquet", root=str(tmp_path)).scan(["age"]).collect().height == 3


def test_a_linked_folder_does_not_widen_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    _write(FRAME, outside / "a.parquet", "parquet")
    root = tmp_path / "root"
    root.mkdir()
    (root / "sub").symlink_to(outside, target_is_directory=True)
    assert _refusal(_open(root / "sub" / "*.parquet", "parquet", root=str(root))).reason is Reason.DATA_INVALID
    assert _refusal(_open(root / "*" / "a.parquet", "parquet")).reason is Reason.DATA_INVALID


def test_names_with_wildcards_in_files_are_taken_literally(tmp_path: Path) -> None:
    _write(FRAME, tmp_path / "in" / "a[1].parquet", "parquet")
    assert _open(tmp_path / "in", "parquet").scan(["age"]).collect().height == 3


def test_a_file_that_goes_away_is_unavailable(tmp_path: Path) -> None:
    path = _write(FRAME, tmp_path / "a.parquet", "parquet")
    source = _open(path, "parquet")
    frame = source.scan(["age"])
    path.unlink()
    with pytest.raises(SluicegateError) as caught, reading(source.name):
        frame.collect()
    assert caught.value.reason is Reason.SOURCE_UNAVAILABLE


LISTS = ["a", None, '"b", c'], [], None, ["王"]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "ndjson", "csv"])
def test_lists_of_texts_come_as_such_where_the_contract_declares_them(tmp_path: Path, kind: str) -> None:
    lists = pl.Series("x", LISTS, dtype=pl.List(pl.String))
    cells = pl.Series("x", [None if one is None else json.dumps(one, ensure_ascii=False) for one in LISTS])
    frame = pl.DataFrame([cells if kind == "csv" else lists, pl.Series("row", range(4))])
    source = _open(_write(frame, tmp_path / f"a.{kind}", kind), kind, {"x": "array"})
    assert str(source.schema()["x"]) == "list(string)"
    found = source.scan(["x"]).collect()["x"]
    assert found.dtype == pl.List(pl.String)
    assert found.to_list() == list(LISTS)
    assert not source.misfits(["x"])


def test_arrays_of_categories_and_of_one_length_are_lists_too(tmp_path: Path) -> None:
    for inner, values in ((pl.List(pl.Categorical()), [["a", None], None]), (pl.Array(pl.String, 1), [["a"], None])):
        frame = pl.DataFrame({"x": values}, schema={"x": inner})
        source = _open(_write(frame, tmp_path / "a.parquet", "parquet"), "parquet")
        assert str(source.schema()["x"]) == "list(string)"
        assert source.scan(["x"]).collect()["x"].to_list() == values
        assert source.scan(["x"]).collect_schema()["x"] == pl.List(pl.String)


def test_json_arrays_without_a_text_among_the_first_rows_are_lists_of_texts_where_declared(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    for lines, wanted in (
        ('{"x": []}\n{"x": null}\n', [[], None]),
        ('{"x": null}\n', [None]),
        ('{"x": [7]}\n{"x": ["a"]}\n', [["7"], ["a"]]),
    ):
        path.write_text(lines)
        assert _open(path, "ndjson", {"x": "array"}).scan(["x"]).collect()["x"].to_list() == wanted
        assert _open(path, "ndjson", columns={"x": "list(string)"}).schema()["x"].kind == "list"
    path.write_text('{"x": [[1]]}\n')
    assert _open(path, "ndjson", {"x": "array"}).schema()["x"].kind == "other"


@pytest.mark.parametrize("cell", ["no list", '["a"', '{"a": 1}', "[1]", '[["a"]]', "null", "[" * 100_000])
def test_a_cell_that_is_no_list_of_texts_does_not_fit(tmp_path: Path, cell: str) -> None:
    path = _write(pl.DataFrame({"x": ['["a"]', cell]}), tmp_path / "a.csv", "csv")
    source = _open(path, "csv", {"x": "array"})
    (found,) = source.misfits(["x"])
    assert (found.path, found.code) == ("x", "CELLS_UNFIT")
    assert "1 of 2 rows" in found.message
    refusal = _refusal(source, "x")
    assert refusal.reason is Reason.DATA_INVALID
    assert cell not in str(refusal)
