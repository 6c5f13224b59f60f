"""kill -9 of the exchange or of the gateway, at every point between grant and receipt.

Whatever the point: after the restart the transfer comes to a definite state by itself, the receipt says
what left and nothing else, the spool holds nothing of before, the ledger verifies, and the consumer gets
its data by simply pulling again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.flight as fl
import pytest

from contracts.errors import Reason, SluicegateError
from tests.e2e.city import eventually
from tests.e2e.conftest import PEOPLE, REGISTRY, Trouble
from tests.e2e.steps import Fetching, refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-trouble")]

POINTS = ("granted", "announced", "midway", "served", "receipted")


def advance(fetching: Fetching, point: str) -> None:
    """Carry a granted transfer on to that point. `midway`: two parts are here, a third has begun."""
    if point == "granted":
        return
    fetching.announce()
    if point == "midway":
        fetching.read(0)
        fetching.read(1)
        fetching.stream(2)
    if point in ("served", "receipted"):
        fetching.read_all()
    if point == "receipted":
        assert fetching.receipt()["complete"]


def restart(trouble: Trouble, victim: str) -> None:
    """End a process as a power cut would, and start it again."""
    trouble.city.town.kill(victim)
    trouble.city.start(victim)


def opens(fetching: Fetching) -> bool:
    """Whether the ticket is served (again): the gateway may need a moment to hear the exchange."""
    fetching.hang_up()
    try:
        fetching.announce()
    except SluicegateError as error:
        if error.reason not in (Reason.CONTROL_PLANE_SILENT, Reason.UNAVAILABLE):
            raise
        return False
    return True


def serves(trouble: Trouble) -> bool:
    """Whether the gateway says that it serves."""
    gateway = trouble.city.exchange("keeper").gateway(REGISTRY)
    with fl.FlightClient(gateway.address, tls_root_certs=gateway.ca_certificate.encode()) as client:
        (told,) = client.do_action(fl.Action("health", b""))
        return bool(json.loads(told.body.to_pybytes())["serving"])


def pull_again(trouble: Trouble, folder: Path) -> None:
    """What a consumer does after all this: the same pull again; and everything is in order."""
    city = trouble.city
    pulled = city.exchange("analyst").pull(trouble.agreement, to=folder / "people.parquet")
    assert pulled.rows == PEOPLE
    assert city.state("analyst", pulled.transfer) == "ACKNOWLEDGED"
    assert sorted(entry.name for entry in folder.iterdir()) == ["people.parquet", "people.parquet.receipt.json"]
    trouble.demand_definite()
    assert len(city.releases(REGISTRY)) == 1


@pytest.mark.parametrize("point", POINTS)
def test_the_gateway_is_killed(trouble: Trouble, tmp_path: Path, point: str) -> None:
    city = trouble.city
    with Fetching.granted(city.exchange("analyst"), trouble.agreement) as fetching:
        advance(fetching, point)
        restart(trouble, REGISTRY)
        assert city.releases(REGISTRY) == [], "what stood in the spool is gone"
        if point == "granted":
            # Nothing had happened yet: the grant is as good as before.
            eventually(lambda: opens(fetching), "the ticket is served")
            fetching.read_all()
            assert fetching.receipt()["complete"]
            city.settle("analyst", fetching.transfer, "COMPLETED")
        else:
            whole = point in ("served", "receipted")
            ended = city.settle("analyst", fetching.transfer, "COMPLETED" if whole else "PARTIAL")
            assert ended.receipt is not None
            sent = ended.receipt.payload["partsSent"]
            if whole:
                assert sent == fetching.parts
            else:
                # A part counts as sent once the gateway gave away all of it, whether or not it arrived.
                assert sent in {"announced": ([],), "midway": ([0, 1], [0, 1, 2])}[point]
            assert ended.receipt.payload["intentDigest"]
            eventually(lambda: _ended(fetching), "the gateway heard the exchange")
    pull_again(trouble, tmp_path)


def _ended(fetching: Fetching) -> bool:
    """The ticket of a transfer that ended opens nothing more."""
    try:
        return not opens(fetching)
    except SluicegateError as error:
        if error.reason is not Reason.GRANT_USED:
            raise
        return True


@pytest.mark.parametrize("point", POINTS)
def test_the_exchange_is_killed(trouble: Trouble, tmp_path: Path, point: str) -> None:
    city = trouble.city
    with Fetching.granted(city.exchange("analyst"), trouble.agreement) as fetching:
        advance(fetching, point)
        city.town.kill("exchange")
        if point == "granted":
            # No row leaves that the exchange was not told of.
            refused(fetching.announce, Reason.UNAVAILABLE, Reason.CONTROL_PLANE_SILENT)
        elif point in ("announced", "midway"):
            # What the exchange was told of goes on while it is away, for as long as its silence is borne.
            left = [part for part in fetching.parts if point == "announced" or part > 2]
            for part in left:
                assert fetching.read(part).num_rows
        if point != "granted":
            receipt = fetching.receipt()
            assert receipt["complete"] or point == "midway"
        city.start("exchange")
        if point == "granted":
            eventually(lambda: opens(fetching), "the ticket is served")
            fetching.read_all()
            receipt = fetching.receipt()
        ended = city.settle("analyst", fetching.transfer, "COMPLETED" if receipt["complete"] else "PARTIAL", seconds=45)
        assert ended.receipt is not None
        assert ended.receipt.payload == receipt, "the very receipt that the consumer was given"
    eventually(lambda: serves(trouble), "the gateway heard the exchange")
    pull_again(trouble, tmp_path)


def test_both_are_killed_in_the_middle_of_a_pull(trouble: Trouble, tmp_path: Path) -> None:
    city = trouble.city
    killed: list[str] = []

    def progress(rows: int, size: int, total: int) -> None:
        if rows > total // 3 and not killed:
            for victim in (REGISTRY, "exchange"):
                city.town.kill(victim)
                killed.append(victim)

    with pytest.raises(SluicegateError) as broken:
        city.exchange("analyst").pull(trouble.agreement, to=tmp_path / "people.parquet", progress=progress)
    assert broken.value.reason is Reason.UNAVAILABLE
    assert killed
    assert not (tmp_path / "people.parquet").exists(), "a broken pull leaves no file that looks whole"
    # In the wrong order, too: the gateway finds no exchange when it starts.
    city.start(REGISTRY)
    city.start("exchange")
    newest = next(city.exchange("analyst").transfers(trouble.agreement, 1)).name
    city.settle("analyst", newest, "PARTIAL")
    eventually(lambda: serves(trouble), "the gateway heard the exchange")
    pull_again(trouble, tmp_path)
