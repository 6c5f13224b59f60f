"""What breaks around a pull: a side that is down, a disk that is full, a network that is cut, a reader
that stalls. Each is said clearly, leaves nothing half done, and the same pull succeeds afterwards."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.flight as fl
import pytest

from connectors import calling
from connectors.reaching import asking
from contracts.errors import Reason, SluicegateError
from exchange.client import Pulled
from exchange.pulling import digest_by_receipt
from tests.e2e.city import City, eventually
from tests.e2e.conftest import ARCHIVE, PEOPLE, REGISTRY, Trouble
from tests.e2e.steps import Fetching, refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-trouble")]


def entries(folder: Path) -> list[str]:
    """Names in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def pull(trouble: Trouble, out: Path) -> Pulled:
    """A pull that succeeds, leaves what it should, and is what the receipt attests."""
    pulled = trouble.city.exchange("analyst").pull(trouble.agreement, to=out)
    assert pulled.rows == PEOPLE
    assert digest_by_receipt(out, pulled.receipt) == pulled.content_digest
    assert entries(out.parent) == [out.name, f"{out.name}.receipt.json"]
    trouble.demand_definite()
    return pulled


def serving(city: City, gateway: str, keeper: str) -> bool:
    """Whether the gateway says that it serves."""
    found = city.exchange(keeper).gateway(gateway)
    with fl.FlightClient(found.address, tls_root_certs=found.ca_certificate.encode()) as client:
        (told,) = client.do_action(fl.Action("health", b""))
        return bool(json.loads(told.body.to_pybytes())["serving"])


# --- somebody is down ------------------------------------------------------------------------


def test_the_gateway_is_down(trouble: Trouble, tmp_path: Path) -> None:
    city = trouble.city
    ended = city.town.processes[REGISTRY]
    city.town.stop(REGISTRY)
    assert ended.returncode == 0, city.log(REGISTRY)[-2000:]
    try:
        out = tmp_path / "people.parquet"
        told = city.run("pull", trouble.agreement, "--out", out, "--as", "analyst", code=7)
        assert "UNAVAILABLE" in told.stderr
        assert "the gateway at localhost:" in told.stderr
        assert "cannot be reached" in told.stderr
        assert "Traceback" not in told.stderr
        assert entries(tmp_path) == []
    finally:
        city.start(REGISTRY)
    eventually(lambda: serving(city, REGISTRY, "keeper"), "the gateway heard the exchange")
    pull(trouble, out)


def test_the_exchange_is_down(trouble: Trouble, tmp_path: Path) -> None:
    city = trouble.city
    out = tmp_path / "people.parquet"
    ended = city.town.processes["exchange"]
    city.town.stop("exchange")
    assert ended.returncode == 0, city.log("exchange")[-2000:]
    try:
        for words in (("pull", trouble.agreement, "--out", out), ("search", "people")):
            told = city.run(*words, "--as", "analyst", code=7)
            assert "UNAVAILABLE" in told.stderr
            assert "the exchange at localhost:" in told.stderr
            assert "cannot be reached" in told.stderr
            assert "Traceback" not in told.stderr
        assert entries(tmp_path) == []
    finally:
        city.start("exchange")
    eventually(lambda: serving(city, REGISTRY, "keeper"), "the gateway heard the exchange")
    pull(trouble, out)


def test_a_department_stops_its_gateway_while_the_exchange_is_down(trouble: Trouble) -> None:
    """Nobody's absence keeps a department from stopping what is its own."""
    city, keeper = trouble.city, trouble.city.exchange("keeper")
    gateway = keeper.gateway(REGISTRY)
    stop = ("suspend", trouble.agreement, "--reason", "a leak", "--until", "2099-01-01T00:00:00Z", "--as", "keeper")
    directly = (
        "--gateway",
        gateway.address.rpartition("/")[2],
        "--ca",
        city.home.gateway(REGISTRY).parent / "tls" / "cert.pem",
    )
    city.town.stop("exchange")
    try:
        assert "--gateway HOST:PORT --ca FILE" in city.run(*stop, code=7).stderr
        assert "serves nothing under it from now on" in city.run(*stop, *directly, code=7).stderr
    finally:
        city.start("exchange")
    eventually(lambda: serving(city, REGISTRY, "keeper"), "the gateway heard the exchange")
    refused(lambda: city.exchange("analyst").pull(trouble.agreement), Reason.AGREEMENT_NOT_LIVE)
    # Told again, now that it is back, the exchange agrees; and both take it back.
    city.run(*stop)
    city.run("resume", trouble.agreement, "--reason", "no leak", "--as", "keeper")
    eventually(lambda: pulls(trouble), "the gateway serves again")


def pulls(trouble: Trouble) -> bool:
    """Whether the analyst gets the data now."""
    try:
        return trouble.city.exchange("analyst").pull(trouble.agreement).rows > 0
    except SluicegateError as error:
        if error.reason is not Reason.AGREEMENT_NOT_LIVE:
            raise
        return False


def test_a_gateway_that_hears_nothing_serves_nothing(trouble: Trouble, tmp_path: Path) -> None:
    city = trouble.city
    with Fetching.granted(city.exchange("analyst"), trouble.agreement) as fetching:
        fetching.announce()
        fetching.read(0)
        city.town.stop("exchange")
        try:
            # The registry bears eight seconds of silence (its max_silence); then what runs is stopped.
            eventually(lambda: not serving_quietly(trouble), "the gateway stopped serving", seconds=40)
            refused(lambda: fetching.read(1), Reason.CONTROL_PLANE_SILENT, Reason.TRANSFER_STOPPED)
        finally:
            city.start("exchange")
        # The transfer was not ended by that, only held up: what is left comes now.
        eventually(lambda: serving(city, REGISTRY, "keeper"), "the gateway heard the exchange")
        for part in fetching.parts[1:]:
            fetching.read(part)
        receipt = fetching.receipt()
        assert receipt["complete"]
    city.settle("analyst", fetching.transfer, "COMPLETED")
    city.exchange("analyst").acknowledge(fetching.transfer, content_digest=receipt["contentDigest"])
    trouble.demand_definite()


def serving_quietly(trouble: Trouble) -> bool:
    """As `serving`, without asking the exchange where the gateway is."""
    from exchange import config
    from exchange.config import GatewaySettings

    settings = config.load(trouble.city.home.gateway(REGISTRY), GatewaySettings)
    port = settings.listen.rsplit(":", 1)[1]
    ca = settings.tls_certificate.read_bytes()
    with fl.FlightClient(f"grpc+tls://localhost:{port}", tls_root_certs=ca) as client:
        (told,) = client.do_action(fl.Action("health", b""))
        return bool(json.loads(told.body.to_pybytes())["serving"])


# --- a disk is full --------------------------------------------------------------------------


@pytest.mark.parametrize(("kilobytes", "what"), [(256, "a part"), (2048, "the file")])
def test_the_consumer_s_disk_is_full(trouble: Trouble, tmp_path: Path, kilobytes: int, what: str) -> None:
    city, out = trouble.city, tmp_path / "people.parquet"
    limited = ("bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "--")
    told = city.run("pull", trouble.agreement, "--out", out, "--as", "analyst", code=2, prefix=limited)
    assert "SINK_FAILED" in told.stderr
    assert "File too large" in told.stderr
    assert "make room" in told.stderr
    assert entries(tmp_path) == ["people.parquet.partial"], "nothing that looks whole"
    pull(trouble, out)


@contextlib.contextmanager
def no_room(city: City, gateway: str, size: int) -> Iterator[None]:
    """No file of a running gateway may grow beyond so many bytes."""
    process = city.town.processes[gateway].pid
    before = resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)


def test_the_spool_s_disk_is_full(trouble: Trouble) -> None:
    city = trouble.city
    standing = city.releases(ARCHIVE)
    # Its parts have 32 MB; state and log of the gateway stay below this.
    with no_room(city, ARCHIVE, 8 << 20):
        error = refused(lambda: city.exchange("analyst").pull(trouble.large), Reason.SPOOL_FULL)
        assert "no room" in error.message
        assert city.releases(ARCHIVE) == standing, "what was begun is gone"
        newest = next(city.exchange("analyst").transfers(trouble.large, 1)).name
        shown = city.settle("archivist", newest, "REFUSED")
        assert shown.failure_reason == "SPOOL_FULL"
    assert city.exchange("analyst").pull(trouble.large).rows == 4 * PEOPLE
    assert len(city.releases(ARCHIVE)) == len(standing) + 1


# --- the network is cut ----------------------------------------------------------------------


def parts_of(trouble: Trouble, transfer: str) -> list[int]:
    """The parts that the receipt of a transfer says were sent by then."""
    receipt = trouble.city.exchange("analyst").transfer(transfer).receipt
    assert receipt is not None
    found: list[int] = receipt.payload["partsSent"]
    return found


def test_the_connection_is_cut_once(trouble: Trouble, tmp_path: Path) -> None:
    """The client resumes by itself, with what is missing."""
    city, network = trouble.city, trouble.network
    before = set(city.states("analyst", trouble.agreement))
    cuts = network.cuts
    network.cut(after=5 << 20)
    pulled = pull(trouble, tmp_path / "people.parquet")
    assert network.cuts == cuts + 1
    new = [name for name in city.states("analyst", trouble.agreement) if name not in before]
    assert pulled.transfer == new[0]
    assert len(new) > 1
    assert 0 < len(parts_of(trouble, new[-1])) < len(parts_of(trouble, new[0]))
    assert pl.read_parquet(tmp_path / "people.parquet")["person_id"].n_unique() == PEOPLE


def test_the_connection_is_cut_and_stays_cut(trouble: Trouble, tmp_path: Path) -> None:
    """The pull gives up; what arrived waits beside the output, and the same command finishes it."""
    city, network, out = trouble.city, trouble.network, tmp_path / "people.parquet"
    started = network.passed
    city.exchange("analyst").pull(trouble.agreement)
    whole = network.passed - started
    cut_off(trouble, out)
    held = parts_in(out)
    assert 2 < len(held) < 10
    waiting = out.with_name("people.parquet.partial")
    assert waiting.stat().st_mode & 0o777 == 0o700

    started = network.passed
    told = city.run("pull", trouble.agreement, "--out", out, "--as", "analyst")
    assert str(out) in told.stdout
    # The parts that were held did not come again: about a megabyte each.
    assert network.passed - started < whole - 0.8 * len(held) * 2**20
    assert entries(tmp_path) == ["people.parquet", "people.parquet.receipt.json"]
    city.run("verify", f"{out}.receipt.json", "--data", out, "--trust", city.home.trust)
    trouble.demand_definite()


def test_the_connection_is_lost_without_a_word(
    trouble: Trouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told; the client asks whether the gateway is still there, gets no answer, and resumes."""
    monkeypatch.setattr(calling, "_ALIVE", asking(every=2, within=1))
    lost: list[int] = []

    def progress(rows: int, size: int, total: int) -> None:
        if not lost:
            trouble.network.freeze()
            lost.append(total)

    out = tmp_path / "people.parquet"
    pulled = trouble.city.exchange("analyst").pull(trouble.agreement, to=out, progress=progress)
    assert (pulled.rows, lost) == (PEOPLE, [PEOPLE])
    assert digest_by_receipt(out, pulled.receipt) == pulled.content_digest


def test_what_waits_for_a_resume_is_verified_again(trouble: Trouble, tmp_path: Path) -> None:
    out = tmp_path / "people.parquet"
    cut_off(trouble, out)
    waiting = parts_in(out)[0]
    content = bytearray(waiting.read_bytes())
    content[len(content) // 2] ^= 1
    waiting.write_bytes(content)
    pull(trouble, out)


def test_a_pull_goes_on_after_a_restart_of_the_gateway(trouble: Trouble, tmp_path: Path) -> None:
    """The gateway restarts between a broken pull and its resume: it makes the same release again, random
    ids included, and the parts that are here stay good."""
    city, out = trouble.city, tmp_path / "people.parquet"
    cut_off(trouble, out)
    here = {int(part.stem.removeprefix("part-")) for part in parts_in(out)}  # two streams: there may be a gap
    assert here
    city.town.stop(REGISTRY)
    city.start(REGISTRY)
    eventually(lambda: serving(city, REGISTRY, "keeper"), "the gateway heard the exchange")
    pulled = pull(trouble, out)
    again = re.findall(rf"part: transfer={pulled.transfer} part=(\d+)", city.log(REGISTRY))
    assert again
    assert not {int(part) for part in again} & here, "what was here was not sent again"
    assert pulled.receipt.payload["release"] in city.releases(REGISTRY)


def cut_off(trouble: Trouble, out: Path) -> None:
    """A pull that gives up halfway, because the network does not come back."""
    network = trouble.network
    network.cut(after=5 << 20, stay=True)
    try:
        refused(lambda: trouble.city.exchange("analyst").pull(trouble.agreement, to=out), Reason.UNAVAILABLE)
        assert entries(out.parent) == [f"{out.name}.partial"]
    finally:
        network.mend()


def parts_in(out: Path) -> list[Path]:
    """The parts that wait beside an output."""
    return sorted(out.with_name(f"{out.name}.partial").glob("part-*.arrow"))


# --- the reader stalls -----------------------------------------------------------------------


def test_a_reader_that_stalls_is_cut_off(trouble: Trouble) -> None:
    """It holds neither slot nor release longer than the gateway's patience (two seconds here)."""
    city = trouble.city
    with Fetching.granted(city.exchange("analyst"), trouble.large) as fetching:
        fetching.announce()
        reader = fetching.stream(0)
        assert reader.read_chunk().data.num_rows
        started = time.monotonic()
        # Nothing is read any more; the client sits on an open stream.
        ended = city.settle("analyst", fetching.transfer, "PARTIAL", seconds=30)
        assert time.monotonic() - started < 20
        assert ended.receipt is not None
        assert ended.receipt.payload["partsSent"] == []
        # What is left in the network's buffers ends in an error: a cut stream does not look finished.
        with pytest.raises(fl.FlightError):
            reader.read_all()
    assert city.exchange("analyst").pull(trouble.large).rows == 4 * PEOPLE
