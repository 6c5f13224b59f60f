"""The Python client as its own documentation shows it: the example runs as it is written, and a pull
comes as a frame, a reader or a file."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import exchange.client
from contracts.errors import Reason, SluicegateError
from tests.e2e.city import ROOT, City
from tests.e2e.conftest import HEALTH

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]


@pytest.fixture(scope="module")
def visits(city: City, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's dataset, published: visits to hospitals, of a small made-up city."""
    folder = tmp_path_factory.mktemp("visits")
    size = ["--residents", "6000", "--visits", "30000"]
    subprocess.run(
        [sys.executable, "-m", "examples.city", "--out", folder, *size],
        check=True,
        cwd=ROOT,
        capture_output=True,
        timeout=60,
    )
    document = (ROOT / "examples" / "hospital-visits.odcs.yaml").read_text()
    mended = document.replace("steward@health.example", "health-steward@health.example")
    city.publish("health-steward", mended.encode(), folder / "visits.parquet", gateway=HEALTH)
    return folder / "visits.parquet"


@pytest.fixture(scope="module")
def agreement(city: City, visits: Path) -> str:
    """The analyst's agreement on it."""
    return city.agree("analyst", "health-bureau/hospital-visits", "transport-planning", approvers=["health-steward"])


def example() -> str:
    """The example of the module's documentation."""
    text = exchange.client.__doc__ or ""
    begin, end = text.index("    from exchange.client import connect"), text.index("\nEvery method is")
    return textwrap.dedent(text[begin:end])


def test_the_example_of_the_documentation_runs(
    city: City, visits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLUICEGATE_HOME", str(city.home.root))
    pause = "# ... the department approves ..."
    code = example()
    assert pause in code
    assert len([line for line in code.splitlines() if line.strip() and not line.strip().startswith("#")]) <= 10
    names: dict[str, object] = {"approve": lambda name: city.exchange("health-steward").approve(name)}
    exec(compile(code.replace(pause, "approve(request.name)"), "exchange.client", "exec"), names)
    said = capsys.readouterr().out
    assert "parties/health-bureau/datasets/hospital-visits" in said
    assert "hospital_code" in said
    pulled = names["pulled"]
    assert isinstance(pulled, exchange.client.Pulled)
    assert pulled.frame().columns == ["home_postcode", "visit_ts", "hospital_code"]


def test_a_pull_is_a_frame_a_reader_or_a_file(city: City, agreement: str, tmp_path: Path) -> None:
    analyst = city.exchange("analyst")
    seen: list[tuple[int, int, int]] = []
    memory = analyst.pull(agreement, progress=lambda *counts: seen.append(counts))
    frame, reader = memory.frame(), memory.reader()
    assert isinstance(frame, pl.DataFrame)
    assert isinstance(reader, pa.RecordBatchReader)
    assert reader.read_all().num_rows == frame.height == memory.rows > 10_000
    assert memory.path is None
    assert seen[-1][0] == seen[-1][2] == memory.rows
    for ending in ("parquet", "arrow", "csv"):
        path = tmp_path / f"visits.{ending}"
        pulled = analyst.pull(agreement, to=path)
        assert pulled.path == path
        assert path.stat().st_mode & 0o777 == 0o600
        assert pulled.content_digest == memory.content_digest
        assert pulled.frame().columns == frame.columns
        if ending != "csv":
            assert pulled.frame().equals(frame)
        assert pulled.reader().read_all().num_rows == frame.height
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"visits.{ending}{more}" for ending in ("parquet", "arrow", "csv") for more in ("", ".receipt.json")
    )


def test_an_existing_file_is_not_replaced_unasked(city: City, agreement: str, tmp_path: Path) -> None:
    path = tmp_path / "precious.csv"
    path.write_text("precious\n")
    analyst = city.exchange("analyst")
    with pytest.raises(SluicegateError) as refused:
        analyst.pull(agreement, to=path)
    assert refused.value.reason is Reason.SINK_FAILED
    assert path.read_text() == "precious\n"
    analyst.pull(agreement, to=path, overwrite=True)
    assert pl.read_csv(path).columns == ["home_postcode", "visit_ts", "hospital_code"]


def test_what_is_refused_says_what_would_pass(city: City, visits: Path) -> None:
    with pytest.raises(SluicegateError) as refused:
        city.exchange("analyst").request("health-bureau/hospital-visits", purpose="transport-planing", reason="typo")
    assert refused.value.reason is Reason.REQUEST_OUTSIDE_CONTRACT
    assert "transport-planning" in str(refused.value)


def test_its_documentation_reads(city: City) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pydoc", "exchange.client"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    for line in ("connect(profile", "Fetch, verify and acknowledge one release", "The Python client of an exchange"):
        assert line in done.stdout
