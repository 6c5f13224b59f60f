"""What a policy engine is: a question with a whole input, an answer with its reasons, nothing else.

    engine.decide(Action.TRANSFER, inputs.transfer(...)) -> Decision

An engine never guesses: whatever keeps it from a clear answer (a broken bundle, an unreachable or
slow server, an answer to another question or from another policy) raises POLICY_UNAVAILABLE. So
"allowed" has exactly one way to come about.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import msgspec
from msgspec import Struct

from contracts.errors import Reason, SluicegateError, Violation

Entropy = Callable[[int], bytes]  # that many random bytes
Timer = Callable[[], float]  # seconds, monotonic

MAX_DEPTH = 16
MAX_TEXT = 100_000
MAX_SAFE_INTEGER = 2**53 - 1
ENTRYPOINT = "sluicegate/decision"


class Action(StrEnum):
    """What the policy decides about. The value is the word in the policy's input."""

    PUBLISH = "publish"
    REQUEST = "request"
    APPROVE = "approve"
    TRANSFER = "transfer"
    LEDGER_READ = "ledger-read"


class PolicyReason(Struct, frozen=True):
    """One reason to refuse: a code of the policy, a sentence, and where in the input."""

    code: str
    message: str
    field: str | None = None


class Decision(Struct, frozen=True, kw_only=True):
    """An answer. `allow` is true only when `reasons` is empty. `obligations` are the duties that come
    with it, as `name:value`. `seconds` is the time the engine took."""

    id: str
    action: Action
    allow: bool
    reasons: tuple[PolicyReason, ...]
    obligations: tuple[str, ...]
    bundle_digest: str
    seconds: float

    def refusal(self) -> SluicegateError:
        """POLICY_REFUSED with every reason as a violation, ready to raise. ValueError if allowed."""
        if self.allow:
            raise ValueError("an allowed decision is no refusal")
        violations = tuple(
            Violation(path=reason.field or "", message=reason.message, code=reason.code) for reason in self.reasons
        )
        return SluicegateError(
            Reason.POLICY_REFUSED,
            f"the policy refuses to {self.action}",
            violations,
            {"decision": self.id, "action": self.action.value},
        )


@runtime_checkable
class PolicyEngine(Protocol):
    """Decides, thread-safely. `bundle_digest` names the policy it decides by."""

    @property
    def bundle_digest(self) -> str:
        """`sha256:<hex>` of the bundle."""
        ...

    def decide(self, action: Action, input: Mapping[str, Any]) -> Decision:
        """Decide about an input of `contracts.policy.inputs`. Raises POLICY_UNAVAILABLE."""
        ...


def unavailable(message: str) -> SluicegateError:
    """POLICY_UNAVAILABLE with that message."""
    return SluicegateError(Reason.POLICY_UNAVAILABLE, message)


def decision_id(entropy: Entropy) -> str:
    """A fresh decision id: `d-` and 16 lower-case base32 characters (80 bits)."""
    return "d-" + base64.b32encode(entropy(10)).decode().lower()


class Plain(dict[str, Any]):
    """An object of plain JSON values that was looked through (`plain`). Nobody changes it: it may stand in many
    questions."""


def plain(value: Mapping[str, Any]) -> Plain:
    """A part of inputs that stays the same, looked through once for all of them. Raises as `question`."""
    return Plain(_plain(value, MAX_DEPTH - 4))


def question(action: Action, input: Mapping[str, Any], asked: str) -> dict[str, Any]:
    """The input as plain JSON values, with the action and the decision id that the answer must repeat.

    Raises POLICY_UNAVAILABLE for what JSON or an engine would carry inexactly: other types, NaN,
    integers from 2^53, NUL characters and lone surrogates (one engine reads C strings), too deep.
    """
    values = _plain(input, MAX_DEPTH)
    return {**values, "action": Action(action).value, "decision": asked}


def _plain(value: Any, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        if len(value) > MAX_TEXT or "\0" in value or not _encodable(value):
            raise unavailable(
                "the policy input has a text that is too long or holds characters that policies cannot compare"
            )
        return str(value)
    if isinstance(value, int) and abs(value) <= MAX_SAFE_INTEGER:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if type(value) is Plain:
        return value
    if depth == 0:
        raise unavailable(f"the policy input is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {_plain(key, 1): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value]
    raise unavailable("the policy input holds a value that is not plain JSON")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What `data.sluicegate.decision` must look like."""

    decision: str
    bundle: str
    allow: bool
    reasons: tuple[PolicyReason, ...]
    obligations: tuple[str, ...]


def answer(raw: object, *, action: Action, asked: str, bundle_digest: str, seconds: float) -> Decision:
    """The engine's raw answer as a Decision, or POLICY_UNAVAILABLE.

    1. It has exactly the shape of a decision.
    2. It answers this question: the id is the one that was asked under.
    3. It comes from this policy: the digest is this engine's.
    4. It is consistent: allowed without a reason, or refused with one.
    """
    try:
        found = msgspec.convert(raw, _Answer, strict=True)
    except msgspec.ValidationError:
        raise unavailable("the policy engine gave no decision; nothing is allowed") from None
    if found.decision != asked:
        raise unavailable("the policy engine answered another question; nothing is allowed")
    if found.bundle != bundle_digest:
        raise unavailable("the policy engine decides by another bundle than this process; nothing is allowed")
    if found.allow is bool(found.reasons):
        raise unavailable("the policy engine gave a decision that contradicts its reasons; nothing is allowed")
    reasons = tuple(sorted(found.reasons, key=lambda reason: (reason.code, reason.field or "", reason.message)))
    return Decision(
        id=asked,
        action=Action(action),
        allow=found.allow,
        reasons=reasons,
        obligations=tuple(sorted(found.obligations)),
        bundle_digest=bundle_digest,
        seconds=seconds,
    )
