"""Whoever found, stole or lost a key: each procedure of docs/keys.md, run as it stands there.

The thief holds a personal key, a holder key or a gateway's signing key, and everything that was public.
The unlucky one lost a root or the master key. The department destroyed one agreement's keys, and the
thief has the master key besides.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from connectors.gateway.state import GatewayState
from connectors.keys import KeyRing, MasterKey
from contracts.envelope import Envelope, Kind, SigningKey, claimed_kid, sign
from contracts.errors import Reason, SluicegateError
from contracts.evidence import EvidenceBundle
from contracts.instants import rfc3339
from contracts.receipt import Proof
from exchange import config, keyfiles
from exchange.client import Exchange
from exchange.config import GatewaySettings
from exchange.home import EXAMPLE_CITY
from tests.attacks.typed import Said, typed
from tests.docs.pages import DOCS, blocks
from tests.e2e.city import CONTRACTS, ROOT, City, eventually
from tests.e2e.conftest import people
from tests.e2e.steps import Fetching, refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("keys-in-life")]

KEYS = ("key", "list", "--output", "json")
GATEWAY, DATASET, ROWS = "health-bureau-1", "health-bureau/people", 400
PAGE = (DOCS / "keys.md").read_text()


def procedure(heading: str) -> list[str]:
    """The blocks of commands under a heading of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = [block.text for block in blocks(section) if block.language == "sh"]
    assert found, heading
    return found


@dataclass
class Life:
    """A city whose keys live, and the way it types the commands of the page."""

    city: City
    out: Path

    def does(self, script: str, **names: str) -> str:
        """Run a block of the page in the home folder, as it stands; what it printed."""
        program = self.out / "bin" / "sluicegate"
        if not program.exists():
            program.parent.mkdir()
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -m exchange.cli.main "$@"\n')
            program.chmod(0o700)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SLUICEGATE_")}
        environment |= {"SLUICEGATE_HOME": str(self.home), "PYTHONPATH": str(ROOT), **names}
        environment["PATH"] = f"{program.parent}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def home(self) -> Path:
        return self.city.home.root

    def agree(self, who: str = "planner") -> str:
        """A new agreement, in place of the one there may be."""
        for found in self.city.exchange(who).agreements("ACTIVE"):
            self.city.exchange(who).terminate(found.name, reason="another one")
        return self.city.agree(who, DATASET, "planning", approvers=["steward"])

    def pending(self, agreement: str, why: str, who: str = "planner") -> bool:
        """Whether nothing is released now, for the reason that the gateway's log says."""
        with pytest.raises(SluicegateError) as caught:
            self.city.exchange(who).pull(agreement, to=self.out / "pending.parquet")
        return caught.value.reason is Reason.REFRESH_PENDING and why in self.city.log(GATEWAY)

    def pull(self, agreement: str, name: str, who: str = "planner") -> Path:
        """A pulled file, once the interval of what was pulled before is over."""
        to = self.out / f"{name}.parquet"

        def pulled() -> bool:
            try:
                self.city.exchange(who).pull(agreement, to=to)
            except SluicegateError as error:
                if error.reason not in (Reason.REFRESH_PENDING, Reason.CONTROL_PLANE_SILENT):
                    raise
                return False
            return True

        eventually(pulled, f"{name} is pulled")
        return to

    def verify(self, file: Path, *more: object, code: int = 0) -> Any:
        """The steps of an offline verification."""
        told = self.types("verify", file, *more, "--as", "planner", "--output", "json", code=code)
        return {step["what"]: step for step in told.json["steps"]}

    def types(self, *words: object, code: int = 0) -> Said:
        """Run one command in the home."""
        return typed(self.home, *words, code=code)

    def key(self, name: str) -> SigningKey:
        """A person's signing key, as the profile names it now."""
        path = self.city.home.profile(name).signing_key
        assert path is not None
        return keyfiles.read_key(path)

    def restart(self) -> None:
        """Start the gateway again, and wait until it heard of the exchange."""
        self.city.start_gateway(GATEWAY, "dpo")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """The example city, with a register that may be released anew every second."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "out").mkdir()
    document = (CONTRACTS / "people.odcs.yaml").read_bytes().replace(b"registry-office", b"health-bureau")
    document = document.replace(b"keeper@registry", b"steward@health").replace(b"refresh: P1D", b"refresh: PT1S")
    people(ROWS).write_parquet(folder / "people.parquet")
    with City.founded(folder / "home", EXAMPLE_CITY, exchange={"heartbeat": 1}) as city:
        city.publish("steward", document, folder / "people.parquet", gateway=GATEWAY)
        yield Life(city, folder / "out")


# --- people


def test_a_personal_key_is_rotated(life: Life) -> None:
    """Rotation spoils nothing: the agreement goes on, the new key signs, the gateway takes its orders."""
    signed, other, before = life.agree(), life.agree("analyst"), life.key("steward").kid
    (script,) = procedure("Rotate a personal key")
    life.does(script)
    _again(life, "steward")
    after = life.key("steward").kid
    assert after != before
    listed = {key["name"].split("/")[-1]: key["revoked"] for key in life.types(*KEYS, "--as", "dpo").json}
    assert listed[before] is listed[after] is False
    # The gateway was told: no agreement shows it the new key yet.
    told = life.types("terminate", other, "--reason", "x", "--yes", "--as", "steward").err
    assert "serves nothing under it from now on" in told
    assert life.verify(_papers(life.pull(signed, "rotated")))
    assert after in _kids(life.city.exchange("planner").bundle(life.agree()).agreement)


def test_a_rotation_that_fails_changes_nothing(life: Life) -> None:
    """Another party's root certifies nothing here: profile, keys and the exchange are as before."""
    profile, folder = life.city.home.profile_file("steward"), life.home / "profiles" / "keys"
    before, files = profile.read_bytes(), sorted(folder.iterdir())
    known = life.types(*KEYS, "--as", "dpo").json
    rotate = ("key", "rotate", "steward", "--as")
    wrong = "parties/metro-lines/root.jwk"
    told = life.types(*rotate, "dpo", "--root", life.home / wrong, code=8).err
    assert "KEY_UNTRUSTED" in told
    life.types(*rotate, "planner", "--root", life.home / wrong, code=2)
    life.types(*rotate, "dpo", "--root", life.home / "none.jwk", code=2)
    life.types(*rotate, "dpo", code=2)
    assert (profile.read_bytes(), sorted(folder.iterdir())) == (before, files)
    assert life.types(*KEYS, "--as", "dpo").json == known


def test_a_stolen_personal_key_signs_nothing_more(life: Life) -> None:
    """The key is revoked: nothing new by it counts, what it agreed to ends, its old receipts verify."""
    agreement = life.agree()
    receipt = _papers(life.pull(agreement, "before-theft"))
    thief = msgspec.structs.replace(life.city.home.profile("planner"))
    time.sleep(1.1)  # a checkpoint counts if it is older than the revocation
    revoke, end = procedure("A personal key is lost or stolen")
    life.does(revoke)
    with Exchange(thief) as stolen:
        refused(lambda: stolen.request(DATASET, purpose="planning", reason="to try it"), Reason.KEY_UNTRUSTED)
    _again(life, "planner")
    refused(lambda: life.city.exchange("planner").pull(agreement), Reason.KEY_UNTRUSTED)
    # The gateway does not take the client's word for it.
    granted = life.city.exchange("planner").create_transfer(agreement)
    assert granted.grant is not None
    with Fetching(granted, _ticket(life, granted.grant, "planner")) as fetching:
        refused(fetching.announce, Reason.KEY_UNTRUSTED)
    revoked = _revocations(life, "metro-lines")
    assert life.verify(receipt, "--revocations", revoked)["the consumer's requester signed the request"]["ok"]
    life.does(end, AGREEMENT=agreement)
    life.pull(life.agree(), "after-theft")


def test_a_stolen_holder_key_pulls_nothing_more(life: Life) -> None:
    """The agreement that names it is ended: neither a new grant nor one that the thief has still serves."""
    agreement = life.agree()
    granted, ticket = life.city.exchange("planner").ticket(agreement)
    end_and_ask = procedure("A holder key is lost or stolen")[0]
    old = life.city.home.profile("planner").holder_key
    life.does(end_and_ask, AGREEMENT=agreement)
    with Fetching(granted, ticket) as thief:
        refused(thief.announce, Reason.AGREEMENT_NOT_LIVE)
    refused(lambda: life.city.exchange("planner").create_transfer(agreement), Reason.AGREEMENT_NOT_LIVE)
    assert life.city.home.profile("planner").holder_key != old
    _again(life, "planner")
    (request,) = life.city.exchange("planner").requests("SUBMITTED")
    life.city.exchange("steward").approve(request.name)
    name = life.city.exchange("planner").request_status(request.name).agreement
    life.pull(life.city.exchange("planner").ready(name).name, "new-holder")


# --- a gateway


def test_a_stolen_gateway_key_attests_nothing_more(life: Life) -> None:
    """Old receipts verify by their ledger proof, new ones by the stolen key do not; the gateway goes on."""
    agreement = life.agree()
    pulled = life.pull(agreement, "old")
    transfer = next(life.city.exchange("planner").transfers(agreement, 1)).name
    life.types("ledger", "--as", "planner")
    shutil.copy(life.home / "profiles" / "keys" / "planner.checkpoint.json", life.home / "checkpoint.json")
    key = life.home / "gateways" / GATEWAY / "keys" / "signing.jwk"
    stolen = keyfiles.read_key(key)
    time.sleep(1.1)

    make, swap, tell = procedure("A gateway's key is stolen")
    life.does(make)
    life.city.town.stop(GATEWAY)
    life.does(swap, STOLEN=stolen.kid)
    life.restart()
    life.does(tell, RECEIPT=str(_papers(pulled)), TRANSFER=transfer)
    known = ("--revocations", life.home / "revocations.json")

    # Old papers stand: as they were exported, and exported again within the old checkpoint. The newest
    # checkpoint proves only that they existed after the theft.
    assert life.verify(_papers(pulled), *known)["the ledger names this receipt"]["ok"]
    assert life.verify(life.home / "again.json")
    late = life.out / "late.json"
    life.types("evidence", "export", transfer, "--out", late, "--as", "planner")
    assert "the agreement's gateway signed the receipt" in _failed(life.verify(late, code=8))

    # The thief's: the same papers with a receipt of his own, and no word of revocation or ledger.
    papers = EvidenceBundle.from_bytes(_papers(pulled).read_bytes())
    assert papers.receipt is not None
    lie = sign(Kind.RECEIPT, papers.receipt.payload | {"finished": papers.receipt.payload["started"]}, stolen)
    forged = life.out / "forged.json"
    forged.write_bytes(EvidenceBundle(agreement=papers.agreement, receipt=lie, intent=papers.intent).to_bytes())
    assert "the ledger names this receipt" in _failed(life.verify(forged, code=8))
    # Who lets that pass and knows of no revocation cannot see it: hence the page's third rule.
    life.verify(forged, "--without-ledger")
    known = (*known, "--without-ledger")
    assert "the agreement's gateway signed the receipt" in _failed(life.verify(forged, *known, code=8))

    # The gateway serves the same agreement under its new key.
    assert life.verify(_papers(life.pull(agreement, "new")), *known)


# --- roots and masters


def test_a_lost_root_stops_nothing_and_certifies_nothing(life: Life) -> None:
    """What was certified goes on, old papers verify, and the party begins anew under another id."""
    agreement = life.agree()
    receipt = _papers(life.pull(agreement, "rooted"))
    root = life.home / "parties" / "metro-lines" / "root.jwk"
    root.rename(life.out / "lost.jwk")
    try:
        found, persons = procedure("The root key is lost")
        life.types("key", "rotate", "planner", "--root", root, "--as", "planner", code=2)
        life.pull(agreement, "rootless")
        life.does(found)
        life.does(persons, ENDPOINT=life.city.home.profile("admin").endpoint)
        assert life.verify(receipt)
        assert life.verify(_papers(life.pull(life.agree("planner-2"), "anew", "planner-2")))
    finally:
        (life.out / "lost.jwk").rename(root)


def test_a_lost_master_key_comes_back_from_a_backup_or_not_at_all(life: Life) -> None:
    """Without it nothing is served; restored, pseudonyms are as before; with another one they are others."""
    agreement = life.agree()
    before = _pseudonyms(life.pull(agreement, "mastered"))
    master = life.home / "gateways" / GATEWAY / "keys" / "master.key"
    kept = master.read_bytes()
    life.city.town.stop(GATEWAY)
    master.unlink()
    refused(lambda: life.city.start(GATEWAY), Reason.CONFIG_INVALID)
    assert "there is no master key" in life.city.log(GATEWAY)
    assert "master key" in life.types("config", "check", code=2).out

    keyfiles.write_private(master, kept)
    life.restart()
    assert _pseudonyms(life.pull(agreement, "restored")) == before

    life.city.town.stop(GATEWAY)
    master.unlink()
    (script,) = procedure("The master key is lost")
    life.does(script)
    life.restart()
    # What was sent is remembered under the lost key: nothing is compared with it, so nothing leaves.
    eventually(lambda: life.pending(agreement, "another master key"), "what was sent is the reason")
    life.city.town.stop(GATEWAY)
    with GatewayState(master.parents[1] / "state.db", clock=lambda: int(time.time()), entropy=os.urandom) as state:
        state.unsafe_forget_sent("metro-lines", DATASET.rpartition("/")[2])
    life.restart()
    assert not _pseudonyms(life.pull(agreement, "another")) & before
    assert life.verify(life.out / "mastered.parquet.receipt.json")


def test_single_values_are_opened_until_the_keys_are_destroyed(life: Life) -> None:
    """By the page's own commands, though the agreement has ended; and by nobody once its keys are gone."""
    document = (CONTRACTS / "cases.odcs.yaml").read_text().replace("registry-office", "health-bureau")
    document = document.replace("keeper@registry", "steward@health").replace("deputy@registry", "dpo@health")
    numbers = range(1, ROWS)
    columns = {"case_no": "CASE-{:06d}", "card_no": "{:08d}", "file_no": "F{:05d}"}
    source = pl.DataFrame({name: [text.format(n * 7919 % 99_991) for n in numbers] for name, text in columns.items()})
    source.with_columns(district=pl.lit("north")).write_parquet(path := life.out.parent / "cases.parquet")
    life.city.publish("steward", document.encode(), path, gateway=GATEWAY)
    agreement = life.city.agree("planner", "health-bureau/cases", "follow-up", approvers=["steward"])
    first, second, *_ = pl.read_parquet(life.pull(agreement, "cases"))["case_no"]
    life.city.exchange("planner").terminate(agreement, reason="the lines are planned")
    (script,) = procedure("Open single values")
    shown = life.does(script, AGREEMENT=agreement, VALUE=first)
    sent, raw = shown.splitlines()[-1].split("\t")
    assert sent == first
    assert raw in set(source["case_no"])

    asked = ("reveal", "ask", agreement, "--field", "case_no", "--value", second, "--reason", "another court order")
    life.types(*asked, "--out", late := life.out / "too-late.json", "--as", "dpo")
    life.types("reveal", "sign", late, "--yes", "--as", "steward")
    life.types("key", "destroy", agreement, "--reason", "the purpose is fulfilled", "--yes", "--as", "steward")
    assert "keys are destroyed" in life.types("reveal", "open", late, "--as", "dpo", code=5).err


def test_a_destroyed_agreements_pseudonyms_cannot_be_computed_again(life: Life) -> None:
    """The salt is gone from every byte of the gateway's state, so the master key alone makes no pseudonym."""
    agreement = life.agree()
    digest = life.city.exchange("planner").bundle(agreement).agreement.digest
    pulled = life.pull(agreement, "doomed")
    folder = life.home / "gateways" / GATEWAY
    state = config.load(folder / "gateway.toml", GatewaySettings).state
    master = MasterKey.load(folder / "keys" / "master.key")
    ((salt,),) = sqlite3.connect(f"file:{state}?mode=ro", uri=True).execute(
        "SELECT salt FROM salts WHERE agreement_digest = ?", (digest,)
    )

    def pseudonym(ring: KeyRing) -> str:
        key = ring.secrets(digest).key("person")
        person = people(1)["person_id"][0]
        return hmac.new(key.encode(), person.encode(), hashlib.sha256).hexdigest()[:32]

    assert pseudonym(KeyRing(master, lambda _: salt)) in _pseudonyms(pulled)
    assert _holds(state, salt)

    (script,) = procedure("Destroy the keys of one agreement")
    life.does(script, AGREEMENT=agreement)
    found = life.city.exchange("planner").agreement(agreement)
    assert found.state == "TERMINATED"
    assert found.key_destruction is not None
    (told,) = (
        entry.entry
        for entry in life.city.exchange("planner").entries(found.name)
        if entry.entry["event"] == "agreement.keys-destroyed"
    )
    assert told["detail"]["destruction"] == found.key_destruction.digest
    assert not _holds(state, salt)  # with the gateway running: the log too
    life.city.town.stop(GATEWAY)
    try:
        assert not _holds(state, salt)
        with GatewayState(state, clock=lambda: int(time.time()), entropy=os.urandom) as opened:
            ring = KeyRing(master, opened.salt)
            refused(lambda: pseudonym(ring), Reason.AGREEMENT_NOT_LIVE)
    finally:
        life.restart()
    assert life.verify(_papers(pulled))


def test_a_reader_of_the_state_keeps_no_erased_salt(tmp_path: Path) -> None:
    """A backup that reads while a salt is erased holds up the log: it is emptied with the next change."""
    path = tmp_path / "state" / "state.db"
    with GatewayState(path, clock=lambda: int(time.time()), entropy=os.urandom) as state:
        salt = state.salt("sha256:a")
        reader = sqlite3.connect(path)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM salts").fetchall() == [(1,)]
        state.erase_salt("sha256:a", "agreements/a", Envelope({}, ()))
        reader.close()
        state.keep_agreement("agreements/b", "sha256:b")
        assert not _holds(path, salt)
        refused(lambda: state.salt("sha256:a"), Reason.AGREEMENT_NOT_LIVE)


# --- what the tests look at


def _papers(pulled: Path) -> Path:
    return pulled.with_name(f"{pulled.name}.receipt.json")


def _pseudonyms(pulled: Path) -> set[str]:
    return set(pl.read_parquet(pulled)["person_id"])


def _holds(state: Path, salt: bytes) -> bool:
    """Whether the state, its log or its index holds these bytes."""
    return any(salt in path.read_bytes() for path in state.parent.glob(f"{state.name}*"))


def _failed(steps: dict[str, Any]) -> set[str]:
    return {what for what, step in steps.items() if step["failed"]}


def _kids(signed: Envelope) -> set[str | None]:
    return {claimed_kid(token) for token in signed.signatures}


def _ticket(life: Life, grant: Envelope, who: str) -> bytes:
    """A ticket by the profile's holder key, for whatever agreement."""
    path = life.city.home.profile(who).holder_key
    assert path is not None
    return sign(Kind.PROOF, Proof(grant=grant, created=rfc3339(int(time.time()))), keyfiles.read_key(path)).to_bytes()


def _revocations(life: Life, party: str) -> Path:
    listed = life.types("key", "list", "--party", party, "--output", "json", "--as", "planner").out
    path = life.out / f"{party}.json"
    path.write_text(listed)
    assert any(key["revoked"] for key in json.loads(listed))
    return path


def _again(life: Life, who: str) -> None:
    """Connect anew: a profile is read when a connection begins."""
    life.city._open.pop(who).close()
