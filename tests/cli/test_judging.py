"""effectiveness: what it prints, and the page that it writes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.cli.commands import CONTRACT, Commands
from tests.cli.conftest import Running

PLANNING = ("--contract", CONTRACT, "--purpose", "transport-planning")
HOSTILE = "</title><script>document.title='owned'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>\u202e'\""
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "section", "h1", "h2", "h3", "p", "span", "ul", "li"),
    *("table", "tbody", "tr", "th", "td", "svg", "text", "rect", "line"),
}


class _Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data

    def demand_harmless(self) -> None:
        """Nothing that runs, and nothing from elsewhere."""
        assert set(self.tags) <= ALLOWED
        names = {name for name, _ in self.attributes}
        assert not {name for name in names if name.startswith("on")}
        assert not names & {"href", "src", "srcset", "style", "xlink:href", "action", "data"}


@pytest.fixture
def masked(data: Path, tmp_path: Path) -> Path:
    """What a gateway makes for transport planning, made by hand."""
    path = tmp_path / "masked.parquet"
    pl.read_parquet(data).select(
        pl.col("home_postcode").str.head(2), pl.col("visit_ts").dt.date(), "hospital_code"
    ).write_parquet(path)
    return path


@pytest.mark.slow
@pytest.mark.xdist_group("cli")
def test_a_pulled_release_has_the_figures_of_its_receipt(cli: Commands, running: Running, tmp_path: Path) -> None:
    pulled = tmp_path / "pulled.parquet"
    cli("--as", "planner", "pull", running.agreement, "--out", pulled)
    found = cli("effectiveness", pulled, *PLANNING, "--output", "json").json
    said = json.loads((tmp_path / "pulled.parquet.receipt.json").read_text())
    stated = _receipt(said)["bounds"]
    assert found["passes"]
    assert (found["kMet"], found["classes"]) == (stated["kMet"], stated["classes"])
    # In this city's data each row is another person, so rows count as well as persons.
    assert 0 < stated["certificate"].pop("loss") < 1
    assert found["effectiveness"].pop("loss") is None  # without the source
    assert found["effectiveness"] == stated["certificate"]
    assert any("every row counts as one person" in line for line in found["remarks"])


def _receipt(paper: dict[str, Any]) -> dict[str, Any]:
    from contracts.envelope import Envelope

    payload: dict[str, Any] = Envelope.from_bytes(json.dumps(paper.get("receipt", paper)).encode()).payload
    return payload


def test_what_it_says(still: Commands, data: Path, masked: Path) -> None:
    said = still("effectiveness", masked, *PLANNING, "--source", data)
    assert said.out.startswith(f"{masked} for transport-planning: passes\n")
    assert re.search(r"effectiveness +level 3 of 4 \(controlled sharing\); R ", said.out)
    assert "journalist no register given" in said.out
    assert "0 rows left out (0.00%)" in said.out
    assert "every row counts as one person" in said.err
    lone = masked.with_name("lone.parquet")
    pl.read_parquet(masked).with_columns(hospital_code=pl.format("H{}", pl.row_index())).write_parquet(lone)
    said = still("effectiveness", lone, *PLANNING, code=5)
    assert "  - k is 1, required is 20\n" in said.out
    found = still("effectiveness", lone, *PLANNING, "--output", "json", code=5).json
    assert (found["kMet"], found["kRequired"], found["rowsFailing"]) == (1, 20, 4000)
    assert "H17" not in json.dumps(found)


def test_a_register_is_read_by_the_contract(still: Commands, data: Path, masked: Path) -> None:
    found = still("effectiveness", masked, *PLANNING, "--register", data, "--output", "json").json
    assert found["registerColumns"] == ["home_postcode", "visit_ts", "hospital_code"]
    assert found["effectiveness"]["journalistRisk"] == found["effectiveness"]["drB"]


def test_the_page_has_charts_and_nothing_that_runs(still: Commands, data: Path, masked: Path) -> None:
    out = masked.with_name("report.html")
    still("effectiveness", masked, *PLANNING, "--source", data, "--html", out)
    page = _Page(out.read_text())
    page.demand_harmless()
    assert page.tags.count("svg") == 6, "sizes, risks, loss, and three columns"
    assert "Effectiveness of desensitisation: passes" in page.text
    for title in ("Sizes of classes", "Risks", "Information lost", "Values"):
        assert title in page.text
    raw = pl.read_parquet(data)
    for column in ("citizen_id", "patient_name", "phone", "home_address", "home_postcode", "visit_id"):
        assert not [value for value in raw[column].unique() if re.search(rf"\b{re.escape(value)}\b", page.text)]
    again = still("effectiveness", masked, *PLANNING, "--html", out, code=2)
    assert "--overwrite" in again.err
    still("effectiveness", masked, *PLANNING, "--html", out, "--overwrite")


def _hostile(masked: Path) -> Path:
    """Names of a column and of the file, and a value that all rows have, which want to be more than text."""
    path = masked.with_name("a<b onload=alert(1)>&'.parquet")
    frame = pl.read_parquet(masked).with_columns(hospital_code=pl.lit(HOSTILE))
    frame.with_columns(pl.lit(1).alias(HOSTILE)).write_parquet(path)
    return path


def test_hostile_names_and_values_are_only_text(still: Commands, masked: Path) -> None:
    out = masked.with_name("report.html")
    said = still("effectiveness", _hostile(masked), *PLANNING, "--html", out, code=5)
    assert "does not send this column" in said.out
    assert "\u202e" not in said.out
    written = out.read_text()
    page = _Page(written)
    page.demand_harmless()
    assert HOSTILE.replace("\u202e", "") in page.text, "shown whole, as text"
    assert "\u202e" not in written


@pytest.mark.needs_chromium
def test_the_page_opens_in_a_browser(still: Commands, data: Path, masked: Path, tmp_path: Path) -> None:
    """A real browser finds every drawing, runs nothing, and prints it."""
    out = masked.with_name("report.html")
    still("effectiveness", _hostile(masked), *PLANNING, "--source", data, "--html", out, code=5)
    browser = os.environ.get("SLUICEGATE_CHROMIUM") or shutil.which("chromium")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    printed = tmp_path / "report.pdf"
    seen = subprocess.run(
        [*words, "--dump-dom", out.as_uri()], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    page = _Page(seen)
    page.demand_harmless()
    assert page.tags.count("svg") == 6
    assert re.search(r"<title>Effectiveness: [^<]*</title>", seen)
    assert "<title>owned" not in seen
    subprocess.run([*words, f"--print-to-pdf={printed}", out.as_uri()], capture_output=True, check=True, timeout=120)
    assert printed.read_bytes().startswith(b"%PDF")
