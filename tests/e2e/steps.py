"""One transfer, step by step, with a plain Flight client: so that a test can stop between any two."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from connectors.calling import told
from contracts.envelope import Envelope
from contracts.errors import Reason, SluicegateError
from exchange import views
from exchange.client import Exchange

TIMEOUT = fl.FlightCallOptions(timeout=60)


class Fetching:
    """A granted transfer and a connection to its gateway. A context manager."""

    def __init__(self, granted: views.Transfer, ticket: bytes, *, address: str = "", ca: str = "") -> None:
        self.transfer, self.ticket = granted.name, ticket
        self._address, self._ca = address or granted.gateway_address, (ca or granted.gateway_ca_certificate).encode()
        self._client: fl.FlightClient | None = None
        self.intent: dict[str, Any] = {}
        self._endpoints: dict[int, fl.FlightEndpoint] = {}

    @classmethod
    def granted(cls, exchange: Exchange, agreement: str, *, resume: str = "") -> Fetching:
        """Ask for a grant and sign its ticket."""
        granted = exchange.create_transfer(agreement, resume=resume)
        return cls(granted, exchange.sign_ticket(granted))

    def __enter__(self) -> Fetching:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection; the next step opens another."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def client(self) -> fl.FlightClient:
        """The connection."""
        if self._client is None:
            self._client = fl.FlightClient(self._address, tls_root_certs=self._ca)
        return self._client

    @property
    def parts(self) -> list[int]:
        """The parts that are offered."""
        return sorted(self._endpoints)

    def endpoint(self, part: int) -> fl.FlightEndpoint:
        """Where a part that is offered may be had."""
        return self._endpoints[part]

    def announce(self) -> dict[str, Any]:
        """Present the ticket: the signed intent's payload."""
        info = _told(lambda: self.client.get_flight_info(fl.FlightDescriptor.for_command(self.ticket), TIMEOUT))
        self.intent = json.loads(info.app_metadata)["intent"]["payload"]
        self._endpoints = {json.loads(endpoint.ticket.ticket)["part"]: endpoint for endpoint in info.endpoints}
        return self.intent

    def stream(self, part: int) -> fl.FlightStreamReader:
        """Begin to read a part."""
        return _told(lambda: self.client.do_get(self._endpoints[part].ticket, TIMEOUT))

    def read(self, part: int) -> pa.Table:
        """Read a part to its end."""
        return _told(lambda: self.stream(part).read_all())

    def read_all(self) -> pa.Table:
        """Read every part that is offered."""
        return pa.concat_tables([self.read(part) for part in self.parts])

    def receipt(self) -> dict[str, Any]:
        """End the transfer; the signed receipt's payload."""

        def ask() -> Envelope:
            (result,) = self.client.do_action(fl.Action("receipt", self.ticket), TIMEOUT)
            return Envelope.from_bytes(result.body.to_pybytes())

        found: dict[str, Any] = _told(ask).payload
        return found


def _told(call: Any) -> Any:
    """What the call gives; a Flight error as one of ours."""
    try:
        return call()
    except (fl.FlightError, pa.ArrowException, OSError) as error:
        raise told(error) from None


def refused(call: Any, *reasons: Reason) -> SluicegateError:
    """Demand that a call is refused for one of these reasons; the error."""
    with pytest.raises(SluicegateError) as caught:
        call()
    assert caught.value.reason in reasons, str(caught.value)
    return caught.value
