"""Columns of which few values leave lie in the parts of a release as dictionaries, each of its own part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from connectors.releases import release
from connectors.releases.release import Release
from connectors.spooling import making, packing
from contracts.dtypes import INT64, STRING
from contracts.errors import Reason
from contracts.plan import Plan
from tests.connectors import plans
from tests.connectors.held import Held, rows_of
from tests.connectors.releases.test_release import KEEP, WAYS, _make, _refusal, _small_batches

__all__ = ["_small_batches"]  # the same small batches here

ROWS = 6000
PEOPLE = pl.DataFrame(
    {
        "id": [f"id-{i:06d}" for i in range(ROWS)],
        # The first hundred live in the last town of the alphabet: an order of the source's would show.
        "town": ["zz" if i < 100 else None if i % 7 == 0 else f"town-{i % 5}" for i in range(ROWS)],
        "age": [i % 90 for i in range(ROWS)],
        "amount": [i % 11 * 10 for i in range(ROWS)],
        "row": list(range(ROWS)),
    }
)
FIELDS: dict[str, tuple[dict[str, Any], Any]] = {
    "id": ({"mask": "hmac", "domain": "person"}, STRING),
    "town": (KEEP, STRING),
    "age": ({"mask": "bucket", "size": 30}, INT64),
    "amount": (KEEP, INT64),
    "row": (KEEP, INT64),
}
FEW = ["town", "age", "amount"]


def _about_persons() -> Plan:
    bounds: dict[str, Any] = {"quasi_identifiers": ("town", "age"), "pseudonyms": ("id",), "k": 5}
    return plans.plan(FIELDS, **bounds, on_violation="suppress", max_suppression=0.01)


def _demand_little(made: Release) -> None:
    """Each part has dictionaries of what its own rows say, sorted."""
    for index, part in enumerate(made.parts):
        schema = release.part_schema(made, index)
        packed = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        assert packed == FEW or part.rows < 300, "beside a few rows no dictionary is little"
        table = pa.Table.from_batches(list(release.read_part(made, index)))
        for name in packed:
            values = {value for value in table.column(name).to_pylist() if value is not None}
            assert all(chunk.dictionary.to_pylist() == sorted(values) for chunk in table.column(name).chunks)


@WAYS
def test_a_part_has_dictionaries_of_what_its_own_rows_say(tmp_path: Path, options: dict[str, Any]) -> None:
    """Sorted, so that the source's order does not show; and nothing of rows that are suppressed."""
    alone = PEOPLE.head(3).with_columns(
        id="alone " + pl.col("id"),
        town=pl.lit("hermitage"),
        amount=pl.lit(7_777_777, pl.Int64),
        row=pl.col("row") + ROWS,
    )
    made = _make(_about_persons(), Held(pl.concat([PEOPLE, alone])), tmp_path, **options)
    assert made.rows_suppressed == 3
    assert (len(made.parts) > 1) == ("part_bytes" in options)
    _demand_little(made)
    for part in made.parts:
        assert b"hermitage" not in part.path.read_bytes()
        assert (7_777_777).to_bytes(8, "little") not in part.path.read_bytes()


@pytest.mark.parametrize("part_bytes", [making.PART_BYTES, 60_000], ids=["one part", "parts"])
@pytest.mark.parametrize("order", ["source", "keyed"])
def test_data_about_no_person_has_them_too(tmp_path: Path, order: str, part_bytes: int) -> None:
    """In whichever order it leaves; a value that comes late is in the parts that have it, and in no other."""
    frame = PEOPLE.with_columns(town=pl.when(pl.col("row") < ROWS - 40).then("town").otherwise(pl.lit("late")))
    fields = {name: FIELDS[name] for name in ("town", "age", "amount", "row")}
    made = _make(plans.thing_plan(fields, order=order), Held(frame), tmp_path, part_bytes=part_bytes)
    assert made.order == order
    _demand_little(made)
    found = rows_of(made)
    assert found.sort("row").equals(frame.select(*fields).with_columns(pl.col("age") // 30 * 30))
    assert found["row"].is_sorted() == (order == "source")
    late = [b"late" in part.path.read_bytes() for part in made.parts]
    assert late[-1]
    assert sum(late) == (1 if order == "source" else len(late))


def test_what_comes_late_and_often_is_looked_through_too(tmp_path: Path) -> None:
    """Of a column of few values each is looked at once, whichever batch brings it; its rows are counted."""
    frame = PEOPLE.with_columns(
        town=pl.when(pl.col("row") < ROWS - 900).then("town").otherwise(pl.lit("110101199003070011"))
    )
    plan = plans.thing_plan({name: FIELDS[name] for name in ("town", "age")}, order="source")
    error = _refusal(plan, frame, tmp_path)
    assert error.reason is Reason.RESIDUAL_IDENTIFIERS
    assert error.metadata == {"found.town.national-id": "900"}


@pytest.mark.parametrize("about", ["persons", "things", "things, keyed"])
@WAYS
def test_what_is_not_little_leaves_as_it_is(
    tmp_path: Path, options: dict[str, Any], about: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that come seldom, texts too long to be brought along by each batch, and columns that turn out to have many
    values only when rows are spooled already."""
    seldom = PEOPLE.with_columns(
        amount=pl.when(pl.col("row") < 1500).then(1).otherwise(pl.col("row")),
        town=pl.lit("beyond the hills, " * 40) + pl.col("town"),
    )
    monkeypatch.setattr(packing, "_MOST", 200)
    things = plans.thing_plan(FIELDS, order="keyed" if "keyed" in about else "source")
    made = _make(_about_persons() if about == "persons" else things, Held(seldom), tmp_path, **options)
    kinds = {field.name: field.type for field in release.part_schema(made, len(made.parts) // 2)}
    assert kinds["amount"] == pa.int64()
    assert kinds["town"] == pa.string()
    assert kinds["age"] == pa.dictionary(pa.uint8(), pa.int64())
    found = rows_of(made).sort("row")
    assert found["amount"].equals(seldom["amount"])
    assert found["town"].equals(seldom["town"])
