"""What an engine takes for an answer, and what the pool does under threads."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import suite
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import Reason, SluicegateError
from contracts.policy import engine_input, shipped
from contracts.policy.embedded import EmbeddedEngine, _Program
from contracts.policy.engine import Action, Decision, PolicyEngine, PolicyReason, answer, decision_id, plain, question

GOOD: dict[str, Any] = {
    "decision": "d-1",
    "bundle": "sha256:a",
    "allow": True,
    "reasons": [],
    "obligations": ["b:2", "a:1"],
}
BAD = {**GOOD, "allow": False, "reasons": [{"code": "X", "message": "no", "field": ""}]}


def read(raw: object) -> Any:
    return answer(raw, action=Action.TRANSFER, asked="d-1", bundle_digest="sha256:a", seconds=0.5)


def test_answer() -> None:
    decision = read(GOOD)
    assert (decision.id, decision.allow, decision.seconds) == ("d-1", True, 0.5)
    assert decision.obligations == ("a:1", "b:2")
    refused = read(BAD)
    assert (refused.allow, refused.reasons) == (False, (PolicyReason("X", "no", ""),))
    error = refused.refusal()
    assert error.reason is Reason.POLICY_REFUSED
    assert [violation.code for violation in error.violations] == ["X"]
    with pytest.raises(ValueError, match="allowed"):
        decision.refusal()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(None, id="undefined"),
        pytest.param({}, id="empty"),
        pytest.param([], id="a list"),
        pytest.param(True, id="true"),
        pytest.param({**GOOD, "decision": "d-2"}, id="to another question"),
        pytest.param({**GOOD, "bundle": "sha256:b"}, id="by another bundle"),
        pytest.param({**GOOD, "allow": "true"}, id="allow as text"),
        pytest.param({**GOOD, "allow": 1}, id="allow as number"),
        pytest.param({**GOOD, "reasons": BAD["reasons"]}, id="allowed with a reason"),
        pytest.param({**BAD, "reasons": []}, id="refused without a reason"),
        pytest.param({**GOOD, "more": 1}, id="with a key more"),
        pytest.param({key: GOOD[key] for key in GOOD if key != "reasons"}, id="without reasons"),
        pytest.param({**GOOD, "obligations": [7]}, id="with an obligation that is a number"),
    ],
)
def test_no_clear_answer(raw: object) -> None:
    with pytest.raises(SluicegateError) as caught:
        read(raw)
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="NaN"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param(2**53, id="an integer too large"),
        pytest.param("a\0b", id="NUL"),
        pytest.param("\ud800", id="a lone surrogate"),
        pytest.param("x" * 100_001, id="a text too long"),
        pytest.param({1: "x"}, id="a key that is no text"),
        pytest.param({"a\0": 1}, id="NUL in a key"),
        pytest.param({"a", "b"}, id="a set"),
        pytest.param(b"x", id="bytes"),
        pytest.param(object(), id="an object"),
    ],
)
def test_input_that_engines_would_read_differently_is_refused(value: object) -> None:
    with pytest.raises(SluicegateError) as caught:
        question(Action.TRANSFER, {"now": value}, "d-1")
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


def test_a_part_that_stays_is_looked_through_like_any_other() -> None:
    part = {"a": [1, {"b": None}], "c": True}
    assert question(Action.TRANSFER, {"part": plain(part)}, "d-1") == question(Action.TRANSFER, {"part": part}, "d-1")
    for bad in ({"a": "\0"}, {"a": [2**53]}, {"a": {1: "x"}}, {"a": float("nan")}):
        with pytest.raises(SluicegateError) as caught:
            plain(bad)
        assert caught.value.reason is Reason.POLICY_UNAVAILABLE


def test_too_deep() -> None:
    value: Any = "x"
    for _ in range(20):
        value = [value]
    with pytest.raises(SluicegateError, match="deeper"):
        question(Action.TRANSFER, {"now": value}, "d-1")


def test_caller_cannot_choose_action_or_id() -> None:
    asked = question(Action.PUBLISH, {"action": "ledger-read", "decision": "d-mine"}, "d-ours")
    assert (asked["action"], asked["decision"]) == ("publish", "d-ours")


def test_decision_id() -> None:
    assert decision_id(lambda count: b"\0" * count) == "d-aaaaaaaaaaaaaaaa"


def test_embedded_is_an_engine() -> None:
    assert isinstance(EmbeddedEngine(), PolicyEngine)
    with pytest.raises(ValueError, match="at least one"):
        EmbeddedEngine(size=0)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40) | st.sampled_from(
    ['"', "\\", '"}],"allow":true,"reasons":[],"x":[{"y":"', "\\u0022", "{}", "\n", "%s", "\x7f", "行政"]
)


# The engine carries six decimals of a number.
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.integers(-(10**6), 10**6).map(lambda number: number / 1000)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def embedded() -> EmbeddedEngine:
    return EmbeddedEngine()


@pytest.fixture(scope="module")
def echo() -> Callable[[dict[str, Any]], Any]:
    """What the engine makes of an input that it only has to give back."""
    program = _Program(shipped.Bundle({"echo.rego": b"package echo\n\nback := input\n"}, ""), "echo/back")
    return lambda document: program.evaluate(engine_input.build(document))


@settings(max_examples=60, deadline=None)
@given(name=TEXTS, other=TEXTS)
def test_any_text_is_compared_whole_and_comes_back_whole(embedded: EmbeddedEngine, name: str, other: str) -> None:
    """Whatever is in a name, it equals itself and nothing else, and never ends the answer early."""
    asked = suite.base(Action.LEDGER_READ)
    asked["subject"]["party"], asked["entries"]["parties"] = name, [other]
    decision = embedded.decide(Action.LEDGER_READ, asked)
    assert decision.allow is (name == other)
    if name != other:
        assert [reason.code for reason in decision.reasons] == ["NOT_CONCERNED"]
        assert f"entries of {other} concern" in decision.reasons[0].message


def test_threads_get_their_own_answers() -> None:
    """Eight threads, 400 decisions, alternately allowed and refused for a reason of their own."""
    engine = EmbeddedEngine(size=3)
    barrier = threading.Barrier(8)

    def decide(index: int) -> bool:
        if index < 8:
            barrier.wait(timeout=30)
        asked = suite.base(Action.LEDGER_READ)
        asked["entries"]["parties"] = ["transit-lab"] if index % 2 else [f"party-{index}"]
        decision = engine.decide(Action.LEDGER_READ, asked)
        if index % 2:
            return decision.allow
        return not decision.allow and f"party-{index} " in decision.reasons[0].message

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(decide, range(400)))


def test_a_busy_pool_refuses_in_time() -> None:
    engine = EmbeddedEngine(size=1, patience=0.05)
    with engine._lent(), pytest.raises(SluicegateError, match="busy") as caught:
        engine.decide(Action.LEDGER_READ, suite.base(Action.LEDGER_READ))
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE
    assert engine.decide(Action.LEDGER_READ, suite.base(Action.LEDGER_READ)).allow


@settings(max_examples=60, deadline=None)
@given(document=st.dictionaries(TEXTS, JSON, max_size=5))
def test_input_arrives_as_it_was_given(echo: Callable[[dict[str, Any]], Any], document: dict[str, Any]) -> None:
    assert echo(document) == document


@pytest.mark.parametrize("scenario", suite.scenarios(), ids=lambda scenario: f"{scenario.file}: {scenario.name}")
def test_the_whole_bundle_says_what_the_action_alone_says(embedded: EmbeddedEngine, scenario: suite.Scenario) -> None:
    """A grant comes from a part of the bundle; the whole, which any OPA runs, must give the same."""
    decision = embedded.decide(scenario.action, scenario.input())
    with embedded._lent() as compiled:
        asked = engine_input.build(question(scenario.action, scenario.input(), decision.id))
        told = read_as(compiled.program(None).evaluate(asked), scenario.action, decision)
    assert (told.allow, told.reasons, told.obligations) == (decision.allow, decision.reasons, decision.obligations)


def read_as(raw: object, action: Action, like: Decision) -> Decision:
    return answer(raw, action=action, asked=like.id, bundle_digest=like.bundle_digest, seconds=0)


def test_an_allowance_of_the_whole_bundle_alone_is_none() -> None:
    """The whole is asked only to refuse: an allowance of its own, which the action's part denies, is none."""
    files = dict(shipped.load().files)
    name = "sluicegate/decision.rego"
    files[name] = (
        files[name].replace(b'"allow": false', b'"allow": true').replace(b'"reasons": reasons', b'"reasons": []')
    )
    files[shipped.DIGEST_DOCUMENT] = json.dumps({"digest": shipped.digest_of(files)}).encode()
    refused = suite.base(Action.TRANSFER)
    refused["agreement"]["state"] = "SUSPENDED"
    with pytest.raises(SluicegateError) as caught:
        EmbeddedEngine(shipped.bundle_of(files)).decide(Action.TRANSFER, refused)
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


def test_an_interpreter_that_failed_is_not_used_again() -> None:
    engine = EmbeddedEngine(size=1)

    def fail() -> None:
        with engine._lent():
            raise RuntimeError("in the midst of a decision")

    used = engine._idle[0]
    with pytest.raises(RuntimeError):
        fail()
    assert engine._idle == []
    assert engine.decide(Action.LEDGER_READ, suite.base(Action.LEDGER_READ)).allow
    assert engine._idle[0] is not used
