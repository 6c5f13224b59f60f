"""Verification as numbered steps: what was checked, whether it holds, and what was found.

A `Check` names one thing that must hold and a function that establishes it: it returns a plain detail,
or raises `SluicegateError`. What a check establishes it leaves on the case for the checks after it.

    demand(checks, case)   raises at the first step that fails, naming it
    report(checks, case)   runs all of them and says how each went
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from msgspec import Struct

from contracts.errors import Reason, SluicegateError

C = TypeVar("C")
T = TypeVar("T")


class Step(Struct, frozen=True):
    """How one step of a verification went.

    `required` false: it may be missing without harm (no acknowledgement yet, no data file shown), but
    it is never `ok` then. `reason` is why it failed, empty when it did not.
    """

    number: int
    what: str
    ok: bool
    detail: str
    required: bool = True
    shown: bool = True
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether this step stands against success: it is not ok, and was required or shown."""
        return not self.ok and (self.required or self.shown)


class NotShown(SluicegateError):
    """Raised by a check when the paper it is about is not there: nothing was proved or refuted."""


def not_shown(what: str, reason: Reason = Reason.RECEIPT_INVALID) -> NotShown:
    """The error for a paper that is not there."""
    return NotShown(reason, f"not shown: {what}")


def need(value: T | None, what: str, reason: Reason = Reason.RECEIPT_INVALID) -> T:
    """The value that an earlier step established; the step cannot be carried out without it."""
    if value is None:
        raise NotShown(reason, f"not checked: it needs {what}")
    return value


@dataclass(frozen=True, slots=True)
class Check(Generic[C]):
    """One thing to check. `required` as in `Step`."""

    what: str
    run: Callable[[C], str]
    required: bool = True


def demand(checks: Sequence[Check[C]], case: C) -> None:
    """Run the checks in order; all of them count as required. Raises the first failure, with the
    step's number before its message."""
    for number, check in enumerate(checks, 1):
        try:
            check.run(case)
        except SluicegateError as error:
            raise SluicegateError(
                error.reason,
                f"step {number}, {check.what}: {error.message}",
                error.violations,
                error.metadata,
                error.remedy,
            ) from None


def report(checks: Sequence[Check[C]], case: C, start: int = 1) -> tuple[Step, ...]:
    """Run all checks, numbered from `start`, and say how each went."""
    return tuple(_step(number, check, case) for number, check in enumerate(checks, start))


def _step(number: int, check: Check[C], case: C) -> Step:
    try:
        return Step(number, check.what, True, check.run(case), check.required)
    except NotShown as missing:
        return Step(number, check.what, False, missing.message, check.required, False, missing.reason)
    except SluicegateError as error:
        detail = "; ".join([error.message, *(str(violation) for violation in error.violations)])
        return Step(number, check.what, False, detail, check.required, True, error.reason)
