"""A release that was refused is not made again from the same rows; mended rows, another contract and time are heard."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from connectors.gateway import releasing
from connectors.releases.release import Release
from contracts.errors import SluicegateError
from tests import papers
from tests.connectors.gate import Gate, info_of, make_gate, until, visits
from tests.connectors.gateway.test_gateway import fetch_all
from tests.connectors.gateway.test_gateway import refused as reason_of
from tests.connectors.gateway.test_shelf import agree_again

REFRESH = 7 * papers.DAY
FEW = {"people": 20, "visits_each": 12}


class Looks:
    """How often a release was really tried; something may happen before or after each time."""

    def __init__(self, make: Callable[..., Release]) -> None:
        self._make, self.count = make, 0
        self.first: Callable[[], object] = lambda: None
        self.then: Callable[[], object] = lambda: None

    def __call__(self, *words: Any, **named: Any) -> Release:
        self.count += 1
        self.first()
        try:
            return self._make(*words, **named)
        finally:
            self.then()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    found = Looks(releasing.releases.make)
    monkeypatch.setattr(releasing.releases, "make", found)
    return found


@pytest.fixture
def gate(tmp_path: Path, looks: Looks) -> Iterator[Gate]:
    """A gateway whose source has too few people for the bounds."""
    made = make_gate(tmp_path, rows=FEW)
    made.start()
    yield made
    made.stop()


def pulled(gate: Gate) -> str:
    """What comes of a pull: its reason, or nothing."""
    try:
        info_of(gate.client(), ticket := gate.ticket())
    except Exception:
        return reason_of(lambda: info_of(gate.client(), ticket))
    return ""


def test_the_same_rows_are_refused_at_once_and_reported_with_the_same_figures(gate: Gate, looks: Looks) -> None:
    for _ in range(3):
        assert pulled(gate) == "BOUNDS_NOT_MET"
    assert looks.count == 1
    until(lambda: len(gate.exchange.refusals) == 3)
    first, *others = gate.exchange.refusals.values()
    assert first[0] == "BOUNDS_NOT_MET"
    assert int(first[1]["k_lowest"]) < int(first[1]["k_required"])
    assert others == [first, first]


def test_rows_with_identifiers_are_refused_at_once_too(gate: Gate, looks: Looks) -> None:
    held = visits(gate.folder / "visits.parquet").with_columns(hospital_code=pl.lit("see 11010519491231002X"))
    held.write_parquet(gate.folder / "visits.parquet")
    for _ in range(2):
        assert (pulled(gate), looks.count) == ("RESIDUAL_IDENTIFIERS", 1)
    until(lambda: len(gate.exchange.refusals) == 2)
    first, second = gate.exchange.refusals.values()
    assert first == second
    assert first[1]["found.hospital_code.national-id"] == str(held.height)


def test_a_restart_forgets_nothing(gate: Gate, looks: Looks) -> None:
    pulled(gate)
    gate.stop()
    gate.start()
    assert (pulled(gate), looks.count) == ("BOUNDS_NOT_MET", 1)


def test_another_agreement_on_the_same_terms_buys_no_other_look(gate: Gate, looks: Looks) -> None:
    pulled(gate)
    gate.gateway.suspend(gate.order(until=None))
    agree_again(gate)
    assert (pulled(gate), looks.count) == ("BOUNDS_NOT_MET", 1)


def test_mended_rows_are_served_at_once(gate: Gate, looks: Looks) -> None:
    pulled(gate)
    visits(gate.folder / "visits.parquet")
    assert (pulled(gate), looks.count) == ("", 2)


def test_a_touched_file_is_looked_at_again(gate: Gate, looks: Looks) -> None:
    """What the department does when nothing in the file changes but the world around it."""
    pulled(gate)
    (gate.folder / "visits.parquet").touch()
    assert (pulled(gate), looks.count) == ("BOUNDS_NOT_MET", 2)


def test_a_file_that_is_dated_back_is_looked_at_again(gate: Gate, looks: Looks) -> None:
    pulled(gate)
    path = gate.folder / "visits.parquet"
    before, size = path.stat(), path.stat().st_size
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_mtime_ns, path.stat().st_size) == (before.st_mtime_ns, size)
    assert (pulled(gate), looks.count) == ("BOUNDS_NOT_MET", 2)


def test_a_source_that_is_bound_elsewhere_is_looked_at_again(gate: Gate, looks: Looks) -> None:
    pulled(gate)
    gate.stop()
    elsewhere = gate.folder / "elsewhere.parquet"
    visits(elsewhere)
    bound = releasing.SourceSettings(path=str(elsewhere), format="parquet")
    gate.settings["datasets"] = {"hospital-visits": bound}
    gate.start()
    assert (pulled(gate), looks.count) == ("", 2)


def test_a_new_contract_version_is_looked_at_again(gate: Gate, looks: Looks) -> None:
    pulled(gate)
    gate.papers = papers.make(cast=gate.papers.cast, document=papers.document() | {"version": "9.0.0"})
    gate.exchange.bundles[gate.papers.agreed.id] = gate.papers.bundle
    assert (pulled(gate), looks.count) == ("BOUNDS_NOT_MET", 2)


def test_after_the_interval_it_is_looked_at_again(gate: Gate, looks: Looks) -> None:
    pulled(gate)
    gate.clock.now += REFRESH - 1
    gate.hear()
    pulled(gate)
    assert looks.count == 1
    gate.clock.now += 1
    gate.hear()
    assert (pulled(gate), looks.count) == ("BOUNDS_NOT_MET", 2)


def test_rows_that_changed_during_the_look_are_looked_at_again(gate: Gate, looks: Looks) -> None:
    """Nobody knows which of the two states was refused: here a link leads elsewhere while it is read."""
    link, few, many = (gate.folder / name for name in ("visits.parquet", "few.parquet", "many.parquet"))
    link.rename(few)
    visits(many)

    def leads_to(file: Path) -> None:
        link.unlink(missing_ok=True)
        link.symlink_to(file)

    leads_to(many)
    looks.first = lambda: leads_to(few)
    assert pulled(gate) == "BOUNDS_NOT_MET"
    looks.first = lambda: None
    leads_to(many)
    assert (pulled(gate), looks.count) == ("", 2)


def test_damaged_rows_are_read_once(gate: Gate, looks: Looks) -> None:
    frame = visits(gate.folder / "visits.parquet")
    frame.with_columns(citizen_id=pl.lit(None, pl.String)).write_parquet(gate.folder / "visits.parquet")
    assert [pulled(gate), pulled(gate)] == ["DATA_INVALID", "DATA_INVALID"]
    assert looks.count == 1


def test_a_release_that_would_be_another_is_made_once_until_the_interval_ends(gate: Gate, looks: Looks) -> None:
    """After a restart with other rows, each pull would make the whole release, to find that it must not be served."""
    visits(gate.folder / "visits.parquet")
    fetch_all(gate.client(), info_of(gate.client(), gate.ticket()))
    gate.stop()
    gate.clock.now += papers.DAY
    visits(gate.folder / "visits.parquet", people=800)
    gate.start()
    assert [pulled(gate), pulled(gate)] == ["REFRESH_PENDING", "REFRESH_PENDING"]
    assert looks.count == 2
    gate.clock.now += REFRESH - papers.DAY
    gate.hear()
    assert (pulled(gate), looks.count) == ("", 3)


def test_what_may_mend_itself_is_not_remembered(gate: Gate, looks: Looks) -> None:
    def full() -> None:
        raise SluicegateError(releasing.Reason.SPOOL_FULL, "no room")

    looks.then = full
    assert pulled(gate) == "SPOOL_FULL"
    looks.then = lambda: None
    assert (pulled(gate), looks.count) == ("BOUNDS_NOT_MET", 2)
