"""The example's releases against every attack, and the same attacks on what a department might send instead."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import polars as pl
import pytest

from connectors import sources
from connectors.reidentification import Outcome, guessing, linkage, release_to_attack, tracks, trial
from connectors.reidentification.linkage import WHO
from connectors.sources import Source, SourceSettings
from contracts import odcs, plan, standard
from contracts.errors import Reason, SluicegateError
from contracts.model import Contract
from contracts.plan import Plan
from examples import city

CONTRACT = Path(__file__).resolve().parents[2] / "examples" / "hospital-visits.odcs.yaml"
PURPOSES = ("outbreak-monitoring", "transport-planning")


@pytest.fixture(scope="module")
def contract() -> Contract:
    return odcs.load(CONTRACT.read_bytes()).contract


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of the city, at the density of the whole."""
    path = tmp_path_factory.mktemp("visits") / "visits.parquet"
    city.visits(20_000, 100_000).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def source(contract: Contract, visits: Path) -> Source:
    return sources.open(SourceSettings(path=str(visits), format="parquet"), contract.fields)


def compiled(contract: Contract, purpose: str, source: Source) -> Plan:
    rules = standard.load(contract.sharing.standard)
    return plan.compile(plan.terms_for(contract, purpose), contract, source.schema(), rules)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_whoever_knows_a_row_of_everybody_finds_few(contract: Contract, source: Source, purpose: str) -> None:
    outcomes = trial(compiled(contract, purpose, source), source, entropy=os.urandom)
    assert any(outcome.attack.startswith("linkage") for outcome in outcomes)
    for outcome in outcomes:
        if outcome.tried and not outcome.attack.startswith(("inference", "homogeneity")):
            assert outcome.worst <= 0.05, outcome
        if outcome.attack.startswith("homogeneity"):
            assert outcome.rate == 0.0
        if outcome.attack.startswith("inference"):
            assert outcome.gain < 0.1


def test_the_same_attacks_succeed_on_an_unmasked_copy(contract: Contract, visits: Path) -> None:
    raw = pl.read_parquet(visits).with_columns(pl.col("citizen_id").alias(WHO))
    columns = ["birth_date", "sex", "home_postcode", "visit_ts", "hospital_code"]
    known = raw.unique(WHO, keep="any")
    assert linkage.by_equality(raw, known, columns).interval[0] > 0.95
    assert guessing.by_enumeration(raw["citizen_id"], raw["citizen_id"]).rate == 1.0


def test_the_same_attacks_succeed_on_a_renamed_copy(visits: Path) -> None:
    """Ids hashed without a key, nothing else done: undone by trying, and four visits tell anybody apart."""
    raw = pl.read_parquet(visits)
    ids = [hashlib.sha256(number.encode()).hexdigest() for number in raw["citizen_id"]]
    renamed = raw.with_columns(pl.Series("citizen_id", ids), pl.col("citizen_id").alias(WHO))
    assert guessing.by_enumeration(renamed["citizen_id"], raw["citizen_id"]).rate == 1.0
    told = tracks.by_points(renamed, "citizen_id", ["visit_ts", "hospital_code"], points=4, seed=1)
    assert told.tried > 100
    assert told.interval[0] > 0.95
    assert (
        linkage.by_equality(renamed, renamed.unique(WHO, keep="any"), ["birth_date", "sex", "home_postcode"]).rate > 0.2
    )


def test_a_register_of_the_city_finds_few_in_a_release(contract: Contract, source: Source) -> None:
    """Everybody's number, birth date, sex and postcode, from the register and not from the visits."""
    register = city.residents(20_000, 1).select("citizen_id", "birth_date", "sex", "home_postcode")
    outcomes = trial(compiled(contract, "outbreak-monitoring", source), source, entropy=os.urandom, register=register)
    linked = [outcome for outcome in outcomes if outcome.attack.startswith("linkage")]
    assert [outcome.attack for outcome in linked] == [
        "linkage by birth_date, sex, home_postcode",
        "linkage with errors by birth_date, sex, home_postcode",
    ]
    assert all(outcome.interval[1] <= 0.05 for outcome in linked)


def test_an_earlier_release_isolates_whom_one_day_brought(
    contract: Contract, source: Source, visits: Path, tmp_path: Path
) -> None:
    """The trial says so: it is what one release an interval, and the check of combinations, are for."""
    fewer = tmp_path / "earlier.parquet"
    pl.read_parquet(visits).head(99_000).write_parquet(fewer)
    before = sources.open(SourceSettings(path=str(fewer), format="parquet"), contract.fields)
    found = _named(trial(compiled(contract, "transport-planning", source), source, entropy=os.urandom, earlier=before))
    assert found["difference of two releases"].tried > 0
    same = _named(trial(compiled(contract, "transport-planning", source), source, entropy=os.urandom, earlier=source))
    assert same["difference of two releases"].tried == 0


def _named(outcomes: tuple[Outcome, ...]) -> dict[str, Outcome]:
    return {outcome.attack: outcome for outcome in outcomes}


def test_what_would_be_refused_is_not_attacked(contract: Contract, source: Source, tmp_path: Path) -> None:
    few = tmp_path / "few.parquet"
    source.scan(tuple(source.schema())).head(100).collect().write_parquet(few)
    small = sources.open(SourceSettings(path=str(few), format="parquet"), contract.fields)
    with pytest.raises(SluicegateError) as caught:
        release_to_attack(compiled(contract, "transport-planning", small), small, entropy=os.urandom)
    assert caught.value.reason is Reason.BOUNDS_NOT_MET


def test_a_register_says_who_its_rows_are_about(contract: Contract, source: Source) -> None:
    with pytest.raises(SluicegateError) as caught:
        trial(
            compiled(contract, "transport-planning", source),
            source,
            entropy=os.urandom,
            register=pl.DataFrame({"home_postcode": ["980101"]}),
        )
    assert caught.value.reason is Reason.DATA_INVALID
    assert "citizen_id" in caught.value.message
