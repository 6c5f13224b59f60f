"""The consumer, with what it lawfully received: joining it with another's, subtracting it from itself,
searching it for what should have been masked.

It holds whole releases, as bytes off the wire and as files, and has a friend at another company.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.dictionaries import ACCEPT
from contracts.errors import Reason
from tests.attacks.conftest import ARCHIVE, REGISTRY, Attacked
from tests.attacks.raw_flight import RawFlight
from tests.e2e.city import CONTRACTS, City
from tests.e2e.conftest import people
from tests.e2e.steps import Fetching, refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("attacks")]

PAPERS = Path(__file__).parent / "contracts"
ROWS = 6_000
SENT = ["person_id", "serial", "address", "ward", "phone", "income", "remark", "number"]
WARDS = pl.Enum(["left bank", "right bank", "witness protection"])


def residents() -> pl.DataFrame:
    """A source with more in it than its rows say: a category that nobody has, values under nulls."""
    number = pl.int_range(ROWS, eager=True)
    each = range(ROWS)
    return pl.DataFrame(
        {
            "person_id": pl.Series([f"PX{n * 7919 % 1_000_003:07d}" for n in each]),
            "full_name": pl.Series([f"Given{n:05d} Family{n:05d}" for n in each]),
            "serial": pl.Series([f"serial-{n:05d}" for n in each]),
            "address": pl.Series([f"1000{n % 4}, {n:04d} Long Street of the Harbour" for n in each]),
            "ward": pl.Series(WARDS.categories[:2].to_list() * (ROWS // 2), dtype=WARDS),
            "phone": pl.Series([f"139{n:08d}" for n in each]),
            "income": 1_234_567_890_123 + number * 7_919_078,  # odd, and longer than what stands beside it
            "remark": pl.Series([f"under-null-{n:05d}" for n in each]),
            "budget": 9_876_543_210_987 + number * 7_919_078,
            "number": number,
        }
    )


def under_nulls(frame: pl.DataFrame, *columns: str) -> pa.Table:
    """The frame as Arrow, the named columns null with every value still in place beneath."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    nothing = pa.py_buffer(bytes(len(table) // 8 + 1))
    for name in columns:
        held = table[name].chunk(0)
        hidden = pa.Array.from_buffers(held.type, len(held), [nothing, *held.buffers()[1:]])
        table = table.set_column(table.schema.get_field_index(name), name, hidden)
    return table


def write_source(path: Path) -> None:
    """The source as a file of the department."""
    table = under_nulls(residents(), "remark", "budget")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@dataclass
class Haul:
    """One company's release: as rows, as parts, as a Parquet file, as bytes off the wire, written out and packed."""

    rows: pl.DataFrame
    parts: list[pl.DataFrame]
    schema: pa.Schema
    file: Path
    wire: bytes


def haul(city: City, who: str, agreement: str, folder: Path) -> Haul:
    """Take the release in every form that there is."""
    consumer, file = city.exchange(who), folder / f"{who}.parquet"
    consumer.pull(agreement, to=file)
    wire = b""
    for headers in ([], [ACCEPT]):
        granted = consumer.create_transfer(agreement)
        with RawFlight(granted.gateway_address, granted.gateway_ca_certificate) as raw:
            wire += raw.everything(consumer.sign_ticket(granted), *headers)
        finish(city, who, granted.name)
    with Fetching.granted(consumer, agreement) as fetching:
        fetching.announce()
        parts = [fetching.read(part) for part in fetching.parts]
    finish(city, who, fetching.transfer)
    frames = [pl.DataFrame(pl.from_arrow(part)) for part in parts]
    return Haul(pl.concat(frames), frames, parts[0].schema, file, wire)


def finish(city: City, who: str, transfer: str) -> None:
    """Acknowledge what arrived, so that the next pull is granted."""
    settled = city.settle(who, transfer, "COMPLETED")
    assert settled.receipt is not None
    city.exchange(who).acknowledge(transfer, content_digest=settled.receipt.payload["contentDigest"])


def publish(city: City, name: str, folder: Path) -> None:
    """Publish one of the two contracts over the source."""
    write_source(folder / "source.arrow")
    city.source(name, folder / "source.arrow", gateway=REGISTRY, format="arrow")
    city.exchange("keeper").publish((PAPERS / f"{name}.odcs.yaml").read_bytes(), gateway=REGISTRY)


@pytest.fixture(scope="module")
def hauls(attacked: Attacked, tmp_path_factory: pytest.TempPathFactory) -> tuple[Haul, Haul]:
    """The same dataset, pulled by two companies."""
    folder, city = tmp_path_factory.mktemp("hauls"), attacked.city
    publish(city, "residents", folder)
    first, second = (
        haul(city, who, city.agree(who, "registry-office/residents", "planning", approvers=["keeper"]), folder)
        for who in ("analyst", "planner")
    )
    assert sorted(first.rows["number"]) == sorted(second.rows["number"]) == list(range(ROWS))
    return first, second


@pytest.fixture(scope="module")
def blobs(attacked: Attacked, hauls: tuple[Haul, Haul], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """All bytes that went over the wire: of rows about persons, which are dealt into a new order, and of
    rows about no person, which leave as they were made."""
    folder = tmp_path_factory.mktemp("works")
    publish(attacked.city, "works", folder)
    agreement = attacked.city.agree("analyst", "registry-office/works", "planning")
    plain = haul(attacked.city, "analyst", agreement, folder)
    assert plain.rows["number"].to_list() == list(range(ROWS))
    return [one.wire for one in (*hauls, plain)]


# --- joining two recipients' releases
#
# `number` leaves as it is, so that the test can tell which rows are one person. The attacker joins by
# everything else. All bounds below are missed by chance less than once in a hundred million runs.

TOGETHER = 6 / ROWS**0.5  # a correlation of two random orders that does not happen


def places(haul: Haul, by: str | None = None) -> np.ndarray:
    """Person -> place in the release, or in the release sorted by a column."""
    rows = haul.rows if by is None else haul.rows.sort(by)
    found: np.ndarray = rows["number"].arg_sort().to_numpy()
    return found


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return abs(float(np.corrcoef(first, second)[0, 1]))


def test_two_recipients_zip_their_rows_by_position(hauls: tuple[Haul, Haul]) -> None:
    """Rows leave in an order keyed by the agreement's secret."""
    mine, theirs = (places(one) for one in hauls)
    source = np.arange(ROWS)
    assert (mine == theirs).sum() < 20, "rows at the same place are one person no oftener than by chance"
    for one, other in ((mine, theirs), (mine, source), (theirs, source)):
        assert correlation(one, other) < TOGETHER
        neighbours = np.abs(np.diff(other[np.argsort(one)])) == 1
        assert neighbours.sum() < 25, "who stands side by side here stands so there no oftener than by chance"


def test_two_recipients_join_by_parts(hauls: tuple[Haul, Haul]) -> None:
    """Which part holds a row, and how many rows a part has, says nothing about the other's parts."""
    mine, theirs = (
        np.concatenate([np.full(len(part), index) for index, part in enumerate(one.parts)])[places(one)]
        for one in hauls
    )
    sizes = [[len(part) for part in one.parts] for one in hauls]
    assert min(map(len, sizes)) > 5
    assert sizes[0] != sizes[1]
    met = np.histogram2d(mine, theirs, bins=[len(sizes[0]), len(sizes[1])])[0]
    expected = np.outer(met.sum(axis=1), met.sum(axis=0)) / ROWS
    freedom = (met.shape[0] - 1) * (met.shape[1] - 1)
    assert ((met - expected) ** 2 / expected).sum() < freedom + 9 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("column", ["person_id", "serial"])
def test_two_recipients_join_by_pseudonym(hauls: tuple[Haul, Haul], column: str) -> None:
    """A pseudonym is made with the agreement's own key: equal nowhere, and in no common order."""
    mine, theirs = hauls
    assert mine.rows[column].n_unique() == ROWS
    assert not set(mine.rows[column]) & set(theirs.rows[column])
    assert correlation(places(mine, column), places(theirs, column)) < TOGETHER
    assert correlation(places(mine, column), np.arange(ROWS)) < TOGETHER


def spread(statistics: pq.Statistics) -> int:
    """How far the values of a column reach in one row group."""
    return int(statistics.max - statistics.min)


def test_two_recipients_join_by_metadata(hauls: tuple[Haul, Haul], attacked: Attacked, tmp_path: Path) -> None:
    """Streams and files carry rows and nothing about whom, when, where or from what they were made."""
    footers = []
    for one in hauls:
        assert one.schema.names == SENT
        assert not one.schema.metadata
        assert not any(field.metadata for field in one.schema)
        assert all(pa.types.is_string(field.type) or pa.types.is_integer(field.type) for field in one.schema)
        footer = pq.read_metadata(one.file)
        assert set(footer.metadata or {}) <= {b"ARROW:schema"}
        footers.append((footer.created_by, footer.metadata, footer.num_row_groups, footer.format_version))
        groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
        assert all(spread(group.column(SENT.index("number")).statistics) > ROWS * 0.9 for group in groups)
    assert footers[0] == footers[1], "nothing in the footers tells the companies apart"
    agreement = attacked.city.exchange("analyst").agreements("ACTIVE")
    mine = next(found.name for found in agreement if found.dataset.endswith("/residents"))
    attacked.city.exchange("analyst").pull(mine, to=tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == hauls[0].file.read_bytes(), "no clock, no chance, no host"


# --- searching the bytes


def raw_values(column: str) -> set[bytes]:
    """How each value of a source's column would look in a buffer."""
    values = residents()[column]
    if values.dtype == pl.Int64:
        return {int(value).to_bytes(8, "little") for value in values}
    return {str(value).encode() for value in values}


def found(wanted: set[bytes], blob: bytes) -> set[bytes]:
    """Which of the values stand anywhere in the bytes."""
    return {
        window
        for length in {len(value) for value in wanted}
        for window in {blob[at : at + length] for at in range(len(blob) - length + 1)} & wanted
    }


@pytest.mark.parametrize(
    "column", ["person_id", "full_name", "serial", "address", "phone", "income", "remark", "budget"]
)
def test_raw_values_are_in_the_bytes_on_the_wire(blobs: list[bytes], column: str, tmp_path: Path) -> None:
    """No raw value leaves: not behind what was cut off, not under a null, not of a column that is not sent."""
    raw = raw_values(column)
    write_source(tmp_path / "source.arrow")
    assert found(raw, (tmp_path / "source.arrow").read_bytes()) == raw, "the search would have found them"
    for blob in blobs:
        assert len(blob) > 500_000
        assert found(raw, blob) == set()


def test_categories_that_nobody_has_are_in_a_dictionary(blobs: list[bytes]) -> None:
    """Enum and categorical become plain text: their dictionaries carry every category."""
    for blob in blobs:
        assert b"left bank" in blob
        assert b"witness protection" not in blob


# --- subtracting one release from another


DATASETS = itertools.count()


@dataclass
class Growing:
    """A register at the archive that grows by a resident between two looks."""

    city: City
    source: Path
    agree: Callable[..., str]

    def grow(self) -> None:
        """One more resident, all alone in what is new."""
        known = pl.read_parquet(self.source)
        fresh = self.source.with_suffix(".new")
        pl.concat([known, people(known.height + 1).tail(1)]).write_parquet(fresh)
        fresh.replace(self.source)


@pytest.fixture
def growing(attacked: Attacked, tmp_path: Path) -> Growing:
    """A dataset of its own for each test."""
    name = f"people-{next(DATASETS)}"
    source, city = tmp_path / "growing.parquet", attacked.city
    people(ROWS).write_parquet(source)
    document = (CONTRACTS / "people.odcs.yaml").read_bytes().replace(b"registry", b"archive")
    document = document.replace(b"keeper@", b"archivist@").replace(b"name: people", b"name: " + name.encode())
    city.publish("archivist", document, source, gateway=ARCHIVE)

    def agree(**asked: tuple[str, ...]) -> str:
        return city.agree("analyst", f"archive-office/{name}", "planning", approvers=["archivist"], **asked)

    return Growing(city, source, agree)


def test_two_pulls_around_a_change_are_subtracted(growing: Growing) -> None:
    """Pulls within the refresh interval serve the same release, even if the source changes meanwhile."""
    analyst, agreement = growing.city.exchange("analyst"), growing.agree()
    before = analyst.pull(agreement)
    growing.grow()
    after = analyst.pull(agreement)
    assert after.receipt.payload["release"] == before.receipt.payload["release"]
    assert after.receipt.payload["contentDigest"] == before.receipt.payload["contentDigest"]
    assert after.frame().equals(before.frame())


@pytest.mark.parametrize("fields", [(), ("person_id", "district", "score")], ids=["same", "others"])
def test_a_second_agreement_is_made_to_get_a_second_release(growing: Growing, fields: tuple[str, ...]) -> None:
    """The interval is the consumer's for that purpose, not the agreement's: who ends one and makes another waits."""
    analyst, agreement = growing.city.exchange("analyst"), growing.agree()
    refused(lambda: growing.agree(fields=fields), Reason.ALREADY_EXISTS)
    analyst.pull(agreement)
    growing.grow()
    analyst.terminate(agreement, reason="no longer needed")
    second, standing = growing.agree(fields=fields), growing.city.releases(ARCHIVE)
    told = refused(lambda: analyst.pull(second), Reason.REFRESH_PENDING)
    assert agreement not in str(told)
    assert growing.city.releases(ARCHIVE) == standing, "no second release was even made"


# --- subtracting and joining releases of one interval and the next

K = 5


@dataclass
class Successive:
    """A register whose releases follow each other by seconds; the attacker keeps them all."""

    city: City
    source: Path
    name: str
    got: list[pl.DataFrame] = field(default_factory=list)
    _next: float = 0.0

    def agree(self, *fields: str, purpose: str = "planning") -> str:
        """An agreement on all fields, or on some."""
        some = {"fields": fields} if fields else {}
        return self.city.agree("analyst", f"archive-office/{self.name}", purpose, approvers=["archivist"], **some)

    def becomes(self, table: pl.DataFrame) -> None:
        """The department's table is another from now on."""
        fresh = self.source.with_suffix(".new")
        table.write_parquet(fresh)
        fresh.replace(self.source)

    def pull(self, agreement: str) -> pl.DataFrame:
        """The release of the next interval: nothing is waited for before the first."""
        time.sleep(max(0.0, self._next - time.monotonic()))
        self.got.append(self.city.exchange("analyst").pull(agreement).frame())
        self._next = time.monotonic() + 1.1
        return self.got[-1]


@pytest.fixture
def successive(attacked: Attacked, tmp_path: Path) -> Successive:
    """A dataset of its own for each test, suppressing what it must."""
    return published(attacked, tmp_path, "[district]")


def published(attacked: Attacked, tmp_path: Path, quasi_identifiers: str) -> Successive:
    """A dataset with its contract, whose quasi-identifiers are these."""
    name, city = f"people-{next(DATASETS)}", attacked.city
    source = tmp_path / "successive.parquet"
    people(ROWS).write_parquet(source)
    document = (CONTRACTS / "people.odcs.yaml").read_bytes().replace(b"registry", b"archive")
    document = document.replace(b"keeper@", b"archivist@").replace(b"name: people", b"name: " + name.encode())
    document = document.replace(b"refresh: P1D", b"refresh: PT1S").replace(
        b"require: {k: 5}\n          onViolation: refuse",
        b"require: {k: 5, maxSuppression: 0.5}\n          onViolation: suppress",
    )
    document = document.replace(b"quasiIdentifiers: [district]", f"quasiIdentifiers: {quasi_identifiers}".encode())
    document = with_safety(document)
    city.publish("archivist", document, source, gateway=ARCHIVE)
    return Successive(city, source, name)


def with_safety(document: bytes) -> bytes:
    """The contract with a second purpose, which is the first one under another name."""
    text = document.decode()
    begin, end = text.index("      planning:\n"), text.index("  - property: negativeList")
    text = text[:end] + text[begin:end].replace("planning:", "safety:") + text[end:]
    role = text[text.index("  - role: planning\n") : text.index("customProperties:\n  - property: sharing")]
    return text.replace(role, role + role.replace("planning", "safety")).encode()


def newcomers(count: int, district: str) -> pl.DataFrame:
    """Residents who were not there, all of one district."""
    return people(ROWS + count).tail(count).with_columns(district=pl.lit(district))


@pytest.mark.parametrize("new", [1, K - 1, K])
@pytest.mark.parametrize("fields", [(), ("district", "score", "since")], ids=["pseudonyms", "none"])
def test_two_intervals_are_subtracted_to_see_who_came(
    successive: Successive, new: int, fields: tuple[str, ...]
) -> None:
    """Newcomers of a class wait until k have gathered."""
    table = people(ROWS)
    district = table["district"][0]
    agreement = successive.agree(*fields)
    before = successive.pull(agreement)
    successive.becomes(pl.concat([table, newcomers(new, district)]))
    after = successive.pull(agreement)
    assert after.height - before.height == (0 if new < K else new)
    columns = ["district", "score", "since"]
    assert before.select(columns).sort(columns).equals(after.select(columns).sort(columns)) == (new < K)


@pytest.mark.parametrize("left", [1, K - 1, K])
def test_two_intervals_are_subtracted_to_see_who_went(successive: Successive, left: int) -> None:
    """Of a class that few left, nobody is in the next release: the difference is the class."""
    table = people(ROWS)
    district = table["district"][0]
    agreement = successive.agree("district", "score", "since")
    successive.pull(agreement)
    members = table.filter(pl.col("district") == district)
    successive.becomes(pl.concat([table.filter(pl.col("district") != district), members.slice(left)]))
    after = successive.pull(agreement)
    stayed = after.filter(pl.col("district") == district).height
    assert stayed == (0 if left < K else members.height - left)
    assert after.filter(pl.col("district") != district).height == table.height - members.height


def test_a_pseudonym_joins_two_intervals_to_see_who_moved(successive: Successive) -> None:
    """Both districts are large, in both releases; the two who moved would stand alone between them."""
    table = people(ROWS)
    one, other = table["district"].unique().sort()[:2]
    movers = table.filter(pl.col("district") == one)["person_id"][:2]
    agreement = successive.agree()
    before = successive.pull(agreement)
    moved = pl.when(pl.col("person_id").is_in(movers.implode())).then(pl.lit(other)).otherwise(pl.col("district"))
    successive.becomes(table.with_columns(moved.alias("district")))
    after = successive.pull(agreement)
    joined = before.join(after, on="person_id", how="full", suffix="_then")
    journeys = joined.group_by("district", "district_then").len()
    assert all(persons >= K for persons in journeys["len"])
    assert joined.filter(pl.col("district") != pl.col("district_then")).height == 0


def test_another_agreement_on_fewer_fields_is_subtracted(successive: Successive) -> None:
    """What was sent is the consumer's, not the agreement's; persons are told apart where rows cannot be."""
    table = people(ROWS)
    first = successive.agree()
    before = successive.pull(first)
    successive.city.exchange("analyst").terminate(first, reason="no longer needed")
    successive.becomes(pl.concat([table, newcomers(K - 1, table["district"][0])]))
    after = successive.pull(successive.agree("district", "score"))
    assert after.group_by("district").len().sort("district").equals(before.group_by("district").len().sort("district"))


@pytest.mark.parametrize("few", [K - 1, K])
def test_another_agreement_on_other_fields_is_joined(attacked: Attacked, tmp_path: Path, few: int) -> None:
    """A new field's small cell is suppressed, and would be what the first release has besides."""
    successive = published(attacked, tmp_path, "[district, score]")
    here = pl.col("district") == "north"
    scored = pl.when(here & (pl.int_range(pl.len()).over("district") < few)).then(1).otherwise(0)
    table = people(ROWS).with_columns(score=scored.cast(pl.Int64))
    successive.becomes(table)
    first = successive.agree("district", "since")
    assert successive.pull(first).height == table.height
    successive.city.exchange("analyst").terminate(first, reason="no longer needed")
    after = successive.pull(successive.agree("district", "score", "since"))
    north = table.filter(here).height
    assert after.height == table.height - (north if few < K else 0)


# --- two agreements at once, each for a purpose of its own


@pytest.mark.parametrize("new", [1, K - 1, K])
@pytest.mark.parametrize("fields", [(), ("district", "score")], ids=["same", "others"])
def test_two_live_agreements_are_subtracted(successive: Successive, new: int, fields: tuple[str, ...]) -> None:
    """What is sent under one is compared with what was sent under the other, a moment before."""
    table = people(ROWS)
    district = table["district"][0]
    first, second = successive.agree(), successive.agree(*fields, purpose="safety")
    live = [found.name for found in successive.city.exchange("analyst").agreements("ACTIVE")]
    assert {first, second} <= set(live)
    before = successive.pull(first)
    successive.becomes(pl.concat([table, newcomers(new, district)]))
    after = successive.pull(second)
    assert after.height - before.height == (0 if new < K else new)
    again = successive.pull(first)
    assert again.height - before.height == (0 if new < K else new)
    assert not set(before["person_id"]) & set(after["person_id"] if not fields else [])


def test_two_live_agreements_are_pulled_at_once(successive: Successive) -> None:
    """One is made after the other, and compared with it: both leave, with the same rows."""
    agreements = [successive.agree(), successive.agree(purpose="safety")]
    analyst = successive.city.exchange("analyst")
    with ThreadPoolExecutor(2) as both:
        found = [pulled.result().frame() for pulled in [both.submit(analyst.pull, one) for one in agreements]]
    assert [frame.height for frame in found] == [ROWS, ROWS]
    columns = ["district", "score", "since"]
    assert found[0].select(columns).sort(columns).equals(found[1].select(columns).sort(columns))


def test_a_second_agreement_for_the_same_purpose_is_refused_and_the_first_is_named(successive: Successive) -> None:
    first = successive.agree()
    told = refused(lambda: successive.agree("district", "score"), Reason.ALREADY_EXISTS)
    assert first in str(told)
    assert "for planning" in str(told)
