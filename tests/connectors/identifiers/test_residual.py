"""Releases are looked through before anything leaves: every row, whatever its column is called."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from connectors.identifiers.residual import Finding, Inspector
from connectors.releases.rehearsal import dry_run
from connectors.spooling import making
from contracts.dtypes import BINARY, FLOAT64, INT64, LIST, STRING
from contracts.errors import Reason
from contracts.plan import Plan
from contracts.residual import Kind
from tests.connectors import plans
from tests.connectors.held import Held
from tests.connectors.releases.test_release import BOUNDED, FIELDS, KEEP, PEOPLE, ROWS, _make, _refusal

CITIZEN = "11010519491231002X"
PHOTO = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1" + bytes(range(200)) * 2
PERSONS = plans.plan(FIELDS, **BOUNDED)
THINGS = plans.thing_plan({name: FIELDS[name] for name in ("note", "row")})
PLANS = pytest.mark.parametrize("plan", [PERSONS, THINGS], ids=["persons", "things"])


def _with(note: str, where: Callable[[], pl.Expr] = lambda: pl.col("row") == ROWS - 1) -> pl.DataFrame:
    return PEOPLE.with_columns(note=pl.when(where()).then(pl.lit(note)).otherwise("note"))


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "BATCH_ROWS", 700)


@PLANS
def test_one_id_in_one_row_refuses_the_release_and_is_quoted_nowhere(plan: Plan, tmp_path: Path) -> None:
    error = _refusal(plan, _with(f"家属身份证{CITIZEN}，已核对"), tmp_path)
    assert error.reason is Reason.RESIDUAL_IDENTIFIERS
    assert error.metadata == {"found.note.national-id": "1"}
    assert CITIZEN not in repr(error)
    assert error.__context__ is None
    assert _make(plan, Held(PEOPLE), tmp_path).rows_out == ROWS


@PLANS
@pytest.mark.parametrize(
    ("note", "kind"),
    [
        (base64.b64encode(PHOTO).decode(), "image"),
        (f"data:image/jpeg;base64,{base64.b64encode(PHOTO).decode()}", "image"),
        (str([number / 256 for number in range(128)]), "vector"),
        ("13800138000", "phone"),
    ],
    ids=["photo", "data url", "vector", "phone"],
)
def test_so_does_everything_else_that_is_looked_for(plan: Plan, note: str, kind: str, tmp_path: Path) -> None:
    error = _refusal(plan, _with(note, lambda: pl.col("row") % 2 == 0), tmp_path)
    assert error.metadata == {f"found.note.{kind}": str(ROWS // 2)}


@pytest.mark.parametrize("options", [{"memory_limit": 0}, {"part_bytes": 40_000}], ids=["disk", "parts"])
@PLANS
def test_however_it_is_spooled(plan: Plan, options: dict[str, Any], tmp_path: Path) -> None:
    assert _refusal(plan, _with(CITIZEN), tmp_path, **options).reason is Reason.RESIDUAL_IDENTIFIERS


def test_rows_that_are_suppressed_are_looked_at_too(tmp_path: Path) -> None:
    frame = _with(CITIZEN).with_columns(
        town=pl.when(pl.col("row") == ROWS - 1).then(pl.lit("village")).otherwise("town")
    )
    plan = plans.plan(FIELDS, **BOUNDED, on_violation="suppress", max_suppression=0.01)
    assert _make(plan, Held(frame.with_columns(note=pl.lit("none"))), tmp_path / "clean").rows_suppressed == 1
    assert _refusal(plan, frame, tmp_path).metadata == {"found.note.national-id": "1"}


def test_masks_that_leave_too_much_are_noticed(tmp_path: Path) -> None:
    """A phone with a country code in front has more digits than the mask was meant for."""
    fields = {**FIELDS, "phone": ({"mask": "partial", "keep_last": 11}, STRING)}
    frame = PEOPLE.with_columns(phone=pl.lit("+86 ") + pl.col("phone"))
    error = _refusal(plans.plan(fields, **BOUNDED), frame, tmp_path)
    assert error.metadata == {"found.phone.phone": str(ROWS)}


def _inspected(values: pl.Series, dtype: Any, *, may_hold: tuple[str, ...] = (), mask: dict[str, Any] = KEEP) -> Any:
    plan = plans.thing_plan({"v": (mask, dtype)})
    field = msgspec.structs.replace(plan.fields[0], may_hold=may_hold)
    inspector = Inspector(msgspec.structs.replace(plan, fields=(field,)))
    frame = pl.DataFrame({"v": values})
    for start in range(0, frame.height, 7):
        inspector.inspect(frame.slice(start, 7))
    return inspector.findings


@pytest.mark.parametrize(
    ("values", "dtype", "kind"),
    [
        (pl.Series([CITIZEN] * 20), STRING, Kind.NATIONAL_ID),
        (pl.Series([f"{CITIZEN} {number}" for number in range(20)]), STRING, Kind.NATIONAL_ID),
        (pl.Series([CITIZEN] * 20, dtype=pl.Categorical), STRING, Kind.NATIONAL_ID),
        (pl.Series([["x", CITIZEN]] * 20), STRING, Kind.NATIONAL_ID),
        (pl.Series([CITIZEN.encode()] * 20), BINARY, Kind.NATIONAL_ID),
        (pl.Series([PHOTO] * 20), BINARY, Kind.IMAGE),
        (pl.Series([[0.5] * 128] * 20), STRING, Kind.VECTOR),
        (pl.Series(range(13800138000, 13800138020)), INT64, Kind.PHONE),
        (pl.Series(range(13800138000, 13800138020)).cast(pl.Float64), FLOAT64, Kind.PHONE),
    ],
    ids=["few texts", "many texts", "categories", "lists", "bytes of text", "photos", "vectors", "numbers", "floats"],
)
def test_every_type_that_can_hold_something_is_looked_at(values: pl.Series, dtype: Any, kind: Kind) -> None:
    assert _inspected(values, dtype) == (Finding("v", kind, 20),)
    assert _inspected(values, dtype, may_hold=(kind,)) == ()
    assert _inspected(pl.Series([None] * 20, dtype=values.dtype), dtype) == ()


@pytest.mark.parametrize("dtype", [pl.List(pl.String), pl.Array(pl.String, 4)], ids=str)
@pytest.mark.parametrize("mask", [KEEP, {"mask": "prefix", "length": 5}], ids=["keep", "prefix"])
@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        (["138", None, "0013", "8000"], Kind.PHONE),
        (["11010", "51949", "12310", "02X"], Kind.NATIONAL_ID),
        (["a", "@b.", None, "cn"], Kind.EMAIL),
    ],
    ids=str,
)
def test_what_is_cut_across_a_list_is_found(
    pieces: list[str | None], kind: Kind, mask: dict[str, Any], dtype: pl.DataType
) -> None:
    values = pl.Series([pieces, ["J10", None, "E11", ""], None] * 10, dtype=dtype)
    assert _inspected(values, LIST, mask=mask) == (Finding("v", kind, 10),)


@pytest.mark.parametrize("hidden", [CITIZEN, base64.b64encode(PHOTO).decode(), "none"], ids=["id", "image", "nothing"])
def test_texts_looked_through_once_are_counted_in_every_row(hidden: str) -> None:
    """A class of rows that comes with the third batch, and again: its rows are told as if each was looked at."""
    plan = plans.thing_plan({"note": (KEEP, STRING), "number": (KEEP, INT64)})
    phone = 13800138000
    batches = [["a", "b"], ["b", "a"], ["a", hidden], [hidden, hidden], ["c", hidden]]
    apart, once, met = Inspector(plan), Inspector(plan), set[str]()
    for notes in batches:
        batch = pl.DataFrame({"note": notes, "number": [phone] * len(notes)})
        new = [note for note in dict.fromkeys(notes) if note not in met]
        met.update(new)
        apart.inspect(batch)
        once.inspect(batch, {"note": pl.Series(new, dtype=pl.String)})
    assert once.findings == apart.findings
    assert [finding.rows for finding in once.findings if finding.column == "number"] == [10]
    assert [finding.rows for finding in once.findings if finding.column == "note"] == ([] if hidden == "none" else [4])


def test_texts_that_came_before_are_not_looked_at_again() -> None:
    plan = plans.thing_plan({"note": (KEEP, STRING)})
    inspector = Inspector(plan)
    inspector.inspect(pl.DataFrame({"note": [CITIZEN]}), {"note": pl.Series([], dtype=pl.String)})
    assert inspector.findings == ()


def test_what_a_column_may_hold_excuses_nothing_else() -> None:
    values = pl.Series(["13800138000", f"13800138000, {CITIZEN}"])
    assert _inspected(values, STRING, may_hold=("phone",)) == (Finding("v", Kind.NATIONAL_ID, 1),)


def test_numbers_are_judged_over_the_whole_column() -> None:
    """One batch of seven looks like phone numbers; of all the large amounts it is a few."""
    amounts = pl.Series(
        [13_800_138_000 + number for number in range(7)] + [50_000_000_000 + number for number in range(70)]
    )
    assert _inspected(amounts, INT64) == ()


def test_a_dry_run_shows_the_same_and_none_of_the_values(tmp_path: Path) -> None:
    run = dry_run(PERSONS, Held(_with(CITIZEN, lambda: pl.lit(True))), spool=tmp_path / "dry", entropy=os.urandom)
    assert not run.passes
    assert run.findings == (Finding("note", Kind.NATIONAL_ID, ROWS),)
    assert run.sample["note"].null_count() == run.sample.height == 10
    assert CITIZEN not in repr(run)
    clean = dry_run(PERSONS, Held(PEOPLE), spool=tmp_path / "clean", entropy=os.urandom)
    assert clean.passes
    assert clean.findings == ()
