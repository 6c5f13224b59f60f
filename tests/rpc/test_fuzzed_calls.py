"""Every method, called with whatever fits the wire: one of our reasons each time, never our own fault."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import Reason
from exchange.rpc.server import SERVICES
from exchange.rpc.status import from_rpc_error
from tests.fuzz.mutating import ODD
from tests.rpc.served import Served, fresh_id

POOL = descriptor_pool.Default()
METHODS: list[MethodDescriptor] = [
    method for name in SERVICES for method in POOL.FindServiceByName(name).methods if not method.server_streaming
]
NAMES = [f"{method.containing_service.name}.{method.name}" for method in METHODS]
# What a real caller would write, so that calls come further than the first check.
PLAIN = (
    "parties/health-bureau",
    "parties/metro-lines",
    "parties/health-bureau/gateways/health-bureau-1",
    "parties/health-bureau/datasets/hospital-visits",
    "requests/r-aaaaaaaaaa",
    "agreements/a-aaaaaaaaaa",
    "agreements/a-aaaaaaaaaa/bundle",
    "transfers/t-aaaaaaaaaa",
    "steward@health.example",
    "company",
    "ACTIVE",
    "a reason that is long enough",
)
TEXTS = (*PLAIN, *(text for text in ODD if isinstance(text, str)), "a" * 5000, "/" * 20, "parties/../x", "%00", "*")
_WHOLE = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve(calls_per_minute=10**9, refusals_per_minute=10**9)


def filled(kind: Descriptor, chance: random.Random, depth: int = 3) -> Message:
    """A message of that type with some of its fields set."""
    message = message_factory.GetMessageClass(kind)()
    for field in kind.fields:
        if chance.random() < 0.25 or not depth:
            continue
        if field.is_repeated:
            if not (field.message_type and field.message_type.GetOptions().map_entry):
                getattr(message, field.name).extend(
                    _value(field, chance, depth) for _ in range(chance.choice((0, 1, 3)))
                )
        elif field.message_type:
            getattr(message, field.name).CopyFrom(_value(field, chance, depth))
        elif field.name == "request_id" and chance.random() < 0.8:
            message.request_id = fresh_id()
        else:
            setattr(message, field.name, _value(field, chance, depth))
    return message


def _value(field: FieldDescriptor, chance: random.Random, depth: int) -> Any:
    if field.message_type:
        return filled(field.message_type, chance, depth - 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.choice((b"", b"{}", chance.randbytes(40), b'{"payload":{},"signatures":[]}'))
    if field.type == FieldDescriptor.TYPE_STRING:
        return chance.choice(TEXTS)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.5
    if field.enum_type:
        return chance.choice(field.enum_type.values).number
    return (
        chance.choice((0, 1, -1, 50, 2**31 - 1, -(2**31))) if field.cpp_type in _WHOLE else chance.choice((0, 1, 2**31))
    )


def told(channel: grpc.Channel, method: MethodDescriptor, body: bytes, bearer: list[tuple[str, str]]) -> Reason | None:
    """The reason of a refusal, None when it was answered."""
    call = channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}")
    try:
        call(body, timeout=10, metadata=bearer)
    except grpc.RpcError as error:
        return from_rpc_error(error).reason
    return None


@pytest.mark.parametrize("name", NAMES)
def test_any_message_gets_one_of_our_reasons(served: Served, name: str) -> None:
    method = METHODS[NAMES.index(name)]
    channel = served.channel()

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    @given(seed=st.integers(0, 2**64 - 1), who=st.sampled_from(["steward", "planner", "admin"]))
    def calls(seed: int, who: str) -> None:
        body = filled(method.input_type, random.Random(seed)).SerializeToString()
        assert told(channel, method, body, served.bearer(who)) is not Reason.INTERNAL
        assert (
            told(channel, method, random.Random(seed).randbytes(seed % 200), served.bearer(who)) is not Reason.INTERNAL
        )

    calls()
    assert served.client("steward").whoami().roles == ("steward",)
