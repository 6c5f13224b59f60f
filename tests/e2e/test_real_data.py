"""Real data, published, requested, approved and pulled through real processes: the Adult census extract
and the Chicago taxi trips, four purposes of three contracts, each held to what it promises.

What a release should hold is computed by DuckDB from the same source, from the contract's words alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts import odcs
from contracts.envelope import Envelope
from exchange.pulling import digest_by_receipt, digest_of
from tests.e2e import stock
from tests.e2e.city import CONTRACTS, City
from tests.e2e.conftest import STATISTICS
from tests.e2e.independent import content_digest, found_in, hidden, pages, tellable

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]

LABOUR = """
    WITH masked AS (
        SELECT person_id,
            CASE WHEN age < 30 THEN 0 WHEN age < 45 THEN 30 WHEN age < 60 THEN 45 ELSE 60 END AS age,
            left(workclass, 3) AS workclass,
            CASE WHEN education IN ('Bachelors', 'Masters', 'Doctorate', 'Prof-school') THEN 'degree'
                 WHEN education IN ('Some-college', 'Assoc-voc', 'Assoc-acdm') THEN 'college'
                 WHEN education = 'HS-grad' THEN 'school' ELSE 'less' END AS education,
            'withheld' AS relationship,
            CASE WHEN count(*) OVER (PARTITION BY race) >= 1000 THEN race ELSE 'fewer' END AS race,
            sex,
            NULL::BIGINT AS "capital-loss",
            (floor("hours-per-week" / 25.0 + 0.5) * 25)::BIGINT AS "hours-per-week",
            CASE WHEN "native-country" IS NULL THEN NULL
                 WHEN count(*) OVER (PARTITION BY "native-country") >= 600 THEN "native-country"
                 ELSE 'elsewhere' END AS "native-country",
            income
        FROM source),
    judged AS (
        SELECT *, count(*) OVER class AS k, min(income) OVER class <> max(income) OVER class AS diverse
        FROM masked
        WINDOW class AS (PARTITION BY age, workclass, education, race, sex, "native-country"))
    SELECT * EXCLUDE (person_id, k, diverse) FROM judged WHERE k >= 5 AND diverse"""
COHORT = "SELECT (age // 20) * 20 AS age, sex FROM source"
TRIPS = """
    WITH masked AS (
        SELECT tip, floor(distance / 10) * 10 AS distance, local, month, hour // 6 * 6 AS hour FROM source),
    judged AS (
        SELECT *, count(*) OVER class AS k, min(tip) OVER class <> max(tip) OVER class AS diverse FROM masked
        WINDOW class AS (PARTITION BY distance, local, month, hour))
    SELECT * EXCLUDE (k, diverse) FROM judged WHERE k >= 5 AND diverse"""
FLEET = "SELECT floor(distance / 5 + 0.5) * 5 AS distance, dow, hour // 3 * 3 AS hour FROM source"

USUAL = """
    WITH masked AS (SELECT floor(distance / 5 + 0.5) * 5 AS distance, dow, hour // 3 * 3 AS hour FROM source)
    SELECT * FROM masked QUALIFY count(*) OVER (PARTITION BY distance, dow, hour) >= 10"""


@dataclass(frozen=True)
class Case:
    """One purpose: who asks, who approves, what DuckDB makes of the source. `pseudonym` is the column
    that only the gateway's secret can make."""

    dataset: str
    purpose: str
    consumer: str
    approvers: tuple[str, ...]
    expected: str
    pseudonym: str = ""
    suppressed: bool = False
    keyed: bool = True

    @property
    def columns(self) -> str:
        """How DuckDB takes the pulled file for comparison."""
        return f'* EXCLUDE ("{self.pseudonym}")' if self.pseudonym else "*"


CASES = {
    case.purpose: case
    for case in (
        Case("census-extract", "labour-market", "analyst", ("steward",), LABOUR, suppressed=True),
        Case("census-extract", "cohort-study", "researcher", ("steward", "dpo"), COHORT, pseudonym="person_id"),
        Case("taxi-trips", "transport-planning", "analyst", ("steward",), TRIPS, suppressed=True),
        Case("taxi-fleet", "fleet-study", "planner", (), FLEET, pseudonym="company", keyed=False),
        Case("taxi-extracts", "usual-trips", "planner", (), USUAL, suppressed=True),
    )
}


@dataclass
class Release:
    """One purpose, pulled by the command line into three formats and read by a stock Flight client."""

    case: Case
    city: City
    source: Path
    agreement: str
    folder: Path
    summary: dict[str, Any]
    transfer: str
    told: dict[str, Any] = field(default_factory=dict)

    def file(self, ending: str) -> Path:
        """The pulled file of that format."""
        return self.folder / f"pulled.{ending}"

    @property
    def receipt(self) -> dict[str, Any]:
        """What the gateway attested."""
        papers = json.loads((self.folder / "pulled.parquet.receipt.json").read_bytes())
        found: dict[str, Any] = papers["receipt"]["payload"]
        return found

    def received(self) -> pa.Table:
        """What the stock client received."""
        with pa.ipc.open_file(self.folder / "data.arrow") as reader:
            return reader.read_all()

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """DuckDB over `source`, the `pulled` Parquet file and what is `expected` of it."""
        connection = duckdb.connect()
        # The product reads these words as text; DuckDB would take yes and no for truth values.
        kept = "types = {'tip': 'VARCHAR', 'local': 'VARCHAR'}, " if self.source.name == "taxi.csv" else ""
        connection.execute(f"CREATE VIEW source AS FROM read_csv('{self.source}', {kept} header = true)")
        connection.execute(f"CREATE VIEW pulled AS FROM '{self.file('parquet')}'")
        connection.execute(f"CREATE VIEW expected AS {self.case.expected}")
        return connection


@pytest.fixture(scope="session")
def published(city: City, adult: Path, trips: Path) -> dict[str, Path]:
    """Dataset -> source. The contracts are tried on the data first, as a steward would."""
    sources = {"census-extract": adult, "taxi-trips": trips, "taxi-fleet": trips, "taxi-extracts": trips}
    for dataset, source in sources.items():
        contract = CONTRACTS / f"{dataset}.odcs.yaml"
        if dataset == "census-extract":  # by hand once, in full
            city.run("contract", "lint", contract)
            tried = city.ask("contract", "test", contract, "--data", source)
            assert {found["purpose"]: found["passes"] for found in tried} == {
                "labour-market": True,
                "cohort-study": True,
            }
            city.run("source", "bind", dataset, source, "--gateway", STATISTICS)
            city.run("publish", contract, "--gateway", STATISTICS, "--as", "steward")
        else:
            city.publish("steward", contract.read_bytes(), source, gateway=STATISTICS)
    return sources


@pytest.fixture(scope="session")
def pulled() -> dict[str, Release]:
    """The releases so far, by case: each is made once, whatever order the tests come in."""
    return {}


@pytest.fixture(scope="session", params=CASES)
def release(
    request: pytest.FixtureRequest,
    city: City,
    published: dict[str, Path],
    pulled: dict[str, Release],
    tmp_path_factory: pytest.TempPathFactory,
) -> Release:
    if request.param not in pulled:
        pulled[request.param] = _release(CASES[request.param], city, published, tmp_path_factory)
    return pulled[request.param]


def _release(case: Case, city: City, published: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Release:
    folder = tmp_path_factory.mktemp(case.purpose)
    agreement = city.agree(case.consumer, f"statistics-office/{case.dataset}", case.purpose, approvers=case.approvers)
    consumer, by_hand = city.exchange(case.consumer), case.purpose == "labour-market"
    if by_hand:
        summary = city.ask("pull", agreement, "--out", folder / "pulled.parquet", "--as", case.consumer)
    else:
        summary = consumer.pull(agreement, to=folder / "pulled.parquet").summary()
    for ending in ("csv", "arrow"):
        consumer.pull(agreement, to=folder / f"pulled.{ending}")
    transfer, told = read_with_a_stock_client(city, case, agreement, folder, by_hand=by_hand)
    return Release(case, city, published[case.dataset], agreement, folder, summary, transfer, told)


def read_with_a_stock_client(
    city: City, case: Case, agreement: str, folder: Path, *, by_hand: bool
) -> tuple[str, dict[str, Any]]:
    """The same release once more, by a client that knows nothing of us but the ticket; the transfer, and
    what the gateway told."""
    consumer, paths = city.exchange(case.consumer), (folder / "ticket", folder / "ticket.ca.pem")
    if by_hand:
        written = city.ask("ticket", agreement, "--out", paths[0], "--as", case.consumer)
        transfer, address = written["transfer"], written["address"]
        assert written["caCertificate"] == str(paths[1])
    else:
        granted, ticket = consumer.ticket(agreement)
        transfer, address = granted.name, granted.gateway_address
        paths[0].write_bytes(ticket)
        paths[1].write_text(granted.gateway_ca_certificate)
    command = [sys.executable, stock.__file__, address, *map(str, paths), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=60, env={"PATH": os.environ["PATH"]})
    if by_hand:
        city.run("receipts", transfer, "--acknowledge", folder / "data.arrow", "--as", case.consumer)
    else:
        completed = city.settle(case.consumer, transfer, "COMPLETED")
        consumer.acknowledge(transfer, content_digest=digest_of(folder / "data.arrow", completed))
    told: dict[str, Any] = json.loads((folder / "told.json").read_bytes())
    return transfer, told


# --- every release ---------------------------------------------------------------------------


def test_a_stock_flight_client_gets_the_same_content(release: Release) -> None:
    computed = content_digest(release.received(), release.told["parts"], release.receipt["hash"])
    assert computed == release.summary["contentDigest"] == release.told["intent"]["payload"]["contentDigest"]
    assert release.told["release"] == release.receipt["release"]
    assert release.told["totalRecords"] == release.received().num_rows == release.summary["rows"]
    acknowledged = release.city.exchange(release.case.consumer).transfer(release.transfer)
    assert acknowledged.state == "ACKNOWLEDGED"
    assert acknowledged.acknowledgement is not None
    assert acknowledged.acknowledgement.payload["contentDigest"] == computed


def test_rows_are_what_the_contract_says(release: Release) -> None:
    connection = release.duckdb()
    pulled, expected = f"SELECT {release.case.columns} FROM pulled", "FROM expected"
    names = [row[0] for row in connection.execute(f"DESCRIBE {pulled}").fetchall()]
    assert names == [row[0] for row in connection.execute("DESCRIBE expected").fetchall()]
    (count,) = connection.execute("SELECT count(*) FROM expected").fetchall()[0]
    assert count == release.summary["rows"] > 9_000
    for more, less in ((pulled, expected), (expected, pulled)):
        assert connection.execute(f"SELECT count(*) FROM ({more} EXCEPT ALL {less})").fetchall() == [(0,)]


def test_rows_about_persons_are_not_in_the_source_s_order(release: Release) -> None:
    connection = release.duckdb()
    pulled = connection.execute(f"SELECT {release.case.columns} FROM pulled").fetchall()
    expected = connection.execute("FROM expected").fetchall()
    assert release.receipt["order"] == ("keyed" if release.case.keyed else "source")
    if not release.case.keyed:
        assert pulled == expected
        return
    # By chance alone, as many rows stand where they stood as two shuffles of these values would share.
    same = sum(a == b for a, b in zip(pulled, expected, strict=True))
    counts = {row: pulled.count(row) for row in set(pulled)}
    by_chance = sum(count * count for count in counts.values()) / len(pulled)
    assert abs(same - by_chance) < 8 * by_chance**0.5


def test_no_raw_value_is_in_the_files_or_on_the_wire(release: Release) -> None:
    contract = odcs.load((CONTRACTS / f"{release.case.dataset}.odcs.yaml").read_bytes()).contract
    masks = contract.purposes[release.case.purpose].fields
    kept = {name for name, mask in masks.items() if mask.id == "keep"}
    raw = pd.read_csv(release.source, dtype=str, keep_default_na=False)
    received = release.received()
    # Made by masks, not found in the source: what pulled cells may lawfully be, and words of the papers.
    connection = release.duckdb()
    lawful = {str(value) for row in connection.execute("FROM expected").fetchall() for value in row}
    lawful |= {*contract.purposes, contract.dataset, *received.schema.names}
    secret = {value for name in raw.columns if name not in kept for value in tellable(raw[name].unique(), lawful)}
    assert len(secret) > 1_000
    wire = (release.folder / "wire.bin").read_bytes()
    assert len(wire) > received.nbytes
    # The papers' own figures are spelled like some fares and distances: they are cut out with their names.
    if release.receipt["bounds"]:
        figures = [
            name for name, value in release.receipt["bounds"]["certificate"].items() if value and name != "spread"
        ]
        named = rf'"({"|".join(figures)})":\s*[-+0-9.e]+'.encode()
        assert re.search(named, wire)
        wire = re.sub(named, b"", wire)
    assert found_in(wire, secret) == set()
    arrow, csv = release.file("arrow").read_bytes(), release.file("csv").read_bytes()
    # Four given characters stand in compressed pages by chance now and then.
    for blob, least in ((arrow, 4), (csv, 4), (pages(release.file("parquet")), 5)):
        assert len(blob) > 10_000
        assert found_in(blob, {value for value in secret if len(value) >= least}) == set()
    assert found_in(release.source.read_bytes(), secret) == secret, "the search itself would have found them"


def test_nothing_is_hidden_in_the_buffers(release: Release) -> None:
    assert list(hidden(release.received().to_batches())) == []
    with pa.ipc.open_file(release.file("arrow")) as reader:
        assert list(hidden(reader.get_batch(index) for index in range(reader.num_record_batches))) == []


def test_numbers_are_those_of_the_masks_in_every_slot(release: Release) -> None:
    connection = release.duckdb()
    for name in release.received().schema.names:
        column = release.received()[name]
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            continue
        lawful = {0, *(row[0] for row in connection.execute(f'SELECT DISTINCT "{name}" FROM expected').fetchall())}
        for chunk in column.chunks:
            slots = memoryview(chunk.buffers()[1]).cast("d" if pa.types.is_floating(column.type) else "q")
            assert set(slots) <= lawful, name


def test_the_receipt_verifies_offline(release: Release, tmp_path: Path) -> None:
    papers, data = release.folder / "pulled.parquet.receipt.json", release.file("parquet")
    trust = release.city.home.trust
    # In a home that knows no exchange: nothing but the trust file and the papers.
    verdict = json.loads(
        release.city.run("verify", papers, "--data", data, "--trust", trust, "--output", "json", root=tmp_path).stdout
    )
    assert verdict["stands"]
    assert not [step for step in verdict["steps"] if not step["ok"]]
    receipt = Envelope.from_bytes(json.dumps(json.loads(papers.read_bytes())["receipt"]).encode())
    assert digest_by_receipt(release.file("arrow"), receipt) == release.summary["contentDigest"]


def test_duckdb_and_pandas_open_every_format(release: Release) -> None:
    rows = release.summary["rows"]
    connection = duckdb.connect()
    for ending in ("parquet", "csv"):
        assert connection.execute(f"SELECT count(*) FROM '{release.file(ending)}'").fetchall() == [(rows,)]
    frames = (
        pd.read_parquet(release.file("parquet")),
        pd.read_csv(release.file("csv")),
        pd.read_feather(release.file("arrow")),
    )
    for frame in frames:
        assert len(frame) == rows
        assert list(frame.columns) == list(frames[0].columns)
    pd.testing.assert_frame_equal(frames[0], frames[2])


def test_pulls_within_the_refresh_interval_serve_the_same_release(release: Release) -> None:
    papers = [json.loads(path.read_bytes())["receipt"]["payload"] for path in release.folder.glob("*.receipt.json")]
    assert len(papers) == 3
    assert {paper["release"] for paper in papers} == {release.receipt["release"]}
    assert {paper["contentDigest"] for paper in papers} == {release.receipt["contentDigest"]}


# --- single promises -------------------------------------------------------------------------


def only(*purposes: str) -> Callable[[Any], Any]:
    """A test of these purposes' releases only."""
    return pytest.mark.parametrize("release", purposes, indirect=True)


@only("labour-market", "transport-planning")
def test_k_and_l_are_as_attested_by_an_independent_count(release: Release) -> None:
    quasi, sensitive = {
        "labour-market": ('age, workclass, education, race, sex, "native-country"', "income"),
        "transport-planning": ("distance, local, month, hour", "tip"),
    }[release.case.purpose]
    # In both sources every row is another person, so rows of a class are persons of a class.
    query = f"SELECT count(*) AS k, count(DISTINCT {sensitive}) AS l FROM pulled GROUP BY {quasi}"
    ((k, diversity, classes),) = release.duckdb().execute(f"SELECT min(k), min(l), count(*) FROM ({query})").fetchall()
    bounds = release.receipt["bounds"]
    assert (bounds["kMet"], bounds["lMet"], bounds["classes"]) == (k, {sensitive: diversity}, classes)
    assert k >= bounds["kRequired"] == 5
    assert diversity >= bounds["lRequired"][sensitive] == 2
    total = release.duckdb().execute("SELECT count(*) FROM source").fetchall()[0][0]
    assert release.receipt["rowsIn"] == total
    assert release.receipt["rowsSuppressed"] == total - release.summary["rows"] > 0


@only("cohort-study")
def test_pseudonyms_are_one_a_person_and_k_holds_over_what_they_join(release: Release) -> None:
    query = "SELECT age, sex, count(DISTINCT person_id) AS k FROM pulled GROUP BY age, sex"
    ((k, people, rows),) = (
        release.duckdb()
        .execute(f"SELECT min(k), (SELECT count(DISTINCT person_id) FROM pulled), sum(k) FROM ({query})")
        .fetchall()
    )
    assert release.receipt["bounds"]["kMet"] == k >= 20
    assert people == rows == 32_561
    shapes = {re.fullmatch("[0-9a-f]{32}", value) is not None for value in release.received()["person_id"].to_pylist()}
    assert shapes == {True}


@only("fleet-study")
def test_pseudonyms_of_companies_join_as_the_companies_do(release: Release) -> None:
    names = [row[0] for row in release.duckdb().execute("SELECT company FROM source").fetchall()]
    pairs = set(zip(names, release.received()["company"].to_pylist(), strict=True))
    assert len(pairs) == len(set(names)) == len({pseudonym for _, pseudonym in pairs}) == 7


@only("labour-market", "transport-planning")
@pytest.mark.needs_spark
def test_spark_opens_the_parquet_file(release: Release) -> None:
    script = """
import json, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
frame = spark.read.parquet(sys.argv[1])
print(json.dumps({"rows": frame.count(), "columns": frame.dtypes, "first": frame.first().asDict()}))
spark.stop()
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLUICEGATE_", "PYTHON"))}
    done = subprocess.run(
        [os.environ["SLUICEGATE_SPARK_PYTHON"], "-c", script, str(release.file("parquet"))],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=environment,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    words = {"string": "string", "int64": "bigint", "float64": "double"}
    assert told["rows"] == release.summary["rows"]
    assert told["columns"] == [[name, words[kind]] for name, kind in release.receipt["schema"]]
    assert told["first"] == pq.read_table(release.file("parquet")).slice(0, 1).to_pylist()[0]


@only("labour-market")
def test_one_changed_value_is_caught(release: Release, tmp_path: Path) -> None:
    table = pq.read_table(release.file("parquet"))
    name = next(column.name for column in table.schema if pa.types.is_string(column.type))
    cells = table[name].to_pylist()
    cells[-1] = f"{cells[-1]}x"
    changed = table.set_column(table.schema.get_field_index(name), name, pa.array(cells, table.schema.field(name).type))
    pq.write_table(changed, tmp_path / "changed.parquet")
    papers = release.folder / "pulled.parquet.receipt.json"
    told = release.city.run(
        *("verify", papers, "--data", tmp_path / "changed.parquet", "--trust", release.city.home.trust),
        code=8,
        root=tmp_path,
    )
    assert "IT DOES NOT STAND" in told.stdout


@only("labour-market")
def test_a_value_under_every_null_is_gone(release: Release) -> None:
    losses = release.received()["capital-loss"]
    assert losses.null_count == len(losses)
    for chunk in losses.chunks:
        assert not bytes(chunk.buffers()[1]).strip(b"\0")


def test_two_consumers_share_neither_order_nor_pseudonym(city: City, published: dict[str, Path]) -> None:
    pulled = []
    for consumer in ("analyst", "researcher"):
        agreement = city.agree(consumer, "statistics-office/taxi-fleet", "fleet-study")
        pulled.append(city.exchange(consumer).pull(agreement).frame())
    assert pulled[0].drop("company").equals(pulled[1].drop("company"))  # about no person: the source's order
    assert not set(pulled[0]["company"]) & set(pulled[1]["company"])


def test_of_a_sample_whole_companies_leave(city: City, published: dict[str, Path]) -> None:
    """Of each company that is drawn every trip, of the others none; pulled again, the same."""
    agreement = city.agree("analyst", "statistics-office/taxi-extracts", "some-companies")
    frame = city.exchange("analyst").pull(agreement).frame()
    source = duckdb.sql(f"SELECT count(*) FROM read_csv('{published['taxi-extracts']}') GROUP BY company").fetchall()
    drawn = frame.group_by("company").len()["len"].to_list()
    assert drawn
    left = [count for (count,) in source]
    for count in drawn:
        left.remove(count)
    assert city.exchange("analyst").pull(agreement).frame().equals(frame)


def test_the_ledger_verifies_for_everyone(city: City, published: dict[str, Path]) -> None:
    city.ledger_verifies("steward", "analyst", "researcher", "planner", "auditor", "health-steward")
    city.ledger_verifies("steward", "analyst")
