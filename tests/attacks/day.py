"""A working day under power cuts: publish, request, approve, pull, acknowledge, and kills (-9) at random
moments of it. Whoever was cut off starts again and does what a person would: the same thing once more.

    python -m tests.attacks.day --kills 200

Afterwards nothing that was answered is lost, nothing was granted or served twice, the ledger verifies,
the receipts of gateway, exchange and consumer and the consumer's files say the same, and the evidence
beside each file stands. A day that fails says what every process said last.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connectors.consumer.pull import end
from contracts import evidence as law
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from contracts.trust import PartyKind
from exchange import evidence, processes, signing
from exchange.home import Founder
from exchange.pulling import digest_by_receipt
from exchange.views import Transfer
from tests.e2e.city import CONTRACTS, ROOT, City, eventually
from tests.e2e.conftest import people

GATEWAY, ROWS = "registry-1", 6_000
UNREACHED = 7  # exit code of a command that found nobody
PEOPLE = (
    Founder("city-data-office", PartyKind.COORDINATION, {"auditor@cdo.example": ("auditor",)}),
    Founder("registry-office", PartyKind.DEPARTMENT, {"keeper@registry.example": ("steward", "admin")}, GATEWAY),
    Founder("harbour-analytics", PartyKind.COMPANY, {"analyst@harbour.example": ("requester", "admin")}),
)
# Steps, how often somebody is struck during one, and about how long it takes until that was measured.
STEPS = {"publishing": (0.4, 0.1), "requesting": (0.4, 0.05), "approving": (0.6, 0.15), "pulling": (1.0, 0.4)}
COMMAND = 1.5  # about how long a pull takes that is a process of its own
SERVERS = ("exchange", GATEWAY)
PATIENCE = 300.0  # seconds for a step, or for a process to start: a busy machine is no find
# What a person waits for, or repeats the step after; anything else is a failure of the day.
PASSING = frozenset({Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.CANCELLED, Reason.CONTROL_PLANE_SILENT})


@dataclass
class Day:
    """The running city, and what it answered so far."""

    city: City
    folder: Path
    chance: random.Random
    answered: dict[str, str] = field(default_factory=dict)  # resource -> what it must at least be now
    files: dict[str, Path] = field(default_factory=dict)  # transfer -> the file that was pulled
    cuts: Counter[str] = field(default_factory=Counter)
    took: dict[str, float] = field(default_factory=dict)  # seconds of a step that nobody disturbed
    _step: str = ""
    _timer: threading.Timer | None = None
    _consumer: subprocess.Popen[str] | None = None
    _by_command: bool = False

    @classmethod
    @contextlib.contextmanager
    def begun(cls, folder: Path, seed: int) -> Iterator[Day]:
        """The city, founded and started."""
        with City.founded(
            folder / "home",
            PEOPLE,
            exchange={"heartbeat": 1, "refusals_per_minute": 10_000},
            gateways={GATEWAY: {"part_bytes": 64 << 10}},
        ) as city:
            people(ROWS).write_parquet(folder / "people.parquet")
            yield cls(city, folder, random.Random(seed))

    def round(self, number: int, most: int = len(STEPS)) -> list[str]:
        """One dataset's way from its contract to a consumer's file, with kills at random moments of it, `most`
        at the most; who was killed, and during which step it was."""
        struck: list[str] = []
        for name, do in self._steps(number):
            self._step = name
            self._by_command = False
            if len(struck) < most and not self._pending() and self.chance.random() < STEPS[name][0]:
                self._aim(name, struck)
            began = time.monotonic()
            if self._repeated(do) == 1:
                self.took["command" if self._by_command else name] = time.monotonic() - began
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self._mend()
        self.cuts.update(struck or ["nobody"])
        return struck

    def _pending(self) -> bool:
        return self._timer is not None and self._timer.is_alive()

    def _aim(self, step: str, struck: list[str]) -> None:
        """Let somebody be killed at a random moment from now on: during this step, or soon after."""
        victim = self.chance.choice((*SERVERS, "consumer") if step == "pulling" else SERVERS)
        # Who is to be killed alone has to be a process; everybody else is spared its start.
        self._by_command = victim == "consumer"
        longest = self.took.get("command", COMMAND) if self._by_command else self.took.get(step, STEPS[step][1])

        def strike() -> None:
            if self._kill(victim):
                struck.append(f"{victim} while {self._step}")

        self._timer = threading.Timer(self.chance.uniform(0, longest), strike)
        self._timer.start()

    def _steps(self, number: int) -> Iterator[tuple[str, Callable[[], object]]]:
        """What people do, one after another; each may be done again when its answer was lost."""
        dataset = f"people-{number}"
        yield "publishing", lambda: self._publish(dataset)
        yield "requesting", lambda: self._request(dataset)
        yield "approving", lambda: self._approve(dataset)
        yield "pulling", lambda: self._pull(dataset)

    def _publish(self, dataset: str) -> None:
        name = f"parties/registry-office/datasets/{dataset}"
        text = (CONTRACTS / "people.odcs.yaml").read_text()
        document = text.replace("name: people\n", f"name: {dataset}\n").encode()
        keeper = self.city.exchange("keeper")
        self.city.source(dataset, self.folder / "people.parquet", gateway=GATEWAY)
        try:
            keeper.publish(document, gateway=GATEWAY)
        except SluicegateError as error:
            # The answer was lost, not the contract.
            if error.reason not in (Reason.ALREADY_EXISTS, Reason.ETAG_MISMATCH, Reason.CONTRACT_INVALID):
                raise
            assert keeper.dataset(name).contract is not None
        self.answered[name] = "published"

    def _request(self, dataset: str) -> None:
        analyst = self.city.exchange("analyst")
        known = [found.name for found in analyst.requests() if found.dataset.endswith(f"/{dataset}")]
        if not known:
            asked = analyst.request(f"registry-office/{dataset}", purpose="planning", reason="a working day")
            known = [asked.name]
        self.answered[known[0]] = "SUBMITTED"

    def _approve(self, dataset: str) -> None:
        keeper, analyst = self.city.exchange("keeper"), self.city.exchange("analyst")
        (asked,) = [found for found in keeper.requests() if found.dataset.endswith(f"/{dataset}")]
        if asked.state == "SUBMITTED":
            asked = keeper.approve(asked.name)
        self.answered[asked.name] = "APPROVED"
        agreement = keeper.request_status(asked.name).agreement
        if "registry-office" in str(keeper.agreement(agreement).unsigned_parties):
            keeper.sign(agreement)
        self.answered[analyst.ready(agreement).name] = "ACTIVE"

    def _pull(self, dataset: str) -> None:
        analyst = self.city.exchange("analyst")
        (agreement,) = [found.name for found in analyst.agreements() if found.dataset.endswith(f"/{dataset}")]
        out = self.folder / f"{dataset}.parquet"
        transfer = self._pull_by_command(agreement, out) if self._by_command else self._pull_here(agreement, out)
        self.files[transfer], self.answered[transfer] = out, "ACKNOWLEDGED"

    def _pull_here(self, agreement: str, out: Path) -> str:
        return self.city.exchange("analyst").pull(agreement, to=out, overwrite=True).transfer

    def _pull_by_command(self, agreement: str, out: Path) -> str:
        words = ("pull", agreement, "--out", out, "--overwrite", "--as", "analyst", "--output", "json")
        self._consumer = subprocess.Popen(
            [sys.executable, "-m", "exchange.cli.main", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"SLUICEGATE_HOME": str(self.city.home.root), "PYTHONPATH": str(ROOT)},
        )
        said, errors = self._consumer.communicate(timeout=PATIENCE)
        code = self._consumer.returncode
        if code == -signal.SIGKILL:
            raise SluicegateError(Reason.UNAVAILABLE, "the consumer was cut off")
        if code == UNREACHED:
            raise SluicegateError(Reason.UNAVAILABLE, f"the command said: {errors[-400:]}")
        assert code == 0, errors
        return str(json.loads(said)["transfer"])

    def _kill(self, victim: str) -> bool:
        """End it as a power cut would; whether it ran."""
        if victim == "consumer":
            consumer = self._consumer
            if consumer is None or consumer.poll() is not None:
                return False
            consumer.kill()
            return True
        if victim not in self.city.town.processes:
            return False
        self.city.town.kill(victim)
        return True

    def _mend(self) -> None:
        """Start again who was killed, unless the blow is still to fall."""
        if not self._pending():
            for name in SERVERS:
                if name not in self.city.town.processes:
                    self._start(name)

    def _start(self, name: str) -> None:
        """Start one again. One that does not get there says where it stands and ends."""
        silent = threading.Timer(PATIENCE - 10, lambda: self._abort(name))
        silent.start()
        try:
            self.city.start(name)
        except SluicegateError as error:
            raise AssertionError(f"{name} does not start again: {error}{self.last_words()}") from error
        finally:
            silent.cancel()

    def _abort(self, name: str) -> None:
        process = self.city.town.processes.get(name)
        if process is not None:
            process.send_signal(signal.SIGABRT)  # with PYTHONFAULTHANDLER it writes what each thread does

    def _repeated(self, do: Callable[[], object]) -> int:
        """Do it, again and again while that is what a person would do; how often it took."""
        end, told = time.monotonic() + PATIENCE, list[str]()
        while True:
            try:
                do()
                return len(told) + 1
            except SluicegateError as error:
                told.append(f"{error.reason}: {error.message}")
                if error.reason not in PASSING or time.monotonic() > end:
                    raise AssertionError(f"{self._step} failed: {Counter(told)}{self.last_words()}") from error
                self._mend()
                time.sleep(0.1)

    def last_words(self) -> str:
        """What each process said last."""
        ends = {name: self.city.log(name).splitlines()[-60:] for name in SERVERS}
        return "".join(f"\n--- {name}\n" + "\n".join(lines) for name, lines in ends.items())

    def check(self) -> None:
        """Nothing lost, nothing twice, everybody's papers the same. Raises AssertionError."""
        analyst = self.city.exchange("analyst")
        runs = {run.name: run for run in analyst.transfers()}
        for name, state in self.answered.items():
            kind = name.split("/")[-2]
            if kind == "datasets":
                assert self.city.exchange("keeper").dataset(name).contract is not None
            elif kind == "requests":
                found = analyst.request_status(name).state
                assert found in {"SUBMITTED": ("SUBMITTED", "APPROVED"), "APPROVED": ("APPROVED",)}[state], (
                    name,
                    found,
                )
            elif kind == "agreements":
                assert analyst.agreement(name).state == state
            else:
                assert runs[name].state == state
        self.city.ledger_verifies("analyst", "keeper", "auditor")
        self._end_what_was_left()
        eventually(lambda: not self._serving(), "every transfer is settled", seconds=45)
        self._papers_agree()

    def _serving(self) -> list[Transfer]:
        return [run for run in self.city.exchange("analyst").transfers() if run.state == "SERVING"]

    def _end_what_was_left(self) -> None:
        """A consumer that was struck after the gateway announced its release, but before it wrote down which,
        pulls anew. The transfer that it forgot stays open as long as its grant, unless it says that it is over."""
        analyst = self.city.exchange("analyst")
        for left in self._serving():
            run = analyst.transfer(left.name)
            if run.grant is not None:
                signed = signing.ticket(analyst.profile, run, analyst.verified(run.agreement))
                end(run.gateway_address, run.gateway_ca_certificate.encode(), signed)

    def _papers_agree(self) -> None:
        analyst = self.city.exchange("analyst")
        trust = evidence.trust_of(analyst.profile)
        state = self.city.home.gateway(GATEWAY).parent / "state.db"
        with contextlib.closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as db:
            signed = {
                name: Envelope.from_bytes(raw)
                for name, raw in db.execute("SELECT transfer, receipt FROM transfers WHERE receipt IS NOT NULL")
            }
            grants = [grant for (grant,) in db.execute("SELECT grant_id FROM transfers")]
        assert len(grants) == len(set(grants)), "a grant was used for two transfers"
        shown = {run.name: analyst.transfer(run.name).receipt for run in analyst.transfers()}
        for name, receipt in signed.items():
            assert shown.get(name) == receipt, f"exchange and gateway show different receipts of {name}"
        assert {name for name, receipt in shown.items() if receipt is not None} <= set(signed)
        for transfer, path in self.files.items():
            receipt = shown[transfer]
            assert receipt is not None
            assert receipt.payload["complete"]
            found = digest_by_receipt(path, receipt)
            assert found == receipt.payload["contentDigest"], f"{path.name} is another one"
            bundle = evidence.receipt_file(path.with_name(f"{path.name}.receipt.json"))
            steps = law.verify(bundle, trust, content_digest=found, at=int(time.time()))
            assert law.succeeded(steps), [step for step in steps if step.failed]
        assert not list(self.folder.glob("*.partial")), "a pull that came to its end left parts behind"
        logged = Counter(
            entry.resource for entry in self.city.exchange("auditor").entries() if entry.event == "transfer.granted"
        )
        assert all(times == 1 for times in logged.values()), "a transfer was granted twice"


def main(arguments: Sequence[str] | None = None) -> int:
    """A long day; prints who was cut off when."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.day", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="repeat the day of that seed")
    chosen = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", flush=True)
    os.environ["PYTHONFAULTHANDLER"] = "1"  # for the processes of the day, see `Day._start`
    processes.START_TIMEOUT = PATIENCE
    with tempfile.TemporaryDirectory() as folder, Day.begun(Path(folder), seed) as day:
        kills, began = 0, time.monotonic()
        for number in itertools.count():
            struck = day.round(number, chosen.kills - kills)
            kills += len(struck)
            print(f"{time.monotonic() - began:.0f} s, {kills} kills: {', '.join(struck) or 'nobody'}", flush=True)
            day.city.ledger_verifies("analyst", "keeper", "auditor")
            if number % 10 == 9:
                day.check()
            if kills >= chosen.kills:
                break
        day.check()
        print(json.dumps(dict(sorted(day.cuts.items())), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
