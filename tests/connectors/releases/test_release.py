"""Releases: what leaves, in which order, under which bounds; and that nothing else stays behind."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from connectors import sources
from connectors.digest import ContentDigest
from connectors.keys import AgreementSecrets
from connectors.masks.masking import masked
from connectors.releases import release
from connectors.releases.release import Release
from connectors.sources import Source, SourceSettings
from connectors.spooling import making, packing, spool
from contracts.dtypes import DATE, FLOAT64, INT64, STRING, timestamp
from contracts.errors import Reason, SluicegateError
from contracts.model import RowCondition
from contracts.plan import Plan
from tests.connectors import plans
from tests.connectors.held import Held, rows_of

SECRETS = AgreementSecrets(b"k" * 32, "sha256:a")
KEEP = {"mask": "keep"}
ROWS = 4000
PEOPLE = pl.DataFrame(
    {
        "id": [f"id-{i:06d}" for i in range(ROWS)],
        "phone": [f"139{i:08d}" for i in range(ROWS)],
        "age": [i % 90 for i in range(ROWS)],
        "town": [None if i % 7 == 0 else f"town-{i % 5}" for i in range(ROWS)],
        "when": [dt.datetime(2025, 1, 1) + dt.timedelta(hours=i) for i in range(ROWS)],
        "note": [["flu", "cold", None, "gout"][i % 4] for i in range(ROWS)],
        "row": list(range(ROWS)),
    }
)
FIELDS: dict[str, tuple[dict[str, Any], Any]] = {
    "id": ({"mask": "hmac", "domain": "person"}, STRING),
    "phone": ({"mask": "partial", "keep_first": 3}, STRING),
    "age": ({"mask": "bucket", "size": 30}, INT64),
    "town": (KEEP, STRING),
    "when": ({"mask": "truncate", "unit": "year", "zone": "Etc/UTC"}, timestamp("us")),
    "note": (KEEP, STRING),
    "row": (KEEP, INT64),
}
BOUNDED: dict[str, Any] = {"quasi_identifiers": ("phone", "age", "town", "when"), "pseudonyms": ("id",), "k": 5}


def _make(plan: Plan, source: Source, folder: Path, **options: Any) -> Release:
    given = {"spool": folder / "rel", "release_id": "rel-aaaaaaaaaa", "clock": lambda: 1_770_000_000, **options}
    return release.make(plan, source, SECRETS, **given)


CHANCE: dict[str, tuple[dict[str, Any], Any]] = {
    "id": ({"mask": "aes_siv", "domain": "person", "legal_basis": "dpv:LegalObligation"}, STRING),
    "phone": (
        {"mask": "ff1", "domain": "phone", "legal_basis": "dpv:LegalObligation", "unsafe_format_preserving": True},
        STRING,
    ),
    "age": ({"mask": "microaggregate", "k": 60}, INT64),
    "town": ({"mask": "shuffle", "within": "note"}, STRING),
    "when": ({"mask": "shift_date", "days": 90, "entity": "id"}, timestamp("us")),
    "note": ({"mask": "regex", "pattern": "^..", "replacement": "", "min_masked": 2}, STRING),
    "row": ({"mask": "noise", "distribution": "laplace", "scale": 10, "base": 5}, INT64),
}


def _refusal(plan: Plan, frame: pl.DataFrame, folder: Path, **options: Any) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        _make(plan, Held(frame), folder, **options)
    assert not (folder / "rel").exists()
    return caught.value


WAYS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"memory_limit": 0},
        {"memory_limit": 100_000},
        {"part_bytes": 40_000},
        {"memory_limit": 0, "part_bytes": 40_000, "exact_rows": 0, "hash": "sha-256"},
    ],
    ids=["memory", "disk", "spill", "parts", "all"],
)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "BATCH_ROWS", 700)
    monkeypatch.setattr(making, "WIRE_ROWS", 300)


@WAYS
def test_what_looks_at_the_whole_release_or_draws_is_the_same_batch_by_batch(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """Means, deals and counts over all rows, not over the batches that a release comes in; k over what was
    before chance: every age, and every row's own number rounded to five."""
    whole = {"quasi_identifiers": ("age",), "pseudonyms": ("id", "phone"), "k": 5}
    plan = plans.plan(CHANCE, **whole)
    made = _make(plan, Held(PEOPLE), tmp_path, **options)
    expected = masked(PEOPLE.lazy(), plan, SECRETS.of_release("rel-aaaaaaaaaa")).collect()
    found = rows_of(made).sort("id")
    assert found.equals(expected.cast(dict(found.schema)).sort("id"))
    assert made.bounds is not None
    assert made.rows_out == ROWS
    assert made.bounds.k_met >= (5 if made.bounds.at_least else 60)
    assert expected["age"].n_unique() <= ROWS // 60
    assert expected.group_by("age").len()["len"].min() >= 60  # type: ignore[operator]
    together = pl.DataFrame({"before": PEOPLE["town"], "after": expected["town"], "note": PEOPLE["note"]})
    for _, group in together.group_by("note"):
        assert group["before"].sort().equals(group["after"].sort())
    again = plans.plan(CHANCE, **{**whole, "quasi_identifiers": ("row",)})
    assert _refusal(again, PEOPLE, tmp_path / "again", **options).metadata["k_lowest"] == "2"  # 3998 and 3999


@WAYS
def test_what_leaves_is_what_the_masks_make_in_another_order(tmp_path: Path, options: dict[str, Any]) -> None:
    plan = plans.plan(FIELDS, **BOUNDED)
    made = _make(plan, Held(PEOPLE), tmp_path, **options)
    found, expected = rows_of(made), masked(PEOPLE.lazy(), plan, SECRETS).collect()
    assert found.columns == list(FIELDS)
    assert found.sort("row").equals(expected.sort("row"))
    assert (made.rows_in, made.rows_out, made.rows_suppressed) == (ROWS, ROWS, 0)
    assert (len(made.parts) > 1) == ("part_bytes" in options)
    digest = ContentDigest([(name, str(dtype)) for name, dtype in made.schema.items()], made.hash)
    for index in range(len(made.parts)):
        for batch in release.read_part(made, index):
            digest.update(index, batch)
        assert (digest.part(index).rows, digest.part(index).digest) == (
            made.parts[index].rows,
            made.parts[index].digest,
        )
    assert digest.finish() == made.content_digest
    assert made.bounds is not None
    assert made.bounds.at_least == ("exact_rows" in options)
    assert made.bounds.composite
    assert made.order == "keyed"
    smallest = expected.group_by("phone", "age", "town", "when").agg(pl.col("id").n_unique())["id"].min()
    assert made.bounds.k_met == (5 if "exact_rows" in options else smallest)


@WAYS
def test_classes_below_the_bounds_are_suppressed(tmp_path: Path, options: dict[str, Any]) -> None:
    frame = pl.concat([PEOPLE, PEOPLE.head(4).with_columns(pl.lit("village").alias("town"), pl.col("row") + ROWS)])
    plan = plans.plan(
        {name: field for name, field in FIELDS.items() if name != "id"},
        **{**BOUNDED, "pseudonyms": (), "sensitive": {"note": 2}},
        on_violation="suppress",
        max_suppression=0.01,
    )
    made = _make(plan, Held(frame), tmp_path, **options)
    found = rows_of(made)
    assert made.rows_suppressed == 4
    assert made.rows_out == found.height == ROWS
    assert "village" not in found["town"]
    assert sum(part.rows for part in made.parts) == ROWS
    groups = found.group_by("phone", "age", "town", "when").agg(pl.len(), pl.col("note").drop_nulls().n_unique())
    assert groups["len"].min() >= 5  # type: ignore[operator]
    assert made.bounds is not None
    assert made.bounds.l_met["note"] == (2 if "exact_rows" in options else groups["note"].min())


def test_too_much_to_suppress_is_refused_with_figures_for_the_department(tmp_path: Path) -> None:
    changes = {**BOUNDED, "quasi_identifiers": ("row",)}
    error = _refusal(plans.plan(FIELDS, **changes, on_violation="suppress", max_suppression=0.5), PEOPLE, tmp_path)
    assert error.reason is Reason.BOUNDS_NOT_MET
    assert error.metadata["k_lowest"] == "1"
    assert error.metadata["classes_failing"] == str(ROWS)
    assert str(ROWS) not in error.message
    refuse = _refusal(plans.plan(FIELDS, **changes), PEOPLE, tmp_path)
    assert refuse.metadata["max_suppression"] == "0.000000"
    everything = plans.plan(FIELDS, **changes, on_violation="suppress", max_suppression=1.0)
    assert _refusal(everything, PEOPLE, tmp_path).reason is Reason.BOUNDS_NOT_MET


def test_the_order_is_the_agreements_own(tmp_path: Path) -> None:
    plan = plans.plan(FIELDS, **BOUNDED)
    orders = {}
    for name, secrets, release_id in (
        ("one", SECRETS, "rel-a"),
        ("again", SECRETS, "rel-a"),
        ("next", SECRETS, "rel-b"),
        ("other", AgreementSecrets(b"o" * 32, "sha256:a"), "rel-a"),
    ):
        made = release.make(
            plan, Held(PEOPLE), secrets, spool=tmp_path / name, release_id=release_id, clock=lambda: 0, memory_limit=0
        )
        orders[name] = rows_of(made)["row"]
    assert orders["one"].equals(orders["again"])
    for first, second in (("one", "next"), ("one", "other"), ("next", "other")):
        assert (orders[first] == orders[second]).sum() < 15  # by chance, one
    for order in orders.values():
        place = pl.Series(range(ROWS))
        assert abs(pl.DataFrame({"a": order, "b": place}).select(pl.corr("a", "b")).item()) < 0.08
        followers = (order.slice(1) - order.slice(0, ROWS - 1) == 1).sum()
        assert followers < 12  # by chance, one
        assert abs(order.head(ROWS // 4).mean() - ROWS / 2) < ROWS * 0.03  # type: ignore[operator]


def test_parts_say_nothing_of_the_sources_order(tmp_path: Path) -> None:
    made = _make(plans.plan(FIELDS, **BOUNDED), Held(PEOPLE), tmp_path, part_bytes=40_000)
    for index in range(len(made.parts) - 1):
        part = rows_of(made, index)
        assert abs(part["row"].mean() - ROWS / 2) < 6 * ROWS / (12 * part.height) ** 0.5  # type: ignore[operator]


def test_random_ids_are_drawn_once(tmp_path: Path) -> None:
    fields = {"row": (KEEP, INT64), "age": FIELDS["age"], "tag": ({"mask": "random_id"}, STRING)}
    plan = plans.plan(fields, quasi_identifiers=("age",), k=5, read=("id", "row", "age", "tag"))
    frame = PEOPLE.with_columns(tag=pl.col("town").fill_null("x"))
    made = _make(plan, Held(frame), tmp_path, memory_limit=0)
    first, second = rows_of(made), rows_of(made)
    assert first.equals(second)
    assert first["tag"].n_unique() == ROWS


@WAYS
def test_data_about_no_person_leaves_in_the_sources_order(tmp_path: Path, options: dict[str, Any]) -> None:
    plan = plans.thing_plan({"row": (KEEP, INT64), "town": (KEEP, STRING), "age": FIELDS["age"]})
    made = _make(plan, Held(PEOPLE), tmp_path, **options)
    found = rows_of(made)
    assert found["row"].to_list() == list(range(ROWS))
    assert found["town"].equals(PEOPLE["town"])
    assert made.bounds is None
    assert made.order == "source"


def test_data_about_no_person_can_be_shuffled_too(tmp_path: Path) -> None:
    made = _make(plans.thing_plan({"row": (KEEP, INT64)}, order="keyed"), Held(PEOPLE), tmp_path)
    assert made.bounds is None
    assert made.order == "keyed"
    assert sorted(rows_of(made)["row"]) == list(range(ROWS)) != rows_of(made)["row"].to_list()


TWO_DAYS = (dt.date(2025, 1, 5), dt.date(2025, 1, 6))


@pytest.mark.parametrize(
    ("name", "condition", "kept"),
    [
        ("town", RowCondition(any_of=("town-1", "town-2")), lambda row: row["town"] in ("town-1", "town-2")),
        ("age", RowCondition(from_=30, until=60), lambda row: 30 <= row["age"] < 60),
        ("age", RowCondition(any_of=()), lambda row: False),
        ("when", RowCondition(from_="2025-02-01"), lambda row: row["when"] >= dt.datetime(2025, 2, 1)),
        ("when", RowCondition(until="2025-01-02T03:00:00Z"), lambda row: row["when"] < dt.datetime(2025, 1, 2, 3)),
        ("day", RowCondition(from_="2025-01-05", until="2025-01-07"), lambda row: row["when"].date() in TWO_DAYS),
        ("zoned", RowCondition(from_="2025-01-05"), lambda row: row["when"] >= dt.datetime(2025, 1, 4, 16)),
        ("zoned", RowCondition(until="2025-01-05T00:00:00Z"), lambda row: row["when"] < dt.datetime(2025, 1, 5)),
    ],
)  # fmt: skip
def test_only_rows_in_scope_leave(tmp_path: Path, name: str, condition: RowCondition, kept: Any) -> None:
    frame = PEOPLE.with_columns(
        day=pl.col("when").dt.date(),
        zoned=pl.col("when").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Shanghai"),
    )
    types = {
        "town": STRING,
        "age": INT64,
        "when": timestamp("us"),
        "day": DATE,
        "zoned": timestamp("us", "Asia/Shanghai"),
    }
    plan = plans.thing_plan({"row": (KEEP, INT64), name: (KEEP, types[name])}, rows={name: condition})
    expected = [row["row"] for row in PEOPLE.iter_rows(named=True) if kept(row)]
    if not expected:
        assert _refusal(plan, frame, tmp_path).reason is Reason.DATA_INVALID
    else:
        assert rows_of(_make(plan, Held(frame), tmp_path))["row"].to_list() == expected


@pytest.mark.parametrize("about", ["persons", "things"])
def test_a_source_without_rows_is_refused(tmp_path: Path, about: str) -> None:
    plan = plans.plan(FIELDS, **BOUNDED) if about == "persons" else plans.thing_plan({"row": (KEEP, INT64)})
    assert _refusal(plan, PEOPLE.clear(), tmp_path).reason is Reason.DATA_INVALID


def test_a_null_entity_is_refused(tmp_path: Path) -> None:
    frame = PEOPLE.with_columns(pl.when(pl.col("row") != 77).then("id"))
    assert _refusal(plans.plan(FIELDS, **BOUNDED), frame, tmp_path).reason is Reason.DATA_INVALID


def test_nulls_everywhere_else_are_values(tmp_path: Path) -> None:
    nothing = ("phone", "age", "town", "when", "note")
    frame = PEOPLE.with_columns(pl.lit(None).cast(PEOPLE.schema[name]).alias(name) for name in nothing)
    made = _make(plans.plan(FIELDS, **BOUNDED), Held(frame), tmp_path, memory_limit=0)
    assert made.bounds is not None
    assert (made.bounds.classes, made.bounds.k_met) == (1, ROWS)
    assert rows_of(made)["phone"].null_count() == ROWS


def test_a_mask_that_makes_another_type_than_planned_sends_nothing() -> None:
    schema = making.wire_schema(plans.thing_plan({"row": (KEEP, INT64)}))
    making.check_schema(PEOPLE.lazy(), schema, source="held")
    with pytest.raises(SluicegateError) as caught:
        making.check_schema(PEOPLE.lazy().with_columns(pl.col("row").cast(pl.Float64)), schema, source="held")
    assert caught.value.reason is Reason.INTERNAL


def test_no_raw_value_is_in_any_file(tmp_path: Path) -> None:
    fields = {name: field for name, field in FIELDS.items() if name not in ("note", "row")}
    made = _make(plans.plan(fields, **BOUNDED), Held(PEOPLE), tmp_path, memory_limit=0)
    raw = b"".join(path.read_bytes() for path in made.folder.iterdir())
    assert not any(value.encode() in raw for value in PEOPLE["id"])
    assert not any(value.encode() in raw for value in PEOPLE["phone"])


@pytest.mark.parametrize(
    ("most", "least"), [(8192, 10 * ROWS - 1), (1, 16 * ROWS)], ids=["classes kept once", "rows alone"]
)
def test_what_is_spooled_on_the_way_holds_no_raw_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, least: int
) -> None:
    """Of a class kept once, two bytes of each row are its code and eight the hash of the person."""
    monkeypatch.setattr(packing, "_MOST", most)
    seen: list[bytes] = []
    write = os.write
    monkeypatch.setattr(spool.os, "write", lambda handle, data: (seen.append(bytes(data)), write(handle, data))[1])
    fields = {name: field for name, field in FIELDS.items() if name not in ("id", "note", "row")}
    _make(plans.plan(fields, **{**BOUNDED, "pseudonyms": ()}), Held(PEOPLE), tmp_path, memory_limit=0)
    raw = b"".join(seen)
    assert len(raw) > least
    assert not any(value.encode() in raw for value in [*PEOPLE["id"], *PEOPLE["phone"]])


def test_the_spool_is_private_and_goes(tmp_path: Path) -> None:
    made = _make(plans.plan(FIELDS, **BOUNDED), Held(PEOPLE), tmp_path, memory_limit=0)
    assert made.folder.stat().st_mode & 0o777 == 0o700
    names = {path.name for path in made.folder.iterdir()}
    assert names == {"part-00000.arrow", release.OPENING}
    assert {path.stat().st_mode & 0o777 for path in made.folder.iterdir()} == {0o600}
    with pytest.raises(SluicegateError) as caught:
        release.read_part(made, 1)
    assert caught.value.reason is Reason.NOT_FOUND
    made.close()
    made.close()
    assert not made.folder.exists()
    with pytest.raises(SluicegateError) as caught:
        release.read_part(made, 0)
    assert caught.value.reason is Reason.NOT_FOUND


def test_a_running_read_outlives_the_close(tmp_path: Path) -> None:
    made = _make(plans.thing_plan({"row": (KEEP, INT64)}), Held(PEOPLE), tmp_path)
    batches = release.read_part(made, 0)
    first = next(batches)
    made.close()
    assert first.num_rows + sum(batch.num_rows for batch in batches) == ROWS


def test_a_spool_folder_open_to_others_or_in_use_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "rel"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    plan = plans.thing_plan({"row": (KEEP, INT64)})
    with pytest.raises(SluicegateError) as caught:
        _make(plan, Held(PEOPLE), tmp_path)
    assert caught.value.reason is Reason.CONFIG_UNSAFE
    folder.chmod(0o700)
    (folder / "mine").touch()
    with pytest.raises(SluicegateError) as caught:
        _make(plan, Held(PEOPLE), tmp_path)
    assert caught.value.reason is Reason.STATE_WRONG
    assert (folder / "mine").exists()


def test_what_an_earlier_run_left_is_cleaned(tmp_path: Path) -> None:
    made = _make(plans.thing_plan({"row": (KEEP, INT64)}), Held(PEOPLE), tmp_path)
    (tmp_path / "note.txt").touch()
    assert spool.clean(tmp_path) == 1
    assert not made.folder.exists()
    assert (tmp_path / "note.txt").exists()
    assert spool.clean(tmp_path / "none") == 0


FULL = """
    import resource, signal, sys
    from pathlib import Path
    import polars as pl
    from connectors.releases import release
    from contracts.errors import SluicegateError
    from contracts.dtypes import INT64
    from tests.connectors import plans
    from tests.connectors.held import Held, rows_of
    from tests.connectors.releases.test_release import BOUNDED, FIELDS, PEOPLE, SECRETS
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    things = plans.thing_plan({"row": ({"mask": "keep"}, INT64)})
    plan = plans.plan(FIELDS, **BOUNDED) if sys.argv[3] == "persons" else things
    folder = Path(sys.argv[1])
    try:
        release.make(plan, Held(PEOPLE), SECRETS, spool=folder, release_id="rel-a", clock=int, memory_limit=0)
    except SluicegateError as error:
        print(error.reason, Path(sys.argv[1]).exists(), flush=True)
"""


@pytest.mark.parametrize(("limit", "about"), [(8_192, "persons"), (200_000, "persons"), (8_192, "things")])
def test_a_full_disk_leaves_nothing(tmp_path: Path, limit: int, about: str) -> None:
    """The limit on file sizes stands in for a full disk: the same kind of error from the same calls."""
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "rel"), str(limit), about],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).parents[3],
    )
    assert found.stdout.split() == ["SPOOL_FULL", "False"]


def test_a_source_that_breaks_midway_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("row\n" + "1\n" * 20_000 + "secret-cell\n")
    source = sources.open(SourceSettings(path=str(path), format="csv", columns={"row": "int64"}))
    with pytest.raises(SluicegateError) as caught:
        _make(plans.thing_plan({"row": (KEEP, INT64)}), source, tmp_path)
    assert caught.value.reason is Reason.DATA_INVALID
    assert "secret-cell" not in str(caught.value)
    assert "row: 1 of 20,001 rows hold something else than a whole number" in str(caught.value)
    assert not (tmp_path / "rel").exists()


def test_a_dry_run_says_what_would_happen(tmp_path: Path) -> None:
    frame = pl.concat(
        [
            PEOPLE,
            PEOPLE.head(40).with_columns(
                pl.col("row") + ROWS, town=pl.format("v{}", "row"), id=pl.format("n{}", "row")
            ),
        ]
    )
    plan = plans.plan(FIELDS, **BOUNDED, sensitive={"note": 2}, on_violation="suppress", max_suppression=0.05)
    plan_refusing = plans.plan(FIELDS, **BOUNDED)
    found = release.dry_run(plan, Held(frame), spool=tmp_path / "dry", entropy=os.urandom)
    assert found.passes
    assert (found.rows_in, found.rows_suppressed, found.classes_failing) == (ROWS + 40, 40, 40)
    assert found.k_lowest == 1
    assert found.k_met >= found.k_required == 5
    assert found.l_lowest == {"note": 0}
    assert found.l_met["note"] >= 2
    assert found.columns[0].name == "town"
    assert found.columns[0].suppressed_without == 0
    assert found.columns[-1].suppressed_without == 40
    assert found.sample.height == 10
    assert found.sample.columns == list(FIELDS)
    assert not set(found.sample["town"]) & {f"v{i}" for i in range(40)}
    assert found.highest_risk == pytest.approx(1 / found.k_met)
    assert 0 < found.mean_risk <= found.highest_risk
    assert not (tmp_path / "dry").exists()
    failing = release.dry_run(plan_refusing, Held(frame), spool=tmp_path / "dry", entropy=os.urandom)
    assert not failing.passes
    assert failing.sample.height == 10


def test_a_dry_run_on_things_and_on_hopeless_data(tmp_path: Path) -> None:
    thing = release.dry_run(
        plans.thing_plan({"row": (KEEP, INT64)}), Held(PEOPLE), spool=tmp_path / "d", entropy=os.urandom
    )
    assert thing.passes
    assert thing.columns == ()
    hopeless = plans.plan(FIELDS, **{**BOUNDED, "quasi_identifiers": ("row",)})
    found = release.dry_run(hopeless, Held(PEOPLE), spool=tmp_path / "d", entropy=os.urandom)
    assert not found.passes
    assert (found.share, found.k_met, found.classes, found.highest_risk) == (1.0, 0, 0, 0.0)
    assert found.sample.is_empty()
    assert found.columns[0].suppressed_without == 0


def test_floats_and_decimals_keep_their_values(tmp_path: Path) -> None:
    frame = PEOPLE.with_columns(x=pl.col("row") / 7)
    made = _make(
        plans.thing_plan({"row": (KEEP, INT64), "x": (KEEP, FLOAT64)}, order="keyed"),
        Held(frame),
        tmp_path,
        memory_limit=0,
    )
    found = rows_of(made).sort("row")
    assert found["x"].equals(frame["x"])


@pytest.mark.parametrize("most", [8192, 1], ids=["classes kept once", "rows alone"])
@pytest.mark.parametrize("options", [{}, {"memory_limit": 0}], ids=["memory", "disk"])
def test_how_rows_are_spooled_changes_nothing_that_leaves(
    tmp_path: Path, options: dict[str, Any], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One release under fixed secrets, as its digest was found when texts alone were packed, each batch by itself."""
    monkeypatch.setattr(packing, "_MOST", most)
    made = _make(plans.plan(FIELDS, **BOUNDED), Held(PEOPLE), tmp_path, **options)
    assert made.content_digest == "blake3:fb3ef83a7aaa31882305ed4551d0c923664e85ce7f21e28e538d9f0fca611eb8"
