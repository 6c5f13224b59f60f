"""When our own side breaks: a typed error, a request id, and the cause in the log alone. Breaks are real."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator

import pytest

from contracts.errors import Reason, SluicegateError
from exchange.v1 import party_pb2, party_pb2_grpc
from tests.rpc.served import Served, fresh_id, refused_call

SECRET = "a value that no caller may see"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, object]]]:
    """The log of calls, a JSON object a line, filled as the test goes on."""
    found: list[dict[str, object]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert "\n" not in record.getMessage()
            found.append(json.loads(record.getMessage()))

    log, kept = logging.getLogger("sluicegate.rpc"), Kept()
    log.addHandler(kept)
    with caplog.at_level(logging.INFO, "sluicegate.rpc"):
        yield found
    log.removeHandler(kept)


def spoil(served: Served, statement: str) -> None:
    """Change the exchange's own database behind its back."""
    path = served.settings.database.removeprefix("sqlite:///")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def failed(call: object) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        call()  # type: ignore[operator]
    return caught.value


def test_every_call_is_one_line(served: Served, lines: list[dict[str, object]]) -> None:
    served.client("steward").whoami()
    assert failed(lambda: served.client("steward").agreement("a-2222222222")).reason is Reason.NOT_FOUND
    good, bad = lines[-2:]
    assert {key: good[key] for key in ("method", "principal", "outcome")} == {
        "method": "WhoAmI",
        "principal": "parties/health-bureau/principals/steward@health.example",
        "outcome": "OK",
    }
    assert (bad["outcome"], "error" in bad) == ("NOT_FOUND", False)
    assert isinstance(good["ms"], float)


def test_an_unexpected_exception_is_internal_and_its_text_stays_in_the_log(
    served: Served, lines: list[dict[str, object]]
) -> None:
    """A row that cannot be read any more: its decoder's words quote it."""
    client = served.client("steward")
    client.party("metro-lines")
    spoil(served, f"""UPDATE parties SET body = '{{"{SECRET}' WHERE name = 'parties/metro-lines'""")
    error = failed(lambda: client.party("metro-lines"))
    assert error.reason is Reason.INTERNAL
    assert error.metadata["requestId"] in error.message
    assert SECRET not in f"{error} {error.metadata}"
    assert "Error" not in error.message.replace("error", "")
    line = next(line for line in lines if line["request"] == error.metadata["requestId"])
    assert line["outcome"] == "INTERNAL"
    assert "DecodeError" in str(line["error"]) or "ValidationError" in str(line["error"])


def test_a_store_that_cannot_be_written_grants_nothing(served: Served, lines: list[dict[str, object]]) -> None:
    client = served.client("dpo")
    client.whoami()
    spoil(served, f"CREATE TRIGGER t BEFORE INSERT ON ledger_entries BEGIN SELECT RAISE(ABORT, '{SECRET}'); END")
    error = failed(lambda: client.register_principal("new@health.example", ("steward",)))
    assert error.reason in (Reason.INTERNAL, Reason.LEDGER_UNAVAILABLE)
    assert SECRET not in f"{error} {error.metadata}"
    line = next(line for line in lines if line["request"] == error.metadata["requestId"])
    assert SECRET in str(line["error"])
    spoil(served, "DROP TRIGGER t")
    assert "new@health.example" not in {each.name.split("/")[-1] for each in client.principals()}
    assert client.register_principal("new@health.example", ("steward",)).roles == ("steward",)


def test_a_store_that_lost_its_tables(served: Served, lines: list[dict[str, object]]) -> None:
    client = served.client("steward")
    spoil(served, "ALTER TABLE datasets RENAME TO elsewhere")
    error = failed(lambda: list(client.datasets()))
    assert error.reason in (Reason.INTERNAL, Reason.UNAVAILABLE)
    assert "elsewhere" not in str(error)
    assert "no such table" not in str(error)
    assert "no such table" in str(next(line for line in lines if "error" in line)["error"])


def test_a_locked_store_is_to_be_tried_again(served: Served) -> None:
    """Another process holds the database for writing: nothing is granted, and it is worth repeating."""
    client, stub = served.client("dpo"), party_pb2_grpc.PartyServiceStub(served.channel())
    message = party_pb2.RegisterPrincipalRequest(
        parent="parties/health-bureau", subject="new@health.example", roles=["steward"], request_id=fresh_id()
    )
    path = served.settings.database.removeprefix("sqlite:///")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        error = refused_call(lambda: stub.RegisterPrincipal(message, timeout=30, metadata=served.bearer("dpo")))
        assert error.reason is Reason.LEDGER_UNAVAILABLE
        assert error.traits.retryable
        assert client.whoami().roles == ("admin", "dpo")
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert stub.RegisterPrincipal(message, timeout=30, metadata=served.bearer("dpo")).roles == ["steward"]


def test_a_malformed_answer_is_not_believed() -> None:
    """What an exchange of evil intent could put into its messages."""
    from exchange import views
    from exchange.rpc.wire import bundle, view
    from exchange.v1 import ledger_pb2, request_pb2

    for raw in (b"", b"{", b"[]", b'{"agreement": 1}', b"\xff", b"[" * 100_000):
        error = failed(lambda: bundle(raw))  # noqa: B023
        assert error.reason is Reason.INTERNAL
    assert failed(lambda: view(ledger_pb2.Entry(entry=b"{"), views.Entry)).reason is Reason.INTERNAL
    assert failed(lambda: view(ledger_pb2.Entry(entry=b"\xff"), views.Entry)).reason is Reason.INTERNAL
    error = failed(lambda: view(request_pb2.Request(statement=b"not an envelope"), views.Request))
    assert error.reason in (Reason.SIGNATURE_INVALID, Reason.INTERNAL)
