"""The commands of the main job, against running processes: request, decide, pull, verify, stop."""

from __future__ import annotations

import contextlib
import json
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
import polars as pl
import pytest

from contracts.envelope import Envelope
from contracts.evidence import EvidenceBundle
from exchange.client import Exchange
from tests.cli.commands import CONTRACT, Commands, on_a_terminal
from tests.cli.conftest import ROWS, Running

pytestmark = pytest.mark.xdist_group("cli")  # one running city for all of them

DATASET = "health-bureau/hospital-visits"
LATER = (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%SZ")


def asked(cli: Commands, who: str = "analyst", purpose: str = "outbreak-monitoring") -> str:
    """A fresh request; an undecided one of the same consumer is no obstacle."""
    return cli("request", DATASET, "--purpose", purpose, "--reason", "to see", "--as", who).out.strip()


# --- finding


def test_search_and_show(cli: Commands) -> None:
    said = cli("search", "hospital", "visits", "--as", "planner")
    assert said.rows[0][:3] == [DATASET, "conditional", "transport-planning"]
    assert cli("search", "nothing-like-it", "--as", "planner").rows == []
    shown = cli("show", DATASET, "--as", "planner")
    assert "truncate unit=day zone=Etc/UTC" in shown.out
    assert "purpose transport-planning" in shown.out
    # The contract is one signed document: the other purpose stands in it, so it is named as what it is.
    assert [line.split() for line in shown.out.splitlines() if "outbreak-monitoring" in line] == [
        ["not", "for", "you", "outbreak-monitoring"]
    ]
    assert "not for you" not in cli("show", DATASET, "--as", "steward").out
    assert "synthetic sample for transport-planning" in shown.out
    assert f"sluicegate request {DATASET} --purpose transport-planning" in shown.err
    assert "outbreak-monitoring" in cli("show", DATASET, "--as", "steward").out
    value = cli("show", DATASET, "--rows", "3", "--as", "planner", "--output", "json").json
    assert len(value["sample"]["rows"]) == 3
    assert value["purposes"] == ["transport-planning"]
    assert "outbreak-monitoring" in value["contract"]["document"]
    cli("show", "health-bureau/nothing", "--as", "planner", code=3)
    cli("show", "nothing", "--as", "planner", code=2)
    assert (
        "did you mean 'transport-planning'?"
        in cli("show", DATASET, "--purpose", "transport-plan", "--as", "planner", code=2).err
    )


# --- asking and deciding


def test_what_the_contract_does_not_offer_is_refused_with_what_would_pass(cli: Commands) -> None:
    said = cli("request", DATASET, "--purpose", "marketing", "--reason", "r", "--as", "planner", code=5)
    assert "transport-planning" in said.err
    words = ("request", DATASET, "--purpose", "transport-planning", "--reason", "r", "--as", "analyst")
    said = cli(*words, "--field", "hospital_cod", code=5)
    assert "hospital_code" in said.err
    cli(*words, "--duration", "a year", code=5)
    error = json.loads(cli(*words, "--field", "phone", "--output", "json", code=5).err)["error"]
    assert error["reason"] == "REQUEST_OUTSIDE_CONTRACT"


def test_a_request_tells_what_is_missing_and_who_decides(cli: Commands) -> None:
    name = asked(cli)
    told = "2 approvals, by steward@health.example and dpo@health.example"
    row = next(row for row in cli("requests", "--as", "steward").rows if row[0] == name.split("/")[1])
    assert row[5:7] == ["0 of 2", told]
    shown = cli("requests", name, "--as", "steward")
    assert f"waits for    {told}" in shown.out
    assert "you may decide: sluicegate approve" in shown.err
    assert "you may decide" not in cli("requests", name, "--as", "analyst").err
    assert cli("requests", name.split("/")[1], "--as", "analyst", "--output", "json").json["name"] == name
    cli("requests", name, "--as", "planner", code=3)
    assert cli("cancel", name, "--as", "analyst").out.splitlines()[1].split() == ["state", "CANCELLED"]
    cli("cancel", name, "--as", "analyst", code=6)
    states = {row[1] for row in cli("requests", "--state", "CANCELLED", "--as", "analyst").rows}
    assert states == {"CANCELLED"}
    assert "SUBMITTED, APPROVED" in cli("requests", "--state", "OPEN", "--as", "analyst", code=2).err


def test_approving_shows_what_is_signed_and_signs_just_that(cli: Commands) -> None:
    name = asked(cli)
    refused = cli.process("approve", name, "--as", "steward", code=1)
    assert "sign it?" in refused.err
    assert "not confirmed: nothing was done" in refused.err
    assert cli("requests", name, "--as", "steward", "--output", "json").json["approvals"] == []
    said = cli("approve", name, "--yes", "--as", "steward")
    documents = [json.loads("{" + part.split("\n  }")[0] + "}") for part in said.err.split("\n  {")[1:]]
    request, approval = documents
    found = cli("requests", name, "--as", "steward", "--output", "json").json
    signed = Envelope.from_bytes(json.dumps(found["approvals"][0]).encode())
    assert approval == signed.payload
    assert request == found["statement"]["payload"]
    assert approval["requestDigest"] == Envelope.from_bytes(json.dumps(found["statement"]).encode()).digest
    assert "citizen_id: hmac domain=person" in said.err
    assert "would be approved by your signature" in said.err
    assert "k at least 10" in said.err
    assert "still waits for 1 approval, by dpo@health.example" in said.err
    cli("approve", name, "--yes", "--as", "steward", code=5)
    cli("approve", name, "--yes", "--as", "planner", code=3)
    early = cli("approve", name, "--yes", "--as", "analyst", code=4).err
    assert early.splitlines()[0] == "error: approving needs the role steward or dpo; you have admin, requester"
    assert "signature" not in early, "nothing is shown as if it were signed"
    assert cli("reject", name, "--reason", "not now", "--as", "dpo").out.split()[-1] == "REJECTED"
    assert "not now" in cli("requests", name, "--as", "analyst").out
    cli("approve", name, "--yes", "--as", "dpo", code=6)


def test_an_agreement_is_signed_by_both_and_ends(cli: Commands) -> None:
    """From request to end, for a consumer of its own."""
    name = asked(cli)
    cli("approve", name, "--yes", "--as", "steward")
    agreement = cli("approve", name, "--yes", "--as", "dpo").out.strip()
    assert agreement.startswith("agreements/a-")
    shown = cli("agreements", agreement, "--as", "analyst")
    assert f"it waits for you: sluicegate sign {agreement.split('/')[1]}" in shown.err
    row = next(row for row in cli("agreements", "--as", "dpo").rows if row[0] == agreement.split("/")[1])
    assert (row[1], row[6]) == ("PENDING", "disease-control-centre")
    refused = cli("suspend", agreement, "--reason", "r", "--until", LATER, "--as", "dpo", code=6).err
    assert "an agreement that is PENDING cannot suspend; allowed: sign, terminate\n" in refused
    cli("sign", agreement, "--as", "dpo", code=6)
    assert "ACTIVE" in cli("sign", agreement, "--as", "analyst").out
    assert "next: sluicegate pull" in cli("agreements", agreement, "--as", "analyst").err
    words = ("request", DATASET, "--purpose", "outbreak-monitoring", "--reason", "once more", "--as", "analyst")
    assert agreement in cli(*words, code=6).err
    refused = cli.process("terminate", agreement, "--reason", "r", "--as", "analyst", code=1)
    assert "for good?" in refused.err
    assert "TERMINATED" in cli("terminate", agreement, "--reason", "done with it", "--yes", "--as", "analyst").out
    assert "done with it" in cli("agreements", agreement, "--as", "dpo").out
    cli("resume", agreement, "--reason", "r", "--as", "steward", code=6)


# --- fetching


@pytest.fixture(scope="module")
def pulled(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pulled file with its receipt."""
    path = tmp_path_factory.mktemp("pulled") / "visits.parquet"
    with Exchange(running.home.profile("planner")) as planner:
        planner.pull(running.agreement, to=path)
    return path


def test_pull_writes_verifies_and_is_quiet_in_a_pipe(cli: Commands, running: Running, tmp_path: Path) -> None:
    out = tmp_path / "visits.csv"
    said = cli.process("pull", running.agreement, "-o", out, "--as", "planner")
    assert said.out.splitlines()[0] == str(out)
    assert f"{ROWS:,} in" in said.out
    assert said.err == f"check it any time: sluicegate verify {out}.receipt.json --data {out}\n"
    checked = cli("verify", f"{out}.receipt.json", "--data", out, "--as", "planner").out
    assert "the data has the digest that was attested" in checked
    changed = tmp_path / "changed.csv"
    changed.write_bytes(out.read_bytes().replace(b'"H00"', b'"H01"', 1))
    cli("verify", f"{out}.receipt.json", "--data", changed, "--as", "planner", code=8)
    changed.unlink()
    assert pl.read_csv(out).columns == ["home_postcode", "visit_ts", "hospital_code"]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["visits.csv", "visits.csv.receipt.json"]
    cli("verify", f"{out}.receipt.json", "--as", "planner")
    again = cli("pull", running.agreement, "-o", tmp_path / "visits.arrow", "--as", "planner")
    assert again.err.endswith(f"--data {tmp_path / 'visits.arrow'}\n")
    cli("verify", f"{tmp_path / 'visits.arrow'}.receipt.json", "--data", tmp_path / "visits.arrow", "--as", "planner")
    assert "exists" in cli("pull", running.agreement, "-o", out, "--as", "planner", code=2).err
    value = cli("pull", running.agreement, "-o", out, "--overwrite", "--as", "planner", "--output", "json").json
    assert (value["file"], value["rows"]) == (str(out), ROWS)
    assert (value["k"]["required"], value["k"]["atLeast"], value["l"]) == (20, False, {})
    assert value["k"]["met"] >= 20
    assert f"{value['k']['met']} (required 20)" in said.out


def test_on_a_terminal_a_pull_says_that_the_gateway_works_before_rows_arrive(
    cli: Commands, running: Running, tmp_path: Path
) -> None:
    out = tmp_path / "v.parquet"
    seen = on_a_terminal(cli.home, "pull", running.agreement, "-o", str(out), "--as", "planner")
    assert seen.index("the gateway masks and measures the release") < seen.index(f"{ROWS:,} rows")
    assert "0/?" not in seen, "no bar before there is anything to measure"
    seen = on_a_terminal(cli.home, "verify", f"{out}.receipt.json", "--data", str(out), "--as", "planner")
    assert f"recomputing the digest of {out}"[:60] in seen
    quiet = on_a_terminal(
        cli.home, "pull", running.agreement, "-o", f"{out}.csv", "-q", "--format", "csv", "--as", "planner"
    )
    assert "masks and measures" not in quiet


def test_the_demo_shows_rows_that_left(running: Running, data: Path, tmp_path: Path) -> None:
    """Its ten rows are in the pulled file, pseudonym and all; what is not sent is not in it."""
    from examples import demo

    out = tmp_path / "outbreak.parquet"
    with contextlib.ExitStack() as stack:
        analyst, steward, dpo = (
            stack.enter_context(Exchange(running.home.profile(name))) for name in ("analyst", "steward", "dpo")
        )
        asked = analyst.request("health-bureau/hospital-visits", purpose="outbreak-monitoring", reason="flu").name
        steward.approve(asked)
        dpo.approve(asked)
        agreement = analyst.request_status(asked).agreement
        pulled = analyst.pull(agreement, to=out)
        rows = demo.ten_rows(data, running.home.root, out, pulled.receipt.payload)
        # The city is shared; and with the agreement goes what the pseudonyms were made with.
        steward.terminate(agreement, reason="shown")
    assert len(rows) == 10
    released = pl.read_parquet(out)
    for before, after, left in rows:
        assert before.keys() == after.keys()
        assert {name for name, value in after.items() if value is not None} == set(released.columns)
        there = released.filter(pl.col(name) == after[name] for name in released.columns)
        assert left == (there.height > 0)
        assert left, "every class of this table is large enough"
        assert str(before["home_postcode"]).startswith(after["home_postcode"])


@pytest.mark.parametrize("form", ["parquet", "csv", "arrow"])
def test_a_pulled_file_is_read_by_what_it_is(running: Running, tmp_path: Path, form: Literal["parquet", "csv"]) -> None:
    with Exchange(running.home.profile("planner")) as planner:
        pulled = planner.pull(running.agreement, to=tmp_path / "visits.data", format=form)
    assert (pulled.rows, pulled.frame().height) == (ROWS, ROWS)
    assert pulled.frame().schema == {"home_postcode": pl.String(), "visit_ts": pl.Date(), "hospital_code": pl.String()}
    assert sum(batch.num_rows for batch in pulled.reader()) == ROWS


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["agreements/a-2222222222", "-o", "{folder}/x.parquet"], 3),
        (["{agreement}", "-o", "{folder}/x.doc"], 2),
        (["{agreement}", "-o", "{folder}/missing/x.csv"], 2),
        (["{agreement}"], 2),
    ],
)
def test_pulls_that_cannot_be(cli: Commands, running: Running, tmp_path: Path, words: list[str], code: int) -> None:
    filled = [word.format(folder=tmp_path, agreement=running.agreement) for word in words]
    cli("pull", *filled, "--as", "planner", code=code)
    assert not list(tmp_path.iterdir())


def test_only_the_consumer_pulls(cli: Commands, running: Running, tmp_path: Path) -> None:
    cli("pull", running.agreement, "-o", tmp_path / "x.parquet", "--as", "steward", code=4)
    cli("pull", running.agreement, "-o", tmp_path / "x.parquet", "--as", "analyst", code=3)


def test_a_suspended_agreement_serves_nobody_until_it_is_resumed(
    cli: Commands, running: Running, tmp_path: Path
) -> None:
    said = cli("suspend", running.agreement, "--reason", "a complaint", "--until", LATER, "--as", "steward")
    assert "the gateway health-bureau-1 serves nothing under it from now on" in said.err
    assert "SUSPENDED" in said.out
    try:
        refused = cli("pull", running.agreement, "-o", tmp_path / "x.parquet", "--as", "planner", code=5)
        assert "SUSPENDED" in refused.err
        assert "a complaint" in cli("agreements", running.agreement, "--as", "planner").out
        cli("resume", running.agreement, "--reason", "r", "--as", "planner", code=4)
    finally:
        resumed = cli("resume", running.agreement, "--reason", "settled", "--as", "steward")
    assert "serves it again" in resumed.err
    # The gateway serves again once the exchange's next heartbeat says so too.
    end = time.monotonic() + 15
    while cli.process("pull", running.agreement, "-o", tmp_path / "x.parquet", "--as", "planner", code=None).code:
        assert time.monotonic() < end
    assert (tmp_path / "x.parquet").is_file()
    for until in ("tomorrow", "2026-13-01T00:00:00Z"):
        cli("suspend", running.agreement, "--reason", "r", "--until", until, "--as", "steward", code=2)
    past = cli(
        "suspend", running.agreement, "--reason", "r", "--until", "2020-01-01T00:00:00Z", "--as", "steward", code=2
    )
    assert "until: found 2020-01-01T00:00:00Z; allowed: any instant after 20" in past.err
    assert "the gateway" not in past.err, "nobody was told"


def test_a_ticket_is_for_its_holder_alone(cli: Commands, running: Running, tmp_path: Path) -> None:
    out = tmp_path / "ticket"
    value = cli("ticket", running.agreement, "-o", out, "--as", "planner", "--output", "json").json
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    before = out.read_bytes()
    transfers = len(cli("receipts", "--as", "planner").rows)
    assert "--overwrite" in cli("ticket", running.agreement, "-o", out, "--as", "planner", code=2).err
    out.rename(tmp_path / "kept")
    assert f"{out}.ca.pem exists" in cli("ticket", running.agreement, "-o", out, "--as", "planner", code=2).err
    assert len(cli("receipts", "--as", "planner").rows) == transfers, "refused before anything is asked for"
    (tmp_path / "kept").rename(out)
    assert out.read_bytes() == before
    assert value["address"].startswith("grpc+tls://localhost:")
    assert "BEGIN CERTIFICATE" in Path(value["caCertificate"]).read_text()
    paper = Envelope.from_bytes(out.read_bytes())
    assert paper.payload["grant"]["payload"]["transfer"] == value["transfer"]
    cli("ticket", running.agreement, "-o", out, "--overwrite", "--as", "planner")
    assert out.read_bytes() != before
    waiting = cli("receipts", value["transfer"], "--as", "planner").out
    assert "purpose         transport-planning\n" in waiting, "of the agreement: there is no receipt yet"
    assert f"agreement       {running.agreement}\n" in waiting
    assert value["transfer"].split("/")[1] in {row[0] for row in cli("receipts", "--as", "planner").rows}


def test_receipts(cli: Commands, running: Running, pulled: Path) -> None:
    receipt = json.loads(Path(f"{pulled}.receipt.json").read_bytes())["receipt"]["payload"]
    shown = cli("receipts", receipt["transfer"], "--as", "planner")
    assert f"{ROWS:,} left of {ROWS:,}, 0 suppressed" in shown.out
    assert "ACKNOWLEDGED" in shown.out
    assert receipt["contentDigest"] in shown.out
    listed = cli("receipts", "--agreement", running.agreement, "--as", "steward", "--output", "json").json
    assert receipt["transfer"] in {each["name"] for each in listed}
    cli("receipts", "t-2222222222", "--as", "planner", code=3)
    cli("receipts", receipt["transfer"], "--as", "analyst", code=3)


# --- proof


def test_verify_goes_through_its_steps(cli: Commands, pulled: Path) -> None:
    said = cli("verify", f"{pulled}.receipt.json", "--data", pulled, "--as", "planner")
    assert {row[0] for row in said.rows[:-1]} == {"ok"}
    assert said.out.splitlines()[-1].startswith("it stands: ")
    bare = cli("verify", f"{pulled}.receipt.json", "--as", "planner")
    assert "1 not shown; --data FILE checks the data too" in bare.out.splitlines()[-1]
    value = cli("verify", f"{pulled}.receipt.json", "--as", "planner", "--output", "json").json
    assert (value["stands"], value["ledger"]) == (True, True)
    assert [step["number"] for step in value["steps"]] == list(range(1, len(value["steps"]) + 1))


def test_evidence_without_its_ledger_does_not_stand_unless_that_is_accepted(
    cli: Commands, pulled: Path, tmp_path: Path
) -> None:
    whole = EvidenceBundle.from_bytes(Path(f"{pulled}.receipt.json").read_bytes())
    torn = tmp_path / "torn.json"
    torn.write_bytes(msgspec.structs.replace(whole, ledger=()).to_bytes())
    said = cli("verify", torn, "--as", "planner", code=8)
    assert "IT DOES NOT STAND" in said.out
    assert "no checkpoint proves when" in said.err
    assert "--without-ledger" in said.err
    told = cli("verify", torn, "--as", "planner", "--output", "json", code=8).json
    assert (told["stands"], told["ledger"]) == (False, False)
    said = cli("verify", torn, "--without-ledger", "--as", "planner")
    assert said.out.splitlines()[-1].startswith("it stands WITHOUT THE LEDGER: ")
    assert "no checkpoint proves when" in said.err


def test_verify_needs_a_trust_file_and_nothing_else(cli: Commands, pulled: Path, tmp_path: Path) -> None:
    """Anybody, anywhere, without profile and network."""
    trust = cli.home / "trust.yaml"
    words = ("verify", f"{pulled}.receipt.json", "--data", pulled)
    alone = Commands(tmp_path / "nowhere", cli.capture)
    assert "it stands" in alone(*words, "--trust", trust).out
    for who in ((), ("--as", "planner")):
        bare = alone(*words, *who, code=2).err
        assert "TRUST_MISSING" in bare
        assert "What to do: name one with --trust." in bare
    alone(*words, "--trust", tmp_path / "missing.yaml", code=2)
    (tmp_path / "other.yaml").write_text("parties: {}\n")
    alone(*words, "--trust", tmp_path / "other.yaml", code=2)


def test_another_citys_trust_file_does_not_stand(cli: Commands, pulled: Path, founded: object) -> None:
    said = cli("verify", f"{pulled}.receipt.json", "--trust", founded.trust, "--as", "planner", code=8)  # type: ignore[attr-defined]
    assert "IT DOES NOT STAND" in said.out


def test_one_flipped_bit_anywhere_in_the_papers_is_caught(cli: Commands, pulled: Path, tmp_path: Path) -> None:
    raw = Path(f"{pulled}.receipt.json").read_bytes()
    spoilt = tmp_path / "spoilt.json"
    # The contract is digested as what it says, not as it is written: its comments are nobody's word.
    begins = raw.index(b'"document":"')
    ends = raw.index(b'","', begins)
    places = [at for at in range(7, len(raw), len(raw) // 90) if not begins < at < ends]
    for at in [*places, raw.index(b"require: {k: 20}") + 13]:
        flipped = bytearray(raw)
        flipped[at] ^= 1
        spoilt.write_bytes(flipped)
        cli("verify", spoilt, "--as", "planner", code=8)


def test_a_cut_paper_is_caught(cli: Commands, pulled: Path, tmp_path: Path) -> None:
    raw = Path(f"{pulled}.receipt.json").read_bytes()
    for spoilt in (b"", b"{}", raw[:-1], raw[: len(raw) // 2], b"[1]", b"\xff" * 100):
        (tmp_path / "cut.json").write_bytes(spoilt)
        cli("verify", tmp_path / "cut.json", "--as", "planner", code=8)
    cli("verify", tmp_path / "missing.json", "--as", "planner", code=2)


def test_a_changed_value_in_the_data_is_caught(cli: Commands, pulled: Path, tmp_path: Path) -> None:
    frame = pl.read_parquet(pulled)
    changed = pl.when(pl.row_index() == 17).then(pl.lit("H99")).otherwise(pl.col("hospital_code"))
    frame.with_columns(changed.alias("hospital_code")).write_parquet(tmp_path / "changed.parquet")
    said = cli("verify", f"{pulled}.receipt.json", "--data", tmp_path / "changed.parquet", "--as", "planner", code=8)
    assert "FAILED" in said.out
    frame.head(-1).write_parquet(tmp_path / "short.parquet")
    cli("verify", f"{pulled}.receipt.json", "--data", tmp_path / "short.parquet", "--as", "planner", code=8)


def test_evidence_is_exported_by_either_side(cli: Commands, pulled: Path, tmp_path: Path) -> None:
    transfer = json.loads(Path(f"{pulled}.receipt.json").read_bytes())["receipt"]["payload"]["transfer"]
    for who in ("steward", "planner"):
        out = tmp_path / f"{who}.json"
        said = cli("evidence", "export", transfer, "-o", out, "--as", who)
        assert said.out == f"{out}\n"
        assert len(EvidenceBundle.from_bytes(out.read_bytes()).ledger) >= 3
        cli("verify", out, "--data", pulled, "--as", "planner")
    written = out.read_bytes()
    said = cli("evidence", "export", transfer, "-o", out, "--as", "steward", code=2)
    assert f"{out} exists; move it away, or replace it with --overwrite" in said.err
    assert out.read_bytes() == written
    cli("evidence", "export", transfer, "-o", out, "--overwrite", "--as", "steward")
    cli("evidence", "export", transfer, "-o", tmp_path / "x.json", "--as", "analyst", code=3)
    assert not (tmp_path / "x.json").exists()


def test_the_ledger_is_shown_once_it_is_proved_to_have_grown(cli: Commands) -> None:
    first = cli("ledger", "--limit", "3", "--as", "auditor")
    assert len(first.rows) == 3
    assert "verified: " in first.err
    asked(cli)
    second = cli("ledger", "--limit", "1", "--as", "auditor")
    assert "it extends the checkpoint of" in second.err
    assert second.rows[0][2] == "request.submitted"
    value = cli("ledger", "--resource", "parties/metro-lines", "--as", "auditor", "--output", "json").json
    assert [entry["event"] for entry in value["entries"]] == ["party.founded"]
    assert value["checkpoint"]["treeSize"] > 4


def test_an_entry_is_erased_by_the_coordination_s_dpo(cli: Commands) -> None:
    """Whoever it concerned sees that it was erased, by whom and why; the tree is as it was."""
    request = asked(cli)
    newest = cli("ledger", "--resource", request, "--limit", "1", "--as", "analyst", "--output", "json").json
    entry = newest["entries"][0]
    erase = ("ledger", "erase", str(entry["index"]), "--reason", "a court's order", "--as", "admin")
    assert "ROLE_MISSING" in cli(*erase, "--yes", code=4).err
    office = ("party", "person", "admin@cdo.example", "--role", "admin", "--role", "mediator", "--as", "admin")
    cli(*office, "--role", "dpo", "--role", "auditor")
    try:
        said = cli.process(*erase, code=1)  # nobody there to confirm
        assert f"entry {entry['index']}, request.submitted of {request}" in said.err
        said = cli(*erase, "--yes")
        assert said.out.strip() == entry["name"]
        left = cli("ledger", "--resource", entry["name"], "--as", "analyst", "--output", "json").json["entries"][0]
        assert (left["event"], left["entry"]["detail"]) == ("entry.erased", {"reason": "a court's order"})
        assert left["entry"]["actor"].endswith("admin@cdo.example")
        cli(*erase, "--yes", code=6)
        cli("ledger", "erase", str(left["index"]), "--reason", "mine", "--yes", "--as", "admin", code=6)
        cli("ledger", "erase", "99999999", "--reason", "none", "--yes", "--as", "admin", code=3)
        # Who is no auditor erases what it cannot see, by its number.
        cli(*office, "--role", "dpo")
        refused = cli("request", DATASET, "--purpose", "nothing", "--reason", "r", "--as", "analyst", code=5)
        assert refused.err
        blind = cli("ledger", "--limit", "1", "--as", "analyst", "--output", "json").json["entries"][0]["index"]
        said = cli("ledger", "erase", str(blind), "--reason", "r", "--yes", "--as", "admin", "--output", "json")
        assert (said.json["entry"], said.json["salt"], said.json["resource"]) == ({}, "", "")
    finally:
        cli(*office)
    shown = cli("ledger", "--limit", "50", "--as", "analyst")
    assert "it extends the checkpoint" in shown.err or "nothing was seen before" in shown.err
    assert [row[5] for row in shown.rows if row[0] == str(entry["index"])] == ["erased"]


def test_a_refusal_is_in_the_ledger(cli: Commands) -> None:
    cli("request", DATASET, "--purpose", "marketing", "--reason", "r", "--as", "planner", code=5)
    newest = cli("ledger", "--limit", "1", "--as", "planner").rows[0]
    assert newest[2] == "request.refused"
    assert newest[4] == "planner@metro.example of metro-lines"


# --- who takes part


def test_token_says_who_one_is(cli: Commands) -> None:
    assert "parties/health-bureau/principals/steward@health.example" in cli("token", "--as", "steward").out
    assert cli("token", "--as", "planner", "--output", "json").json["roles"] == ["admin", "requester"]
    assert cli("token", "--show", "--as", "planner").out.count(".") == 2


def test_parties_and_people(cli: Commands) -> None:
    parties = {row[0]: row[1] for row in cli("party", "list", "--as", "steward").rows}
    assert parties["health-bureau"] == "department"
    people = cli("party", "people", "--as", "dpo")
    assert ["steward@health.example", "steward"] in people.rows
    cli("party", "person", "new@health.example", "--role", "steward", "--as", "dpo")
    assert "new@health.example" in cli("party", "people", "--as", "dpo").out
    said = cli("party", "person", "new@health.example", "--as", "dpo")
    assert "none any more" in said.out
    cli("party", "person", "new@health.example", "--role", "king", "--as", "dpo", code=2)
    cli("party", "person", "x@metro.example", "--role", "requester", "--as", "steward", code=4)


def test_a_party_is_admitted_and_its_keys_certified_and_revoked(cli: Commands, tmp_path: Path) -> None:
    """A new organisation, from its own keys to its first certified one."""
    for name in ("root", "issuer", "mine"):
        cli("key", "new", tmp_path / "keys" / f"{name}.jwk")
    (tmp_path / "jwks.json").write_text(cli("key", "show", tmp_path / "keys" / "issuer.jwk", "--jwks").out)
    words = ("party", "add", "parks", "--kind", "company", "--admin", "ada@parks.example")
    words += ("--root-key", tmp_path / "keys" / "root.jwk", "--issuer", "https://issuer.parks.example")
    words += ("--jwks", tmp_path / "jwks.json")
    cli(*words, "--as", "steward", code=4)
    said = cli(*words, "--as", "admin")
    assert said.out == "parties/parks\n"
    assert "trust add" in said.err
    cli(*words, "--as", "admin", code=6)

    endpoint = cli("profile", "show", "admin", "--output", "json").json["endpoint"]
    add = ("profile", "add", "ada", "--party", "parks", "--subject", "ada@parks.example", "--endpoint", endpoint)
    add += ("--trust", cli.home / "trust.yaml", "--ca", cli.home / "ca.pem")
    cli(*add, "--issuer", "https://issuer.parks.example", "--issuer-key", tmp_path / "keys" / "issuer.jwk")
    assert "ada@parks.example" in cli("token", "--as", "ada").out
    root = ("--root", tmp_path / "keys" / "root.jwk", "--as", "ada")
    mine = tmp_path / "keys" / "mine.jwk"
    certified = cli("key", "certify", mine, "--subject", "ada@parks.example", "--use", "requester", *root)
    kid = certified.out.split("/")[-1].split()[0]
    assert [row[:3] for row in cli("key", "list", "--as", "ada").rows] == [[kid, "ada@parks.example", "requester"]]
    cli("key", "certify", mine, "--subject", "x", "--use", "approver", *root, code=6)
    cli("key", "certify", mine, "--subject", "x", "--use", "king", *root, code=2)
    cli("key", "revoke", kid, "--reason", "lost", *root)
    assert cli("key", "list", "--as", "ada").rows[0][4] != "no"
    cli("key", "revoke", kid, "--reason", "lost", *root, code=6)
    cli("key", "revoke", "unknown", "--reason", "lost", *root, code=3)
    (cli.home / "profiles" / "ada.toml").unlink()


LISTINGS = [
    "search",
    "requests",
    "agreements",
    "receipts",
    "ledger",
    "party list",
    "party people",
    "key list",
    "profile list",
    "source list",
    "config check",
]


@pytest.mark.parametrize("line", LISTINGS)
def test_every_listing_is_json_when_asked(cli: Commands, line: str) -> None:
    value = cli(*line.split(), "--output", "json", "--as", "steward").json
    assert isinstance(value["entries"] if line == "ledger" else value, list)
    table = cli(*line.split(), "--as", "steward")
    assert "\t" in table.out.splitlines()[0]


def test_nobody_answers(cli: Commands, still: Commands) -> None:
    """An exchange that is not up: try again later, within seconds."""
    still.home.joinpath("profiles", "away.toml").write_text(
        still.home.joinpath("profiles", "steward.toml")
        .read_text()
        .replace("localhost:7450", "localhost:9")
        .replace("[token]", "timeout = 2\n\n[token]")
    )
    said = still("token", "--as", "away", code=7)
    told = (
        "the exchange at localhost:9, as the profile of steward@health.example says, cannot be reached: nobody answers"
    )
    assert told in said.err
    assert "What to do: check that it is up (sluicegate up" in said.err


def test_the_contract_of_the_examples_is_the_one_that_runs(cli: Commands) -> None:
    value = cli("show", DATASET, "--as", "steward", "--output", "json").json
    assert value["contract"]["document"] == CONTRACT.read_text()
