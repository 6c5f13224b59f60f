"""Aggregates through the gate: paid for, served, receipted, served again for nothing, refused when spent."""

from __future__ import annotations

import dataclasses
import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from connectors.consumer import pull, sinks
from connectors.releases import aggregates, noise
from connectors.releases.budget import Cost
from contracts import receipt as receipts
from contracts.envelope import Envelope, Kind
from contracts.errors import Reason, SluicegateError
from contracts.receipt import Receipt
from tests import papers, statistics
from tests.connectors.gate import CERT, POLICY, Clock, FakeExchange, Gate, act, fetch_all, info_of, refused, until
from tests.connectors.gateway.test_shelf import renamed

WEEK = 7 * papers.DAY
ONE = Cost(1_500_000, 1_000_000)


def build(folder: Path, terms: dict[str, Any] | None = None, **changes: Any) -> Gate:
    document = statistics.document(terms, **changes)
    cast = papers.Cast(policy_digest=POLICY.bundle_digest)
    made = papers.make(purpose=statistics.PURPOSE, document=document, cast=cast)
    statistics.visits(folder / "visits.parquet")
    return Gate(folder, made, FakeExchange({made.agreed.id: made.bundle}), Clock(papers.NOW))


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    made = build(tmp_path)
    made.start()
    yield made
    made.stop()


def spent(gate: Gate) -> Cost:
    return gate.state.spent(gate.papers.consumer, "hospital-visits")


def pulled(gate: Gate) -> pl.DataFrame:
    """What a stock client gets."""
    client = gate.client()
    (part,) = fetch_all(client, info_of(client, gate.ticket()))
    return pl.DataFrame(pl.from_arrow(part))


def refusal(gate: Gate) -> str:
    return refused(lambda: info_of(gate.client(), gate.ticket()))


def test_figures_leave_and_the_receipt_says_what_they_are(gate: Gate) -> None:
    client, ticket = gate.client(), gate.ticket()
    info = info_of(client, ticket)
    (part,) = fetch_all(client, info)
    assert part.column_names == ["hospital_code", "visits", "patients", "minutes", "mean_stay"]
    assert part["hospital_code"].to_pylist() == ["H01", "H02", "H03"]
    envelope = Envelope.from_bytes(act(client, "receipt", ticket))
    found = receipts.verify_receipt(envelope, gate.papers.verified, at=gate.clock())
    assert (found.rows_in, found.rows_out, found.bounds) == (3, 3, None)
    told = found.aggregate
    assert told is not None
    assert (told.kind, told.micro_epsilon, told.pico_delta, told.most_groups, told.most_rows) == (
        ("dp-aggregate", 1_500_000, 1_000_000, 2, 3)
    )
    assert told.threshold == statistics.compiled().aggregate.threshold  # type: ignore[union-attr]
    assert told.measures["minutes"].upper == 600
    assert [field.name for field in found.fields] == ["hospital_code", "stay_minutes"]
    assert spent(gate) == ONE


@pytest.mark.parametrize("people", [900, 2])
def test_the_consumer_pulls_and_verifies_it_like_any_release(gate: Gate, tmp_path: Path, people: int) -> None:
    """Also a table in which no group is large enough to show."""
    statistics.visits(gate.folder / "visits.parquet", people=people)
    out = tmp_path / "out.parquet"
    fetched = pull.fetch(
        gate.address, CERT, gate.ticket(), sinks.open(out), agreement=gate.papers.verified, clock=gate.clock
    )
    assert pl.read_parquet(out).shape == (fetched.rows, 5)
    assert fetched.rows == (3 if people == 900 else 0)


def test_within_the_interval_the_same_figures_cost_nothing(gate: Gate) -> None:
    first = pulled(gate)
    assert pulled(gate).equals(first)
    assert spent(gate) == ONE


def test_after_a_restart_the_same_figures_are_served_and_cost_nothing(gate: Gate) -> None:
    """Noise cannot be drawn again: what was made is kept, and other rows change nothing of it."""
    first = pulled(gate)
    gate.stop()
    pl.read_parquet(gate.folder / "visits.parquet").head(1500).write_parquet(gate.folder / "visits.parquet")
    gate.start()
    assert pulled(gate).equals(first)
    assert spent(gate) == ONE


def test_each_interval_costs_until_the_budget_is_spent(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pulled(gate)
    gate.clock.now += WEEK
    assert not pulled(gate).equals(first)
    assert spent(gate) == Cost(3_000_000, 2_000_000)
    gate.clock.now += WEEK
    monkeypatch.setattr(aggregates, "compute", lambda *_, **__: pytest.fail("it computed something"))
    assert refusal(gate) == "BUDGET_SPENT"
    gate.stop()
    gate.start()
    assert refusal(gate) == "BUDGET_SPENT"
    assert spent(gate) == Cost(3_000_000, 2_000_000)


def test_a_release_that_fails_has_spent_its_budget(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have drawn its noise, and whoever made it fail may have learned from that."""

    def breaks(*_: Any, **__: Any) -> None:
        assert spent(gate) == ONE, "it was not paid for before anything was computed"
        raise RuntimeError("the power is cut")

    with monkeypatch.context() as patched:
        patched.setattr(aggregates, "compute", breaks)
        assert refusal(gate) == "INTERNAL"
    assert spent(gate) == ONE
    pulled(gate)
    assert spent(gate) == Cost(3_000_000, 2_000_000)


def test_pulls_at_once_spend_once(gate: Gate) -> None:
    tables: list[pl.DataFrame] = []
    threads = [threading.Thread(target=lambda: tables.append(pulled(gate))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables) == 3
    assert all(table.equals(tables[0]) for table in tables)
    assert spent(gate) == ONE


def test_without_the_library_the_gate_refuses_and_nothing_is_spent(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(noise.importlib.util, "find_spec", lambda name: None if name == "opendp" else known(name))
    ticket = gate.ticket()
    assert refused(lambda: info_of(gate.client(), ticket)) == "CONFIG_INVALID"
    assert spent(gate) == Cost(0, 0)
    transfer = receipts.claimed_grant(ticket).transfer
    until(lambda: transfer in gate.exchange.refusals)
    assert "OpenDP" in gate.exchange.refusals[transfer][1]["message"]


def test_a_list_of_groups_is_served_in_its_order(tmp_path: Path) -> None:
    terms = statistics.aggregate(groups={"hospital_code": ["H02", "H55"]}, delta=None, budget={"epsilon": 3})
    gate = build(tmp_path, terms)
    gate.start()
    try:
        assert pulled(gate)["hospital_code"].to_list() == ["H02", "H55"]
        assert spent(gate) == Cost(1_500_000, 0)
    finally:
        gate.stop()


def test_a_release_without_any_group_is_served_too(tmp_path: Path) -> None:
    """That nobody is enough must look like every other answer."""
    gate = build(tmp_path)
    statistics.visits(tmp_path / "visits.parquet", people=2, visits_each=1)
    gate.start()
    try:
        assert pulled(gate).shape == (0, 5)
    finally:
        gate.stop()


@pytest.mark.parametrize(
    "changed",
    [
        {"aggregate": None},
        {"micro_epsilon": 1},
        {"pico_delta": 0},
        {"most_rows": 1},
        {"threshold": None},
        {"budget_micro_epsilon": 9},
        {"entity": "patient_name"},
        {"rows_in": 3601},
    ],
    ids=str,
)
def test_a_receipt_that_says_otherwise_does_not_verify(gate: Gate, changed: dict[str, Any]) -> None:
    client, ticket = gate.client(), gate.ticket()
    fetch_all(client, info_of(client, ticket))
    genuine = msgspec.convert(Envelope.from_bytes(act(client, "receipt", ticket)).payload, Receipt)
    told = {key: value for key, value in changed.items() if key in Receipt.__struct_fields__}
    if not told:
        told = {"aggregate": msgspec.structs.replace(genuine.aggregate, **changed)}  # type: ignore[type-var]
    bent = papers.Cast.sign(Kind.RECEIPT, msgspec.structs.replace(genuine, **told), papers.GATEWAY)
    with pytest.raises(SluicegateError) as caught:
        receipts.verify_receipt(bent, gate.papers.verified, at=gate.clock())
    assert caught.value.reason is Reason.RECEIPT_INVALID


def test_two_agreements_keep_their_figures_over_a_restart_and_share_the_budget(tmp_path: Path) -> None:
    """Of two tables the later one must not push the earlier one out: it was paid for, and is not drawn again."""
    gate = build(tmp_path)
    parsed = statistics.document()
    (purposes,) = (one["value"] for one in parsed["customProperties"] if one["property"] == "purposes")
    purposes["night-statistics"] = purposes[statistics.PURPOSE]
    parsed["roles"].append({**parsed["roles"][-1], "role": "night-statistics"})
    both = [
        papers.make(purpose=purpose, document=parsed, cast=gate.papers.cast)
        for purpose in (statistics.PURPOSE, "night-statistics")
    ]
    both[1] = dataclasses.replace(both[1], agreement=renamed(both[1], "agreements/a-bbbbbbbbbb"))
    gate.exchange.bundles = {made.agreed.id: made.bundle for made in both}

    def each() -> list[pl.DataFrame]:
        found = list[pl.DataFrame]()
        for gate.papers in both:
            found.append(pulled(gate))
        return found

    gate.start()
    try:
        first = each()
        assert not first[0].equals(first[1])
        assert spent(gate) == Cost(2 * ONE.micro_epsilon, 2 * ONE.pico_delta)
        gate.stop()
        gate.start()
        assert all(again.equals(before) for again, before in zip(each(), first, strict=True))
        assert spent(gate) == Cost(2 * ONE.micro_epsilon, 2 * ONE.pico_delta)
        gate.clock.now += WEEK
        gate.hear()
        assert refusal(gate) == "BUDGET_SPENT"
    finally:
        gate.stop()
