"""`effectiveness`: a file that is masked already gets the figures that its receipt has, and tells what it hides."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import yaml

from connectors import sources
from connectors.keys import AgreementSecrets
from connectors.measures import judging
from connectors.releases import release
from contracts import as_masked, odcs, plan, standard
from contracts.errors import Reason, SluicegateError
from contracts.papers import Bounds
from examples import city
from exchange.cli.judgement_page import page
from exchange.judging import Judged, judge_file
from exchange.trying import source_settings
from tests.connectors.held import rows_of

CONTRACT = Path(__file__).parents[2] / "examples" / "hospital-visits.odcs.yaml"
LOADED = odcs.load(CONTRACT.read_bytes())
MONITORING, PLANNING = "outbreak-monitoring", "transport-planning"
SECRETS = AgreementSecrets(b"k" * 32, "sha256:a")


@dataclass(frozen=True)
class Pulled:
    """A release of the example's city, as it was pulled; and what its receipt says."""

    raw: Path
    file: Path
    frame: pl.DataFrame
    bounds: Bounds
    suppressed: int


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Pulled:
    folder = tmp_path_factory.mktemp("judging")
    raw = folder / "visits.parquet"
    city.visits(6_000, 30_000, seed=7).write_parquet(raw)
    source = sources.open(source_settings(raw), LOADED.contract.fields)
    rules = standard.load(LOADED.contract.sharing.standard)
    compiled = plan.compile(plan.terms_for(LOADED.contract, MONITORING), LOADED.contract, source.schema(), rules)
    made = release.make(
        compiled, source, SECRETS, spool=folder / "rel", release_id="rel-aaaaaaaaaa", clock=lambda: 1_770_000_000
    )
    frame = rows_of(made)
    frame.write_parquet(folder / "pulled.parquet")
    assert made.bounds is not None
    return Pulled(raw, folder / "pulled.parquet", frame, made.bounds, made.rows_suppressed)


def _judge(file: Path, *, origin: Path | None = None, register: Path | None = None, **options: Any) -> Judged:
    return judge_file(
        LOADED,
        source_settings(file, columns=options.pop("columns", ())),
        origin=source_settings(origin) if origin else None,
        register=source_settings(register) if register else None,
        **{"purpose": MONITORING, **options},
    )


def _written(frame: pl.DataFrame, path: Path) -> Path:
    {
        ".parquet": frame.write_parquet,
        ".csv": frame.write_csv,
        ".ndjson": frame.write_ndjson,
        ".arrow": frame.write_ipc,
    }[path.suffix](path)
    return path


@pytest.mark.parametrize("ending", ["parquet", "csv", "ndjson", "arrow"])
def test_a_pulled_release_has_the_figures_of_its_receipt(pulled: Pulled, tmp_path: Path, ending: str) -> None:
    """Persons come several times, and the pseudonym joins their rows: k is over the whole set of tuples."""
    judged = _judge(_written(pulled.frame, tmp_path / f"pulled.{ending}"), origin=pulled.raw)
    assert judged.problems == ()
    assert judged.held.persons_known
    found, said = judged.found, pulled.bounds
    assert (found.k, found.classes, found.l) == (said.k_met, said.classes, said.l_met)
    assert found.suppressed == pulled.suppressed > 0
    assert found.certificate is not None
    # The spread is told of every sensitive field, the receipt's only where the contract bounds it.
    assert said.certificate is not None
    assert found.certificate.loss == pytest.approx(said.certificate.loss, rel=0.02)  # of what left; of all rows
    same = msgspec.structs.replace(found.certificate, spread={}, loss=said.certificate.loss)
    assert same == said.certificate
    assert found.certificate.spread.keys() == {"diagnosis_icd10"}
    assert sum(classes for _, classes in found.sizes) == found.classes


def test_without_its_source_only_what_was_left_out_is_unknown(pulled: Pulled) -> None:
    judged = _judge(pulled.file)
    assert judged.passes
    assert (judged.found.suppressed, judged.loss, judged.found.loss) == (None, None, {})
    stated, found = pulled.bounds.certificate, judged.found.certificate
    assert stated is not None
    assert found is not None
    without = {"suppressed": 0.0, "discernibility": None, "spread": {}, "loss": None}
    assert msgspec.structs.replace(found, **without) == msgspec.structs.replace(stated, **without)


def test_a_file_that_does_not_tell_persons_apart_is_counted_by_rows(pulled: Pulled, tmp_path: Path) -> None:
    judged = _judge(_written(pulled.frame.drop("citizen_id"), tmp_path / "f.parquet"))
    assert not judged.held.persons_known
    assert any("every row counts as one person" in line for line in judged.remarks)
    assert any("citizen_id" in line for line in judged.remarks)
    classes = pulled.frame.group_by("birth_date", "sex", "home_postcode", "visit_ts").len("n")["n"]
    assert (judged.found.k, judged.found.classes) == (classes.min(), len(classes))
    assert judged.found.certificate is not None
    assert judged.found.certificate.marketer_risk == pytest.approx(len(classes) / pulled.frame.height)


def test_what_misses_a_bound_is_told_with_its_figures(pulled: Pulled, tmp_path: Path) -> None:
    """Figures are of the file as it is: what misses is in them, not left out."""
    lonely = pulled.frame.head(1).with_columns(home_postcode=pl.lit("9999"), citizen_id=pl.lit("0" * 32))
    judged = _judge(_written(pl.concat([pulled.frame, lonely]), tmp_path / "f.parquet"))
    assert judged.problems == ("k is 1, required is 10", "l of diagnosis_icd10 is 1, required is 2")
    found = judged.found
    assert (found.k, found.failing, found.failing_rows) == (1, 1, 1)
    assert found.classes == pulled.bounds.classes + 1
    assert found.certificate is not None
    assert (found.certificate.dr_b, found.certificate.risk, found.certificate.level) == (1.0, 1.0, 2)
    assert found.certificate.dr_a == pytest.approx(1 / found.classes)


def test_what_the_purpose_does_not_send_is_refused(pulled: Pulled, tmp_path: Path) -> None:
    row = pulled.frame.with_row_index("patient_name").cast({"patient_name": pl.String})
    judged = _judge(_written(row, tmp_path / "f.parquet"))
    assert judged.problems == (f"patient_name: {MONITORING} does not send this column",)
    assert judged.found.certificate is not None
    assert judged.found.certificate.level == 1, "the contract calls the column a direct identifier"


def test_identifiers_are_found_whatever_mask_the_contract_names(pulled: Pulled, tmp_path: Path) -> None:
    """A gateway need not look at what its own pseudonyms leave; of a file nobody knows who made it."""
    raw = pulled.frame.with_columns(citizen_id=pl.lit("11010519491231002X"))
    judged = _judge(_written(raw, tmp_path / "raw.parquet"))
    assert f"citizen_id: national-id in {raw.height:,} rows: no mask removed them" in judged.problems
    assert "citizen_id: a direct identifier that does not look like hmac" in judged.problems
    assert judged.found.certificate is not None
    assert judged.found.certificate.level == 1
    tokens = pulled.frame.with_columns(citizen_id=pl.format("P{}", pl.col("citizen_id").rank("dense")))
    judged = _judge(_written(tokens, tmp_path / "tokens.parquet"))
    assert judged.problems == ("citizen_id: a direct identifier that does not look like hmac",)


def test_loss_is_what_each_value_lost_and_one_for_each_row_left_out(pulled: Pulled) -> None:
    judged = _judge(pulled.file, origin=pulled.raw)
    raw = pl.read_parquet(pulled.raw)
    whole, area = raw["home_postcode"].n_unique() - 1, pl.col("home_postcode").str.head(4).alias("area")
    codes = raw.select("home_postcode", area).group_by("area").agg(pl.col("home_postcode").n_unique())
    together = dict(codes.iter_rows())
    lost = sum((together[area] - 1) / whole for area in pulled.frame["home_postcode"])
    expected = (lost + pulled.suppressed) / raw.height
    assert judged.found.loss["home_postcode"] == pytest.approx(expected)
    assert judged.found.loss["sex"] == pytest.approx(pulled.suppressed / raw.height)
    assert judged.loss == pytest.approx(sum(v for v in judged.found.loss.values() if v is not None) / 4)


def test_loss_is_not_known_of_values_that_the_mask_does_not_make(pulled: Pulled, tmp_path: Path) -> None:
    other = pulled.frame.with_columns(home_postcode=pl.lit("somewhere"))
    judged = _judge(_written(other, tmp_path / "f.parquet"), origin=pulled.raw)
    assert judged.found.loss["home_postcode"] is None
    assert judged.loss is None
    assert "home_postcode not known" in judged.loss_text


def test_rows_that_may_not_be_left_out(pulled: Pulled, tmp_path: Path) -> None:
    """Half of the file gone is more suppression than the contract allows."""
    areas = pulled.frame["home_postcode"].unique().sort()
    half = pulled.frame.filter(pl.col("home_postcode").is_in(areas.head(len(areas) // 2).implode()))
    judged = _judge(_written(half, tmp_path / "f.parquet"), origin=pulled.raw)
    assert any("of the source's rows in scope are not in the file, allowed is 5%" in line for line in judged.problems)


def test_who_was_not_drawn_was_not_left_out(pulled: Pulled, tmp_path: Path) -> None:
    """Of a purpose that sends a sample, a file has few of its source's rows, and no bound is missed by that."""
    drawn = "        wholeRelease: {sample: {rate: 0.1, entity: citizen_id}}\n        refresh: P1D"
    loaded = odcs.load(CONTRACT.read_bytes().replace(b"        refresh: P1D", drawn.encode(), 1))
    assert loaded.contract.purposes[MONITORING].whole_release.sample is not None
    people = pulled.frame["citizen_id"].unique(maintain_order=True)
    some = pulled.frame.filter(pl.col("citizen_id").is_in(people.head(len(people) // 2).implode()))
    file, raw = source_settings(_written(some, tmp_path / "f.parquet")), source_settings(pulled.raw)
    judged = judge_file(loaded, file, origin=raw, purpose=MONITORING)
    assert judged.found.suppressed is None
    assert not any("not in the file" in line for line in judged.problems)
    assert "of a sample" in judged.loss_text
    assert judged.found.loss["sex"] == 0.0


def test_the_journalist_looks_people_up_in_a_register(pulled: Pulled, tmp_path: Path) -> None:
    """Two persons of the register for each that there is: the risk is that of the class with the fewest. The
    pseudonym changes every week, so the file's own counts are of more than persons, and say nothing here."""
    people = pl.read_parquet(pulled.raw).unique("citizen_id")
    known = people.select("citizen_id", "birth_date", "sex", "home_postcode")
    twice = pl.concat([known, known.with_columns(pl.format("{}-2", "citizen_id").alias("citizen_id"))])
    again = pl.concat([twice, twice.head(500)])  # a person who stands there twice is one
    judged = _judge(pulled.file, register=_written(again, tmp_path / "register.parquet"))
    assert judged.found.known_by == ("birth_date", "sex", "home_postcode")
    assert any("not by visit_ts" in line for line in judged.remarks)
    columns = ["birth_date", "sex", "home_postcode"]
    band = (pl.col("birth_date").dt.year() // 20 * 20).cast(pl.String) + "-01-01"
    masked = twice.with_columns(birth_date=band, home_postcode=pl.col("home_postcode").str.head(4))
    there = masked.group_by(columns).len("there")
    released = pulled.frame.select(pl.col("birth_date").cast(pl.String), "sex", "home_postcode").unique()
    least = released.join(there, on=columns)["there"].min()
    assert released.join(there, on=columns).height == released.height
    assert judged.found.certificate is not None
    assert judged.found.certificate.journalist_risk == pytest.approx(1 / int(least))  # type: ignore[arg-type]
    nobody = _written(known.drop("citizen_id"), tmp_path / "nobody.parquet")
    with pytest.raises(SluicegateError, match="it needs the column citizen_id"):
        _judge(pulled.file, register=nobody)
    stranger = _written(known.select("citizen_id", other="sex"), tmp_path / "stranger.parquet")
    with pytest.raises(SluicegateError, match="no column that classes are formed by"):
        _judge(pulled.file, register=stranger)


def test_values_are_shown_only_where_enough_persons_have_them(pulled: Pulled, tmp_path: Path) -> None:
    rare = pl.concat([pulled.frame.head(9).with_columns(sex=pl.lit("rare-value")), pulled.frame])
    judged = _judge(_written(rare, tmp_path / "f.parquet"), origin=pulled.raw)
    by_name = {shown.name: shown for shown in judged.found.shown}
    assert set(by_name) == {"birth_date", "sex", "home_postcode", "visit_ts", "diagnosis_icd10"}
    sex = by_name["sex"]
    assert sex.distinct == 3
    assert [bar.value for bar in sex.bars] == ["F", "M"]
    assert sex.rest == pytest.approx(9 / rare.height)
    before = pl.read_parquet(pulled.raw)["sex"]
    assert sex.bars[0].before == pytest.approx((before == "F").mean())
    persons = rare.group_by("diagnosis_icd10").agg(pl.col("citizen_id").n_unique())
    enough = set(persons.filter(pl.col("citizen_id") >= 10)["diagnosis_icd10"])
    assert {bar.value for bar in by_name["diagnosis_icd10"].bars} <= enough


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        (lambda f: f.select(other="sex"), Reason.DATA_INVALID, "no column that outbreak-monitoring sends"),
        (lambda f: f.select("citizen_id"), Reason.DATA_INVALID, "no column that forms classes"),
        (lambda f: f.head(0), Reason.DATA_INVALID, "no row"),
        (lambda f: f.with_columns(citizen_id=pl.lit(None, dtype=pl.String)), Reason.DATA_INVALID, "is null or empty"),
        (lambda f: f.with_columns(sex=pl.concat_list("sex")), Reason.DATA_INVALID, "is one of lists"),
        (lambda f: f.with_columns(sex=pl.struct("sex")), Reason.DATA_INVALID, "never sent"),
    ],
    ids=["nothing", "no classes", "empty", "no persons", "list", "struct"],
)
def test_what_cannot_be_judged(pulled: Pulled, tmp_path: Path, change: Any, reason: Reason, says: str) -> None:
    with pytest.raises(SluicegateError, match=says) as caught:
        _judge(_written(change(pulled.frame), tmp_path / "f.parquet"))
    assert caught.value.reason is reason


def test_a_purpose_must_be_named_where_there_are_several(pulled: Pulled) -> None:
    with pytest.raises(SluicegateError, match="has 2 purposes"):
        _judge(pulled.file, purpose=None)


def _about_stations(**whole: Any) -> odcs.LoadedContract:
    """A contract about no person: three columns of the example, and no bounds."""
    document = yaml.safe_load(CONTRACT.read_text())
    table = document["schema"][0]
    kept = {"hospital_code", "sex", "cost_cents"}
    table["properties"] = [field for field in table["properties"] if field["name"] in kept]
    for field in table["properties"]:
        field["classification"] = "open"
        field["customProperties"] = [{"property": "identifiability", "value": "none"}]
    own = {each["property"]: each["value"] for each in document["customProperties"]}
    purpose = own["purposes"].pop("transport-planning")
    del purpose["effectiveness"]
    purpose["fields"] = {"hospital_code": {"mask": "keep"}, "sex": {"mask": "keep"}}
    own["purposes"].clear()
    own["purposes"]["transport-planning"] = {**purpose, **whole}
    own["negativeList"].update(fields=[], together=[])
    document["roles"] = [role for role in document["roles"] if role["role"] == "transport-planning"]
    return odcs.load(yaml.safe_dump(document).encode())


def test_data_about_no_person_is_only_looked_through(pulled: Pulled, tmp_path: Path) -> None:
    loaded, frame = _about_stations(), pl.DataFrame({"hospital_code": ["H1", "H2"], "sex": ["F", None]})
    file = _written(frame, tmp_path / "stations.parquet")
    judged = judge_file(loaded, source_settings(file))
    assert judged.passes
    assert judged.found.certificate is None
    assert judged.figures()["effectiveness"] == "level 4 of 4: about no person"
    assert "about no person" in page(judged)
    held = _written(frame.with_columns(sex=pl.lit("11010519491231002X")), tmp_path / "held.parquet")
    assert judge_file(loaded, source_settings(held)).problems == ("sex: national-id in 2 rows: no mask removed them",)
    with pytest.raises(SluicegateError, match="nobody can be looked up"):
        judge_file(loaded, source_settings(file), register=source_settings(pulled.raw))


def test_small_classes_of_data_about_no_person_are_counted(tmp_path: Path) -> None:
    """What a release leaves out is a problem of a file that has it."""
    small = {"suppress_small": {"k": 3, "fields": ["hospital_code"], "max_suppression": 0.5}}
    loaded = _about_stations(wholeRelease=small)
    rows = pl.DataFrame({"hospital_code": ["H01"] * 3 + ["H02"] * 2, "sex": ["F", None, "M", "F", "M"]})
    judged = judge_file(loaded, source_settings(_written(rows, tmp_path / "few.parquet")))
    assert judged.problems == ("2 rows that fewer than 3 are like, by hospital_code",)
    assert judged.remarks == (
        "the data is about no person; no rows that fewer than 3 are like, by hospital_code, leave",
    )
    assert judge_file(loaded, source_settings(_written(rows.head(3), tmp_path / "alike.parquet"))).passes
    with pytest.raises(SluicegateError, match="hospital_code") as caught:
        judge_file(loaded, source_settings(_written(rows.select("sex"), tmp_path / "none.parquet")))
    assert caught.value.reason is Reason.DATA_INVALID


def test_a_source_of_another_shape_is_refused(pulled: Pulled, tmp_path: Path) -> None:
    drifted = _written(pl.read_parquet(pulled.raw).drop("sex"), tmp_path / "drifted.parquet")
    with pytest.raises(SluicegateError) as caught:
        _judge(pulled.file, origin=drifted)
    assert caught.value.reason is Reason.PLAN_REFUSED


def test_large_files_spill_to_disk_and_are_judged_alike(pulled: Pulled, tmp_path: Path) -> None:
    settings = source_settings(pulled.file)
    source = sources.open(settings)
    rules = standard.load(LOADED.contract.sharing.standard)
    held = as_masked.of_file(LOADED.contract, MONITORING, source.schema(), rules)
    small, large = (
        judging.judge(held, source, spool=tmp_path / f"s{limit}", entropy=os.urandom, memory_limit=limit)
        for limit in (0, 1 << 30)
    )
    assert small.certificate == large.certificate
    assert small.shown == large.shown
    assert not list(tmp_path.glob("s*"))
