"""contract lint, test and strip; publish."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import CONTRACT, Commands

pytestmark = pytest.mark.xdist_group("cli")  # one running city for all of them


def spoilt(folder: Path, old: str, new: str) -> Path:
    text = CONTRACT.read_text()
    assert old in text
    path = folder / "spoilt.odcs.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_a_sound_contract(still: Commands) -> None:
    said = still("contract", "lint", CONTRACT)
    assert said.out.startswith(f"{CONTRACT} is a sound sharing contract\n")
    assert "outbreak-monitoring (k 10), transport-planning (k 20)" in said.out
    found = still("contract", "lint", CONTRACT, "--output", "json").json
    assert (found["dataset"], found["version"]) == ("hospital-visits", "2.1.0")
    assert found["documentDigest"].startswith("sha256:")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("mask: bucket", "mask: buckt", "bucket"),
        ("k: 20", "k: 2", "k"),
        ("dpv:ImproveTransportMobility", "dpv:ImproveTransportMobilty", "dpv:ImproveTransportMobility"),
        ("kind: DataContract", "kind: Contract", "kind"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_hint(
    still: Commands, tmp_path: Path, old: str, new: str, says: str
) -> None:
    said = still("contract", "lint", spoilt(tmp_path, old, new), code=2)
    assert "  - line " in said.err
    assert says in said.err
    assert "What to do" in said.err
    error = json.loads(still("contract", "lint", tmp_path / "spoilt.odcs.yaml", "--output", "json", code=2).err)
    assert error["error"]["reason"] == "CONTRACT_INVALID"
    assert all(each["path"] for each in error["error"]["violations"])


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"a: [", b"- 1", b"x" * (3 << 20)], ids=["empty", "binary", "cut", "list", "large"]
)
def test_what_is_no_contract(still: Commands, tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(raw)
    said = still("contract", "lint", tmp_path / "c.yaml", code=2).err
    assert str(tmp_path / "c.yaml") in said
    assert ("at most 2097152 bytes; this one has more" in said) == (len(raw) > 2 << 20)
    missing = still("contract", "lint", tmp_path / "missing.yaml", code=2).err
    assert "missing.yaml: No such file" in missing
    assert "What to do: name a file that can be read." in missing
    still("contract", "lint", tmp_path, code=2)


def test_a_rehearsal_on_data(still: Commands, data: Path) -> None:
    said = still("contract", "test", CONTRACT, "--data", data)
    for purpose in ("outbreak-monitoring", "transport-planning"):
        assert f"purpose {purpose}: passes" in said.out
    assert "ten rows as they would leave" in said.out
    assert "1101011990" not in said.out, "no raw value of a masked column is shown"
    one = ("--data", data, "--purpose", "transport-planning", "--output", "json")
    found = still("contract", "test", CONTRACT, *one).json
    assert [(each["purpose"], each["passes"], each["rowsIn"]) for each in found] == [("transport-planning", True, 4000)]
    assert found[0]["kMet"] >= 20
    assert len(found[0]["sample"]) == 10


def test_a_rehearsal_that_fails_says_why(still: Commands, data: Path, tmp_path: Path) -> None:
    import polars as pl

    lone = tmp_path / "lone.parquet"
    pl.read_parquet(data).with_columns(pl.format("H{}", pl.row_index()).alias("hospital_code")).write_parquet(lone)
    said = still("contract", "test", CONTRACT, "--data", lone, "--purpose", "transport-planning", code=5)
    assert "purpose transport-planning: FAILS" in said.out
    assert "no row would be left" in said.out
    assert "hospital_code" in said.out.split("worst columns")[1].splitlines()[0]
    held = tmp_path / "held.parquet"
    pl.read_parquet(data).with_columns(hospital_code=pl.lit("see 11010519491231002X")).write_parquet(held)
    words = ("contract", "test", CONTRACT, "--data", held, "--purpose", "transport-planning")
    said = still(*words, code=5)
    assert "hospital_code: national-id in 4,000 rows: mask the column, or take it out of the purpose" in said.out
    assert "11010519491231002X" not in said.out
    found = still(*words, "--output", "json", code=5).json
    assert found[0]["findings"] == [{"column": "hospital_code", "kind": "national-id", "rows": 4000}]
    drifted = tmp_path / "drifted.parquet"
    pl.read_parquet(data).drop("hospital_code").write_parquet(drifted)
    said = still("contract", "test", CONTRACT, "--data", drifted, "--purpose", "transport-planning", code=5)
    assert "hospital_code" in said.out


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_a_rehearsal_on_a_file_of_text(still: Commands, data: Path, tmp_path: Path, kind: str) -> None:
    import polars as pl

    frame = pl.read_parquet(data).with_columns(pl.concat_str(pl.lit("0"), "home_postcode").alias("home_postcode"))
    path = tmp_path / f"visits.{kind}"
    (frame.write_csv if kind == "csv" else frame.write_ndjson)(path)
    found = still("contract", "test", CONTRACT, "--data", path, "--output", "json").json
    assert {each["purpose"]: each["passes"] for each in found} == {
        "outbreak-monitoring": True,
        "transport-planning": True,
    }
    assert {row["home_postcode"] for row in found[1]["sample"]} == {"01"}


def test_what_a_csv_is_like_can_be_said(still: Commands, data: Path, tmp_path: Path) -> None:
    import polars as pl

    path = tmp_path / "visits.csv"
    days = pl.col("birth_date").dt.strftime("%d.%m.%Y")
    pl.read_parquet(data).with_columns(days, sex=pl.lit("-")).write_csv(path, separator=";")
    words = ("contract", "test", CONTRACT, "--data", path)
    assert "state that as its separator" in still(*words, code=2).err
    said = still(*words, "--separator", ";", code=2).err
    assert "birth_date: 4,000 of 4,000 rows hold something else than a date written 2026-01-31" in said
    assert ".1990" not in said
    told = still(*words, "--separator", ";", "--column", "birth_date=string", "--null", "-", code=5).out
    assert "declared date, but the source has string (mend the source (or the type that its `columns` state)" in told
    assert "purpose transport-planning: passes" in told
    for wrong, says in (
        (["--column", "birth_date"], "write NAME=TYPE"),
        (["--column", "birth_date=day"], "'day' is no column type"),
        (["--separator", "::"], "one character"),
    ):
        assert says in still(*words, *wrong, code=2).err
    still("source", "bind", "hospital-visits", path, "--separator", ";", "--column", "sex=string", "--null", "-")
    (bound,) = still("source", "list", "--output", "json").json
    assert (bound["separator"], bound["columns"], bound["nullValues"]) == (";", {"sex": "string"}, ["-"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "missing.parquet"], "there is no file, folder or glob missing.parquet"),
        (["--data", "nothing*.parquet"], "there is no file, folder or glob nothing*.parquet"),
        (["--data", "{empty}"], "there is no file, folder or glob {empty}"),
        (["--data", "{data}", "--purpose", "transport-planing"], "did you mean 'transport-planning'?"),
        (["--data", "{data}", "--format", "xlsx"], "allowed: arrow, csv, ndjson, parquet"),
    ],
)
def test_a_rehearsal_that_cannot_begin(
    still: Commands, data: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    words = [word.format(data=data, empty=empty) for word in words]
    said = still("contract", "test", CONTRACT, *words, code=2).err
    assert says.format(empty=empty) in said
    assert "INVALID_ARGUMENT" in said, "one fault of whoever asks, one answer"


def test_strip_writes_a_clean_copy(still: Commands, tmp_path: Path) -> None:
    private = spoilt(tmp_path, "- name: phone\n", "- name: phone\n        examples: ['13800000000']\n")
    assert "examples" in still("contract", "lint", private, code=2).err
    said = still("contract", "strip", private, "-o", tmp_path / "clean.odcs.yaml")
    assert said.out == f"{tmp_path / 'clean.odcs.yaml'}\n"
    assert "13800000000" not in (tmp_path / "clean.odcs.yaml").read_text()
    still("contract", "lint", tmp_path / "clean.odcs.yaml")
    before = private.read_bytes()
    assert "--overwrite" in still("contract", "strip", private, "-o", private, code=2).err
    assert private.read_bytes() == before
    still("contract", "strip", private, "-o", private, "--overwrite")
    assert private.read_bytes() == (tmp_path / "clean.odcs.yaml").read_bytes()


def test_publishing_again_and_again(cli: Commands, tmp_path: Path) -> None:
    """A new dataset, then a new version of it: the etag is found by itself."""
    path = tmp_path / "clinic.odcs.yaml"
    text = CONTRACT.read_text().replace("name: hospital-visits", "name: clinic-visits", 1)
    path.write_text(text.replace("dataProduct: hospital-visits", "dataProduct: clinic-visits"))
    said = cli("publish", path, "--as", "steward")
    assert said.out == "health-bureau/clinic-visits\n"
    assert "published version 2.1.0, served by health-bureau-1" in said.err
    path.write_text(path.read_text().replace("version: 2.1.0", "version: 2.1.1"))
    made = cli("publish", path, "--as", "steward", "--output", "json").json
    assert made["name"] == "parties/health-bureau/datasets/clinic-visits"
    assert made["contract"]["name"].endswith("/contracts/2.1.1")
    assert "clinic-visits" in cli("search", "clinic", "--as", "planner").out


def test_a_standing_offer_of_highly_private_fields_takes_two_signatures(cli: Commands, tmp_path: Path) -> None:
    path, signed = tmp_path / "ward.odcs.yaml", tmp_path / "ward.signed.json"
    text = CONTRACT.read_text().replace("name: hospital-visits", "name: ward-visits", 1)
    path.write_text(text.replace("dataProduct: hospital-visits", "dataProduct: ward-visits"))
    cli("contract", "sign", path, "--out", signed, "--as", "dpo")
    open_to_all = tmp_path / "offer.odcs.yaml"
    open_to_all.write_text(path.read_text().replace("class: conditional", "class: unconditional"))
    assert "POLICY_REFUSED" in cli("publish", open_to_all, "--as", "steward", code=5).err
    # What was signed is another contract.
    assert "SIGNATURE_INVALID" in cli("publish", open_to_all, "--signed", signed, "--as", "steward", code=8).err
    assert "--overwrite" in cli("contract", "sign", open_to_all, "--out", signed, "--as", "dpo", code=2).err
    cli("contract", "sign", open_to_all, "--out", signed, "--overwrite", "--as", "dpo")
    # One person's signature twice is one signature.
    assert "SIGNATURE_INVALID" in cli("publish", open_to_all, "--signed", signed, "--as", "dpo", code=8).err
    cli("publish", open_to_all, "--signed", signed, "--as", "steward")
    asked = cli(
        "request",
        "health-bureau/ward-visits",
        "--purpose",
        "outbreak-monitoring",
        "--reason",
        "beds",
        "--as",
        "analyst",
    )
    assert asked.out
    assert "APPROVED" in cli("requests", asked.out.strip(), "--as", "analyst").out


def test_only_a_department_publishes_its_own(cli: Commands) -> None:
    cli("publish", CONTRACT, "--as", "planner", code=2)  # no gateway of theirs
    assert "ROLE_MISSING" in cli("publish", CONTRACT, "--as", "planner", "--gateway", "g", code=4).err
    cli("publish", CONTRACT, "--as", "dpo", "--gateway", "nowhere", code=3)


def test_a_proposal_is_the_next_version(still: Commands, data: Path, tmp_path: Path) -> None:
    import polars as pl

    strict, out, days = spoilt(tmp_path, "k: 20", "k: 90"), tmp_path / "next.odcs.yaml", tmp_path / "days.parquet"
    spread = pl.col("visit_ts").dt.offset_by(pl.format("{}d", pl.row_index() % 100))
    pl.read_parquet(data).with_columns(spread).write_parquet(days)
    words = ("--data", days, "--purpose", "transport-planning")
    assert "FAILS" in still("contract", "test", strict, *words, code=5).out
    said = still("contract", "propose", strict, *words, "--out", out).out
    assert "masks that meet the bounds" in said
    assert "combinations measured" in said
    assert "passes" in still("contract", "test", out, *words).out
    before, after = strict.read_text().splitlines(), out.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed[0] == ("version: 2.1.0", "version: 3.0.0")
    assert all("mask: " in old for old, _ in changed[1:])
    assert len(changed) > 1
    assert "exists" in still("contract", "propose", strict, *words, "--out", out, code=2).err
    still("contract", "lint", out)
    found = still("contract", "propose", strict, *words, "--output", "json").json
    assert found["passes"] is False
    assert found["after"]["passes"] is True
    assert set(found["proposal"]["masks"]) <= {"hospital_code", "home_postcode", "sex", "visit_ts", "birth_date"}
    assert 0 < found["proposal"]["loss"] < 1


def test_no_proposal_and_what_is_wrong_with_asking_for_one(still: Commands, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "next.odcs.yaml"
    words = ("--data", data, "--purpose", "transport-planning", "--out", out)
    said = still("contract", "propose", spoilt(tmp_path, "k: 20", "k: 5000"), *words, code=5).out
    assert "nothing coarser meets the bounds of transport-planning" in said
    assert not out.exists()
    asked = still("contract", "propose", CONTRACT, "--data", data, code=2).err
    assert "say which purpose: outbreak-monitoring, transport-planning" in asked
    assert "no such purpose" in still("contract", "propose", CONTRACT, "--data", data, "--purpose", "x", code=2).err


def test_a_release_is_attacked_before_it_is_published(still: Commands, data: Path, tmp_path: Path) -> None:
    words = ("attack", CONTRACT, "--data", data)
    said = still(*words).out
    assert "purpose outbreak-monitoring: withstands" in said
    assert "linkage by home_postcode, visit_ts, hospital_code" in said
    assert "enumeration of citizen_id" in said
    found = still(*words, "--purpose", "transport-planning", "--output", "json").json
    assert [each["purpose"] for each in found] == ["transport-planning"]
    assert found[0]["withstands"] is True
    assert all(each["low"] <= each["rate"] <= each["high"] for each in found[0]["attacks"])
    strict = still(*words, "--most", "0", code=5).out
    assert "DOES NOT WITHSTAND" in strict
    assert "BREAKS" in strict


def test_what_an_attacker_knows_can_be_said(still: Commands, data: Path, tmp_path: Path) -> None:
    import polars as pl

    register, nameless = tmp_path / "register.parquet", tmp_path / "nameless.parquet"
    people = pl.read_parquet(data).unique("citizen_id", keep="any")
    people.select("citizen_id", "birth_date", "sex").write_parquet(register)
    people.select("birth_date", "sex").write_parquet(nameless)
    words = ("attack", CONTRACT, "--data", data, "--purpose", "outbreak-monitoring")
    said = still(*words, "--register", register, "--earlier", data).out
    assert "linkage by birth_date, sex\t" in said
    assert "difference of two releases" in said
    error = still(*words, "--register", nameless, code=2).err
    assert "it needs the column citizen_id" in error
    still(*words, "--register", tmp_path / "none.parquet", code=2)
    still(*words, "--purpose", "none", code=2)
