"""Columns of which few values leave lie in the parts of a release as dictionaries, each of its own part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from connectors.dictionaries import written_out
from connectors.keys import AgreementSecrets
from connectors.releases import release
from connectors.releases.release import Release
from connectors.spooling import making, packing
from contracts.dtypes import INT64, STRING
from tests.connectors import plans
from tests.connectors.held import Held

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
KEEP = {"mask": "keep"}
FIELDS: dict[str, tuple[dict[str, Any], Any]] = {
    "id": ({"mask": "hmac", "domain": "person"}, STRING),
    "town": (KEEP, STRING),
    "age": ({"mask": "bucket", "size": 30}, INT64),
    "amount": (KEEP, INT64),
    "row": (KEEP, INT64),
}
FEW = ["town", "age", "amount"]
WAYS = pytest.mark.parametrize(
    "options",
    [{}, {"memory_limit": 0}, {"memory_limit": 60_000}, {"part_bytes": 60_000}],
    ids=["memory", "disk", "spill", "parts"],
)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "BATCH_ROWS", 700)
    monkeypatch.setattr(making, "WIRE_ROWS", 300)


def _made(folder: Path, frame: pl.DataFrame, **options: Any) -> Release:
    plan = plans.plan(
        FIELDS,
        quasi_identifiers=("town", "age"),
        pseudonyms=("id",),
        k=5,
        on_violation="suppress",
        max_suppression=0.01,
    )
    given = {"spool": folder / "rel", "release_id": "rel-aaaaaaaaaa", "clock": lambda: 1_770_000_000, **options}
    return release.make(plan, Held(frame), AgreementSecrets(b"k" * 32, "sha256:a"), **given)


@WAYS
def test_a_part_has_dictionaries_of_what_its_own_rows_say(tmp_path: Path, options: dict[str, Any]) -> None:
    """Sorted, so that the source's order does not show; and nothing of rows that are suppressed."""
    alone = PEOPLE.head(3).with_columns(
        id="alone " + pl.col("id"),
        town=pl.lit("hermitage"),
        amount=pl.lit(7_777_777, pl.Int64),
        row=pl.col("row") + ROWS,
    )
    made = _made(tmp_path, pl.concat([PEOPLE, alone]), **options)
    assert made.rows_suppressed == 3
    assert (len(made.parts) > 1) == ("part_bytes" in options)
    for index, part in enumerate(made.parts):
        schema = release.part_schema(made, index)
        assert [field.name for field in schema if pa.types.is_dictionary(field.type)] == FEW
        table = pa.Table.from_batches(list(release.read_part(made, index)))
        for name in FEW:
            values = {value for value in table.column(name).to_pylist() if value is not None}
            assert all(chunk.dictionary.to_pylist() == sorted(values) for chunk in table.column(name).chunks)
        assert b"hermitage" not in part.path.read_bytes()
        assert (7_777_777).to_bytes(8, "little") not in part.path.read_bytes()


def _frame(made: Release) -> pl.DataFrame:
    batches = [written_out(batch) for index in range(len(made.parts)) for batch in release.read_part(made, index)]
    return pl.DataFrame(pl.from_arrow(pa.Table.from_batches(batches)))


@WAYS
def test_what_is_not_little_leaves_as_it_is(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that come seldom, texts too long to be brought along by each batch, and columns that turn out to have many
    values only when rows are spooled already."""
    seldom = PEOPLE.with_columns(
        amount=pl.when(pl.col("row") < 1500).then(1).otherwise(pl.col("row")),
        town=pl.lit("beyond the hills, " * 40) + pl.col("town"),
    )
    monkeypatch.setattr(packing, "_MOST", 200)
    made = _made(tmp_path, seldom, **options)
    kinds = {field.name: field.type for field in release.part_schema(made, 0)}
    assert kinds["amount"] == pa.int64()
    assert kinds["town"] == pa.string()
    assert kinds["age"] == pa.dictionary(pa.uint8(), pa.int64())
    found = _frame(made).sort("row")
    assert found["amount"].equals(seldom["amount"])
    assert found["town"].equals(seldom["town"])
