"""Errors on the wire: every reason comes back as itself, within what clients accept, quoting nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from google.rpc import code_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import TRAITS, Reason, SluicegateError, Violation
from exchange.rpc.status import OMITTED, from_rpc_error, to_status


class Answering:
    """A stock gRPC server that ends every call with the status of one error, and a stock client of it."""

    def __init__(self) -> None:
        self.error = SluicegateError(Reason.INTERNAL, "")
        handler = grpc.unary_unary_rpc_method_handler(self._answer)
        self._server = grpc.server(futures.ThreadPoolExecutor(1))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", {"T": handler}),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.call = self._channel.unary_unary("/t/T")

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort_with_status(to_status(self.error, "the-request-id"))
        return b""

    def travelled(self, error: SluicegateError) -> tuple[SluicegateError, int]:
        """What a client makes of that error, and how many bytes of trailers it took."""
        self.error = error
        with pytest.raises(grpc.RpcError) as caught:
            self.call(b"", timeout=20)
        call = caught.value
        assert isinstance(call, grpc.Call)
        size = sum(len(key) + len(value) * 4 // 3 + 32 for key, value in call.trailing_metadata())
        message = sum(3 if ord(letter) > 126 or ord(letter) < 32 or letter == "%" else 1 for letter in call.details())
        return from_rpc_error(call), size + 3 * len(call.details().encode()) - 2 * message + message

    def close(self) -> None:
        self._channel.close()
        self._server.stop(0).wait()


@pytest.fixture(scope="module")
def answering() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.close()


TEXT = st.text(max_size=800) | st.text(
    st.characters(codec="utf-8", min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=800
)
VIOLATIONS = st.builds(
    Violation,
    path=TEXT,
    message=TEXT,
    hint=TEXT,
    line=st.none() | st.integers(1, 10**6),
    code=st.text(max_size=80),
)
ERRORS = st.builds(
    SluicegateError,
    st.sampled_from(Reason),
    TEXT,
    st.lists(VIOLATIONS, max_size=60).map(tuple),
    st.dictionaries(st.text(max_size=80), TEXT, max_size=20),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(error=ERRORS)
def test_every_error_travels_as_itself(answering: Answering, error: SluicegateError) -> None:
    seen, size = answering.travelled(error)
    assert seen.reason is error.reason
    assert error.message.encode(errors="replace").decode().startswith(seen.message)
    assert seen.metadata["requestId"] == "the-request-id"
    assert len(seen.violations) + int(seen.metadata.get(OMITTED, 0)) == len(error.violations)
    for there, here in zip(error.violations, seen.violations, strict=False):
        assert there.path.encode(errors="replace").decode().startswith(here.path)
        assert len(here.path.encode()) <= 400
        assert len(here.message.encode()) <= 900
    assert size < 8192


def test_a_hundred_violations_are_cut_and_counted(answering: Answering) -> None:
    """The worst case: long Chinese texts, which need most bytes."""
    violations = tuple(Violation("路" * 300, "错" * 400, "改" * 400) for _ in range(100))
    seen, size = answering.travelled(SluicegateError(Reason.CONTRACT_INVALID, "合" * 500, violations))
    assert 1 <= len(seen.violations) < 100
    assert int(seen.metadata[OMITTED]) == 100 - len(seen.violations)
    assert size < 8192


def test_short_violations_all_arrive_with_line_and_hint(answering: Answering) -> None:
    violations = tuple(Violation(f"fields.f{n}", "not sent", "list it", line=n, code="NOT_SENT") for n in range(1, 31))
    seen, _ = answering.travelled(SluicegateError(Reason.CONTRACT_INVALID, "no", violations))
    assert [one.path for one in seen.violations] == [one.path for one in violations]
    assert seen.violations[6].message == "line 7: not sent (list it)"
    assert {one.code for one in seen.violations} == {"NOT_SENT"}


def test_what_utf_8_cannot_say_is_replaced(answering: Answering) -> None:
    seen, _ = answering.travelled(SluicegateError(Reason.NOT_FOUND, "no \udc80 here", (Violation("\ud800", "\udfff"),)))
    assert (seen.reason, seen.message) == (Reason.NOT_FOUND, "no ? here")
    assert seen.violations[0].path == "?"


def test_what_a_terminal_would_obey_is_replaced() -> None:
    """An error quotes names that anybody made up; it reaches logs and terminals as text."""
    wrong = Violation("a\x1b]8;;x", "b\u202e", "c\x00")
    error = SluicegateError(Reason.NOT_FOUND, "no \x1b[2J here", (wrong,), {"name": "d\n"})
    assert str(error) == "NOT_FOUND: no ?[2J here\n  - a?]8;;x: b? (c?)"
    assert error.metadata == {"name": "d?"}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_traits(reason: Reason, answering: Answering) -> None:
    traits = TRAITS[reason]
    assert traits.code in code_pb2.Code.keys()  # noqa: SIM118 - an enum of protobuf
    assert traits.code != "OK"
    assert traits.exit_code in range(2, 10)
    assert traits.meaning
    assert traits.remedy
    seen, _ = answering.travelled(SluicegateError(reason, "why"))
    assert seen == SluicegateError(reason, "why", (), {"requestId": "the-request-id"})


def test_there_are_traits_for_nothing_else() -> None:
    assert set(TRAITS) == set(Reason)
    assert all(reason.value == reason.name for reason in Reason)


# What scripts rely on: a code never changes its meaning.
EXIT_CODES = {
    2: "INVALID_ARGUMENT DEADLINE_REQUIRED PAGE_TOKEN_INVALID TOO_LARGE CONTRACT_INVALID DATA_INVALID CONFIG_INVALID "
    "CONFIG_UNSAFE TRUST_MISSING SINK_FAILED",
    3: "NOT_FOUND",
    4: "TOKEN_MISSING TOKEN_INVALID TOKEN_EXPIRED PRINCIPAL_UNKNOWN ROLE_MISSING GRANT_INVALID GRANT_EXPIRED "
    "GRANT_USED",
    5: "REQUEST_OUTSIDE_CONTRACT NOT_SHARED POLICY_REFUSED AGREEMENT_NOT_LIVE PLAN_REFUSED BOUNDS_NOT_MET "
    "RESIDUAL_IDENTIFIERS BUDGET_SPENT",
    6: "ALREADY_EXISTS ETAG_MISMATCH REQUEST_ID_REUSED STATE_WRONG RECEIPT_OUTSTANDING",
    7: "RATE_LIMITED POLICY_UNAVAILABLE SOURCE_UNAVAILABLE SPOOL_FULL TOO_MANY_TRANSFERS TRANSFER_STOPPED "
    "REFRESH_PENDING CONTROL_PLANE_SILENT LEDGER_UNAVAILABLE DEADLINE_EXCEEDED UNAVAILABLE CANCELLED",
    8: "SIGNATURE_INVALID KEY_UNTRUSTED DIGEST_MISMATCH RECEIPT_INVALID LEDGER_INVALID",
    9: "INTERNAL",
}


def test_exit_codes_stay_what_they_are() -> None:
    stated = {Reason(name): code for code, names in EXIT_CODES.items() for name in names.split()}
    assert stated == {reason: traits.exit_code for reason, traits in TRAITS.items()}


def test_retryable_is_what_exits_with_7() -> None:
    assert all(traits.exit_code == 7 for traits in TRAITS.values() if traits.retryable)


def test_transport_failures_are_ours_too() -> None:
    """Nobody listens, nobody answers in time, nobody knows the method: each is one of our reasons."""
    with grpc.insecure_channel("127.0.0.1:9") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t/T")(b"", timeout=5)
    assert from_rpc_error(caught.value).reason is Reason.UNAVAILABLE

    begun, stalled = threading.Event(), threading.Event()

    def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
        begun.set()
        stalled.wait(20)
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(1), maximum_concurrent_rpcs=1)
    handler = grpc.unary_unary_rpc_method_handler(wait)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", {"T": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/t/T")
        first = call.future(b"", timeout=20)
        assert begun.wait(10)
        expected = [
            (lambda: call(b"", timeout=0.5), {Reason.RATE_LIMITED, Reason.DEADLINE_EXCEEDED}),
            (lambda: channel.unary_unary("/t/Other")(b"", timeout=5), {Reason.INTERNAL, Reason.RATE_LIMITED}),
        ]
        for attempt, reasons in expected:
            with pytest.raises(grpc.RpcError) as failed:
                attempt()
            assert from_rpc_error(failed.value).reason in reasons
        first.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            first.result()
    stalled.set()
    server.stop(0).wait()


def test_a_foreign_status_is_not_taken_for_ours() -> None:
    """A proxy's error, with details of its own domain, is what its code says."""
    from google.protobuf import any_pb2
    from google.rpc import error_details_pb2, status_pb2
    from grpc_status import rpc_status

    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain="proxy.example"))
    status = rpc_status.to_status(status_pb2.Status(code=14, message="upstream gone", details=[info]))

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort_with_status(status)
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", {"T": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t/T")(b"", timeout=5)
    assert from_rpc_error(caught.value).reason is Reason.UNAVAILABLE
    server.stop(0).wait()
