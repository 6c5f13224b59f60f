"""Tickets that must not open anything, presented to a running gateway by a plain Flight client."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from connectors import tls
from contracts.envelope import Envelope, Kind, SigningKey, sign
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.receipt import Grant, Proof
from exchange import keyfiles, signing
from tests.e2e.city import eventually
from tests.e2e.conftest import ARCHIVE, REGISTRY, Trouble
from tests.e2e.steps import Fetching, refused

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-trouble")]


def finish(trouble: Trouble, fetching: Fetching) -> None:
    """Read what is left, and acknowledge it."""
    fetching.announce()
    fetching.read_all()
    fetching.receipt()
    trouble.city.settle("analyst", fetching.transfer, "COMPLETED")
    trouble.city.exchange("analyst").acknowledge(fetching.transfer, content_digest=fetching.intent["contentDigest"])


def test_a_ticket_is_good_once(trouble: Trouble) -> None:
    with Fetching.granted(trouble.city.exchange("analyst"), trouble.agreement) as fetching:
        fetching.announce()
        assert len(fetching.parts) > 5
        fetching.read(0)
        refused(lambda: fetching.read(0), Reason.GRANT_USED)
        finish_rest = fetching.parts[1:]
        for part in finish_rest:
            fetching.read(part)
        receipt = fetching.receipt()
        assert receipt["complete"]
        # Replayed after the end, by its holder or by whoever overheard it.
        refused(fetching.announce, Reason.GRANT_USED)
        refused(lambda: fetching.read(3), Reason.GRANT_USED)
        assert fetching.receipt() == receipt, "the receipt alone may be had again"
        trouble.city.settle("analyst", fetching.transfer, "COMPLETED")
        trouble.city.exchange("analyst").acknowledge(fetching.transfer, content_digest=receipt["contentDigest"])


def test_a_ticket_for_another_gateway_instance(trouble: Trouble) -> None:
    city = trouble.city
    other = city.exchange("archivist").gateway(ARCHIVE)
    granted = city.exchange("analyst").create_transfer(trouble.agreement)
    ticket = city.exchange("analyst").sign_ticket(granted)
    with Fetching(granted, ticket, address=other.address, ca=other.ca_certificate) as elsewhere:
        refused(elsewhere.announce, Reason.GRANT_INVALID)
    with Fetching(granted, ticket) as here:
        finish(trouble, here)


def test_a_ticket_by_another_key_than_the_agreement_s_holder_key(trouble: Trouble, tmp_path: Path) -> None:
    city = trouble.city
    thief = tmp_path / "keys" / "thief.jwk"
    keyfiles.write_key(thief, SigningKey.from_seed(os.urandom(32)))
    profile = city.exchange("analyst").profile
    granted = city.exchange("analyst").create_transfer(trouble.agreement)
    for stolen in (thief, profile.signing_key, city.home.profile("planner").holder_key):
        forged = signing.ticket(
            msgspec.structs.replace(profile, holder_key=stolen),
            granted,
            city.exchange("analyst").verified(granted.agreement),
        )
        with Fetching(granted, forged) as fetching:
            refused(fetching.announce, Reason.GRANT_INVALID)
    # None of that used up the grant of who may.
    with Fetching(granted, city.exchange("analyst").sign_ticket(granted)) as fetching:
        finish(trouble, fetching)


def test_a_grant_that_the_consumer_wrote_itself(trouble: Trouble) -> None:
    city = trouble.city
    profile = city.exchange("analyst").profile
    assert profile.holder_key is not None
    holder = keyfiles.read_key(profile.holder_key)
    granted = city.exchange("analyst").create_transfer(trouble.agreement)
    assert granted.grant is not None
    paper = msgspec.convert(granted.grant.payload, Grant)
    longer = sign(Kind.GRANT, msgspec.structs.replace(paper, expires="2099-01-01T00:00:00Z"), holder)
    altered = Envelope(
        payload={**granted.grant.payload, "expires": "2099-01-01T00:00:00Z"}, signatures=granted.grant.signatures
    )
    for grant in (longer, altered):
        with Fetching(
            granted, sign(Kind.PROOF, Proof(grant=grant, created=rfc3339(int(time.time()))), holder).to_bytes()
        ) as fetching:
            refused(fetching.announce, Reason.GRANT_INVALID)
    with Fetching(granted, b"{}") as fetching:
        refused(fetching.announce, Reason.GRANT_INVALID)
    with Fetching(granted, os.urandom(64)) as fetching:
        refused(fetching.announce, Reason.GRANT_INVALID)
    with Fetching(granted, city.exchange("analyst").sign_ticket(granted)) as fetching:
        finish(trouble, fetching)


def test_a_ticket_after_the_agreement_was_suspended(trouble: Trouble) -> None:
    city, keeper = trouble.city, trouble.city.exchange("keeper")
    with Fetching.granted(city.exchange("analyst"), trouble.agreement) as fetching:
        city.run(
            *("suspend", trouble.agreement, "--reason", "looked into", "--until", "2099-01-01T00:00:00Z"),
            *("--as", "keeper"),
        )
        refused(fetching.announce, Reason.AGREEMENT_NOT_LIVE)
        refused(lambda: city.exchange("analyst").create_transfer(trouble.agreement), Reason.AGREEMENT_NOT_LIVE)
        told = city.run("pull", trouble.agreement, "--out", city.home.root / "never.parquet", "--as", "analyst", code=5)
        assert "AGREEMENT_NOT_LIVE" in told.stderr
        assert not list(city.home.root.glob("never*"))
        # The order went to the gateway too, and only another one takes it back there.
        city.run("resume", trouble.agreement, "--reason", "all is well", "--as", "keeper")
        eventually(lambda: city.exchange("analyst").agreement(trouble.agreement).state == "ACTIVE", "resumed")
        assert keeper.agreement(trouble.agreement).state == "ACTIVE"
        eventually(lambda: _announces(fetching), "the gateway heard that it may serve again")
        fetching.read_all()
        fetching.receipt()
    trouble.city.settle("analyst", fetching.transfer, "COMPLETED")
    city.exchange("analyst").acknowledge(fetching.transfer, content_digest=fetching.intent["contentDigest"])


def _announces(fetching: Fetching) -> bool:
    try:
        fetching.announce()
    except SluicegateError as error:
        if error.reason is not Reason.AGREEMENT_NOT_LIVE:
            raise
        return False
    return True


def test_a_suspension_stops_a_running_transfer(trouble: Trouble) -> None:
    city = trouble.city
    with Fetching.granted(city.exchange("analyst"), trouble.agreement) as fetching:
        fetching.announce()
        fetching.read(0)
        city.exchange("keeper").suspend(trouble.agreement, reason="at once", until="2099-01-01T00:00:00Z")
        # Only the exchange was told; the gateway hears it with the next heartbeat, and ends what runs.
        stopped = city.settle("analyst", fetching.transfer, "PARTIAL")
        assert stopped.receipt is not None
        assert stopped.receipt.payload["partsSent"] == [0]
        refused(lambda: fetching.read(1), Reason.AGREEMENT_NOT_LIVE, Reason.TRANSFER_STOPPED, Reason.GRANT_USED)
    city.exchange("keeper").resume(trouble.agreement, reason="all is well")
    with Fetching.granted(city.exchange("analyst"), trouble.agreement, resume=fetching.transfer) as rest:
        eventually(lambda: _announces(rest), "the gateway heard that it may serve again")
        assert rest.parts == list(range(1, len(rest.intent["parts"])))
        finish(trouble, rest)
    trouble.demand_definite()


def test_tickets_after_a_restart_of_the_gateway(trouble: Trouble) -> None:
    city, analyst = trouble.city, trouble.city.exchange("analyst")
    with Fetching.granted(analyst, trouble.agreement) as used:
        finish(trouble, used)
    with Fetching.granted(analyst, trouble.agreement) as fresh:
        city.town.stop(REGISTRY)
        assert city.releases(REGISTRY) == [], "the spool is emptied when the gateway stops"
        city.start(REGISTRY)
        eventually(lambda: _serves(used), "the gateway heard the exchange")
        # What was used is known to be used, what was not is still good.
        refused(used.announce, Reason.GRANT_USED)
        finish(trouble, fresh)
        refused(fresh.announce, Reason.GRANT_USED)
    trouble.demand_definite()


def _serves(fetching: Fetching) -> bool:
    """Whether the gateway gives another answer than that it cannot serve yet."""
    fetching.hang_up()
    try:
        fetching.announce()
    except SluicegateError as error:
        return error.reason not in (Reason.CONTROL_PLANE_SILENT, Reason.UNAVAILABLE)
    return True


def test_an_exchange_that_names_a_gate_of_its_own_gets_no_ticket(trouble: Trouble) -> None:
    """The operator could relay the pull and read along, were the certificate only its word."""
    analyst = trouble.city.exchange("analyst")
    granted = analyst.create_transfer(trouble.agreement)
    certificate, _ = tls.self_signed(now=int(time.time()))
    for forged in (certificate.decode(), ""):
        elsewhere = msgspec.structs.replace(granted, gateway_ca_certificate=forged)
        with pytest.raises(SluicegateError) as caught:
            analyst.sign_ticket(elsewhere)
        assert caught.value.reason is Reason.KEY_UNTRUSTED
