"""The Python client as its own documentation shows it: the example runs as it is written, and a pull
comes as a frame, a reader or a file."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pytest

import exchange.client
from contracts.errors import Reason, SluicegateError
from contracts.evidence import EvidenceBundle
from contracts.instants import rfc3339
from contracts.trust import load_trust
from exchange.client import Place, Told
from tests.e2e.city import ROOT, City, eventually
from tests.e2e.conftest import HEALTH
from tests.e2e.steps import Fetching

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


def test_a_pull_shows_itself_in_a_line(city: City, agreement: str) -> None:
    """The receipt, with every field's treatment and signature, is there to be read, not to be printed."""
    pulled = city.exchange("analyst").pull(agreement)
    assert repr(pulled).startswith(f"Pulled(transfer='{pulled.transfer}', rows={pulled.rows}, ")
    assert len(repr(pulled)) < 300
    assert pulled.receipt.signatures


def test_evidence_is_verified_and_exported(city: City, agreement: str, tmp_path: Path) -> None:
    """What stands is a true verdict; what was changed, or is judged by another's trust, a false one with its steps."""
    analyst, path = city.exchange("analyst"), tmp_path / "visits.parquet"
    pulled = analyst.pull(agreement, to=path)
    papers = f"{path}.receipt.json"
    verdict = analyst.verify(papers, data=path)
    assert verdict
    assert (verdict.stands, verdict.failed) == (True, ())
    assert all(step.ok for step in verdict.steps)

    # Without a profile, and without the exchange: a trust file is all that it takes.
    assert exchange.client.verify(papers, trust=city.home.trust, data=path).steps == verdict.steps
    trust = load_trust(city.home.trust.read_bytes())
    strangers = msgspec.structs.replace(trust, parties={})
    assert not analyst.verify(papers, trust=strangers)
    pulled.frame().reverse().write_parquet(tmp_path / "changed.parquet")
    changed = analyst.verify(papers, data=tmp_path / "changed.parquet")
    assert not changed
    assert len(changed.failed) == 1
    pulled.frame().head(10).write_parquet(tmp_path / "fewer.parquet")
    with pytest.raises(SluicegateError) as refused:
        analyst.verify(papers, data=tmp_path / "fewer.parquet")
    assert refused.value.reason is Reason.DIGEST_MISMATCH

    exported = analyst.evidence(pulled.transfer.removeprefix("transfers/"), to=tmp_path / "again.json")
    assert EvidenceBundle.from_bytes((tmp_path / "again.json").read_bytes()) == exported
    assert analyst.verify(exported, data=path)
    with pytest.raises(SluicegateError) as refused:
        analyst.evidence(pulled.transfer, to=tmp_path / "again.json")
    assert refused.value.reason is Reason.SINK_FAILED
    analyst.evidence(pulled.transfer, to=tmp_path / "again.json", overwrite=True)


def test_a_department_stops_an_agreement_at_its_gateway_first(city: City, agreement: str) -> None:
    """The gateway obeys before the exchange is asked, as by the command line."""
    steward, analyst = city.exchange("health-steward"), city.exchange("analyst")
    granted, ticket = analyst.ticket(agreement)
    heard: list[Told] = []

    def told(by: Told) -> None:
        heard.append(by)
        assert analyst.agreement(agreement).state == "ACTIVE", "the exchange was asked first"
        with Fetching(granted, ticket) as fetching, pytest.raises(SluicegateError) as refused:
            fetching.announce()
        assert refused.value.reason is Reason.AGREEMENT_NOT_LIVE

    until = rfc3339(int(time.time()) + 3600)
    assert steward.suspend(agreement, reason="an incident", until=until, told=told).state == "SUSPENDED"
    assert steward.resume(agreement, reason="cleared", told=heard.append).state == "ACTIVE"
    assert heard == [Told(HEALTH, reached=True)] * 2

    # Where the gateway is, the department knows: the exchange need not be asked.
    found = steward.gateway(HEALTH)
    place = Place(found.address, found.ca_certificate)
    steward.suspend(agreement, reason="again", until=until, place=place, told=heard.append)
    assert heard[2] == Told(found.address, reached=True)
    steward.resume(agreement, reason="cleared")
    eventually(lambda: _pulls(analyst, agreement), "the agreement is served again")
    # Who has no data here tells no gateway.
    with pytest.raises(SluicegateError) as refused:
        analyst.suspend(agreement, reason="ours", until=until, told=heard.append)
    assert (refused.value.reason, len(heard)) == (Reason.ROLE_MISSING, 3)


def _pulls(analyst: exchange.client.Exchange, agreement: str) -> bool:
    try:
        analyst.pull(agreement)
    except SluicegateError as error:
        if error.reason is not Reason.AGREEMENT_NOT_LIVE:
            raise
        return False
    return True


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
